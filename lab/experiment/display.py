"""The first output of a notebook: question, criteria, and what came of them, in one table."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from operator import itemgetter
from typing import Any, Protocol

import plotly.graph_objects as go
from IPython.display import display

from lab.evidence import MIME, line_of, validate
from lab.evidence.comparison import shown, shown_value
from lab.evidence.display import aligned, cell
from lab.evidence.doubts import sentences
from lab.evidence.judged import Judged
from lab.evidence.planned import ASIDE, Planned
from lab.evidence.report import report
from lab.evidence.ruling import MEANING, Ruling, of_proposal, rule
from lab.evidence.summary import Summary
from lab.evidence.written import Written
from lab.evidence.written import sentences as when_written
from lab.experiment.tuning import Tuned
from lab.plots.render import bundle
from lab.records import committed
from lab.records.committed import Row

COLUMNS = ("id", "kind", "measured", "statistic", "limit", "value", "status")
FULL = "committed full run"  # one column more, at the defaults of a notebook
NOT_YET = "not yet run"
MANY = 3  # parts of a criterion from which on they share one line of the first table
NO_FIGURE_YET = "The figure that shows the finding appears here once it is drawn."

# Mid-tones, legible on white and on black; the words carry the meaning, the colour only helps.
_COLOURS = {True: "#2e9d4d", False: "#d64545"}
_OPEN, _BROKEN = "#c98a00", "#888888"
_OF_RULING = {
    Ruling.PROCEED: _COLOURS[True], Ruling.REFUTED: _COLOURS[False],
    Ruling.ABANDON: _COLOURS[False], Ruling.UNDECIDED: _OPEN, Ruling.DEBUG: _BROKEN,
}  # fmt: skip


class Shown(Protocol):
    """What a sheet shows of an experiment; see `lab.experiment.Experiment`."""

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
    """Shows an experiment once, and changes these outputs as its criteria are judged.

    The first one is the table, the second the key figure, or a line in its place.
    """

    def __init__(self, of: Shown) -> None:
        self.of = of
        self.handle: Any = None
        self.below: Any = None  # the handle of the key figure
        self.figure: go.Figure | None = None
        self.full = committed.record(of.number)

    def show(self) -> None:
        """Display question and criteria here; later values appear in the same place."""
        self.handle = display(self.bundle(), raw=True, display_id=True)
        line = f"<p><small>{escape(NO_FIGURE_YET)}</small></p>"
        empty = {"text/html": line, "text/plain": NO_FIGURE_YET}
        self.below = display(empty, raw=True, display_id=True)
        if self.figure is not None:
            self.draw(self.figure)

    def draw(self, figure: go.Figure) -> None:
        """Put the key figure below the table."""
        self.figure = figure
        if self.below is not None:
            data, metadata = bundle(figure)
            self.below.update(data, metadata=metadata, raw=True)

    def refresh(self) -> None:
        """Fill in what has been judged since."""
        if self.handle is not None:
            self.handle.update(self.bundle(), raw=True)

    def conclude(self) -> None:
        """Put the verdict and the record into the output; show it here if it was not before."""
        if self.handle is None:
            self.show()
        record = self.record()
        if self.handle is not None:  # there is none outside IPython
            self.handle.update({MIME: record, **self.bundle()}, raw=True)
        if self.below is not None and self.figure is None:
            self.below.update({"text/plain": ""}, raw=True)

    def record(self) -> dict[str, Any]:
        """The record of the run."""
        exp = self.of
        tuning = {f"tuning of {each.setting}": each.rows() for each in exp.tuning}
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
        """Id and part of every row, and the criterion it belongs to."""
        for planned in self.of.plan.values():
            yield from (((planned.id, part), planned) for part in planned.rows)

    def statuses(self) -> str:
        """A line for every criterion whose status is the same on every machine; for nbval.

        The verdict is among them if it hangs on no other status.
        """
        rows = [(self.of.judged[key], planned) for key, planned in self.rows()]
        lines = [f"{row.name}: {row.kind}, {row.status}" for row, p in rows if not p.varies]
        if not any(planned.varies and planned.decides for _, planned in rows):
            lines.append(f"verdict: {rule([row for row, _ in rows])[0]}")
        return "\n".join(lines)

    def verdict(self) -> tuple[str, str]:
        """The verdict and its reason, once every row is judged; before, how many are."""
        rows = [key for key, _ in self.rows()]
        if missing := [key for key in rows if key not in self.of.judged]:
            return "No verdict yet", f"{len(rows) - len(missing)} of {len(rows)} criteria judged."
        ruling, reason = rule(self.judged())
        return str(ruling), f"{MEANING[ruling]}. {reason[0].upper()}{reason[1:]}"

    def found(self) -> list[str]:
        """What stands below the verdict: the finding, and what a longer run found."""
        lines = [] if self.of.summary is None else [f"Finding: {self.of.summary.finding}"]
        if self.full is not None:
            lines.append(f"The {committed.label(self.full)} says {line_of(self.full)}")
        return lines

    def closing(self) -> list[str]:
        """What stands below the table."""
        lines = [f"Reported before: {', '.join(_numbers(self.of.reported))}."]
        lines = lines if self.of.reported else []
        if self.of.summary is not None:
            lines = [*sentences(self.of.number), *lines]
        if (proposal := of_proposal(self.judged())) is not None:
            lines.append(f"The proposal by its own criteria, as they fall: {proposal[0]}.")
        added = [planned for planned in self.of.plan.values() if planned.added]
        lines += [f"† {each.id} was added afterwards: {each.added}" for each in added]
        lines += when_written(self.of.written)
        for each in self.of.tuning:
            lines += [each.closing] if each.at_the_edge else []
        if any(planned.varies for _, planned in self.rows()):
            lines.append("* Another machine may see another status.")
        return lines

    def bundle(self) -> dict[str, Any]:
        """What a notebook shows: HTML, and text for terminals and diffs."""
        heading = f"{self.of.number} {self.of.title}"
        columns: tuple[str, ...] = COLUMNS if self.full is None else (*COLUMNS, FULL)
        full = self._of_full_run()
        rows = [self._row(key, planned, full) for key, planned in self.rows()]
        word, reason = self.verdict()
        plain = [heading, self.of.question, "", f"{word}: {reason}", *self.found(), ""]
        closing = self.closing()
        below = "".join(f"<p><small>{escape(line)}</small></p>" for line in closing)
        page = (
            f"<p><b>{escape(heading)}</b><br>{escape(self.of.question)}</p>"
            f"{_box(word, [reason, *self.found()])}{self._tables(columns, rows, full)}"
            f"{below}{_folded([*self.of.notes.values()])}"
        )
        plain += [aligned([columns, *(row.texts for row in rows)]), *closing]
        return {"text/html": page, "text/plain": "\n".join(plain)}

    def _tables(
        self, columns: Sequence[str], rows: Sequence["_Line"], full: Mapping[str, Row]
    ) -> str:
        """What decides, a line a criterion; folded away, every row, where there are more."""
        lines = [line for p in self.of.plan.values() for line in self._lines(p, full)]
        if len(lines) == len(rows):
            return _table(columns, rows)
        summary = f"<summary>All {len(rows)} rows</summary>"
        return f"{_table(columns, lines)}<details>{summary}{_table(columns, rows)}</details>"

    def _lines(self, planned: Planned, full: Mapping[str, Row]) -> list["_Line"]:
        """Of one criterion in the first table: none that never decides, one for many parts."""
        if planned.arm in ASIDE:
            return []
        rows = [self._row((planned.id, part), planned, full) for part in planned.rows]
        if len(rows) < MANY:
            return rows
        here = [self.of.judged.get((planned.id, part)) for part in planned.rows]
        there = [full.get(row.name) for row in rows]
        texts = list(rows[0].texts[: len(COLUMNS) - 2])
        texts[2] = _of_arm(planned) + planned.metric(f"each of {len(rows)}")
        longer = [] if self.full is None else [", ".join(filter(None, _together(there, "-")))]
        colours = {row.colour for row in rows}
        colour = next((c for c in (_COLOURS[False], _OPEN, _COLOURS[True]) if c in colours), "")
        return [_Line((*texts, *_together(here, NOT_YET), *longer), "", colour)]

    def _of_full_run(self) -> dict[str, Row]:
        """The rows of the committed full run, by the name of the criterion."""
        return {} if self.full is None else {row.name: row for row in validate(self.full)}

    def _row(self, key: tuple[str, str], planned: Planned, full: Mapping[str, Row]) -> "_Line":
        """One row of the table."""
        found = self.of.judged.get(key)
        kind = planned.kind + (" *" if planned.varies else "") + (" †" if planned.added else "")
        statistic = f"paired, {planned.statistic}" if planned.paired else planned.statistic
        said = ("", NOT_YET) if found is None else (found.shown, found.status)
        name = f"{planned.id} ({planned.arm}, {planned.metric(key[1])})"
        there = full.get(name)
        longer = "-" if there is None else f"{there.row()[4]}, {there.status}"
        measured = _of_arm(planned) + planned.metric(key[1])
        texts = (key[0], kind, measured, statistic, planned.limit, *said)
        return _Line(texts if self.full is None else (*texts, longer), name, _colour(found))


@dataclasses.dataclass(frozen=True)
class _Line:
    """A line of a table: its cells, the name of the criterion, the colour of its status."""

    texts: tuple[str, ...]
    name: str
    colour: str


def _table(columns: Sequence[str], lines: Sequence[_Line]) -> str:
    head, place = "".join(cell("th", column) for column in columns), COLUMNS.index("status")
    rows = [
        "".join(cell("td", text, line.colour if i == place else "")
                for i, text in enumerate(line.texts))
        for line in lines
    ]  # fmt: skip
    body = "".join(f'<tr style="border-top:1px solid #8886">{row}</tr>' for row in rows)
    return (
        f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _together(rows: Sequence[Row | None], missing: str) -> tuple[str, str]:
    """The values of many rows from the lowest to the highest, and how many have which status."""
    counts = Counter(missing if row is None else row.status for row in rows)
    status = ", ".join(f"{count} {each}" for each, count in counts.items())
    status = next(iter(counts)) if len(counts) == 1 else status
    known = [(row.value, row) for row in rows if row is not None and row.value is not None]
    if not known:
        return "", status
    ends = (min(known, key=itemgetter(0)), max(known, key=itemgetter(0)))
    return " to ".join(shown_value(v, row.op, row.threshold) for v, row in ends), status


def _of_arm(planned: Planned) -> str:
    """The arm in front of what is measured, where it is not the usual one."""
    return "" if planned.arm == "corrected" else f"{planned.arm}: "


def _colour(found: Judged | None) -> str:
    """Of a status: green where it is as wanted, red where it is not."""
    if found is None or not found.decides:
        return ""
    return _OPEN if found.as_wanted is None else _COLOURS[found.as_wanted]


def _box(word: str, lines: Sequence[str]) -> str:
    """The verdict in a frame of its colour, with its reason and what was found."""
    colour = _OF_RULING.get(Ruling(word), _BROKEN) if word in set(Ruling) else _BROKEN
    rest = "<br>".join(map(escape, lines))
    style = f"border:1px solid {colour};border-left:8px solid {colour};padding:6px 12px"
    return f'<div style="{style}"><b>{escape(word)}</b><br>{rest}</div>'


def _numbers(reported: Mapping[str, float]) -> list[str]:
    return [f"{name} {shown(value)}" for name, value in reported.items()]


def _folded(notes: Sequence[Judged]) -> str:
    if not notes:
        return ""
    rows = "".join(f"<tr>{cell('td', n.metric)}{cell('td', n.shown)}</tr>" for n in notes)
    return f"<details><summary>{len(notes)} more numbers</summary><table>{rows}</table></details>"
