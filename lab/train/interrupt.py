"""Ctrl-C during a long computation: it waits for a moment at which nothing is half done.

Front ends interrupt a kernel by the same signal, SIGINT: JupyterLab, nbclient and papermill.
"""

import atexit
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A training that was stopped by Ctrl-C; its models hold the weights of the last update made.

    A notebook and a terminal show its sentence without a traceback.

    Args:
        sentence: what was stopped, and how to go on.
        histories: of every model up to there, as the training would have returned them.
    """

    def __init__(self, sentence: str, histories: list[Any]) -> None:
        super().__init__(sentence)
        self.histories = histories
        _show_in_one_line()

    def _render_traceback_(self) -> list[str]:
        # IPython shows this in place of a traceback.
        return [f"{type(self).__name__}: {self}"]


class Patience:
    """A context in which Ctrl-C is noted, and acts at the next `check`; a second one acts at once.

    To act is to call the handler that was there before, which by default raises KeyboardInterrupt.
    An interrupt that is still waiting at the end acts there. Outside the main thread, where no
    signal arrives, and where SIGINT is ignored or ends the process, nothing is changed.

    Attributes:
        impatient: whether a second one came while the first was waiting.
    """

    def __init__(self) -> None:
        self.waiting, self.impatient = False, False
        self.before: Callable[[int, FrameType | None], Any] | None = None

    def __enter__(self) -> "Patience":
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(handler):
            self.before = handler
            signal.signal(signal.SIGINT, self._note)
        return self

    def check(self) -> None:
        """Let an interrupt act that is waiting."""
        if self.waiting and self.before is not None:
            self.waiting = False
            self.before(signal.SIGINT, sys._getframe(1))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)
            if error is None:
                self.check()

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.waiting = self.waiting, not self.waiting
        if again and self.before is not None:
            self.impatient = True
            self.before(number, frame)


def _show_in_one_line() -> None:
    """Make Python show an uncaught `Interrupted`, and nothing else, as one line.

    Where somebody has a hook of their own (IPython does), it stays.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, Interrupted):
        sys.__excepthook__(kind, error, trace)
        return
    print(f"\n{kind.__name__}: {error}", file=sys.stderr)
    # Python ends by the signal, for which a shell stops its loop over runs, only after an exception
    # of exactly this class. It remembers it of the last code that it compiled itself, so what runs
    # at exit, and may compile more, runs before.
    atexit._run_exitfuncs()
    with suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")
