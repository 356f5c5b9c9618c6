"""Checks of arguments at the door: one sentence with the name, the value and what was expected."""

import math
import operator
from collections.abc import Callable, Iterable
from contextlib import suppress
from numbers import Real
from typing import Any, NoReturn


def whole(where: str, name: str, value: Any, least: int | None = None) -> int:
    """`value` as a whole number, at least `least`.

    Numbers of numpy and tensors of one whole number count as well; True and 2.0 do not.

    Args:
        where: whose argument this is, for the sentence.
        name: of the argument.
        value: what was given.
        least: the smallest number allowed; None for any.

    Raises:
        ValueError: it is not; says where, the name, the value, and what was expected.
    """
    bound = "" if least is None else f"at least {least}"
    number: int | None = None
    # An array of one number has an index, too, and is a list all the same.
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
        ValueError: it is not; says where, the name, the value, and what was expected.
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
    """As `real`, and not infinite."""
    number = real(where, name, value, least=least, above=above)
    if math.isinf(number):
        refuse(where, name, value, "finite")
    return number


def truth(where: str, name: str, value: Any) -> bool:
    """`value`, which is True or False.

    Raises:
        ValueError: it is neither.
    """
    if not _is_truth(value):
        refuse(where, name, value, "True or False")
    return bool(value)


def one_of(where: str, name: str, value: Any, choices: Iterable[str]) -> None:
    """Stop unless `value` is one of the choices.

    Raises:
        ValueError: it is not; lists them.
    """
    if value not in (known := tuple(choices)):
        refuse(where, name, value, f"one of {known}")


def function(where: str, name: str, value: Any) -> Callable[..., Any]:
    """`value`, which can be called.

    Raises:
        ValueError: it cannot.
    """
    if not callable(value):
        refuse(where, name, value, "a function")
    called: Callable[..., Any] = value
    return called


def refuse(where: str, name: str, value: Any, expected: str) -> NoReturn:
    """Raise the sentence.

    Raises:
        ValueError: always.
    """
    shown = repr(value)
    shown = f"{shown[:57]}..." if len(shown) > 60 else shown
    raise ValueError(f"{where}: {name} is {shown}; it must be {expected}")


def _is_truth(value: Any) -> bool:
    """Whether it is a bool, of Python or of numpy, or a tensor of one: no number, for all that."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def shorten(value: object) -> str:
    """`value` as a short text, however large it is and whatever it holds."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except Exception:  # whatever a foreign object does when it is shown, an int of 5,000 digits too
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:79]}…"


def called(name: object) -> str:
    """A name for a sentence: as it is where it is an identifier, otherwise in quotes."""
    is_name = type(name) is str and name.isidentifier() and len(name) < 100
    return str(name) if is_name else shorten(name)


def is_text(value: str) -> bool:
    """Whether a string can be written to a file: half of a surrogate pair cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
