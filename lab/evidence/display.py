"""Displays a record as a table: plain text for terminals, HTML for notebooks."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from lab.evidence import criteria, summary
from lab.evidence.comparison import shown
from lab.evidence.criteria import COLUMNS, Criterion
from lab.evidence.verdict import verdict_line


def as_text(record: Mapping[str, Any], doubts: Sequence[str] = ()) -> str:
    """A record as an aligned text table, with its verdict and the reason.

    Args:
        record: a record as returned by `Evidence.record`.
        doubts: sentences that speak against the finding, shown below the verdict.
    """
    found = _criteria(record)
    table = aligned([COLUMNS, *(each.row() for each in found)])
    return "\n".join([_head(record), "", table, "", *_closing(record, found, doubts)])


def as_html(record: Mapping[str, Any], doubts: Sequence[str] = ()) -> str:
    """A record as an HTML table that is legible on light and on dark pages.

    Args: as for `as_text`.
    """
    found = _criteria(record)
    head = "".join(cell("th", column) for column in COLUMNS)
    body = "".join(map(_row, found))
    closing = "".join(f"<p>{html.escape(line)}</p>" for line in _closing(record, found, doubts))
    return (
        f"<p><b>{html.escape(_head(record))}</b></p>"
        f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{closing}"
    )


def _criteria(record: Mapping[str, Any]) -> list[Criterion]:
    return [criteria.read(stored) for stored in record["criteria"]]


def _head(record: Mapping[str, Any]) -> str:
    return f"{record['experiment']} {record['title']}"


def _closing(
    record: Mapping[str, Any], found: Sequence[Criterion], doubts: Sequence[str]
) -> list[str]:
    """The lines below the table."""
    reported = [f"{name} {shown(value)}" for name, value in record["reported"].items()]
    before = [f"Reported before: {', '.join(reported)}."] if reported else []
    return [*before, verdict_line(found), *doubts, *in_words(record)]


def in_words(record: Mapping[str, Any]) -> list[str]:
    """What a record says in sentences, where it has a summary."""
    if "summary" not in record:
        return []
    given = summary.read(record["summary"])
    return [
        f"Question: {given.question}",
        f"Finding: {given.finding}",
        f"To settle it: {given.settles}",
    ]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as lines, with columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _row(each: Criterion) -> str:
    # Medium colours are legible on white and on black; the words alone already carry the meaning.
    colour = "" if not each.decides else "#2e9d4d" if each.as_wanted else "#d64545"
    *cells, status = each.row()
    row = "".join(cell("td", text) for text in cells) + cell("td", status, colour)
    return f'<tr style="border-top:1px solid #8886">{row}</tr>'


def cell(tag: str, text: str, colour: str = "") -> str:
    """A cell of an HTML table, "th" or "td"."""
    style = "text-align:left;padding:2px 8px" + (f";color:{colour}" if colour else "")
    return f'<{tag} style="{style}">{html.escape(text)}</{tag}>'
