"""Every form of softmax averages, against one definition that is written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.memories.softmax_average import (
    attention,
    jacobians,
    odds_spread,
    shares,
    shares_by_autograd,
    signs_apart,
)
from lab.scan import softmax_scan, softmax_scan_sequential

DOUBLE = torch.float64
sizes = (st.integers(0, 3), st.integers(1, 17), st.integers(1, 3), st.integers(1, 4))


def problem(B, T, N, V, seed=0):
    generator = stream(seed)
    decay, score = torch.randn(2, B, T, N, dtype=DOUBLE, generator=generator)
    value = torch.randn(B, T, N, V, dtype=DOUBLE, generator=generator)
    return -decay.abs(), 3 * score, value


@settings(deadline=None, max_examples=40)
@given(*sizes, st.integers(0, 2**31))
def test_all_forms_are_one_average(B, T, N, V, seed):
    inputs = problem(B, T, N, V, seed)
    expected, log_norm = softmax_scan_sequential(*inputs)
    for actual, wanted in zip(attention(*inputs), (expected, log_norm), strict=True):
        assert gap(actual, wanted) < 1e-12
    assert gap(signs_apart(*inputs), expected) < 1e-11


def test_a_value_may_be_shared_and_single_precision_is_close():
    decay, score, value = problem(2, 60, 3, 4)
    narrow = attention(decay.float(), score.float(), value[:, :, :1].float())[0]
    expected = softmax_scan(decay, score, value[:, :, :1])[0]
    assert gap(narrow.double(), expected) < 2e-6


def test_shares_survive_decays_that_a_difference_of_sums_would_not():
    decay = torch.full((2000,), -50.0)
    p = shares(decay, torch.zeros(2000))
    late = torch.tensor([-50.0]).exp()
    torch.testing.assert_close(p[-1, -2:], torch.cat([late, 1 - late]) / (1 + late))


@pytest.mark.parametrize("form", [attention, lambda *inputs: (signs_apart(*inputs),)])
def test_gradients_match_finite_differences(form):
    inputs = [tensor.requires_grad_() for tensor in problem(1, 4, 2, 2)]
    assert torch.autograd.gradcheck(form, inputs)


@settings(deadline=None, max_examples=15)
@given(T=st.integers(1, 9), V=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_derivatives_by_hand_are_those_of_the_scan(T, V, seed):
    decay, score, value = (tensor[0, :, 0] for tensor in problem(1, T, 1, V, seed))

    def scanned(decay, score):
        average, log_norm = softmax_scan(
            decay[None, :, None], score[None, :, None], value[None, :, None]
        )
        return average[0, :, 0], log_norm[0, :, 0]

    found = torch.autograd.functional.jacobian(scanned, (decay, score))
    (average_by_decay, average_by_score), (norm_by_decay, norm_by_score) = found
    by_hand = jacobians(decay, score, value)
    expected = (norm_by_score, norm_by_decay, average_by_score, average_by_decay)
    for actual, wanted in zip(by_hand, expected, strict=True):
        assert gap(actual, wanted) < 1e-12


def test_shares_are_derivatives_of_the_scan_and_their_odds_are_frozen():
    decay, score, _ = problem(2, 11, 3, 1)
    p = shares_by_autograd(decay, score)
    assert gap(p, shares(decay.mT, score.mT)) < 1e-13
    assert odds_spread(p) < 1e-11


def test_odds_that_move_are_seen():
    p = shares(torch.zeros(6), torch.arange(6.0).double())
    p[4, 2] *= 3  # of steps 2 and any other, at step 4 alone
    assert odds_spread(p) == pytest.approx(math.log(3))
    p[2, 5] = 7  # not yet written
    assert odds_spread(p) == pytest.approx(math.log(3))
