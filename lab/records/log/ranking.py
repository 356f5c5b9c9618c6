"""What to run next: a ranking of the runs that, by the notebooks, would settle each question."""

from collections.abc import Iterable

from lab import evidence
from lab.records.log.experiment import Experiment
from lab.records.log.markup import escape, link, table

HEAD = ("", "experiment", "what to run", "impact, 1 to 5", "cost, hours", "blocked by")


def order(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Experiments that declare a next run: unblocked first, then by impact, then the cheaper first.

    Experiments that agree in all three are ordered by number.
    """
    declared = [each for each in experiments if each.summary]
    return sorted(declared, key=lambda each: (_place(each.summary), each.number, each.path))


def ranking(experiments: Iterable[Experiment]) -> str:
    """The table, best first."""
    rows = [_row(place, each) for place, each in enumerate(order(experiments), 1)]
    return table(HEAD, rows) if rows else "No notebook declares a next run yet."


def _place(summary: evidence.Summary | None) -> tuple[bool, int, float]:
    assert summary is not None  # `order` returns only experiments with a summary
    return bool(summary.blocked_by), -summary.impact, summary.cost_h


def _row(place: int, each: Experiment) -> tuple[str, ...]:
    summary = each.summary
    assert summary is not None  # as above
    return (
        str(place),
        link(f"log/{each.name}.md", each.number),
        escape(summary.settles),
        str(summary.impact),
        evidence.shown(summary.cost_h, 2),
        escape(summary.blocked_by) or "nothing",
    )
