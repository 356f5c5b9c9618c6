"""Paired differences of units that come in clusters, such as windows of text in files.

Windows of one file are alike, so that their number overstates how much is known. Everything here
takes whole clusters as what was drawn: signs are flipped by cluster, clusters are drawn again, and
standard errors are those of sums over clusters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lab.arguments import refuse, whole
from lab.statistics import Interval

_AT_ONCE = 2_000_000  # numbers held for a part of the flips or draws


@dataclass(frozen=True)
class Effect:
    """A mean difference and what can be said of it.

    Attributes:
        mean, low, high: the mean over units, and its interval from drawing clusters again.
        p: two-sided, by flipping the signs of clusters.
        d_z: the mean over the standard deviation of the units, dimensionless.
        units, clusters: how many there are.
        effective: the number of independent units that would give the same standard error.
        p_equivalence: of two one-sided tests against the margin.
    """

    mean: float
    low: float
    high: float
    p: float
    d_z: float
    units: int
    clusters: int
    effective: float
    p_equivalence: float


def effect(
    values: Float[Tensor, "units"],
    clusters: Int64[Tensor, "units"],
    *,
    margin: float,
    generator: torch.Generator,
    level: float = 0.95,
    draws: int = 10_000,
) -> Effect:
    """Everything that this module says of one set of differences.

    Args:
        values: differences, one a unit, in any unit of measurement.
        clusters: the number of the cluster of each.
        margin: differences within -margin to margin count as equivalent, in the unit of the values.
        generator: random stream of the flips and draws.
        level: of the interval.
        draws: how many flips, and how many draws of clusters.

    Raises:
        ValueError: the two do not belong together, a value is not finite, there are fewer than two
            clusters, or the margin is not above 0.
    """
    values, _ = _checked(values, clusters)
    found = bootstrap(values, clusters, level=level, draws=draws, generator=generator)
    spread = values.std().item()
    return Effect(
        *found,
        p=sign_flip(values, clusters, flips=draws, generator=generator),
        d_z=values.mean().item() / spread if spread else math.copysign(math.inf, found.mean),
        units=len(values),
        clusters=len(clusters.unique()),
        effective=effective_number(values, clusters),
        p_equivalence=equivalence(values, clusters, margin=margin),
    )


def sign_flip(
    values: Float[Tensor, "units"],
    clusters: Int64[Tensor, "units"],
    *,
    flips: int = 10_000,
    generator: torch.Generator,
) -> float:
    """Two-sided p value of a mean of zero, if the sign of each cluster were a coin.

    The statistic is the size of the sum over all units. The actual signs count as one of the flips,
    so that p is at least 1 / (flips + 1).

    Raises:
        ValueError: as for `effect`.

    Source: Fisher 1935, The design of experiments, section 21; Phipson & Smyth 2010, Permutation
    P-values should never be zero.
    """
    sums, _ = _by_cluster(*_checked(values, clusters))
    flips = whole("sign_flip", "flips", flips, least=1)
    reached, actual = 0, sums.sum().abs() * (1 - 1e-12)  # equal sums may differ by rounding
    for part in _parts(flips, len(sums)):
        signs = torch.randint(2, (part, len(sums)), generator=generator).double() * 2 - 1
        reached += int(((signs @ sums).abs() >= actual).sum())
    return (1 + reached) / (1 + flips)


def holm(p: Sequence[float]) -> list[float]:
    """p values of several tests, adjusted so that any error at all has the stated probability.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def bootstrap(
    values: Float[Tensor, "units"],
    clusters: Int64[Tensor, "units"],
    *,
    level: float = 0.95,
    draws: int = 10_000,
    generator: torch.Generator,
) -> Interval:
    """The mean, and its percentile interval from drawing whole clusters again, with replacement.

    Raises:
        ValueError: as for `effect`, or the level is not in (0, 1).

    Source: Davison & Hinkley 1997, Bootstrap methods and their application, section 3.8.
    """
    if not 0 < level < 1:
        refuse("bootstrap", "level", level, "in (0, 1)")
    values, clusters = _checked(values, clusters)
    sums, sizes = _by_cluster(values, clusters)
    means = []
    for part in _parts(whole("bootstrap", "draws", draws, least=1), len(sums)):
        chosen = torch.randint(len(sums), (part, len(sums)), generator=generator)
        means.append(sums[chosen].sum(1) / sizes[chosen].sum(1))
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.cat(means).quantile(ends).tolist()
    return Interval(values.mean().item(), low, high)


def standard_error(values: Float[Tensor, "units"], clusters: Int64[Tensor, "units"]) -> float:
    """Of the mean: sqrt(C / (C - 1) sum over the C clusters of (sum of deviations)^2) / units.

    Raises:
        ValueError: as for `effect`.

    Source: Liang & Zeger 1986, with the usual correction for the number of clusters.
    """
    values, clusters = _checked(values, clusters)
    sums, _ = _by_cluster(values - values.mean(), clusters)
    correction = len(sums) / (len(sums) - 1)
    return math.sqrt(correction * sums.square().sum().item()) / len(values)


def effective_number(values: Float[Tensor, "units"], clusters: Int64[Tensor, "units"]) -> float:
    """The variance of the units over the squared standard error of their mean.

    It is about the number of units if clusters do not matter, and about the number of clusters if
    all units of a cluster are equal; nan if all values are equal.

    Raises:
        ValueError: as for `effect`.
    """
    error = standard_error(values, clusters)
    return values.double().var().item() / error**2 if error else math.nan


def equivalence(
    values: Float[Tensor, "units"], clusters: Int64[Tensor, "units"], *, margin: float
) -> float:
    """p value of two one-sided t tests that the mean lies within -margin to margin.

    It is the larger of the two, with the standard error of clusters and one degree of freedom less
    than there are clusters.

    Raises:
        ValueError: as for `effect`.

    Source: Schuirmann 1987, A comparison of the two one-sided tests procedure.
    """
    if not margin > 0:
        refuse("equivalence", "margin", margin, "above 0")
    error, mean = standard_error(values, clusters), values.double().mean().item()
    distance = margin - abs(mean)
    if not error:
        return float(distance <= 0)
    from scipy.special import stdtr

    return float(stdtr(len(clusters.unique()) - 1, -distance / error))


def _checked(values: Tensor, clusters: Tensor) -> tuple[Tensor, Tensor]:
    """Values in double precision and the number of each one's cluster, from 0."""
    if values.ndim != 1 or values.shape != clusters.shape:
        shapes = f"{tuple(values.shape)} and {tuple(clusters.shape)}"
        refuse("clusters", "values and clusters", shapes, "one row of numbers each, equally long")
    if not values.isfinite().all():
        refuse("clusters", "values", values.tolist(), "finite numbers")
    names, numbers = clusters.unique(return_inverse=True)
    if len(names) < 2:
        refuse("clusters", "clusters", names.tolist(), "two or more different ones")
    return values.double(), numbers


def _by_cluster(values: Tensor, clusters: Tensor) -> tuple[Tensor, Tensor]:
    """Float64["C"] twice: the sum over the units of each cluster, and their number."""
    count = int(clusters.max()) + 1
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, clusters, values)
    return sums, torch.bincount(clusters, minlength=count).double()


def _parts(total: int, width: int) -> list[int]:
    """`total` rows of some width in parts that fit into memory."""
    most = max(1, _AT_ONCE // width)
    return [min(most, total - done) for done in range(0, total, most)]
