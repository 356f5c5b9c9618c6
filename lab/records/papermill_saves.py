"""Has papermill write a running notebook once for every code cell.

papermill writes it before and after every cell, texts included. Each time takes tens of
milliseconds, which for a run of seconds is a tenth of the run. What is on disk while a cell runs
is what papermill wrote before that cell, and all else is overwritten at once.
"""

import functools
from collections.abc import Callable
from typing import Any

from papermill.engines import NotebookExecutionManager as Manager


@functools.cache
def install() -> None:
    """Leave out the other times, in this process and for notebooks that jupytext made from text.

    papermill still writes a notebook when it starts, when it ends, for whatever reason, and
    whatever a cell displays at least every 30 seconds.
    """
    Manager.cell_start = _before_cell(Manager.cell_start)
    Manager.cell_complete = _quiet(Manager.cell_complete)


def _before_cell(stock: Callable[..., Any]) -> Callable[..., Any]:
    """`cell_start` that writes nothing before a text."""
    quiet = _quiet(stock)

    @functools.wraps(stock)
    def cell_start(self: Manager, cell: Any, *args: Any, **options: Any) -> Any:
        started = stock if cell.cell_type == "code" else quiet
        return started(self, cell, *args, **options)

    return cell_start


def _quiet(stock: Callable[..., Any]) -> Callable[..., Any]:
    """The same method without its writing."""

    @functools.wraps(stock)
    def method(self: Manager, *args: Any, **options: Any) -> Any:
        if "jupytext" not in self.nb.metadata:
            return stock(self, *args, **options)
        kept = self.output_path, self.last_save_time
        self.output_path = None
        try:
            return stock(self, *args, **options)
        finally:
            self.output_path, self.last_save_time = kept

    return method
