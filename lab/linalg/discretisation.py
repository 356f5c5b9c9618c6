"""Discretisation of h' = A h + B u in continuous time to h[t] = A_d h[t-1] + B_d u[t]."""

import torch
from jaxtyping import Inexact
from torch import Tensor

from lab.linalg.dplr import DPLR
from lab.linalg.precision import widened


@widened
def bilinear(
    A: DPLR, B: Inexact[Tensor, "N p"], dt: float
) -> tuple[Inexact[Tensor, "N N"], Inexact[Tensor, "N p"]]:
    """A_d = (I - dt A / 2)^-1 (I + dt A / 2) and B_d = (I - dt A / 2)^-1 dt B.

    The left half plane is mapped into the unit disc, and an undamped frequency w to the angle
    2 atan(dt w / 2) per step. The cost is one dense solve; A_d is dense, so every later step costs
    N^2.

    Args:
        A: N x N, in 1/s.
        B: in 1/s per unit of input.
        dt: seconds per step.

    Returns:
        A_d ["N N"] and B_d ["N p"], complex if A or B is.
    """
    half = dt / 2 * A.to_dense()
    identity = torch.eye(half.shape[0], dtype=half.dtype, device=half.device)
    right = torch.cat([identity + half, dt * B], dim=1)
    solved = torch.linalg.solve((identity - half).to(right.dtype), right)
    return solved[:, : half.shape[0]], solved[:, half.shape[0] :]


@widened
def zero_order_hold(
    A: DPLR, B: Inexact[Tensor, "N p"], dt: float
) -> tuple[Inexact[Tensor, "N N"], Inexact[Tensor, "N p"]]:
    """A_d = exp(dt A) and B_d = (integral of exp(s A), 0 <= s <= dt) B: exact for held input.

    Both come from one exponential, exp(dt [[A, B], [0, 0]]) = [[A_d, B_d], [0, I]], which also
    holds where A is singular (Van Loan 1978, Computing Integrals Involving the Matrix Exponential).

    Args and returns: as for `bilinear`. Cost: N^3.
    """
    dense = A.to_dense()
    top = torch.cat([dense, B], dim=1)
    block = torch.nn.functional.pad(top, (0, 0, 0, B.shape[1]))
    # For a single small matrix, torch 2.13 has errors of up to 1e-10 in double and 1e-5 in single
    # precision, because a coefficient of its polynomial of degree 8 is wrong (PyTorch 196592). For
    # two matrices at once it has not.
    exponential = torch.linalg.matrix_exp((dt * block).expand(2, -1, -1))[0, : dense.shape[0]]
    return exponential[:, : dense.shape[0]], exponential[:, dense.shape[0] :]
