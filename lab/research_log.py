"""The research log: records of executed notebooks as pages, as a table, and on the terminal.

From a shell:

    python -m lab.research_log --write executed
    python -m lab.research_log --write executed --history
    python -m lab.research_log --show executed/004.ipynb
    python -m lab.research_log --stale executed
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from lab import evidence
from lab.evidence import doubts
from lab.records import stale
from lab.records.executed import STATUSES, Entry, number_of, previous, read, read_notebook
from lab.records.log.frame import frame
from lab.records.log.history import HistoryError
from lab.records.log.writing import write

__all__ = ["STATUSES", "Entry", "frame", "main", "read", "read_notebook", "write"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.research_log",
        description="Collect the verdicts of executed notebooks, or show that of one.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--write",
        metavar="FOLDER",
        help="generate FOLDER/README.md and FOLDER/log from its executed notebooks",
    )
    what.add_argument(
        "--show", metavar="NOTEBOOK", help="print the criteria and the verdict of one notebook"
    )
    what.add_argument(
        "--stale", metavar="FOLDER", help="list the results that are older than the code they ran"
    )
    parser.add_argument(
        "--history", action="store_true", help="with --write: add the runs that git remembers"
    )
    chosen = parser.parse_args(arguments)
    if chosen.history and chosen.write is None:
        parser.error("--history goes with --write FOLDER")
    if chosen.stale is not None:
        return _stale(chosen.stale)
    return _show(chosen.show) if chosen.write is None else _write(chosen.write, chosen.history)


def _write(folder: str, with_git: bool) -> int:
    try:
        statuses = [entry.status for entry in write(folder, with_git=with_git)]
    except (OSError, doubts.DoubtError, HistoryError) as error:
        _say(str(error), sys.stderr)
        return 1
    counts = [f"{statuses.count(status)} {status}" for status in STATUSES if status in statuses]
    _say(f"{Path(folder, 'README.md')}: {', '.join(counts) or 'no notebooks'}", sys.stdout)
    return 0


def _show(path: str) -> int:
    entry = read_notebook(path)
    if entry.record is None:
        kept = previous(path)
        where = f" The last finished result is kept in {kept}." if kept.exists() else ""
        _say(f"{path}, {entry.status}: {entry.detail}{where}", sys.stderr)
        return 1
    try:
        doubted, fault = _doubts_beside(Path(path), entry), ""
    except (OSError, doubts.DoubtError) as error:
        doubted, fault = [], str(error)
    parts = [evidence.text_of(entry.record), *map(str, doubted)]
    _say("\n\n".join([*parts, f"The notebook is {Path(path).resolve()}"]), sys.stdout)
    if fault:
        _say(fault, sys.stderr)
    return int(bool(fault))


def _doubts_beside(path: Path, entry: Entry) -> list[doubts.Doubt]:
    """The doubts about the result of a notebook, from the folder that it is in."""
    assert entry.record is not None  # `_show` returns early for entries without a record
    experiment = entry.record["experiment"]
    names = {number for each in path.parent.iterdir() if (number := number_of(each.name))}
    return list(doubts.read(path.parent, {*names, experiment}).get(experiment, ()))


def _stale(folder: str) -> int:
    """List the results that are older than their code; this is not an error, so the status is 0."""
    try:
        found = stale.results(folder)
    except (OSError, stale.StaleError) as error:
        _say(str(error), sys.stderr)
        return 1
    _say("\n".join([*map(str, found), stale.summary(found)]), sys.stdout)
    return 0


def _say(text: str, stream: TextIO) -> None:
    # A character that the terminal cannot show must not hide the rest.
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), file=stream)


if __name__ == "__main__":
    sys.exit(main())
