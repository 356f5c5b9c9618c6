"""The earlier rule of verdicts, for records of schema 1: notebooks that make an `Evidence`.

Notebooks on `lab.experiment` follow the rule in `lab.evidence.verdict`.
"""

from collections.abc import Iterable
from enum import StrEnum

from lab.evidence.criteria import Criterion


class VerdictOfSchema1(StrEnum):
    """What a run says about its hypothesis."""

    PROCEED = "PROCEED"
    DEBUG = "DEBUG"
    ABANDON = "ABANDON"
    INCONCLUSIVE = "INCONCLUSIVE"

    def __repr__(self) -> str:
        """Only the word, as a notebook cell shows it."""
        return self.value


# The rule that `_judge` applies, in words for the research log.
RULE = (
    ("a kill criterion is met", VerdictOfSchema1.ABANDON),
    ("no success criterion, or a value is not finite", VerdictOfSchema1.INCONCLUSIVE),
    ("a success criterion is missed, or a failure criterion is met", VerdictOfSchema1.DEBUG),
    ("otherwise", VerdictOfSchema1.PROCEED),
)


def decide(criteria: Iterable[Criterion]) -> VerdictOfSchema1:
    """The verdict, by the first line of `RULE` that applies.

    Criteria of the arm "reported", which repeat an earlier run, and those of kind "context", which
    inform the reader, are shown but never decide.
    """
    return _judge(criteria)[0]


def explain(criteria: Iterable[Criterion]) -> str:
    """A sentence that names the criteria which decided the verdict, without measured numbers."""
    return _judge(criteria)[1]


def verdict_line(criteria: Iterable[Criterion]) -> str:
    """The verdict, and a sentence with the reason."""
    verdict, reason = _judge(criteria)
    return f"{verdict}: {reason}"


def _judge(criteria: Iterable[Criterion]) -> tuple[VerdictOfSchema1, str]:
    judged = [each for each in criteria if each.decides]
    successes = [each for each in judged if each.kind == "success"]
    killed = [each for each in judged if each.kind == "kill" and each.met]
    unknown = [each for each in judged if each.value is None]
    against = [each for each in judged if not each.as_wanted]
    if killed:
        return VerdictOfSchema1.ABANDON, _sentence(killed)
    if unknown:
        return VerdictOfSchema1.INCONCLUSIVE, _sentence(unknown)
    if not successes:
        return VerdictOfSchema1.INCONCLUSIVE, "no success criterion was checked."
    if against:
        return VerdictOfSchema1.DEBUG, _sentence(against)
    ids = ", ".join(dict.fromkeys(each.id for each in successes))
    reason = f"every success criterion is met ({ids}) and no failure or kill is."
    return VerdictOfSchema1.PROCEED, reason


def _sentence(criteria: Iterable[Criterion]) -> str:
    parts = [f"{each.kind} criterion {each.name} is {each.status}" for each in criteria]
    return "; ".join(parts) + "."
