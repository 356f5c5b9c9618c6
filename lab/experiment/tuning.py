"""Tuning: one setting is chosen for every arm in the same way, on seeds that are not reported."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from html import escape
from typing import Any, cast

import torch
from torch import Tensor, nn

from lab.experiment.arms import Arm, Build, Tasks, Trained, training
from lab.experiment.jobs import Job, run
from lab.experiment.parts import divided, in_order, named
from lab.experiment.scores import Scorer
from lab.tasks import Task
from lab.train import Settings, score


@dataclass(frozen=True)
class Tuned(Mapping[str, Any]):
    """The value chosen for every arm; displays the grid, and names the arms at its edge.

    Attributes:
        setting: name of the setting.
        tried: its values, in the given order.
        scores: Float["values seeds"] by arm; nan if training diverged.
        seeds: seeds of the trials.
        high_is_good: whether the largest median score was chosen, instead of the smallest.
    """

    setting: str
    tried: Sequence[Any]
    scores: Mapping[str, Tensor]
    seeds: Sequence[int]
    high_is_good: bool

    def __getitem__(self, name: str) -> Any:
        """The value chosen for an arm."""
        return self.tried[self._best(name)]

    def __iter__(self) -> Iterator[str]:
        """The names of the arms."""
        return iter(self.scores)

    def __len__(self) -> int:
        """Number of arms."""
        return len(self.scores)

    @property
    def at_the_edge(self) -> list[str]:
        """Arms whose best value is the first or last one tried: a better one may lie beyond."""
        last = len(self.tried) - 1
        return [name for name in self.scores if last and self._best(name) in (0, last)]

    def medians(self, name: str) -> Tensor:
        """Float["values"]: medians over seeds; nan for a value at which any seed diverged."""
        found = self.scores[name]
        return torch.where(found.isfinite().all(1), found.quantile(0.5, dim=1), torch.nan)

    def rows(self) -> list[dict[str, Any]]:
        """Rows for the record: arm, value, seed and score."""
        return [
            {"arm": name, self.setting: value, "seed": seed, "score": found[i, j].item()}
            for name, found in self.scores.items()
            for i, value in enumerate(self.tried)
            for j, seed in enumerate(self.seeds)
        ]

    def _best(self, name: str) -> int:
        medians = self.medians(name)
        if medians.isnan().all():
            raise ValueError(f"no {self.setting} of {list(self.tried)} trains {name!r}")
        worst = -torch.inf if self.high_is_good else torch.inf
        filled = torch.where(medians.isnan(), worst, medians)
        return int(filled.argmax() if self.high_is_good else filled.argmin())

    @property
    def closing(self) -> str:
        """A sentence that says which seeds were used, or which arms are at the edge of the grid."""
        if not (edge := self.at_the_edge):
            return f"Chosen on seeds {list(self.seeds)}, which the report never uses."
        return f"At the edge of the grid, so that a better value may lie beyond: {', '.join(edge)}."

    def __repr__(self) -> str:
        """The grid as text, the chosen value of every arm in brackets."""
        lines = [f"{self.setting}: median score of {len(self.seeds)} seeds"]
        for name in self.scores:
            cells = [
                f"[{value}: {median:.3g}]" if i == self._best(name) else f"{value}: {median:.3g}"
                for i, (value, median) in enumerate(
                    zip(self.tried, self.medians(name).tolist(), strict=True)
                )
            ]
            lines.append(f"{name}  {'  '.join(cells)}")
        return "\n".join([*lines, self.closing])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(str(value))}</th>" for value in self.tried)
        body = ""
        for name in self.scores:
            texts = [f"{median:.3g}" for median in self.medians(name).tolist()]
            texts[self._best(name)] = f"<b>{texts[self._best(name)]}</b>"
            body += f"<tr><td>{escape(name)}</td>{''.join(f'<td>{t}</td>' for t in texts)}</tr>"
        return (
            f"<table><thead><tr><th>{escape(self.setting)}</th>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table><p>{escape(self.closing)}</p>"
        )


def tune(
    arms: Mapping[str, Arm | Build],
    task: Tasks,
    recipe: Settings,
    *,
    setting: str,
    values: Sequence[Any],
    seeds: Sequence[int],
    score: Scorer,
    high_is_good: bool,
    split: int = 1,
    workers: int | None = None,
) -> Tuned:
    """Try every value of a setting on every arm; see `Experiment.tune`."""
    parts = divided(seeds, split)
    jobs: dict[str, Job[Tensor]] = {}
    for name, given in arms.items():
        for value in values:
            arm = with_setting(given, setting, value)
            for i, part in enumerate(parts):
                trial = training(arm, task, recipe, part, of=seeds)
                call = _Trial(trial.call, score, len(part))
                label = named(f"{name}, {setting} {value}", i, split)
                jobs[label] = Job(call, trial.steps, trial.models)
    found = iter(run(jobs, label=f"tuning {setting}", workers=workers).values())

    def of_value() -> Tensor:
        return torch.stack(in_order([next(found).unbind() for _ in parts], parts, seeds))

    scores = {name: torch.stack([of_value() for _ in values]) for name in arms}
    return Tuned(setting, list(values), scores, list(seeds), high_is_good)


def accuracy_then_loss(
    model: nn.Module,
    task: Task,
    *,
    length: int,
    samples: int,
    seed: int,
    at: Sequence[int] | None = None,
) -> float:
    """A score for `tune`: the accuracy, and among models that are always right the smallest loss.

    It is the share of right answers over all scored steps of examples of this length, less a
    thousandth of their loss, or of 1 where the loss is above 1. Accuracies alone would leave the
    choice between two step sizes that solve a task to the order in which they are tried.

    Args:
        model, task, length, samples, seed: of `lab.train.score`.
        at: the numbers of tokens, all of the same weight, after which answers count; every scored
            step if None. Of 128 tokens the first eight have a sixteenth of the weight, too little
            to tell step sizes of a model apart that is lost after them.
    """
    found = score(model, task, length=length, samples=samples, seed=seed)
    accuracy = found.accuracy
    if at is not None:
        accuracy = found.by_step[[tokens - 1 for tokens in at]].mean().item()
    return accuracy - 1e-3 * min(1.0, found.loss)


def with_setting(given: Arm | Build, setting: str, value: Any) -> Arm:
    """The same arm, with one of its settings replaced."""
    arm = copy(given) if isinstance(given, Arm) else Arm(given)
    arm.settings = cast(Settings, {**arm.settings, setting: value})
    return arm


@dataclass(frozen=True)
class _Trial:
    """Trains and scores, and returns only the scores; all are nan if a loss is not finite."""

    train: Callable[[], Trained]
    score: Scorer
    seeds: int

    def __call__(self) -> Tensor:
        try:
            trained = self.train()
        except FloatingPointError:
            return torch.full((self.seeds,), torch.nan)
        runs = zip(trained.models, trained.tasks, trained.seeds, strict=True)
        return torch.tensor([float(self.score(m, task, seed=seed)) for m, task, seed in runs])
