"""The bootstrap interval against scipy's, and against the truth it should hold."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import stream
from scipy import stats

from lab.statistics import bootstrap_interval, spread

numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=20)


def test_it_is_scipys_interval_up_to_the_noise_of_the_draws():
    differences = torch.randn(12, dtype=torch.float64, generator=stream(0)) + 0.5
    ours = bootstrap_interval(differences, stream(1), resamples=100_000)
    theirs = stats.bootstrap(
        (differences.numpy(),), np.mean, n_resamples=100_000, method="percentile", rng=2
    ).confidence_interval
    assert ours.mean == pytest.approx(differences.mean().item())
    # An end varies by about 0.002 between draws.
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.012)


def test_two_pairs_can_be_counted_by_hand():
    # Means 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4.
    assert bootstrap_interval([0, 1], stream(0)) == (0.5, 0.0, 1.0)
    assert bootstrap_interval([0, 1], stream(0), level=0.4) == (0.5, 0.5, 0.5)


@settings(deadline=None)
@given(numbers, st.integers(0, 2**31), st.floats(0.01, 0.99))
def test_the_same_generator_gives_the_same_interval_and_it_lies_within_the_data(
    values, seed, level
):
    found, again = (
        bootstrap_interval(values, stream(seed), level=level, resamples=200) for _ in range(2)
    )
    assert found == again
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


@settings(deadline=None)
@given(numbers, st.integers(0, 2**31), st.floats(0.1, 9), st.floats(-9, 9))
def test_it_scales_and_moves_with_the_data(values, seed, scale, shift):
    found = bootstrap_interval(values, stream(seed), resamples=200)
    moved = bootstrap_interval([scale * x + shift for x in values], stream(seed), resamples=200)
    assert moved == pytest.approx([scale * end + shift for end in found], abs=1e-9)


def test_it_holds_the_true_mean_about_as_often_as_it_says():
    generator = stream(0)
    trials = torch.randn(1000, 8, dtype=torch.float64, generator=generator) + 2
    found = [bootstrap_interval(trial, generator, resamples=1000) for trial in trials]
    share = sum(each.low <= 2 <= each.high for each in found) / len(found)
    # Of so few numbers a percentile interval is too narrow, as its docstring says.
    # 0.89 of 4,000 trials; of 1,000, four standard errors either way.
    assert 0.85 < share < 0.93


@pytest.mark.parametrize(
    ("values", "changes", "message"),
    [
        ([1.0], {}, "differences are [1.0]: give two or more finite numbers"),
        ([1.0, float("nan")], {}, "give two or more finite numbers"),
        (torch.zeros(2, 2), {}, "give two or more finite numbers"),
        ([1, 2], {"level": 1.0}, "level 1.0, resamples 10000: between 0 and 1"),
        ([1, 2], {"resamples": 0}, "resamples 0"),
    ],
)
def test_bad_input_stops_with_what_was_expected(values, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        bootstrap_interval(values, stream(0), **changes)


def test_spread_is_that_of_a_sample_and_a_single_run_has_none():
    assert spread(torch.tensor([1.0, 3.0])) == pytest.approx(2**0.5)
    assert spread(torch.tensor([0.97])) is None  # torch would warn, and give nan
