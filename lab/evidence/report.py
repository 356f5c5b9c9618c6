"""The record of a run, schema 2, which an executed notebook stores for an `Experiment`."""

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lab.evidence import judged
from lab.evidence import written as when
from lab.evidence.comparison import shown
from lab.evidence.criteria import COLUMNS
from lab.evidence.display import aligned, in_words
from lab.evidence.judged import Judged
from lab.evidence.machine import environment
from lab.evidence.record import STARTED
from lab.evidence.ruling import of_proposal, rule
from lab.evidence.summary import Summary
from lab.evidence.values import number, plain
from lab.evidence.written import Written

SCHEMA = 2


def report(
    experiment: str,
    *,
    title: str,
    question: str,
    criteria: Sequence[Judged],
    reported: Mapping[str, float],
    parameters: Mapping[str, Any],
    seeds: Sequence[int],
    tuning_seeds: Sequence[int] = (),
    tables: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
    summary: Summary | None = None,
    written: Mapping[str, Written] | None = None,
) -> dict[str, Any]:
    """The record as plain JSON values; see `lab.experiment.Experiment` for its fields.

    `runtime_s` counts from the import of `lab.evidence`, which is the start of a headless run.
    Everything else is the same when the notebook is run again on the same machine.

    Raises:
        TypeError: a table or the parameters contain something that is not a plain value.
    """
    verdict, reason = rule(criteria)
    proposal = of_proposal(criteria)
    return {
        "schema": SCHEMA,
        "experiment": experiment,
        "title": title,
        "question": question,
        "verdict": str(verdict),
        "reason": reason,
        "proposal": None if proposal is None else str(proposal[0]),
        "runtime_s": round(time.perf_counter() - STARTED, 1),
        "seeds": list(seeds),
        "tuning_seeds": list(tuning_seeds),
        "parameters": copy.deepcopy(plain(parameters, "parameters")),
        "environment": environment(),
        "reported": {name: number(value, f"reported {name!r}") for name, value in reported.items()},
        "criteria": [each.record() for each in criteria],
        "tables": {
            name: [plain(dict(row), f"table {name!r}") for row in rows]
            for name, rows in (tables or {}).items()
        },
        **({} if summary is None else {"summary": summary.record()}),
        **({"written": when.record(written)} if written else {}),
    }


def as_text(record: Mapping[str, Any]) -> str:
    """A record of this schema as an aligned table, with its verdict and the reason.

    Raises:
        ValueError: a criterion is not as `lab.evidence.judged.read` wants it.
    """
    rows = [judged.read(each).row() for each in record["criteria"]]
    reported = [f"{name} {shown(value)}" for name, value in record["reported"].items()]
    lines = [f"Reported before: {', '.join(reported)}."] if reported else []
    lines += [f"{record['verdict']}: {record['reason']}"]
    if record["proposal"] is not None:
        lines.append(f"The proposal by its own criteria, as they fall: {record['proposal']}.")
    lines += when.sentences(when.read(record.get("written", {})))
    lines += in_words(record)
    heading = f"{record['experiment']} {record['title']}"
    return "\n".join([heading, "", aligned([COLUMNS, *rows]), "", *lines])
