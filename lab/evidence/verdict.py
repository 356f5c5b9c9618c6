"""The rule by which a verdict follows from criteria, for records of schema 1."""

from collections.abc import Iterable
from enum import StrEnum

from lab.evidence.criteria import Criterion


class Verdict(StrEnum):
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
    ("any kill criterion met", Verdict.ABANDON),
    ("no success criterion, or any value not finite", Verdict.INCONCLUSIVE),
    ("any success criterion missed, or any failure criterion met", Verdict.DEBUG),
    ("otherwise", Verdict.PROCEED),
)


def decide(criteria: Iterable[Criterion]) -> Verdict:
    """The verdict, by the first line of `RULE` that applies.

    Criteria of the arm "reported", which repeat an earlier run, and those of kind "context", which
    are for the reader, are shown but never decide.
    """
    return _judge(criteria)[0]


def explain(criteria: Iterable[Criterion]) -> str:
    """A sentence that names the criteria which decided the verdict, without measured numbers."""
    return _judge(criteria)[1]


def verdict_line(criteria: Iterable[Criterion]) -> str:
    """The verdict, and a sentence with the reason."""
    verdict, reason = _judge(criteria)
    return f"{verdict}: {reason}"


def _judge(criteria: Iterable[Criterion]) -> tuple[Verdict, str]:
    judged = [each for each in criteria if each.decides]
    successes = [each for each in judged if each.kind == "success"]
    killed = [each for each in judged if each.kind == "kill" and each.met]
    unknown = [each for each in judged if each.value is None]
    against = [each for each in judged if not each.as_wanted]
    if killed:
        return Verdict.ABANDON, _sentence(killed)
    if unknown:
        return Verdict.INCONCLUSIVE, _sentence(unknown)
    if not successes:
        return Verdict.INCONCLUSIVE, "no success criterion was checked."
    if against:
        return Verdict.DEBUG, _sentence(against)
    ids = ", ".join(dict.fromkeys(each.id for each in successes))
    return Verdict.PROCEED, f"every success criterion is met ({ids}) and no failure or kill is."


def _sentence(criteria: Iterable[Criterion]) -> str:
    parts = [f"{each.kind} criterion {each.name} is {each.status}" for each in criteria]
    return "; ".join(parts) + "."
