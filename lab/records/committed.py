"""Shows numbers and figures of the committed full run, labelled as such, beside a short run.

The defaults of a notebook finish within a minute, which is too short to show every effect. The
notebook therefore shows the results in executed/NNN.ipynb next to its own. It does so only at the
defaults: a run with injected parameters never reads the results of an earlier run.
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

# MIME types to drop from a stored output: a view of a widget needs its kernel, which is gone.
_WIDGET = "application/vnd.jupyter.widget-view+json"


def criteria(evidence: Evidence, folder: str | os.PathLike[str] = FOLDER) -> None:
    """Display the criteria of this run beside those of the committed full run.

    Displays nothing if parameters were injected, and one sentence if there is no finished run.

    Args:
        evidence: the evidence of this run, with all criteria checked.
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
    """Display a figure of the committed full run, with a line above that names the run.

    Displays nothing if parameters were injected, and one sentence if there is no such figure.

    Args:
        experiment: number of the notebook as text, "004".
        title: full title of the figure.
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
    """The stored output (data by MIME type) of the figure with this title; None if there is none.

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
    """A comparison of two runs of one experiment, criterion by criterion.

    Attributes:
        label: description of the committed run.
        differences: the parameters in which the two runs differ, in words.
        rows: id, arm, metric, limit; value and status of this run; those of the committed run.
    """

    label: str
    differences: str
    rows: list[tuple[str, ...]]

    COLUMNS = ("id", "arm", "metric", "limit", "this run", "", "committed full run", "")

    def html(self) -> str:
        """An HTML table that is legible on light and on dark pages."""
        lines = [_row("th", self.COLUMNS), *(_row("td", row) for row in self.rows)]
        return (
            f"<p><b>This run beside the {html.escape(self.label)}</b><br>"
            f"{html.escape(self.differences)}</p>"
            f'<table style="border-collapse:collapse">{"".join(lines)}</table>'
        )


def beside(evidence: Evidence, record: Mapping[str, Any]) -> Beside:
    """The criteria of this run beside those of a committed record, matched by id, arm and metric.

    A criterion that only one of the two has gets a row with empty cells for the other.
    """
    here = {each.name: each for each in evidence.criteria}
    there: dict[str, Row] = {each.name: each for each in validate(record)}
    rows = [_compared(here.get(name), there.get(name)) for name in {**here, **there}]
    return Beside(label(record), _differences(evidence.parameters, record["parameters"]), rows)


def label(record: Mapping[str, Any]) -> str:
    """Description of a committed record, for the line above its numbers."""
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
    """Text as one string; the file format may store it as a list of lines."""
    return "".join(value) if isinstance(value, list) else value


def _compared(here: Criterion | None, there: Row | None) -> tuple[str, ...]:
    either: Row | None = here or there
    assert either is not None  # every name is in one of the two
    identity = (either.id, either.arm, either.metric, either.row()[5])
    return (*identity, *_outcome(here), *_outcome(there))


def _outcome(criterion: Row | None) -> tuple[str, str]:
    if criterion is None:
        return "", ""
    *_, value, _, status = criterion.row()
    return value, status


def _differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """The parameters in which the two runs differ, in words."""
    different = [name for name in there if name in here and here[name] != there[name]]
    listed = [f"{name} {here[name]} here, {there[name]} there" for name in different]
    return f"Parameters: {'; '.join(listed)}." if listed else "The parameters are the same."


def _row(tag: str, cells: tuple[str, ...]) -> str:
    style = "text-align:left;padding:2px 8px"
    inner = "".join(f'<{tag} style="{style}">{html.escape(cell)}</{tag}>' for cell in cells)
    return f'<tr style="border-top:1px solid #8886">{inner}</tr>'
