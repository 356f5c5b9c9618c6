"""(I + L)^-1 for L below the diagonal: by substitution, by matrix products alone, in blocks.

In exact arithmetic all of them agree, for L^C = 0. In floating point they do not: powers of L may
grow like binomials before they vanish, and a form that adds such powers up is left with their
rounding. `inverse_by_doubling` does, substitution never forms them, and `newton_schulz` repairs it.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from lab.linalg.rounding import Product

Inverse = Callable[[Tensor], Tensor]


def inverse_by_substitution(below: Float[Tensor, "... C C"]) -> Float[Tensor, "... C C"]:
    """(I + L)^-1, row by row: the definition of the other inverses here.

    Args:
        below: L, dimensionless. What stands on or above its diagonal is not read.

    Returns:
        a unit lower triangular matrix.

    Raises:
        ValueError: the matrices are not square.

    Cost: C^3 / 3 multiply-adds, C steps that wait for one another.
    """
    _check(below)
    return solve_by_substitution(below, _identity(below).expand_as(below))


def solve_by_substitution(
    below: Float[Tensor, "... C C"], right: Float[Tensor, "... C M"]
) -> Float[Tensor, "... C M"]:
    """(I + L)^-1 R without the inverse; what stands on or above the diagonal of L is not read."""
    return torch.linalg.solve_triangular(below, right, upper=False, unitriangular=True)


def inverse_by_doubling(
    below: Float[Tensor, "... C C"], product: Product = torch.matmul
) -> Float[Tensor, "... C C"]:
    """(I + L)^-1 = (I - L) (I + L^2) (I + L^4) ..., until a power of L is zero.

    Args:
        below: L, dimensionless; zero on and above the diagonal.
        product: of two matrices.

    Returns:
        a unit lower triangular matrix.

    Raises:
        ValueError: the matrices are not square.

    Cost: 2 (ceil(log2 C) - 1) products. Precision: rounding of the largest entry of any power of L
    stays in the result. In 64 steps of the delta rule with nearly the same key, that entry is 1e8
    and more.
    Source: Yang et al. 2024, Parallelizing linear transformers with the delta rule, for the system.
    """
    C, eye = _check(below), _identity(below)
    inverse, power, reach = eye - below, below, 2
    while reach < C:
        power = product(power, power)
        inverse = product(inverse, eye + power)
        reach *= 2
    return inverse


def newton_schulz_iterates(
    below: Float[Tensor, "... C C"],
    product: Product = torch.matmul,
    start: Float[Tensor, "... C C"] | None = None,
) -> Iterator[tuple[Float[Tensor, "... C C"], Float[Tensor, "... C C"]]]:
    """Pairs of X and the residual I - (I + L) X, by X <- X + X (I - (I + L) X), from X = I - L on.

    Every step squares the residual. In exact arithmetic it is L^2, L^4, L^8, ..., as in
    `inverse_by_doubling`. In floating point X stays exactly unit lower triangular, since sums of
    zeros are zeros; so does the residual that is computed stay below the diagonal, and whatever
    rounding left in it is nilpotent again, and squared away by the steps that follow.

    Args:
        below: L, dimensionless; zero on and above the diagonal.
        product: of two matrices; it may round, as `lab.linalg.rounding.product_in` does.
        start: the first X, unit lower triangular, such as what was found in lower precision; I - L
            if None.

    Raises:
        ValueError: the matrices are not square.

    Cost: 2 products a step, one of them for the residual. Source: Schulz 1933.
    """
    _check(below)
    eye = _identity(below)
    inverse, system = eye - below if start is None else start, eye + below
    while True:
        residual = eye - product(system, inverse)
        yield inverse, residual
        inverse = inverse + product(inverse, residual)


def newton_schulz(
    below: Float[Tensor, "... C C"],
    steps: int,
    product: Product = torch.matmul,
    start: Float[Tensor, "... C C"] | None = None,
) -> Float[Tensor, "... C C"]:
    """(I + L)^-1 by so many steps of Newton and Schulz; see `newton_schulz_iterates`.

    Args:
        below: L, dimensionless; zero on and above the diagonal.
        steps: at least 0; `exact_steps` are enough where nothing is rounded. For any keys that were
            tried, up to C = 128, 2 ceil(log2 C) were enough in float32, and 20 with products that
            round to bfloat16, after which 2 in float32 brought its digits back.
        product, start: as there.
        product: of two matrices.

    Raises:
        ValueError: the matrices are not square, or steps is negative.
    """
    if steps < 0:
        raise ValueError(f"steps is {steps}; it must be at least 0")
    inverse, _ = next(islice(newton_schulz_iterates(below, product, start), steps, None))
    return inverse


def exact_steps(size: int) -> int:
    """Steps after which `newton_schulz` is exact for C = size, were there no rounding.

    The residual after j steps is L^(2^(j + 1)), and L^C = 0.
    """
    return max((size - 1).bit_length() - 1, 0)


def solve_in_blocks(
    below: Float[Tensor, "... C C"],
    right: Float[Tensor, "... C M"],
    *,
    block: int,
    invert: Inverse = inverse_by_substitution,
    product: Product = torch.matmul,
) -> Float[Tensor, "... C M"]:
    """(I + L)^-1 R by forward substitution over blocks of rows.

    Only the blocks on the diagonal are inverted, all at once; the rest is matrix products.

    Args:
        below: L, dimensionless; zero on and above the diagonal.
        right: R.
        block: rows of a block; the last one is filled up with rows of the identity.
        invert: of the blocks.
        product: of two matrices, everywhere else. With blocks of one row, this is substitution with
            products of any precision.

    Raises:
        ValueError: the matrices are not square, or a block has no rows.
    """
    C = _check(below)
    if block < 1:
        raise ValueError(f"block is {block}; it must be at least 1")
    missing = -C % block
    below, right = pad(below, (0, missing, 0, missing)), pad(right, (0, 0, 0, missing))
    starts = range(0, C, block)
    inverses = invert(torch.stack([below[..., i : i + block, i : i + block] for i in starts]))
    solved = right[..., :0, :]
    for i, inverse in zip(starts, inverses, strict=True):
        rest = right[..., i : i + block, :] - product(below[..., i : i + block, :i], solved)
        solved = torch.cat([solved, product(inverse, rest)], dim=-2)
    return solved[..., :C, :]


def powers_hump(below: Float[Tensor, "... C C"]) -> Float[Tensor, "..."]:
    """The largest size of an entry of L, L^2, ..., L^(C - 1).

    It is what `inverse_by_doubling` loses digits to; the inverse itself may be small beside it.
    """
    power, largest = below, below.abs().amax((-2, -1))
    for _ in range(_check(below) - 2):
        power = power @ below
        largest = torch.maximum(largest, power.abs().amax((-2, -1)))
    return largest


def _identity(below: Tensor) -> Tensor:
    return torch.eye(below.shape[-1], dtype=below.dtype, device=below.device)


def _check(below: Tensor) -> int:
    """C, of square matrices."""
    if below.ndim < 2 or below.shape[-1] != below.shape[-2]:
        raise ValueError(f"L {tuple(below.shape)} must be square matrices (..., C, C)")
    return below.shape[-1]
