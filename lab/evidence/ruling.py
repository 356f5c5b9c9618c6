"""The rule by which a verdict follows from the criteria of an experiment, in one place."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum

from lab.evidence.judged import Judged


class Ruling(StrEnum):
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
    Ruling.DEBUG: "cannot answer yet: something of the apparatus is broken, and is named",
    Ruling.ABANDON: "a criterion that ends the idea is met",
    Ruling.REFUTED: "answered, with evidence, and the answer is no",
    Ruling.UNDECIDED: "the interval holds the limit; how many seeds would decide is said",
    Ruling.PROCEED: "answered, and the answer is yes",
}

_MANY = 3  # rows of one criterion from which on a sentence does not name each

Test = Callable[[Judged], bool]

# The first line that applies decides. Each has its text in the log, its verdict and its condition.
LINES: tuple[tuple[str, Ruling, Test], ...] = (
    ("a deciding value is not finite", Ruling.DEBUG, lambda c: c.status == "not finite"),
    (
        "a control is missed or undecided",
        Ruling.DEBUG,
        lambda c: c.kind == "control" and c.status in ("missed", "undecided"),
    ),
    (
        "a failure criterion is met",
        Ruling.DEBUG,
        lambda c: c.kind == "failure" and c.status == "met",
    ),
    ("a kill criterion is met", Ruling.ABANDON, lambda c: c.kind == "kill" and c.status == "met"),
    (
        "a success criterion is missed",
        Ruling.REFUTED,
        lambda c: c.kind == "success" and c.status == "missed",
    ),
    (
        "a kill or a success criterion is undecided",
        Ruling.UNDECIDED,
        lambda c: c.kind in ("kill", "success") and c.status == "undecided",
    ),
)


def rule(criteria: Sequence[Judged]) -> tuple[Ruling, str]:
    """The verdict, and a sentence with the reason, without measured numbers.

    Criteria of the arms "reported" and "proposal" are ignored, as are those of kind "context",
    those that are unattainable and those that were not run.
    """
    deciding = [each for each in criteria if each.decides]
    if not any(each.kind == "success" for each in deciding):
        return Ruling.DEBUG, "no success criterion was judged."
    for _, ruling, applies in LINES:
        if found := [each for each in deciding if applies(each)]:
            return ruling, "; ".join(_clauses(found)) + "."
    ids = ", ".join(dict.fromkeys(each.id for each in deciding if each.kind == "success"))
    return Ruling.PROCEED, f"every success criterion is met ({ids}), and no failure or kill is."


def of_proposal(criteria: Sequence[Judged]) -> tuple[Ruling, str] | None:
    """The verdict by the proposal's original criteria; None if there are none."""
    own = [replace(each, arm="corrected") for each in criteria if each.arm == "proposal"]
    return rule(own) if own else None


def _clauses(found: Sequence[Judged]) -> Iterator[str]:
    """A clause for every row; one for many rows of the same criterion."""
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
        return f"{clause}, and by what was seen no number of seeds within reach would decide it"
    return f"{clause}, and about {each.needed:,} seeds would decide it"
