"""Every memory of fixed state as a benchmark problem, beside forms of others for the same map."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from lab import memories
from lab.benchmark.layers import fla, minimal
from lab.benchmark.layers.reading import Reading, Way, by_steps, ours, turned
from lab.benchmark.problem import Contender, Problem, Shape, bytes_of_a_layer
from lab.benchmark.scans.draws import normal
from lab.memories import LinearAttention, Memory, TropicalSlots
from lab.seeding import stream

HEADS = 4
LEVELS = 21  # of log-linear attention: enough for 2^20 steps
HORIZON = 1 << 20  # steps

Order = Literal["T", "T log T"]
ORDERS: dict[Order, Callable[[int], float]] = {
    "T": float,
    "T log T": lambda T: T * math.log2(T),
}


@dataclass(frozen=True)
class Case:
    """A memory to be timed.

    Attributes:
        build: (D, heads=, d_key=, generator=) -> the memory.
        order: of its time and memory in T, as its documentation states it.
        of_fla: forms that flash-linear-attention has for it, by name.
        plain: forms in plain torch, by name.
        jumps: whether read-outs jump where the larger of two nearly equal numbers changes.
    """

    build: Callable[..., Memory]
    order: Order = "T"
    of_fla: Mapping[str, Way] = field(default_factory=dict)
    plain: Mapping[str, Way] = field(default_factory=dict)
    jumps: bool = False


def _log_linear(d_model: int, **sizes: Any) -> Memory:
    plain = {name: sizes[name] for name in ("heads", "d_key")}
    inner = LinearAttention(d_model, feature="none", normalise=False, **plain)
    return memories.LogLinearAttention(d_model, inner, levels=LEVELS, generator=sizes["generator"])


def _without_draw(kind: Callable[..., Memory], d_model: int, **sizes: Any) -> Memory:
    """A memory without parameters, which takes no generator."""
    del sizes["generator"]
    return kind(d_model, **sizes)


_retention = partial(_without_draw, partial(memories.Retention, rotate=False))
_cosine = partial(_without_draw, partial(memories.CosFormer, horizon=HORIZON))
_scalar = partial(LinearAttention, feature="none", normalise=False, decay=0.018)
_tropical = partial(TropicalSlots, decay=0.018)
_one_slot = partial(memories.TropicalGated, decay=0.018)
_slots = partial(memories.SoftSlots, decay=0.018)

_LINEAR: dict[str, Way] = {
    "fla, chunks": Way(fla.linear_chunks),
    "fla, steps": Way(fla.linear_steps),
}
_SSD: dict[str, Way] = {"minimal SSD": Way(minimal.ssd, heads_first=True)}
_AVERAGES: dict[str, Way] = {
    "all pairs": Way(minimal.average_pairs, heads_first=True, pairs=True),
    "cumulative sums": Way(minimal.average_sums, heads_first=True),
}
_HARD: dict[str, Way] = {"torch.cummax": Way(minimal.hard_slots, heads_first=True)}

CASES: dict[str, Case] = {
    "linear attention": Case(LinearAttention, of_fla=_LINEAR),
    "cosFormer": Case(_cosine, of_fla=_LINEAR),
    "scalar decay": Case(
        _scalar,
        of_fla={
            "fla, chunks": Way(fla.decay_chunks),
            "fla, pairs": Way(fla.decay_pairs, pairs=True),
        },
        plain=_SSD,
    ),
    "retention": Case(
        _retention,
        of_fla={
            "fla, pairs": Way(fla.retention_pairs, heads_first=True, pairs=True),
            "fla, chunks": Way(fla.decay_chunks),
        },
        plain=_SSD,
    ),
    "gated linear attention": Case(
        memories.GatedLinearAttention,
        of_fla={"fla, steps": Way(fla.gated_steps)},
        plain={"minimal chunks": Way(minimal.gated, heads_first=True)},
    ),
    "delta rule": Case(
        memories.DeltaRule,
        of_fla={
            "fla, chunks": Way(fla.delta_chunks, heads_first=True),
            "fla, steps": Way(fla.delta_steps, heads_first=True),
        },
    ),
    "gated delta rule": Case(
        memories.GatedDeltaRule,
        of_fla={
            "fla, chunks": Way(fla.gated_delta_chunks),
            "fla, steps": Way(fla.gated_delta_steps),
        },
    ),
    "log-linear attention": Case(
        _log_linear, "T log T", of_fla={"fla, pairs": Way(fla.log_linear_pairs, pairs=True)}
    ),
    "soft slots": Case(
        _slots,
        of_fla={"fla, chunks of exp": Way(fla.slots_chunks)},
        plain={"our scan": Way(minimal.slots_scan, heads_first=True)},
    ),
    "log EMA": Case(memories.LogEMA, plain=_AVERAGES),
    "log SSM": Case(memories.LogSSM, plain=_AVERAGES),
    "tropical slots": Case(_tropical, plain=_HARD, jumps=True),
    "tropical, one slot": Case(_one_slot, plain=_HARD, jumps=True),
}  # fmt: skip


def draw(shape: Shape, generator: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    """x ["B T D"], the input of the layer, and q, k and v ["B T H K"], with D = H K = N."""
    B, T, N = shape
    heads = (B, T, HEADS, N // HEADS)
    return [normal((B, T, N), generator, dtype), *(normal(heads, generator, dtype) for _ in "qkv")]


def memory_problem(name: str, width: int) -> Problem:
    """The problem of a memory with 4 heads that divide a width among them.

    The memory is in evaluation mode, so that slots of max-plus algebra are hard.

    Raises:
        ValueError: the width is no multiple of 8, since keys are of even width.
    """
    if width < 1 or width % (2 * HEADS):
        raise ValueError(f"the width is {width}; it must be a multiple of {2 * HEADS}")
    case = CASES[name]
    memory = case.build(
        width, heads=HEADS, d_key=width // HEADS, generator=stream(0, "init")
    ).eval()
    of_fla = {
        which: _contender(memory, way, module=fla.MODULE, package=fla.PACKAGE)
        for which, way in case.of_fla.items()
    }
    return Problem(
        name=name,
        draw=draw,
        ours=_contender(memory, Way(ours, heads_first=True)),
        loop=Reading(memory, by_steps),
        rivals=of_fla | {which: _contender(memory, way) for which, way in case.plain.items()},
        jumps=case.jumps,
        states_jump=case.jumps,
        moved=bytes_of_a_layer,
    )


def _contender(memory: Memory, way: Way, *, module: str = "", package: str = "") -> Contender:
    read = Reading(memory, way.form)
    largest = _pairs if way.pairs else None
    if not way.heads_first:
        return Contender(read, largest=largest, module=module, package=package)
    return Contender(read, turned, turned, largest=largest, module=module, package=package)


def _pairs(B: int, T: int, N: int) -> int:
    """Entries of an array with all pairs of steps."""
    return B * HEADS * T * T
