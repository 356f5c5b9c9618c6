"""Fenwick trees over the sequences of a row: the intervals of each begin where it begins."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from lab.linalg.chunks import cut, joined
from lab.linalg.fenwick import check_chunk, check_levels, pairs
from lab.linalg.precision import widened


@widened
def packed_fenwick_product(
    q: Float[Tensor, "B H T F"],
    k: Float[Tensor, "B H T F"],
    v: Float[Tensor, "B H T M"],
    weights: Float[Tensor, "B H T L"],
    reset: Bool[Tensor, "B T"],
    *,
    inclusive: bool = False,
    chunk: int = 32,
) -> Float[Tensor, "B H T M"]:
    """What `fenwick_product` gives for each sequence of a row by itself, in O(T log T).

    Levels depend on steps counted from the beginning of a sequence, so that intervals lie anywhere
    in a row. Those of one size do not overlap, and each full one of 2^j steps holds a single
    multiple of 2^j, by which it is found. Intervals shorter than a chunk are read in pairs of
    steps, which are less than a chunk apart.

    Args:
        q, k, v, weights: as for `fenwick_product`; L at least `level_count(T)`, for a sequence
            that fills its row.
        reset: the steps at which another sequence begins.
        inclusive: whether to use the other convention of levels.
        chunk: number of steps in a chunk, a power of two.

    Returns:
        Float["B H T M"].

    Raises:
        ValueError: the shapes differ, T is 0, there are too few levels, or the chunk is no power
            of two.

    Cost: T (2 chunk (F + M) + 2 log2(T / chunk) F M) operations.
    """
    check_levels(q, k, v, weights, inclusive)
    check_chunk(chunk)
    T, lowest = q.shape[-2], chunk.bit_length() - 1
    step = torch.arange(T, device=q.device)
    start = torch.where(reset, step, 0).cummax(1).values
    o = _near(q, k, v, weights, step - start, chunk, inclusive)
    for j in range(lowest, (T - 1 + inclusive).bit_length()):
        found = _intervals(start, j, inclusive)
        sums = _taken(k, found.steps).mT @ _taken(v, found.steps)
        weight = _taken(weights[..., j + 1 - inclusive, None], found.readers)
        read = torch.where(found.reads[:, None, ..., None], _taken(q, found.readers) @ sums, 0)
        place = found.readers.flatten(1)[:, None, :, None].expand(-1, o.shape[1], -1, o.shape[3])
        o = o.scatter_add(2, place, (weight * read).flatten(2, 3))
    return o


def _near(
    q: Tensor, k: Tensor, v: Tensor, weights: Tensor, place: Tensor, chunk: int, inclusive: bool
) -> Tensor:
    """The part that is read in intervals shorter than a chunk, for steps at places ["B T"]."""
    T = q.shape[-2]
    read = cut((place + inclusive)[:, None, :, None], chunk)  # ["B 1 C chunk 1"]
    # A step and what it reads lie in one chunk of the row, or in two that follow each other.
    k, v, written = (_with_earlier(cut(part, chunk)) for part in (k, v, place[:, None, :, None]))
    written = written.mT
    step = torch.arange(2 * chunk, device=q.device)
    apart = step[chunk:, None] - step
    # Steps of one sequence are as far apart as their places.
    seen = (apart >= 0) & (apart == read - int(inclusive) - written)
    seen = seen & (read // chunk == written // chunk)
    digits = torch.tensor([n.bit_length() for n in range(chunk)], device=q.device)
    levels = digits[(read ^ written) % chunk] - int(inclusive)
    q, weights = cut(q, chunk), cut(weights, chunk)
    return joined(pairs(q, k, v, weights, torch.where(seen, levels, -1)), T)


class _Intervals(NamedTuple):
    """Intervals of one size, each found by the multiple of this size that lies in it."""

    steps: Tensor  # Int64["B C size"]
    readers: Tensor  # Int64["B C size"], the steps that may read it
    reads: Tensor  # Bool["B C size"], whether they do


def _intervals(start: Tensor, j: int, inclusive: bool) -> _Intervals:
    """Those of 2^j steps, for steps of sequences that begin at `start` ["B T"]."""
    T, size = start.shape[1], 1 << j
    multiple = torch.arange(0, T, size, device=start.device)
    own = start[:, ::size]
    number = (multiple - own) >> j
    begin = (own + (number << j))[..., None]
    each = torch.arange(size, device=start.device)
    readers = begin + size - int(inclusive) + each
    inside = readers.clamp(max=T - 1)
    same = start.gather(1, inside.flatten(1)).view_as(inside) == own[..., None]
    # The first of two intervals is read in the second.
    reads = same & (readers < T) & (number % 2 == 0)[..., None]
    return _Intervals((begin + each).clamp(max=T - 1), inside, reads)


def _with_earlier(chunks: Tensor) -> Tensor:
    """["... C 2*chunk X"]: every chunk ["... C chunk X"] behind the one before it."""
    earlier = pad(chunks, (0, 0, 0, 0, 1, 0))[..., :-1, :, :]
    return torch.cat([earlier, chunks], dim=-2)


def _taken(part: Tensor, steps: Tensor) -> Tensor:
    """["B H C size X"]: the steps Int64["B C size"] of ["B H T X"]."""
    B, H, _, X = part.shape
    place = steps.flatten(1)[:, None, :, None].expand(B, H, -1, X)
    return part.gather(2, place).unflatten(2, steps.shape[1:])
