"""The object that a notebook creates first: question, criteria, and the reported seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from lab.evidence.criteria import NOTE
from lab.evidence.judged import Judged, Reading, judge
from lab.evidence.planned import Planned, check_plan
from lab.evidence.summary import Summary, check_question
from lab.evidence.values import check_text
from lab.experiment import resuming, statistics
from lab.experiment.arms import Arm, Arms, Build, Tasks, joined, training, untrained
from lab.experiment.display import Sheet
from lab.experiment.jobs import run
from lab.experiment.parts import divided, named
from lab.experiment.scores import Scorer
from lab.experiment.standing import standing
from lab.experiment.statistics import MEAN, Values
from lab.experiment.tuning import Tuned, tune, with_setting
from lab.statistics import Interval
from lab.train import Settings

BY_SEED = "criteria by seed"  # the table of a record with the values behind every criterion


class Experiment:
    """One experiment, from its criteria to its verdict.

    It displays the question and the table of criteria. The same output is updated when criteria are
    judged, and `conclude` adds the verdict above the table and the record of the run. Below it,
    `key_figure` shows the figure that answers the question. At the defaults of a notebook, which
    train for seconds, the table also has the values of the committed full run.

    Args:
        number: number of the experiment as text, such as "013".
        title: its name in words.
        question: the question, on one line that ends in a question mark.
        parameters: the checked parameters of the notebook; its `seeds` are the reported ones.
        criteria: all criteria, before the run; see `Planned`.
        reported: results of an earlier run, by name; empty if there was none.

    Raises:
        TypeError: a name is not text.
        ValueError: the criteria could not answer the question (see `check_plan`), a statistic is
            unknown, or the question is not a question.
    """

    def __init__(
        self,
        number: str,
        *,
        title: str,
        question: str,
        parameters: Any,
        criteria: Sequence[Planned],
        reported: Mapping[str, float] | None = None,
    ) -> None:
        for name, text in {"number": number, "title": title, "question": question}.items():
            check_text(text, f"{name} of an experiment")
        check_question(question)
        self.number, self.title, self.question = number, title, question
        self.parameters, self.seeds = parameters, list(parameters.seeds)
        self.reported = dict(reported or {})
        self.plan = check_plan(criteria)
        for each in criteria:
            statistics.check(each)
        self.written = standing(number, self.plan)  # a commit made while it runs is too late
        self.judged: dict[tuple[str, str], Judged] = {}
        self.values: dict[str, list[dict[str, Any]]] = {}
        self.notes: dict[str, Judged] = {}
        self.tables: dict[str, list[Mapping[str, object]]] = {}
        self.tuning: list[Tuned] = []
        self.summary: Summary | None = None
        self.resuming = resuming.folder(number, parameters)
        self.sheet = Sheet(self)

    # --- runs ------------------------------------------------------------------------------------

    def train(
        self,
        arms: Mapping[str, Arm | Build],
        task: Tasks,
        recipe: Settings,
        *,
        seeds: Sequence[int] | None = None,
        tuned: Tuned | None = None,
        split: int = 1,
        checkpoint: bool | None = None,
        workers: int | None = None,
    ) -> Arms:
        """Train all arms, each in a process of its own in which its seeds train side by side.

        The results are the same as if the arms were trained one after another. Functions and
        classes may be defined in the notebook; everything that they refer to is sent to the
        processes.

        Args:
            arms: for each name a function from task and seed to a model, or an `Arm`.
            task: the task of all arms that have none of their own, or one per seed.
            recipe: settings of `lab.train.fit_together`.
            seeds: seeds of the models; the reported seeds if None.
            tuned: result of `tune`, whose value for each arm is used.
            split: number of processes among which the seeds of one arm are divided. If there are
                fewer arms than processors, 2 is faster. The last digits of the results may then
                differ from those with 1, because other models are computed together.
            checkpoint: whether a killed run continues from files, which a finished run removes; if
                None, only in a headless run.
            workers: number of processes; see `lab.experiment.jobs.run`.

        Raises:
            ValueError: a setting is misspelt, missing or out of its range, or there are more parts
                than seeds.
        """
        chosen = self.seeds if seeds is None else list(seeds)
        parts = divided(chosen, split)
        jobs = {}
        for name, given in arms.items():
            arm = with_setting(given, tuned.setting, tuned[name]) if tuned is not None else given
            for i, part in enumerate(parts):
                file = resuming.file(self.resuming, name, arm, recipe, part, wanted=checkpoint)
                jobs[named(name, i, split)] = training(
                    arm, task, recipe, part, of=chosen, checkpoint=file
                )
        done = run(jobs, label=f"training {len(arms)} arms", workers=workers)
        return Arms({
            name: joined([done[named(name, i, split)] for i in range(split)], parts, chosen)
            for name in arms
        })  # fmt: skip

    def untrained(self, arms: Mapping[str, Arm | Build], task: Tasks) -> Arms:
        """The models with which `train` begins, before their first update; they have no history."""
        made = {
            name: given if isinstance(given, Arm) else Arm(given) for name, given in arms.items()
        }
        return Arms(
            {name: untrained(arm, arm.task or task, self.seeds) for name, arm in made.items()}
        )

    def tune(
        self,
        arms: Mapping[str, Arm | Build],
        task: Tasks,
        recipe: Settings,
        *,
        seeds: Sequence[int],
        score: Scorer,
        high_is_good: bool = True,
        split: int = 1,
        workers: int | None = None,
        **grid: Sequence[Any],
    ) -> Tuned:
        """Choose a setting for every arm from the same grid, on seeds that are not reported.

        The value with the best median score over the seeds is chosen. The grid is displayed, and
        the arms whose best value is at its edge are named.

        Args:
            arms, task, recipe, split, workers: as for `train`.
            seeds: seeds of the trials, none of which may be reported.
            score: called with a trained model, its task and `seed`; returns a number.
            high_is_good: whether high scores are good.
            grid: one setting of `fit_together` with the values to try, such as
                `lr=[3e-4, 1e-3, 3e-3]`.

        Raises:
            ValueError: a seed is also reported, `grid` is not one setting with at least two values,
                or there are more parts than seeds.
        """
        if shared := set(seeds) & set(self.seeds):
            raise ValueError(f"seeds {sorted(shared)} are reported: tune on others")
        if len(grid) != 1 or len(next(iter(grid.values()))) < 2:
            raise ValueError(f"tune one setting, and give two values or more: got {grid}")
        ((setting, values),) = grid.items()
        found = tune(
            arms, task, recipe, setting=setting, values=values, seeds=seeds, score=score,
            high_is_good=high_is_good, split=split, workers=workers,
        )  # fmt: skip
        self.tuning.append(found)
        return found

    # --- criteria --------------------------------------------------------------------------------

    def judge(
        self,
        id: str,  # noqa: A002
        values: Values | Mapping[str, Values],
        *,
        minus: Any = None,
        seeds: Sequence[int] | None = None,
    ) -> None:
        """Judge a criterion by its statistic; a second call replaces the first.

        Args:
            id: id of the criterion.
            values: one value per seed, in the order of the seeds, or a single number, or an
                interval (`lab.statistics.Interval`), depending on the statistic; for a criterion
                with parts, these values by the name of the part.
            minus: for a paired criterion, the values of the other arm in the same form.
            seeds: the seeds of the values; all reported seeds if None.

        Raises:
            ValueError: the criterion does not exist; parts are missing or unknown; `minus` is given
                for a criterion that is not paired, or missing for one that is; or there is not one
                value per seed.
        """
        planned = self._planned(id)
        if planned.paired == (minus is None):
            said = "paired: give minus" if planned.paired else "not paired: leave minus out"
            raise ValueError(f"criterion {id} is {said}")
        given = values if isinstance(values, Mapping) else {"": values}
        others = minus if isinstance(minus, Mapping) else dict.fromkeys(given, minus)
        for what in (given, others):
            if set(what) != set(planned.rows):
                raise ValueError(f"criterion {id} has the parts {planned.rows}, got {tuple(what)}")
        self.values[id] = []
        for part in planned.rows:
            taken = _difference(given[part], others[part]) if planned.paired else given[part]
            self._keep(planned, part, taken, self.seeds if seeds is None else seeds)
        self.sheet.refresh()

    def value(self, id: str, part: str = "") -> float:  # noqa: A002
        """The value that a criterion was judged by, for the sentence of a finding.

        NaN stands for a value that is not finite, or that this run could not measure.

        Raises:
            ValueError: there is no such criterion or part, or it was not judged yet.
        """
        if part not in self._planned(id).rows or (id, part) not in self.judged:
            judged = [each for each in self.judged if each[0] == id]
            raise ValueError(f"criterion {id}, part {part!r}, was not judged; {judged} were")
        found = self.judged[id, part].value
        return math.nan if found is None else found

    def not_run(self, id: str, why: str) -> None:  # noqa: A002
        """Record that this run could not measure a criterion, which then decides nothing.

        Args:
            id: id of the criterion.
            why: what this run lacked, such as "no GPU here".

        Raises:
            ValueError: the criterion does not exist, or the reason is empty.
        """
        check_text(why, f"why criterion {id} was not run")
        planned = self._planned(id)
        for part in planned.rows:
            self.judged[id, part] = judge(planned, part, Reading(None, missing=why))
        self.sheet.refresh()

    def note(self, measured: str, values: Values, *, statistic: str = MEAN) -> None:
        """Add a number for the reader to the record; it has the kind context and never decides."""
        reading = statistics.read(values, statistic, high_is_bad=False, op=">", threshold=0.0)
        planned = Planned(NOTE, measured.replace("{", "("), ">", 0.0, statistic, kind="context")
        self.notes[measured] = judge(planned, "", reading)
        self.sheet.refresh()

    def table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Store measured rows in the record; see `Evidence.table`."""
        self.tables[name] = list(rows)

    def key_figure(self, figure: go.Figure) -> go.Figure:
        """Show the figure that answers the question below the table, too; returns it."""
        self.sheet.draw(figure)
        return figure

    def conclude(
        self,
        *,
        finding: str = "",
        settles: str = "",
        tags: Sequence[str] = (),
        impact: int = 3,
        cost_h: float = 1.0,
        blocked_by: str = "",
        figure: str = "",
    ) -> None:
        """Print the statuses that are equal on all machines, and add verdict and record at the top.

        Args:
            finding: one sentence with a number, formatted from what this run measured; without it,
                the research log shows no finding for this run.
            settles, tags, impact, cost_h, blocked_by, figure: as for `lab.evidence.Summary`;
                figure is the title of the key figure unless given.

        Raises:
            ValueError: a criterion was not judged (use `not_run` if the run cannot measure it, and
                nan if there is no value), or a sentence is not as required.
        """
        missing = {id_ for id_, planned in self.plan.items()
                   for part in planned.rows if (id_, part) not in self.judged}  # fmt: skip
        if missing:
            raise ValueError(f"criteria {sorted(missing)} were never judged; see `not_run`")
        if self.sheet.figure is not None and not figure:
            figure = (self.sheet.figure.layout.title.text or "").replace("<br>", " ")
        if finding:
            self.summary = Summary(
                question=self.question, finding=finding, settles=settles, tags=tags, impact=impact,
                cost_h=cost_h, blocked_by=blocked_by, figure=figure,
            )  # fmt: skip
        self.sheet.conclude()
        print(self.sheet.statuses())
        resuming.clear(self.resuming)

    def _ipython_display_(self) -> None:
        self.sheet.show()

    def _planned(self, id: str) -> Planned:  # noqa: A002
        if id not in self.plan:
            raise ValueError(f"there is no criterion {id!r}; the table has {list(self.plan)}")
        return self.plan[id]

    def _keep(self, planned: Planned, part: str, values: Values, seeds: Sequence[int]) -> None:
        listed = _by_seed(values)
        if listed and len(listed) != len(seeds):
            raise ValueError(
                f"criterion {planned.id} was given {len(listed)} values for {len(seeds)} seeds"
            )
        reading = statistics.read(
            values, planned.statistic, high_is_bad=planned.high_is_bad, op=planned.op,
            threshold=planned.threshold,
        )  # fmt: skip
        found = judge(planned, part, reading)
        self.judged[planned.id, part] = found
        self.values[planned.id] += [
            {"id": planned.id, "metric": found.metric, "seed": seed, "value": value}
            for seed, value in zip(seeds, listed, strict=bool(listed))
        ]


def _difference(one: Values, other: Values) -> Tensor:
    """one - other, seed by seed, in float64."""
    return torch.as_tensor(one, dtype=torch.float64) - torch.as_tensor(other, dtype=torch.float64)


def _by_seed(values: Values) -> list[float]:
    """The values of several seeds; empty for a single number."""
    if isinstance(values, int | float | Interval) or getattr(values, "ndim", 1) != 1:
        return []
    return [float(value) for value in values]
