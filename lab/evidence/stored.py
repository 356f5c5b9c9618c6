"""A record read back from a file: whether it is whole, and whether two are the same."""

from collections.abc import Mapping
from typing import Any

from lab.evidence import criteria, summary
from lab.evidence.criteria import Criterion
from lab.evidence.record import SCHEMA
from lab.evidence.values import check_type, finite
from lab.evidence.verdict import decide

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
    """The part of a record that a second run on the same machine must repeat."""
    return {name: value for name, value in record.items() if name != "runtime_s"}


def same(record_a: Mapping[str, Any], record_b: Mapping[str, Any]) -> bool:
    """Whether two records agree in everything but the time they took."""
    return reproducible(record_a) == reproducible(record_b)


def validate(record: Any) -> list[Criterion]:
    """The criteria of a record read from a file, which is whole and does not contradict itself.

    Raises:
        ValueError: a field is missing or not of its type, the schema is another one, or a stored
            `met` or `verdict` is not what its values say.
    """
    check_type(record, dict, "the record")
    _check_schema(record.get("schema"))
    for name, kind in _FIELDS.items():
        check_type(record.get(name), kind, f"{name} of the record")
    for seed in record["seeds"]:
        check_type(seed, int, "a seed of the record")
    _check_numbers(record)
    _check_tables(record.get("tables", {}))
    summary_of(record)
    found = [criteria.read(stored) for stored in record["criteria"]]
    stored, verdict = record["verdict"], decide(found)
    if stored != verdict:
        raise ValueError(
            f"the record is inconsistent: its verdict is {stored!r}, its criteria say {verdict}"
        )
    return found


def summary_of(record: Mapping[str, Any]) -> summary.Summary | None:
    """The summary that a record carries; None if it is older than summaries.

    Raises:
        ValueError: it is not as `lab.evidence.summary.summary` wants it.
    """
    return summary.read(record["summary"]) if "summary" in record else None


def _check_schema(schema: Any) -> None:
    """First of all, because another schema has other fields."""
    check_type(schema, int, "schema of the record")
    if schema != SCHEMA:
        how = "newer than" if schema > SCHEMA else "not one"
        raise ValueError(f"schema {schema} is {how} this workspace reads ({SCHEMA})")


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
