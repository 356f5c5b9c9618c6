"""Matrices whose off-diagonal blocks have low rank, at every level of a binary tree (HODLR).

The d rows and columns are halved until p = d/m leaves of m rows are left. A node with the halves i
and j, of b rows each, has two off-diagonal blocks of rank at most r, whose couplings W are
independent:

    rows of i, columns of j: U[i] W[i] V[j]^T        rows of j, columns of i: U[j] W[j] V[i]^T

Hierarchically semiseparable (HSS) matrices are those whose bases are nested: those of a node are
linear in those of its halves. Here the bases of every level are independent, which holds all HSS
matrices and more.

Source: Xia, Chandrasekaran, Gu & Li 2010, Fast algorithms for hierarchically semiseparable
matrices; Ambikasaran & Darve 2013, An O(N log N) fast direct solver (the solve by levels).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Inexact
from torch import Tensor
from torch.nn.functional import pad

from lab.linalg.precision import widened
from lab.linalg.structure import Structured, with_one_batch


class Level(NamedTuple):
    """The off-diagonal blocks of all nodes whose n halves have b rows.

    Attributes:
        U: bases of the rows, by half.
        W: couplings, by the half of the rows.
        V: bases of the columns, by half.
    """

    U: Inexact[Tensor, "... n b r"]
    W: Inexact[Tensor, "... n r s"]
    V: Inexact[Tensor, "... n b s"]


@dataclass(frozen=True)
class HODLR(Structured):
    """A matrix ["... d d"] of dense leaves on the diagonal and blocks of low rank off it.

    Args:
        leaves: the p blocks of m rows on the diagonal; d is p m.
        levels: from the finest, whose halves are the leaves, to the two halves of the matrix.

    Raises:
        ValueError: a level has not half as many halves as the one below it, of twice the size.
    """

    leaves: Inexact[Tensor, "... p m m"]
    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        p, m = self.leaves.shape[-3], self.leaves.shape[-1]
        for depth, level in enumerate(self.levels):
            n, b = p >> depth, m << depth
            sizes = [tuple(part.shape[-3:-1]) for part in (level.U, level.V)]
            shape = (level.U.shape[-1], level.V.shape[-1])
            if sizes != [(n, b), (n, b)] or level.W.shape[-3:] != (n, *shape):
                shapes = ", ".join(str(tuple(part.shape)) for part in level)
                wanted = f"(..., {n}, {b}, r), (..., {n}, r, s) and (..., {n}, {b}, s)"
                raise ValueError(f"U, W and V of level {depth} must be {wanted}, got {shapes}")
        if p != 1 << len(self.levels):
            raise ValueError(f"{p} leaves need log2({p}) levels, got {len(self.levels)}")
        parts = [self.leaves, *(part for level in self.levels for part in level)]
        parts = with_one_batch(*((part, 3) for part in parts))
        triples = zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
        object.__setattr__(self, "leaves", parts[0])
        object.__setattr__(self, "levels", tuple(Level(*triple) for triple in triples))

    @property
    def numbers(self) -> int:
        """How many numbers one matrix has in leaves, bases and couplings."""
        parts = [self.leaves, *(part for level in self.levels for part in level)]
        return sum(part.shape[-3:].numel() for part in parts)

    @property
    def multiplications(self) -> int:
        """As many as `numbers`: a product with a vector uses each of them once."""
        return self.numbers

    @property
    def mT(self) -> "HODLR":
        """The transpose."""
        levels = (Level(V, _siblings(W).mT, U) for U, W, V in self.levels)
        return HODLR(self.leaves.mT, tuple(levels))

    def to_dense(self) -> Inexact[Tensor, "... d d"]:
        """The definition, which every product and inverse here must agree with."""
        blocks = self.leaves
        for U, W, V in self.levels:
            blocks = _joined(blocks, U @ W @ _siblings(V).mT)
        return blocks[..., 0, :, :]

    @widened
    def __matmul__(self, x: Inexact[Tensor, "... d k"]) -> Inexact[Tensor, "... d k"]:
        """The product with x, at a cost of about 2 d r log2(d / m) k instead of d^2 k."""
        return self._inside(x, len(self.levels))

    def after(self, earlier: "HODLR") -> "HODLR":
        """The product self @ earlier of matrices of equal sizes, exactly.

        Its rank on a level is the sum of both, and of that of one for every level above: it grows
        with each product, and without truncation (`compress`) nothing is saved after a few.

        Cost: about d r^2 log2(d / m)^2, where r is the rank of both.
        """
        batch = torch.broadcast_shapes(self.leaves.shape[:-3], earlier.leaves.shape[:-3])
        later, earlier = self._repeated(batch), earlier._repeated(batch)
        middles = [
            one.W @ _siblings(one.V.mT @ two.U @ two.W)
            for one, two in zip(later.levels, earlier.levels, strict=True)
        ]
        # A block inside a half sees the blocks of all larger halves through their other half.
        shared = [
            (one.U, middle, two.V)
            for one, middle, two in zip(later.levels, middles, earlier.levels, strict=True)
        ]
        leaves, m = later.leaves @ earlier.leaves, later.leaves.shape[-1]
        for part in shared:
            U, W, V = _cut(*part, m)
            leaves = leaves + U @ W @ V.mT
        levels = []
        for depth, (one, two) in enumerate(zip(later.levels, earlier.levels, strict=True)):
            n, b = one.U.shape[-3:-1]
            left = later._inside(two.U.flatten(-3, -2), depth).unflatten(-2, (n, b))
            right = earlier.mT._inside(one.V.flatten(-3, -2), depth).unflatten(-2, (n, b))
            cuts = [_cut(*part, b) for part in shared[depth + 1 :]]
            U = torch.cat([left, one.U, *(cut[0] for cut in cuts)], dim=-1)
            V = torch.cat([two.V, right, *(cut[2] for cut in cuts)], dim=-1)
            levels.append(Level(U, _block_diagonal([two.W, one.W, *(c[1] for c in cuts)]), V))
        return HODLR(leaves, tuple(levels))

    @widened
    def solve(self, x: Inexact[Tensor, "... d k"]) -> Inexact[Tensor, "... d k"]:
        """The inverse times x, from the leaves up, with a system of 2 r rows for each node.

        With D the blocks of both halves, D + U W V^T has the inverse
        D^-1 - D^-1 U (I + W V^T D^-1 U)^-1 W V^T D^-1 (Woodbury).

        Cost: about d (m^2 + r^2 log2(d / m)^2 + k r log2(d / m)).
        Precision: all blocks on the diagonal, of every size, must be well-conditioned, and not only
        the whole.
        """
        bases = [level.U.flatten(-3, -2) for level in reversed(self.levels)]
        batch = torch.broadcast_shapes(x.shape[:-2], self.leaves.shape[:-3])
        columns = [each.expand(*batch, *each.shape[-2:]) for each in (x, *bases)]
        p, m = self.leaves.shape[-3:-1]
        rest = torch.cat(columns, dim=-1).unflatten(-2, (p, m))
        rest = torch.linalg.solve(self.leaves, rest).flatten(-3, -2)
        for U, W, V in self.levels:
            n, b, r = U.shape[-3:]
            parts = rest.unflatten(-2, (n, b))
            own, parts = parts[..., parts.shape[-1] - r :], parts[..., : parts.shape[-1] - r]
            coupled, right = (W @ _siblings(V.mT @ each) for each in (own, parts))
            eye = torch.eye(r, dtype=coupled.dtype, device=coupled.device)
            core = _joined(eye.expand_as(coupled), coupled)
            y = torch.linalg.solve(core, right.unflatten(-3, (-1, 2)).flatten(-3, -2))
            rest = (parts - own @ y.unflatten(-2, (2, r)).flatten(-4, -3)).flatten(-3, -2)
        return rest

    def _repeated(self, batch: tuple[int, ...]) -> "HODLR":
        """The same with more axes of a batch."""
        return HODLR(self.leaves.expand(*batch, *self.leaves.shape[-3:]), self.levels)

    def _inside(self, x: Inexact[Tensor, "... d k"], depth: int) -> Inexact[Tensor, "... d k"]:
        """The product with the blocks on the diagonal that the first `depth` levels make up."""
        y = (self.leaves @ x.unflatten(-2, self.leaves.shape[-3:-1])).flatten(-3, -2)
        for U, W, V in self.levels[:depth]:
            read = V.mT @ x.unflatten(-2, V.shape[-3:-1])
            y = y + (U @ (W @ _siblings(read))).flatten(-3, -2)
        return y


def compress(A: Inexact[Tensor, "... d d"], *, leaf: int, rank: int) -> HODLR:
    """The HODLR matrix of at most that rank which is nearest to A, block by block.

    Blocks of at most `rank` rows are kept as they are, and of all larger ones the largest singular
    values. That is the nearest of all HODLR matrices of this shape, since blocks do not overlap.

    Args:
        A: any matrix.
        leaf: m, rows of a leaf.
        rank: r.

    Raises:
        ValueError: d is not the leaf times a power of two, or the rank is negative.
    """
    levels = []
    for b in level_sizes(A.shape[-1], leaf, rank):
        n = A.shape[-1] // b
        half = torch.arange(n, device=A.device)
        tiles = A.unflatten(-1, (n, b)).unflatten(-3, (n, b)).movedim(-2, -3)
        off = tiles[..., half, half ^ 1, :, :]
        if b <= rank:
            eye = torch.eye(b, dtype=A.dtype, device=A.device).expand_as(off)
            levels.append(Level(eye, off, eye))
        else:
            U, s, Vh = torch.linalg.svd(off, full_matrices=False)
            W = torch.diag_embed(s[..., :rank]).to(A.dtype)
            levels.append(Level(U[..., :rank], W, _siblings(Vh.mT[..., :rank])))
    p = A.shape[-1] // leaf
    number = torch.arange(p, device=A.device)
    tiles = A.unflatten(-1, (p, leaf)).unflatten(-3, (p, leaf)).movedim(-2, -3)
    return HODLR(tiles[..., number, number, :, :], tuple(levels))


def level_sizes(d: int, leaf: int, rank: int) -> list[int]:
    """The sizes b of the halves of every level, from the leaves to d/2.

    Raises:
        ValueError: d is not the leaf times a power of two, or the rank is negative.
    """
    p = d // leaf if leaf > 0 else 0
    if p < 1 or p * leaf != d or p & (p - 1) or rank < 0:
        raise ValueError(
            f"a leaf of {leaf} and a rank of {rank} for {d} rows: d must be the leaf times a power "
            "of two, and the rank at least 0"
        )
    return [leaf << depth for depth in range(p.bit_length() - 1)]


def coupling_numbers(d: int, *, leaf: int, rank: int) -> int:
    """Numbers in leaves and couplings: d m + sum over levels of (d/b) min(r, b)^2.

    Raises:
        ValueError: as for `level_sizes`.
    """
    return d * leaf + sum(d // b * min(rank, b) ** 2 for b in level_sizes(d, leaf, rank))


def _siblings(x: Tensor) -> Tensor:
    """["... n a c"]: for every half, what belongs to the other half of its node."""
    return x.unflatten(-3, (-1, 2)).flip(-3).flatten(-4, -3)


def _joined(own: Tensor, off: Tensor) -> Tensor:
    """["... n/2 2a 2a"]: the matrix of every node, from blocks ["... n a a"] on and off it."""
    own, off = (x.unflatten(-3, (-1, 2)) for x in (own, off))
    upper = torch.cat([own[..., 0, :, :], off[..., 0, :, :]], dim=-1)
    lower = torch.cat([off[..., 1, :, :], own[..., 1, :, :]], dim=-1)
    return torch.cat([upper, lower], dim=-2)


def _cut(U: Tensor, W: Tensor, V: Tensor, b: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same blocks on the diagonal, restricted to their own diagonal blocks of b rows."""
    parts = U.shape[-2] // b
    U, V = (basis.unflatten(-2, (parts, b)).flatten(-4, -3) for basis in (U, V))
    return U, W.repeat_interleave(parts, dim=-3), V


def _block_diagonal(blocks: list[Tensor]) -> Tensor:
    """["... n R S"]: blocks ["... n r s"] along a diagonal."""
    width = sum(block.shape[-1] for block in blocks)
    rows, left = [], 0
    for block in blocks:
        rows.append(pad(block, (left, width - left - block.shape[-1])))
        left += block.shape[-1]
    return torch.cat(rows, dim=-2)
