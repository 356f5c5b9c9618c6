"""Statistics that reduce the values of all seeds to the one number that a criterion compares.

A statistic is chosen by name when a criterion is written, before there are values:
`Planned(..., statistic=MEAN)`. It is told which direction is bad, so that "the worst seed" is the
lowest if high values are good, the one farthest out if the limit is an interval, and otherwise the
highest.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lab.evidence.comparison import Threshold, shown
from lab.evidence.judged import Reading, of_interval
from lab.evidence.planned import Planned
from lab.statistics import Interval, mean_interval, share_interval

Values = Tensor | Sequence[float] | float | Interval
Reduce = Callable[[Tensor, bool, str, Threshold], Reading]

NUMBER = "one number"
WORST = "worst seed"
EVERY = "every seed"  # for a failure or kill, which must hold even in the seed with the least of it
MEDIAN = "median seed"
MEAN = "mean, 95 % t interval"
GIVEN = "with the interval of its own analysis"  # of units that are not seeds, such as windows

_SHARE = "share of seeds above {:g}, Wilson interval"
_SHARE_PATTERN = re.compile(r"share of seeds above (\S+), Wilson interval")
_MOST = 100_000  # seeds; a question that needs more needs another experiment


def solved(above: float) -> str:
    """The name of the statistic "k of n seeds solved it", with Wilson's interval of the share.

    Args:
        above: the value that a seed must exceed to count as solved, in the unit of the values.
    """
    return _SHARE.format(above)


def read(
    values: Values, statistic: str, *, high_is_bad: bool, op: str, threshold: Threshold
) -> Reading:
    """Apply a statistic to values; the result has an interval if the statistic has one.

    Args:
        values: Float["seeds"], or one number; computed in float64. For `GIVEN`, an `Interval`.
        statistic: name of the statistic.
        high_is_bad: whether a high value speaks against the hypothesis; if the threshold is an
            interval or has to be met exactly, whether a value far from it does.
        op, threshold: those of the criterion, for the number of seeds that would decide it.

    Raises:
        ValueError: the statistic is unknown; values have more than one axis or are empty; several
            values are given for a statistic of a single number; one value is given for an
            interval; or an interval is given for a statistic of seeds, or none for `GIVEN`.
    """
    if isinstance(values, Interval) or statistic == GIVEN:
        return _given(values, statistic)
    reduce = reduction(statistic)
    tensor = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    if tensor.ndim > 1 or tensor.numel() == 0:
        raise ValueError(f"values have shape {tuple(tensor.shape)}: give one number a seed")
    tensor = tensor.reshape(-1)
    if not tensor.isfinite().all():
        bad = int((~tensor.isfinite()).sum())
        return Reading(None, detail=f"{bad} of {len(tensor)} values are not finite")
    return reduce(tensor, high_is_bad, op, threshold)


def reduction(statistic: str) -> Reduce:
    """The function that computes a statistic.

    Raises:
        ValueError: there is no statistic with that name.
    """
    if statistic in _BY_NAME:
        return _BY_NAME[statistic]
    if found := _SHARE_PATTERN.fullmatch(statistic):
        return partial(_share, float(found[1]))
    known = ", ".join(repr(name) for name in (*_BY_NAME, GIVEN))
    raise ValueError(f"there is no statistic {statistic!r}; there are {known} and solved(level)")


def check(planned: Planned) -> None:
    """Stop at a criterion whose statistic there is not, or whose share cannot miss its limit.

    Raises:
        ValueError: it is one of these.
    """
    if planned.statistic != GIVEN:
        reduction(planned.statistic)
    if planned.bounds is None and _SHARE_PATTERN.fullmatch(planned.statistic):
        replace(planned, bounds=(0.0, 1.0))  # refuses what cannot be missed


def seeds_to_decide(spread: float, distance: float) -> int | None:
    """Number of seeds for which the 95 % interval excludes the threshold with probability 80 %.

    This is the smallest n with (t(0.975) + t(0.8)) spread / sqrt(n) <= distance, where t are the
    quantiles of Student's distribution with n - 1 degrees of freedom.

    Args:
        spread: standard deviation over seeds.
        distance: distance of the mean from the threshold, in the same unit.

    Returns:
        The number, at least 2; None if it would be more than 100,000.
    """
    from scipy.special import stdtrit

    def enough(n: int) -> bool:
        quantiles = float(stdtrit(n - 1, 0.975) + stdtrit(n - 1, 0.8))
        return quantiles * spread / math.sqrt(n) <= distance

    if not enough(_MOST):
        return None
    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:  # `low` is too small, and `high` is large enough
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _given(values: Values, statistic: str) -> Reading:
    """An interval that the notebook computed, as it is."""
    if not isinstance(values, Interval) or statistic != GIVEN:
        kind = type(values).__name__
        given = f"{kind} for the statistic {statistic!r}"
        raise ValueError(f"{given}: an Interval and GIVEN go together")
    if not all(map(math.isfinite, values)):
        return Reading(None, detail=f"{list(values)} is not finite")
    if not values.low <= values.mean <= values.high:
        raise ValueError(f"{values} does not hold its own mean")
    return Reading(*values)


def _number(values: Tensor, _: bool, __: str, ___: Threshold) -> Reading:
    if len(values) != 1:
        raise ValueError(f"{len(values)} values for one number: the plan names another statistic")
    return Reading(values.item())


def _worst(values: Tensor, high_is_bad: bool, op: str, threshold: Threshold) -> Reading:
    badness = _distance_above(values, op, threshold) * (1 if high_is_bad else -1)
    return Reading(values[badness.argmax()].item(), detail=_range(values))


def _every(values: Tensor, high_is_bad: bool, op: str, threshold: Threshold) -> Reading:
    return _worst(values, not high_is_bad, op, threshold)


def _median(values: Tensor, _: bool, __: str, ___: Threshold) -> Reading:
    return Reading(values.quantile(0.5).item(), detail=_range(values))


def _mean(values: Tensor, _: bool, op: str, threshold: Threshold) -> Reading:
    if len(values) < 2:
        raise ValueError("one value has no interval: a mean needs two seeds or more")
    found = mean_interval(values)
    needed = None
    if _undecided(found, op, threshold):
        needed = seeds_to_decide(values.std().item(), _distance(found.mean, threshold))
    return Reading(found.mean, found.low, found.high, f"{len(values)} seeds", needed)


def _share(above: float, values: Tensor, _: bool, op: str, threshold: Threshold) -> Reading:
    count, runs = int((values > above).sum()), len(values)
    found = share_interval(count, runs)
    needed = None
    if _undecided(found, op, threshold):
        needed = _runs_to_decide(count / runs, runs, op, threshold)
    return Reading(found.mean, found.low, found.high, f"{count} of {runs} seeds", needed)


def _runs_to_decide(share: float, runs: int, op: str, threshold: Threshold) -> int | None:
    """Number of runs that would decide if the true share were the observed one."""
    n = runs
    while n < _MOST:
        n = n + max(1, n // 20)
        if not _undecided(share_interval(round(share * n), n), op, threshold):
            return n
    return None


def _undecided(found: Interval, op: str, threshold: Threshold) -> bool:
    """Whether the threshold lies inside an interval."""
    return of_interval(found.low, found.high, op, threshold) == "undecided"


def _distance_above(values: Tensor, op: str, threshold: Threshold) -> Tensor:
    """Float["seeds"]: the values; of an interval or an equality, how far outside of it they lie."""
    if isinstance(threshold, tuple):
        return torch.maximum(threshold[0] - values, values - threshold[1])
    return (values - threshold).abs() if op == "==" else values


def _distance(mean: float, threshold: Threshold) -> float:
    """Distance of a mean from the nearest threshold."""
    ends = threshold if isinstance(threshold, tuple) else (threshold,)
    return min(abs(mean - end) for end in ends)


def _range(values: Tensor) -> str:
    if len(values) < 2:
        return ""
    low, high = (shown(end.item(), 3) for end in (values.min(), values.max()))
    return f"{len(values)} seeds, {low} to {high}"


_BY_NAME: dict[str, Reduce] = {
    NUMBER: _number,
    WORST: _worst,
    EVERY: _every,
    MEDIAN: _median,
    MEAN: _mean,
}
