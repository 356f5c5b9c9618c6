"""A measured value against a threshold: whether it holds, and how to write it for people."""

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
    """Whether `value op threshold`; never for None, which stands for a value that is not finite."""
    return value is not None and bool(_COMPARE[op](value, threshold))


def shown(number: float | None, digits: int | None = 4) -> str:
    """A finite number for people, whole ones below a million in full.

    Args:
        number: None is shown as "not finite".
        digits: significant digits; as many as tell it from every other float if None.
    """
    if number is None:
        return "not finite"
    if number == int(number) and abs(number) < 1e6:
        return str(int(number))
    text = repr(number) if digits is None else f"{number:.{digits}g}"
    # 1e-06 is how C writes it; people write 1e-6.
    return re.sub(r"e([+-])0", r"e\1", text).replace("e+", "e")


def shown_value(value: float | None, op: str, threshold: Threshold) -> str:
    """A value, with as many digits as it takes not to contradict the comparison beside it.

    0.98996 misses ">= 0.99", and four digits would show 0.99.
    """
    for digits in (4, 6, 9):
        text = shown(value, digits)
        if value is None or holds(float(text), op, threshold) == holds(value, op, threshold):
            return text
    return shown(value, digits=None)


def shown_limit(op: str, threshold: Threshold) -> str:
    """The comparison as it was written, in full."""
    if isinstance(threshold, tuple):
        return f"{op} [{', '.join(shown(end, digits=None) for end in threshold)}]"
    return f"{op} {shown(threshold, digits=None)}"
