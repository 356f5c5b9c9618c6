"""The criteria of many experiments as one pandas table, for further computation."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lab.records.executed import Entry

if TYPE_CHECKING:
    import pandas


def frame(entries: Iterable[Entry]) -> "pandas.DataFrame":
    """A pandas table with one row for every criterion of the complete entries."""
    import pandas

    run = ("experiment", "title", "verdict")
    criterion = ("id", "arm", "metric", "value", "spread", "op", "threshold", "kind", "met")
    rows = [
        {"notebook": entry.path, **{name: entry.record[name] for name in run}, **each}
        for entry in entries
        if entry.record is not None
        for each in entry.record["criteria"]
    ]
    return pandas.DataFrame(rows, columns=["notebook", *run, *criterion])
