"""One convention of constructors for transitions, memories and mixers; and a row for each."""

import inspect
from functools import cache
from inspect import Parameter

import pytest
import torch
from torch import nn
from transition_cases import MEMORIES, MIXERS, TRANSITIONS, stream

import lab.memories
import lab.mixers
import lab.transitions
from lab.memories import (
    LinearAttention,
    LogEMA,
    LogLinearAttention,
    Memory,
    SoftmaxAttention,
)
from lab.mixers import (
    Continuing,
    Convolved,
    Mamba,
    Mixer,
    MultiHead,
    OscDPLR,
    OscillatorBank,
    Packing,
    RoutedHeads,
    ShortConvolution,
    StateSpace,
)
from lab.mixers.base import Layer
from lab.nn import Router
from lab.transitions import LinOSS, Oscillators, RealDiagonal, Transition

ROOMS = (lab.transitions, lab.memories, lab.mixers)
# Frames that others fill in, and no layers of their own.
ABSTRACT = {Memory, Oscillators, Transition}
# Built around another layer, which comes second.
AROUND = {
    "Convolved": "mixer",
    "LogLinearAttention": "inner",
    "MultiHead": "memory",
    "OscillatorBank": "transition",
    "RoutedHeads": "transitions",
    "StateSpace": "transition",
}
EXPORTED = [
    kind
    for room in ROOMS
    for kind in (getattr(room, name) for name in room.__all__)
    if inspect.isclass(kind) and issubclass(kind, nn.Module)
]
every_class = pytest.mark.parametrize("kind", EXPORTED, ids=lambda kind: kind.__name__)


def against_convention(kind):
    """What is wrong with a constructor; an empty list if nothing is."""
    width, *others = list(inspect.signature(kind).parameters.values())
    found = []
    if width.name != "d_model" or width.kind is not Parameter.POSITIONAL_OR_KEYWORD:
        found.append(f"the first argument is {width}")
    if kind.__name__ in AROUND:
        inner, *others = others
        if inner.name != AROUND[kind.__name__]:
            found.append(f"the second argument is {inner}")
    found += [f"not keyword-only: {each}" for each in others if each.kind is not each.KEYWORD_ONLY]
    names = [each.name for each in others]
    sizes = [name for name in ("heads", "d_key", "d_value", "d_state") if name in names]
    if names[: len(sizes)] != sizes and kind.__name__ != "OscDPLR":
        found.append(f"sizes come first, as {sizes}, not {names}")
    return found


@every_class
def test_every_constructor_has_the_one_form(kind):
    assert against_convention(kind) == []


def test_the_test_of_the_form_can_fail():
    class Positional(nn.Module):
        def __init__(self, heads, d_model, *, generator, d_state, **settings):
            super().__init__()

    assert len(against_convention(Positional)) == 4


@cache
def rows():
    """The classes that the shared suites try, by the room that their rows are for."""
    mixers = [case.build(stream(0)) for case in MIXERS]
    return {
        lab.transitions: {type(case.build(stream(0))) for case in TRANSITIONS},
        lab.memories: {
            type(part) for build, _ in MEMORIES.values() for part in build(stream(0)).modules()
        },
        lab.mixers: {type(part) for mixer in mixers for part in mixer.modules()},
    }


@every_class
def test_every_class_has_its_rows_in_the_shared_suites(kind):
    (room,) = (room for room in ROOMS if kind.__name__ in room.__all__)
    assert (kind in rows()[room]) == (kind not in ABSTRACT)


PROTOCOLS = {
    Mamba: Packing,
    MultiHead: Packing,
    OscDPLR: Continuing,
    ShortConvolution: Packing,
}
MIXING = [kind for kind in EXPORTED if issubclass(kind, Layer)]


@pytest.mark.parametrize("kind", MIXING, ids=lambda kind: kind.__name__)
def test_every_mixer_is_called_as_its_protocol_says(kind):
    protocol = PROTOCOLS.get(kind, Mixer)
    expected = inspect.signature(protocol.__call__).parameters
    found = inspect.signature(kind.forward).parameters
    assert [(p.name, p.default) for p in found.values()] == [
        (p.name, p.default) for p in expected.values()
    ]


# --- what one layer is built around must fit -----------------------------------------------------


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: MultiHead(32, LinearAttention(16, heads=2, d_key=8)),
            "MultiHead: d_model is 32, and the memory LinearAttention has d_model 16",
        ),
        (
            lambda: MultiHead(32, SoftmaxAttention(2, heads=16, d_key=8)),
            "MultiHead: d_model is 32, and the memory SoftmaxAttention has d_model 2",
        ),
        (
            lambda: StateSpace(4, RealDiagonal(8, d_state=4)),
            "StateSpace: d_model is 4, and the transition RealDiagonal has d_model 8",
        ),
        (
            lambda: OscillatorBank(4, LinOSS(8, d_state=4)),
            "OscillatorBank: d_model is 4, and the transition LinOSS has d_model 8",
        ),
        (
            lambda: LogLinearAttention(8, LinearAttention(4, heads=1, d_key=2), levels=3),
            "LogLinearAttention: d_model is 8, and the inner memory LinearAttention has d_model 4",
        ),
        (
            lambda: RoutedHeads(8, [RealDiagonal(4, d_state=2)], router=Router(8, heads=1)),
            "RoutedHeads: d_model is 8, and the transition RealDiagonal has d_model 4",
        ),
        (
            lambda: Convolved(8, StateSpace(4, RealDiagonal(4, d_state=2)), width=3),
            "Convolved: d_model is 8, and the mixer StateSpace has d_model 4",
        ),
    ],
)
def test_two_widths_that_differ_are_named_with_the_remedy(build, sentence):
    with pytest.raises(ValueError, match=f"{sentence}; give both the same d_model"):
        build()


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: MultiHead(4, RealDiagonal(4, d_state=4)),
            "MultiHead: the memory is a RealDiagonal; it must be a lab.memories.Memory",
        ),
        (
            lambda: StateSpace(4, LogEMA(4, heads=1, d_key=2)),
            "StateSpace: the transition is a LogEMA; it must be a lab.transitions.Transition",
        ),
        (
            lambda: OscillatorBank(4, RealDiagonal(4, d_state=4)),
            "OscillatorBank: the transition is a RealDiagonal; it must be a "
            "lab.transitions.Oscillators",
        ),
        (
            lambda: LogLinearAttention(4, SoftmaxAttention(4, heads=1, d_key=2), levels=3),
            "LogLinearAttention: the inner memory is a SoftmaxAttention; it must be a "
            "lab.memories.LinearMemory",
        ),
        (
            lambda: RoutedHeads(4, [RealDiagonal(4, d_state=4)], router=RealDiagonal(4, d_state=4)),
            "RoutedHeads: the router is a RealDiagonal; it must be a lab.nn.Router",
        ),
        (lambda: MultiHead(4, 2), "MultiHead: the memory is a int; it must be a lab.memories.Mem"),
    ],
)
def test_a_part_of_another_kind_is_named_beside_what_fits(build, sentence):
    with pytest.raises(TypeError, match=sentence):
        build()


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"heads": 0, "d_key": 2}, "LinearAttention: heads is 0; it must be at least 1"),
        ({"heads": 1, "d_key": 2.5}, "d_key is 2.5; it must be a whole number, at least 1"),
        ({"heads": 1, "d_key": 2, "d_value": -1}, "d_value is -1; it must be at least 1"),
    ],
)
def test_sizes_of_a_memory_are_checked(sizes, sentence):
    with pytest.raises(ValueError, match=sentence):
        LinearAttention(4, **sizes)


def test_two_sizes_cannot_be_taken_for_one_another():
    with pytest.raises(TypeError, match="positional"):
        LinearAttention(32, 2, 16)


def test_without_a_decay_nothing_is_drawn_and_with_one_a_rate_per_head():
    generator = stream(0)
    plain = LinearAttention(4, heads=2, d_key=3, generator=generator)
    assert plain.decay is None
    assert torch.equal(generator.get_state(), stream(0).get_state())
    assert LinearAttention(4, heads=2, d_key=3, decay=0.1).decay.out_features == 2
