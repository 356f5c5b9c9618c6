"""Checks of what a record may contain: text, numbers, and plain values made of them."""

import math
import numbers
from collections.abc import Mapping
from typing import Any


def check_text(text: object, what: str) -> None:
    """Check that `text` is text and not empty; `what` is its name in the error."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be text, got {text!r} of type {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"{what} is empty; name it")


def check_type(value: object, kind: type, what: str) -> None:
    """Check the type of a value read from a file; true and false do not count as numbers."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{what} is of type {type(value).__name__}, not {kind.__name__}")


def number(value: object, what: str) -> float | None:
    """`value` as a float; None if it is None or not finite.

    Raises:
        TypeError: it is neither a number nor a tensor, array or series with one element.
    """
    value = _item(value, what)
    if value is None:
        return None
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{what} must be a number, got {value!r} of type {type(value).__name__}")
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def finite(value: object, what: str) -> float:
    """`value` as a float.

    Raises:
        TypeError: it is not a number.
        ValueError: it is None or not finite.
    """
    converted = number(value, what)
    if converted is None:
        raise ValueError(f"{what} must be a finite number, got {value!r}")
    return converted


def plain(value: object, what: str) -> Any:
    """A copy of `value` made of JSON types; floats that are not finite become None.

    Raises:
        TypeError: something in it has no counterpart in JSON.
    """
    value = _item(value, what)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(each, f"{what}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, f"{what}[{index}]") for index, each in enumerate(value)]
    kind = type(value).__name__
    raise TypeError(f"{what} is a {kind}; the record holds numbers, text, lists and mappings only")


def _item(value: object, what: str) -> object:
    """The element of a tensor, array or series with one element; anything else unchanged."""
    if not callable(item := getattr(value, "item", None)):
        return value
    try:
        return item()
    except (RuntimeError, ValueError) as error:
        shape = tuple(getattr(value, "shape", ()))
        raise TypeError(f"{what} has shape {shape}; reduce it to one number") from error
