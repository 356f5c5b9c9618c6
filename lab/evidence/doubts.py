"""Doubts about committed results, which are written by hand, for example after a change of code.

They are stored in `doubts.yaml` beside the executed notebooks, and the research log shows them with
the verdicts:

    "004":
      - since: 1a2b3c4
        doubt: the normaliser changed since this run
        about: run
      - since: 2025-12-31
        doubt: S2 is met by a model that is zero after step 128

`since` is the commit or the date of the change. `about: run` marks a doubt that concerns only the
committed run and ends when the run is repeated. A doubt without it concerns the finding and is
shown in new runs as well. Doubts are added and removed only by editing the file.
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
LONGEST = 300  # the most characters of a doubt
SUBJECTS = ("finding", "run")
COMMIT = re.compile(r"[0-9a-f]{7,40}")


class DoubtError(ValueError):
    """The file of doubts is invalid; the message is one sentence that says where."""


@dataclass(frozen=True)
class Doubt:
    """A reason why the result of an experiment may not hold, and since when.

    Attributes:
        since: a commit or a date.
        doubt: one sentence.
        about: one of `SUBJECTS`: only the committed run, or the finding of any run.
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
    """The doubts about the experiments in a folder, by number; empty if there is no such file.

    Args:
        folder: the folder with the executed notebooks and `doubts.yaml`.
        known: numbers of the experiments that have a notebook there; if None, numbers are not
            checked.

    Raises:
        DoubtError: the file is not plain YAML, an experiment is unknown, or a doubt lacks its
            sentence or its commit or date.
        OSError: the file exists and cannot be read.
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
    # Imported here, because most folders have no such file, and the library does not need pyyaml.
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
    # Otherwise it would be shown in new runs, for which it is false.
    if about == "finding" and "since this run" in doubt.lower():
        raise DoubtError(f'{where}: a doubt that says "since this run" needs the line about: run')
    return str(about)


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def sentences(experiment: str, folder: str | os.PathLike[str] = PROJECT / "executed") -> list[str]:
    """The doubts about a finding in the folder's doubts.yaml, one sentence each.

    Doubts about the committed run (`about: run`) do not concern another run and are left out. For
    an invalid file, the result is a sentence about it, because an error would stop a run that took
    minutes.
    """
    if not Path(folder, "doubts.yaml").exists():
        return []
    try:
        found = read(folder).get(experiment, ())
    except (ImportError, OSError, ValueError):
        return ["doubts.yaml cannot be used: python -m lab.research_log --write executed says why."]
    return [str(doubt) for doubt in found if doubt.about == "finding"]
