"""The committed full run beside a short one: its numbers and figures, labelled as such.

The defaults of a notebook finish within a minute, and a minute does not show every effect. So the
notebook shows what executed/NNN.ipynb holds next to its own results. It does so at the defaults
alone: a run with injected parameters never reads the results of an earlier one.
"""

import copy
import html
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython.display import HTML, display

from lab.evidence import Criterion, Evidence, validate
from lab.evidence.judged import Judged
from lab.files import PROJECT
from lab.records import executed
from lab.records.parameters import at_defaults

Row = Criterion | Judged
FOLDER = PROJECT / "executed"
PLOTLY = "application/vnd.plotly.v1+json"

# In a stored output, a view of a widget needs a kernel that is gone.
_WIDGET = "application/vnd.jupyter.widget-view+json"


def criteria(evidence: Evidence, folder: str | os.PathLike[str] = FOLDER) -> None:
    """Display the criteria of this run beside those of the committed full run.

    Displays nothing if parameters were injected, and one sentence if there is no finished run.

    Args:
        evidence: of this run, all criteria checked.
        folder: where the executed notebooks are.
    """
    if not at_defaults():
        return
    entry = executed.read_notebook(_path(evidence.experiment, folder))
    if entry.record is None:
        display(HTML(f"<p>{html.escape(_nothing(entry))}</p>"))
        return
    display(HTML(beside(evidence, entry.record).html()))


def figure(experiment: str, title: str, folder: str | os.PathLike[str] = FOLDER) -> None:
    """Display a figure of the committed full run, under a line that says what it is.

    Displays nothing if parameters were injected, and one sentence if there is no such figure.

    Args:
        experiment: number of the notebook as text, "004".
        title: title of the figure, in full.
        folder: where the executed notebooks are.
    """
    if not at_defaults():
        return
    entry = executed.read_notebook(_path(experiment, folder))
    if entry.record is None:
        display(HTML(f"<p>{html.escape(_nothing(entry))}</p>"))
        return
    found = stored_figure(_path(experiment, folder), title)
    if found is None:
        missing = f"The committed full run (executed/{entry.path}) has no figure {title!r}."
        display(HTML(f"<p>{html.escape(missing)}</p>"))
        return
    display(HTML(f"<p><b>{html.escape(label(entry.record))}</b></p>"))
    display(found, raw=True)


def record(experiment: str, folder: str | os.PathLike[str] = FOLDER) -> Mapping[str, Any] | None:
    """The record of the committed full run; None if parameters were injected or there is none.

    Args:
        experiment: number of the notebook as text, "004".
        folder: where the executed notebooks are.
    """
    return executed.read_notebook(_path(experiment, folder)).record if at_defaults() else None


def key_figure(
    record: Mapping[str, Any], folder: str | os.PathLike[str] = FOLDER
) -> dict[str, Any] | None:
    """The output of the figure that a committed record names, its title saying whose it is.

    Args:
        record: as `record` returns it.
        folder: where the executed notebooks are.
    """
    title = record.get("summary", {}).get("figure", "")
    found = stored_figure(_path(record["experiment"], folder), title) if title else None
    if found is None:
        return None
    figure, words = copy.deepcopy(found[PLOTLY]), f"Committed full run: {title}"
    figure["layout"]["title"] = {**dict(figure["layout"]["title"]), "text": words}
    return {PLOTLY: figure, "text/plain": f"Figure: {words}"}


def stored_figure(path: str | os.PathLike[str], title: str) -> dict[str, Any] | None:
    """The stored output (its data by MIME type) of the figure with this title; None if none has it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a notebook.
    """
    cells = json.loads(Path(path).read_bytes())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    for data in (output.get("data", {}) for output in outputs):
        if PLOTLY in data and _title(data[PLOTLY]) == title.replace("<br>", " "):
            return {mime: _joined(value) for mime, value in data.items() if mime != _WIDGET}
    return None


@dataclass(frozen=True)
class Beside:
    """Two runs of one experiment, criterion by criterion.

    Attributes:
        label: what the committed run is.
        differences: its parameters where they are not those of this run, in words.
        rows: id, arm, metric, limit; value and status here; value and status there.
    """

    label: str
    differences: str
    rows: list[tuple[str, ...]]

    COLUMNS = ("id", "arm", "metric", "limit", "this run", "", "committed full run", "")

    def html(self) -> str:
        """A table that reads well on light and on dark ground."""
        lines = [_row("th", self.COLUMNS), *(_row("td", row) for row in self.rows)]
        return (
            f"<p><b>This run beside the {html.escape(self.label)}</b><br>"
            f"{html.escape(self.differences)}</p>"
            f'<table style="border-collapse:collapse">{"".join(lines)}</table>'
        )


def beside(evidence: Evidence, record: Mapping[str, Any]) -> Beside:
    """The criteria of this run beside those of a committed record, by id, arm and metric.

    Criteria that only one of them has keep their row, with the other's places empty.
    """
    here = {each.name: each for each in evidence.criteria}
    there: dict[str, Row] = {each.name: each for each in validate(record)}
    rows = [_compared(here.get(name), there.get(name)) for name in {**here, **there}]
    return Beside(label(record), _differences(evidence.parameters, record["parameters"]), rows)


def label(record: Mapping[str, Any]) -> str:
    """What a committed record is, for the line above its numbers."""
    number, seeds = record["experiment"], ", ".join(map(str, record["seeds"])) or "none"
    commit = record["environment"].get("commit") or "unknown"
    return f"committed full run (executed/{number}.ipynb; seeds {seeds}; commit {commit})"


# --- parts ---------------------------------------------------------------------------------------


def _path(experiment: str, folder: str | os.PathLike[str]) -> Path:
    return Path(folder, f"{experiment}.ipynb")


def _nothing(entry: executed.Entry) -> str:
    return f"There is no committed full run to compare with: executed/{entry.path}: {entry.detail}"


def _title(figure: Mapping[str, Any]) -> str | None:
    """A title on one line: where it was broken depends on the width of the figure."""
    title = figure.get("layout", {}).get("title")
    text = title.get("text") if isinstance(title, Mapping) else title
    return None if text is None else str(text).replace("<br>", " ")


def _joined(value: Any) -> Any:
    """Text that the file format keeps as a list of lines, as one string."""
    return "".join(value) if isinstance(value, list) else value


def _compared(here: Criterion | None, there: Row | None) -> tuple[str, ...]:
    either: Row | None = here or there
    assert either is not None  # every name comes from one of the two
    identity = (either.id, either.arm, either.metric, either.row()[5])
    return (*identity, *_outcome(here), *_outcome(there))


def _outcome(criterion: Row | None) -> tuple[str, str]:
    if criterion is None:
        return "", ""
    *_, value, _, status = criterion.row()
    return value, status


def _differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """Parameters of the two runs that differ, in words."""
    different = [name for name in there if name in here and here[name] != there[name]]
    listed = [f"{name} {here[name]} here, {there[name]} there" for name in different]
    return f"Parameters: {'; '.join(listed)}." if listed else "The parameters are the same."


def _row(tag: str, cells: tuple[str, ...]) -> str:
    style = "text-align:left;padding:2px 8px"
    inner = "".join(f'<{tag} style="{style}">{html.escape(cell)}</{tag}>' for cell in cells)
    return f'<tr style="border-top:1px solid #8886">{inner}</tr>'
