"""The research log: the records of executed notebooks as a page, as a table, and on the terminal.

From a shell:

    python -m lab.research_log --write executed
    python -m lab.research_log --show executed/004.ipynb
    python -m lab.research_log --stale executed
"""

import argparse
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

from lab import evidence, files
from lab.records import doubts, stale
from lab.records.executed import STATUSES, Entry, number_of, previous, read, read_notebook

if TYPE_CHECKING:
    import pandas


def markdown(entries: Iterable[Entry], doubted: doubts.Doubts | None = None) -> str:
    """The research log as Markdown; the same entries and doubts give the same text."""
    entries, doubted = list(entries), doubted or {}
    results = [(entry.path, entry.record) for entry in entries if entry.record is not None]
    others = [entry for entry in entries if entry.record is None]
    parts = [_INTRODUCTION, _rule(), _summary(results, doubted)]
    parts += [_unfinished(others)] if others else []
    parts += [_details(path, record, doubted) for path, record in results]
    return "\n\n".join(parts) + "\n"


def write(folder: str | os.PathLike[str]) -> list[Entry]:
    """Write the research log of a folder to its README.md, and return the entries it lists.

    Raises:
        NotADirectoryError: there is no such folder.
        DoubtError: its doubts.yaml cannot be used, as in `lab.records.doubts.read`.
    """
    entries = read(folder)
    doubted = doubts.read(folder, _numbers(entries))
    files.write_text(Path(folder, "README.md"), markdown(entries, doubted))
    return entries


def frame(entries: Iterable[Entry]) -> "pandas.DataFrame":
    """Every criterion of the complete entries, a row each, as a pandas table."""
    import pandas

    run = ("experiment", "title", "verdict")
    criterion = ("id", "arm", "metric", "value", "spread", "op", "threshold", "kind", "met")
    rows = [
        {"notebook": entry.path, **{name: entry.record[name] for name in run}, **each}
        for entry in entries
        if entry.record is not None
        for each in entry.record["criteria"]
    ]
    return pandas.DataFrame(rows, columns=["notebook", *run, *criterion])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.research_log",
        description="Collect the verdicts of executed notebooks, or show that of one.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--write", metavar="FOLDER", help="generate FOLDER/README.md from its executed notebooks"
    )
    what.add_argument(
        "--show", metavar="NOTEBOOK", help="print the criteria and the verdict of one notebook"
    )
    what.add_argument(
        "--stale", metavar="FOLDER", help="list the results that are older than the code they ran"
    )
    chosen = parser.parse_args(arguments)
    if chosen.stale is not None:
        return _stale(chosen.stale)
    return _write(chosen.write) if chosen.write is not None else _show(chosen.show)


# --- the page ------------------------------------------------------------------------------------

_INTRODUCTION = """\
# Research log

Generated from the executed notebooks of this folder; do not edit it. After a run, regenerate it
with `python -m lab.research_log --write FOLDER`, where FOLDER is this folder. Each notebook carries
its record as an output of type `application/vnd.lab.evidence+json`, and every number below comes
from these records. A result is in doubt where `doubts.yaml`, which is written by hand, says what
has changed since."""

_VERDICTS = """\
## How a verdict follows from its criteria

The first line that applies decides. Criteria of the arm `reported` repeat an earlier run, and \
those of kind `context` are there for the reader: neither decides."""


def _rule() -> str:
    rows = [(f"{i}. {case}", str(verdict)) for i, (case, verdict) in enumerate(evidence.RULE, 1)]
    return f"{_VERDICTS}\n\n{_table(('among the other criteria', 'verdict'), rows)}"


def _numbers(entries: Iterable[Entry]) -> set[str]:
    """The experiments that have a notebook, with a result or without."""
    entries = list(entries)
    named = {number for entry in entries if (number := number_of(entry.path)) is not None}
    return named | {entry.record["experiment"] for entry in entries if entry.record is not None}


def _summary(results: Sequence[tuple[str, Mapping[str, Any]]], doubted: doubts.Doubts) -> str:
    head = (
        "experiment",
        "title",
        "verdict",
        "criteria as wanted / judged",
        "runtime",
        "seeds",
        "code",
        "notebook",
    )
    rows = [_summary_row(path, record, doubted) for path, record in results]
    return "## Verdicts\n\n" + (_table(head, rows) if rows else "No notebook has a result yet.")


def _summary_row(path: str, record: Mapping[str, Any], doubted: doubts.Doubts) -> tuple[str, ...]:
    judged = [each for each in evidence.validate(record) if each.decides]
    is_doubted = record["experiment"] in doubted
    return (
        _escape(record["experiment"]),
        _escape(record["title"]),
        f"{record['verdict']}, in doubt" if is_doubted else record["verdict"],
        f"{sum(each.as_wanted for each in judged)} / {len(judged)}",
        _duration(record["runtime_s"]),
        ", ".join(map(str, record["seeds"])) or "-",
        _escape(str(record["environment"].get("commit") or "-")),
        _link(path),
    )


def _unfinished(entries: Iterable[Entry]) -> str:
    rows = [(_link(entry.path), entry.status, _escape(entry.detail)) for entry in entries]
    return "## Without a result\n\n" + _table(("notebook", "status", "what happened"), rows)


def _details(path: str, record: Mapping[str, Any], doubted: doubts.Doubts) -> str:
    criteria = evidence.validate(record)
    rows = [tuple(map(_escape, each.row())) for each in criteria]
    parts = [
        f"## {_escape(record['experiment'])} {_escape(record['title'])}",
        f"{_escape(evidence.verdict_line(criteria))} ({_link(path)})",
        *(_escape(str(doubt)) for doubt in doubted.get(record["experiment"], ())),
        _table(evidence.COLUMNS, rows) if rows else "It has no criteria.",
        *_reported(record["reported"]),
    ]
    return "\n\n".join(parts)


def _reported(reported: Mapping[str, float | None]) -> list[str]:
    rows = [(_escape(name), evidence.shown(value)) for name, value in reported.items()]
    return [_table(("reported before", "value"), rows)] if rows else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """`text` as Markdown that shows it as it is, on one line of a table."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    # Underscores inside a word mean nothing to Markdown, and names are full of them.
    return re.sub(r"[\\`*\[\]<>|$~&]|(?<![^\W_])_|_(?![^\W_])", lambda match: "\\" + match[0], line)


def _link(path: str) -> str:
    return f"[{_escape(path)}]({quote(os.fsencode(path))})"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# --- the command line ----------------------------------------------------------------------------


def _write(folder: str) -> int:
    try:
        statuses = [entry.status for entry in write(folder)]
    except (OSError, doubts.DoubtError) as error:
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
    parts = [evidence.as_text(entry.record), *map(str, doubted)]
    _say("\n\n".join([*parts, f"The notebook is {Path(path).resolve()}"]), sys.stdout)
    if fault:
        _say(fault, sys.stderr)
    return int(bool(fault))


def _doubts_beside(path: Path, entry: Entry) -> list[doubts.Doubt]:
    """The doubts about the result of a notebook, from the folder that it is in."""
    assert entry.record is not None  # `_show` has sent others away
    experiment = entry.record["experiment"]
    names = {number for each in path.parent.iterdir() if (number := number_of(each.name))}
    return list(doubts.read(path.parent, {*names, experiment}).get(experiment, ()))


def _stale(folder: str) -> int:
    """List, and do not fail: that code has moved on is no error."""
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
