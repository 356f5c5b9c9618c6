"""Doubts about committed results: what has changed since a run, kept by hand until it is repeated.

They stand in `doubts.yaml` beside the executed notebooks, and the research log shows them beside
the verdicts:

    "004":
      - since: 1a2b3c4
        doubt: the normaliser changed since this run
        about: run
      - since: 2025-12-31
        doubt: S2 is met by a model that is zero after step 128

`since` is the commit or the date of the change. `about: run` marks what speaks against the
committed run alone, and is over when that is repeated; a doubt without it is about the finding, and
is shown in new runs as well. Nothing adds or removes a doubt but whoever edits the file.
"""

import datetime
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.files import PROJECT

FILE = "doubts.yaml"
LONGEST = 300  # characters of one sentence
SUBJECTS = ("finding", "run")
COMMIT = re.compile(r"[0-9a-f]{7,40}")


class DoubtError(ValueError):
    """The file of doubts says something that cannot be; the message is one sentence with where."""


@dataclass(frozen=True)
class Doubt:
    """Why the result of an experiment may no longer hold, and since when.

    Attributes:
        since: a commit or a date.
        doubt: one sentence.
        about: one of `SUBJECTS`, the committed run alone or the finding, whichever run it is of.
    """

    since: str
    doubt: str
    about: str = "finding"

    @property
    def sentence(self) -> str:
        """The doubt with its full stop."""
        return f"{self.doubt.rstrip('.')}."

    def __str__(self) -> str:
        return f"In doubt since {self.since}: {self.sentence}"


Doubts = Mapping[str, tuple[Doubt, ...]]


def read(
    folder: str | os.PathLike[str], known: Collection[str] | None = None
) -> dict[str, tuple[Doubt, ...]]:
    """The doubts about experiments of a folder, by number; none if there is no such file.

    Args:
        folder: where the executed notebooks and `doubts.yaml` are.
        known: the numbers of the experiments that have a notebook there; not checked if None.

    Raises:
        DoubtError: the file is not plain YAML; an experiment is unknown; or a doubt lacks its
            sentence or its commit or date.
        OSError: the file is there and cannot be read.
    """
    path = Path(folder, FILE)
    if not path.exists():
        return {}
    entries = _content(path)
    for number in entries:
        if known is not None and number not in known:
            raise DoubtError(
                f"{path} doubts experiment {number}, which has no notebook in that folder: "
                f"it has {', '.join(sorted(known)) or 'none'}"
            )
    return {number: _doubts(path, number, entries[number]) for number in sorted(entries)}


def _content(path: Path) -> dict[str, Any]:
    # Imported here, because most folders have no such file, and the library does without pyyaml.
    from lab import plain_yaml

    if not path.is_file():
        raise DoubtError(f"{path} is not a file")
    try:
        return plain_yaml.load_map(path.read_bytes().decode(), str(path))
    except plain_yaml.EmptyError:
        return {}
    except UnicodeDecodeError:
        raise DoubtError(f"{path} is not UTF-8: save it as UTF-8") from None
    except plain_yaml.PlainError as error:
        raise DoubtError(str(error)) from None


def _doubts(path: Path, number: str, value: Any) -> tuple[Doubt, ...]:
    if not isinstance(value, list) or not value:
        raise DoubtError(f"{path}, experiment {number}: write a list, of since and doubt each")
    return tuple(_doubt(f"{path}, experiment {number}", each) for each in value)


def _doubt(where: str, value: Any) -> Doubt:
    if not isinstance(value, dict) or set(value) - {"about"} != {"since", "doubt"}:
        raise DoubtError(
            f"{where}: a doubt has the entries since and doubt, perhaps about, and no others"
        )
    since, doubt = value["since"], value["doubt"]
    if not isinstance(since, str) or not (COMMIT.fullmatch(since) or _is_date(since)):
        raise DoubtError(
            f'{where}: since is {since!r}, and must be a commit in quotes, as in "1a2b3c4", or a '
            "date, as in 2025-12-31"
        )
    if not isinstance(doubt, str) or not doubt.strip(" .") or not doubt.isprintable():
        raise DoubtError(f"{where}: the doubt is {doubt!r}, and must be a sentence on one line")
    if len(doubt) > LONGEST:
        raise DoubtError(f"{where}: a doubt of {len(doubt)} characters is no sentence")
    return Doubt(since, doubt.strip(), _about(where, doubt, value.get("about", "finding")))


def _about(where: str, doubt: str, about: Any) -> str:
    if about not in SUBJECTS:
        raise DoubtError(f"{where}: about is {about!r}, and is one of {', '.join(SUBJECTS)}")
    # It would be shown in new runs, of which it is not true.
    if about == "finding" and "since this run" in doubt.lower():
        raise DoubtError(f'{where}: a doubt that says "since this run" needs the line about: run')
    return str(about)


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def sentences(experiment: str, folder: str | os.PathLike[str] = PROJECT / "executed") -> list[str]:
    """The doubts about a finding, a sentence each, as they stand in the folder's doubts.yaml.

    Doubts about the committed run (`about: run`) say nothing about another run and are left out.
    A file that cannot be used becomes a sentence: it must not stop a run that took minutes.
    """
    if not Path(folder, "doubts.yaml").exists():
        return []
    try:
        found = read(folder).get(experiment, ())
    except (ImportError, OSError, ValueError):
        return ["doubts.yaml cannot be used: python -m lab.research_log --write executed says why."]
    return [str(doubt) for doubt in found if doubt.about == "finding"]
