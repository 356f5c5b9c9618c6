"""Records read from files: validation, and comparison of two records."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab.evidence import criteria, display, judged, report, summary, written
from lab.evidence.criteria import Criterion
from lab.evidence.judged import Judged
from lab.evidence.record import SCHEMA
from lab.evidence.ruling import rule
from lab.evidence.values import check_type, finite
from lab.evidence.verdict import verdict_line

_FIELDS: dict[str, type] = {
    "experiment": str,
    "title": str,
    "verdict": str,
    "seeds": list,
    "parameters": dict,
    "environment": dict,
    "reported": dict,
    "criteria": list,
}


def reproducible(record: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record that a second run on the same machine must reproduce."""
    return {name: value for name, value in record.items() if name != "runtime_s"}


def text_of(record: Mapping[str, Any], doubts: Sequence[str] = ()) -> str:
    """A record of either schema as text: an aligned table, the verdict and its reason.

    Args:
        record: as an executed notebook carries it.
        doubts: sentences that speak against the finding.

    Raises:
        ValueError: as for `validate`.
    """
    validate(record)
    if record["schema"] == SCHEMA:
        return display.as_text(record, doubts)
    return "\n".join([report.as_text(record), *doubts])


def same(record_a: Mapping[str, Any], record_b: Mapping[str, Any]) -> bool:
    """Whether two records agree in everything except the time they took."""
    return reproducible(record_a) == reproducible(record_b)


def validate(record: Any) -> Sequence[Criterion | Judged]:
    """The criteria of a record read from a file, after checking that it is complete and consistent.

    Raises:
        ValueError: a field is missing or has the wrong type, the schema is unknown, or a stored
            `met` or `verdict` contradicts the values.
    """
    check_type(record, dict, "the record")
    _check_schema(record.get("schema"))
    for name, kind in _FIELDS.items():
        check_type(record.get(name), kind, f"{name} of the record")
    for seed in record["seeds"]:
        check_type(seed, int, "a seed of the record")
    _check_numbers(record)
    _check_tables(record.get("tables", {}))
    written.read(record.get("written", {}))
    summary_of(record)
    found, line = _judged(record)
    stored, verdict = record["verdict"], line.partition(":")[0]
    if stored != verdict:
        raise ValueError(
            f"the record is inconsistent: its verdict is {stored!r}, its criteria say {verdict}"
        )
    return found


def line_of(record: Mapping[str, Any]) -> str:
    """The verdict of a record, and a sentence with the reason.

    Raises:
        ValueError: as for `validate`.
    """
    validate(record)
    return _judged(record)[1]


def summary_of(record: Mapping[str, Any]) -> summary.Summary | None:
    """The summary in a record; None if the record is older than summaries.

    Raises:
        ValueError: the summary does not satisfy `lab.evidence.Summary`.
    """
    return summary.read(record["summary"]) if "summary" in record else None


def _judged(record: Mapping[str, Any]) -> tuple[Sequence[Criterion | Judged], str]:
    """The criteria, and the verdict by the rule for the record's schema."""
    if record["schema"] == SCHEMA:
        found = [criteria.read(stored) for stored in record["criteria"]]
        return found, verdict_line(found)
    rows = [judged.read(stored) for stored in record["criteria"]]
    ruling, reason = rule(rows)
    return rows, f"{ruling}: {reason}"


def _check_schema(schema: Any) -> None:
    """Check the schema; this comes first, because another schema has other fields."""
    check_type(schema, int, "schema of the record")
    known = (SCHEMA, report.SCHEMA)
    if schema not in known:
        how = "newer than" if schema > max(known) else "not one"
        raise ValueError(f"schema {schema} is {how} this workspace reads ({max(known)})")


def _check_tables(tables: Any) -> None:
    check_type(tables, dict, "tables of the record")
    for name, rows in tables.items():
        check_type(rows, list, f"table {name!r} of the record")
        for row in rows:
            check_type(row, dict, f"a row of table {name!r} of the record")


def _check_numbers(record: Mapping[str, Any]) -> None:
    reported = {f"reported {name!r}": value for name, value in record["reported"].items()}
    given = {what: value for what, value in reported.items() if value is not None}
    try:
        for what, value in {"runtime_s of the record": record.get("runtime_s"), **given}.items():
            finite(value, what)
    except TypeError as error:
        raise ValueError(str(error)) from error
