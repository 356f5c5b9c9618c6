"""The history of all runs of all experiments, one line per run, in `log/history.json`.

The file is committed with the log, so that a clone without git history gives the same pages.
`--write` adds the runs in the folder, before later runs replace them; `--history` adds those in the
history of git.
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import evidence, files, git
from lab.records import executed
from lab.records.log.notebook import Notebook

FILE = "history.json"


class HistoryError(ValueError):
    """The history cannot be used; the message is one sentence that names the file."""


@dataclass(frozen=True, order=True)
class Run:
    """One run: when it began, at which commit of the code, and its result.

    Attributes:
        started: UTC to the second; empty if unknown.
        commit: commit of the code, from the record; empty if unknown.
        verdict: the verdict, one word.
        wanted: number of deciding criteria that speak for the hypothesis.
        judged: number of deciding criteria.
        finding: the finding that the notebook declared; empty if there is none.
    """

    started: str
    commit: str
    verdict: str
    wanted: int
    judged: int
    finding: str

    @property
    def identity(self) -> tuple[str, str]:
        """A key that distinguishes it from every other run of its experiment."""
        return self.started, self.commit


History = dict[str, tuple[Run, ...]]


def run_of(record: Mapping[str, Any], started: str) -> Run:
    """The run that a record describes."""
    judged = [each for each in evidence.validate(record) if each.decides]
    summary = evidence.summary_of(record)
    return Run(
        started=started,
        commit=str(record["environment"].get("commit") or ""),
        verdict=record["verdict"],
        wanted=sum(each.as_wanted is True for each in judged),
        judged=len(judged),
        finding=summary.finding if summary else "",
    )


def joined(*histories: Mapping[str, Iterable[Run]]) -> History:
    """All runs of several histories, without duplicates, in the order in which they began."""
    found: dict[str, dict[tuple[str, str], Run]] = {}
    for history in histories:
        for number, runs in history.items():
            found.setdefault(number, {}).update({run.identity: run for run in runs})
    return {number: tuple(sorted(found[number].values())) for number in sorted(found)}


def read(log: Path) -> History:
    """The history stored in the folder of a log; empty if there is none.

    Raises:
        HistoryError: the file exists and is not a history.
        OSError: it cannot be read.
    """
    path = log / FILE
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
        return {number: tuple(_run(each) for each in runs) for number, runs in content.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise HistoryError(
            f"{path} is no history of runs ({error}): take it from git, or remove it and write "
            "the log with --history"
        ) from None


def write(log: Path, history: History) -> None:
    """Store a history, with one run per line."""
    parts = [f"{json.dumps(number)}: [\n{_lines(runs)}\n]" for number, runs in history.items()]
    files.write_text(log / FILE, "{\n" + ",\n".join(parts) + "\n}\n" if parts else "{}\n")


def from_git(folder: str | os.PathLike[str]) -> History:
    """The runs in all committed versions of a folder's executed notebooks.

    Versions that are incomplete, or whose record has another schema, are left out.

    Raises:
        HistoryError: the folder is not in a git checkout with a commit.
    """
    listed = git.output(folder, "log", "--format=%x00%H", "--name-only", "--relative", "--", ".")
    if not listed:
        raise HistoryError(f"{os.fspath(folder)} is in no git checkout that has a past of it")
    found: dict[str, list[Run]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for commit, *names in (block.split("\n") for block in listed.split("\0")[1:]):
            for name in filter(_is_result, names):
                content = git.output(folder, "show", f"{commit}:./{name}")
                if content is not None and (run := _committed(Path(scratch, name), content)):
                    found.setdefault(run[0], []).append(run[1])
    return joined(found)


def _is_result(name: str) -> bool:
    return name.endswith(".ipynb") and "/" not in name


def _committed(path: Path, content: str) -> tuple[str, Run] | None:
    """Experiment number and run of one version of a notebook; None if it holds no result."""
    path.write_text(content)
    entry = executed.read_notebook(path)
    if entry.record is None:
        return None
    return entry.record["experiment"], run_of(entry.record, Notebook(path).started)


def _run(stored: Any) -> Run:
    run = Run(**stored)
    for field in dataclasses.fields(Run):
        if not isinstance(value := getattr(run, field.name), field.type):  # type: ignore[arg-type]
            raise TypeError(f"{field.name} of a run is {value!r}")
    return run


def _lines(runs: Iterable[Run]) -> str:
    return ",\n".join(json.dumps(dataclasses.asdict(run)) for run in runs)
