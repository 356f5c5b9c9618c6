"""A criterion as written before the run: what is measured, by which statistic, and the threshold.

A success criterion that could never be missed is refused here, before anything trains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from lab.evidence.comparison import OPS, Threshold, holds, shown_limit
from lab.evidence.criteria import check_arm, check_choice, checked_threshold
from lab.evidence.values import check_text

Kind = Literal["success", "failure", "kill", "control", "context"]
KINDS: tuple[str, ...] = get_args(Kind)
# Arms that are shown but never decide: an earlier run, and the original criteria of a proposal.
ASIDE = ("reported", "proposal")


@dataclass(frozen=True)
class Planned:
    """One row of the table of criteria, or several rows that share statistic and threshold.

    Attributes:
        id: id in the specification, such as "C1"; unique within the experiment.
        measured: what is measured, in words with its unit. "{part}" stands for each of `parts`.
        op: ">", ">=", "<", "<=", "==" or "in".
        threshold: the threshold, or for "in" the closed interval (low, high).
        statistic: name of the statistic that turns the values of all seeds into one number; see
            `lab.experiment.statistics`.
        kind: "success" and "failure" speak for and against the hypothesis, and "kill" ends it. A
            "control" concerns the apparatus, an identity or a rival's own training, and must be
            met before anything else counts. "context" is for the reader.
        arm: the arm whose values are judged; "reported" and "proposal" never decide.
        paired: whether the values are differences between two arms, seed by seed.
        bounds: range of all possible values, such as (0, 1) for a share.
        guard: id of a control on the same model's training. Without it, a model that has learned
            nothing would meet a success of the form "stays below".
        low_is_good: says that a low value is an achievement by itself, as for an error or a time.
        varies: whether the status may differ between machines, as for times and for values near
            the threshold.
        unattainable: a sentence that proves that the criterion cannot be met, if there is one.
        parts: what the criterion is applied to, one row each; empty for a single row.
        added: why the criterion was added after a first run; empty if it was written before.

    Raises:
        TypeError: a name is not text, or a threshold is not a number.
        ValueError: an op, kind or threshold is unknown; there are parts without "{part}"; or a
            success could not be missed.
    """

    id: str
    measured: str
    op: str
    threshold: Threshold
    statistic: str = "worst seed"
    kind: Kind = "success"
    arm: str = "corrected"
    paired: bool = False
    bounds: tuple[float, float] | None = None
    guard: str = ""
    low_is_good: bool = False
    varies: bool = False
    unattainable: str = ""
    parts: Sequence[str] = ()
    added: str = ""

    def __post_init__(self) -> None:
        for name in ("id", "measured", "op", "statistic", "kind", "arm"):
            check_text(getattr(self, name), f"{name} of criterion {self.id!r}")
        check_choice(self.op, OPS, f"op of criterion {self.id}")
        check_choice(self.kind, KINDS, f"kind of criterion {self.id}")
        for aside in ASIDE:
            check_arm(self.arm, f"arm of criterion {self.id}", aside)
        limit = checked_threshold(self.threshold, self.op, f"threshold of criterion {self.id}")
        object.__setattr__(self, "threshold", limit)
        if bool(self.parts) != ("{part}" in self.measured):
            raise ValueError(f"criterion {self.id}: parts and '{{part}}' in measured go together")
        if self.kind == "success":
            self._check_success()

    @property
    def decides(self) -> bool:
        """Whether the verdict may depend on it."""
        return self.arm not in ASIDE and self.kind != "context"

    @property
    def high_is_bad(self) -> bool:
        """Whether a high value speaks against the hypothesis, as it does for a failure with ">".

        For the operators "in" and "==", whether a value far from the threshold does.
        """
        wants_high = self.op in (">", ">=")
        return wants_high if self.kind in ("failure", "kill") else not wants_high

    @property
    def rows(self) -> tuple[str, ...]:
        """The parts, or a single empty name if there are none."""
        return tuple(self.parts) or ("",)

    def metric(self, part: str) -> str:
        """What is measured, for one part."""
        return self.measured.replace("{part}", part)

    @property
    def limit(self) -> str:
        """The comparison, as text; empty for what is context, which has none to meet."""
        return "" if self.kind == "context" else shown_limit(self.op, self.threshold)

    def _check_success(self) -> None:
        if self.op == "==":
            raise ValueError(
                f"criterion {self.id} is an identity, which tests the code and "
                "not the hypothesis: make it a control"
            )
        if self.bounds is not None and all(holds(b, self.op, self.threshold) for b in self.bounds):
            low, high = self.bounds
            raise ValueError(
                f"criterion {self.id} cannot be missed: all of {low:g} to {high:g} is {self.limit}"
            )
        if self.op in ("<", "<=") and self.decides and not (self.guard or self.low_is_good):
            raise ValueError(
                f"criterion {self.id} asks that {self.measured!r} stay {self.limit}, which a model "
                "that has learned nothing may do as well: name the control on its own training "
                "(guard='...'), or say low_is_good=True where low is an achievement, as of an error"
            )


def check_plan(plan: Sequence[Planned]) -> dict[str, Planned]:
    """The criteria of an experiment by id.

    Raises:
        ValueError: two criteria have the same id, a guard is not a control of the plan, or no
            success criterion can decide.
    """
    by_id = {each.id: each for each in plan}
    if len(by_id) < len(plan):
        ids = [each.id for each in plan]
        raise ValueError(f"ids of criteria must differ; make those of one id parts of it: {ids}")
    for each in plan:
        if each.guard and (each.guard not in by_id or by_id[each.guard].kind != "control"):
            controls = [other.id for other in plan if other.kind == "control"]
            raise ValueError(
                f"the guard of criterion {each.id} is {each.guard!r}; the controls are {controls}"
            )
    if not any(each.kind == "success" and each.decides for each in plan):
        raise ValueError("no criterion is a success that decides: the experiment cannot answer")
    return by_id
