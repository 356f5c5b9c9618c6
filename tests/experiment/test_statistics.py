"""Statistics over seeds against their definitions, and the number of seeds that would decide."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import stream

from lab.evidence.judged import judge
from lab.evidence.planned import Planned
from lab.experiment.statistics import (
    EVERY,
    GIVEN,
    MEAN,
    MEDIAN,
    NUMBER,
    WORST,
    check,
    read,
    reduction,
    seeds_to_decide,
    solved,
)
from lab.statistics import Interval

seeds = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


def value(values, statistic, *, high_is_bad=False, op=">", threshold=0.0):
    return read(values, statistic, high_is_bad=high_is_bad, op=op, threshold=threshold)


@settings(deadline=None)  # scipy is imported at the first of them
@given(seeds)
def test_each_is_what_it_says(values):
    assert value(values, WORST).value == min(values)
    assert value(values, WORST, high_is_bad=True).value == max(values)
    assert value(values, EVERY).value == max(values)
    assert value(values, MEDIAN).value == pytest.approx(torch.tensor(values).double().quantile(0.5))
    assert value(values, MEAN).value == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert value(values, solved(0.0)).value == sum(v > 0 for v in values) / len(values)
    assert value(values[0], NUMBER).value == values[0]


@pytest.mark.parametrize(
    ("values", "op", "threshold", "worst", "best"),
    [
        ([0.2, 1.0, 1.1], "in", (0.9, 1.2), 0.2, 1.0),
        ([0.95, 1.0, 9.0], "in", (0.9, 1.2), 9.0, 1.0),
        ([-1.0, 0.0, 0.5], "==", 0.0, -1.0, 0.0),
    ],
)
def test_the_worst_of_an_interval_is_the_farthest_out_on_either_side(
    values, op, threshold, worst, best
):
    for kind, statistic, expected in (
        ("control", WORST, worst), ("failure", WORST, best), ("failure", EVERY, worst),
    ):  # fmt: skip
        planned = Planned("C", "x", op, threshold, statistic, kind=kind)
        found = value(
            values, statistic, high_is_bad=planned.high_is_bad, op=op, threshold=threshold
        )
        assert found.value == expected


@settings(deadline=None)
@given(
    seeds, st.floats(-100, 100), st.sampled_from([">", "<=", "in"]), st.sampled_from([MEAN, "k"])
)
def test_seeds_are_asked_for_where_the_status_is_undecided_and_nowhere_else(
    values, limit, op, statistic
):
    statistic = solved(0.0) if statistic == "k" else statistic
    limit = limit / 100 if statistic != MEAN else limit
    threshold = (limit, limit + 0.5) if op == "in" else limit
    planned = Planned("C", "x", op, threshold, statistic=statistic, kind="control")
    found = judge(planned, "", value(values, statistic, op=op, threshold=threshold))
    if found.status != "undecided":
        assert found.needed is None
    elif found.needed is not None:
        assert found.needed > 1


def test_the_seeds_asked_for_decide_four_times_out_of_five():
    needed = seeds_to_decide(spread=1.0, distance=0.5)
    draws = torch.randn(4000, needed, dtype=torch.float64, generator=stream(0)) + 0.5
    decided = sum(value(each, MEAN).low > 0 for each in draws) / len(draws)
    assert 0.78 < decided < 0.84  # 0.8 within three standard errors, and one for rounding up
    assert needed < seeds_to_decide(spread=1.0, distance=0.4)
    assert seeds_to_decide(spread=1.0, distance=100.0) == 2
    assert seeds_to_decide(spread=1.0, distance=0.0) is None


@pytest.mark.parametrize(
    ("values", "statistic", "message"),
    [
        ([1.0, 2.0], NUMBER, "2 values for one number"),
        ([1.0], MEAN, "a mean needs two seeds or more"),
        (torch.zeros(2, 2), WORST, "values have shape (2, 2)"),
        ([], WORST, "values have shape (0,)"),
        ([1.0], "worst", "there is no statistic 'worst'; there are 'one number'"),
    ],
)
def test_what_has_no_number_is_refused(values, statistic, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        value(values, statistic)


def test_values_that_are_not_finite_have_no_number():
    found = value([1.0, float("nan"), float("inf")], WORST)
    assert (found.value, found.detail) == (None, "2 of 3 values are not finite")
    assert reduction(solved(0.99)) is not None


@pytest.mark.parametrize(
    ("low", "high", "status"), [(1, 2, "met"), (0, 0.5, "missed"), (0, 3, "undecided")]
)
def test_an_interval_of_its_own_analysis_decides_as_it_is_given(low, high, status):
    planned = Planned("Q", "levels with an effect", ">=", 1, GIVEN)
    check(planned)
    found = value(Interval(low, low, high), GIVEN, op=">=", threshold=1.0)
    assert (found.value, found.low, found.high) == (low, low, high)
    assert judge(planned, "", found).status == status


@pytest.mark.parametrize(
    ("values", "statistic", "sentence"),
    [
        (Interval(0, 0, 1), MEAN, "an Interval and GIVEN go together"),
        ([0.0, 1.0], GIVEN, "list for the statistic .* an Interval and GIVEN go together"),
        (Interval(2, 0, 1), GIVEN, "does not hold its own mean"),
    ],
)
def test_an_interval_goes_with_its_own_statistic_alone(values, statistic, sentence):
    with pytest.raises(ValueError, match=sentence):
        value(values, statistic)
    assert value(Interval(0, float("nan"), 1), GIVEN).value is None
