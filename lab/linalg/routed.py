"""Matrices with a single entry in every column: a map of the states times a diagonal."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Inexact, Int64
from torch import Tensor

from lab.linalg.precision import widened
from lab.linalg.structure import Structured, with_one_batch


@dataclass(frozen=True)
class Routed(Structured):
    """The N x N matrix P diag(gains), whose column n has its only entry in row target[n].

    A permutation is one with gains of 1 and targets that do not collide.

    Args:
        target: in [0, N), the row of the entry of every column; columns may collide.
        gains: the entries, dimensionless.

    Raises:
        ValueError: the shapes differ, or a target is outside [0, N).

    Source: Terzić et al. 2025, Structured sparse transition matrices to enable state tracking in
    state-space models.
    """

    target: Int64[Tensor, "... N"]
    gains: Inexact[Tensor, "... N"]

    def __post_init__(self) -> None:
        N = self.target.shape[-1:]
        if len(N) == 0 or self.gains.shape[-1:] != N:
            shapes = f"target {tuple(self.target.shape)} and gains {tuple(self.gains.shape)}"
            raise ValueError(f"{shapes} must both be (..., N)")
        if not ((self.target >= 0) & (self.target < N[0])).all():
            raise ValueError(f"target must be in [0, {N[0]}), got {self.target.tolist()}")
        target, gains = with_one_batch((self.target, 1), (self.gains, 1))
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "gains", gains)

    @property
    def is_permuted(self) -> bool:
        """Whether no columns collide, so that P is a permutation, in every matrix of a batch."""
        places = torch.arange(self.target.shape[-1], device=self.target.device)
        return bool((self.target.sort(-1).values == places).all())

    @property
    def numbers(self) -> int:
        """2 N: targets and gains."""
        return 2 * self.target.shape[-1]

    @property
    def multiplications(self) -> int:
        """N."""
        return self.target.shape[-1]

    @property
    def mT(self) -> "Routed":
        """The transpose.

        Raises:
            ValueError: columns collide; the transpose then has several entries in a column.
        """
        self._check_permuted("which those of a transpose cannot")
        target = self.target.argsort(-1)
        return Routed(target, self.gains.gather(-1, target))

    def to_dense(self) -> Inexact[Tensor, "... N N"]:
        """The definition, which every product and inverse here must agree with."""
        A = self.gains.new_zeros(*self.gains.shape, self.gains.shape[-1])
        return A.scatter(-2, self.target[..., None, :], self.gains[..., None, :])

    @widened
    def __matmul__(self, x: Inexact[Tensor, "... N k"]) -> Inexact[Tensor, "... N k"]:
        """The product with x, at a cost of N k instead of N^2 k."""
        sent = self.gains[..., None] * x
        return torch.zeros_like(sent).scatter_add(-2, self.target[..., None].expand_as(sent), sent)

    def after(self, earlier: "Routed") -> "Routed":
        """The product self @ earlier, which has a single entry in every column again."""
        first, target = torch.broadcast_tensors(earlier.target, self.target)
        gains = self.gains.expand_as(first).gather(-1, first)
        return Routed(target.gather(-1, first), gains * earlier.gains)

    @widened
    def solve(self, x: Inexact[Tensor, "... N k"]) -> Inexact[Tensor, "... N k"]:
        """The inverse times x: what was sent to a row is fetched from it, at a cost of N k.

        Raises:
            ValueError: columns collide or a gain is 0, and there is no inverse.
        """
        self._check_permuted("and there is no inverse")
        if (self.gains == 0).any():
            at = (self.gains == 0).nonzero()[0].tolist()
            raise ValueError(f"gain {at} is 0, and there is no inverse; gains must differ from 0")
        shape = torch.broadcast_shapes(self.target.shape[:-1], x.shape[:-2])
        index = self.target[..., None].expand(*shape, *x.shape[-2:])
        return x.expand(*shape, *x.shape[-2:]).gather(-2, index) / self.gains[..., None]

    def cycles(self) -> list[list[int]]:
        """The cycles of P, each in the order in which a state moves along it.

        Here and in what is computed from them there is a single matrix, without axes of a batch.

        Raises:
            ValueError: columns collide, or there is a batch.
        """
        if self.target.ndim != 1:
            raise ValueError(f"target {tuple(self.target.shape)} is a batch; pass one of it, (N,)")
        self._check_permuted("which no cycles do")
        following, left, found = self.target.tolist(), set(range(len(self.target))), []
        while left:
            cycle, n = [], min(left)
            while n in left:
                left.remove(n)
                cycle.append(n)
                n = following[n]
            found.append(cycle)
        return found

    @widened
    def resolvent(
        self, alpha: Complex[Tensor, "L"], beta: Complex[Tensor, "L"], x: Inexact[Tensor, "N k"]
    ) -> Complex[Tensor, "L N k"]:
        """(alpha I - beta A)^-1 x for many pairs (alpha, beta) at once, in O(L N k).

        Along a cycle the rows say alpha y[next] = beta gain y + x[next]. One way around gives what
        the first y depends on, and it is divided by 1 - product of all beta gain / alpha; a second
        way around gives all others.

        Precision: alpha must not be near 0, and no (alpha / beta)^c near the product of the gains
        of a cycle of c states, which is where alpha / beta is an eigenvalue.

        Raises:
            ValueError: columns collide.
        """
        ratio = (beta / alpha)[:, None] * self.gains  # (L, N)
        drive = x.to(ratio.dtype) / alpha[:, None, None]  # (L, N, k)
        solved: dict[int, Tensor] = {}
        for cycle in self.cycles():
            y = torch.zeros_like(drive[:, 0])
            for n, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
                y = ratio[:, n, None] * y + drive[:, following]
            y = y / (1 - ratio[:, cycle].prod(1))[:, None]
            for n, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
                solved[n] = y
                y = ratio[:, n, None] * y + drive[:, following]
        return torch.stack([solved[n] for n in range(len(self.target))], dim=1)

    @widened
    def eigenvalues(self) -> Complex[Tensor, "N"]:
        """The c-th roots of the product of the gains of every cycle of c states, cycle by cycle.

        Raises:
            ValueError: columns collide.
        """
        roots = []
        for cycle in self.cycles():
            product, c = self.gains[cycle].prod(), len(cycle)
            number = torch.arange(c, dtype=product.abs().dtype, device=product.device)
            angles = (product.angle() + 2 * torch.pi * number) / c
            roots.append(torch.polar(product.abs().pow(1 / c).expand(c), angles))
        return torch.cat(roots)

    def _check_permuted(self, sentence: str) -> None:
        if not self.is_permuted:
            raise ValueError(
                f"columns collide, {sentence}; targets must differ: {self.target.tolist()}"
            )
