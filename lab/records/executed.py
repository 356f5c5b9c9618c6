"""Reads executed notebooks: whether a run finished, and the record that it displayed.

A bad file raises no error here. A run that failed, was killed or was cut off on disk becomes an
entry that says so in one sentence, so the results in other files are not lost.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import evidence

STATUSES = ("complete", "failed", "unreadable", "no record", "misnumbered")

# How the file name of an experiment begins, and the name and texts of the template.
NUMBER = re.compile(r"(\d{3})(?!\d)")
TEMPLATE = "NNN"
TEMPLATE_QUESTION = "The question, as a question"
TEMPLATE_TITLE = "The question in a few words"

# Characters of a sentence in a table: error messages of tensor code can fill pages.
LONGEST = 300

_SILENTLY = "without an error message; was it killed?"


@dataclass(frozen=True)
class Entry:
    """One executed notebook.

    Attributes:
        path: path of its file, relative to the folder that was read.
        status: one of `STATUSES`.
        record: the record of the run; None unless the status is "complete".
        detail: one sentence: the verdict and its reason, or what went wrong and where.
    """

    path: str
    status: str
    record: dict[str, Any] | None
    detail: str


def read(folder: str | os.PathLike[str]) -> list[Entry]:
    """One entry for each notebook in a folder, sorted by name; subfolders are ignored.

    A record of the template does not count as a result, whatever the name of its file.

    Raises:
        NotADirectoryError: there is no such folder. Bad files inside it raise no error.
    """
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"{os.fspath(folder)!r} is not a folder of executed notebooks")
    names = sorted(path.name for path in Path(folder).iterdir() if _is_notebook(path.name))
    return [_numbered(read_notebook(Path(folder, name))) for name in names]


def read_notebook(path: str | os.PathLike[str]) -> Entry:
    """The entry of one executed notebook, whatever state the file is in.

    If the number in the record differs from that in the file name, the entry is "misnumbered",
    because it would be mistaken for another experiment.
    """
    name = Path(path).name
    try:
        cells = _cells(_content(path))
        # A run that stopped may have displayed a record earlier, which is not its result.
        if stop := _stop(cells):
            return Entry(name, "failed", None, _sentence(stop))
        records = _records(cells)
        if not records:
            return Entry(name, "no record", None, "it ran to its end and displayed no evidence.")
        line = evidence.line_of(records[-1])
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror or error}"
        return Entry(name, "unreadable", None, _sentence(reason))
    except ValueError as error:
        return Entry(name, "unreadable", None, _sentence(str(error)))
    if (number := number_of(name)) not in (None, records[-1]["experiment"]):
        return _misnumbered(name, records[-1]["experiment"], f"its file is that of {number}")
    return Entry(name, "complete", records[-1], line)


def number_of(name: str) -> str | None:
    """The number of an experiment with which the name of its file begins; None without one."""
    match = NUMBER.match(name)
    return match[1] if match else None


def is_finished(content: str | bytes) -> bool:
    """Whether the content of a file is a notebook in which every cell has finished."""
    try:
        return _stop(_cells(content)) is None
    except ValueError:
        return False


def previous(path: str | os.PathLike[str]) -> Path:
    """The path at which the last finished notebook is kept while that at `path` is unfinished."""
    return Path(f"{os.fspath(path)}.previous")


def _numbered(entry: Entry) -> Entry:
    if entry.record is None or entry.record["experiment"] != TEMPLATE:
        return entry
    return _misnumbered(entry.path, TEMPLATE, "that is the template")


def _misnumbered(name: str, experiment: str, reason: str) -> Entry:
    sentence = (
        f"its record says experiment {experiment}, and {reason}: give its own number to the first "
        "argument of Experiment and to the parameter experiment, and run it again."
    )
    return Entry(name, "misnumbered", None, _sentence(sentence))


# --- the file ------------------------------------------------------------------------------------


def _is_notebook(name: str) -> bool:
    # Hidden files are copies by other programs: editors, synchronisation, half-written results.
    return name.endswith(".ipynb") and not name.startswith(".")


def _content(path: str | os.PathLike[str]) -> bytes:
    # Opening a pipe would block forever.
    if Path(path).exists() and not Path(path).is_file():
        raise ValueError(f"{Path(path).name} is not a file")
    return Path(path).read_bytes()


def _cells(content: str | bytes) -> list[dict[str, Any]]:
    """The cells of a notebook of format 4.

    Raises:
        ValueError: the content is something else, or is incomplete.
    """
    try:
        notebook = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = str(error) if content.strip() else "it is empty"
        raise ValueError(f"the file is cut off or not a notebook: {reason}") from error
    cells = _dict(notebook).get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise ValueError("the file is not a notebook: it is JSON without a list of cells")
    return cells


def _records(cells: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Every record the cells display, in order."""
    outputs = [output for cell in cells for output in _outputs(cell)]
    data = [_dict(output.get("data")) for output in outputs]
    return [each[evidence.MIME] for each in data if evidence.MIME in each]


# --- the run -------------------------------------------------------------------------------------


def _stop(cells: Iterable[Mapping[str, Any]]) -> str | None:
    """Where and why a run stopped early; None if every cell has finished.

    Cells are counted as in a headless run: only code cells count, and the first is In [1].
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
    for output in _outputs(cell):
        if output.get("output_type") == "error":
            return f"stopped in {label}: {_message(output)}"
    mark = _papermill(cell)
    if mark.get("exception") is True or mark.get("status") == "failed":
        return f"stopped in {label}: the error was not kept"
    if mark.get("status") == "running":
        return f"stopped while {label} ran, or is still running"
    if _skipped(cell) or not (mark or cell.get("execution_count")):
        return f"stopped before {label} ran"
    if _unanswered(cell):
        return f"stopped in {label} {_SILENTLY}"
    return None


def _runs(cell: Mapping[str, Any]) -> bool:
    """Whether a headless run executes the cell."""
    tags = _dict(cell.get("metadata")).get("tags")
    skipped = isinstance(tags, list) and "skip-execution" in tags
    return cell.get("cell_type") == "code" and bool(_source(cell).strip()) and not skipped


def _skipped(cell: Mapping[str, Any]) -> bool:
    """Whether papermill never reached this cell.

    When a kernel dies, papermill marks all remaining cells as completed, but leaves their starting
    times empty.
    """
    mark = _papermill(cell)
    return bool(mark) and not mark.get("start_time")


def _unanswered(cell: Mapping[str, Any]) -> bool:
    """Whether the kernel never answered for the cell, judged by its stored times and count."""
    times = _dict(_dict(cell.get("metadata")).get("execution"))
    return (bool(times) and "shell.execute_reply" not in times) or not cell.get("execution_count")


# --- one cell, whatever JSON is in its place -----------------------------------------------------


def _papermill(cell: Mapping[str, Any]) -> dict[str, Any]:
    return _dict(_dict(cell.get("metadata")).get("papermill"))


def _outputs(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    outputs = cell.get("outputs")
    return list(map(_dict, outputs)) if isinstance(outputs, list) else []


def _source(cell: Mapping[str, Any]) -> str:
    source = cell.get("source")
    return "".join(map(str, source)) if isinstance(source, list) else str(source or "")


def _dict(value: object) -> dict[str, Any]:
    """`value` if it is a JSON object, otherwise an empty dictionary."""
    return value if isinstance(value, dict) else {}


# --- sentences -----------------------------------------------------------------------------------


def _first_line(cell: Mapping[str, Any]) -> str:
    line = _source(cell).strip().splitlines()[0]
    return line if len(line) <= 60 else line[:59] + "…"


def _message(error: Mapping[str, Any]) -> str:
    name, value = str(error.get("ename")), str(error.get("evalue") or "")
    return f"{name}: {value}" if value.strip() else name


def _sentence(text: str) -> str:
    """`text` on one line, without terminal colour codes, ending in a full stop."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    line = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    line = line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
    return line if line.endswith((".", "?", "!", "…")) else line + "."
