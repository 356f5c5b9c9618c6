"""A short summary of one experiment: question, finding, and what comes next."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.evidence.values import check_text, check_type, finite

# The most characters of each text. Findings should be shorter. The limit leaves room for long
# numbers, because an error in the summary, at the end of a run, would lose the run.
LONGEST = {"question": 140, "finding": 400, "settles": 200, "blocked_by": 80, "figure": 200}
IMPACTS = (1, 2, 3, 4, 5)
TAG = re.compile(r"[a-z0-9][a-z0-9 -]{0,29}")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The summary of one run, checked when it is created.

    Args:
        question: one sentence that ends in a question mark.
        finding: one sentence with a number, formatted from what this run measured.
        settles: one sentence: the run that would settle the open question, or what comes next.
        tags: lower-case words for searching.
        impact: from 1 to 5, how much the next run could change what is done afterwards.
        cost_h: total hours of people and of two cores for the next run, above 0.
        blocked_by: what is needed first; empty if nothing is missing.
        figure: title of the figure that shows the finding; if empty, the first of the notebook.

    Raises:
        TypeError: a text is not text, or impact or cost is not a number.
        ValueError: a sentence is empty, too long, on several lines, or lacks its question mark, its
            number or its full stop; or a tag, the impact or the cost is not as above.
    """

    question: str
    finding: str
    settles: str
    tags: Sequence[str]
    impact: int
    cost_h: float
    blocked_by: str = ""
    figure: str = ""

    def __post_init__(self) -> None:
        for name in ("question", "finding", "settles"):
            check_text(getattr(self, name), f"{name} of the summary")
        for name in LONGEST:
            _check_line(name, getattr(self, name))
        check_question(self.question)
        _check_ends(self.finding, self.settles)
        if isinstance(self.impact, bool) or self.impact not in IMPACTS:
            raise ValueError(
                f"impact of the summary is {self.impact!r}; it is a whole number from 1 to 5"
            )
        hours = finite(self.cost_h, "cost_h of the summary")
        if hours <= 0:
            raise ValueError(f"cost_h of the summary is {hours}; it is a number of hours above 0")
        plain = {"tags": _tags(self.tags), "impact": int(self.impact), "cost_h": hours}
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def record(self) -> dict[str, Any]:
        """The summary as plain JSON values, which `read` takes back."""
        return {**dataclasses.asdict(self), "tags": list(self.tags)}


def check_question(question: str) -> None:
    """A question that a summary can have.

    Raises:
        TypeError, ValueError: it is no text of one line that ends in a question mark.
    """
    _check_line("question", question)
    if not question.endswith("?"):
        raise ValueError(f"question of the summary must end in a question mark: {question!r}")


def read(stored: Any) -> Summary:
    """A summary as it is stored in a record.

    Raises:
        ValueError: a field is missing or unknown, or does not satisfy `Summary`.
    """
    check_type(stored, dict, "summary of the record")
    if odd := stored.keys() ^ {field.name for field in dataclasses.fields(Summary)}:
        names = ", ".join(sorted(map(str, odd)))
        raise ValueError(f"summary of the record has fields missing or unknown: {names}")
    try:
        return Summary(**stored)
    except (TypeError, ValueError) as error:
        raise ValueError(f"summary of the record cannot be read: {error}") from error


def _check_line(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} of the summary must be text, got a {type(text).__name__}")
    if not text.isprintable():
        raise ValueError(f"{name} of the summary must stand on one line: {text!r}")
    if len(text) > LONGEST[name]:
        raise ValueError(
            f"{name} of the summary has {len(text)} characters, more than {LONGEST[name]}: a "
            "reader has two minutes for all experiments"
        )


def _check_ends(finding: str, settles: str) -> None:
    for name, text in (("finding", finding), ("settles", settles)):
        if not text.endswith("."):
            raise ValueError(f"{name} of the summary must end in a full stop: {text!r}")
    if not re.search(r"\d", finding):
        raise ValueError(f"finding of the summary has no number in it: {finding!r}")


def _tags(tags: object) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Sequence) or not tags:
        raise ValueError(f"tags of the summary must be a list of words, got {tags!r}")
    for tag in tags:
        if not isinstance(tag, str) or not TAG.fullmatch(tag):
            raise ValueError(f"tag {tag!r} of the summary must be a short lower-case word")
    return tuple(dict.fromkeys(tags))
