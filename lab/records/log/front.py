"""The front page of the log: what was asked, what was found, what to run next."""

import re
from collections.abc import Iterable, Sequence

from lab.records.executed import Entry
from lab.records.log import ranking, words
from lab.records.log.experiment import Experiment
from lab.records.log.markup import address, duration, escape, link, picture, plain, seeds, table

# Largest size in pixels of a picture; a click on it opens the page of its experiment.
WIDEST, HIGHEST = 240, 170
# Browsers make a column only as wide as its words need. Without these, pictures would shrink and
# "in doubt" would be broken into two lines.
_WIDE, _ON_ONE_LINE = "&nbsp;" * 48, "&nbsp;" * 14

_MOST_WORDS = 38  # of a question and its finding: two minutes for a dozen experiments

_INTRODUCTION = """\
# Research log

Numbers and pictures lead to pages with all criteria, which were written before the run; a
[verdict](#what-the-words-mean) follows from them. This page is generated (`python -m
lab.research_log --write FOLDER`): do not edit it."""


def front_page(experiments: Sequence[Experiment], others: Sequence[Entry] = ()) -> str:
    """The page as Markdown.

    Args:
        experiments: the experiments with a result.
        others: entries without a result.
    """
    schemas = {each.record["schema"] for each in experiments}
    parts = [_INTRODUCTION, "## Findings", _findings(experiments)]
    parts += ["## Without a result", _unfinished(others)] if others else []
    parts += ["## What to run next", _ORDER, ranking.ranking(experiments)]
    parts += ["## What the words mean", _REPORTED, words.explained(schemas)]
    return "\n\n".join(parts) + "\n"


_ORDER = """\
Runs that nothing blocks first, then by impact, then by cost (hours of a person and of two idle
cores)."""

_REPORTED = """\
The arm `reported` and criteria of kind `context` decide no verdict."""


def _findings(experiments: Sequence[Experiment]) -> str:
    rows = [(_experiment(each), _text(each), _verdict(each)) for each in experiments]
    wide = _WIDE if any(each.picture for each in experiments) else ""
    head = (f"experiment{wide}", "question and finding", f"verdict{_ON_ONE_LINE}")
    return table(head, rows) if rows else "No notebook has a result yet."


def _experiment(each: Experiment) -> str:
    page = f"log/{each.name}.md"
    lines = [f"**{link(page, each.number)}**"]
    if each.picture:
        width = each.picture.width(WIDEST, HIGHEST)
        drawn = picture(f"log/{each.name}.png", each.picture.title or "A figure", width)
        lines.append(f"[{drawn}]({address(page)})")
    return "<br>".join(lines)


def _text(each: Experiment) -> str:
    left = _MOST_WORDS - len(each.question.split())
    lines = [f"<b>{plain(each.question)}</b>", escape(shortened(each.finding, left))]
    lines += [f"To settle it: {escape(each.summary.settles)}"] if each.summary else []
    return "<br>".join([*lines, f"<sub>{_run(each)}</sub>"])


def shortened(finding: str, most: int = _MOST_WORDS) -> str:
    """A finding of more words as far as the end of a sentence or clause; its page has all of it.

    The last end within so many words, or else the first one.
    """
    if len(finding.split()) <= most:
        return finding
    kept = [finding[: found.start()] for found in re.finditer(r"[.;](?=\s)", finding)]
    kept = [part for part in kept if part.count("(") == part.count(")")]
    fits = [part for part in kept if len(part.split()) <= most]
    return f"{(fits[-1:] or kept)[0]} …" if kept else finding


def _run(each: Experiment) -> str:
    """Running time, seeds, date, tags and link to the notebook."""
    record = each.record
    facts = [duration(record["runtime_s"]), seeds(record["seeds"]), each.started[:10]]
    facts += [", ".join(each.summary.tags)] if each.summary else []
    return " · ".join([*(plain(fact) for fact in facts if fact), link(each.path, "notebook")])


def _verdict(each: Experiment) -> str:
    verdict = f"**{escape(each.record['verdict'])}**"
    if not each.doubts:
        return verdict
    lines = "<br>".join(plain(doubt.sentence) for doubt in each.doubts)
    return f"{verdict}<details><summary>in doubt ({len(each.doubts)})</summary>{lines}</details>"


def _unfinished(entries: Iterable[Entry]) -> str:
    rows = [(link(entry.path), entry.status, escape(entry.detail)) for entry in entries]
    return table(("notebook", "status", "what happened"), rows)
