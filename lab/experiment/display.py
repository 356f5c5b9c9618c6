"""The first output of a notebook: its question, its criteria with their results, its verdict."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Protocol

import plotly.graph_objects as go
from IPython.display import display

from lab.evidence import MIME, line_of, validate
from lab.evidence.comparison import shown
from lab.evidence.display import cell
from lab.evidence.doubts import sentences
from lab.evidence.judged import Judged
from lab.evidence.planned import Planned
from lab.evidence.report import report
from lab.evidence.summary import Summary
from lab.evidence.verdict import MEANING, Verdict, of_proposal, rule
from lab.evidence.written import Written
from lab.evidence.written import sentences as when_written
from lab.experiment.rows import COLOURS, OPEN, SMALL, Rows
from lab.experiment.tuning import Tuned
from lab.plots.render import bundle
from lab.records import committed

NO_FIGURE_YET = "The figure that shows the finding appears here once it is drawn."

_BROKEN = "#888888"
_OF_VERDICT = {
    Verdict.PROCEED: COLOURS[True], Verdict.REFUTED: COLOURS[False],
    Verdict.ABANDON: COLOURS[False], Verdict.UNDECIDED: OPEN, Verdict.DEBUG: _BROKEN,
}  # fmt: skip


class Shown(Protocol):
    """The attributes of an experiment that a sheet shows; see `lab.experiment.Experiment`."""

    number: str
    title: str
    question: str
    parameters: Any
    seeds: list[int]
    reported: dict[str, float]
    plan: dict[str, Planned]
    written: dict[str, Written]
    judged: dict[tuple[str, str], Judged]
    values: dict[str, list[dict[str, Any]]]
    notes: dict[str, Judged]
    tables: dict[str, list[Mapping[str, object]]]
    tuning: list[Tuned]
    summary: Summary | None


class Sheet:
    """Displays an experiment once, and updates these outputs when criteria are judged.

    The first output is the table. The second is the key figure, or a line in its place.
    """

    def __init__(self, of: Shown) -> None:
        self.of = of
        self.handle: Any = None
        self.below: Any = None  # the handle of the key figure
        self.figure: go.Figure | None = None
        self.full = committed.record(of.number)

    def show(self) -> None:
        """Display question and criteria here; later values appear in the same output."""
        self.handle = display(self.bundle(), raw=True, display_id=True)
        line = f"<p><small>{escape(NO_FIGURE_YET)}</small></p>"
        empty = {"text/html": line, "text/plain": NO_FIGURE_YET}
        longer = None if self.full is None else committed.key_figure(self.full)
        self.below = display(longer or empty, raw=True, display_id=True)
        if self.figure is not None:
            self.draw(self.figure)

    def draw(self, figure: go.Figure) -> None:
        """Put the key figure below the table."""
        self.figure = figure
        if self.below is not None:
            data, metadata = bundle(figure)
            self.below.update(data, metadata=metadata, raw=True)

    def refresh(self) -> None:
        """Update the output with the criteria judged so far."""
        if self.handle is not None:
            self.handle.update(self.bundle(), raw=True)

    def conclude(self) -> None:
        """Put the verdict and the record into the output, which is displayed here if necessary."""
        if self.handle is None:
            self.show()
        record = self.record()
        if self.handle is not None:  # it is None outside IPython
            self.handle.update({MIME: record, **self.bundle()}, raw=True)
        if self.below is not None and self.figure is None:
            self.below.update({"text/plain": ""}, raw=True)

    def record(self) -> dict[str, Any]:
        """The record of the run."""
        exp = self.of
        tuning = _named_apart(exp.tuning)
        by_seed = [row for id_ in exp.plan for row in exp.values.get(id_, [])]
        tables: dict[str, Sequence[Mapping[str, object]]] = {
            "criteria by seed": by_seed,
            **tuning,
            **exp.tables,
        }
        parameters = dataclasses.asdict(exp.parameters)
        return report(
            exp.number, title=exp.title, question=exp.question, criteria=self.judged(),
            reported=exp.reported, parameters=parameters, seeds=exp.seeds,
            tuning_seeds=sorted({seed for each in exp.tuning for seed in each.seeds}),
            tables={name: rows for name, rows in tables.items() if rows}, summary=exp.summary,
            written=exp.written,
        )  # fmt: skip

    def judged(self) -> list[Judged]:
        """The rows judged so far, in the order of the plan, and the notes."""
        rows = [self.of.judged[key] for key, _ in self.rows() if key in self.of.judged]
        return [*rows, *self.of.notes.values()]

    def rows(self) -> Iterator[tuple[tuple[str, str], Planned]]:
        """Id and part of every row, and the criterion to which it belongs."""
        for planned in self.of.plan.values():
            yield from (((planned.id, part), planned) for part in planned.rows)

    def statuses(self) -> str:
        """A line for every criterion whose status is the same on every machine, for nbval.

        The verdict is included if it depends on no other status.
        """
        rows = [(self.of.judged[key], planned) for key, planned in self.rows()]
        lines = [f"{row.name}: {row.kind}, {row.status}" for row, p in rows if not p.varies]
        if not any(planned.varies and planned.decides for _, planned in rows):
            lines.append(f"verdict: {rule([row for row, _ in rows])[0]}")
        return "\n".join(lines)

    def verdict(self) -> tuple[str, str]:
        """The verdict and its reason, or the number of judged rows if some are not judged yet."""
        rows = [key for key, _ in self.rows()]
        if missing := [key for key in rows if key not in self.of.judged]:
            return "No verdict yet", f"{len(rows) - len(missing)} of {len(rows)} criteria judged."
        verdict, reason = rule(self.judged())
        return str(verdict), f"{MEANING[verdict]} {reason[0].upper()}{reason[1:]}"

    def found(self) -> list[str]:
        """The lines below the verdict: the finding, and the verdict of the committed full run."""
        lines = [] if self.of.summary is None else [f"Finding: {self.of.summary.finding}"]
        if self.full is not None:
            lines.append(f"The {committed.label(self.full)} says {line_of(self.full)}")
        return lines

    def doubts(self) -> list[str]:
        """The known doubts about the finding; empty if there is no finding."""
        return [] if self.of.summary is None else sentences(self.of.number)

    def closing(self) -> list[str]:
        """The lines below the table."""
        lines = [f"Reported before: {', '.join(_numbers(self.of.reported))}."]
        lines = lines if self.of.reported else []
        if (proposal := of_proposal(self.judged())) is not None:
            lines.append(f"Verdict by the original criteria of the proposal: {proposal[0]}.")
        added = [planned for planned in self.of.plan.values() if planned.added]
        lines += [f"† {each.id} was added after a first run: {each.added}" for each in added]
        lines += when_written(self.of.written)
        for each in self.of.tuning:
            lines += [each.closing] if each.at_the_edge else []
        if any(planned.varies for _, planned in self.rows()):
            lines.append("* This status may differ on another machine.")
        return lines

    def bundle(self) -> dict[str, Any]:
        """The table and the verdict as HTML, and as text for terminals and diffs."""
        heading = f"{self.of.number} {self.of.title}"
        full = None if self.full is None else validate(self.full)
        rows = Rows([*self.of.plan.values()], self.of.judged, full)
        first, every = rows.first(), rows.every()
        word, reason = self.verdict()
        plain = [heading, self.of.question, "", f"{word}: {reason}", *self.found(), ""]
        closing, doubts = self.closing(), self.doubts()
        notes = [(note.metric, note.shown) for note in self.of.notes.values()]
        rest = len(every) if len(every) > len(first) else 0
        page = (
            f"<p><b>{escape(heading)}</b><br>{escape(self.of.question)}</p>"
            f"{_box(word, [reason, *self.found()], doubts)}{rows.html(first)}"
            f'<p style="{SMALL}">{"<br>".join(map(escape, closing))}</p>'
            f"{_folded('rows in full', rows.html(every), rest)}"
            f"{_folded('more numbers', _rows(notes), len(notes))}"
        )
        plain += [rows.text(), *doubts, *closing]
        return {"text/html": page, "text/plain": "\n".join(plain)}


def _box(word: str, lines: Sequence[str], doubts: Sequence[str]) -> str:
    """The verdict in a coloured frame, with `lines` below it and the doubts, folded."""
    colour = _OF_VERDICT.get(Verdict(word), _BROKEN) if word in set(Verdict) else _BROKEN
    rest = "<br>".join(map(escape, lines))
    style = f"border:1px solid {colour};border-left:8px solid {colour};padding:6px 12px"
    folded = _folded("doubts", "<br>".join(map(escape, doubts)), len(doubts))
    return f'<div style="{style}"><b>{escape(word)}</b><br>{rest}{folded}</div>'


def _numbers(reported: Mapping[str, float]) -> list[str]:
    return [f"{name} {shown(value)}" for name, value in reported.items()]


def _rows(pairs: Sequence[tuple[str, str]]) -> str:
    """A table of names and values."""
    rows = "".join(f"<tr>{cell('td', name)}{cell('td', value)}</tr>" for name, value in pairs)
    return f"<table>{rows}</table>"


def _folded(what: str, inside: str, count: int) -> str:
    """HTML that is folded behind its title, such as "3 doubts"; empty if there are none."""
    words = f"{count} {what if count > 1 else what.removesuffix('s')}"
    return f"<details><summary>{words}</summary>{inside}</details>" if count else ""


def _named_apart(tunings: Sequence[Tuned]) -> dict[str, list[dict[str, Any]]]:
    """The rows of every tuning, under the name of its setting, with a number from the second on."""
    met: Counter[str] = Counter()
    rows = {}
    for each in tunings:
        met[each.setting] += 1
        again = f", {met[each.setting]}" if met[each.setting] > 1 else ""
        rows[f"tuning of {each.setting}{again}"] = each.rows()
    return rows
