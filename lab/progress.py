"""How far a long computation has come: one bar a cell of a notebook, which ends as one line.

A terminal has a bar for each computation, which vanishes. A headless run shows nothing: papermill
has a bar of its own, an output is a record, and times differ from run to run.
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

# Who is told of every step in place of a bar: for work that is a part of other work.
_teller: Tell | None = None


@contextmanager
def told(tell: Tell) -> Iterator[None]:
    """No bars inside; instead, `tell` is called with the steps done and what gives the loss."""
    global _teller
    before, _teller = _teller, tell
    try:
        yield
    finally:
        _teller = before


@dataclass
class Part:
    """One computation of a cell, as its last line counts it."""

    unit: str
    models: int
    total: int | None
    done: int = 0
    seconds: float = 0.0
    loss: float | None = None
    finished: bool = False


class Progress:
    """A context in which `advance` says that one step more is done.

    Args:
        label: what is being computed, in front of the bar.
        total: steps in all, None where nobody knows.
        unit: of a step, in the plural.
        models: how many are trained by these steps; 0 where none is.
        loss: the latest loss, None while there is none; called only when it is shown, some times a
            second.

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
        self.in_notebook = live() and _teller is None
        self.hidden = _teller is not None or (not self.in_notebook and _unwatched())

    def __enter__(self) -> "Progress":
        self.started = time.perf_counter()
        cell = _this_cell() if self.in_notebook else None
        self.bar = _Bar(cell, self.part, self.loss, desc=self.label, disable=self.hidden)
        return self

    @property
    def done(self) -> int:
        """Steps so far."""
        return self.part.done

    def advance(self, steps: int = 1) -> None:
        """One step more is done, or several."""
        self.part.done += steps
        if _teller is not None:
            _teller(self.part.done, self.loss)
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
    """A bar of text: the one output of a cell, which its last line replaces, or on a terminal.

    tqdm's own notebook bar is a widget, of which a saved notebook shows that it is lost.
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
        """What the bar says beside its numbers; tqdm asks for it when it draws."""
        loss = self.loss()
        said = None if loss is None else f"loss {_short(loss)}"
        return {**super().format_dict, "postfix": said}

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show how far it has come; tqdm calls this a few times a second."""
        if self.cell is None:
            super().display(msg, pos)
        else:
            self.cell.show(msg or str(self))

    def close(self) -> None:
        """Leave nothing on a terminal, and one line in a cell."""
        was_open = not self.disable
        super().close()
        if was_open and self.cell is not None:
            self.cell.show(summary(self.cell.parts))


class _Cell:
    """The one output of the cell that is being executed, and all that was computed in it."""

    def __init__(self, key: object, output: Any) -> None:
        self.key, self.output = key, output
        self.parts: list[Part] = []

    def begin(self, part: Part, label: str) -> str:
        """Count another computation; returns its label, numbered if it is not the first."""
        self.parts.append(part)
        return label if len(self.parts) == 1 else f"{len(self.parts)}. {label}"

    def show(self, text: str) -> None:
        """Replace what is shown."""
        if self.output is not None:  # there is none outside IPython
            self.output.update({"text/plain": text}, raw=True)


_latest = _Cell(None, None)


def _this_cell() -> _Cell:
    """The output of the cell that is being executed; a new one for each execution."""
    global _latest
    # Training draws such a bar, and the library has no need of IPython.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return _Cell(None, None)
    # The message that asked for the execution; a slider that trains sends one too.
    parent: dict[str, Any] = shell.get_parent() if hasattr(shell, "get_parent") else {}
    key = parent.get("header", {}).get("msg_id", shell.execution_count)
    if _latest.key != key:
        from IPython.display import display

        _latest = _Cell(key, display({"text/plain": ""}, raw=True, display_id=True))
    return _latest


def summary(parts: Iterable[Part]) -> str:
    """What a cell has computed, on one line: "5 models, 600 updates, 41 s, loss 0.03"."""
    alike = groupby(sorted(parts, key=lambda part: part.unit != "updates"), lambda p: p.unit)
    return "; ".join(_together(list(group), unit) for unit, group in alike)


def _together(parts: list[Part], unit: str) -> str:
    """The parts of one unit as one: counts and seconds add up, losses are a range."""
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
    """The smallest and the largest that is finite, in a phrase; none if there is no loss."""
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
