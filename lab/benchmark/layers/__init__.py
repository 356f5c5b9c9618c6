"""Memories and the selective layer as benchmark problems, each with its contenders.

Sizes of the modules follow from the width, so that a problem is made for a width: the last number
of a shape B x T x N.
"""

from collections.abc import Callable
from functools import partial

from lab.benchmark.layers.lengths import bytes_by_length, power, seconds_by_length
from lab.benchmark.layers.memories import CASES, HEADS, Case, memory_problem
from lab.benchmark.layers.selective import core_problem, elements, layer_problem
from lab.benchmark.problem import Problem

SELECTIVE = {"selective layer": layer_problem, "selective core": core_problem}
_MAKERS: dict[str, Callable[[int], Problem]] = {
    **{name: partial(memory_problem, name) for name in CASES},
    **SELECTIVE,
}


def layer(name: str, width: int) -> Problem:
    """The problem of a memory (a key of `CASES`) or of the selective layer, for a width.

    Args:
        name: of the layer; "selective core" is the scan inside the layer alone.
        width: N, a multiple of 2 `HEADS` for memories.

    Raises:
        ValueError: there is no such layer, or the width does not divide into heads.
    """
    if name not in _MAKERS:
        raise ValueError(f"there is no layer {name!r}; there are {', '.join(_MAKERS)}")
    return _MAKERS[name](width)


__all__ = [
    "CASES",
    "HEADS",
    "SELECTIVE",
    "Case",
    "bytes_by_length",
    "elements",
    "layer",
    "power",
    "seconds_by_length",
]
