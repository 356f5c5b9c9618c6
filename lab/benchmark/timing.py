"""Times calls in turns, so that a busy moment of the machine affects all of them equally."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lab.progress import Progress

Call = Callable[[], object]

TURN = 0.01  # shortest duration of a turn in seconds; fast calls are repeated within it


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median over turns and the quartiles around it."""

    median: float
    low: float
    high: float
    turns: int


def take_turns(
    calls: Mapping[str, Call], *, rounds: int, budget: float, label: str = "timing"
) -> dict[str, Timing]:
    """Time calls in rounds; in every round each call has one turn, in changing order.

    Args:
        calls: the calls by name. Each must have run before, so that nothing is loaded, compiled or
            allocated for the first time.
        rounds: number of rounds, at least 1.
        budget: total seconds per name. Slow calls have fewer turns, but at least one.
        label: label of the progress bar.

    Raises:
        ValueError: there are no rounds.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; it must be at least 1")
    names, turns = list(calls), dict[str, list[float]]()
    with _undisturbed():
        repeats = {name: _repeats(call) for name, call in calls.items()}
        with Progress(label, rounds, unit="rounds") as shown:
            for turn in range(rounds):
                first = turn % max(1, len(names))
                for name in [*names[first:], *names[:first]]:
                    taken = turns.setdefault(name, [])
                    if not taken or (sum(taken) + taken[-1]) * repeats[name] <= budget:
                        taken.append(seconds(calls[name], repeats[name]))
                shown.advance()
    return {name: _summary(turns[name]) for name in names}


def milliseconds(
    calls: Mapping[str, Call], *, rounds: int, budget: float, label: str = "timing"
) -> dict[str, float]:
    """Milliseconds of a call by name, the median over turns; each runs once before it is timed.

    Args:
        calls, rounds, budget, label: as for `take_turns`.
    """
    for call in calls.values():
        call()
    timings = take_turns(calls, rounds=rounds, budget=budget, label=label)
    return {name: 1e3 * timing.median for name, timing in timings.items()}


def seconds(call: Call, times: int = 1) -> float:
    """Mean seconds per call over several calls in a row, including all work on a GPU."""
    _finish()
    start = time.perf_counter()
    for _ in range(times):
        call()
    _finish()
    return (time.perf_counter() - start) / times


def _repeats(call: Call) -> int:
    """How often a call fits into a turn; at least 1."""
    once = seconds(call)
    # The first call is slower, because the cache contains the arrays of other calls.
    return 1 if once >= TURN else math.ceil(TURN / min(once, seconds(call)))


def empty_function(*, rounds: int, budget: float) -> float:
    """Seconds of value and gradients of a torch.autograd.Function that computes nothing.

    This is a lower bound for functions whose gradient is written in Python. Arguments as for
    `take_turns`.
    """
    members = {
        "forward": staticmethod(lambda _, x: torch.empty_like(x)),
        "backward": staticmethod(lambda _, grad: grad),
    }
    function: Any = type("Empty", (torch.autograd.Function,), members)
    x, grad = torch.zeros(1, requires_grad=True), torch.zeros(1)
    call = {"empty": lambda: torch.autograd.grad(function.apply(x), x, grad)}
    return take_turns(call, rounds=rounds, budget=budget, label="an empty Function")["empty"].median


def growth(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Exponent of the growth of times with size: the slope of the line in logarithms.

    Raises:
        ValueError: there are fewer than two sizes.
    """
    if len(sizes) < 2 or len(sizes) != len(times):
        given = f"{len(sizes)} sizes and {len(times)} times do not make a line"
        raise ValueError(f"{given}: give as many times as sizes, and at least two")
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def _finish() -> None:
    # Calls on a GPU only put work into its queue.
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Inside, Python's garbage collector, which would interrupt calls at random, is off."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _summary(turns: list[float]) -> Timing:
    low, median, high = np.quantile(turns, [0.25, 0.5, 0.75]).tolist()
    return Timing(median, low, high, len(turns))
