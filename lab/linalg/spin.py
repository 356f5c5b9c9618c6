"""The symmetric group as rotations: exact targets for input-dependent Monarch blocks.

A transposition of m things reflects R^m along v = (e_i - e_j) / sqrt(2). If one more coordinate is
added, which every transposition negates, it becomes a rotation of R^(m+1) by pi in the plane of v
and this coordinate. Its image in the spin group is a product of two gamma matrices, up to sign.
"""

import math

import torch
from jaxtyping import Complex, Complex128, Float, Float64
from torch import Tensor

_X = torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128)
_Y = torch.tensor([[0, -1j], [1j, 0]], dtype=torch.complex128)
_Z = torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128)


def gamma_matrices(n: int) -> Complex128[Tensor, "n d d"]:
    """Complex128["n d d"], d = 2^(n/2): Hermitian matrices of square I; any two anticommute.

    Raises:
        ValueError: n is not even and positive.

    Source: Brauer & Weyl 1935, Spinors in n dimensions (Kronecker products of Pauli matrices).
    """
    if n < 2 or n % 2:
        raise ValueError(f"gamma matrices are made for an even number of dimensions, got {n}")
    found = []
    for place in range(n // 2):
        for pauli in (_X, _Y):
            factors = [_Z] * place + [pauli] + [torch.eye(2) + 0j] * (n // 2 - place - 1)
            found.append(_kronecker(factors))
    return torch.stack(found)


def half_spin(i: int, j: int, m: int = 5) -> Complex128[Tensor, "d d"]:
    """The image of the transposition (i j) of m things in the half-spin group of m + 1 dimensions.

    Args:
        i, j: two different numbers in [0, m).
        m: odd.

    Returns:
        Complex128["d d"], d = 2^((m - 1) / 2): unitary with square -I, so the eigenvalues are i and
        -i. The sign is a choice; products agree with those of the group up to sign.
    """
    gamma = gamma_matrices(m + 1)
    along = (gamma[i] - gamma[j]) / math.sqrt(2)
    chirality, basis = torch.linalg.eigh(_chirality(gamma))
    positive = basis[:, chirality > 0]
    return positive.mH @ along @ gamma[m] @ positive


def real_form(U: Complex[Tensor, "d d"]) -> Float[Tensor, "2*d 2*d"]:
    """The complex matrix ["d d"], acting on real parts above imaginary parts."""
    top = torch.cat([U.real, -U.imag], dim=-1)
    return torch.cat([top, torch.cat([U.imag, U.real], dim=-1)], dim=-2)


def swap_factors(
    i: int, j: int, m: int = 5
) -> tuple[Float64[Tensor, "d d"], Float64[Tensor, "d d"]]:
    """Rotations L and R of side 2^((m + 1) / 2) such that H -> L H R^T represents (i j) exactly.

    The two signs of the spin group cancel. Neither L nor R has an eigenvalue near -1, so both are
    Cayley transforms of skew matrices with entries below 1.

    Returns:
        Two Float64 matrices, 8 by 8 for m = 5.
    """
    U = half_spin(i, j, m)
    return real_form(U), real_form(U.conj())


def swap_generator(i: int, j: int, m: int, b: int) -> Float64[Tensor, "b b"]:
    """The skew matrix Float64["b b"] whose exponential swaps coordinates i and j and negates m.

    Raises:
        ValueError: b is not above m.
    """
    if b <= m:
        raise ValueError(f"m + 1 = {m + 1} coordinates do not fit into a block of side {b}")
    v, extra = torch.zeros(2, b, dtype=torch.float64)
    v[i], v[j], extra[m] = math.sqrt(0.5), -math.sqrt(0.5), 1.0
    return math.pi * (torch.outer(v, extra) - torch.outer(extra, v))


def _chirality(gamma: Tensor) -> Tensor:
    """The Hermitian product of all gamma matrices, with square I."""
    product = gamma[0]
    for matrix in gamma[1:]:
        product = product @ matrix
    return 1j ** (len(gamma) // 2) * product


def _kronecker(factors: list[Tensor]) -> Tensor:
    product = factors[0].to(torch.complex128)
    for factor in factors[1:]:
        product = torch.kron(product, factor.to(torch.complex128))
    return product
