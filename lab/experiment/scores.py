"""Scores of trained arms: numbers by arm and seed, as figures, tables and rows of a record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch
from torch import Tensor

from lab.plots import figures
from lab.statistics import mean_interval

Score = Callable[..., Tensor | float]


class Scores(Mapping[str, Tensor]):
    """Scores by arm, Float["seeds T"], or Float["seeds"] where a model has one number."""

    def __init__(self, values: Mapping[str, Tensor], seeds: Sequence[int]) -> None:
        self._values, self.seeds = dict(values), list(seeds)

    def __getitem__(self, name: str) -> Tensor:
        """Float["seeds T"] or Float["seeds"] of one arm."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the arms."""
        return iter(self._values)

    def __len__(self) -> int:
        """How many arms there are."""
        return len(self._values)

    def __or__(self, other: "Scores") -> "Scores":
        """Both together, for a figure or a table.

        Raises:
            ValueError: they are of other seeds, so that one figure would mix them unsaid.
        """
        if self.seeds != other.seeds:
            raise ValueError(
                f"scores of seeds {self.seeds} and {other.seeds} do not go together: "
                "a figure that mixes them has to say so; draw it from the tensors"
            )
        return Scores({**self, **other}, self.seeds)

    def select(self, names: Sequence[str]) -> "Scores":
        """Those of some of the arms."""
        return Scores({name: self[name] for name in names}, self.seeds)

    def renamed(self, pattern: str) -> "Scores":
        """The same under other names: "{}, as trained" has the old name for {}."""
        return Scores({pattern.format(name): each for name, each in self.items()}, self.seeds)

    def mean(self) -> "Scores":
        """Float["seeds"] by arm: the mean over all steps."""
        return Scores({name: each.mean(1) for name, each in self.items()}, self.seeds)

    def at(self, token: int) -> "Scores":
        """Float["seeds"] by arm, at one step; the first token is 1."""
        return Scores({name: each[:, token - 1] for name, each in self.items()}, self.seeds)

    def curves(
        self,
        at: Sequence[int] | None = None,
        *,
        title: str = "",
        x_title: str = "tokens",
        levels: Mapping[str, float] | None = None,
    ) -> go.Figure:
        """Score against step, or at some steps only; every seed is drawn."""
        steps = None if at is None else torch.tensor(at) - 1
        shown = {name: each if steps is None else each[:, steps] for name, each in self.items()}
        return figures.accuracy(shown, x=at, x_title=x_title, levels=levels, title=title)

    def rows(self, at: Sequence[int]) -> list[dict[str, Any]]:
        """What `Experiment.table` keeps: arm, seed, step and score."""
        return [
            {"arm": name, "seed": seed, "step": n, "score": each[i, n - 1].item()}
            for name, each in self.items()
            for i, seed in enumerate(self.seeds)
            for n in at
        ]

    def frame(self, at: Sequence[int] = ()) -> pd.DataFrame:
        """A row for every arm and seed; a column for each of some steps, or the one number."""
        rows = {
            (name, f"seed {seed}"): {f"{n} tokens": _rounded(each[i, n - 1]) for n in at}
            or {"score": _rounded(each[i])}
            for name, each in self.items()
            for i, seed in enumerate(self.seeds)
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def paired(self, one: str, other: str) -> pd.Series:
        """one - other of every seed, which share start and data; their mean and t interval.

        Raises:
            ValueError: a model has more than one score; take one with `at`.
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
