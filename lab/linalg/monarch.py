"""Monarch matrices with two factors, and orthogonal blocks for these factors.

A state h ["b²"] is viewed as a grid H ["b b"], H[r, c] = h[b r + c]. The stride permutation P
transposes the grid. A Monarch matrix P^T L P R mixes first within every row r by the block R[r],
and then within every column c by the block L[c]. It has 2 b³ numbers instead of b⁴.

Source: Dao et al. 2022, Monarch: expressive structured matrices for efficient and accurate
training.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Inexact, Int64
from torch import Tensor

from lab.linalg.precision import widened
from lab.linalg.structure import Structured, solved, with_one_batch


def grid_side(N: int) -> int:
    """The side b of the grid with N = b² states.

    Raises:
        ValueError: N is not a square number.
    """
    b = math.isqrt(max(N, 0))
    if N < 1 or b * b != N:
        raise ValueError(f"a Monarch matrix needs a square number of states, got {N}")
    return b


def stride_permutation(b: int) -> Int64[Tensor, "N"]:
    """h[stride_permutation(b)] is the transposed grid. It is its own inverse."""
    return torch.arange(b * b).view(b, b).mT.flatten()


@widened
def monarch_product(
    L: Inexact[Tensor, "... b b b"], R: Inexact[Tensor, "... b b b"], h: Inexact[Tensor, "... b*b"]
) -> Inexact[Tensor, "... b*b"]:
    """P^T L P R h, computed with matrices of at most b columns.

    Args:
        L: block c acts on column c of the grid: [c, row out, row in].
        R: block r acts on row r of the grid: [r, column out, column in].
        h: Float["... b²"].

    Returns:
        Float["... b²"].

    Raises:
        ValueError: there are not b blocks of (b, b), or h does not have b² entries.
    """
    b = _side(L, R)
    if h.shape[-1] != b * b:
        raise ValueError(f"blocks of side {b} act on {b * b} states, got {h.shape[-1]}")
    rows = torch.einsum("...rij,...rj->...ri", R, h.unflatten(-1, (b, b)))
    return torch.einsum("...cij,...jc->...ic", L, rows).flatten(-2)


@widened
def monarch_dense(
    L: Inexact[Tensor, "... b b b"], R: Inexact[Tensor, "... b b b"]
) -> Inexact[Tensor, "... b*b b*b"]:
    """The matrix ["... b² b²"] of `monarch_product`: [(r, c), (s, d)] = L[c, r, s] R[s, c, d].

    Raises:
        ValueError: there are not b blocks of (b, b).
    """
    _side(L, R)
    return torch.einsum("...crs,...scd->...rcsd", L, R).flatten(-2).flatten(-3, -2)


@dataclass(frozen=True)
class MonarchMatrix(Structured):
    """The matrix P^T L P R of `monarch_dense`, applied and inverted factor by factor.

    It has no `after` and no transpose: products of two and transposes (R^T P^T L^T P) are Monarch
    matrices no more.

    Args:
        L: block c acts on column c of the grid.
        R: block r acts on row r of the grid.

    Raises:
        ValueError: there are not b blocks of (b, b).
    """

    L: Inexact[Tensor, "... b b b"]
    R: Inexact[Tensor, "... b b b"]

    def __post_init__(self) -> None:
        _side(self.L, self.R)
        L, R = with_one_batch((self.L, 3), (self.R, 3))
        object.__setattr__(self, "L", L)
        object.__setattr__(self, "R", R)

    @property
    def numbers(self) -> int:
        """2 b^3, which is 2 n sqrt(n)."""
        return 2 * self.L.shape[-1] ** 3

    @property
    def multiplications(self) -> int:
        """2 b^3."""
        return self.numbers

    def to_dense(self) -> Inexact[Tensor, "... n n"]:
        """`monarch_dense`."""
        return monarch_dense(self.L, self.R)

    @widened
    def __matmul__(self, x: Inexact[Tensor, "... n k"]) -> Inexact[Tensor, "... n k"]:
        """`monarch_product`."""
        return monarch_product(self.L[..., None, :, :, :], self.R[..., None, :, :, :], x.mT).mT

    @widened
    def solve(self, x: Inexact[Tensor, "... n k"]) -> Inexact[Tensor, "... n k"]:
        """The inverse times x: b systems of b rows for each factor, 2 b^4 / 3 in all.

        Precision: that of both factors, whose condition numbers multiply.
        """
        b = self.L.shape[-1]
        columns = x.unflatten(-2, (b, b)).transpose(-3, -2)  # (..., c, r, k)
        rows = solved(self.L, columns).transpose(-3, -2)
        return solved(self.R, rows).flatten(-3, -2)


def relabelled(
    L: Inexact[Tensor, "... b b b"],
    R: Inexact[Tensor, "... b b b"],
    rows: Int64[Tensor, "b"],
    columns: Int64[Tensor, "b"],
) -> tuple[Inexact[Tensor, "... b b b"], Inexact[Tensor, "... b b b"]]:
    """The blocks after a renaming of the states that permutes rows and columns of the grid.

    With S[r, c] = H[rows[r], columns[c]], the result maps S to what P^T L P R makes of H, read in
    the same way. One permutation shared by all blocks of a factor is such a renaming.
    """
    L = L[..., columns, :, :][..., rows, :][..., rows]
    R = R[..., rows, :, :][..., columns, :][..., columns]
    return L, R


@widened
def row_factor(R: Inexact[Tensor, "... K b b"]) -> Inexact[Tensor, "... K*b K*b"]:
    """The block-diagonal matrix ["... Kb Kb"] of blocks ["... K b b"]."""
    own = torch.eye(R.shape[-3], dtype=R.dtype, device=R.device)
    return torch.einsum("...rij,rs->...risj", R, own).flatten(-2).flatten(-3, -2)


@widened
def column_factor(L: Inexact[Tensor, "... b b b"]) -> Inexact[Tensor, "... b*b b*b"]:
    """P^T L P ["... b² b²"] of blocks ["... b b b"]."""
    own = torch.eye(L.shape[-3], dtype=L.dtype, device=L.device)
    return torch.einsum("...crs,cd->...rcsd", L, own).flatten(-2).flatten(-3, -2)


@widened
def skew(entries: Float[Tensor, "... E"], b: int) -> Float[Tensor, "... b b"]:
    """Skew-symmetric matrices ["... b b"] from the entries ["... b(b-1)/2"] above their diagonals.

    Raises:
        ValueError: the number of entries is wrong.
    """
    above = torch.triu_indices(b, b, 1, device=entries.device)
    if entries.shape[-1] != above.shape[1]:
        expected = f"{above.shape[1]} entries above the diagonal"
        raise ValueError(f"a skew matrix of side {b} has {expected}, got {entries.shape[-1]}")
    # A product with a constant basis has a product as its gradient, and works under any vmap.
    number = torch.arange(above.shape[1], device=entries.device)
    basis = entries.new_zeros(above.shape[1], b, b)
    basis[number, above[0], above[1]] = 1
    basis[number, above[1], above[0]] = -1
    return (entries @ basis.flatten(1)).unflatten(-1, (b, b))


def skew_entries(A: Float[Tensor, "... b b"]) -> Float[Tensor, "... b*(b-1)//2"]:
    """The entries above the diagonal of A ["... b b"]: the inverse of `skew`."""
    above = torch.triu_indices(A.shape[-2], A.shape[-1], 1, device=A.device)
    return A[..., above[0], above[1]]


@widened
def cayley(A: Float[Tensor, "... b b"]) -> Float[Tensor, "... b b"]:
    """(I + A)^-1 (I - A) ["... b b"]: for skew A, a rotation that has no eigenvalue -1.

    An eigenvalue i a of A becomes exp(-2 i atan(a)); the map is its own inverse.
    """
    identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    return torch.linalg.solve(identity + A, identity - A)


@widened
def expm(A: Float[Tensor, "... b b"]) -> Float[Tensor, "... b b"]:
    """exp(A) ["... b b"]: a rotation for skew A; every rotation can be obtained in this way."""
    return torch.linalg.matrix_exp(A)


@widened
def householder_blocks(
    v: Float[Tensor, "... b"], beta: Float[Tensor, "..."]
) -> Float[Tensor, "... b b"]:
    """I - beta v v^T / |v|² ["... b b"] for v ["... b"], beta ["..."]: a reflection if beta = 2."""
    unit = direction(v)
    identity = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
    return identity - beta[..., None, None] * unit[..., :, None] * unit[..., None, :]


@widened
def direction(v: Float[Tensor, "... b"]) -> Float[Tensor, "... b"]:
    """v / |v| ["... b"]; for v = 0 it is zero and has a finite gradient."""
    return v * (v.square().sum(-1, keepdim=True) + torch.finfo(v.dtype).tiny).rsqrt()


@widened
def sign_flip(
    first: Float[Tensor, "... N N"], second: Float[Tensor, "... N N"]
) -> Float[Tensor, "..."]:
    """How strongly two maps can send one vector in opposite directions.

    The result is the largest c such that some w with |w| = 1 has (first w) . (second w) = -c²; zero
    if there is none. It is at least c for two maps that are c and -c times the same rotation on
    some vector.

    For U and V orthogonal and gains in [0, 1], diag(a) U diag(b) V and diag(a') U diag(b') V have
    c <= 1/2. Proof: let p = U diag(b) V w and q = U diag(b') V w. The products a_i p_i a'_i q_i
    add up to -c². Since gains have one sign, a product is negative only if p_i and q_i differ in
    sign, and then |p_i q_i| <= (p_i - q_i)² / 4. These add up to at most |p - q|² / 4 <= |w|² / 4.
    With gains of both signs, c can be 1.

    Args:
        first, second: Float["... N N"].

    Returns:
        c.
    """
    product = first.mT @ second
    smallest = torch.linalg.eigvalsh((product + product.mT) / 2)[..., 0]
    return smallest.neg().clamp_min(0).sqrt()


def _side(L: Tensor, R: Tensor) -> int:
    b = R.shape[-1]
    if L.ndim < 3 or R.ndim < 3 or L.shape[-3:] != (b, b, b) or R.shape[-3:] != (b, b, b):
        shapes = f"L {tuple(L.shape)} and R {tuple(R.shape)}"
        raise ValueError(f"{shapes} must both end in (b, b, b): b blocks of b rows and columns")
    return b
