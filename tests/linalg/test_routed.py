"""Matrices with one entry a column, against the dense matrix."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.linalg.kernel import kernel_of_cycles, kernel_sequential
from lab.linalg.routed import Routed

patient = settings(deadline=None, max_examples=25)
seeds, sizes = st.integers(0, 2**31), st.integers(1, 9)
dtypes = st.sampled_from([torch.float64, torch.complex128])


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=stream(seed))


def colliding(seed, N, dtype):
    return Routed(torch.randint(N, (N,), generator=stream(seed)), normal(seed, N, dtype=dtype))


def permuted(seed, N, dtype):
    return Routed(torch.randperm(N, generator=stream(seed)), normal(seed, N, dtype=dtype))


@patient
@given(N=sizes, seed=seeds, dtype=dtypes)
def test_the_resolvent_is_the_inverse_of_the_dense_matrix(N, seed, dtype):
    A = permuted(seed, N, dtype)
    # On a circle outside of all eigenvalues.
    radius = (1.5 * A.gains.abs().max() + 0.1).expand(7)
    alpha = torch.polar(radius, normal(seed + 1, 7))
    beta = torch.polar(torch.ones_like(radius), normal(seed + 2, 7))
    x = normal(seed + 3, N, 2, dtype=dtype)
    eye = torch.eye(N, dtype=torch.complex128)
    dense = alpha[:, None, None] * eye - beta[:, None, None] * A.to_dense()
    assert gap(dense @ A.resolvent(alpha, beta, x), x.to(dense.dtype).expand(7, N, 2)) < 1e-12


@patient
@given(N=sizes, seed=seeds, dtype=dtypes)
def test_eigenvalues_are_zeros_of_the_characteristic_polynomial(N, seed, dtype):
    A = permuted(seed, N, dtype)
    dense = A.to_dense().to(torch.complex128)
    found = A.eigenvalues()
    size = A.gains.abs().max()
    for value in found:
        determinant = torch.linalg.det((value * torch.eye(N, dtype=dense.dtype) - dense) / size)
        assert determinant.abs() < 1e-10
    assert gap(found.sum() / size, dense.trace() / size) < 1e-12
    assert gap(found.prod(), torch.linalg.det(dense)) < 1e-10


def test_a_cycle_has_eigenvalues_of_one_modulus_and_an_involution_has_real_ones():
    gains = torch.tensor([0.9, 0.5, 0.7, 0.8], dtype=torch.float64)
    cycle = Routed(torch.tensor([1, 2, 3, 0]), gains).eigenvalues()
    assert gap(cycle.abs(), gains.prod().pow(0.25).expand(4)) < 1e-14
    reversal = Routed(torch.tensor([0, 2, 1, 3]), gains)
    assert [len(each) for each in reversal.cycles()] == [1, 2, 1]
    assert reversal.eigenvalues().imag.abs().max() < 1e-15


@patient
@given(N=sizes, r=st.integers(0, 2), length=st.integers(1, 40), seed=seeds, dtype=dtypes)
def test_the_kernel_of_cycles_is_that_of_successive_powers(N, r, length, seed, dtype):
    p, q = (normal(seed + i, N, r, dtype=dtype) for i in (1, 2))
    A = permuted(seed, N, dtype)
    # All gains and eigenvalues inside the circle of radius 0.9, away from the roots of unity.
    largest = max(
        A.gains.abs().max(), torch.linalg.eigvals(A.to_dense() + p @ q.mT).abs().max(), 1e-3
    )
    A, p = Routed(A.target, 0.9 * A.gains / largest), 0.9 * p / largest
    B, C = normal(seed + 3, N, 2, dtype=dtype), normal(seed + 4, 3, N, dtype=dtype)
    expected = kernel_sequential(A.to_dense() + p @ q.mT, B, C, length)
    assert gap(kernel_of_cycles(A, p, q, B, C, length), expected) < 1e-9


def test_gradients_match_finite_differences():
    gains, x = normal(0, 5).requires_grad_(), normal(1, 5, 2).requires_grad_()
    alpha = torch.polar(torch.full((3,), 4.0).double(), normal(2, 3)).requires_grad_()
    beta = torch.ones_like(alpha)
    target = torch.tensor([2, 0, 1, 4, 3])

    def solve(gains, alpha, x):
        return Routed(target, gains).resolvent(alpha, beta.detach(), x)

    assert torch.autograd.gradcheck(solve, (gains, alpha, x))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Routed(torch.tensor([0, 1]), torch.ones(3)), r"\(2,\) and gains \(3,\)"),
        (lambda: Routed(torch.tensor([0, 2]), torch.ones(2)), r"in \[0, 2\), got \[0, 2\]"),
        (lambda: Routed(torch.tensor([0, 0]), torch.ones(2)).cycles(), "columns collide"),
    ],
)
def test_what_does_not_fit_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
