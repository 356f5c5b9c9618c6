"""What there is to look at: a live notebook, a terminal, or nobody (a headless run)."""

import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import std

Item = TypeVar("Item")


def live() -> bool:
    """Whether a front end shows widgets: a Jupyter server's notebook or VS Code.

    Jupyter servers name the notebook to its kernel in JPY_SESSION_NAME; papermill and nbval start
    kernels without one. LAB_PANELS=live or LAB_PANELS=static decides otherwise.
    """
    wanted = os.environ.get("LAB_PANELS")
    if wanted not in (None, "live", "static"):
        raise ValueError(f"LAB_PANELS is {wanted!r}; it must be live or static")
    return (wanted or ("live" if _in_notebook() else "static")) == "live"


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """`items`, with a progress bar where somebody watches: in a live notebook or on a terminal.

    A headless run draws none: papermill shows its own, and an output is a record.
    """
    bar = _NotebookBar if live() else std.tqdm
    hidden = not live() and _unwatched()
    return iter(bar(items, desc=label, total=total, leave=False, disable=hidden))


class _NotebookBar(std.tqdm):
    """A bar of text in one output that is emptied at the end.

    tqdm's own notebook bar is a widget, of which a saved notebook shows that it is lost.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.output = _empty_output() if "IPython" in sys.modules else None
        super().__init__(*args, file=io.StringIO(), ascii=False, ncols=80, **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:  # noqa: ARG002
        """Show how far it has come; tqdm calls this a few times a second."""
        self._show(str(self) if msg is None else msg)

    def close(self) -> None:
        """Leave nothing behind."""
        super().close()
        self._show("")

    def _show(self, text: str) -> None:
        if self.output is not None:  # there is none outside IPython
            self.output.update({"text/plain": text}, raw=True)


def _empty_output() -> Any:
    """An output of this cell that can be rewritten."""
    # Imported here: training draws such a bar, and the library has no need of IPython.
    from IPython.display import display

    return display({"text/plain": ""}, raw=True, display_id=True)


def _in_notebook() -> bool:
    main = sys.modules.get("__main__")
    return bool(os.environ.get("JPY_SESSION_NAME")) or hasattr(main, "__vsc_ipynb_file__")


def _unwatched() -> bool:
    return not (hasattr(sys.stderr, "isatty") and sys.stderr.isatty())
