"""The committed history of updates per second: a line of JSON for each measured training.

`python -m lab.benchmark.updates --keep` adds lines at the end, and none is ever changed.
"""

import datetime
import json
import math
import os
from pathlib import Path
from typing import Any

from lab.benchmark.machine import processor
from lab.evidence.machine import commit
from lab.files import PROJECT, write_text

FILE = PROJECT / "executed" / "updates.jsonl"
RATIOS = ("now / earlier", "two / one", "all")
RATES = ("earlier", "now", "two processes")

Row = dict[str, Any]


def origin(against: str) -> Row:
    """Where and when a row was measured: date, commit of this version and of the earlier one."""
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return {"date": today, "commit": commit(), "against": against[:12], "processor": processor()}


def keep(row: Row, path: str | os.PathLike[str] | None = None) -> None:
    """Add a row at the end.

    Args:
        row: as `lab.benchmark.updates.measure` returns it, with its `origin`.
        path: of the history, which need not exist; `FILE` if None.
    """
    file = Path(FILE if path is None else path)
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    write_text(file, before + json.dumps(row, ensure_ascii=False) + "\n")


def read(path: str | os.PathLike[str] | None = None, *, compiled: bool = False) -> list[Row]:
    """All rows, the oldest first; an empty list if there is no history.

    Args:
        path: of the history; `FILE` if None.
        compiled: whether the rows of compiled trainings are returned, or those of all others.

    Raises:
        ValueError: a line is no row; the message names it.
    """
    file = Path(FILE if path is None else path)
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    rows = [_row(line, f"{file.name}, line {n}") for n, line in enumerate(lines, start=1)]
    return [row for row in rows if row.get("compiled", False) == compiled]


def newest(rows: list[Row]) -> list[Row]:
    """The last row of every training, in the order in which trainings first came."""
    return list({row["training"]: row for row in rows}.values())


def gain_of_compiling(eager: Row, compiled: Row) -> float:
    """How many times as many updates a second a training has when it is compiled.

    The two rows come from different moments of the machine, so that each is compared with the
    earlier version that took turns with it.
    """
    gain: float = compiled["now / earlier"] / eager["now / earlier"]
    return gain


def pays_after(eager: Row, compiled: Row) -> float:
    """Updates after which compiling a training has paid for its seconds; infinity if never."""
    saved = (1 - 1 / gain_of_compiling(eager, compiled)) / eager["now"]  # seconds of an update
    seconds: float = compiled["warm-up, s"]
    return seconds / saved if saved > 0 else math.inf


def _row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    needed = ("training", *RATES, *RATIOS)
    missing = [name for name in needed if not isinstance(row, dict) or name not in row]
    if missing:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    bad = [name for name in needed[1:] if not _is_above_zero(row[name])]
    if bad:
        raise ValueError(f"{where}: {bad[0]} is {row[bad[0]]!r}; it must be a number above 0")
    return dict(row)


def _is_above_zero(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0
