"""Argument checks, whose errors are one sentence with the name, the value and what was expected."""

import math
import operator
from collections.abc import Callable, Iterable
from contextlib import suppress
from numbers import Real
from typing import Any, NoReturn


def whole(where: str, name: str, value: Any, least: int | None = None) -> int:
    """`value` as a whole number, at least `least`.

    numpy integers and tensors with a single whole number are accepted; True and 2.0 are not.

    Args:
        where: the class or function that has this argument, for the error.
        name: name of the argument.
        value: the given value.
        least: the smallest allowed number; None for any.

    Raises:
        ValueError: it is not; the error says where, the name, the value and what was expected.
    """
    bound = "" if least is None else f"at least {least}"
    number: int | None = None
    # An array with a single number also has `__index__`, but counts as a list.
    if not _is_truth(value) and not getattr(value, "ndim", 0):
        with suppress(TypeError):
            number = operator.index(value)
    if number is None:
        refuse(where, name, value, ", ".join(filter(None, ["a whole number", bound])))
    if least is not None and number < least:
        refuse(where, name, value, bound)
    return number


def real(
    where: str, name: str, value: Any, *, least: float | None = None, above: float | None = None
) -> float:
    """`value` as a float that is not NaN, at least `least` and above `above`; inf is allowed.

    Raises:
        ValueError: it is not; the error says where, the name, the value and what was expected.
    """
    bounds = [f"at least {least}"] if least is not None else []
    bounds += [f"above {above}"] if above is not None else []
    if _is_truth(value) or not isinstance(value, Real) or math.isnan(value):
        refuse(where, name, value, ", ".join(["a number", *bounds]))
    if (least is not None and value < least) or (above is not None and value <= above):
        refuse(where, name, value, " and ".join(bounds))
    return float(value)


def finite(
    where: str, name: str, value: Any, *, least: float | None = None, above: float | None = None
) -> float:
    """Like `real`, but infinity is not allowed."""
    number = real(where, name, value, least=least, above=above)
    if math.isinf(number):
        refuse(where, name, value, "finite")
    return number


def truth(where: str, name: str, value: Any) -> bool:
    """`value`, which must be True or False.

    Raises:
        ValueError: it is neither.
    """
    if not _is_truth(value):
        refuse(where, name, value, "True or False")
    return bool(value)


def one_of(where: str, name: str, value: Any, choices: Iterable[str]) -> None:
    """Check that `value` is one of the choices.

    Raises:
        ValueError: it is not; the error lists them.
    """
    if value not in (known := tuple(choices)):
        refuse(where, name, value, f"one of {known}")


def function(where: str, name: str, value: Any) -> Callable[..., Any]:
    """`value`, which must be callable.

    Raises:
        ValueError: it is not.
    """
    if not callable(value):
        refuse(where, name, value, "a function")
    called: Callable[..., Any] = value
    return called


def refuse(where: str, name: str, value: Any, expected: str) -> NoReturn:
    """Raise the error about an argument.

    Raises:
        ValueError: always.
    """
    shown = repr(value)
    shown = f"{shown[:57]}..." if len(shown) > 60 else shown
    raise ValueError(f"{where}: {name} is {shown}; it must be {expected}")


def _is_truth(value: Any) -> bool:
    """Whether it is a bool of Python or numpy, or a tensor of one; these are not numbers here."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def shorten(value: object) -> str:
    """`value` as a short text, whatever its type and size."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except Exception:  # the repr of any object may fail, also that of an int of 5,000 digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:79]}…"


def called(name: object) -> str:
    """A name for an error message: in quotes, unless it is an identifier."""
    is_name = type(name) is str and name.isidentifier() and len(name) < 100
    return str(name) if is_name else shorten(name)


def is_text(value: str) -> bool:
    """Whether a string can be encoded and written to a file: an unpaired surrogate cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
