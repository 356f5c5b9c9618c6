"""A criterion after the run: its value, the interval around it, and the resulting status."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lab.evidence.comparison import Threshold, holds, shown, shown_limit, shown_value
from lab.evidence.planned import ASIDE, Kind, Planned
from lab.evidence.values import check_type

Status = Literal["met", "missed", "undecided", "unattainable", "not run", "not finite", "recorded"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class Reading:
    """The values of all seeds, summarised in one number.

    Attributes:
        value: the number; None if it is not finite or there is none.
        low, high: ends of its 95 % interval; None for a plain number, a worst or a median seed.
        detail: further information in words, such as "4 of 5 seeds".
        needed: number of seeds that would decide, if the threshold lies inside the interval and the
            number can be computed.
        missing: why there is no value: what this run lacked, such as a GPU.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    detail: str = ""
    needed: int | None = None
    missing: str = ""


@dataclass(frozen=True)
class Judged:
    """One row of the table of criteria with its outcome, as it is stored in a record."""

    id: str
    arm: str
    metric: str
    kind: Kind
    statistic: str
    op: str
    threshold: Threshold
    varies: bool
    added: str
    unattainable: str
    value: float | None
    low: float | None
    high: float | None
    detail: str
    needed: int | None
    missing: str

    @property
    def status(self) -> Status:
        """Met, missed, undecided, unattainable or not run; "recorded" for context."""
        if self.kind == "context":
            return "recorded"
        if self.unattainable:
            return "unattainable"
        if self.missing:
            return "not run"
        if self.value is None:
            return "not finite"
        if self.low is None or self.high is None:
            return "met" if holds(self.value, self.op, self.threshold) else "missed"
        return of_interval(self.low, self.high, self.op, self.threshold)

    @property
    def decides(self) -> bool:
        """Whether the verdict may depend on it."""
        asked = self.status not in ("unattainable", "not run", "recorded")
        return asked and self.arm not in ASIDE

    @property
    def as_wanted(self) -> bool | None:
        """Whether it speaks for the hypothesis; None if it does not say."""
        if self.status not in ("met", "missed"):
            return None
        return (self.status == "met") == (self.kind in ("success", "control"))

    @property
    def name(self) -> str:
        """Id, arm and metric, which identify the row within the experiment."""
        return f"{self.id} ({self.arm}, {self.metric})"

    @property
    def limit(self) -> str:
        """The comparison, as text; empty for what is context, which has none to meet."""
        return "" if self.kind == "context" else shown_limit(self.op, self.threshold)

    @property
    def shown(self) -> str:
        """The value as text, with its interval and detail."""
        if self.value is None:
            return self.missing or "not finite"
        text = shown_value(self.value, self.op, self.threshold)
        if self.low is not None and self.high is not None:
            text += f" [{shown(self.low, 3)}, {shown(self.high, 3)}]"
        return f"{text} ({self.detail})" if self.detail else text

    def row(self) -> tuple[str, ...]:
        """The criterion as text, one entry for each of `lab.evidence.criteria.COLUMNS`."""
        metric = f"{self.metric} ({self.statistic})"
        return (self.id, self.arm, metric, self.kind, self.shown, self.limit, self.status)

    def record(self) -> dict[str, Any]:
        """The row as plain JSON values, the inverse of `read`."""
        threshold = list(self.threshold) if isinstance(self.threshold, tuple) else self.threshold
        return {**dataclasses.asdict(self), "threshold": threshold, "status": self.status}


def judge(planned: Planned, part: str, reading: Reading) -> Judged:
    """One row of a planned criterion, with the measured result."""
    return Judged(
        id=planned.id, arm=planned.arm, metric=planned.metric(part), kind=planned.kind,
        statistic=f"paired, {planned.statistic}" if planned.paired else planned.statistic,
        op=planned.op, threshold=planned.threshold, varies=planned.varies, added=planned.added,
        unattainable=planned.unattainable, **dataclasses.asdict(reading),
    )  # fmt: skip


def read(stored: Any) -> Judged:
    """A row as it is stored in a record.

    Raises:
        ValueError: a field is missing, unknown or of the wrong type, or the status contradicts the
            other fields.
    """
    check_type(stored, dict, "a criterion of the record")
    fields = dict(stored)
    status = fields.pop("status", None)
    known = {field.name for field in dataclasses.fields(Judged)}
    if odd := fields.keys() ^ known:
        names = ", ".join(sorted(odd))
        raise ValueError(f"a criterion of the record has fields missing or unknown: {names}")
    _check_fields(fields)
    if isinstance(fields["threshold"], list):
        fields["threshold"] = tuple(fields["threshold"])
    found = Judged(**fields)
    # A record must satisfy the same conditions as a planned criterion.
    try:
        Planned(
            found.id, found.metric.replace("{", "("), found.op, found.threshold, kind=found.kind,
            statistic=found.statistic, arm=found.arm, low_is_good=True,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise ValueError(f"a criterion of the record cannot be read: {error}") from error
    if status != found.status:
        raise ValueError(
            f"the record is inconsistent: criterion {found.name} says {status!r}, its value says "
            f"{found.status!r}"
        )
    return found


def _check_fields(fields: Mapping[str, Any]) -> None:
    """Check that every field has the type that `Judged` declares."""
    texts = ("id", "arm", "metric", "kind", "statistic", "op", "added", "unattainable", "detail")
    for name in (*texts, "missing"):
        check_type(fields[name], str, f"{name} of a criterion of the record")
    if not isinstance(fields["varies"], bool):
        raise ValueError("varies of a criterion of the record is neither true nor false")
    for name in ("value", "low", "high", "needed"):
        if fields[name] is not None and type(fields[name]) not in (int, float):
            raise ValueError(f"{name} of a criterion of the record is no number")


def of_interval(low: float, high: float, op: str, threshold: Threshold) -> Status:
    """Met if the comparison holds in the whole interval, missed if nowhere, otherwise undecided."""
    if holds(low, op, threshold) and holds(high, op, threshold):
        return "met"
    if isinstance(threshold, tuple):
        apart = high < threshold[0] or low > threshold[1]
    elif op == "==":
        apart = not low <= threshold <= high
    else:
        apart = not (holds(low, op, threshold) or holds(high, op, threshold))
    return "missed" if apart else "undecided"
