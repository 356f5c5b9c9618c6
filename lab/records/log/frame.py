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
        {"notebook": entry.path, **{name: _whole(entry.record[name]) for name in run},
         **{name: _whole(value) for name, value in each.items()}}
        for entry in entries
        if entry.record is not None
        for each in entry.record["criteria"]
    ]  # fmt: skip
    return pandas.DataFrame(rows, columns=["notebook", *run, *criterion])


def _whole(value: object) -> object:
    """Text with ? for half a character (a surrogate), which pandas, with UTF-8, cannot keep."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
