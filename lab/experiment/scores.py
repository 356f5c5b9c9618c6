"""Scores of trained arms, by arm and seed, as figures, tables and rows of a record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch
from torch import Tensor

from lab.experiment.budgets import Budget, mixed, sentence
from lab.plots import figures
from lab.plots.theme import WIDTH, wrapped
from lab.statistics import mean_interval

Scorer = Callable[..., Tensor | float]

_AXIS_TITLE = 14  # px, as plotly writes the title of an axis


class Scores(Mapping[str, Tensor]):
    """Scores by arm, Float["seeds T"], or Float["seeds"] if a model has a single score.

    Figures and tables of arms that had not the same updates or parameters say so.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        seeds: Sequence[int],
        budgets: Mapping[str, Budget] | None = None,
    ) -> None:
        self._values, self.seeds = dict(values), list(seeds)
        self.budgets = {n: each for n, each in (budgets or {}).items() if n in self._values}

    def __getitem__(self, name: str) -> Tensor:
        """Float["seeds T"] or Float["seeds"] of one arm."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the arms."""
        return iter(self._values)

    def __len__(self) -> int:
        """Number of arms."""
        return len(self._values)

    def __or__(self, other: "Scores") -> "Scores":
        """The scores of both, for a figure or a table.

        Raises:
            ValueError: they have different seeds, which a figure would mix without saying so.
        """
        if self.seeds != other.seeds:
            raise ValueError(
                f"scores of seeds {self.seeds} and {other.seeds} do not go together: "
                "a figure that mixes them has to say so; draw it from the tensors"
            )
        return Scores({**self, **other}, self.seeds, {**self.budgets, **other.budgets})

    def select(self, names: Sequence[str]) -> "Scores":
        """The scores of some of the arms."""
        return Scores({name: self[name] for name in names}, self.seeds, self.budgets)

    def renamed(self, pattern: str) -> "Scores":
        """The same scores under new names; {} in the pattern stands for the old name."""
        budgets = {pattern.format(name): each for name, each in self.budgets.items()}
        values = {pattern.format(name): each for name, each in self.items()}
        return Scores(values, self.seeds, budgets)

    def mean(self) -> "Scores":
        """Float["seeds"] by arm: the mean over all steps."""
        return self._changed(lambda each: each.mean(1))

    def at(self, token: int) -> "Scores":
        """Float["seeds"] by arm, at one step; the first token is 1."""
        return self._changed(lambda each: each[:, token - 1])

    def curves(
        self,
        at: Sequence[int] | None = None,
        *,
        title: str = "",
        x_title: str = "tokens",
        levels: Mapping[str, float] | None = None,
    ) -> go.Figure:
        """A figure of score against step, or at some steps only; every seed is drawn.

        If the arms differ in updates or parameters, this is stated below the x axis.
        """
        steps = None if at is None else torch.tensor(at) - 1
        shown = {name: each if steps is None else each[:, steps] for name, each in self.items()}
        mixed = sentence(self.budgets)
        below = wrapped(mixed, WIDTH - 140, _AXIS_TITLE) if mixed else ""
        named = f"{x_title}<br>{below}" if below else x_title
        return figures.accuracy(shown, x=at, x_title=named, levels=levels, title=title)

    def rows(self, at: Sequence[int]) -> list[dict[str, Any]]:
        """Rows for `Experiment.table`: arm, seed, step and score, and the budget of the arm."""
        had = {name: asdict(each) for name, each in self.budgets.items()}
        return [
            {"arm": name, "seed": seed, "step": n, "score": each[i, n - 1].item()}
            | had.get(name, {})
            for name, each in self.items()
            for i, seed in enumerate(self.seeds)
            for n in at
        ]

    def frame(self, at: Sequence[int] = ()) -> pd.DataFrame:
        """A row per arm and seed, with a column for each step in `at`, or for the single score.

        If the arms differ in updates or parameters, these have a column too.
        """
        unlike = mixed(self.budgets)
        rows = {}
        for name, each in self.items():
            had = {what: of[name] for what, of in unlike.items() if name in of}
            for i, seed in enumerate(self.seeds):
                steps = {f"{n} tokens": _rounded(each[i, n - 1]) for n in at}
                rows[name, f"seed {seed}"] = had | (steps or {"score": _rounded(each[i])})
        return pd.DataFrame.from_dict(rows, orient="index")

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Scores":
        values = {name: change(each) for name, each in self.items()}
        return Scores(values, self.seeds, self.budgets)

    def paired(self, one: str, other: str) -> pd.Series:
        """one - other for every seed, whose init and data both share, with mean and t interval.

        Raises:
            ValueError: a model has more than one score; choose one with `at`.
        """
        difference = self[one] - self[other]
        if difference.ndim != 1:
            raise ValueError("a difference needs one score a seed: take scores.at(token)")
        by_seed = zip([f"seed {s}" for s in self.seeds], difference.tolist(), strict=True)
        interval = mean_interval(difference)._asdict()
        return pd.Series({**dict(by_seed), **interval}, name=f"{one} - {other}")


def _rounded(value: Tensor) -> float:
    """To three significant digits, which shares need and errors as well."""
    return float(f"{value.item():.3g}")
