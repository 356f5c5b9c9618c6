"""Matrices with a single entry in every column: a map of the states times a diagonal."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Inexact, Int64
from torch import Tensor

from lab.linalg.precision import wide, widened


@dataclass(frozen=True)
class Routed:
    """The N x N matrix P diag(gains), whose column n has its only entry in row target[n].

    Args:
        target: in [0, N), the row of the entry of every column; columns may collide.
        gains: the entries, dimensionless.

    Half-precision numbers are converted to float32.

    Raises:
        ValueError: the shapes differ, or a target is outside [0, N).

    Source: Terzić et al. 2025, Structured sparse transition matrices to enable state tracking in
    state-space models.
    """

    target: Int64[Tensor, "N"]
    gains: Inexact[Tensor, "N"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "gains", wide(self.gains))
        if self.target.ndim != 1 or self.target.shape != self.gains.shape:
            shapes = f"target {tuple(self.target.shape)} and gains {tuple(self.gains.shape)}"
            raise ValueError(f"{shapes} must both be (N,)")
        N = len(self.target)
        if not ((self.target >= 0) & (self.target < N)).all():
            raise ValueError(f"target must be in [0, {N}), got {self.target.tolist()}")

    @property
    def is_permuted(self) -> bool:
        """Whether no columns collide, so that P is a permutation."""
        return len(self.target.unique()) == len(self.target)

    def to_dense(self) -> Inexact[Tensor, "N N"]:
        """The definition, which every product and inverse here must agree with."""
        A = self.gains.new_zeros(len(self.gains), len(self.gains))
        column = torch.arange(len(self.gains), device=self.gains.device)
        return A.index_put((self.target, column), self.gains)

    @widened
    def __matmul__(self, x: Inexact[Tensor, "N k"]) -> Inexact[Tensor, "N k"]:
        """The product with x, at a cost of N k instead of N^2 k."""
        sent = self.gains[:, None] * x
        return torch.zeros_like(sent).index_add(0, self.target, sent)

    def after(self, earlier: "Routed") -> "Routed":
        """The product self @ earlier, which has a single entry in every column again."""
        return Routed(self.target[earlier.target], self.gains[earlier.target] * earlier.gains)

    def cycles(self) -> list[list[int]]:
        """The cycles of P, each in the order in which a state moves along it.

        Raises:
            ValueError: columns collide.
        """
        if not self.is_permuted:
            raise ValueError(f"columns collide, which no cycles do: {self.target.tolist()}")
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
