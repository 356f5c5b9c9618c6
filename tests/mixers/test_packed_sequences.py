"""Sequences of different lengths packed into one row give what each of them gives by itself."""

from itertools import pairwise

import pytest
import torch
from numeric import gap, stream

from lab.memories import (
    CosFormer,
    DeltaRule,
    GatedDeltaRule,
    GatedLinearAttention,
    LinearAttention,
    LogEMA,
    LogLinearAttention,
    LogSSM,
    Memory,
    Retention,
    SoftmaxAttention,
    SoftSlots,
    TropicalGated,
    TropicalSlots,
)
from lab.memories.hierarchical import HierarchicalAttention
from lab.memories.truncated import TruncatedAttention
from lab.mixers import Mamba, MultiHead, ShortConvolution

D, T = 6, 43
SIZES = {"heads": 2, "d_key": 4, "d_value": 3}
# Rows of two sequences or more, of which one ends in the first chunk and one has a single step.
STARTS = [(0, 5, 6, 30), (17,), (0, 1, 2, 42)]
MEMORIES = {
    "linear": lambda g: LinearAttention(D, **SIZES),
    "decay": lambda g: LinearAttention(D, **SIZES, decay=0.3, generator=g),
    "cosFormer": lambda g: CosFormer(D, **SIZES, horizon=50),
    "retention": lambda g: Retention(D, **SIZES),
    "gated": lambda g: GatedLinearAttention(D, **SIZES, generator=g),
    "delta": lambda g: DeltaRule(D, **SIZES, generator=g),
    "gated delta": lambda g: GatedDeltaRule(D, **SIZES, generator=g),
    "softmax": lambda _: SoftmaxAttention(D, **SIZES),
    "log EMA": lambda g: LogEMA(D, **SIZES, generator=g),
    "log SSM, summed": lambda g: LogSSM(D, **SIZES, generator=g),
    "log SSM, separate": lambda g: LogSSM(D, **SIZES, logits="separate", generator=g),
    "slots": lambda _: SoftSlots(D, **SIZES),
    "slots, decay": lambda g: SoftSlots(D, **SIZES, mu=2.0, decay=0.3, generator=g),
    "slots, sharp": lambda g: TropicalSlots(D, **SIZES, mu=9.0, decay=0.3, generator=g),
    "slots, straight-through": lambda g: TropicalSlots(
        D, **SIZES, mu=2.0, decay=0.3, training_form="straight-through", generator=g
    ),
    "slots, hard": lambda _: TropicalSlots(D, **SIZES, training_form="hard"),
    "tropical gate": lambda g: TropicalGated(
        D, **SIZES, decay=0.3, training_form="straight-through", generator=g
    ),
    "log-linear": lambda g: LogLinearAttention(
        D, LinearAttention(D, **SIZES), levels=7, generator=g
    ),
    "log-linear, cosFormer, inclusive": lambda g: LogLinearAttention(
        D, CosFormer(D, **SIZES, horizon=50), levels=6, inclusive=True, generator=g
    ),
    "hierarchical": lambda g: HierarchicalAttention(
        D, heads=2, d_key=4, leaf=1, rank=1, generator=g
    ),
    "truncated": lambda _: TruncatedAttention(D, heads=2, d_key=4, leaf=1, rank=1),
}
LAYERS = {
    **{name: lambda g, build=build: MultiHead(D, build(g), generator=g)
       for name, build in MEMORIES.items()},
    "gated delta, convolution and shift": lambda g: MultiHead(
        D, MEMORIES["gated delta"](g), convolution=3, shift=True, norm=True, gate="silu",
        generator=g,
    ),
    "Mamba": lambda g: Mamba(D, d_state=3, convolution=4, generator=g),
}  # fmt: skip


def marked(starts):
    reset = torch.zeros(len(starts), T, dtype=torch.bool)
    for row, steps in enumerate(starts):
        reset[row, list(steps)] = True
    return reset


def apart(layer, x, starts):
    """Every sequence of a row by itself, put beside each other again."""
    rows = []
    for row, steps in zip(x, starts, strict=True):
        ends = sorted({0, *steps, T})
        parts = [layer(row[None, a:b]) for a, b in pairwise(ends)]
        rows.append(torch.cat(parts, dim=1))
    return torch.cat(rows)


@pytest.mark.parametrize("name", LAYERS)
def test_packed_sequences_are_separate_ones(name):
    layer = LAYERS[name](stream(0)).double()
    x = torch.randn(len(STARTS), T, D, generator=stream(1), dtype=torch.float64).requires_grad_()
    weights = torch.randn(x.shape, generator=stream(2), dtype=torch.float64)
    found = []
    for y in (layer(x, reset=marked(STARTS)), apart(layer, x, STARTS)):
        used = [x, *(p for p in layer.parameters() if p.requires_grad)]
        slopes = torch.autograd.grad((weights * y).sum(), used, materialize_grads=True)
        found.append([y, *slopes])
    for packed, separate in zip(*found, strict=True):
        assert gap(packed, separate) < 1e-11
    assert gap(layer(x), apart(layer, x, STARTS)) > 1e-3  # without a reset they see each other


@pytest.mark.parametrize("name", LAYERS)
def test_marks_are_those_of_one_model_of_several(name):
    layers = [LAYERS[name](stream(seed)) for seed in range(2)]
    parameters, buffers = torch.func.stack_module_state(layers)
    x = torch.randn(2, len(STARTS), T, D, generator=stream(1))
    resets = torch.stack([marked(STARTS), marked(STARTS[::-1])])

    def call(parameters, buffers, x, reset):
        return torch.func.functional_call(layers[0], (parameters, buffers), (x, reset))

    together = torch.vmap(call)(parameters, buffers, x, resets)
    for layer, one, reset, y in zip(layers, x, resets, together, strict=True):
        assert gap(y, layer(one, reset)) < 1e-5


@pytest.mark.parametrize("width", [1, 2, 5, 60])
def test_a_convolution_does_not_look_into_the_sequence_before(width):
    layer = ShortConvolution(D, width=width, generator=stream(0))
    x = torch.randn(len(STARTS), T, D, generator=stream(1))
    assert gap(layer(x, marked(STARTS)), apart(layer, x, STARTS)) < 1e-6


# Rows that fill chunks exactly, that do not, and that are shorter than one.
@pytest.mark.parametrize("chunk", [1, 2, 5, 32, 43, 64])
@pytest.mark.parametrize("name", ["slots", "slots, decay", "slots, straight-through"])
def test_slots_are_emptied_in_chunks_of_any_size(name, chunk, monkeypatch):
    layer = LAYERS[name](stream(0)).double()
    x = torch.randn(len(STARTS), T, D, generator=stream(1), dtype=torch.float64).requires_grad_()
    used = [x, *(p for p in layer.parameters() if p.requires_grad)]

    def found(y):
        return [y, *torch.autograd.grad(y.square().sum(), used, materialize_grads=True)]

    pairs = found(layer(x, marked(STARTS)))
    monkeypatch.setattr("lab.memories.slots.PAIRS", 0)
    monkeypatch.setattr("lab.memories.slots.CHUNK", chunk)
    for in_chunks, of_pairs in zip(found(layer(x, marked(STARTS))), pairs, strict=True):
        assert gap(in_chunks, of_pairs) < 1e-11


class Forgetless(Memory):
    """A memory that has no reset."""


def test_a_memory_without_a_reset_says_so():
    layer = MultiHead(D, Forgetless(D, **SIZES))
    x = torch.randn(1, T, D)
    with pytest.raises(ValueError, match="Forgetless has no reset: give it one sequence a row"):
        layer(x, torch.zeros(1, T, dtype=torch.bool))


@pytest.mark.parametrize("convolution", [0, 2])
@pytest.mark.parametrize(
    ("reset", "message"),
    [
        (torch.zeros(1, 42, dtype=torch.bool), r"reset has shape \(1, 42\); it must be \(1, 43\)"),
        (torch.zeros(2, T, dtype=torch.bool), r"reset has shape \(2, 43\); it must be \(1, 43\)"),
        (torch.zeros(1, T), "reset is torch.float32 on cpu; it must be torch.bool on cpu"),
    ],
)
def test_marks_that_do_not_fit_are_refused(convolution, reset, message):
    layer = MultiHead(D, DeltaRule(D, **SIZES), convolution=convolution)
    with pytest.raises(ValueError, match=message):
        layer(torch.randn(1, T, D), reset)
