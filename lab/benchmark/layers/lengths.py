"""How time and memory of a layer grow with the length of a sequence."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab.benchmark.comparison import sweep
from lab.benchmark.layers.memories import CASES, ORDERS, memory_problem
from lab.benchmark.memory import peaks
from lab.benchmark.problem import OURS
from lab.benchmark.timing import growth

WIDTH = 64  # columns
FROM = 1024  # steps: in shorter sequences the call itself is most of the time


def seconds_by_length(name: str, lengths: Sequence[int], **settings: Any) -> dict[int, float]:
    """Seconds of value and gradients of our form, of one sequence of `WIDTH` columns.

    Args:
        name: of a memory.
        lengths: from small to large.
        settings: of `lab.benchmark.compare`.
    """
    shapes = [(1, T, WIDTH) for T in lengths]
    found = sweep(memory_problem(name, WIDTH), shapes, only=[OURS], **settings)
    return {T: seconds for (_, T, _), seconds in found[OURS].items()}


def bytes_by_length(names: Sequence[str], lengths: Sequence[int]) -> dict[str, dict[int, float]]:
    """Peak bytes of value and gradients of our forms by name and length, in one other process.

    Returns:
        Nothing where the system does not report peaks.
    """
    cases = [(name, OURS, (1, T, WIDTH)) for name in names for T in lengths]
    found: dict[str, dict[int, float]] = {}
    for (name, _, (_, T, _)), peak in zip(cases, peaks(cases), strict=False):
        found.setdefault(name, {})[T] = float(peak.measured)
    return found


def power(name: str, found: Mapping[int, float]) -> float | None:
    """Exponent of what was found in the order that the memory states; 1 if it keeps its word.

    Args:
        name: of a memory.
        found: seconds or bytes by length; those below `FROM` steps are left out.

    Returns:
        None if fewer than two lengths are left.
    """
    order = ORDERS[CASES[name].order]
    long = {T: value for T, value in found.items() if T >= FROM}
    if len(long) < 2:
        return None
    return growth([order(T) for T in long], list(long.values()))
