"""One experiment as the log shows it: its record, doubts, runs and picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from lab import evidence
from lab.evidence.doubts import Doubt
from lab.records.executed import Entry
from lab.records.log.history import Run, run_of
from lab.records.log.notebook import Notebook, Picture

NO_FINDING = "This run declares no finding: its page has the criteria."


@dataclass(frozen=True)
class Experiment:
    """One experiment that has a result.

    Attributes:
        path: path of its executed notebook, relative to the folder of the log.
        record: the record that the notebook displayed.
        started: when the run began, UTC to the second; empty if unknown.
        heading: heading of the notebook; empty if it has none.
        picture: picture of the figure that shows the finding; None if there is none.
        doubts: what speaks against the result.
        runs: all known runs, including this one.
    """

    path: str
    record: Mapping[str, Any]
    started: str = ""
    heading: str = ""
    picture: Picture | None = None
    doubts: tuple[Doubt, ...] = ()
    runs: tuple[Run, ...] = ()

    @property
    def number(self) -> str:
        """The number in its record."""
        return str(self.record["experiment"])

    @property
    def name(self) -> str:
        """The file name of its page and its picture, without the suffix."""
        return PurePath(self.path).stem

    @property
    def summary(self) -> evidence.Summary | None:
        """The summary that the notebook declared; None for a record older than summaries."""
        return evidence.summary_of(self.record)

    @property
    def question(self) -> str:
        """The question of the summary; without one, the notebook's heading; else its title."""
        return self.summary.question if self.summary else self.heading or self.record["title"]

    @property
    def finding(self) -> str:
        """The finding, or a sentence which says that there is none."""
        return self.summary.finding if self.summary else NO_FINDING

    @property
    def run(self) -> Run:
        """The run that is shown, as a line of the history."""
        return run_of(self.record, self.started)


def of(folder: Path, entry: Entry, doubts: tuple[Doubt, ...], runs: tuple[Run, ...]) -> Experiment:
    """The experiment of a complete entry of a folder."""
    assert entry.record is not None  # callers pass only complete entries
    notebook, summary = Notebook(folder / entry.path), evidence.summary_of(entry.record)
    return Experiment(
        path=entry.path,
        record=entry.record,
        started=notebook.started,
        heading=notebook.heading,
        picture=notebook.picture(summary.figure if summary else ""),
        doubts=doubts,
        runs=runs,
    )
