"""One criterion: the checks when it is created, its outcome, and its form in the record."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from lab.evidence.comparison import OPS, Threshold, holds, shown, shown_limit, shown_value
from lab.evidence.values import check_text, check_type, finite, number

KINDS = ("success", "failure", "kill", "context")
COLUMNS = ("id", "arm", "metric", "kind", "value", "limit", "status")

# Spellings that do not resemble the operator they stand for, so a search by similarity fails.
_MEANT = {"=": "==", "=<": "<=", "=>": ">=", "≤": "<=", "≥": ">=", "∈": "in"}


@dataclass(frozen=True)
class Criterion:
    """One comparison of a measured value with a threshold; create it with `criterion`."""

    id: str
    arm: str
    metric: str
    value: float | None
    spread: float | None
    op: str
    threshold: Threshold
    kind: str

    @property
    def met(self) -> bool:
        """Whether the comparison holds, whether or not this is the desired outcome."""
        return holds(self.value, self.op, self.threshold)

    @property
    def decides(self) -> bool:
        """Whether the verdict may depend on it: neither the reported arm nor context does."""
        return self.arm != "reported" and self.kind != "context"

    @property
    def as_wanted(self) -> bool:
        """Whether it speaks for the hypothesis: a met success, or a failure or kill not met."""
        return self.value is not None and self.met == (self.kind == "success")

    @property
    def status(self) -> str:
        """The outcome in words, without the measured number."""
        if self.kind == "context":
            return "recorded"
        if self.value is None:
            return "not finite"
        if self.met:
            return "met"
        return "missed" if self.kind == "success" else "not met"

    @property
    def name(self) -> str:
        """Id, arm and metric, which identify the criterion within the experiment."""
        where = f"{self.arm}, {self.metric}" if self.metric else self.arm
        return f"{self.id} ({where})"

    def record(self) -> dict[str, Any]:
        """The criterion as plain JSON values, the inverse of `read`."""
        threshold = list(self.threshold) if isinstance(self.threshold, tuple) else self.threshold
        return {**dataclasses.asdict(self), "threshold": threshold, "met": self.met}

    def row(self) -> tuple[str, ...]:
        """The criterion as text, one entry for each of `COLUMNS`."""
        value = shown_value(self.value, self.op, self.threshold)
        spread = "" if self.spread is None else f" ± {shown(self.spread, 2)}"
        limit = shown_limit(self.op, self.threshold)
        return (self.id, self.arm, self.metric, self.kind, value + spread, limit, self.status)


def criterion(
    id: str,  # noqa: A002  (the name in the specifications and in the record)
    value: object,
    op: str,
    threshold: object,
    *,
    arm: str = "corrected",
    kind: str = "success",
    metric: str = "",
    spread: object = None,
) -> Criterion:
    """A checked criterion.

    Args:
        id: id in the specification, such as "C1".
        value: one number, or a tensor or array with one element; None, NaN and infinities are
            stored as None.
        op: one of `OPS`.
        threshold: a finite number, or for "in" the closed interval (low, high).
        arm: the arm from which the value comes; "reported" repeats an earlier run.
        kind: one of `KINDS`.
        metric: what was measured, if one id has several metrics.
        spread: spread over seeds, in units of the value; None if there is only one seed.

    Raises:
        TypeError: a value is not a number, or a name is not text.
        ValueError: op, kind, arm, threshold or spread is not as above.
    """
    for name, text in {"id": id, "arm": arm, "op": op, "kind": kind}.items():
        check_text(text, f"{name} of criterion {id!r}")
    if not isinstance(metric, str):
        raise TypeError(f"metric of criterion {id} must be text, got {metric!r}")
    check_choice(op, OPS, f"op of criterion {id}")
    check_choice(kind, KINDS, f"kind of criterion {id}")
    check_arm(arm, f"arm of criterion {id}")
    return Criterion(
        id=id,
        arm=arm,
        metric=metric,
        value=number(value, f"value of criterion {id}"),
        spread=_spread(spread, f"spread of criterion {id}"),
        op=op,
        threshold=checked_threshold(threshold, op, f"threshold of criterion {id}"),
        kind=kind,
    )


def read(stored: Any) -> Criterion:
    """A criterion as it stands in a record.

    Raises:
        ValueError: a field is missing, unknown or of the wrong type, or `met` contradicts the other
            fields.
    """
    check_type(stored, dict, "a criterion of the record")
    fields = dict(stored)
    met = fields.pop("met", None)
    if odd := fields.keys() ^ {field.name for field in dataclasses.fields(Criterion)}:
        names = ", ".join(sorted(odd))
        raise ValueError(f"a criterion of the record has fields missing or unknown: {names}")
    try:
        found = criterion(**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a criterion of the record cannot be read: {error}") from error
    if met is not found.met:
        raise ValueError(f"the record is inconsistent: criterion {found.name} says met is {met!r}")
    return found


def check_choice(name: str, valid: Sequence[str], what: str) -> None:
    """Check that a word is one of the valid ones; the error suggests the nearest."""
    if name not in valid:
        nearest = _MEANT.get(name) or get_close_matches(name, valid, n=1, cutoff=0)[0]
        choices = ", ".join(valid)
        raise ValueError(f"{what} is {name!r}; did you mean {nearest!r}? It is one of {choices}")


def check_arm(arm: str, what: str, aside: str = "reported") -> None:
    """Check that `arm` is not a misspelt `aside`: the misspelt arm would affect the verdict."""
    if arm != aside and get_close_matches(arm.strip().lower(), [aside], cutoff=0.85):
        raise ValueError(f"{what} is {arm!r}; did you mean {aside!r}?")


def _spread(spread: object, what: str) -> float | None:
    distance = number(spread, what)
    if distance is not None and distance < 0:
        raise ValueError(f"{what} is {distance}; it is a distance, at least 0")
    return distance


def checked_threshold(threshold: object, op: str, what: str) -> Threshold:
    """A number, or for "in" the closed interval (low, high)."""
    if op != "in":
        return finite(threshold, what)
    if not isinstance(threshold, Sequence) or isinstance(threshold, str) or len(threshold) != 2:
        raise ValueError(f"{what} must be an interval (low, high) for 'in', got {threshold!r}")
    low, high = (finite(end, what) for end in threshold)
    if low > high:
        raise ValueError(f"{what} is reversed: ({low}, {high}); write ({high}, {low})")
    return low, high
