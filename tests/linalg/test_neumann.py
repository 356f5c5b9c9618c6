"""Partial sums of the Neumann series against the inverse, HiPPO-LegS against its definition."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.linalg import DPLR
from lab.linalg.hippo import hippo_legs, hippo_legs_dense
from lab.linalg.neumann import certified_terms, neumann_apply, neumann_by_doubling

REAL, COMPLEX = torch.float64, torch.complex128
patient = settings(deadline=None, max_examples=30)
seeds = st.integers(0, 2**31)
ranks, dtypes = st.integers(1, 4), st.sampled_from([REAL, COMPLEX])


def problem(r, k, seed, dtype, size):
    """X of a spectral norm, and a right side."""
    generator = stream(seed)
    X = torch.randn(3, r, r, dtype=dtype, generator=generator)
    X = size * X / torch.linalg.matrix_norm(X, 2)[..., None, None]
    return X, torch.randn(3, r, k, dtype=dtype, generator=generator)


def exact(X, right):
    return torch.linalg.solve(torch.eye(X.shape[-1], dtype=X.dtype) - X, right)


@patient
@given(ranks, st.integers(1, 3), seeds, dtypes, st.integers(0, 9), st.floats(0.1, 3))
def test_what_is_left_out_is_a_power_times_the_inverse(r, k, seed, dtype, terms, size):
    X, right = problem(r, k, seed, dtype, size)
    known = exact(X, right - torch.linalg.matrix_power(X, terms) @ right)
    assert gap(neumann_apply(X, right, terms), known) < 1e-9


@patient
@given(ranks, seeds, dtypes, st.integers(0, 4))
def test_doubling_sums_as_many_terms(r, seed, dtype, doublings):
    X, _ = problem(r, 1, seed, dtype, 1.2)
    eye = torch.eye(r, dtype=dtype).expand_as(X)
    assert gap(neumann_by_doubling(X, doublings), neumann_apply(X, eye, 2**doublings)) < 1e-12


@patient
@given(ranks, seeds, dtypes, st.floats(0, 0.95), st.sampled_from([1e-2, 1e-6]))
def test_certified_terms_keep_their_promise(r, seed, dtype, size, tolerance):
    X, right = problem(r, 1, seed, dtype, size)
    terms = int(certified_terms(torch.linalg.matrix_norm(X, 2), tolerance).max())
    missing = torch.linalg.matrix_norm(neumann_apply(X, right, terms) - exact(X, right), 2)
    assert (missing <= tolerance * torch.linalg.matrix_norm(right, 2) * (1 + 1e-9) + 1e-13).all()


def test_certified_terms_by_hand():
    norms = torch.tensor([0.0, 0.1, 0.5, 0.9], dtype=REAL)
    assert certified_terms(norms, 1e-3).tolist() == [1, 4, 11, 88]


@pytest.mark.parametrize(
    "form", [lambda X, b: neumann_apply(X, b, 4), lambda X, b: neumann_by_doubling(X, 2) @ b]
)
def test_gradients_match_finite_differences(form):
    inputs = [x.requires_grad_() for x in problem(2, 1, 0, COMPLEX, 0.7)]
    assert torch.autograd.gradcheck(form, inputs)


def resolvent(N, r, q, k, seed, size=1.0):
    """Woodbury's parts at four frequencies, and the dense ones."""
    generator = stream(seed)

    def normal(*shape):
        return torch.randn(shape, dtype=COMPLEX, generator=generator)

    A, left, right = DPLR(normal(N), size * normal(N, r), normal(N, r)), normal(q, N), normal(N, k)
    alpha, beta = 9 + normal(4), normal(4)
    D = torch.diag_embed(1 / (alpha[:, None] - beta[:, None] * A.diagonal))
    into, back = A.Q.mT @ D @ right, beta[:, None, None] * (D @ A.P)
    dense = (left @ D @ right, left @ back, A.Q.mT @ back, into)
    return A.woodbury(left, alpha, beta, right), dense


wholes = (st.integers(1, 6), st.integers(0, 3), st.integers(1, 2), st.integers(1, 2), seeds)


@patient
@given(*wholes)
def test_the_parts_of_woodbury_are_those_of_the_dense_inverse(N, r, q, k, seed):
    parts, dense = resolvent(N, r, q, k, seed)
    for actual, known in zip(
        (parts.direct, parts.across, parts.core, parts.into), dense, strict=True
    ):
        assert gap(actual, known) < 1e-12


@patient
@given(*wholes, st.integers(1, 9))
def test_what_a_truncated_kernel_leaves_out(N, r, q, k, seed, terms):
    parts, _ = resolvent(N, r, q, k, seed)
    assert gap(parts.summed(terms) + parts.left_out(terms), parts.solved()) < 1e-10
    assert gap(parts.doubled(2), parts.summed(5)) < 1e-12


@patient
@given(*wholes, st.integers(1, 9))
def test_the_bound_of_what_is_left_out_holds(N, r, q, k, seed, terms):
    parts, _ = resolvent(N, max(r, 1), q, k, seed, size=3.0)
    missing = torch.linalg.matrix_norm(parts.left_out(terms), 2)
    bound = parts.bound(torch.full((4,), terms))
    assert (missing <= bound * (1 + 1e-9) + 1e-13).all()
    some = torch.tensor([True, False, True, False])
    assert torch.equal(parts.at(some).bound(torch.full((2,), terms)), bound[some])


def test_a_division_is_the_solve_of_rank_one_and_of_no_other():
    parts, _ = resolvent(5, 1, 2, 2, seed=0)
    assert gap(parts.divided(), parts.solved()) < 1e-13
    with pytest.raises(ValueError, match="rank 2: a division is for rank 1 alone"):
        resolvent(5, 2, 2, 2, seed=0)[0].divided()


@pytest.mark.parametrize("N", [1, 2, 16, 64])
def test_hippo_is_normal_plus_rank_one(N):
    A, b, V = hippo_legs(N)
    assert gap(V @ V.mH, torch.eye(N, dtype=COMPLEX)) < 1e-12
    assert gap(V @ A.to_dense() @ V.mH, hippo_legs_dense(N).to(COMPLEX)) < 1e-12
    assert A.diagonal.real.tolist() == [-0.5] * N
    assert A.P.abs().square().sum().item() == pytest.approx(N**2 / 2)
    roots = torch.sqrt(2 * torch.arange(N, dtype=REAL) + 1)[:, None]
    assert gap(V @ b, roots.to(COMPLEX)) < 1e-12


def test_the_dense_operator_entry_by_entry():
    expected = [[-1, 0, 0], [-(3**0.5), -2, 0], [-(5**0.5), -(15**0.5), -3]]
    assert gap(hippo_legs_dense(3), torch.tensor(expected, dtype=REAL)) < 1e-15


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: neumann_apply(torch.zeros(1, 1), torch.zeros(1, 1), -1), "terms is -1"),
        (lambda: certified_terms(torch.tensor([0.5, 1.0]), 0.1), "the largest norm is 1"),
        (lambda: certified_terms(torch.tensor([0.5]), 1.0), "tolerance is 1.0"),
        (lambda: hippo_legs(0), "d_state is 0; it must be at least 1"),
    ],
)
def test_bad_input_stops_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
