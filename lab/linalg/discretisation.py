"""From h' = A h + B u in continuous time to h[t] = A_d h[t-1] + B_d u[t]."""

import torch
from torch import Tensor

from lab.linalg.dplr import DPLR


def bilinear(A: DPLR, B: Tensor, dt: float) -> tuple[Tensor, Tensor]:
    """A_d = (I - dt A / 2)^-1 (I + dt A / 2) and B_d = (I - dt A / 2)^-1 dt B, by Woodbury.

    The left half plane maps into the unit disc, and an undamped frequency w to 2 atan(dt w / 2) per
    step. The transition is computed as 2 (I - dt A / 2)^-1 - I, one solve for both matrices.

    Args:
        A: N x N, in 1/s.
        B: Float or Complex["N p"], in 1/s per unit of input.
        dt: seconds per step.

    Returns:
        Complex["N N"] and Complex["N p"].
    """
    N, dtype = A.diagonal.shape[-1], torch.promote_types(A.diagonal.dtype, B.dtype)
    identity = torch.eye(N, dtype=dtype, device=B.device)
    one = torch.ones(1, dtype=dtype, device=B.device)
    solved = A.resolvent(one, dt / 2 * one, torch.cat([identity, B.to(dtype)], dim=1))[0]
    return 2 * solved[:, :N] - identity, dt * solved[:, N:]


def zero_order_hold(A: DPLR, B: Tensor, dt: float) -> tuple[Tensor, Tensor]:
    """A_d = exp(dt A) and B_d = (integral of exp(s A), 0 <= s <= dt) B: exact for held input.

    Both come from one exponential, exp(dt [[A, B], [0, 0]]) = [[A_d, B_d], [0, I]], which also
    holds where A is singular (Van Loan 1978, Computing Integrals Involving the Matrix Exponential).

    Args and returns: as for `bilinear`. Cost: N^3.
    """
    dense = A.to_dense()
    top = torch.cat([dense, B], dim=1)
    block = torch.nn.functional.pad(top, (0, 0, 0, B.shape[1]))
    exponential = torch.linalg.matrix_exp(dt * block)[: dense.shape[0]]
    return exponential[:, : dense.shape[0]], exponential[:, dense.shape[0] :]
