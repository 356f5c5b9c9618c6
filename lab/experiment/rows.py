"""The criteria of an experiment as lines of a table, for people: as text, and as HTML."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from lab.evidence.comparison import shown_value
from lab.evidence.display import aligned, cell
from lab.evidence.judged import Judged
from lab.evidence.planned import ASIDE, Planned
from lab.records.committed import Row

COLUMNS = ("id", "kind", "measured", "statistic", "limit", "value", "status")
FULL = "committed full run"  # one column more, at the defaults of a notebook
NOT_YET = "not yet run"
MANY = 3  # parts of a criterion from which on they share one line of the first table

# Mid-tones, legible on white and on black; the words carry the meaning, the colour only helps.
COLOURS = {True: "#2e9d4d", False: "#d64545"}  # as wanted or not
OPEN = "#c98a00"
SMALL = "font-size:0.85em;line-height:1.2"


@dataclass(frozen=True)
class Line:
    """A line of a table: its cells, and the colour of its status."""

    texts: tuple[str, ...]
    colour: str


class Rows:
    """The table of criteria, with as much as is known of them.

    Args:
        plan: the criteria.
        judged: what was found so far, by id and part.
        full: the rows of the committed full run, which get a column; none if None.
    """

    def __init__(
        self,
        plan: Sequence[Planned],
        judged: Mapping[tuple[str, str], Judged],
        full: Sequence[Row] | None,
    ) -> None:
        self.plan, self.judged = plan, judged
        self.full = None if full is None else {row.name: row for row in full}
        self.columns: tuple[str, ...] = COLUMNS if full is None else (*COLUMNS, FULL)

    def every(self) -> list[Line]:
        """A line for each row."""
        return [self._row(planned, part) for planned in self.plan for part in planned.rows]

    def first(self) -> list[Line]:
        """What decides: a line for each criterion with many parts, and for each other row."""
        deciding = [planned for planned in self.plan if planned.arm not in ASIDE]
        return [line for planned in deciding for line in self._lines(planned)]

    def text(self) -> str:
        """Every row, aligned."""
        return aligned([self.columns, *(line.texts for line in self.every())])

    def html(self, lines: Sequence[Line]) -> str:
        """A table that reads well on light and on dark ground."""
        head, place = "".join(cell("th", name) for name in self.columns), COLUMNS.index("status")
        body = ""
        for line in lines:
            colours = [line.colour if i == place else "" for i in range(len(line.texts))]
            cells = "".join(map(cell, ["td"] * len(colours), line.texts, colours))
            body += f'<tr style="border-top:1px solid #8886">{cells}</tr>'
        return (
            f'<table style="border-collapse:collapse;{SMALL}"><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table>"
        )

    def _row(self, planned: Planned, part: str) -> Line:
        found = self.judged.get((planned.id, part))
        said = ("", NOT_YET) if found is None else (found.shown, found.status)
        there = self._there(planned, part)
        longer = "-" if there is None else f"{there.row()[4]}, {there.status}"
        return self._line(planned, planned.metric(part), said, longer, _colour(found))

    def _lines(self, planned: Planned) -> list[Line]:
        """Of one criterion in the first table."""
        parts = planned.rows
        rows = [self._row(planned, part) for part in parts]
        if len(parts) < MANY:
            return rows
        said = _together([self.judged.get((planned.id, part)) for part in parts], NOT_YET)
        longer = _together([self._there(planned, part) for part in parts], "-")
        worst_first = (COLOURS[False], OPEN, COLOURS[True], "")
        colour = min((row.colour for row in rows), key=worst_first.index)
        measured = planned.metric(f"each of {len(parts)}")
        return [self._line(planned, measured, said, ", ".join(filter(None, longer)), colour)]

    def _line(
        self, planned: Planned, measured: str, said: tuple[str, str], longer: str, colour: str
    ) -> Line:
        kind = planned.kind + (" *" if planned.varies else "") + (" †" if planned.added else "")
        statistic = f"paired, {planned.statistic}" if planned.paired else planned.statistic
        arm = "" if planned.arm == "corrected" else f"{planned.arm}: "
        texts = (planned.id, kind, arm + measured, statistic, planned.limit, *said)
        return Line(texts if self.full is None else (*texts, longer), colour)

    def _there(self, planned: Planned, part: str) -> Row | None:
        """The row in the committed full run."""
        name = f"{planned.id} ({planned.arm}, {planned.metric(part)})"
        return None if self.full is None else self.full.get(name)


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


def _colour(found: Judged | None) -> str:
    """Of a status: green where it is as wanted, red where it is not."""
    if found is None or not found.decides:
        return ""
    return OPEN if found.as_wanted is None else COLOURS[found.as_wanted]
