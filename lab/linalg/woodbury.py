"""left (alpha I - beta A)^-1 right of a diagonal plus low rank matrix, before its small inverse."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Int64
from torch import Tensor

from lab.linalg.neumann import neumann_apply, neumann_by_doubling


@dataclass(frozen=True)
class Woodbury:
    """direct + across (I - core)^-1 into, per frequency: what Woodbury's formula leaves to do.

    Attributes:
        direct: what the diagonal alone gives.
        across: from the low-rank part to the left side.
        core: F, dimensionless.
        into: from the right side to the low-rank part.
    """

    direct: Complex[Tensor, "L q k"]
    across: Complex[Tensor, "L q r"]
    core: Complex[Tensor, "L r r"]
    into: Complex[Tensor, "L r k"]

    def solved(self) -> Complex[Tensor, "L q k"]:
        """The whole, by one r x r solve per frequency."""
        if self.core.shape[-1] == 0:
            return self.direct
        return self.direct + self.across @ torch.linalg.solve(self.system(), self.into)

    def system(self) -> Complex[Tensor, "L r r"]:
        """I - F."""
        r = self.core.shape[-1]
        return torch.eye(r, dtype=self.core.dtype, device=self.core.device) - self.core

    def divided(self) -> Complex[Tensor, "L q k"]:
        """The whole by one division per frequency.

        Raises:
            ValueError: the rank is not 1.
        """
        if self.core.shape[-1] != 1:
            raise ValueError(f"rank {self.core.shape[-1]}: a division is for rank 1 alone")
        return self.direct + self.across * self.into / (1 - self.core)

    def summed(self, terms: int) -> Complex[Tensor, "L q k"]:
        """What `terms` terms of the Neumann series of the resolvent give; one fewer of the core's.

        `left_out` is what is missing, exactly.
        """
        return self.direct + self.across @ neumann_apply(self.core, self.into, terms - 1)

    def doubled(self, doublings: int) -> Complex[Tensor, "L q k"]:
        """As `summed` with 2^doublings + 1 terms, by the powers F^2, F^4, ... of the core."""
        return self.direct + self.across @ (neumann_by_doubling(self.core, doublings) @ self.into)

    def left_out(self, terms: int) -> Complex[Tensor, "L q k"]:
        """across F^(terms - 1) (I - F)^-1 into: `solved` less `summed`."""
        power = torch.linalg.matrix_power(self.core, terms - 1)
        return self.across @ power @ torch.linalg.solve(self.system(), self.into)

    def bound(self, terms: Int64[Tensor, "L"]) -> Float[Tensor, "L"]:
        """A bound on the norm of `left_out`, for a number of terms per frequency.

        |across| n^(terms - 1) / (1 - n) |into| with spectral norms, n that of the core; infinite
        where n is not below 1.
        """
        across, core, into = (
            torch.linalg.matrix_norm(x, 2) for x in (self.across, self.core, self.into)
        )
        found = across * core ** (terms - 1) / (1 - core) * into
        return torch.where(core < 1, found, torch.inf)

    def at(self, which: Bool[Tensor, "L"]) -> "Woodbury":
        """The same at some of the frequencies."""
        return Woodbury(self.direct[which], self.across[which], self.core[which], self.into[which])
