"""The gate after the read-out: its values, its initial values and its number of parameters."""

import re

import pytest
import torch
from numeric import gap, stream

from lab.memories import CosFormer
from lab.mixers import Mamba, MultiHead, OutputGate
from lab.model import SequenceModel, SwiGLU

D, H, M = 5, 2, 3
KINDS = ("elementwise", "headwise", "silu", "constant", "read")


def inputs(seed=0):
    generator = stream(seed)
    o = torch.randn(2, 7, H, M, dtype=torch.float64, generator=generator)
    return o, torch.randn(2, 7, D, dtype=torch.float64, generator=generator)


def moved(gate, seed=0):
    """The layer with every parameter moved, since its gates start as constants."""
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter += torch.randn(parameter.shape, dtype=parameter.dtype, generator=stream(seed))
    return gate


def by_hand(gate, o, x):
    """The definition, number by number."""
    read = torch.zeros_like(o)
    for b, t, h, m in torch.cartesian_prod(*map(torch.arange, o.shape)).tolist():
        row = h if gate.kind == "headwise" else h * M + m
        z = 0.0 if gate.bias is None else gate.bias[row]
        if gate.weight is not None:
            seen = o[b, t].reshape(-1) if gate.kind == "read" else x[b, t]
            z = z + sum(gate.weight[row, i] * seen[i] for i in range(len(seen)))
        z = torch.as_tensor(z, dtype=o.dtype)
        sigmoid = 1 / (1 + torch.exp(-z))
        read[b, t, h, m] = o[b, t, h, m] * (z * sigmoid if gate.kind == "silu" else sigmoid)
    return read


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_its_definition(kind):
    gate, (o, x) = (
        moved(OutputGate(D, heads=H, d_value=M, kind=kind, dtype=torch.float64)),
        inputs(),
    )
    with torch.no_grad():
        assert gap(gate(o, x), by_hand(gate, o, x)) < 1e-14


def test_without_a_bias_it_is_its_definition():
    gate = moved(OutputGate(D, heads=H, d_value=M, start=None, dtype=torch.float64))
    o, x = inputs()
    with torch.no_grad():
        assert gap(gate(o, x), by_hand(gate, o, x)) < 1e-14


@pytest.mark.parametrize(
    ("kind", "start", "first"),
    [
        ("elementwise", None, 0.5),
        ("elementwise", 0.0, 0.5),
        ("headwise", 1.0, 0.7310585786),
        ("constant", 1.0, 0.7310585786),
        ("read", 1.0, 0.7310585786),
        ("silu", 1.0, 0.7310585786),
        ("elementwise", 40.0, 1.0),
    ],
)
def test_it_starts_as_a_constant_and_is_never_the_identity_by_itself(kind, start, first):
    gate, (o, x) = (
        OutputGate(D, heads=H, d_value=M, kind=kind, start=start, dtype=torch.float64),
        inputs(),
    )
    with torch.no_grad():
        assert gap(gate(o, x), first * o) < 1e-9


@pytest.mark.parametrize(
    ("kind", "start", "count"),
    [
        ("elementwise", 1.0, D * H * M + H * M),
        ("elementwise", None, D * H * M),
        ("headwise", 1.0, D * H + H),
        ("silu", 1.0, D * H * M + H * M),
        ("constant", 1.0, H * M),
        ("read", 1.0, (H * M) ** 2 + H * M),
    ],
)
def test_it_has_as_many_parameters_as_were_said(kind, start, count):
    gate = OutputGate(D, heads=H, d_value=M, kind=kind, start=start)
    assert sum(parameter.numel() for parameter in gate.parameters()) == count


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_zero_learns_all_the_same(kind):
    gate, (o, x) = OutputGate(D, heads=H, d_value=M, kind=kind, dtype=torch.float64), inputs()
    gradients = torch.autograd.grad(gate(o, x).square().sum(), list(gate.parameters()))
    assert all(gradient.abs().min() > 0 for gradient in gradients)


def model(gate, width=64, **settings):
    """Two layers as in the earlier runs, 19 tokens, positions up to 21."""
    generator = stream(0)
    mixers = [
        MultiHead(width, CosFormer(width, heads=4, d_key=width // 4, horizon=64), gate=gate,
                  generator=generator, **settings)
        for _ in range(2)
    ]  # fmt: skip
    channels = [SwiGLU(width, 4 * width, generator=generator) for _ in range(2)]
    head = torch.nn.Linear(width, 19, bias=False)
    return SequenceModel(
        19, 19, width, mixers, channels=channels, positions=21, norm="layer", head=head,
        generator=generator,
    )  # fmt: skip


@pytest.mark.parametrize(("gate", "count"), [(None, 135_488), ("elementwise", 143_680)])
def test_the_earlier_models_had_as_many_parameters(gate, count):
    found = sum(p.numel() for p in model(gate, gate_start=None).parameters())
    assert found == count


@pytest.mark.parametrize("kind", ["elementwise", "headwise", "constant", "read"])
def test_an_open_gate_is_no_gate(kind):
    tokens = torch.randint(19, (3, 13), generator=stream(1))
    plain, gated = model(None).double(), model(kind, gate_start=40.0).double()
    assert not gated.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    with torch.no_grad():
        assert gap(gated(tokens), plain(tokens)) < 1e-10


def test_a_gate_of_a_selective_layer_can_be_left_open_as_well():
    x = torch.randn(2, 9, 6, dtype=torch.float64, generator=stream(2))
    plain, gated = (
        Mamba(6, d_state=3, gate=gate, gate_start=40.0).double() for gate in (None, "elementwise")
    )
    assert not gated.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    with torch.no_grad():
        assert gap(gated(x), plain(x)) < 1e-10


def test_a_closed_gate_gives_nothing():
    gate, (o, x) = OutputGate(D, heads=H, d_value=M, start=-40.0, dtype=torch.float64), inputs()
    with torch.no_grad():
        assert gate(o, x).abs().max() < 1e-15


@pytest.mark.parametrize(
    ("kind", "start", "message"),
    [
        ("wide", 1.0, "the gate is 'wide'; it must be one of ('elementwise', 'headwise'"),
        ("silu", None, "the gate 'silu' needs a bias"),
        ("constant", None, "the gate 'constant' needs a bias"),
    ],
)
def test_bad_input_stops_with_what_was_expected(kind, start, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        OutputGate(D, heads=H, d_value=M, kind=kind, start=start)
