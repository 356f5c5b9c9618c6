"""left (alpha I - beta A)^-1 right of a diagonal plus low rank matrix, before its small inverse."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lab.linalg.neumann import neumann_apply, neumann_by_doubling


@dataclass(frozen=True)
class Woodbury:
    """direct + across (I - core)^-1 into, per frequency: what Woodbury's formula leaves to do.

    Attributes:
        direct: Complex["L q k"], what the diagonal alone gives.
        across: Complex["L q r"].
        core: Complex["L r r"], F, dimensionless.
        into: Complex["L r k"].
    """

    direct: Tensor
    across: Tensor
    core: Tensor
    into: Tensor

    def solved(self) -> Tensor:
        """The whole, by one r x r solve per frequency."""
        if self.core.shape[-1] == 0:
            return self.direct
        return self.direct + self.across @ torch.linalg.solve(self.system(), self.into)

    def system(self) -> Tensor:
        """["L r r"]: I - F."""
        r = self.core.shape[-1]
        return torch.eye(r, dtype=self.core.dtype, device=self.core.device) - self.core

    def divided(self) -> Tensor:
        """The whole by one division per frequency.

        Raises:
            ValueError: the rank is not 1.
        """
        if self.core.shape[-1] != 1:
            raise ValueError(f"rank {self.core.shape[-1]}: a division is for rank 1 alone")
        return self.direct + self.across * self.into / (1 - self.core)

    def summed(self, terms: int) -> Tensor:
        """What `terms` terms of the Neumann series of the resolvent give; one fewer of the core's.

        `left_out` is what is missing, exactly.
        """
        return self.direct + self.across @ neumann_apply(self.core, self.into, terms - 1)

    def doubled(self, doublings: int) -> Tensor:
        """As `summed` with 2^doublings + 1 terms, by the powers F^2, F^4, ... of the core."""
        return self.direct + self.across @ (neumann_by_doubling(self.core, doublings) @ self.into)

    def left_out(self, terms: int) -> Tensor:
        """across F^(terms - 1) (I - F)^-1 into: `solved` less `summed`."""
        power = torch.linalg.matrix_power(self.core, terms - 1)
        return self.across @ power @ torch.linalg.solve(self.system(), self.into)

    def bound(self, terms: Tensor) -> Tensor:
        """Float["L"], a bound on the norm of `left_out`, for a number of terms per frequency.

        |across| n^(terms - 1) / (1 - n) |into| with spectral norms, n that of the core; infinite
        where n is not below 1.
        """
        across, core, into = (
            torch.linalg.matrix_norm(x, 2) for x in (self.across, self.core, self.into)
        )
        found = across * core ** (terms - 1) / (1 - core) * into
        return torch.where(core < 1, found, torch.inf)

    def at(self, which: Tensor) -> "Woodbury":
        """The same at some of the frequencies, Bool["L"]."""
        return Woodbury(self.direct[which], self.across[which], self.core[which], self.into[which])
