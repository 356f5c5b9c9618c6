"""Fenwick trees over time: the past is split into intervals whose length grows with distance.

The steps before t are split by the binary digits of t, from the highest digit on. For a digit 2^j,
the first 2^j of the remaining steps form one interval, which is level j + 1. Step t is level 0:

    t = 13 = 8 + 4 + 1      0 1 2 3 4 5 6 7 | 8 9 10 11 | 12 | 13
    level                          4        |     3     |  1 |  0

`inclusive` selects another convention: the steps up to t are split by the digits of t + 1, and an
interval of 2^j steps is level j. There is then no separate level for step t.

Source: Guo et al. 2025, Log-linear attention, section 3; Fenwick 1994 for the tree.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from lab.linalg.precision import widened

States = dict[int, Tensor]


def split(t: int, *, inclusive: bool = False) -> dict[int, range]:
    """The definition: the steps of every level, as seen by step t, oldest first."""
    found, begin, end = {}, 0, t + inclusive
    while begin < end:
        size = 1 << ((end - begin).bit_length() - 1)
        found[size.bit_length() - inclusive] = range(begin, begin + size)
        begin += size
    return found if inclusive else {**found, 0: range(t, t + 1)}


def level_count(T: int, *, inclusive: bool = False) -> int:
    """Number of levels for T steps: ceil(log2 T) + 1, or floor(log2 T) + 1 if inclusive."""
    return T.bit_length() if inclusive else (T - 1).bit_length() + 1


def level_map(
    T: int, *, inclusive: bool = False, device: torch.device | None = None
) -> Int64[Tensor, "T T"]:
    """Int64["T T"], axes (reading step, writing step): the level, -1 for later writes.

    If j is the highest binary digit in which two steps differ, they lie in different halves of an
    interval of 2^(j+1) steps. The level is therefore the number of binary digits of t xor s.
    """
    steps = torch.arange(T, device=device)
    differ = (steps + inclusive)[:, None] ^ steps
    powers = torch.tensor([1 << j for j in range(T.bit_length())], dtype=torch.int64, device=device)
    digits = torch.bucketize(differ, powers, right=True)  # how many powers of 2 are not above it
    return torch.where(steps[:, None] >= steps, digits - int(inclusive), -1)


def advance(states: States, new: Tensor, t: int, *, inclusive: bool = False) -> States:
    """The states of all levels after step t, by level, from those after step t - 1.

    All levels up to the lowest binary digit of t that is 1 are merged into one. Empty levels are
    left out, so there are at most `level_count` states at any time.

    Args:
        states: the sum of each level, of any shape; empty before step 0.
        new: what step t writes, of the same shape.
    """
    lowest = lowest_digit(t + inclusive)
    if lowest < 0:  # step 0, where there is nothing to merge
        return {0: new}
    top = lowest if inclusive else lowest + 1
    merged = [state for level, state in states.items() if level < top]
    kept = {level: state for level, state in states.items() if level > top}
    if inclusive:
        return {**kept, top: sum(merged, new)}
    return {**kept, top: sum(merged[1:], merged[0]), 0: new}


def lowest_digit(n: int) -> int:
    """Position of the lowest binary digit that is 1; -1 for 0."""
    return (n & -n).bit_length() - 1


@widened
def fenwick_product_sequential(
    q: Float[Tensor, "... T F"],
    k: Float[Tensor, "... T F"],
    v: Float[Tensor, "... T M"],
    weights: Float[Tensor, "... T L"],
    *,
    inclusive: bool = False,
) -> Float[Tensor, "... T M"]:
    """The definition: o[t] = (sum over levels of weights[t, level] S[t, level])^T q[t].

    S[t, level] is the sum of k[s] v[s]^T over the steps of that level. Arguments and results as for
    `fenwick_product`.
    """
    check_levels(q, k, v, weights, inclusive)
    states: States = {}
    outputs = []
    for t in range(q.shape[-2]):
        new = k[..., t, :, None] * v[..., t, None, :]
        states = advance(states, new, t, inclusive=inclusive)
        read = sum(weights[..., t, level, None, None] * S for level, S in states.items())
        outputs.append((q[..., t, None, :] @ read)[..., 0, :])
    return torch.stack(outputs, dim=-2)


@widened
def fenwick_product(
    q: Float[Tensor, "... T F"],
    k: Float[Tensor, "... T F"],
    v: Float[Tensor, "... T M"],
    weights: Float[Tensor, "... T L"],
    *,
    inclusive: bool = False,
) -> Float[Tensor, "... T M"]:
    """o[t] = sum over s <= t of weights[t, level(t, s)] (q[t] . k[s]) v[s], from all pairs.

    Args:
        q, k: Float["... T F"].
        v: Float["... T M"].
        weights: weight of every level at every step; L at least `level_count(T)`.
        inclusive: whether to use the other convention of levels.

    Returns:
        Float["... T M"].

    Raises:
        ValueError: the shapes differ, T is 0, or there are too few levels.

    Cost: T^2 (F + M) operations and memory for T^2 numbers.
    """
    check_levels(q, k, v, weights, inclusive)
    return pairs(q, k, v, weights, level_map(q.shape[-2], inclusive=inclusive, device=q.device))


@widened
def fenwick_product_chunked(
    q: Float[Tensor, "... T F"],
    k: Float[Tensor, "... T F"],
    v: Float[Tensor, "... T M"],
    weights: Float[Tensor, "... T L"],
    *,
    inclusive: bool = False,
    chunk: int = 32,
) -> Float[Tensor, "... T M"]:
    """`fenwick_product` in O(T log T): pairs within chunks, and sums over whole earlier chunks.

    Every step in a chunk sees the same partition of earlier chunks, and a level of 2^j chunks is
    the first half of an interval of 2^(j+1) chunks. Therefore one pass of pairwise chunk sums
    serves all levels.

    Args:
        chunk: number of steps in a chunk, a power of two. Other arguments as `fenwick_product`.

    Raises:
        ValueError: as for `fenwick_product`, or the chunk is not a power of two.

    Cost: T (chunk (F + M) + log2(T / chunk) F M) operations.
    """
    check_levels(q, k, v, weights, inclusive)
    check_chunk(chunk)
    T = q.shape[-2]
    if chunk >= T:
        return fenwick_product(q, k, v, weights, inclusive=inclusive)
    if inclusive:  # equals reading one step later, without a level for the step itself
        q, weights, k, v = _later(q), _later(pad(weights, (1, 0))), _longer(k, 1), _longer(v, 1)
    missing = -q.shape[-2] % chunk
    parts = (_longer(part, missing).unflatten(-2, (-1, chunk)) for part in (q, k, v, weights))
    q, k, v, weights = parts
    o = pairs(q, k, v, weights, level_map(chunk, device=q.device))
    o = (o + _chunks_before(q, k.mT @ v, weights, chunk)).flatten(-3, -2)
    return o[..., int(inclusive) : int(inclusive) + T, :]


def pairs(
    q: Float[Tensor, "... T F"],
    k: Float[Tensor, "... S F"],
    v: Float[Tensor, "... S M"],
    weights: Float[Tensor, "... T L"],
    levels: Int64[Tensor, "... T S"],
) -> Float[Tensor, "... T M"]:
    """The product over all pairs of reading and writing steps of these levels, -1 for none."""
    by_pair = weights.gather(-1, levels.clamp_min(0).expand(*weights.shape[:-2], -1, -1))
    return ((q @ k.mT) * by_pair).masked_fill(levels < 0, 0) @ v


def _chunks_before(q: Tensor, sums: Tensor, weights: Tensor, chunk: int) -> Tensor:
    """["... C chunk M"]: the contribution of earlier chunks, whose sums are ["... C F M"]."""
    C, level = q.shape[-3], chunk.bit_length()
    o = torch.zeros_like(q[..., :1] * sums[..., :1, :])
    for j in range((C - 1).bit_length()):
        # Chunks in the second half of an interval of 2^(j+1) chunks read the first half.
        later = torch.tensor([n for n in range(C) if n >> j & 1], device=q.device)
        source = sums.index_select(-3, later >> (j + 1) << 1)
        weight = weights[..., level + j, None].index_select(-3, later)
        o = o.index_add(-3, later, weight * (q.index_select(-3, later) @ source))
        if sums.shape[-3] % 2:
            sums = pad(sums, (0, 0, 0, 0, 0, 1))
        sums = sums[..., 0::2, :, :] + sums[..., 1::2, :, :]
    return o


def _later(x: Tensor) -> Tensor:
    """Prepend one step of zeros to "... T N"."""
    return pad(x, (0, 0, 1, 0))


def _longer(x: Tensor, steps: int) -> Tensor:
    """Append steps of zeros to "... T N"."""
    return pad(x, (0, 0, 0, steps))


def check_chunk(chunk: int) -> None:
    """Check the number of steps in a chunk.

    Raises:
        ValueError: it is no power of two.
    """
    if chunk < 1 or chunk & (chunk - 1):
        raise ValueError(f"the chunk is {chunk}; it must be a power of two")


def check_levels(
    q: Float[Tensor, "... T F"],
    k: Float[Tensor, "... T F"],
    v: Float[Tensor, "... T M"],
    weights: Float[Tensor, "... T L"],
    inclusive: bool,
) -> None:
    """Check the shapes of a product, and that there are enough levels.

    Raises:
        ValueError: the shapes differ, T is 0, or there are too few levels.
    """
    shapes = [tuple(part.shape) for part in (q, k, v, weights)]
    if q.shape != k.shape or len({shape[:-1] for shape in shapes}) > 1 or q.shape[-2] == 0:
        raise ValueError(
            f"q, k, v and weights are {shapes}; they must share all but the last axis, "
            "q and k that too, and have at least one step"
        )
    needed = level_count(q.shape[-2], inclusive=inclusive)
    if weights.shape[-1] < needed:
        raise ValueError(
            f"{weights.shape[-1]} levels, and {q.shape[-2]} steps need {needed}: give more weights"
        )
