"""HiPPO-LegS, the operator that state-space models start from, as normal plus low rank."""

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from lab.linalg.dplr import DPLR


def hippo_legs(
    d_state: int,
) -> tuple[DPLR, Complex128[Tensor, "N 1"], Complex128[Tensor, "N N"]]:
    """A = diag(lambda) - p p^*, b and the basis V: the dense operator is V A V^*.

    The dense matrix has -sqrt((2n + 1)(2k + 1)) below the diagonal and -(n + 1) on it. With
    p[n] = sqrt(n + 1/2), A + p p^T is -1/2 and a skew matrix, which has orthogonal eigenvectors:
    every lambda has the real part -1/2.

    Args:
        d_state: N, at least 1.

    Returns:
        A of order N in 1/s, in the basis V: P = V^* p, and Q = -conj(P); V^* b with
        b[n] = sqrt(2 n + 1); and V, which is unitary.

    Raises:
        ValueError: there are no states.

    Precision: A as a matrix is known to about 1e-13 relative at N = 64.
    Source: Gu et al. 2020, HiPPO; Gu et al. 2022, Efficiently Modeling Long Sequences with
    Structured State Spaces, theorem 1 and appendix C.1.
    """
    dense = hippo_legs_dense(d_state)
    p = torch.sqrt(torch.arange(d_state, dtype=dense.dtype) + 0.5)[:, None]
    skew = dense + p @ p.mT + 0.5 * torch.eye(d_state, dtype=dense.dtype)
    # i times a skew matrix is Hermitian: its eigenvalues are real.
    frequencies, V = torch.linalg.eigh(-1j * (skew - skew.mT) / 2)
    diagonal = torch.complex(torch.full_like(frequencies, -0.5), frequencies)
    P, b = (V.mH @ x.to(V.dtype) for x in (p, 2**0.5 * p))
    return DPLR(diagonal, P, -P.conj().resolve_conj()), b, V


def hippo_legs_dense(d_state: int) -> Float64[Tensor, "N N"]:
    """The definition, in 1/s.

    Raises:
        ValueError: there are no states.
    """
    if d_state < 1:
        raise ValueError(f"d_state is {d_state}; it must be at least 1")
    n = torch.arange(d_state, dtype=torch.float64)
    roots = torch.sqrt(2 * n + 1)
    return -(roots[:, None] * roots).tril(-1) - torch.diag(n + 1)
