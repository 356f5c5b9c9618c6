"""Work that an interrupt must not cut in two, nor lose.

Python runs the handlers of signals between any two of its instructions in the main thread, and a
Ctrl-C is an exception that such a handler raises. Where Python runs inside a destructor or a
callback from C, nobody can catch it; where a table is half filled, it stays so.
"""

import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]


class _Waiting:
    """A handler of a signal that only notes the call, and makes it up when it may run."""

    def __init__(self, handler: Handler) -> None:
        self.handler, self.waits = handler, True
        self.missed: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.waits:
            self.missed = number
        else:
            self.handler(number, frame)

    def make_up(self) -> None:
        self.waits = False
        if self.missed is not None:
            self.handler(self.missed, inspect.currentframe())


@contextmanager
def handlers_wait() -> Iterator[None]:
    """Inside, no handler of a signal runs; those that were called for run at the end.

    Handlers run in the main thread alone, so that elsewhere there is nothing to do.
    """
    with ExitStack() as stack:
        for number in _numbers():
            handler: Any = signal.getsignal(number)
            if callable(handler):
                waiting = _Waiting(handler)
                # Undone from the last to the first, whichever of them raises: the handler is put
                # back, then called. Should one raise before, the one that waits passes calls on.
                stack.callback(waiting.make_up)
                stack.callback(signal.signal, number, handler)
                signal.signal(number, waiting)
        yield


def _numbers() -> set[signal.Signals]:
    """The signals, and none outside the main thread."""
    in_main = threading.current_thread() is threading.main_thread()
    return signal.valid_signals() if in_main else set()
