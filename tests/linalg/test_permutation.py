"""Permutations and what stands for them in training, against enumeration and finite differences."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.linalg import permutation
from lab.linalg.monarch import expm, skew

DOUBLE = torch.float64
seeds = st.integers(0, 2**31)
patient = settings(deadline=None, max_examples=25)


def normal(seed, *shape):
    return torch.randn(shape, dtype=DOUBLE, generator=stream(seed))


def every_permutation(n):
    """["n! n n"]."""
    return torch.eye(n, dtype=DOUBLE)[torch.tensor(list(itertools.permutations(range(n))))]


def rotations(seed, *batch, n=4, scale=1.0):
    return expm(skew(scale * normal(seed, *batch, n * (n - 1) // 2), n))


def is_permutation(P):
    ones = torch.ones_like(P[..., 0])
    return bool(
        ((P == 0) | (P == 1)).all()
        and torch.equal(P.sum(-1), ones)
        and torch.equal(P.sum(-2), ones)
    )


def test_a_matrix_sends_the_entries_where_the_targets_say():
    P = permutation.as_matrix(torch.tensor([[1, 2, 0], [0, 0, 2]]), DOUBLE)
    h = torch.tensor([1.0, 2.0, 4.0], dtype=DOUBLE)
    assert (P @ h).tolist() == [[4, 1, 2], [3, 0, 4]]  # what collides adds up


@patient
@given(n=st.integers(1, 5), seed=seeds)
def test_no_permutation_has_a_larger_sum_of_scores(n, seed):
    scores = normal(seed, 2, 3, n, n)
    found = permutation.nearest_permutation(scores)
    assert is_permutation(found)
    sums = torch.einsum("...ij,pij->...p", scores, every_permutation(n))
    assert gap((found * scores).sum((-1, -2)), sums.amax(-1)) < 1e-13


def test_a_choice_row_after_row_may_be_worse():
    # The first row takes what the second one needs.
    scores = torch.tensor([[3.0, 2.0], [3.0, 0.0]], dtype=DOUBLE)
    assert permutation.assignment(scores).tolist() == [1, 0]


def test_assignments_side_by_side_are_those_one_after_another():
    scores = normal(0, 3, 2, 5, 5)
    expected = torch.stack([permutation.assignment(each) for each in scores])
    assert torch.equal(torch.vmap(permutation.assignment)(scores), expected)
    last = scores.movedim(0, -1)
    assert torch.equal(torch.vmap(permutation.assignment, in_dims=-1)(last), expected)
    assert permutation.assignment(scores[:0]).shape == (0, 2, 5)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="scores must be finite"):
        permutation.assignment(torch.full((2, 2), torch.nan))


# --- hard choices --------------------------------------------------------------------------------


@patient
@given(n=st.integers(1, 6), seed=seeds)
def test_a_hard_choice_has_the_values_of_one_and_the_gradient_of_the_other(n, seed):
    logits, weight = normal(seed, 3, n, n).requires_grad_(), normal(seed + 1, 3, n, n)
    for hard, soft in (
        (permutation.hard_choice, lambda x: x.softmax(-1)),
        (permutation.hard_columns, lambda x: x.softmax(-2)),
        (permutation.hard_permutation, lambda x: x),
    ):
        found = hard(logits)
        assert ((found == 0) | (found == 1)).all()
        (actual,) = torch.autograd.grad((found * weight).sum(), logits)
        (expected,) = torch.autograd.grad((soft(logits) * weight).sum(), logits)
        assert gap(actual, expected) < 1e-14


def test_columns_choose_for_themselves_and_permutations_together():
    logits = torch.tensor([[5.0, 4.0], [0.0, 3.0]], dtype=DOUBLE)
    assert permutation.hard_columns(logits).tolist() == [[1, 1], [0, 0]]
    assert permutation.hard_permutation(logits).tolist() == [[1, 0], [0, 1]]
    assert permutation.hard_choice(torch.zeros(3)).tolist() == [1, 0, 0]


def test_gumbel_noise_chooses_with_the_probabilities_of_the_softmax():
    logits, draws = normal(0, 5), 40_000
    chosen = permutation.gumbel(logits.expand(draws, 5), stream(1)).argmax(-1)
    shares = torch.bincount(chosen, minlength=5) / draws
    # Five standard deviations of a share are at most 2.5 / 200.
    assert (shares - logits.softmax(-1)).abs().max() < 0.0125


# --- soft matrices -------------------------------------------------------------------------------


@patient
@given(n=st.integers(1, 6), seed=seeds)
def test_sinkhorn_is_doubly_stochastic_and_tends_to_the_assignment(n, seed):
    logits = normal(seed, 2, n, n)
    found, ones = permutation.sinkhorn(logits, rounds=300), torch.ones(2, n, dtype=DOUBLE)
    assert gap(found.sum(-1), ones) < 1e-9
    assert gap(found.sum(-2), ones) < 1e-9
    # A cold one is near the best permutation where that leads by a margin.
    best = permutation.nearest_permutation(logits)
    clear = permutation.sinkhorn((logits + 3 * best) / 0.05, rounds=300)
    assert gap(clear, best) < 1e-6


def test_sinkhorn_is_flat_at_zero_and_shortens():
    flat = permutation.sinkhorn(torch.zeros(8, 8, dtype=DOUBLE))
    assert gap(flat, torch.full((8, 8), 1 / 8, dtype=DOUBLE)) < 1e-15
    assert torch.linalg.matrix_rank(flat) == 1
    sizes = torch.linalg.svdvals(permutation.sinkhorn(normal(0, 50, 8, 8)))
    assert sizes[:, 1].max() < 1


@patient
@given(n=st.integers(2, 6), temperature=st.floats(0, 1), seed=seeds)
def test_matrices_near_a_permutation_are_orthogonal(n, temperature, seed):
    # Where no angle is near pi, that is, for rotations close to an even permutation or to P D.
    even = permutation.nearest_permutation(normal(seed, 5, n, n))
    flip = torch.ones(5, n, dtype=DOUBLE)
    flip[:, -1] = torch.linalg.det(even).round()
    turned = even * flip[:, None] @ rotations(seed, 5, n=n, scale=0.2)
    found = permutation.near_permutation(turned, temperature)
    eye = torch.eye(n, dtype=DOUBLE).expand(5, n, n)
    assert gap(found.mT @ found, eye) < 1e-11
    P = permutation.nearest_permutation(turned)
    assert is_permutation(permutation.near_permutation(turned, 0.0).round())
    assert gap(permutation.near_permutation(turned, 0.0), P) < 1e-12
    signs = torch.linalg.det(P).round()
    expected = turned.clone()
    expected[..., -1] *= signs[:, None]
    assert gap(permutation.near_permutation(turned, 1.0), expected) < 1e-11


def test_a_colder_matrix_is_nearer_to_its_permutation():
    turned = rotations(0, 20, n=5)
    P = permutation.nearest_permutation(turned)
    distances = [
        torch.linalg.matrix_norm(permutation.near_permutation(turned, temperature) - P)
        for temperature in (0.8, 0.4, 0.1)
    ]
    assert (distances[0] > distances[1]).all()
    assert (distances[1] > distances[2]).all()


def test_even_and_odd_permutations_are_reached():
    entries = 3 * normal(0, 4000, 6)
    found = permutation.orthogonal_permutation(entries, 4, 0.0).round()
    assert len({tuple(each.flatten().tolist()) for each in found}) == 24


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_gradients_match_finite_differences(temperature):
    entries = normal(3, 3, 6).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: permutation.orthogonal_permutation(x, 4, temperature), entries
    )
    logits = normal(1, 2, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: permutation.sinkhorn(x, rounds=5), logits)
    assert torch.autograd.gradgradcheck(lambda x: permutation.sinkhorn(x, rounds=3), logits)


def test_equal_eigenvalues_have_a_gradient():
    entries = torch.zeros(6, dtype=DOUBLE, requires_grad=True)  # the identity, all angles zero
    found = permutation.orthogonal_permutation(entries, 4, 0.5)
    (found * normal(0, 4, 4)).sum().backward()
    assert entries.grad.isfinite().all()
    assert entries.grad.abs().min() > 0


@pytest.mark.parametrize("temperature", [-0.1, 1.5])
def test_a_temperature_outside_is_named(temperature):
    with pytest.raises(ValueError, match=rf"temperature must be in \[0, 1\], got {temperature}"):
        permutation.near_permutation(torch.eye(3), temperature)
