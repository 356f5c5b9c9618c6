"""Explanations of the verdicts, for readers who have not read the rule."""

from lab import evidence
from lab.evidence import Verdict, ruling
from lab.evidence.ruling import Ruling
from lab.records.log.markup import escape, table

# What each verdict says about the question, and what a reader may conclude.
MEANING = {
    Verdict.PROCEED: ("answered: yes", "What was asked for is there, in the runs that were made."),
    Verdict.ABANDON: (
        "answered: no",
        "Refuted with evidence: what was to end the idea, written down before, has happened.",
    ),
    Verdict.DEBUG: (
        "not answered by the word alone",
        "Something that was wanted is missing. That can be a refutation with evidence, a rival "
        "that was too good, or a run that was too short: the finding and the doubts say which.",
    ),
    Verdict.INCONCLUSIVE: (
        "not finished",
        "Nothing that decides was measured, or what was measured is not a number.",
    ),
}
# The same for experiments whose table of criteria was shown before the run.
RULINGS = {
    Ruling.DEBUG: "cannot be answered yet",
    Ruling.ABANDON: "answered: no, and the idea ends",
    Ruling.REFUTED: "answered: no",
    Ruling.UNDECIDED: "open: the numbers are too few",
    Ruling.PROCEED: "answered: yes",
}
IN_DOUBT = (
    "**in doubt**, beside a verdict",
    "answered by the record, disputed since",
    "The rule gives this verdict, and something that is known speaks against it: the sentences say "
    "what, with numbers. `doubts.yaml` keeps them by hand until the experiment is written again.",
)


def explained(*, planned: bool = False) -> str:
    """The table of verdicts, in the order in which the rule considers them.

    Args:
        planned: whether there are records whose criteria were shown before the run. Another rule
            applies to them, which a second table explains.
    """
    rows = [
        (f"**{verdict}**", *MEANING[verdict], f"{order}. {escape(case)}")
        for order, (case, verdict) in enumerate(evidence.RULE, 1)
    ]
    head = ("word", "the question is", "what that means", "when, the first that applies")
    first = table(head, [*rows, (*IN_DOUBT, "")])
    return f"{first}\n\n{_SECOND}\n\n{_of_rulings(head)}" if planned else first


_SECOND = """\
Records with criteria that were shown before the run, each with its statistic, follow this rule.
A criterion is undecided where its interval holds the limit; one that is unattainable or was not run
decides nothing."""


def _of_rulings(head: tuple[str, ...]) -> str:
    cases: dict[Ruling, list[str]] = {each: [] for each in RULINGS}
    for order, (case, found, _) in enumerate(ruling.LINES, 1):
        cases[found].append(f"{order}. {escape(case)}")
    cases[Ruling.PROCEED] = [f"{len(ruling.LINES) + 1}. otherwise"]
    rows = [
        (f"**{each}**", question, escape(ruling.MEANING[each]), "<br>".join(cases[each]))
        for each, question in RULINGS.items()
    ]
    return table(head, rows)
