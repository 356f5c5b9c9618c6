"""The convolution kernel k[t] = Re(C A_d^t B_d) of a time-invariant state-space model."""

import math
from functools import reduce

import torch
from torch import Tensor

from lab.linalg.discretisation import bilinear
from lab.linalg.dplr import DPLR
from lab.linalg.precision import widened


@widened
def kernel_sequential(A_d: Tensor, B_d: Tensor, C: Tensor, length: int) -> Tensor:
    """The definition, one power of A_d after another: what every other form must equal.

    Args:
        A_d: Float or Complex["N N"], the transition of one step.
        B_d: Float or Complex["N p"], what one unit of input adds to the state.
        C: Float or Complex["q N"], the readout.
        length: how many steps, at least 1.

    Returns:
        Float["length q p"]: the response at step t to a unit input at step 0, k[0] included.
    """
    A_d, state, C = _of_one_dtype(A_d, B_d, C)
    responses = []
    for _ in range(length):
        responses.append((C @ state).real)
        state = A_d @ state
    return torch.stack(responses)


@widened
def kernel_doubling(A_d: Tensor, B_d: Tensor, C: Tensor, length: int) -> Tensor:
    """`kernel_sequential` in log2(length) products: the rows C A_d^(0..m-1) times A_d^m are m more.

    Any transition serves, and no eigenvectors are taken.
    Cost: length q N (N + p) + N^3 log2(length).
    """
    q, N = C.shape
    power, B_d, rows = _of_one_dtype(A_d, B_d, C)
    while rows.shape[0] < q * length:
        rows = torch.cat([rows, rows @ power])
        power = power @ power
    return (rows[: q * length] @ B_d).real.reshape(length, q, -1)


@widened
def kernel_resolvent(A: DPLR, B: Tensor, C: Tensor, dt: float, length: int) -> Tensor:
    """`kernel_sequential` of the bilinear discretisation, from its generating function.

    With z over the roots of unity of order L = length, K(z) = sum_t z^t C A_d^t B_d
    = C (I - A_d^L) (I - z A_d)^-1 B_d, and for the bilinear pair (I - z A_d)^-1 B_d
    = dt [(1 - z) I - (1 + z) (dt / 2) A]^-1 B, a resolvent of A itself: an r x r solve per root by
    Woodbury. S4 divides by 1 + z, which fails at z = -1; here nothing is divided by it.

    Args:
        A: N x N, in 1/s.
        B: Float or Complex["N p"], in 1/s per unit of input.
        C, length: as for `kernel_sequential`.
        dt: seconds per step.

    Cost: length N (q + r) (p + r) + N^3 log2(length), against length q N (N + p) for doubling: it
    pays where N is large beside the rank and the number of channels.

    Precision: about 1e-16 / d relative to the kernel and 1e-16 / d^2 to its gradients, where d is
    the distance from an eigenvalue of A_d to the nearest root of unity: the resolvent is nearly
    singular there and I - A_d^L nearly zero. For a slow mode d is dt |lambda|, from z = 1; an
    undamped mode may come closer, and has no kernel in this form where d = 0.

    Source: Gu et al. 2022, Efficiently Modeling Long Sequences with Structured State Spaces,
    section 3 and appendix C.3.
    """
    alpha, beta = bilinear_nodes(length, dt, dtype=B.real.dtype, device=B.device)
    A_d = bilinear(A, B, dt)[0].to(alpha.dtype)
    identity = torch.eye(C.shape[1], dtype=alpha.dtype, device=B.device)
    wrapped = C.to(alpha.dtype) @ (identity - torch.linalg.matrix_power(A_d, length))
    spectrum = dt * A.transfer(wrapped, alpha, beta, B)  # (length, q, p)
    return torch.fft.ifft(spectrum, dim=0).real


def bilinear_nodes(
    length: int, dt: float, *, dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """alpha = 1 - z and beta = (1 + z) dt / 2 for the roots of unity z, clockwise from 1.

    With them (alpha I - beta A)^-1 dt B is the generating function of the bilinear pair at z.

    Args:
        length: how many roots.
        dt: seconds per step.
        dtype: real; the results are complex numbers of its precision.
        device: of the results.

    Returns:
        Complex["length"] each.
    """
    angles = -2 * math.pi * torch.arange(length, device=device, dtype=dtype) / length
    z = torch.polar(torch.ones_like(angles), angles)
    return 1 - z, (1 + z) * (dt / 2)


def _of_one_dtype(*tensors: Tensor) -> list[Tensor]:
    """All tensors in one dtype, complex if any of them is: matrix products refuse mixed dtypes."""
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
    return [tensor.to(dtype) for tensor in tensors]
