"""Common parts of recall and copying: accuracy of models that ignore the query, random draws."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from lab.arguments import whole
from lab.tasks.base import Batch, check_request, masked_cross_entropy

RANDOM = "a random value of the sequence"
COMMONEST = "the commonest value of the sequence"
UNASKED = "the commonest value not yet asked for"


class Retrieval(ABC):
    """A task that shows values and queries them later; targets are tokens of the vocabulary."""

    floor_accuracy: ClassVar[float] = 1.0

    @property
    @abstractmethod
    def held(self) -> int:
        """P, the number of values that a query may ask for."""

    @property
    @abstractmethod
    def answers(self) -> int:
        """V, the number of different values, which are drawn uniformly with replacement."""

    @property
    @abstractmethod
    def length(self) -> int:
        """The smallest number of steps, without filler."""

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the scored steps; `model` gives logits ["B T classes"]."""
        return masked_cross_entropy(model(batch.inputs), batch)

    def chance(self, length: int) -> float:
        """log V, the lowest loss of a model that knows the set of values but sees no token."""
        return math.log(self.answers)

    def floor(self, length: int) -> float:
        """Zero: the input determines the target."""
        return 0.0

    def chance_accuracy(self, length: int) -> Float64[Tensor, "T"]:
        """1/V at every step, the accuracy of guessing a value."""
        self._check_length(length)
        return torch.full((length,), 1 / self.answers, dtype=torch.float64)

    @property
    def ceilings(self) -> dict[str, float]:
        """Best accuracy of a model that knows the values of a sequence but ignores all queries.

        The ceilings are listed by name. A task adds others if a model can gain partial knowledge in
        other ways.
        """
        return {
            RANDOM: random_value(self.held, self.answers),
            COMMONEST: commonest_value(self.held, self.answers),
        }

    def bits(self, length: int) -> float:
        """P log2 V: the bits that a state must hold when the first query arrives.

        Any of the values may be queried, so a model that is always right must know all of them: the
        mutual information of state and values is then the entropy of the values.
        """
        return self.held * math.log2(self.answers)

    def _check_request(self, batch: int, length: int, generator: torch.Generator) -> None:
        check_request(self, batch, length, generator)
        self._check_length(length)

    def _check_length(self, length: int) -> None:
        if whole(type(self).__name__, "length", length) < self.length:
            needed = f"this {type(self).__name__} takes at least {self.length} steps"
            raise ValueError(f"{needed}, got a length of {length}: ask for more, or show less")


# --- ceilings ------------------------------------------------------------------------------------


def random_value(values: int, symbols: int) -> float:
    """Accuracy of answering by a random one of P values, drawn from V symbols with replacement.

    It is 1/P + (1 - 1/P)/V: the chosen value is the right one, or another that is equal to it.
    """
    return 1 / values + (1 - 1 / values) / symbols


def commonest_value(values: int, symbols: int) -> float:
    """Accuracy of the commonest of P values: E[largest multiplicity] / P."""
    return largest_multiplicity(values, symbols) / values


def unasked_value(values: int, symbols: int, queries: int) -> dict[str, float]:
    """Accuracy of the commonest value that has not been queried yet, by name, as a ceiling.

    This is the best accuracy of a model that remembers earlier queries but ignores the current one.
    Earlier queries asked for other values, so fewer are left to choose from. Empty for one query.
    """
    left = [commonest_value(values - earlier, symbols) for earlier in range(queries)]
    return {UNASKED: sum(left) / queries} if queries > 1 else {}


def largest_multiplicity(draws: int, symbols: int) -> float:
    """The expected number of occurrences of the commonest of V symbols in P uniform draws.

    Exact up to rounding: the sum over c = 0 .. P - 1 of P(some symbol occurs more than c times).
    """
    return math.fsum(1 - _none_above(most, draws, symbols) for most in range(draws))


def _none_above(most: int, draws: int, symbols: int) -> float:
    """The probability that no symbol occurs more than `most` times.

    It is P! / V^P [x^P] (sum over i <= most of x^i / i!)^V. Replacing 1/i! by the probabilities of
    Poisson counts with mean P/V, conditioned on a sum of P, gives the same number without overflow.
    """
    counts = np.arange(draws + 1)
    one = np.where(counts <= most, _poisson(counts, draws / symbols), 0.0)
    all_symbols = np.eye(1, draws + 1)[0]  # the distribution of the count of no symbols, 0
    for bit in bin(symbols)[2:]:  # power by squaring; sums above P can be dropped
        all_symbols = np.convolve(all_symbols, all_symbols)[: draws + 1]
        if bit == "1":
            all_symbols = np.convolve(all_symbols, one)[: draws + 1]
    return float(all_symbols[draws] / _poisson(draws, draws))


def _poisson(count: Any, mean: float) -> Any:
    """Float64 of the shape of `count`: Poisson probabilities with that mean."""
    # Imported here because training does not need it. scipy.stats has an identical function, but
    # takes more than twice as long to import.
    from scipy.special import gammaln, xlogy

    return np.exp(xlogy(count, mean) - gammaln(count + 1) - mean)


# --- draws ---------------------------------------------------------------------------------------


def distinct(
    batch: int, choices: int, count: int, generator: torch.Generator
) -> Int64[Tensor, "B count"]:
    """Distinct numbers below `choices`, uniform, in random order."""
    if count * (count - 1) <= choices:
        return _distinct_by_rejection(batch, choices, count, generator)
    return torch.rand(batch, choices, generator=generator).topk(count).indices


def _distinct_by_rejection(
    batch: int, choices: int, count: int, generator: torch.Generator
) -> Tensor:
    """`distinct` for the case of few repeats: a row with a repeat is drawn again as a whole.

    Therefore all rows without repeats are equally likely. The expected number of equal pairs in a
    row is at most about one half, so few rows are drawn again.
    """
    drawn = torch.randint(choices, (batch, count), generator=generator)
    while True:
        repeats = (drawn.sort(dim=1).values.diff(dim=1) == 0).any(1)
        again = int(repeats.sum())
        if not again:
            return drawn
        drawn[repeats] = torch.randint(choices, (again, count), generator=generator)


def places(
    batch: int, steps: int, count: int, generator: torch.Generator
) -> Int64[Tensor, "B count"]:
    """Distinct steps below `steps`, uniform, ascending."""
    return distinct(batch, steps, count, generator).sort().values


def interleave(first: Int64[Tensor, "B P"], second: Int64[Tensor, "B P"]) -> Int64[Tensor, "B 2*P"]:
    """a1 b1 a2 b2 ... from a and b ["B P"]."""
    return torch.stack([first, second], dim=-1).flatten(1)


def as_float(count: int) -> float:
    """A count of inputs as a float; inf beyond its range."""
    try:
        return float(count)
    except OverflowError:
        return math.inf


def at_least(least: int, **numbers: int) -> None:
    """Check that all numbers are whole and at least `least`.

    Raises:
        ValueError: one of them is not a whole number or is smaller; the error names it.
    """
    for name, number in numbers.items():
        whole("the task", name, number, least)


def at_most(most: int, what: str, **numbers: int) -> None:
    """Check that no number is above `most`; `what` describes the limit in the error.

    Raises:
        ValueError: one of them is larger; the error names it.
    """
    for name, number in numbers.items():
        if number > most:
            raise ValueError(f"{name} is {number}; there are only {most} {what}")
