"""Lets torch's optimisers step without importing the compiler, which takes two seconds.

Every step of an optimiser imports `torch._dynamo` for nothing but to tell it, where it is at work,
which parts not to compile. That is two seconds in each process that trains, of runs that take as
long. Seen in torch 2.9 to 2.13; where torch has changed, this is the file to change.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"


class _StandIn(ModuleType):
    """The two functions of the compiler that an optimiser calls; all else is the compiler's own."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Nothing: there is no graph."""

    @staticmethod
    def disable(function: Callable[..., Any], *args: Any, **options: Any) -> Callable[..., Any]:
        """The function as it is, until the compiler is there, and is told then."""
        told = functools.cache(lambda compiler: compiler.disable(function, *args, **options))

        @functools.wraps(function)
        def call(*values: Any, **named: Any) -> Any:
            compiler = sys.modules.get(_COMPILER)
            absent = compiler is None or isinstance(compiler, _StandIn)
            return (function if absent else told(compiler))(*values, **named)

        return call

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # of an import of one of its modules
            raise AttributeError(name)
        _remove(self)
        return getattr(importlib.import_module(_COMPILER), name)


@contextmanager
def without_compiler() -> Iterator[None]:
    """Inside, what torch's optimisers want of the compiler is a stand-in, unless it is imported.

    Only calls of an optimiser belong inside. In eager mode the stand-in does what the compiler
    does, which is nothing.
    """
    if _COMPILER in sys.modules:
        yield
        return
    stand_in = sys.modules[_COMPILER] = _StandIn(_COMPILER)
    try:
        yield
    finally:
        _remove(stand_in)


def _remove(stand_in: ModuleType) -> None:
    if sys.modules.get(_COMPILER) is stand_in:
        del sys.modules[_COMPILER]
