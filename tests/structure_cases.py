"""All structured matrices with their definitions, against which one suite holds each of them.

A new structure adds a row to `CASES`, and tests/linalg/test_structures.py holds it to everything
that the others hold to.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from scan_cases import FIELDS, REAL, Random
from torch import Tensor

from lab.linalg import (
    DPLR,
    HODLR,
    BlockCirculantMatrix,
    CauchyLike,
    CirculantMatrix,
    MonarchMatrix,
    Routed,
    Structured,
    householder_product,
)
from lab.linalg.displacement import chebyshev_nodes, zero_diagonal
from lab.linalg.hss import Level


@dataclass(frozen=True)
class Case:
    """A structure, a draw of its parts, and its definition.

    Args:
        name: of the structure.
        sizes: of matrices, as `draw` takes them; the last one is for gradients.
        draw: (random, batch, *size) -> parts; some may have no axes of a batch.
        build: parts -> the structure.
        define: parts -> the dense matrix, entry by entry.
        invertible: parts -> parts whose matrix is well-conditioned.
        has: which of mT, solve and after there are.
        dtypes: in double precision.
    """

    name: str
    sizes: tuple[tuple[int, ...], ...]
    draw: Callable[..., list[Tensor]]
    build: Callable[..., Structured]
    define: Callable[..., Tensor]
    invertible: Callable[..., list[Tensor]] = field(default=lambda *parts: list(parts))
    has: frozenset[str] = frozenset({"mT", "solve", "after"})
    dtypes: tuple[torch.dtype, ...] = FIELDS


def stream_of(seed: int, dtype: torch.dtype = torch.float64) -> Random:
    return Random(dtype, torch.Generator().manual_seed(seed))


def entries(n: int, entry: Callable[[int, int], Tensor]) -> Tensor:
    """The matrices ["... n n"] with these entries ["..."]."""
    each = torch.broadcast_tensors(*(entry(i, j) for i in range(n) for j in range(n)))
    return torch.stack(each, dim=-1).unflatten(-1, (n, n))


def apart(x: Tensor, size: Tensor | float) -> Tensor:
    """x, larger by `size`, so that it keeps clear of zero."""
    return x.sgn() * (x.abs() + size)


# --- DPLR ----------------------------------------------------------------------------------------


def draw_dplr(random, batch, N, r):
    # P is shared by a batch.
    return [random.normal(*batch, N), random.normal(N, r), random.normal(*batch, N, r)]


def draw_mixed(random, batch, N, r):
    diagonal, P, Q = draw_dplr(random, batch, N, r)
    return [torch.complex(diagonal, random.normal(*batch, N)), P, Q]


def define_dplr(diagonal, P, Q):
    def entry(i, j):
        return (P[..., i, :] * Q[..., j, :]).sum(-1) + diagonal[..., i] * (i == j)

    return entries(diagonal.shape[-1], entry)


def invertible_dplr(diagonal, P, Q):
    return [apart(diagonal, 1 + 2 * (P.abs() @ Q.mT.abs()).sum(-1)), P, Q]


def draw_steps(random, batch, N, C):
    return [random.normal(*batch, C, N), random.normal(*batch, C)]


def define_householders(k, beta):
    eye = torch.eye(k.shape[-1], dtype=k.dtype)
    A = eye.expand(*beta.shape[:-1], *eye.shape)
    for t in range(k.shape[-2]):
        A = (eye - beta[..., t, None, None] * k[..., t, :, None] * k[..., t, None, :]) @ A
    return A


# --- Cauchy-like ---------------------------------------------------------------------------------


def draw_cauchy(random, batch, n, r):
    G = random.normal(n, r) / n
    H = zero_diagonal(G.expand(*batch, n, r), random.normal(*batch, n, r))
    return [chebyshev_nodes(n), random.normal(*batch, n), G, H]


def define_cauchy(nodes, diagonal, G, H):
    def entry(i, j):
        if i == j:
            return diagonal[..., i]
        return (G[..., i, :] * H[..., j, :]).sum(-1) / (nodes[i] - nodes[j])

    return entries(len(nodes), entry)


# --- HODLR ---------------------------------------------------------------------------------------


def draw_hodlr(random, batch, leaf, depth, r, s):
    """Leaves, and U, W and V of every level, of matrices with leaf * 2^depth rows."""
    parts = [random.normal(*batch, 1 << depth, leaf, leaf)]
    for level in range(depth):
        n, b = 1 << depth >> level, leaf << level
        # W has more axes of a batch than the bases, which are shared.
        parts += [random.normal(n, b, r), random.normal(*batch, n, r, s), random.normal(n, b, s)]
    return parts


def tree(*parts):
    levels = zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    return HODLR(parts[0], tuple(Level(*level) for level in levels))


def define_hodlr(leaves, *levels):
    """Block by block."""
    *batch, p, leaf, _ = leaves.shape
    A = torch.zeros(*batch, p * leaf, p * leaf, dtype=leaves.dtype)
    for i in range(p):
        own = slice(i * leaf, (i + 1) * leaf)
        A[..., own, own] = leaves[..., i, :, :]
    for U, W, V in zip(levels[::3], levels[1::3], levels[2::3], strict=True):
        n, b = U.shape[-3:-1]
        for i in range(n):
            j = i + 1 if i % 2 == 0 else i - 1
            block = U[..., i, :, :] @ W[..., i, :, :] @ V[..., j, :, :].mT
            A[..., i * b : (i + 1) * b, j * b : (j + 1) * b] = block
    return A


def invertible_hodlr(leaves, *levels):
    # Dominant leaves keep all diagonal blocks well-conditioned, which the solve asks for.
    size = tree(leaves, *levels).to_dense().abs().sum(-1).max()
    return [leaves + 2 * size * torch.eye(leaves.shape[-1]).to(leaves), *levels]


# --- routed --------------------------------------------------------------------------------------


def draw_colliding(random, batch, N):
    target = torch.randint(N, (*batch, N), generator=random.generator)
    return [target, random.normal(*batch, N)]


def draw_permuted(random, batch, N):
    # Targets are shared by a batch.
    return [torch.randperm(N, generator=random.generator), random.normal(*batch, N)]


def define_routed(target, gains):
    def entry(i, j):
        return gains[..., j] * (target[..., j] == i)

    return entries(target.shape[-1], entry)


# --- circulant and Monarch -----------------------------------------------------------------------


def define_circulant(column):
    n = column.shape[-1]
    return entries(n, lambda i, j: column[..., (i - j) % n])


def invertible_circulant(column):
    first = torch.eye(column.shape[-1], dtype=column.dtype)[0]
    return [column + 2 * column.abs().sum(-1, keepdim=True) * first]


def define_blocks(blocks):
    k, p = blocks.shape[-3:-1]

    def entry(i, j):
        return blocks[..., (i // p - j // p) % k, i % p, j % p]

    return entries(k * p, entry)


def invertible_blocks(blocks):
    k, p = blocks.shape[-3:-1]
    first = torch.eye(k, dtype=blocks.dtype)[0, :, None, None] * torch.eye(p, dtype=blocks.dtype)
    return [blocks + 2 * blocks.abs().sum((-3, -2, -1), keepdim=True) * first]


def define_monarch(L, R):
    b = L.shape[-1]

    def entry(i, j):
        (r, c), (s, d) = divmod(i, b), divmod(j, b)
        return L[..., c, r, s] * R[..., s, c, d]

    return entries(b * b, entry)


def invertible_monarch(*factors):
    return [
        each + 2 * each.abs().sum((-2, -1), keepdim=True) * torch.eye(each.shape[-1]).to(each)
        for each in factors
    ]


CASES = (
    Case("DPLR", ((1, 0), (1, 1), (5, 0), (6, 2), (3, 2)), draw_dplr, DPLR, define_dplr,
         invertible_dplr),
    Case("DPLR of real and complex parts", ((1, 1), (3, 2)), draw_mixed, DPLR, define_dplr,
         invertible_dplr, dtypes=REAL),
    Case("product of Householder matrices", ((1, 1), (1, 2), (5, 3), (4, 2)), draw_steps,
         householder_product, define_householders,
         lambda k, beta: [k, 2 / k.square().sum(-1)], dtypes=REAL),
    Case("Cauchy-like", ((1, 0), (1, 1), (6, 3), (5, 2)), draw_cauchy, CauchyLike, define_cauchy,
         has=frozenset({"mT", "after"}), dtypes=REAL),
    Case("HODLR", ((1, 0, 1, 1), (3, 0, 1, 1), (3, 1, 2, 1), (1, 3, 1, 2), (1, 2, 0, 0),
                   (2, 2, 1, 2)), draw_hodlr, tree, define_hodlr, invertible_hodlr),
    Case("permuted", ((1,), (6,), (5,)), draw_permuted, Routed, define_routed,
         lambda target, gains: [target, apart(gains, 0.5)]),
    Case("circulant", ((1,), (2,), (8,), (5,)),
         lambda random, batch, n: [random.normal(*batch, n)], CirculantMatrix, define_circulant,
         invertible_circulant, dtypes=REAL),
    Case("block-circulant", ((1, 1), (1, 3), (2, 2), (5, 1), (4, 2), (3, 2)),
         lambda random, batch, k, p: [random.normal(*batch, k, p, p)], BlockCirculantMatrix,
         define_blocks, invertible_blocks, dtypes=REAL),
    Case("Monarch", ((1,), (3,), (2,)),
         # The second factor is shared by a batch.
         lambda random, batch, b: [random.normal(*batch, b, b, b), random.normal(b, b, b)],
         MonarchMatrix, define_monarch, invertible_monarch, has=frozenset({"solve"})),
)  # fmt: skip

# Columns that collide: neither a transpose nor an inverse.
COLLIDING = Case(
    "colliding", ((1,), (6,), (5,)), draw_colliding, Routed, define_routed, has=frozenset({"after"})
)
