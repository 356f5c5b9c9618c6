"""The WY form of the delta rule: what a chunk of steps does to the state, in matrix products."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lab.linalg.dplr import DPLR
from lab.linalg.precision import widened
from lab.linalg.triangular_inverse import solve_by_substitution

Solve = Callable[[Tensor, Tensor], Tensor]


def wy_form(
    k: Float[Tensor, "... C N"],
    v: Float[Tensor, "... C M"],
    beta: Float[Tensor, "... C"],
    solve: Solve = solve_by_substitution,
) -> tuple[Float[Tensor, "... C N"], Float[Tensor, "... C M"]]:
    """W and U of a chunk: S -> S + K^T (U - W S) is what its steps do to any state S.

    Without values, the product of the steps' matrices I - beta[t] k[t] k[t]^T is I - K^T W. The
    factors are (I + L)^-1 diag(beta) K and (I + L)^-1 diag(beta) V, where L is the part of
    diag(beta) K K^T below the diagonal; neither depends on the state.

    Args:
        k: the keys of a chunk, dimensionless.
        v: its values, in units of the state.
        beta: dimensionless.
        solve: called with L ["... C C"], zero on and above the diagonal, and R ["... C N+M"];
            returns (I + L)^-1 R.

    Returns:
        W, dimensionless, and U, in units of the state.

    Source: Yang et al. 2024, Parallelizing linear transformers with the delta rule over sequence
    length, section 3; Joffrain et al. 2006, Accumulating Householder transformations, revisited.
    """
    scaled = beta[..., None] * torch.cat([k, v], dim=-1)
    below = (beta[..., None] * (k @ k.mT)).tril(-1)
    W, U = solve(below, scaled).split([k.shape[-1], v.shape[-1]], dim=-1)
    return W, U


@widened
def householder_product(
    k: Float[Tensor, "... C N"], beta: Float[Tensor, "... C"], solve: Solve = solve_by_substitution
) -> DPLR:
    """The product of I - beta[t] k[t] k[t]^T, the last step leftmost: I - K^T W, of rank C.

    Unlike torch.linalg.householder_product, it takes any keys and does not make the dense matrix.

    Args:
        k, beta, solve: as for `wy_form`.
    """
    W, _ = wy_form(k, k[..., :0], beta, solve)
    return DPLR(torch.ones_like(W[..., 0, :]), -k.mT, W.mT)
