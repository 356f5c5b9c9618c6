"""The first output of a notebook: question and criteria with their results, in one table."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Protocol

from IPython.display import display

from lab.evidence import MIME
from lab.evidence.comparison import shown
from lab.evidence.display import aligned, cell
from lab.evidence.doubts import sentences
from lab.evidence.judged import Judged
from lab.evidence.planned import Planned
from lab.evidence.report import report
from lab.evidence.ruling import MEANING, of_proposal, rule
from lab.evidence.summary import Summary
from lab.experiment.tuning import Tuned

COLUMNS = ("id", "kind", "measured", "statistic", "limit", "value", "status")
NOT_YET = "not yet run"

# Medium colours are legible on white and on black; the words alone already carry the meaning.
_COLOURS = {True: "#2e9d4d", False: "#d64545"}
_OPEN = "#c98a00"


class Shown(Protocol):
    """The attributes of an experiment that a sheet shows; see `lab.experiment.Experiment`."""

    number: str
    title: str
    question: str
    parameters: Any
    seeds: list[int]
    reported: dict[str, float]
    plan: dict[str, Planned]
    judged: dict[tuple[str, str], Judged]
    values: dict[str, list[dict[str, Any]]]
    notes: dict[str, Judged]
    tables: dict[str, list[Mapping[str, object]]]
    tuning: list[Tuned]
    summary: Summary | None


class Sheet:
    """Displays an experiment once, and updates that output when criteria are judged."""

    def __init__(self, of: Shown) -> None:
        self.of = of
        self.handle: Any = None

    def show(self) -> None:
        """Display question and criteria here; later values appear in the same output."""
        self.handle = display(self.bundle(), raw=True, display_id=True)

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

    def verdict(self) -> str:
        """The verdict with its reason, or the number of judged rows if some are not judged yet."""
        rows = [key for key, _ in self.rows()]
        if missing := [key for key in rows if key not in self.of.judged]:
            return f"{len(rows) - len(missing)} of {len(rows)} criteria judged so far."
        ruling, reason = rule(self.judged())
        return f"{ruling}: {MEANING[ruling]}. {reason[0].upper()}{reason[1:]}"

    def closing(self) -> list[str]:
        """The lines below the table."""
        lines = [f"Reported before: {', '.join(_numbers(self.of.reported))}."]
        lines = lines if self.of.reported else []
        if self.of.summary is not None:
            lines = [f"Finding: {self.of.summary.finding}", *sentences(self.of.number), *lines]
        if (proposal := of_proposal(self.judged())) is not None:
            lines.append(f"The proposal by its own criteria, as they fall: {proposal[0]}.")
        added = [planned for planned in self.of.plan.values() if planned.added]
        lines += [f"† {each.id} was added afterwards: {each.added}" for each in added]
        for each in self.of.tuning:
            lines += [each.closing] if each.at_the_edge else []
        if any(planned.varies for _, planned in self.rows()):
            lines.append("* Another machine may see another status.")
        return lines

    def bundle(self) -> dict[str, Any]:
        """The output of a notebook: HTML, and text for terminals and diffs."""
        heading = f"{self.of.number} {self.of.title}"
        texts = [self._texts(key, planned) for key, planned in self.rows()]
        plain = [heading, self.of.question, "", self.verdict(), "", aligned([COLUMNS, *texts])]
        closing = self.closing()
        head = "".join(cell("th", column) for column in COLUMNS)
        body = "".join(self._html(key, planned) for key, planned in self.rows())
        below = "".join(f"<p><small>{escape(line)}</small></p>" for line in closing)
        page = (
            f"<p><b>{escape(heading)}</b><br>{escape(self.of.question)}</p>"
            f"<p><b>{escape(self.verdict())}</b></p>"
            f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table>{below}{_folded([*self.of.notes.values()])}"
        )
        return {"text/html": page, "text/plain": "\n".join([*plain, *closing])}

    def _texts(self, key: tuple[str, str], planned: Planned) -> tuple[str, ...]:
        """The cells of one row of the table."""
        found = self.of.judged.get(key)
        arm = "" if planned.arm == "corrected" else f"{planned.arm}: "
        kind = planned.kind + (" *" if planned.varies else "") + (" †" if planned.added else "")
        statistic = f"paired, {planned.statistic}" if planned.paired else planned.statistic
        said = ("", NOT_YET) if found is None else (found.shown, found.status)
        return (key[0], kind, arm + planned.metric(key[1]), statistic, planned.limit, *said)

    def _html(self, key: tuple[str, str], planned: Planned) -> str:
        *texts, status = self._texts(key, planned)
        found, colour = self.of.judged.get(key), ""
        if found is not None and found.decides:
            wanted = found.as_wanted
            colour = _OPEN if wanted is None else _COLOURS[wanted]
        cells = "".join(cell("td", text) for text in texts) + cell("td", status, colour)
        return f'<tr style="border-top:1px solid #8886">{cells}</tr>'


def _numbers(reported: Mapping[str, float]) -> list[str]:
    return [f"{name} {shown(value)}" for name, value in reported.items()]


def _folded(notes: Sequence[Judged]) -> str:
    if not notes:
        return ""
    rows = "".join(f"<tr>{cell('td', n.metric)}{cell('td', n.shown)}</tr>" for n in notes)
    return f"<details><summary>{len(notes)} more numbers</summary><table>{rows}</table></details>"
