"""The research log: what the executed notebooks found, read back out of them.

`read` never stops at a bad file. A run that failed, was killed half way or was cut off on disk
becomes an entry that says so in one sentence, and the results beside it are not lost.

    python -m lab.research_log --write executed
    python -m lab.research_log --show executed/004.ipynb
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

from lab import evidence, files

if TYPE_CHECKING:
    import pandas

STATUSES = ("complete", "failed", "unreadable", "no record")
COLUMNS = ("id", "arm", "metric", "value", "spread", "op", "threshold", "kind", "met")

_SILENTLY = "without an error message; was it killed?"

# Room for one sentence in a table; error messages of tensor code run to pages.
LONGEST = 300


@dataclass(frozen=True)
class Entry:
    """One executed notebook.

    Attributes:
        path: its file, relative to the folder that was read.
        status: one of `STATUSES`.
        record: what it found; None unless the status is "complete".
        detail: one sentence: the verdict and its reason, or what went wrong where.
    """

    path: str
    status: str
    record: dict[str, Any] | None
    detail: str


def read(folder: str | os.PathLike[str]) -> list[Entry]:
    """One entry for each notebook of a folder, by name; folders inside it are left out.

    Raises:
        NotADirectoryError: there is no such folder. Nothing inside it is ever raised.
    """
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"{os.fspath(folder)!r} is not a folder of executed notebooks")
    names = sorted(path.name for path in Path(folder).iterdir() if _is_notebook(path.name))
    return [read_notebook(Path(folder, name)) for name in names]


def read_notebook(path: str | os.PathLike[str]) -> Entry:
    """The entry of one executed notebook, whatever state the file is in."""
    name = Path(path).name
    try:
        cells = _cells(_load(path))
        # A run that stopped may have shown a record before; it is not the result of the run.
        if stop := _stop(cells):
            return Entry(name, "failed", None, _sentence(stop))
        records = _records(cells)
        if not records:
            return Entry(name, "no record", None, "it ran to its end and displayed no evidence.")
        criteria = evidence.validate(records[-1])
    except (OSError, ValueError) as error:
        return Entry(name, "unreadable", None, _sentence(_why(error)))
    return Entry(name, "complete", records[-1], evidence.verdict_line(criteria))


def markdown(entries: Iterable[Entry]) -> str:
    """The research log as Markdown; the same entries give the same text."""
    entries = list(entries)
    complete = [entry for entry in entries if entry.record is not None]
    others = [entry for entry in entries if entry.record is None]
    parts = [_INTRODUCTION, _rule(), _summary(complete)]
    parts += [_unfinished(others)] if others else []
    parts += [_details(entry) for entry in complete]
    return "\n\n".join(parts) + "\n"


def write(folder: str | os.PathLike[str]) -> list[Entry]:
    """Write the research log of a folder to its README.md, and return the entries it lists.

    Raises:
        NotADirectoryError: there is no such folder.
    """
    entries = read(folder)
    files.write_text(Path(folder, "README.md"), markdown(entries))
    return entries


def frame(entries: Iterable[Entry]) -> "pandas.DataFrame":
    """Every criterion of the complete entries, a row each, as a pandas table."""
    import pandas

    rows = [row for entry in entries if entry.record for row in _rows(entry.path, entry.record)]
    head = ("notebook", "experiment", "title", "verdict")
    return pandas.DataFrame(rows, columns=[*head, *COLUMNS])


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
    chosen = parser.parse_args(arguments)
    return _write(chosen.write) if chosen.write is not None else _show(chosen.show)


# --- reading -------------------------------------------------------------------------------------


def _is_notebook(name: str) -> bool:
    # Hidden files are other programs' copies: editors, synchronisation, half-written results.
    return name.endswith(".ipynb") and not name.startswith(".")


def _load(path: str | os.PathLike[str]) -> object:
    """The JSON of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON.
    """
    # Opening a pipe would wait for ever.
    if Path(path).exists() and not Path(path).is_file():
        raise ValueError(f"{Path(path).name} is not a file")
    content = Path(path).read_bytes()
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "it is empty" if not content.strip() else str(error)
        raise ValueError(f"the file is cut off or not a notebook: {reason}") from error


def _cells(notebook: object) -> list[dict[str, Any]]:
    """The cells of a notebook of format 4.

    Raises:
        ValueError: it is something else.
    """
    cells = _dict(notebook).get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise ValueError("the file is not a notebook: it is JSON without a list of cells")
    return cells


def _records(cells: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Every record the cells display, in order."""
    outputs = [output for cell in cells for output in _outputs(cell)]
    data = [_dict(output.get("data")) for output in outputs]
    return [each[evidence.MIME] for each in data if evidence.MIME in each]


def _stop(cells: Iterable[Mapping[str, Any]]) -> str | None:
    """Where and why a run stopped early; None if every cell ran to its end.

    Cells are counted as a headless run counts them: code only, the first that ran is In [1].
    """
    number, label = 0, "the first cell"
    for cell in cells:
        if _runs(cell):
            number += 1
            label = f"cell {number} ({_first_line(cell)})"
            if fault := _fault(cell, label):
                return fault
        elif _skipped(cell):
            return f"stopped in {label} {_SILENTLY}"
    return None


def _fault(cell: Mapping[str, Any], label: str) -> str | None:
    """What is wrong with a code cell, if anything."""
    mark = _papermill(cell)
    if error := next(filter(_is_error, _outputs(cell)), None):
        return f"stopped in {label}: {_message(error)}"
    if mark.get("exception") is True or mark.get("status") == "failed":
        return f"stopped in {label}: the error was not kept"
    if mark.get("status") == "running":
        return f"stopped while {label} ran, or is still running"
    if _skipped(cell) or not (mark or cell.get("execution_count")):
        return f"stopped before {label} ran"
    if _unanswered(cell):
        return f"stopped in {label} {_SILENTLY}"
    return None


def _is_error(output: Mapping[str, Any]) -> bool:
    return output.get("output_type") == "error"


def _message(error: Mapping[str, Any]) -> str:
    name, value = str(error.get("ename")), str(error.get("evalue") or "")
    return f"{name}: {value}" if value.strip() else name


def _skipped(cell: Mapping[str, Any]) -> bool:
    """Whether papermill never came to this cell.

    When a kernel dies, papermill marks all that is left as completed; only the starting times stay
    empty.
    """
    mark = _papermill(cell)
    return bool(mark) and not mark.get("start_time")


def _unanswered(cell: Mapping[str, Any]) -> bool:
    """Whether the kernel never answered for the cell, by the times and the count that were kept."""
    times = _dict(_dict(cell.get("metadata")).get("execution"))
    return (bool(times) and "shell.execute_reply" not in times) or not cell.get("execution_count")


def _runs(cell: Mapping[str, Any]) -> bool:
    """Whether a headless run executes the cell."""
    tags = _dict(cell.get("metadata")).get("tags")
    skipped = isinstance(tags, list) and "skip-execution" in tags
    return cell.get("cell_type") == "code" and bool(_source(cell).strip()) and not skipped


def _source(cell: Mapping[str, Any]) -> str:
    source = cell.get("source")
    return "".join(map(str, source)) if isinstance(source, list) else str(source or "")


def _first_line(cell: Mapping[str, Any]) -> str:
    line = _source(cell).strip().splitlines()[0]
    return line if len(line) <= 60 else line[:59] + "…"


def _papermill(cell: Mapping[str, Any]) -> dict[str, Any]:
    return _dict(_dict(cell.get("metadata")).get("papermill"))


def _outputs(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    outputs = cell.get("outputs")
    return list(map(_dict, outputs)) if isinstance(outputs, list) else []


def _dict(value: object) -> dict[str, Any]:
    """`value` if it is an object of JSON, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"the file cannot be read: {error.strerror or error}"
    return str(error)


def _sentence(text: str) -> str:
    """`text` on one line, without the colours of a terminal, ending in a full stop."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    line = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    line = line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
    return line if line.endswith((".", "?", "!", "…")) else line + "."


# --- the log -------------------------------------------------------------------------------------

_INTRODUCTION = """\
# Research log

Generated from the executed notebooks of this folder; do not edit it. After a run, regenerate it
with `python -m lab.research_log --write FOLDER`, where FOLDER is this folder. Each notebook carries
its record as an output of type `application/vnd.lab.evidence+json`, and every number below comes
from these records."""


def _rule() -> str:
    rows = [
        (f"{number}. {case}", f"{verdict}")
        for number, (case, verdict) in enumerate(evidence.RULE, 1)
    ]
    return "\n\n".join(
        [
            "## How a verdict follows from its criteria",
            "The first line that applies decides. Criteria of the arm `reported` repeat an earlier "
            "run, and those of kind `context` are there for the reader: neither decides.",
            _table(("among the other criteria", "verdict"), rows),
        ]
    )


def _summary(entries: Sequence[Entry]) -> str:
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
    rows = [_summary_row(entry.path, entry.record) for entry in entries if entry.record]
    return "## Verdicts\n\n" + (_table(head, rows) if rows else "No notebook has a result yet.")


def _summary_row(path: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    judged = [each for each in evidence.validate(record) if each.decides]
    return (
        _escape(record["experiment"]),
        _escape(record["title"]),
        record["verdict"],
        f"{sum(each.as_wanted for each in judged)} / {len(judged)}",
        _duration(record["runtime_s"]),
        ", ".join(map(str, record["seeds"])) or "-",
        _escape(str(record["environment"].get("commit") or "-")),
        _link(path),
    )


def _unfinished(entries: Iterable[Entry]) -> str:
    rows = [(_link(entry.path), entry.status, _escape(entry.detail)) for entry in entries]
    return "## Without a result\n\n" + _table(("notebook", "status", "what happened"), rows)


def _details(entry: Entry) -> str:
    record = entry.record or {}
    rows = [tuple(map(_escape, each.row())) for each in evidence.validate(record)]
    parts = [
        f"## {_escape(record['experiment'])} {_escape(record['title'])}",
        f"{_escape(entry.detail)} ({_link(entry.path)})",
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


def _rows(path: str, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    run = {"notebook": path, **{name: record[name] for name in ("experiment", "title", "verdict")}}
    return [{**run, **criterion} for criterion in record["criteria"]]


# --- the command line ----------------------------------------------------------------------------


def _write(folder: str) -> int:
    try:
        statuses = [entry.status for entry in write(folder)]
    except OSError as error:
        return _say(str(error), sys.stderr)
    counts = [f"{statuses.count(status)} {status}" for status in STATUSES if status in statuses]
    return _say(f"{Path(folder, 'README.md')}: {', '.join(counts) or 'no notebooks'}", sys.stdout)


def _show(path: str) -> int:
    entry = read_notebook(path)
    if entry.record is None:
        return _say(f"{path}, {entry.status}: {entry.detail}", sys.stderr)
    table = evidence.as_text(entry.record)
    return _say(f"{table}\n\nThe notebook is {Path(path).resolve()}", sys.stdout)


def _say(text: str, stream: TextIO) -> int:
    """Print, and return the exit status that goes with the stream."""
    # A character that the terminal cannot show must not hide the rest.
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), file=stream)
    return int(stream is sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
