"""Statistics over a few seeds: spread, intervals of means and shares, effects of factors."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Interval(NamedTuple):
    """A mean or share, and the ends of the interval around it."""

    mean: float
    low: float
    high: float


def mean_interval(values: Tensor | Sequence[float], *, level: float = 0.95) -> Interval:
    """The mean of a few numbers, and Student's t interval around it.

    For paired arms, give the differences: effects that both arms of a pair share, such as a seed
    with difficult data, then do not count as noise. For normally distributed numbers, the interval
    contains the true mean with probability `level`, however few there are. If all numbers are
    equal, its width is zero.

    Args:
        values: Float["n"], one number per seed or per pair, in any unit.
        level: the probability, between 0 and 1.

    Raises:
        ValueError: there are fewer than two values, one is not finite, or level is not in (0, 1).

    Source: Student 1908, The probable error of a mean; the quantiles are scipy's.
    """
    numbers = torch.as_tensor(values, dtype=torch.float64)
    if numbers.ndim != 1 or len(numbers) < 2 or not numbers.isfinite().all():
        raise ValueError(f"values are {numbers.tolist()}: give two or more finite numbers")
    _check_level(level)
    from scipy.special import stdtrit  # imported here because training does not need scipy

    mean, error = numbers.mean().item(), numbers.std().item() / math.sqrt(len(numbers))
    half = float(stdtrit(len(numbers) - 1, (1 + level) / 2)) * error
    return Interval(mean, mean - half, mean + half)


def share_interval(solved: int, runs: int, *, level: float = 0.95) -> Interval:
    """The share of runs that solved a task, and Wilson's interval around it.

    Args:
        solved: number of runs that solved the task, from 0 to `runs`.
        runs: number of runs, at least 1.
        level: approximate probability that the interval contains the true share.

    Raises:
        ValueError: there are no runs, fewer than were solved, or the level is not in (0, 1).

    Source: Wilson 1927, Probable inference; computed by scipy's `binomtest`.
    """
    if not 0 <= solved <= runs or runs < 1:
        raise ValueError(f"{solved} of {runs} runs solved: give 1 run or more, and 0 to all solved")
    _check_level(level)
    from scipy.stats import binomtest

    ends = binomtest(solved, runs).proportion_ci(confidence_level=level, method="wilson")
    return Interval(solved / runs, float(ends.low), float(ends.high))


def sign_test(one: Tensor, other: Tensor) -> float:
    """One-sided p value of the sign test that `one` is larger than `other` more often than not.

    Args:
        one, other: Float["n"], paired by position; ties are left out.

    Returns:
        The probability of at least as many wins of `one` if wins and losses were equally likely; 1
        if all pairs are ties.

    Raises:
        ValueError: the two have different numbers of values.

    Source: Dixon & Mood 1946, The statistical sign test; computed by scipy's `binomtest`.
    """
    if one.shape != other.shape:
        raise ValueError(f"{tuple(one.shape)} and {tuple(other.shape)} cannot be paired")
    wins, losses = int((one > other).sum()), int((one < other).sum())
    if not wins + losses:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses, alternative="greater").pvalue)


def spread(values: Tensor) -> Tensor | None:
    """Standard deviation of the runs of an arm (n - 1 in the denominator); None for a single run.

    Args:
        values: Float["n"], one number per run, in any unit.
    """
    return values.std() if len(values) > 1 else None


def contrast(values: Tensor, axes: Sequence[int]) -> Tensor:
    """Contrasts along one or two factors, one per setting of the other factors and per seed.

    Along one factor: on minus off. Along two: their interaction, the effect of one factor with the
    other on, minus its effect with the other off.

    Args:
        values: Float["2 2 ... seeds"], one axis per factor, off before on.
        axes: axes of the factors.

    Returns:
        Float["n"].

    Raises:
        ValueError: one of the axes is not a factor with two settings.
    """
    for axis in axes:
        if not 0 <= axis < values.ndim - 1 or values.shape[axis] != 2:
            raise ValueError(f"axis {axis} of {tuple(values.shape)} is no factor, off and on")
        values = values.diff(dim=axis)
    return values.flatten()


def contrasts(values: Tensor, factors: Sequence[str]) -> dict[str, Tensor]:
    """Main effects and interactions of two factors, computed by `contrast`, by name.

    Args:
        values: Float["2 2 ... seeds"].
        factors: a name for each axis but the last.

    Raises:
        ValueError: there is not one name for each factor.
    """
    if len(factors) != values.ndim - 1:
        raise ValueError(f"{len(factors)} names for the factors of {tuple(values.shape)}")
    chosen = [axes for size in (1, 2) for axes in itertools.combinations(range(len(factors)), size)]
    return {" x ".join(factors[axis] for axis in axes): contrast(values, axes) for axes in chosen}


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
