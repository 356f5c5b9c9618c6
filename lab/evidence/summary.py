"""What a reader in a hurry learns of one experiment: question, finding, what comes next."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.evidence.values import check_text, check_type, finite

# Characters. Findings are meant to be shorter, and have room for numbers that come out long: the
# summary is made at the end of a run, and should not lose it.
LONGEST = {"question": 140, "finding": 400, "settles": 200, "blocked_by": 80, "figure": 200}
IMPACTS = (1, 2, 3, 4, 5)
TAG = re.compile(r"[a-z0-9][a-z0-9 -]{0,29}")


@dataclass(frozen=True)
class Summary:
    """The summary of one run; make it with `summary`."""

    question: str
    finding: str
    settles: str
    tags: tuple[str, ...]
    impact: int
    cost_h: float
    blocked_by: str
    figure: str

    def record(self) -> dict[str, Any]:
        """The summary as plain JSON values, which `read` takes back."""
        return {**dataclasses.asdict(self), "tags": list(self.tags)}


def summary(
    *,
    question: str,
    finding: str,
    settles: str,
    tags: Sequence[str],
    impact: int,
    cost_h: float,
    blocked_by: str = "",
    figure: str = "",
) -> Summary:
    """A checked summary.

    Args:
        question: one sentence that ends in a question mark.
        finding: one sentence with its number, formatted from what this run measured.
        settles: one sentence: the run that would settle what is open, or what comes next.
        tags: lower-case words to find it by.
        impact: from 1 to 5, how much that next run could change what is done afterwards.
        cost_h: hours that it takes, of people and of two cores together, above 0.
        blocked_by: what has to be there first; empty if nothing is missing.
        figure: title of the figure that shows the finding; the first of the notebook if empty.

    Raises:
        TypeError: a text is not text, or impact and cost are no numbers.
        ValueError: a sentence is empty, too long, of several lines, without its question mark,
            its number or its full stop; a tag, the impact or the cost is not as above.
    """
    sentences = {"question": question, "finding": finding, "settles": settles}
    for name, text in sentences.items():
        check_text(text, f"{name} of the summary")
    for name, text in {**sentences, "blocked_by": blocked_by, "figure": figure}.items():
        _check_line(name, text)
    check_question(question)
    _check_ends(finding, settles)
    if isinstance(impact, bool) or impact not in IMPACTS:
        raise ValueError(f"impact of the summary is {impact!r}; it is a whole number from 1 to 5")
    hours = finite(cost_h, "cost_h of the summary")
    if hours <= 0:
        raise ValueError(f"cost_h of the summary is {hours}; it is a number of hours above 0")
    return Summary(
        question, finding, settles, _tags(tags), int(impact), hours, blocked_by, figure
    )  # fmt: skip


def check_question(question: str) -> None:
    """A question that a summary can have.

    Raises:
        TypeError, ValueError: it is no text of one line that ends in a question mark.
    """
    _check_line("question", question)
    if not question.endswith("?"):
        raise ValueError(f"question of the summary must end in a question mark: {question!r}")


def read(stored: Any) -> Summary:
    """A summary as it stands in a record.

    Raises:
        ValueError: a field is missing, unknown or not as `summary` wants it.
    """
    check_type(stored, dict, "summary of the record")
    if odd := stored.keys() ^ {field.name for field in dataclasses.fields(Summary)}:
        names = ", ".join(sorted(map(str, odd)))
        raise ValueError(f"summary of the record has fields missing or unknown: {names}")
    try:
        return summary(**stored)
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
