"""The rule by which the verdict of an experiment follows from the statuses of its criteria.

Records of schema 1 follow an earlier rule, in `lab.evidence.rule_of_schema_1`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum

from lab.evidence.judged import Judged


class Verdict(StrEnum):
    """What an experiment says about its hypothesis."""

    DEBUG = "DEBUG"
    ABANDON = "ABANDON"
    REFUTED = "REFUTED"
    UNDECIDED = "UNDECIDED"
    PROCEED = "PROCEED"

    def __repr__(self) -> str:
        """Only the word, as a notebook cell shows it."""
        return self.value


MEANING = {
    Verdict.DEBUG: "The experiment cannot answer yet: something has to be repaired first.",
    Verdict.ABANDON: "A criterion that was to end the idea is met.",
    Verdict.REFUTED: "The question is answered with evidence, and the answer is no.",
    Verdict.UNDECIDED: "An interval contains its limit, so this run leaves the question open.",
    Verdict.PROCEED: "The question is answered, and the answer is yes.",
}

_MANY = 3  # with so many rows of one criterion, a sentence gives their number instead of names

_NO_SUCCESS = "no success criterion was judged"

# The first line that applies decides. A line has its words, its verdict and its condition.
_LINES: tuple[tuple[str, Verdict, Callable[[Judged], bool]], ...] = (
    ("a deciding value is not finite", Verdict.DEBUG, lambda c: c.status == "not finite"),
    (
        "a control is missed or undecided",
        Verdict.DEBUG,
        lambda c: c.kind == "control" and c.status in ("missed", "undecided"),
    ),
    (
        "a failure criterion is met",
        Verdict.DEBUG,
        lambda c: c.kind == "failure" and c.status == "met",
    ),
    ("a kill criterion is met", Verdict.ABANDON, lambda c: c.kind == "kill" and c.status == "met"),
    (
        "a success criterion is missed",
        Verdict.REFUTED,
        lambda c: c.kind == "success" and c.status == "missed",
    ),
    (
        "a kill or a success criterion is undecided",
        Verdict.UNDECIDED,
        lambda c: c.kind in ("kill", "success") and c.status == "undecided",
    ),
)

# The whole rule in words, for the research log.
RULE: tuple[tuple[str, Verdict], ...] = (
    (_NO_SUCCESS, Verdict.DEBUG),
    *((words, verdict) for words, verdict, _ in _LINES),
    ("otherwise", Verdict.PROCEED),
)


def rule(criteria: Sequence[Judged]) -> tuple[Verdict, str]:
    """The verdict, and a sentence that gives the reason without measured numbers.

    Criteria of the arms "reported" and "proposal" are ignored. So are criteria of kind "context",
    unattainable criteria, and criteria that were not run.
    """
    deciding = [each for each in criteria if each.decides]
    if not any(each.kind == "success" for each in deciding):
        return Verdict.DEBUG, f"{_NO_SUCCESS}."
    for _, verdict, applies in _LINES:
        if found := [each for each in deciding if applies(each)]:
            return verdict, "; ".join(_clauses(found)) + "."
    ids = ", ".join(dict.fromkeys(each.id for each in deciding if each.kind == "success"))
    return Verdict.PROCEED, f"every success criterion is met ({ids}), and no failure or kill is."


def of_proposal(criteria: Sequence[Judged]) -> tuple[Verdict, str] | None:
    """Verdict and reason by the original criteria of the proposal; None if there are none."""
    own = [replace(each, arm="corrected") for each in criteria if each.arm == "proposal"]
    return rule(own) if own else None


def _clauses(found: Sequence[Judged]) -> Iterator[str]:
    """A clause for every row; if a criterion has many rows of one status, one clause for them."""
    by_criterion: dict[tuple[str, str, str], list[Judged]] = {}
    for each in found:
        by_criterion.setdefault((each.id, each.arm, each.status), []).append(each)
    for (id_, arm, status), rows in by_criterion.items():
        if len(rows) < _MANY or status == "undecided":
            yield from map(_clause, rows)
        else:
            yield f"{rows[0].kind} criterion {id_} ({arm}) is {status} in {len(rows)} rows"


def _clause(each: Judged) -> str:
    clause = f"{each.kind} criterion {each.name} is {each.status}"
    if each.status != "undecided":
        return clause
    if each.needed is None:
        return f"{clause}, and judging by this run no number of seeds within reach would decide it"
    return f"{clause}, and about {each.needed:,} seeds would decide it"
