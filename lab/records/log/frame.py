"""The criteria of many experiments as one table, for whoever computes with them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lab.records.executed import Entry

if TYPE_CHECKING:
    import pandas


def frame(entries: Iterable[Entry]) -> "pandas.DataFrame":
    """Every criterion of the complete entries, a row each, as a pandas table."""
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
