"""Explanations of the verdicts, for readers who have not read the rule."""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from lab.evidence import SCHEMA, report, rule_of_schema_1, verdict
from lab.evidence.rule_of_schema_1 import VerdictOfSchema1
from lab.evidence.verdict import MEANING
from lab.records.log.markup import escape, table

Word = TypeVar("Word", bound=StrEnum)  # the verdicts of one rule

MEANING_OF_SCHEMA_1 = {
    VerdictOfSchema1.ABANDON: (
        "The answer is no, with evidence: a criterion that was to end the idea is met."
    ),
    VerdictOfSchema1.INCONCLUSIVE: (
        "The run is not finished: nothing that decides was measured, or a value is not a number."
    ),
    VerdictOfSchema1.DEBUG: (
        "The idea may be refuted, a rival too good, or the run too short: the finding and the "
        "doubts say which."
    ),
    VerdictOfSchema1.PROCEED: "The question is answered, and the answer is yes.",
}

HEAD = ("verdict", "what it means", "when (the first line that applies)")

_INTRODUCTION = """\
A criterion whose interval contains the limit is undecided. One that is unattainable or not run
decides nothing."""

_INTRODUCTION_OF_SCHEMA_1 = "Earlier notebooks follow an earlier rule:"

_IN_DOUBT = """\
**In doubt** beside a verdict means that the rule gives it, but something known speaks against it:
the sentences below, written by hand in `doubts.yaml`."""


def explained(schemas: Collection[int]) -> str:
    """A table of verdicts for every rule that a record follows, the current rule first.

    Args:
        schemas: the schemas of the records; if there are none, the current rule is explained.
    """
    parts = []
    if report.SCHEMA in schemas or not schemas:
        parts += [_INTRODUCTION, _table(MEANING, verdict.RULE)]
    if SCHEMA in schemas:
        parts += [_INTRODUCTION_OF_SCHEMA_1] if parts else []
        parts += [_table(MEANING_OF_SCHEMA_1, rule_of_schema_1.RULE)]
    return "\n\n".join([*parts, _IN_DOUBT])


def _table(meaning: Mapping[Word, str], rule: Sequence[tuple[str, Word]]) -> str:
    """A row for every verdict, with the lines of the rule that lead to it."""
    cases: dict[Word, list[str]] = {each: [] for each in meaning}
    for order, (case, found) in enumerate(rule, 1):
        cases[found].append(f"{order}. {escape(case)}")
    rows = [(f"**{each}**", escape(meaning[each]), "<br>".join(cases[each])) for each in meaning]
    return table(HEAD, rows)
