"""The convolution kernel k[t] = Re(C A_d^t B_d) of a time-invariant state-space model."""

import math
from functools import reduce

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor

from lab.linalg.discretisation import bilinear
from lab.linalg.dplr import DPLR
from lab.linalg.precision import widened
from lab.linalg.routed import Routed
from lab.linalg.woodbury import Woodbury


@widened
def kernel_sequential(
    A_d: Inexact[Tensor, "N N"], B_d: Inexact[Tensor, "N p"], C: Inexact[Tensor, "q N"], length: int
) -> Float[Tensor, "length q p"]:
    """The definition, with successive powers of A_d, which every other form must equal.

    Args:
        A_d: the transition of one step.
        B_d: the change of the state by one unit of input.
        C: the readout.
        length: number of steps, at least 1.

    Returns:
        the response at every step, including k[0], to a unit input at step 0.
    """
    A_d, state, C = _of_one_dtype(A_d, B_d, C)
    responses = []
    for _ in range(length):
        responses.append((C @ state).real)
        state = A_d @ state
    return torch.stack(responses)


@widened
def kernel_doubling(
    A_d: Inexact[Tensor, "N N"], B_d: Inexact[Tensor, "N p"], C: Inexact[Tensor, "q N"], length: int
) -> Float[Tensor, "length q p"]:
    """`kernel_sequential` in log2(length) products: the rows C A_d^(0..m-1) times A_d^m are m more.

    It works for any transition, because it does not need eigenvectors.
    Cost: length q N (N + p) + N^3 log2(length).
    """
    q, N = C.shape
    power, B_d, rows = _of_one_dtype(A_d, B_d, C)
    while rows.shape[0] < q * length:
        rows = torch.cat([rows, rows @ power])
        power = power @ power
    return (rows[: q * length] @ B_d).real.reshape(length, q, -1)


@widened
def kernel_resolvent(
    A: DPLR, B: Inexact[Tensor, "N p"], C: Inexact[Tensor, "q N"], dt: float, length: int
) -> Float[Tensor, "length q p"]:
    """`kernel_sequential` of the bilinear discretisation, from its generating function.

    With z over the roots of unity of order L = length, K(z) = sum_t z^t C A_d^t B_d
    = C (I - A_d^L) (I - z A_d)^-1 B_d, and for the bilinear pair (I - z A_d)^-1 B_d
    = dt [(1 - z) I - (1 + z) (dt / 2) A]^-1 B. This is a resolvent of A, which Woodbury's formula
    computes by an r x r solve per root. S4 divides by 1 + z, which fails at z = -1; this form does
    not.

    Args:
        A: N x N, in 1/s.
        B: in 1/s per unit of input.
        C, length: as for `kernel_sequential`.
        dt: seconds per step.

    Cost: length N (q + r) (p + r) + N^3 log2(length), against length q N (N + p) for doubling. It
    is cheaper if N is large compared with the rank and the number of channels.

    Precision: relative errors of about 1e-16 / d in the kernel and 1e-16 / d^2 in its gradients,
    where d is the distance from an eigenvalue of A_d to the nearest root of unity. Near a root, the
    resolvent is nearly singular and I - A_d^L is nearly zero. For a slow mode, d is dt |lambda|,
    the distance to z = 1. An undamped mode may come closer, and for d = 0 this form does not exist.

    Source: Gu et al. 2022, Efficiently Modeling Long Sequences with Structured State Spaces,
    section 3 and appendix C.3.
    """
    alpha, beta = bilinear_nodes(length, dt, dtype=B.real.dtype, device=B.device)
    A_d = bilinear(A, B, dt)[0].to(alpha.dtype)
    identity = torch.eye(C.shape[1], dtype=alpha.dtype, device=B.device)
    wrapped = C.to(alpha.dtype) @ (identity - torch.linalg.matrix_power(A_d, length))
    spectrum = dt * A.transfer(wrapped, alpha, beta, B)  # (length, q, p)
    return torch.fft.ifft(spectrum, dim=0).real


@widened
def kernel_of_cycles(
    A: Routed,
    p: Inexact[Tensor, "N r"],
    q: Inexact[Tensor, "N r"],
    B: Inexact[Tensor, "N p"],
    C: Inexact[Tensor, "q N"],
    length: int,
) -> Float[Tensor, "length q p"]:
    """`kernel_sequential` of A + p q^T, a permutation times a diagonal plus low rank, from cycles.

    As in `kernel_resolvent`, K(z) = C (I - M^L) (I - z M)^-1 B at the roots of unity, here of the
    matrix M = A + p q^T of one step: nothing is discretised. `Routed.resolvent` goes round every
    cycle of A, and Woodbury's formula adds the low rank.

    Args:
        A: whose columns do not collide.
        p, q: the low rank, transposed plainly.
        B, C, length: as for `kernel_sequential`.

    Cost: length N (q + r) (p + r) + N^3 log2(length).
    Precision: as `kernel_resolvent`; no eigenvalue of A or of M may be a root of unity of order
    `length`.

    Raises:
        ValueError: columns of A collide.
    """
    M = A.to_dense() + p @ q.mT
    M, B, C, p, q = _of_one_dtype(M, B, C, p, q)
    angles = -2 * math.pi * torch.arange(length, dtype=B.real.dtype, device=B.device) / length
    z = torch.polar(torch.ones_like(angles), angles)
    identity = torch.eye(len(M), dtype=M.dtype, device=M.device)
    wrapped = C @ (identity - torch.linalg.matrix_power(M, length))
    right = A.resolvent(torch.ones_like(z), z, torch.cat([B, p], dim=1))  # (L, N, p + r)
    products = torch.cat([wrapped, q.mT]).to(z.dtype) @ right  # (L, q + r, p + r)
    k, n, scale = C.shape[0], B.shape[1], z[:, None, None]
    across, core = scale * products[:, :k, n:], scale * products[:, k:, n:]
    found = Woodbury(products[:, :k, :n], across, core, products[:, k:, :n])
    return torch.fft.ifft(found.solved(), dim=0).real


def bilinear_nodes(
    length: int,
    dt: float,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> tuple[Complex[Tensor, "L"], Complex[Tensor, "L"]]:
    """alpha = 1 - z and beta = (1 + z) dt / 2 for the roots of unity z, clockwise from 1.

    With them (alpha I - beta A)^-1 dt B is the generating function of the bilinear pair at z.

    Args:
        length: how many roots.
        dt: seconds per step.
        dtype: real; the results are complex numbers of its precision.
        device: of the results.
    """
    angles = -2 * math.pi * torch.arange(length, device=device, dtype=dtype) / length
    z = torch.polar(torch.ones_like(angles), angles)
    return 1 - z, (1 + z) * (dt / 2)


def _of_one_dtype(*tensors: Tensor) -> list[Tensor]:
    """All tensors in the same dtype, complex if any of them is; products refuse mixed dtypes."""
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
    return [tensor.to(dtype) for tensor in tensors]
