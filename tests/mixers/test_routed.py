"""Routed heads and memories: who moves, what fixed rotations know, and what audits see."""

import pytest
import torch
from numeric import gap, stream
from transition_cases import D_MODEL, ROUTERS, routed_heads

from lab import audit
from lab.audit import AuditError
from lab.memories import DeltaRule
from lab.mixers import RoutedHeads, RoutedMemories
from lab.model import residual_model
from lab.nn import Router
from lab.tasks import RandomTokens
from lab.transitions import MonarchID, RealDiagonal

DOUBLE = torch.float64


def inputs(B=4, T=11, seed=0):
    return torch.randn(B, T, D_MODEL, dtype=DOUBLE, generator=stream(seed))


def layer(**settings):
    return routed_heads(stream(0), **settings).double()


@pytest.mark.parametrize("name", ROUTERS)
def test_heads_that_take_a_token_move_and_all_others_hold(name):
    mixer, x = layer(**ROUTERS[name]), inputs()
    taken, h = mixer.decisions(x), mixer.states(x)
    before = torch.cat([mixer.initial.expand(4, 1, -1, -1), h[:, :-1]], dim=1)
    A = torch.stack([each.dense(each(x)) for each in mixer.transitions], dim=2)
    moved = (A @ before[..., None])[..., 0] + mixer.B(x).unflatten(-1, (3, 4))
    expected = torch.where(taken[..., None], moved, before)
    assert gap(h, expected) < 1e-13
    assert taken.any()
    assert taken.all() == (name == "all")


def test_fixed_rotations_can_only_count():
    mixer, x = layer(fixed=True), inputs()
    mixer.B.weight.data.zero_()
    mixer.B.bias.data.zero_()
    taken, h = mixer.decisions(x), mixer.states(x)
    for head, rotation in enumerate(mixer.transitions):
        A = rotation.dense(rotation(x[0, 0]))
        for b, count in enumerate(taken[:, :, head].sum(1).tolist()):
            power = torch.linalg.matrix_power(A, count) @ mixer.initial[head]
            assert gap(h[b, -1, head], power) < 1e-13


def test_a_fixed_rotation_is_one_rotation_with_few_numbers():
    rotation = MonarchID(D_MODEL, d_state=16, fixed=True, generator=stream(0)).double()
    A = rotation.dense(rotation(inputs()))
    assert gap(A, A[0, 0].expand_as(A)) == 0
    assert gap(A.mT @ A, torch.eye(16, dtype=DOUBLE).expand_as(A)) < 1e-13
    assert sum(each.numel() for each in rotation.parameters()) == 48


def test_read_out_of_the_selected_ignores_all_others():
    mixer, x = layer(read_out="selected"), inputs()
    taken, h = mixer.decisions(x), mixer.states(x)
    p = mixer.router(x)
    h = torch.where(taken, p, 0.0)[..., None] * h
    assert gap(mixer(x), mixer.C(h.flatten(-2))) < 1e-13


class Complex(RealDiagonal):
    is_complex = True


@pytest.mark.parametrize(
    "transitions",
    [
        [RealDiagonal(4, d_state=2)],
        [RealDiagonal(4, d_state=2), RealDiagonal(4, d_state=3)],
        [Complex(4, d_state=2), Complex(4, d_state=2)],
    ],
)
def test_transitions_must_be_one_for_each_head_and_alike(transitions):
    with pytest.raises(ValueError, match="give one each, real and of one size"):
        RoutedHeads(4, transitions, router=Router(4, heads=2))


# --- memories ------------------------------------------------------------------------------------


def memories(R, **settings):
    return RoutedMemories(
        D_MODEL, heads=2, d_key=3, d_value=4, memories=R, generator=stream(0), **settings
    ).double()


def test_one_memory_is_the_delta_rule_with_keys_of_the_token_before():
    mixer, x = memories(1), inputs()
    memory = DeltaRule(D_MODEL, heads=2, d_key=3, d_value=4).double()
    memory.beta = mixer.beta
    before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
    q, k, v = (
        each.unflatten(-1, (2, -1)).movedim(1, 2)
        for each in (mixer.q(x), mixer.k(before), mixer.v(x))
    )
    expected = mixer.out(memory(q, k, v, x).movedim(1, 2).flatten(-2))
    assert gap(mixer(x), expected) < 1e-12


def test_a_value_is_written_to_the_memory_of_the_token_before():
    mixer, x = memories(3), inputs()
    S, chosen = mixer.states(x), mixer.decisions(x).int().argmax(-1)
    changes = (S[:, 1:] - S[:, :-1]).abs().amax((2, 4, 5)) > 0  # ["B T-1 R"]
    assert torch.equal(changes.sum(-1), torch.ones_like(changes.sum(-1)))
    assert torch.equal(changes.int().argmax(-1), chosen[:, :-1])
    assert S[:, 0].abs().max() == 0  # no token precedes the first


# --- audits --------------------------------------------------------------------------------------


def build(task, routing, read_out="all", **settings):
    def mixer(generator):
        rotations = [MonarchID(16, d_state=4, generator=generator) for _ in range(4)]
        router = Router(16, heads=4, routing=routing, generator=generator, **settings)
        return RoutedHeads(16, rotations, router=router, read_out=read_out, generator=generator)

    return residual_model(task, 0, d_model=16, mixer=mixer, positions=32).double()


@pytest.mark.parametrize("read_out", ["all", "selected"])
@pytest.mark.parametrize("length", [8, 16, 32])
def test_an_audit_catches_a_routing_that_looks_ahead(length, read_out):
    task = RandomTokens(4)
    with pytest.raises(AuditError, match=r"a change of the input at step \d+ .*moves earlier"):
        audit.model(build(task, "expert choice", read_out), task, length=length)


@pytest.mark.parametrize("settings", [{}, {"capacity": 2}, {"always": 1}])
@pytest.mark.parametrize("routing", ["token choice", "threshold", "prefix rank", "lagged chunks"])
def test_an_audit_passes_every_causal_router(routing, settings):
    task = RandomTokens(4)
    report = audit.model(build(task, routing, **settings), task, length=16)
    assert float(report["largest move before a changed input"]) < 1e-10
    assert float(report["step form against parallel form"]) < 1e-10


def test_an_audit_passes_routed_memories():
    task = RandomTokens(4)

    def mixer(generator):
        return RoutedMemories(16, heads=1, d_key=4, memories=4, generator=generator)

    report = audit.model(
        residual_model(task, 0, d_model=16, mixer=mixer, layers=1).double(), task, length=16
    )
    assert float(report["step form against parallel form"]) < 1e-10
