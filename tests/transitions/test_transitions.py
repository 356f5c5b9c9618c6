"""One suite for all transitions: products, scans and bounds against the dense matrices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from torch.utils._pytree import tree_leaves
from transition_cases import D_MODEL, TRANSITIONS

from lab.scan import matrix_scan_sequential

every_transition = pytest.mark.parametrize("case", TRANSITIONS, ids=lambda case: case.name)
DOUBLE = torch.float64


def problem(transition, B, T, seed):
    """Inputs, drives and initial states of a scan."""
    generator = stream(seed)
    dtype = torch.complex128 if transition.is_complex else DOUBLE
    x = torch.randn(B, T, D_MODEL, dtype=DOUBLE, generator=generator)
    b = torch.randn(B, T, transition.d_state, dtype=dtype, generator=generator)
    return x, b, torch.randn(B, transition.d_state, dtype=dtype, generator=generator)


@every_transition
@settings(deadline=None, max_examples=20)
@given(B=st.integers(0, 3), T=st.integers(1, 17), seed=st.integers(0, 2**31))
def test_scan_and_product_are_those_of_the_dense_matrices(case, B, T, seed):
    transition = case.transition()
    x, b, initial = problem(transition, B, T, seed)
    parameters = transition(x)
    A = transition.dense(parameters)
    expected = matrix_scan_sequential(A, b, initial)
    assert gap(transition.scan(parameters, b, initial), expected) < 1e-11
    assert gap(transition.product(parameters, b), (A @ b[..., None])[..., 0]) < 1e-11


@every_transition
def test_single_precision_is_close_to_double(case):
    transition = case.transition()
    x, b, initial = problem(transition, 2, 16, seed=0)
    expected = transition.scan(transition(x), b, initial)
    single = torch.complex64 if transition.is_complex else torch.float32
    narrow = transition.float()
    actual = narrow.scan(narrow(x.float()), b.to(single), initial.to(single))
    assert actual.dtype == single
    assert gap(actual.to(expected.dtype), expected) < 1e-3


@every_transition
def test_gradients_are_those_of_the_dense_matrices(case):
    transition = case.transition()
    x, b, initial = problem(transition, 2, 7, seed=1)
    weights = torch.randn(b.shape, dtype=b.dtype, generator=stream(2))
    inputs = [x.requires_grad_(), b.requires_grad_(), initial.requires_grad_()]
    inputs += transition.parameters()

    def gradients(states):
        loss = (weights * states).sum().abs()
        return torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)

    expected = gradients(matrix_scan_sequential(transition.dense(transition(x)), b, initial))
    actual = gradients(transition.scan(transition(x), b, initial))
    for one, other in zip(actual, expected, strict=True):
        assert gap(one, other) < 1e-10


@every_transition
def test_a_table_gives_the_states_and_gradients_of_its_rows(case):
    transition = case.transition()
    if getattr(getattr(transition, "P", None), "choice", "") == "gumbel":
        pytest.skip("equal tokens have other noise")
    (x, b, _), (_, _, initial) = (
        problem(transition, 1, 4, seed=1),
        problem(transition, 3, 1, seed=2),
    )
    tokens = torch.randint(4, (3, 9), generator=stream(3))
    weights = torch.randn(3, 9, transition.d_state, dtype=b.dtype, generator=stream(4))
    inputs = [x.requires_grad_(), b.requires_grad_(), initial.requires_grad_()]
    inputs += transition.parameters()

    expected = transition.scan(transition(x[0][tokens]), b[0][tokens], initial)
    actual = transition.table_scan(transition(x[0]), b[0], tokens, initial)
    assert gap(actual, expected) < 1e-11
    one, other = (
        torch.autograd.grad(
            (weights * h).sum().abs(), inputs, allow_unused=True, materialize_grads=True
        )
        for h in (actual, expected)
    )
    for found, wanted in zip(one, other, strict=True):
        assert gap(found, wanted) < 1e-10


@pytest.mark.parametrize(
    "case", [case for case in TRANSITIONS if not case.straight_through], ids=lambda case: case.name
)
def test_gradients_match_finite_differences(case):
    transition = case.transition()
    x, b, initial = problem(transition, 2, 3, seed=0)

    def states(x, b, initial):
        return transition.scan(transition(x), b, initial)

    inputs = [each.requires_grad_() for each in (x, b, initial)]
    assert torch.autograd.gradcheck(states, inputs, atol=1e-6)


@every_transition
def test_eigenvalues_are_those_of_the_dense_matrices(case):
    transition = case.transition()
    parameters = transition(torch.randn(4, D_MODEL, dtype=DOUBLE, generator=stream(0)))
    # Power sums tell sets of eigenvalues apart without an order; traces of powers are theirs.
    A, found = transition.dense(parameters), transition.eigenvalues(parameters)
    assert found.shape == A.shape[:-1]
    for power in range(1, 4):
        traces = torch.linalg.matrix_power(A, power).diagonal(dim1=-2, dim2=-1).sum(-1)
        assert gap(found.pow(power).sum(-1), traces.to(found.dtype)) < 1e-8


@every_transition
def test_what_it_promises_of_norms_holds_far_from_the_start(case):
    transition = case.transition()
    x = 10 * torch.randn(50, D_MODEL, dtype=DOUBLE, generator=stream(0))
    A = transition.dense(transition(x))
    assert all(leaf.isfinite().all() for leaf in tree_leaves(transition(x)))
    if case.bound is not None:
        assert torch.linalg.matrix_norm(A, 2).max() <= case.bound + 1e-9
    if case.orthogonal:
        assert gap(A.mH @ A, torch.eye(A.shape[-1], dtype=A.dtype).expand_as(A)) < 1e-9
