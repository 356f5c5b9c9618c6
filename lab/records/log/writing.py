"""Writes the log of a folder: README.md, and beside it log/ with pages, pictures and history."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab import files
from lab.evidence import doubts
from lab.records import executed
from lab.records.executed import Entry, number_of
from lab.records.log import experiment, history
from lab.records.log.experiment import Experiment
from lab.records.log.front import front_page
from lab.records.log.history import History
from lab.records.log.page import MARK, page

FOLDER = "log"


def write(folder: str | os.PathLike[str], *, with_git: bool = False) -> list[Entry]:
    """Write the research log of a folder, and return the entries it lists.

    The runs in the folder are added to the history first. Pages of notebooks that no longer exist
    are removed; files that the log did not write are left alone.

    Args:
        folder: folder of executed notebooks.
        with_git: whether to add the runs in the history of git.

    Raises:
        NotADirectoryError: there is no such folder.
        DoubtError: its doubts.yaml cannot be used, as in `lab.evidence.doubts.read`.
        HistoryError: its history cannot be used, or `with_git` is set outside a git checkout.
    """
    place = Path(folder)
    entries = executed.read(place)
    doubted = doubts.read(place, numbers(entries))
    kept = history.read(place / FOLDER)
    kept = history.joined(kept, history.from_git(place)) if with_git else kept
    found = experiments(place, entries, doubted, kept)
    kept = history.joined(kept, *({each.number: [each.run]} for each in found))
    found = experiments(place, entries, doubted, kept)
    _write_all(place, found, [entry for entry in entries if entry.record is None], kept)
    return entries


def experiments(
    folder: Path, entries: Iterable[Entry], doubted: doubts.Doubts, runs: History
) -> list[Experiment]:
    """The experiments of a folder that have a result."""
    complete = [(entry, entry.record) for entry in entries if entry.record is not None]
    numbered = [(entry, record["experiment"]) for entry, record in complete]
    return [
        experiment.of(folder, entry, tuple(doubted.get(number, ())), runs.get(number, ()))
        for entry, number in numbered
    ]


def numbers(entries: Sequence[Entry]) -> set[str]:
    """The numbers of the experiments that have a notebook, with or without a result."""
    named = {number for entry in entries if (number := number_of(entry.path)) is not None}
    return named | {entry.record["experiment"] for entry in entries if entry.record is not None}


def _write_all(
    place: Path, found: Sequence[Experiment], others: Sequence[Entry], kept: History
) -> None:
    log = place / FOLDER
    log.mkdir(exist_ok=True)
    contents: dict[str, bytes] = {}
    for each in found:
        contents[f"{each.name}.md"] = page(each).encode()
        if each.picture:
            contents[f"{each.name}.png"] = each.picture.content
    for path in _generated(log):
        if path.name not in contents:
            path.unlink()
    for name, content in contents.items():
        files.write_bytes(log / name, content)
    history.write(log, kept)
    files.write_text(place / "README.md", front_page(found, others))


def _generated(log: Path) -> list[Path]:
    """The pages that an earlier log has written, and their pictures."""
    pages = [path for path in sorted(log.glob("*.md")) if path.read_bytes().startswith(_MARK)]
    pictures = [path.with_suffix(".png") for path in pages]
    return [*pages, *(path for path in pictures if path.exists())]


_MARK = MARK.encode()
