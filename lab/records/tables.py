"""Reads the tables that executed notebooks store, for figures over several notebooks."""

from collections.abc import Iterable
from typing import Any

from lab.records.executed import Entry

Row = dict[str, Any]


def rows_of(entries: Iterable[Entry], table: str) -> list[Row]:
    """The rows of all executed notebooks that have some, each with its experiment.

    Args:
        entries: as `lab.records.executed.read` returns them.
        table: the name under which `Evidence.table` has kept the rows.
    """
    return [
        {"experiment": entry.record["experiment"], **row}
        for entry in entries
        if entry.record is not None
        for row in entry.record.get("tables", {}).get(table, [])
    ]
