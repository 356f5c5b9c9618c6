"""Annotated shapes are checked in tests: `check` before the rooms of lab are imported.

jaxtyping has an import hook of its own, which decorates every function of a module. That does not
go with compiled kernels, and it looks at arguments before the function does, whose own sentences
about bad arguments are tested as well. So functions that have shapes in their annotations are
replaced once their module has run, and what they took and returned is checked after they returned.
"""

import functools
import importlib.machinery
import inspect
import sys
import types
import typing

import jaxtyping
import torch
from beartype.door import is_bearable

# What is checked: where shapes are most of what a function promises.
ROOMS = (
    "lab.scan", "lab.linalg", "lab.nn", "lab.transitions", "lab.memories", "lab.mixers",
    "lab.model", "lab.tasks",
)  # fmt: skip


class _Seen:
    """Annotations with shapes by function, and calls that have been found to be right."""

    # What a function sees is part of what identifies a task in a checkpoint: this is always alike.
    checkpoint_identity = "shapes seen in tests"

    def __init__(self):
        self.hints = {}
        self.calls = set()


_SEEN = _Seen()


class ShapeError(AssertionError):
    """Something was taken or returned that is not what the annotations say."""


def check(*rooms):
    """Check the annotated shapes in these packages of lab, which nothing has imported yet."""
    if already := [name for name in sys.modules if _is_in(name, rooms)]:
        raise RuntimeError(f"{already} were imported before: their shapes would not be checked")
    sys.meta_path.insert(0, _Finder(rooms))


def checked(function):
    """The function, or where annotations hold shapes, one that holds every call to them."""
    annotations = typing.cast(dict, getattr(inspect.unwrap(function), "__annotations__", {}))
    hints = {name: hint for name, hint in annotations.items() if has_shape(hint)}
    if not hints:
        return function
    _SEEN.hints[function] = hints

    @functools.wraps(function)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        if not torch.compiler.is_compiling():  # shapes are symbols there
            _look(function, args, kwargs, result)
        return result

    # A code of its own, since torch.compile counts by code how often it had to compile anew.
    call.__code__ = call.__code__.replace(co_name=function.__name__)
    return call


def _look(function, args, kwargs, result):
    """Compare a call with the annotations, unless one like it has been found right."""
    hints = _SEEN.hints[function]
    names = inspect.signature(function).parameters
    given = {**dict(zip(names, args, strict=False)), **kwargs, "return": result}
    values = {name: given[name] for name in hints if name in given}
    kind = (function, *((name, _kind(value)) for name, value in values.items()))
    try:
        if kind in _SEEN.calls:
            return
    except TypeError:  # sizes are symbols here as well, which have no hash
        return
    _compare(function, values, hints)
    _SEEN.calls.add(kind)


def _compare(function, values, hints):
    with jaxtyping.jaxtyped("context"):  # in which an axis has one size
        for name, value in values.items():
            if not is_bearable(value, hints[name]):
                raise ShapeError(_sentence(function, name, value, hints[name]))


def _kind(value):
    """All that the answer depends on."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape
    return tuple(map(_kind, value)) if isinstance(value, tuple | list) else type(value)


def hints_of(function):
    """The annotations to which every call of a function is held; empty if there are none."""
    return _SEEN.hints.get(getattr(function, "__wrapped__", None), {})


def has_shape(hint):
    """Whether there is a shape anywhere in an annotation."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(has_shape, typing.get_args(hint)))


def members(module):
    """(owner, name, value) of all functions and methods that a module defines."""
    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, type):
            yield from ((value, *item) for item in list(vars(value).items()))
        else:
            yield module, name, value


class _Finder:
    def __init__(self, rooms):
        self.rooms = rooms

    def find_spec(self, name, path=None, target=None):
        if not _is_in(name, self.rooms):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        super().exec_module(module)
        for owner, name, value in members(module):
            if name == "__new__":  # of a named tuple, which torch fills with anything
                continue
            if (replacement := _replacement(value)) is not value:
                setattr(owner, name, replacement)


def _replacement(value):
    if isinstance(value, types.FunctionType):
        return checked(value)
    if isinstance(value, staticmethod | classmethod):
        return type(value)(checked(value.__func__))
    if isinstance(value, property):
        return property(checked(value.fget), value.fset, value.fdel, value.__doc__)
    if isinstance(value, functools.cached_property):
        value.func = checked(value.func)
    return value


def _is_in(name, rooms):
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def _sentence(function, name, value, hint):
    where = f"{function.__module__}.{function.__qualname__}"
    name = "the result" if name == "return" else name
    return f"{where}: {name} is {_shown(value)}; the annotation says {_written(hint)}"


def _shown(value):
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_shown, value))})"
    return repr(value)


def _written(hint):
    return str(hint).replace("jaxtyping.", "").replace("torch.Tensor", "Tensor")
