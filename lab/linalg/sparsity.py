"""N:M sparse masks: at most N of every M neighbouring entries of a row are kept.

A mask is Bool["... b b"], [row out, column in], and its groups of M lie along the columns, which
are the input of a block. `grouping` ["... b"] lists the columns in another order, of which the
first M are one group, the next M another: a permutation of the input that stays in the product.

Source: Mishra et al. 2021, Accelerating sparse deep neural networks (2:4); Zhou et al. 2021,
Learning N:M fine-grained structured sparse neural networks from scratch (the gradient).
"""

import math
from collections.abc import Iterator
from functools import cache
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Inexact, Int64, Shaped
from torch import Tensor

GROUP = 4
KEPT = 2


def magnitude_mask(
    size: Float[Tensor, "... b b"], grouping: Int64[Tensor, "... b"] | None = None
) -> Bool[Tensor, "... b b"]:
    """The two largest of every four entries of a row.

    Args:
        size: how large each entry counts, such as its square.
        grouping: one order of columns for every block; their own if None.

    Raises:
        ValueError: b is not a multiple of four.
    """
    _check_side(size.shape[-1])
    order = None if grouping is None else grouping[..., None, :].expand(size.shape)
    grouped = size if order is None else size.gather(-1, order)
    kept = _largest(grouped.unflatten(-1, (-1, GROUP)), KEPT).flatten(-2)
    return kept if order is None else kept.gather(-1, order.argsort(-1))


def unstructured_mask(size: Float[Tensor, "... b b"]) -> Bool[Tensor, "... b b"]:
    """The larger half of all entries of a block, wherever they are."""
    entries = size.flatten(-2)
    return _largest(entries, entries.shape[-1] // 2).unflatten(-1, size.shape[-2:])


def aligned_mask(b: int) -> Bool[Tensor, "b b"]:
    """A 2:4 mask that contains O(b/2) x O(b/2).

    Rows and columns whose number is 0 or 1 modulo 4 form one dense square, and all others another.
    Every row keeps two of four, and so does every column.

    Raises:
        ValueError: b is not a multiple of four.
    """
    first = torch.arange(_check_side(b)) % GROUP < KEPT
    return first[:, None] == first


def aligned_blocks(
    halves: Inexact[Tensor, "... 2 half half"],
) -> Inexact[Tensor, "... 2*half 2*half"]:
    """Blocks inside `aligned_mask` from their two dense squares, each of half their side.

    Raises:
        ValueError: there are not two squares of an even side.
    """
    if halves.ndim < 3 or halves.shape[-3] != 2 or halves.shape[-1] != halves.shape[-2]:
        raise ValueError(f"two squares, (..., 2, b/2, b/2), are one block, got {halves.shape}")
    b = 2 * halves.shape[-1]
    number = torch.arange(_check_side(b), device=halves.device)
    places = torch.stack([number[number % GROUP < KEPT], number[number % GROUP >= KEPT]])
    spread = torch.eye(b, dtype=halves.dtype, device=halves.device)[places]  # "2 b/2 b"
    return torch.einsum("sib,...sij,sjd->...bd", spread, halves, spread)


def random_mask(*shape: int, generator: torch.Generator | None = None) -> Bool[Tensor, "... b b"]:
    """A 2:4 mask of the given shape, uniform among those with a permutation in their support.

    A mask without one has determinant zero, whatever its entries are; it is drawn again.

    Raises:
        ValueError: the last size is not a multiple of four.
    """
    mask = magnitude_mask(torch.rand(shape, generator=generator))
    blocks = mask.view(-1, *shape[-2:])
    for block in blocks:
        while matching(block)[1] < shape[-1]:
            block.copy_(magnitude_mask(torch.rand(block.shape, generator=generator)))
    return mask


def matching(mask: Bool[Tensor, "b b"]) -> tuple[Bool[Tensor, "b b"], int]:
    """A largest set of kept entries that share no row and no column.

    Its size is the rank of a matrix whose kept entries are generic.

    Returns:
        The entries and their number; where that is b, they are a permutation.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    columns = maximum_bipartite_matching(csr_array(mask.numpy()), perm_type="column")
    chosen = torch.zeros_like(mask)
    rows = [row for row, column in enumerate(columns) if column >= 0]
    chosen[rows, torch.as_tensor(columns[rows], dtype=torch.int64)] = True
    return chosen, len(rows)


def is_two_four(
    A: Shaped[Tensor, "... rows b"], grouping: Int64[Tensor, "... b"] | None = None
) -> bool:
    """Whether at most two of every four entries of a row differ from zero, in all blocks."""
    _check_side(A.shape[-1])
    order = None if grouping is None else grouping[..., None, :].expand(A.shape)
    grouped = A if order is None else A.gather(-1, order)
    return bool(((grouped.unflatten(-1, (-1, GROUP)) != 0).sum(-1) <= KEPT).all())


# --- groupings -----------------------------------------------------------------------------------


def grouping_count(b: int) -> int:
    """In how many ways b columns form groups of four: b! / (4!^(b/4) (b/4)!).

    Two input permutations with the same groups allow the same matrices, so this is how many
    permutations of a block's input are different.

    Raises:
        ValueError: b is not a multiple of four.
    """
    groups = _check_side(b) // GROUP
    return math.factorial(b) // (math.factorial(GROUP) ** groups * math.factorial(groups))


@cache
def groupings(b: int) -> Int64[Tensor, "count b"]:
    """All groupings of b columns, the natural one first.

    Raises:
        ValueError: b is not a multiple of four, or above 12: at 16 there are 2,627,625.
    """
    if b > 12:
        raise ValueError(f"{grouping_count(b):,} groupings of {b} columns are too many to list")
    _check_side(b)
    return torch.tensor(list(_partitions(tuple(range(b)))))


def kept_share(
    size: Float[Tensor, "... b b"], grouping: Int64[Tensor, "count b"]
) -> Float[Tensor, "... count"]:
    """The share of all size, such as squares of entries, that each grouping of a block keeps."""
    grouped = size[..., grouping].movedim(-2, -3).unflatten(-1, (-1, GROUP))  # "... count b b/4 4"
    kept = grouped.topk(KEPT, dim=-1).values.flatten(-3).sum(-1)
    return kept / size.sum((-1, -2))[..., None]


def best_grouping(size: Float[Tensor, "... b b"]) -> Int64[Tensor, "... b"]:
    """For every block the grouping whose 2:4 mask keeps most."""
    every = groupings(size.shape[-1]).to(size.device)
    return every[kept_share(size, every).argmax(-1)]


# --- gradients -----------------------------------------------------------------------------------


def pruned(
    A: Inexact[Tensor, "*batch b b"],
    mask: Bool[Tensor, "*#batch b b"],
    *,
    straight_through: bool = False,
) -> Inexact[Tensor, "*batch b b"]:
    """A where the mask is true, zero elsewhere.

    With `straight_through`, the gradient goes to all entries as if none had been dropped, so that a
    dropped entry can grow until it is kept again.
    """
    kept = torch.where(mask, A, torch.zeros_like(A))
    return kept + (A - A.detach()) * ~mask if straight_through else kept


def _largest(size: Tensor, count: int) -> Tensor:
    """Bool["... n"]: the `count` largest of every row; of equal ones, those that come first."""
    order = size.argsort(dim=-1, descending=True, stable=True)
    return order.argsort(-1) < count


def _partitions(left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All groupings of some columns, the groups and their members in order."""
    if not left:
        yield ()
        return
    for others in combinations(left[1:], GROUP - 1):
        rest = tuple(each for each in left[1:] if each not in others)
        for following in _partitions(rest):
            yield (left[0], *others, *following)


def _check_side(b: int) -> int:
    if b < GROUP or b % GROUP:
        raise ValueError(f"2:4 masks need a side that is a multiple of four, got {b}")
    return b
