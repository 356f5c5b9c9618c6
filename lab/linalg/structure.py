"""What all structured matrices have in common, what it costs, and what a structure may lack.

    structure               numbers         multiplications       solve             after
    DPLR                    n (1 + 2 r)     n (1 + 2 r)           Woodbury          ranks add up
    CauchyLike              2 n (1 + r)     n (1 + 2 r + n r)     none              ranks add up
    HODLR                   of its parts    as many as numbers    level by level    ranks grow
    Routed                  2 n             n                     of permutations   equal size
    CirculantMatrix         n               n // 2 + 1            by frequency      equal size
    BlockCirculantMatrix    k p^2           (k // 2 + 1) p^2      by frequency      equal size
    MonarchMatrix           2 b^3           2 b^3                 by factor         none

n is the number of rows, r a rank; there are k blocks of p rows, or b blocks of b rows in a factor.
All but `MonarchMatrix` have a transpose of their kind. A product of Householder matrices is a
`DPLR` (`lab.linalg.wy_form.householder_product`), and a permutation is a `Routed` with gains of 1.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Inexact
from torch import Tensor

from lab.linalg.precision import wide


class Structured(ABC):
    """Square matrices ["... n n"], given by fewer numbers than they have entries.

    All have `to_dense`, which is the definition, and products with x ["... n k"], which never make
    the dense matrix. Three members are there only where the structure has them:

    - `mT`: the transpose.
    - `solve(x)`: the inverse times x ["... n k"].
    - `after(earlier)`: the product self @ earlier in the same structure. Its docstring says how
      large the result is.

    What is not there is left to torch, as torch.linalg.solve(A.to_dense(), x).

    Axes of a batch, in front, are broadcast. Half-precision numbers are converted to float32.
    """

    @property
    @abstractmethod
    def numbers(self) -> int:
        """How many numbers are stored for one matrix of a batch, indices among them."""

    @property
    @abstractmethod
    def multiplications(self) -> int:
        """How many pairs of numbers, real or complex, a product with one vector multiplies.

        Without those inside of `transforms`, whose number depends on the library.
        """

    @property
    def transforms(self) -> int:
        """How many real Fourier transforms a product with one vector takes besides."""
        return 0

    @abstractmethod
    def to_dense(self) -> Inexact[Tensor, "... n n"]:
        """The definition, with which everything else must agree."""

    @abstractmethod
    def __matmul__(self, x: Inexact[Tensor, "... n k"]) -> Inexact[Tensor, "... n k"]:
        """The product with x."""


def with_one_batch(*parts: tuple[Tensor, int]) -> list[Tensor]:
    """Parts in float32 at least, all with the same axes in front of their own.

    Args:
        parts: a tensor, and how many axes it has without a batch.

    Raises:
        ValueError: the axes of a batch cannot be broadcast.
    """
    leading = [part.shape[: part.ndim - own] for part, own in parts]
    # The first call of torch.broadcast_shapes imports for seconds; most parts need none.
    if all(batch == leading[0] for batch in leading):
        return [wide(part) for part, _ in parts]
    try:
        batch = torch.broadcast_shapes(*leading)
    except RuntimeError as error:
        shapes = ", ".join(str(tuple(part.shape)) for part, _ in parts)
        raise ValueError(f"the axes of a batch in {shapes} cannot be broadcast") from error
    sizes = [(*batch, *part.shape[part.ndim - own :]) for part, own in parts]
    return [
        wide(part) if part.shape == size else wide(part).expand(size)
        for (part, _), size in zip(parts, sizes, strict=True)
    ]


def solved(
    A: Inexact[Tensor, "... n n"], x: Inexact[Tensor, "... n k"]
) -> Inexact[Tensor, "... n k"]:
    """torch.linalg.solve with axes of a batch broadcast; alone, it may take x for vectors."""
    batch = torch.broadcast_shapes(A.shape[:-2], x.shape[:-2])
    return torch.linalg.solve(A, x.expand(*batch, *x.shape[-2:]))


def beside(
    first: Inexact[Tensor, "... n r"], second: Inexact[Tensor, "... n s"]
) -> Inexact[Tensor, "... n r+s"]:
    """Columns next to each other, with their axes of a batch broadcast."""
    return torch.cat(with_one_batch((first, 2), (second, 2)), dim=-1)
