"""A rule, written beforehand, for which doses of an intervention have an effect of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lab.experiment.clustered import Effect, effect, holm
from lab.statistics import Interval

Outcome = Literal["effect", "none", "undecided"]


@dataclass(frozen=True)
class Level:
    """One dose.

    Attributes:
        found: what its differences from the placebo say.
        p_holm: its p value, adjusted for all doses.
        outcome: "effect" or "none" as the rule has it, or "undecided".
    """

    found: Effect
    p_holm: float
    outcome: Outcome

    def row(self) -> dict[str, Any]:
        """All of it, by name."""
        return {"outcome": self.outcome, "p by Holm": self.p_holm, **vars(self.found)}


def judged(
    differences: Mapping[float, Float[Tensor, "units"]],
    clusters: Int64[Tensor, "units"],
    *,
    alpha: float,
    least: float,
    margin: float,
    generator: torch.Generator,
    draws: int = 10_000,
) -> dict[float, Level]:
    """Every dose has an effect, or has none, or is undecided.

    It has an effect if p is below alpha after Holm's correction over all doses and the mean
    difference is at least `least` in size. It has none if two one-sided tests at 5 % put the mean
    within -margin to margin. Each dose must pass these two by itself, so that the claim of no
    effect at any dose needs no correction.

    Args:
        differences: by dose, unit by unit, from the placebo of the same dose.
        clusters: the number of the cluster of each unit.
        alpha: of the test for an effect.
        least, margin: in the unit of the differences; margin below least.
        generator: random stream of flips and draws.
        draws: how many of each.

    Raises:
        ValueError: the margin is not below least, or as for `lab.experiment.clustered.effect`.

    Source: Holm 1979; Berger 1982, Multiparameter hypothesis testing and acceptance sampling (tests
    that must all reject need no correction).
    """
    if not margin < least:
        raise ValueError(f"judged: margin is {margin}; it must be below least, {least}")
    found = {
        dose: effect(values, clusters, margin=margin, generator=generator, draws=draws)
        for dose, values in differences.items()
    }
    adjusted = holm([each.p for each in found.values()])
    return {
        dose: Level(each, p, _outcome(each, p, alpha, least))
        for (dose, each), p in zip(found.items(), adjusted, strict=True)
    }


def with_effect(levels: Mapping[float, Level]) -> Interval:
    """How many doses have an effect; the ends count none and all of the undecided ones."""
    outcomes = [each.outcome for each in levels.values()]
    count = outcomes.count("effect")
    return Interval(count, count, count + outcomes.count("undecided"))


def _outcome(found: Effect, p: float, alpha: float, least: float) -> Outcome:
    if p < alpha and abs(found.mean) >= least:
        return "effect"
    return "none" if found.p_equivalence < 0.05 else "undecided"
