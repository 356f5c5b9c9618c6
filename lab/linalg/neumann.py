"""The Neumann series of (I - X)^-1: its partial sums, and how many terms are enough."""

import math

import torch
from jaxtyping import Float, Inexact, Int64
from torch import Tensor


def neumann_apply(
    X: Inexact[Tensor, "... r r"], right: Inexact[Tensor, "... r k"], terms: int
) -> Inexact[Tensor, "... r k"]:
    """(I + X + ... + X^(terms - 1)) R, by Horner's rule: products with R alone.

    What is left out is X^terms (I - X)^-1 R, exactly. The series converges where all eigenvalues of
    X are inside the unit circle; elsewhere every further term makes things worse.

    Args:
        X: real or complex, dimensionless.
        right: R.
        terms: at least 0; with none the result is zero.

    Raises:
        ValueError: terms is negative.

    Cost: terms - 1 products with R.
    """
    if terms < 0:
        raise ValueError(f"terms is {terms}; it must be at least 0")
    found = torch.zeros_like(right) if terms == 0 else right
    for _ in range(terms - 1):
        found = right + X @ found
    return found


def neumann_by_doubling(
    X: Inexact[Tensor, "... r r"], doublings: int
) -> Inexact[Tensor, "... r r"]:
    """I + X + ... + X^(2^doublings - 1) = (I + X)(I + X^2)(I + X^4)..., as a matrix.

    Args:
        X: real or complex, dimensionless.
        doublings: at least 0; with none the result is I.

    Cost: 2 (doublings - 1) products.
    """
    eye = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    found, power = eye.expand_as(X), X
    for i in range(doublings):
        found = eye + power if i == 0 else found + found @ power
        if i < doublings - 1:
            power = power @ power
    return found


def certified_terms(norm: Float[Tensor, "*batch"], tolerance: float) -> Int64[Tensor, "*batch"]:
    """How many terms of the series are surely enough, from the norm of X alone.

    What n terms leave out is at most norm^n / (1 - norm) times the norm of R, so that
    n = ceil(log(tolerance (1 - norm)) / log(norm)) terms suffice.

    Args:
        norm: of X, in [0, 1); any norm that is 1 for I and submultiplicative.
        tolerance: of (I - X)^-1 R, relative to the norm of R, in (0, 1).

    Returns:
        numbers of terms, at least 1.

    Raises:
        ValueError: a norm is not in [0, 1), or the tolerance not in (0, 1).
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; it must be in (0, 1)")
    if not bool(((norm >= 0) & (norm < 1)).all()):
        worst = norm.max().item()
        raise ValueError(f"the largest norm is {worst:g}; a series is certain below 1 alone")
    wanted = math.log(tolerance) + torch.log1p(-norm)
    # A norm of 0 has the logarithm -inf: one term is exact.
    return (wanted / norm.log()).ceil().clamp_min(1).to(torch.int64)
