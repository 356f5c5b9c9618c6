"""Whether an output depends on later inputs, at several lengths and for several changes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor

_MANY = 16  # sequences tried at short lengths; two at others, as long ones take memory
_SHORT = 16  # steps


@dataclass(frozen=True)
class Move:
    """The largest move of an output before a changed input.

    Attributes:
        size: the move, relative to the largest output where that is above 1; 0 if nothing moved.
        length: time steps of the sequence in which it was found.
        step: the first step that was changed, from 0.
    """

    size: float
    length: int
    step: int


def look_ahead(
    examined: Callable[[Tensor], Float[Tensor, "B T E"]],
    x: Num[Tensor, "B T ..."],
    other: Num[Tensor, "B T ..."],
) -> Move:
    """The largest move of an output before a changed input.

    One change at one length is not enough. A routing that ranks all tokens of a sequence reads the
    future only where tokens compete: a head that takes one token of four takes none of three, and a
    changed token that wins or loses as before moves nothing. So sequences of the full length, and
    of a half, a quarter and so on, are changed at early, middle and late steps, at one step alone
    and from there on.

    Args:
        examined: a mixer, or a model of tokens.
        x: the inputs, of which short lengths use 16 sequences and others 2.
        other: what a changed step becomes, different from x everywhere.

    Raises:
        ValueError: the shapes differ.

    Cost: up to six evaluations of two sequences of the full length, and less for shorter ones.
    """
    if x.shape != other.shape:
        shapes = f"{tuple(x.shape)} and {tuple(other.shape)}"
        raise ValueError(f"inputs and what replaces them are {shapes}; they must have one shape")
    worst = Move(0.0, x.shape[1], 0)
    for length in _halvings(x.shape[1]):
        rows = min(len(x), _MANY if length <= _SHORT else 2)
        given, replaced = x[:rows, :length], other[:rows, :length]
        y = examined(given)
        for step, changed in _changes(given, replaced):
            moved = (examined(changed) - y)[:, :step].abs().max()
            size = (moved / y.abs().max().clamp(min=1)).item()
            if not size <= worst.size:  # NaN is a move, too
                worst = Move(size, length, step)
    return worst


def _halvings(length: int) -> Iterator[int]:
    """The length, its half, and so on, down to 2."""
    while length >= 2:
        yield length
        length //= 2


def _changes(x: Tensor, other: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The step of a change, and x with this step or all steps from there on replaced."""
    T = x.shape[1]
    for step in sorted({1, T // 2, T - 1}):
        alone = x.clone()
        alone[:, step] = other[:, step]
        yield step, alone
        if step < T - 1:
            yield step, torch.cat([x[:, :step], other[:, step:]], dim=1)
