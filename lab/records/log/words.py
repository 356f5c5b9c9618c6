"""The words of verdicts, explained for who has not read the rule."""

from lab import evidence
from lab.evidence import Verdict
from lab.records.log.markup import escape, table

# What each word answers, and what a reader may conclude.
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
IN_DOUBT = (
    "**in doubt**, beside a verdict",
    "answered by the record, disputed since",
    "The rule gives this verdict, and something that is known speaks against it: the sentences say "
    "what, with numbers. `doubts.yaml` keeps them by hand until the experiment is written again.",
)


def explained() -> str:
    """The table of words, in the order in which the rule comes to them."""
    rows = [
        (f"**{verdict}**", *MEANING[verdict], f"{order}. {escape(case)}")
        for order, (case, verdict) in enumerate(evidence.RULE, 1)
    ]
    head = ("word", "the question is", "what that means", "when, the first that applies")
    return table(head, [*rows, (*IN_DOUBT, "")])
