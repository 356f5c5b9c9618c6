"""Doubts about committed results: what has changed since a run, kept by hand until it is repeated.

They stand in `doubts.yaml` beside the executed notebooks, and the research log shows them beside
the verdicts:

    "004":
      - since: 1a2b3c4
        doubt: the normaliser changed

`since` is the commit or the date (2025-12-31) of the change. Nothing adds or removes a doubt but
whoever edits the file.
"""

import datetime
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "doubts.yaml"
LONGEST = 300  # characters of one sentence
COMMIT = re.compile(r"[0-9a-f]{7,40}")


class DoubtError(ValueError):
    """The file of doubts says something that cannot be; the message is one sentence with where."""


@dataclass(frozen=True)
class Doubt:
    """Why the result of an experiment may no longer hold, and since when."""

    since: str
    doubt: str

    def __str__(self) -> str:
        return f"In doubt since {self.since}: {self.doubt.rstrip('.')}."


Doubts = Mapping[str, tuple[Doubt, ...]]


def read(folder: str | os.PathLike[str], known: Collection[str]) -> dict[str, tuple[Doubt, ...]]:
    """The doubts about experiments of a folder, by number; none if there is no such file.

    Args:
        folder: where the executed notebooks and `doubts.yaml` are.
        known: the numbers of the experiments that have a notebook there.

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
        if number not in known:
            raise DoubtError(
                f"{path} doubts experiment {number}, which has no notebook in that folder: "
                f"it has {', '.join(sorted(known)) or 'none'}"
            )
    return {number: _doubts(path, number, entries[number]) for number in sorted(entries)}


def _content(path: Path) -> dict[str, Any]:
    # Imported here, because most folders have no such file, and the library does without pyyaml.
    from lab.records import plain_yaml

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
    if not isinstance(value, dict) or set(value) != {"since", "doubt"}:
        raise DoubtError(f"{where}: a doubt has the entries since and doubt, and no others")
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
    return Doubt(since, doubt.strip())


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
