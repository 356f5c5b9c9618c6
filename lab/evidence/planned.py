"""A criterion as it is written before the run: what is measured, by which statistic, and the limit.

What could never be missed is no success, and is refused here, before anything trains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from lab.evidence.comparison import OPS, Threshold, holds, shown_limit
from lab.evidence.criteria import check_arm, check_choice, checked_threshold
from lab.evidence.values import check_text

Kind = Literal["success", "failure", "kill", "control", "context"]
KINDS: tuple[str, ...] = get_args(Kind)
# Arms that are shown and never decide: an earlier run, and the criteria of a proposal as they fall.
ASIDE = ("reported", "proposal")


@dataclass(frozen=True)
class Planned:
    """One row of the table of criteria, or several that share statistic and limit.

    Attributes:
        id: as in the specification, "C1"; each has its own in an experiment.
        measured: what, in words with its unit. "{part}" stands for each of `parts`.
        op: ">", ">=", "<", "<=", "==" or "in".
        threshold: the limit, or for "in" the closed interval (low, high).
        statistic: the name of what makes one number of the values of all seeds, as
            `lab.experiment.statistics` has them.
        kind: "success" and "failure" speak for and against the hypothesis, "kill" ends it; a
            "control" is about the apparatus, an identity or a rival's own training, and has to be
            met before anything else counts; "context" is for the reader.
        arm: whose values; "reported" and "proposal" never decide.
        paired: whether the values are differences between two arms, seed by seed.
        bounds: what the value lies between, whatever happens, such as (0, 1) for a share.
        guard: the id of a control on the same model's training, without which a model that learned
            nothing would meet a success of the form "stays below".
        low_is_good: says that "below" is an achievement by itself, as of an error or a time.
        varies: whether another machine may see another status, as of times and of what is near
            its limit.
        unattainable: a sentence that proves that it cannot be met, where the notebook has one.
        parts: what it is applied to, one row each; none for a single row.
        added: the sentence that says why it was added after a first run; empty for what was
            written before.

    Raises:
        TypeError: a name is no text, or a threshold no number.
        ValueError: an unknown op, kind or threshold; parts without "{part}"; or a success that
            could not be missed.
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
        """Whether a high value speaks against the hypothesis: a failure wants to be missed.

        Of "in" and "==", whether a value far outside does.
        """
        wants_high = self.op in (">", ">=")
        return wants_high if self.kind in ("failure", "kill") else not wants_high

    @property
    def rows(self) -> tuple[str, ...]:
        """The parts, or the one row that has no part."""
        return tuple(self.parts) or ("",)

    def metric(self, part: str) -> str:
        """What is measured, of one part."""
        return self.measured.replace("{part}", part)

    @property
    def limit(self) -> str:
        """The comparison, as text; empty for what is context, which has none to meet."""
        return "" if self.kind == "context" else shown_limit(self.op, self.threshold)

    def _check_success(self) -> None:
        if self.op == "==":
            raise ValueError(
                f"criterion {self.id} is an identity, which says that the code is right and "
                "nothing of the hypothesis: make it a control"
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
        ValueError: two have one id; a guard is no control of the plan; nothing is a success; or a
            kind has no meaning beside the others.
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
