"""Progress of long computations: one bar per notebook cell, which becomes one line at the end.

A terminal shows a bar for each computation, which disappears at the end. A headless run shows
nothing: papermill has its own bar, outputs are stored as results, and times differ between runs.
"""

import io
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Any

from tqdm import std

from lab.frontend import live

_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}, {rate_fmt}, {remaining} left"


Tell = Callable[[int, Callable[[], float | None]], None]

# The callback that hears of every step instead of a bar, for work that is part of other work.
_teller: Tell | None = None


@contextmanager
def told(tell: Tell) -> Iterator[None]:
    """Show no bars inside, but call `tell` with the steps done and a function of the loss."""
    global _teller
    before, _teller = _teller, tell
    try:
        yield
    finally:
        _teller = before


@dataclass
class Part:
    """One computation of a cell, for the line that the cell ends with."""

    unit: str
    models: int
    total: int | None
    done: int = 0
    seconds: float = 0.0
    loss: float | None = None
    finished: bool = False


class Progress:
    """A context that shows progress; call `advance` after every step.

    Args:
        label: what is being computed; shown in front of the bar.
        total: total number of steps; None if unknown.
        unit: name of the steps, in the plural.
        models: number of models that these steps train, possibly 0.
        loss: returns the latest loss, or None before the first; it is called only when the bar is
            drawn, a few times a second.

    Raises:
        ValueError: LAB_PANELS is neither live nor static.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        *,
        unit: str = "updates",
        models: int = 0,
        loss: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.label, self.loss = label, loss
        self.part = Part(unit, models, total)
        self.tell = _teller  # of now: a bar over jobs in this process is not part of one of them
        self.in_notebook = live() and _teller is None
        self.hidden = _teller is not None or (not self.in_notebook and _unwatched())

    def __enter__(self) -> "Progress":
        self.started = time.perf_counter()
        cell = _this_cell() if self.in_notebook else None
        self.bar = _Bar(cell, self.part, self.loss, desc=self.label, disable=self.hidden)
        return self

    @property
    def done(self) -> int:
        """Number of steps done."""
        return self.part.done

    def advance(self, steps: int = 1) -> None:
        """Count one or several more steps as done."""
        self.part.done += steps
        if self.tell is not None:
            self.tell(self.part.done, self.loss)
        else:
            self.bar.update(steps)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        part = self.part
        part.seconds, part.loss = time.perf_counter() - self.started, self.loss()
        part.finished = kind is None and part.done == (part.total or part.done)
        self.bar.close()


class _Bar(std.tqdm):
    """A text bar, on a terminal or as the output of a cell, where one line replaces it at the end.

    tqdm's own notebook bar is a widget, which a saved notebook cannot show.
    """

    def __init__(
        self,
        cell: "_Cell | None",
        part: Part,
        loss: Callable[[], float | None],
        *,
        desc: str,
        disable: bool,
    ) -> None:
        self.cell, self.loss = cell, loss
        if cell is not None:
            desc = cell.begin(part, desc)
        place: dict[str, Any] = {"file": io.StringIO(), "ncols": 90} if cell is not None else {}
        super().__init__(
            desc=desc, total=part.total, disable=disable, leave=False, unit=f" {part.unit}",
            bar_format=_FORMAT, mininterval=0.2, miniters=1, ascii=None if cell is None else False,
            **place,
        )  # fmt: skip

    @property
    def format_dict(self) -> dict[str, Any]:
        """The texts of the bar beside its numbers; tqdm reads them when it draws."""
        loss = self.loss()
        said = None if loss is None else f"loss {_short(loss)}"
        return {**super().format_dict, "postfix": said}

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar; tqdm calls this a few times a second."""
        if self.cell is None:
            super().display(msg, pos)
        else:
            self.cell.show(msg or str(self))

    def close(self) -> None:
        """Remove the bar: a terminal then shows nothing, and a cell shows one line."""
        was_open = not self.disable
        super().close()
        if was_open and self.cell is not None:
            self.cell.show(summary(self.cell.parts))


class _Cell:
    """The progress output of the cell that is being executed, and its computations so far."""

    def __init__(self, key: object, output: Any) -> None:
        self.key, self.output = key, output
        self.parts: list[Part] = []

    def begin(self, part: Part, label: str) -> str:
        """Add a computation and return its label, with a number if it is not the first."""
        self.parts.append(part)
        return label if len(self.parts) == 1 else f"{len(self.parts)}. {label}"

    def show(self, text: str) -> None:
        """Replace the displayed text."""
        if self.output is not None:  # there is none outside IPython
            self.output.update({"text/plain": text}, raw=True)


_latest = _Cell(None, None)


def _this_cell() -> _Cell:
    """The progress output of the cell that is being executed; new for each execution."""
    global _latest
    # Training draws such a bar even where IPython, which the library does not need, is missing.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return _Cell(None, None)
    # The message that requested this execution, from a cell or from a slider that trains.
    parent: dict[str, Any] = shell.get_parent() if hasattr(shell, "get_parent") else {}
    key = parent.get("header", {}).get("msg_id", shell.execution_count)
    if _latest.key != key:
        from IPython.display import display

        _latest = _Cell(key, display({"text/plain": ""}, raw=True, display_id=True))
    return _latest


def summary(parts: Iterable[Part]) -> str:
    """What a cell has computed, in one line: "5 models, 600 updates, 41 s, loss 0.03"."""
    alike = groupby(sorted(parts, key=lambda part: part.unit != "updates"), lambda p: p.unit)
    return "; ".join(_together(list(group), unit) for unit, group in alike)


def _together(parts: list[Part], unit: str) -> str:
    """All parts with the same unit in a phrase: sums of counts and seconds, range of losses."""
    models, is_whole = sum(part.models for part in parts), all(part.finished for part in parts)
    words = [_count(models, "models")] if models else []
    if models and len(parts) > 1:
        words = [f"{words[0]} in {len(parts)} trainings"]
    done, totals = sum(part.done for part in parts), [part.total or part.done for part in parts]
    words.append(_count(done, unit) if is_whole else f"{done:,} of {_count(sum(totals), unit)}")
    words.append(_duration(sum(part.seconds for part in parts)))
    words += _losses([part.loss for part in parts if part.loss is not None])
    return ", ".join(words if is_whole else [*words, "stopped"])


def _losses(losses: list[float]) -> list[str]:
    """The smallest and the largest finite loss in a phrase; empty if there is no loss."""
    ends = [end(finite) for end in (min, max) if (finite := list(filter(math.isfinite, losses)))]
    shown = dict.fromkeys(map(_short, ends or losses[:1]))
    return [f"loss {' to '.join(shown)}"] if losses else []


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun.removesuffix('s') if number == 1 else noun}"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _short(number: float) -> str:
    return f"{number:.2g}"


def _unwatched() -> bool:
    return not (hasattr(sys.stderr, "isatty") and sys.stderr.isatty())
