"""Matrices that are diagonal plus low rank (DPLR), after S4."""

from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor

from lab.linalg.precision import uncast, widened
from lab.linalg.structure import Structured, beside, with_one_batch
from lab.linalg.woodbury import Woodbury


@dataclass(frozen=True)
class DPLR(Structured):
    """The N x N matrix diag(diagonal) + P @ Q.mT, a diagonal plus a matrix of rank at most r.

    Args:
        diagonal: Float or Complex["... N"], in 1/s if the matrix is a state matrix.
        P, Q: Float or Complex["... N r"]; r may be 0. The transpose is plain, never conjugate.

    Raises:
        ValueError: a shape is not as above.

    Source: Gu et al. 2022, Efficiently Modeling Long Sequences with Structured State Spaces.
    """

    diagonal: Inexact[Tensor, "... N"]
    P: Inexact[Tensor, "... N r"]
    Q: Inexact[Tensor, "... N r"]

    def __post_init__(self) -> None:
        N = self.diagonal.shape[-1] if self.diagonal.ndim else 0
        if self.P.shape[-2:] != self.Q.shape[-2:] or self.P.shape[-2:-1] != (N,):
            shapes = f"P {tuple(self.P.shape)} and Q {tuple(self.Q.shape)}"
            raise ValueError(f"{shapes} must both be (..., {N}, r) for a diagonal of {N}")
        parts = with_one_batch((self.diagonal, 1), (self.P, 2), (self.Q, 2))
        for name, part in zip(("diagonal", "P", "Q"), parts, strict=True):
            object.__setattr__(self, name, part)

    @property
    def rank(self) -> int:
        """Number of columns of P: an upper bound on the rank of the low-rank term."""
        return self.P.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the whole matrix: complex if any of its parts is complex."""
        return reduce(torch.promote_types, (self.diagonal.dtype, self.P.dtype, self.Q.dtype))

    @property
    def numbers(self) -> int:
        """N (1 + 2 r)."""
        return self.diagonal.shape[-1] * (1 + 2 * self.rank)

    @property
    def multiplications(self) -> int:
        """N (1 + 2 r)."""
        return self.numbers

    @property
    def mT(self) -> "DPLR":
        """The transpose."""
        return DPLR(self.diagonal, self.Q, self.P)

    def to_dense(self) -> Inexact[Tensor, "... N N"]:
        """The definition, which every product and inverse here must agree with."""
        with uncast(self.P):
            low_rank = self.P.to(self.dtype) @ self.Q.mT.to(self.dtype)
        return torch.diag_embed(self.diagonal) + low_rank

    @widened
    def __matmul__(self, x: Inexact[Tensor, "... N k"]) -> Inexact[Tensor, "... N k"]:
        """The product with x ["... N k"], at a cost of N r k instead of N^2 k."""
        x = x.to(torch.promote_types(self.dtype, x.dtype))
        return self.diagonal[..., None] * x + self.P.to(x.dtype) @ (self.Q.mT.to(x.dtype) @ x)

    def after(self, earlier: "DPLR") -> "DPLR":
        """The product self @ earlier: the diagonals are multiplied, and the ranks add up.

        With D the diagonals, it is D2 D1 + (D2 P1 + P2 Q2^T P1) Q1^T + P2 (D1 Q2)^T.

        Cost: N r^2 for two matrices of rank r.
        """
        dtype = torch.promote_types(self.dtype, earlier.dtype)
        P2, Q2, P1, Q1 = (x.to(dtype) for x in (self.P, self.Q, earlier.P, earlier.Q))
        with uncast(P2):
            P = beside(self.diagonal[..., None] * P1 + P2 @ (Q2.mT @ P1), P2)
        Q = beside(Q1, earlier.diagonal[..., None] * Q2)
        return DPLR(self.diagonal * earlier.diagonal, P, Q)

    @widened
    def solve(self, x: Inexact[Tensor, "... N k"]) -> Inexact[Tensor, "... N k"]:
        """The inverse times x, by Woodbury (see `resolvent`): one r x r system.

        Precision: that of the division by the diagonal. No entry of it may be near 0, even if the
        whole matrix is invertible.

        Raises:
            ValueError: an entry of the diagonal is 0.
        """
        if (self.diagonal == 0).any():
            at = (self.diagonal == 0).nonzero()[0].tolist()
            raise ValueError(
                f"entry {at} of the diagonal is 0, and Woodbury's formula divides by it; "
                "use torch.linalg.solve(A.to_dense(), x)"
            )
        x = x.to(torch.promote_types(self.dtype, x.dtype))
        return self._by_woodbury(1 / self.diagonal, -1, x)

    @widened
    def resolvent(
        self, alpha: Complex[Tensor, "L"], beta: Complex[Tensor, "L"], x: Inexact[Tensor, "N k"]
    ) -> Complex[Tensor, "L N k"]:
        """(alpha I - beta A)^-1 x for many pairs (alpha, beta) at once, by Woodbury.

        (D - beta P Q^T)^-1 = D^-1 + beta D^-1 P (I - beta Q^T D^-1 P)^-1 Q^T D^-1 with the diagonal
        D = alpha I - beta diag(A): one r x r solve per pair instead of an N x N one. A is a single
        matrix, without axes of a batch, here and in `transfer` and `woodbury`.

        Args:
            alpha, beta: the pairs.
            x: Float or Complex["N k"].

        Returns:
            Complex["L N k"].

        Precision: that of the diagonal solve. Therefore alpha must not be close to beta times an
        entry of the diagonal, even if the whole matrix alpha I - beta A is invertible.
        """
        inverse = 1 / (alpha[:, None] - beta[:, None] * self.diagonal)  # (L, N)
        return self._by_woodbury(inverse, beta[:, None, None], x.to(alpha.dtype))

    @widened
    def transfer(
        self,
        left: Inexact[Tensor, "q N"],
        alpha: Complex[Tensor, "L"],
        beta: Complex[Tensor, "L"],
        right: Inexact[Tensor, "N k"],
    ) -> Complex[Tensor, "L q k"]:
        """left (alpha I - beta A)^-1 right for many pairs (alpha, beta), by Woodbury, in O(L N).

        All products with D^-1 in Woodbury's formula, [left; Q^T] D^-1 [right, P], are computed by
        one matrix product of the (L, N) inverses with the N x (q + r)(k + r) outer products.

        Args:
            left: Float or Complex["q N"].
            alpha, beta: Complex["L"].
            right: Float or Complex["N k"].

        Returns:
            Complex["L q k"], as `left @ self.resolvent(alpha, beta, right)`.
        """
        return self.woodbury(left, alpha, beta, right).solved()

    @widened
    def woodbury(
        self,
        left: Inexact[Tensor, "q N"],
        alpha: Complex[Tensor, "L"],
        beta: Complex[Tensor, "L"],
        right: Inexact[Tensor, "N k"],
    ) -> Woodbury:
        """`transfer` before its r x r solve.

        With D^-1 the diagonal part of the inverse, direct is left D^-1 right, across is
        beta left D^-1 P, the core is beta Q^T D^-1 P, and into is Q^T D^-1 right.

        Args:
            left, alpha, beta, right: as for `transfer`; left and right may have no rows or columns.
        """
        q, k = left.shape[0], right.shape[1]
        rows = torch.cat([left.to(alpha.dtype), self.Q.mT.to(alpha.dtype)])
        columns = torch.cat([right.to(alpha.dtype), self.P.to(alpha.dtype)], dim=1)
        inverse = 1 / (alpha[:, None] - beta[:, None] * self.diagonal)  # (L, N)
        outer = rows.mT[:, :, None] * columns[:, None, :]  # (N, q + r, k + r)
        products = (inverse @ outer.flatten(1)).unflatten(1, outer.shape[1:])
        scale = beta[:, None, None]
        across, core = scale * products[:, :q, k:], scale * products[:, q:, k:]
        return Woodbury(products[:, :q, :k], across, core, products[:, q:, :k])

    def _by_woodbury(
        self, inverse: Inexact[Tensor, "... N"], scale: Tensor | int, x: Inexact[Tensor, "... N k"]
    ) -> Inexact[Tensor, "... N k"]:
        """(D - scale P Q^T)^-1 x from the inverse of the diagonal D, in the dtype of x."""
        P, Q = self.P.to(x.dtype), self.Q.to(x.dtype)
        solved = inverse[..., None] * x
        if self.rank == 0:
            return solved
        solved_P = inverse[..., None] * P
        core = torch.eye(self.rank, dtype=x.dtype, device=x.device)
        core = core - scale * (Q.mT @ solved_P)  # (..., r, r)
        correction = torch.linalg.solve(core, Q.mT @ solved)
        return solved + scale * (solved_P @ correction)


def dissipative(
    diagonal: Inexact[Tensor, "N"], P: Float[Tensor, "N r"], Q: Float[Tensor, "N r"]
) -> DPLR:
    """The DPLR matrix A = diag(diagonal) - P P^T + (P Q^T - Q P^T), which never adds energy.

    Claim: if Re(diagonal) <= 0 then A + A* <= 0, every eigenvalue of A has real part <= 0, and the
    bilinear A_d = (I - dt A / 2)^-1 (I + dt A / 2) is a contraction in the 2-norm for every dt > 0.

    Proof. For real P and Q, S = P Q^T - Q P^T is skew, S + S* = 0, so
    A + A* = 2 diag(Re diagonal) - 2 P P^T, a sum of two negative semidefinite matrices. For a unit
    eigenvector v with A v = lambda v, 2 Re(lambda) = v* (A + A*) v <= 0. I - dt A / 2 is then
    invertible, and for y = (I - dt A / 2) x, the difference
    |(I - dt A / 2) x|^2 - |(I + dt A / 2) x|^2 = -dt x* (A + A*) x >= 0 says |A_d y| <= |y|. QED.

    It has the parameters of the plain form diag + P Q^T, but its low-rank term has a rank of up to
    2 r. The symmetric part of this term can only damp; its skew part can only rotate.

    Args:
        diagonal: in 1/s, real parts at most 0.
        P, Q: real, in the square root of 1/s.

    Raises:
        ValueError: P or Q is complex, for which the proof would need conjugate transposes.
    """
    if P.is_complex() or Q.is_complex():
        raise ValueError(f"P and Q must be real, got {P.dtype} and {Q.dtype}")
    # -P P^T + P Q^T - Q P^T = P (Q - P)^T + (-Q) P^T
    return DPLR(diagonal, torch.cat([P, -Q], dim=-1), torch.cat([Q - P, P], dim=-1))
