"""Arms: what is trained under one name, and what came of it, seed by seed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from lab.experiment.jobs import Job, run
from lab.experiment.scores import Score, Scores
from lab.plots import figures
from lab.tasks import Task
from lab.train import History, accuracy, fit_together

Build = Callable[[Any, int], nn.Module]
Tasks = Task | Sequence[Task]  # one for all seeds, or one a seed


class Arm:
    """How the models of one arm are built, and where it differs from the recipe that all share.

    Args:
        build: called with the task and a seed; returns a model. It must draw from that seed alone.
        task: that of this arm, or one for each seed; that of all arms if None.
        data: what it is trained on, such as a `Stored` set of the task; the task itself if None.
        start: trained models to go on from, one a seed, in place of `build`; they are copied.
        before_update: called with all models of the arm and the number of every update. It must
            depend on those alone, as for `fit_together`.
        settings: of `fit_together`, in place of those of the recipe.

    Raises:
        ValueError: neither build nor start is given, or both are.
    """

    def __init__(
        self,
        build: Build | None = None,
        *,
        task: Tasks | None = None,
        data: Tasks | None = None,
        start: Sequence[nn.Module] | None = None,
        before_update: Callable[[Sequence[nn.Module], int], None] | None = None,
        **settings: Any,
    ) -> None:
        if (build is None) == (start is None):
            raise ValueError("an arm is built or starts from trained models: give one of the two")
        self.build, self.task, self.data, self.start = build, task, data, start
        self.before_update, self.settings = before_update, settings


@dataclass(frozen=True)
class Trained:
    """What came of one arm: models, histories and tasks, one a seed."""

    models: list[nn.Module]
    histories: list[History]
    tasks: list[Task]
    seeds: list[int]


class Arms(Mapping[str, Trained]):
    """The trained arms, by name, in the order in which they were given."""

    def __init__(self, trained: Mapping[str, Trained]) -> None:
        self._trained = dict(trained)

    def __getitem__(self, name: str) -> Trained:
        """One arm."""
        return self._trained[name]

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._trained)

    def __len__(self) -> int:
        """How many arms there are."""
        return len(self._trained)

    def __or__(self, other: "Arms") -> "Arms":
        """Both together."""
        return Arms({**self, **other})

    @property
    def models(self) -> dict[str, list[nn.Module]]:
        """The models of every seed by arm, as panels take them."""
        return {name: each.models for name, each in self.items()}

    @property
    def histories(self) -> dict[str, list[History]]:
        """The histories of every seed by arm."""
        return {name: each.histories for name, each in self.items()}

    def select(self, names: Sequence[str]) -> "Arms":
        """Some of the arms, in another order if need be."""
        return Arms({name: self[name] for name in names})

    def map(self, change: Callable[[nn.Module], nn.Module]) -> "Arms":
        """The same arms with every model replaced by what `change` makes of it."""
        return Arms(
            {name: replace(each, models=[*map(change, each.models)]) for name, each in self.items()}
        )

    def measure(self, function: Callable[[nn.Module, Task], float | Tensor]) -> dict[str, Tensor]:
        """Float["seeds ..."] by arm: what `function` of a model and its task says.

        Plain numbers become Float64.
        """
        return {
            name: torch.stack([*map(_tensor, map(function, each.models, each.tasks))])
            for name, each in self.items()
        }

    def frame(self, function: Callable[[nn.Module, Task], Mapping[str, object]]) -> pd.DataFrame:
        """A row for every arm and seed: what `function` of a model and its task says, by column."""
        rows = {
            (name, f"seed {seed}"): function(model, task)
            for name, each in self.items()
            for seed, model, task in zip(each.seeds, each.models, each.tasks, strict=True)
        }
        return pd.DataFrame(list(rows.values()), index=pd.MultiIndex.from_tuples(list(rows)))

    def scores(
        self, *, length: int, samples: int, score: Score = accuracy, workers: int | None = None
    ) -> Scores:
        """Every model on fresh examples of its task, drawn from its own seed.

        Args:
            length: time steps of an example.
            samples: how many examples.
            score: such as `accuracy`, the share of right answers at every step, or
                `scored_accuracy`, one number, which becomes a Float64.
            workers: as for `Experiment.train`; the arms are scored beside one another.
        """
        how = partial(score, length=length, samples=samples)
        jobs = {name: Job(partial(_score, each, how)) for name, each in self.items()}
        seeds = next(iter(self.values())).seeds if self else []
        return Scores(run(jobs, label="scoring", workers=workers), seeds)

    def losses(self, *, title: str = "", floors: Mapping[str, float] | None = None) -> go.Figure:
        """The training loss of every seed."""
        curves = {
            name: torch.stack([history.loss for history in each.histories])
            for name, each in self.items()
        }
        return figures.losses(curves, floors=floors, title=title)

    def skipped(self) -> int:
        """Updates left out because something was not finite, of all arms and seeds together."""
        return sum(history.skipped for each in self.values() for history in each.histories)


def training(
    given: Arm | Build,
    task: Tasks,
    recipe: Mapping[str, Any],
    seeds: Sequence[int],
    *,
    checkpoint: Path | None = None,
) -> Job[Trained]:
    """The training of one arm, for whoever runs it.

    Args:
        given: the arm, or what builds its models.
        task: of the arm if it has none of its own, or one for each seed.
        recipe: settings of `fit_together`.
        seeds: of the models, which train side by side.
        checkpoint: the file that lets a killed run go on; none if None.
    """
    arm = given if isinstance(given, Arm) else Arm(given)
    settings = {**recipe, **arm.settings}
    call = partial(_train, arm, arm.task or task, settings, list(seeds), checkpoint)
    return Job(call, settings["steps"], len(seeds))


def untrained(arm: Arm, task: Tasks, seeds: Sequence[int]) -> Trained:
    """The models of an arm before their first update."""
    tasks = _each(task, seeds)
    return Trained(_models(arm, tasks, seeds), [], tasks, list(seeds))


def joined(parts: Sequence[Trained]) -> Trained:
    """One arm whose seeds were trained apart."""
    return Trained(
        *([item for part in parts for item in getattr(part, name)]
          for name in ("models", "histories", "tasks", "seeds"))
    )  # fmt: skip


def _train(
    arm: Arm,
    task: Tasks,
    settings: Mapping[str, Any],
    seeds: list[int],
    checkpoint: Path | None,
) -> Trained:
    tasks = _each(task, seeds)
    models = _models(arm, tasks, seeds)
    data = tasks if arm.data is None else _each(arm.data, seeds)
    hook = None if arm.before_update is None else partial(arm.before_update, models)
    if checkpoint is not None:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    histories = fit_together(
        models, data, seeds=seeds, before_update=hook, checkpoint=checkpoint, **settings
    )
    return Trained(models, histories, tasks, seeds)


def _each(task: Tasks, seeds: Sequence[int]) -> list[Task]:
    """One task a seed."""
    if not isinstance(task, Sequence):
        return [task] * len(seeds)
    if len(task) != len(seeds):
        raise ValueError(f"{len(task)} tasks for {len(seeds)} seeds: give one, or one for each")
    return list(task)


def _models(arm: Arm, tasks: Sequence[Task], seeds: Sequence[int]) -> list[nn.Module]:
    """One model a seed; copies where they were trained before, for those stay as they are."""
    if arm.start is not None:
        return [deepcopy(model) for model in arm.start]
    assert arm.build is not None  # `Arm` saw to it
    return [arm.build(task, seed) for task, seed in zip(tasks, seeds, strict=True)]


def _score(arm: Trained, score: Score) -> Tensor:
    runs = zip(arm.models, arm.tasks, arm.seeds, strict=True)
    return torch.stack([_tensor(score(m, task, seed=seed)) for m, task, seed in runs])


def _tensor(found: float | Tensor) -> Tensor:
    """A number keeps all of its digits: torch would round it to single precision."""
    return torch.as_tensor(found, dtype=torch.float64 if isinstance(found, float) else None)
