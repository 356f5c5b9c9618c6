"""How many pairs a paired t test needs, and what it can see with those it has."""

import math

from lab.arguments import real, whole

_MANY = 100  # degrees of freedom with which t is all but normal


def power(d_z: float, pairs: float, *, alpha: float = 0.05) -> float:
    """Probability that a two-sided paired t test finds an effect.

    Args:
        d_z: mean of the differences over their standard deviation, dimensionless.
        pairs: how many independent ones there are, above 1; an effective number may be a fraction.
        alpha: the level of the test, between 0 and 1.

    Raises:
        ValueError: a number is out of its range.

    Source: Cohen 1988, Statistical power analysis, section 2.3; the distribution is scipy's
    noncentral t.
    """
    real("power", "pairs", pairs, above=1)
    _check_share("power", "alpha", alpha)
    from scipy.special import stdtrit
    from scipy.stats import nct

    freedom, shift = pairs - 1, abs(real("power", "d_z", d_z)) * math.sqrt(pairs)
    limit = float(stdtrit(freedom, 1 - alpha / 2))
    if freedom > _MANY and shift > limit + 6:  # where scipy's distribution gives nan
        return 1.0
    return float(nct.sf(limit, freedom, shift) + nct.cdf(-limit, freedom, shift))


def pairs_needed(d_z: float, *, alpha: float = 0.05, wanted: float = 0.8) -> int:
    """The smallest number of pairs with which an effect is found with the wanted probability.

    Raises:
        ValueError: d_z is not a number of at least 0.001 in size, or a probability is not in
            (0, 1).
    """
    real("pairs_needed", "d_z", abs(d_z), least=1e-3)
    _check_share("pairs_needed", "wanted", wanted)
    low, high = 1, 2
    while power(d_z, high, alpha=alpha) < wanted:
        low, high = high, 2 * high
    while high - low > 1:  # `low` is too small, and `high` is large enough
        middle = (low + high) // 2
        low, high = (low, middle) if power(d_z, middle, alpha=alpha) >= wanted else (middle, high)
    return high


def detectable(pairs: float, *, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """The smallest d_z that is found with the wanted probability, to three digits.

    Raises:
        ValueError: a number is out of its range.
    """
    _check_share("detectable", "wanted", wanted)
    low, high = 0.0, 1.0
    while power(high, pairs, alpha=alpha) < wanted:
        high *= 2
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, pairs, alpha=alpha) >= wanted else (middle, high)
    return high


def effect_of(p: float, pairs: int) -> float:
    """The d_z of which a two-sided paired t test gave p.

    Raises:
        ValueError: p is not in (0, 1), or there are fewer than two pairs.
    """
    pairs = whole("effect_of", "pairs", pairs, least=2)
    _check_share("effect_of", "p", p)
    from scipy.special import stdtrit

    return float(stdtrit(pairs - 1, 1 - p / 2)) / math.sqrt(pairs)


def _check_share(where: str, name: str, value: float) -> None:
    if real(where, name, value, above=0) >= 1:
        raise ValueError(f"{where}: {name} is {value}; it must be in (0, 1)")
