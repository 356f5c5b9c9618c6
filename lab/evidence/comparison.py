"""Comparisons of a measured value with a threshold: whether they hold, and how to display them."""

import operator
import re
from collections.abc import Callable
from typing import Any

Threshold = float | tuple[float, float]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "in": lambda value, interval: interval[0] <= value <= interval[1],
}
OPS = tuple(_COMPARE)


def holds(value: float | None, op: str, threshold: Threshold) -> bool:
    """Whether `value op threshold` holds; False for None, which stands for a non-finite value."""
    return value is not None and bool(_COMPARE[op](value, threshold))


def shown(number: float | None, digits: int | None = 4) -> str:
    """A finite number as text; whole numbers below a million in full.

    Args:
        number: None is shown as "not finite".
        digits: significant digits; if None, as many as identify the float.
    """
    if number is None:
        return "not finite"
    if number == int(number) and abs(number) < 1e6:
        return str(int(number))
    text = repr(number) if digits is None else f"{number:.{digits}g}"
    # Python writes 1e-06 as C does; people write 1e-6.
    return re.sub(r"e([+-])0", r"e\1", text).replace("e+", "e")


def shown_value(value: float | None, op: str, threshold: Threshold) -> str:
    """A value, with enough digits not to contradict the comparison beside it.

    For example, 0.98996 misses ">= 0.99", but with four digits it would read 0.99.
    """
    for digits in (4, 6, 9):
        text = shown(value, digits)
        if value is None or holds(float(text), op, threshold) == holds(value, op, threshold):
            return text
    return shown(value, digits=None)


def shown_limit(op: str, threshold: Threshold) -> str:
    """The comparison with all digits of the threshold."""
    if isinstance(threshold, tuple):
        return f"{op} [{', '.join(shown(end, digits=None) for end in threshold)}]"
    return f"{op} {shown(threshold, digits=None)}"
