"""Arms: the models trained under one name, one per seed, and their results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

import pandas as pd
import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from lab.arguments import one_of
from lab.experiment.budgets import Budget, budget
from lab.experiment.jobs import Job, run
from lab.experiment.parts import in_order, share
from lab.experiment.scores import Scorer, Scores
from lab.plots import figures
from lab.tasks import Task
from lab.train import History, Settings, fit_together, score
from lab.train.settings import check_settings

Build = Callable[[Any, int], nn.Module]
Tasks = Task | Sequence[Task]  # one for all seeds, or one per seed
Measure = Literal["by_step", "accuracy", "loss"]  # of a score

_QUICK = 200_000  # tokens that an arm is scored on in a second or two


class Arm:
    """How the models of one arm are built, and how it differs from the shared recipe.

    Args:
        build: called with the task and a seed; returns a model. All its random draws must come from
            that seed.
        task: the task of this arm, or one per seed; the task of all arms if None.
        data: the training data, such as a `Stored` set of the task; the task itself if None.
        start: trained models that training continues from, one per seed, instead of `build`; they
            are copied.
        before_update: called with all models of the arm and the number of the update, before every
            update. It must depend only on these, as for `fit_together`.
        settings: settings of `fit_together` that replace those of the recipe.

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
        **settings: Unpack[Settings],
    ) -> None:
        if (build is None) == (start is None):
            raise ValueError("an arm is built or starts from trained models: give one of the two")
        self.build, self.task, self.data, self.start = build, task, data, start
        self.before_update, self.settings = before_update, settings


@dataclass(frozen=True)
class Trained:
    """The result of one arm: models, histories and tasks, one per seed."""

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
        """The names of the arms."""
        return iter(self._trained)

    def __len__(self) -> int:
        """Number of arms."""
        return len(self._trained)

    def __or__(self, other: "Arms") -> "Arms":
        """The arms of both."""
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
        """Some of the arms, in the order of `names`."""
        return Arms({name: self[name] for name in names})

    def map(self, change: Callable[[nn.Module], nn.Module]) -> "Arms":
        """The same arms, with every model replaced by the result of `change`."""
        return Arms(
            {name: replace(each, models=[*map(change, each.models)]) for name, each in self.items()}
        )

    def measure(self, function: Callable[[nn.Module, Task], float | Tensor]) -> dict[str, Tensor]:
        """Float["seeds ..."] by arm: the values of `function` of a model and its task.

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
        self,
        *,
        length: int,
        samples: int,
        score: Measure | Scorer = "by_step",
        workers: int | None = None,
    ) -> Scores:
        """Score every model on new examples of its task, drawn from its own seed.

        Args:
            length: time steps of an example.
            samples: number of examples.
            score: which part of `lab.train.score` to use: "by_step", the share of right answers at
                every step; "accuracy", that of all scored steps together; or "loss". Or another
                function, called with a model, its task, length, samples and seed. Plain numbers
                become Float64.
            workers: as for `Experiment.train`; the arms are scored in parallel.

        Raises:
            ValueError: a score has no such part; or the arms have different seeds, which one
                figure would mix silently.
        """
        if not callable(score):
            one_of("scores", "score", score, get_args(Measure))
            score = partial(_taken, score)
        seeds = self._shared_seeds()
        how = partial(score, length=length, samples=samples)
        jobs = {
            name: Job(
                partial(_score_each, each, how),
                short=len(each.models) * samples * length <= _QUICK,
            )
            for name, each in self.items()
        }
        return Scores(run(jobs, label="scoring", workers=workers), seeds, self.budgets())

    def budgets(self) -> dict[str, Budget]:
        """Updates and parameters of every arm that has models."""
        found = {name: budget(each.models, each.histories) for name, each in self.items()}
        return {name: each for name, each in found.items() if each is not None}

    def losses(self, *, title: str = "", floors: Mapping[str, float] | None = None) -> go.Figure:
        """A figure of the training loss of every seed."""
        curves = {
            name: torch.stack([history.loss for history in each.histories])
            for name, each in self.items()
        }
        return figures.losses(curves, floors=floors, title=title)

    def _shared_seeds(self) -> list[int]:
        seeds = {name: each.seeds for name, each in self.items()}
        for name, own in seeds.items():
            if own != (first := next(iter(seeds.values()))):
                raise ValueError(
                    f"{name!r} is of seeds {own}, {next(iter(seeds))!r} of {first}: score them "
                    "apart, for a figure that mixes seeds has to say so"
                )
        return next(iter(seeds.values()), [])

    def skipped(self) -> int:
        """Number of updates skipped because of non-finite values, over all arms and seeds."""
        return sum(history.skipped for each in self.values() for history in each.histories)


def training(
    given: Arm | Build,
    task: Tasks,
    recipe: Settings,
    seeds: Sequence[int],
    *,
    of: Sequence[int] | None = None,
    checkpoint: Path | None = None,
) -> Job[Trained]:
    """The training of one arm, as a job that any process can run.

    Args:
        given: the arm, or the function that builds its models.
        task: the task for an arm that has none of its own, or one per seed.
        recipe: settings of `fit_together`.
        seeds: seeds of the models, which train side by side.
        of: all seeds of the arm, to which its tasks, data and models to start from belong; `seeds`
            if None.
        checkpoint: file from which a killed run continues; no checkpoints if None.

    Raises:
        ValueError: a setting is misspelt or missing.
    """
    arm = given if isinstance(given, Arm) else Arm(given)
    settings: Settings = {**recipe, **arm.settings}
    check_settings(settings, "train")
    whole = list(seeds if of is None else of)
    call = partial(_train, arm, arm.task or task, settings, list(seeds), whole, checkpoint)
    return Job(call, settings["steps"], len(seeds))


def untrained(arm: Arm, task: Tasks, seeds: Sequence[int]) -> Trained:
    """The models of an arm before their first update."""
    tasks = _each(task, seeds)
    return Trained(_models(arm, tasks, seeds, seeds), [], tasks, list(seeds))


def joined(
    found: Sequence[Trained], parts: Sequence[Sequence[int]], seeds: Sequence[int]
) -> Trained:
    """One arm, joined from the results of its parts, in the order of the seeds."""
    return Trained(
        *(in_order([getattr(each, name) for each in found], parts, seeds)
          for name in ("models", "histories", "tasks", "seeds"))
    )  # fmt: skip


def _train(
    arm: Arm,
    task: Tasks,
    settings: Settings,
    seeds: list[int],
    whole: list[int],
    checkpoint: Path | None,
) -> Trained:
    tasks = share(_each(task, whole), whole, seeds)
    models = _models(arm, tasks, seeds, whole)
    data = tasks if arm.data is None else share(_each(arm.data, whole), whole, seeds)
    hook = None if arm.before_update is None else partial(arm.before_update, models)
    if checkpoint is not None:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    histories = fit_together(
        models, data, seeds=seeds, before_update=hook, checkpoint=checkpoint, **settings
    )
    return Trained(models, histories, tasks, seeds)


def _each(task: Tasks, seeds: Sequence[int]) -> list[Task]:
    """One task per seed."""
    if not isinstance(task, Sequence):
        return [task] * len(seeds)
    if len(task) != len(seeds):
        raise ValueError(f"{len(task)} tasks for {len(seeds)} seeds: give one, or one for each")
    return list(task)


def _models(
    arm: Arm, tasks: Sequence[Task], seeds: Sequence[int], whole: Sequence[int]
) -> list[nn.Module]:
    """One model per seed; models that an arm starts from are copied, so that they do not change."""
    if arm.start is not None:
        if len(arm.start) != len(whole):
            raise ValueError(
                f"{len(arm.start)} models to start from for {len(whole)} seeds: give one for each"
            )
        return [deepcopy(model) for model in share(arm.start, whole, seeds)]
    assert arm.build is not None  # `Arm` has checked this
    return [arm.build(task, seed) for task, seed in zip(tasks, seeds, strict=True)]


def _score_each(arm: Trained, score: Scorer) -> Tensor:
    runs = zip(arm.models, arm.tasks, arm.seeds, strict=True)
    return torch.stack([_tensor(score(m, task, seed=seed)) for m, task, seed in runs])


def _tensor(found: float | Tensor) -> Tensor:
    """A tensor of one score; a plain number keeps all of its digits, as Float64."""
    return torch.as_tensor(found, dtype=torch.float64 if isinstance(found, float) else None)


def _taken(measure: Measure, model: nn.Module, task: Task, **how: int) -> Tensor | float:
    found: Tensor | float = getattr(score(model, task, **how), measure)
    return found
