"""The criteria of one experiment and the record of its run, which its notebook displays."""

import copy
import dataclasses
import math
import operator
import time
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from lab.evidence.criteria import Criterion, criterion
from lab.evidence.display import as_html, as_text
from lab.evidence.doubts import sentences
from lab.evidence.machine import environment
from lab.evidence.summary import Summary
from lab.evidence.values import check_text, number, plain
from lab.evidence.verdict import Verdict, decide

MIME = "application/vnd.lab.evidence+json"
SCHEMA = 1

STARTED = time.perf_counter()


class Evidence:
    """The criteria of one experiment, and the record of its run.

    Args:
        experiment: its number as text, such as "004".
        title: its name in words.
        reported: results of an earlier run, by name; empty if there was none.
        parameters: a dataclass instance or a mapping of plain values; it is copied.
        seeds: the seeds of all runs on which the criteria are based.

    Raises:
        TypeError: an argument is not of its type, or a parameter is not a plain value.
        ValueError: the experiment or its title is empty.
    """

    def __init__(
        self,
        experiment: str,
        *,
        title: str,
        reported: Mapping[str, float],
        parameters: object = None,
        seeds: Sequence[int] = (),
    ) -> None:
        check_text(experiment, "experiment")
        check_text(title, f"title of experiment {experiment}")
        self.experiment = experiment
        self.title = title
        self.reported = _reported(reported)
        self.parameters = _parameters(parameters)
        self.seeds = [operator.index(seed) for seed in seeds]
        self.criteria: list[Criterion] = []
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.summarised: Summary | None = None

    def check(
        self,
        id: str,  # noqa: A002
        value: object,
        op: str,
        threshold: object,
        *,
        arm: str = "corrected",
        kind: str = "success",
        metric: str = "",
        spread: object = None,
    ) -> bool:
        """Add a criterion and return whether its comparison holds; a missed one raises no error.

        Args: as for `criterion`.

        Raises:
            TypeError: as for `criterion`.
            ValueError: as for `criterion`, or the same id, arm and metric were checked before.
        """
        new = criterion(id, value, op, threshold, arm=arm, kind=kind, metric=metric, spread=spread)
        # Readers of the record would mistake two results with the same name for one.
        if any((old.id, old.arm, old.metric) == (id, arm, metric) for old in self.criteria):
            raise ValueError(
                f"criterion {new.name} was checked before; give it another arm or metric, "
                "or make a new Evidence in the cell that checks"
            )
        self.criteria.append(new)
        return new.met

    def table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Store measured rows that are not criteria, for figures over several experiments.

        Args:
            name: name of the table, the same in every experiment that has such rows.
            rows: plain values by name; they are copied.

        Raises:
            TypeError: a row is not a mapping of plain values.
            ValueError: the name is empty, or the table exists already.
        """
        check_text(name, f"the name of a table of experiment {self.experiment}")
        if name in self.tables:
            raise ValueError(f"table {name!r} was given before; give it another name")
        for row in rows:
            if not isinstance(row, Mapping):
                raise TypeError(f"a row of table {name!r} is a {type(row).__name__}, not a mapping")
        self.tables[name] = [dict(plain(row, f"table {name!r}")) for row in rows]

    def value(self, id: str, metric: str = "", *, arm: str = "corrected") -> float:  # noqa: A002
        """The value of a criterion that was checked, for the sentence of a finding.

        NaN stands for a value that is not finite.

        Raises:
            ValueError: no criterion of this id, arm and metric was checked.
        """
        names = {f"{each.id}, {each.arm}, {each.metric}": each for each in self.criteria}
        wanted = f"{id}, {arm}, {metric}"
        if (found := names.get(wanted)) is None:
            close = get_close_matches(wanted, names, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"no criterion {wanted!r} was checked{meant}")
        return math.nan if found.value is None else found.value

    def summary(self, **fields: Any) -> None:
        """Say what this run found, for the front page of the research log; the last call counts.

        Args:
            fields: those of `lab.evidence.Summary`. The numbers of the finding are formatted from
                what this run measured, with `value` for instance, and never typed.

        Raises:
            TypeError: as for `lab.evidence.Summary`.
            ValueError: as there.
        """
        self.summarised = Summary(**fields)

    def verdict(self) -> Verdict:
        """PROCEED, DEBUG, ABANDON or INCONCLUSIVE, by the rule of `decide`."""
        return decide(self.criteria)

    def statuses(self) -> str:
        """A line for each criterion and one for the verdict, the same on every machine.

        They contain no measured numbers, so a test can compare them word for word.
        """
        lines = [f"{each.name}: {each.kind}, {each.status}" for each in self.criteria]
        return "\n".join([*lines, f"verdict: {self.verdict()}"])

    def record(self) -> dict[str, Any]:
        """The record of the run as plain JSON values.

        `runtime_s` counts from the import of this module, which is the start of a headless run.
        Everything else is the same when the notebook is run again on the same machine.
        """
        return {
            "schema": SCHEMA,
            "experiment": self.experiment,
            "title": self.title,
            "verdict": str(self.verdict()),
            "runtime_s": round(time.perf_counter() - STARTED, 1),
            "seeds": list(self.seeds),
            "parameters": copy.deepcopy(self.parameters),
            "environment": environment(),
            "reported": dict(self.reported),
            "criteria": [each.record() for each in self.criteria],
            **({"tables": copy.deepcopy(self.tables)} if self.tables else {}),
            **({"summary": self.summarised.record()} if self.summarised else {}),
        }

    def __str__(self) -> str:
        """The table as text, with the doubts about the finding."""
        return as_text(self.record(), sentences(self.experiment))

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """What a notebook displays: the record as JSON, and a table."""
        record, doubts = self.record(), sentences(self.experiment)
        page, text = as_html(record, doubts), as_text(record, doubts)
        return {MIME: record, "text/html": page, "text/plain": text}


def _reported(reported: Mapping[str, object]) -> dict[str, float | None]:
    if not isinstance(reported, Mapping):
        raise TypeError(f"reported must map names to numbers, got a {type(reported).__name__}")
    return {str(name): number(value, f"reported {name!r}") for name, value in reported.items()}


def _parameters(parameters: object) -> dict[str, Any]:
    if parameters is None:
        return {}
    if dataclasses.is_dataclass(parameters) and not isinstance(parameters, type):
        parameters = dataclasses.asdict(parameters)
    if not isinstance(parameters, Mapping):
        kind = type(parameters).__name__
        raise TypeError(f"parameters must be a dataclass instance or a mapping, got a {kind}")
    return dict(plain(parameters, "parameters"))
