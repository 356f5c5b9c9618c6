"""Intervals and the sign test against scipy, by hand, and in how often they contain the truth."""

import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numeric import stream
from scipy import stats

from lab.statistics import mean_interval, share_interval, sign_test, spread

numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=20)
levels = st.floats(0.01, 0.99)


@settings(deadline=None)
@given(numbers, levels)
def test_the_interval_of_a_mean_is_that_of_scipys_t_test(values, level):
    found = mean_interval(values, level=level)
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-12)
    assume(torch.tensor(values).double().std() > 1e-6)  # scipy warns of numbers that are equal
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    assert (found.low, found.high) == pytest.approx(tuple(theirs), rel=1e-9, abs=1e-9)


def test_two_values_by_hand():
    # Half the interval is t = tan(0.95 pi / 2) times the standard error, 1/2.
    half = 12.706204736432095 / 2
    assert mean_interval([0.0, 1.0]) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    assert mean_interval([0.25, 0.25]) == (0.25, 0.25, 0.25)


def test_it_holds_the_true_mean_as_often_as_it_says_of_three_seeds_too():
    trials = torch.randn(4000, 3, dtype=torch.float64, generator=stream(0)) + 2
    found = [mean_interval(trial) for trial in trials]
    share = sum(each.low <= 2 <= each.high for each in found) / len(found)
    assert abs(share - 0.95) < 4 * (0.95 * 0.05 / len(found)) ** 0.5  # four standard errors


@settings(deadline=None)
@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), levels)
def test_wilsons_interval_solves_his_equation(counts, level):
    solved, runs = counts
    found = share_interval(solved, runs, level=level)
    z, share = stats.norm.ppf((1 + level) / 2), solved / runs
    assert found.mean == share
    assert 0 <= found.low <= share + 1e-12
    assert share - 1e-12 <= found.high <= 1
    for end in (found.low, found.high):  # |share - p| = z sqrt(p (1 - p) / runs)
        assert (share - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / runs, abs=1e-9)


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], 1 / 8),
        ([2.0, 2.0, 0.0], [1.0, 1.0, 1.0], 4 / 8),
        ([1.0, 2.0, 2.0], [1.0, 1.0, 1.0], 1 / 4),  # a tie is left out
        ([1.0], [1.0], 1.0),
    ],
)
def test_the_sign_test_by_hand(one, other, p):
    assert sign_test(torch.tensor(one), torch.tensor(other)) == pytest.approx(p)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([1.0]), "values are [1.0]: give two or more finite numbers"),
        (lambda: mean_interval([1.0, float("nan")]), "give two or more finite numbers"),
        (lambda: mean_interval(torch.zeros(2, 2)), "give two or more finite numbers"),
        (lambda: mean_interval([1, 2], level=1.0), "level is 1.0; it must lie between 0 and 1"),
        (lambda: share_interval(1, 2, level=0.0), "level is 0.0"),
        (lambda: share_interval(3, 2), "3 of 2 runs solved"),
        (lambda: share_interval(0, 0), "0 of 0 runs solved"),
        (lambda: sign_test(torch.zeros(2), torch.zeros(3)), "(2,) and (3,) cannot be paired"),
    ],
)
def test_bad_input_stops_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_spread_is_that_of_a_sample_and_a_single_run_has_none():
    assert spread(torch.tensor([1.0, 3.0])) == pytest.approx(2**0.5)
    assert spread(torch.tensor([0.97])) is None  # torch would warn, and give nan
