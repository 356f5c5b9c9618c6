"""The page that `make lab` opens: the README, with a list of all notebooks and their questions.

From a shell, in the root of the project:

    python -m lab.records.start_page

writes START.md there. git ignores this file, because `make lab` writes it every time.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from lab.files import write_text

PAGE = "START.md"

# The first line of a notebook's text: "# 004 · Can it continue an oscillation?"
HEADING = re.compile(r"#\s+(?:(?:\d{3}|NNN)\s*·\s*)?(.+)")


def page(root: Path) -> str:
    """Markdown: README of the project at `root`, with its notebooks listed after the introduction.

    Raises:
        FileNotFoundError: there is no README.md.
    """
    readme = (root / "README.md").read_text("utf-8")
    title, introduction, rest = [*readme.split("\n\n", 2), "", ""][:3]
    return "\n\n".join([title, introduction, _experiments(root), "## README", rest])


def question(source: str) -> str:
    """The question of a notebook, on one line; empty if the notebook has no text.

    This is the heading if that is a question; otherwise the first question in its first text cell;
    otherwise the heading, whatever it says.

    Args:
        source: a notebook in py:percent format.
    """
    lines = list(_first_text(source))
    heading = next((match[1] for line in lines if (match := HEADING.fullmatch(line))), "")
    if heading.endswith("?"):
        return heading
    prose = " ".join(line for line in lines if not HEADING.fullmatch(line)).replace("**", "")
    # A sentence begins at the start of the text, or after a punctuation mark that ends one.
    asked = re.search(r"(?:^|(?<=[.!?:] ))[^.!?:]+\?(?=\s|$)", prose)
    sentence = asked[0].strip() if asked else heading
    return sentence[:1].upper() + sentence[1:]


def main() -> int:
    """The command line; returns the exit status."""
    try:
        write_text(PAGE, page(Path()))
    except OSError as error:
        print(f"{PAGE} cannot be written: {error}", file=sys.stderr)
        return 1
    return 0


def _experiments(root: Path) -> str:
    notebooks = sorted((root / "notebooks").glob("[0-9][0-9][0-9]_*.py"))
    rows = [_row(root, path) for path in notebooks]
    return "\n".join(
        [
            "## Start here",
            "",
            "Open a notebook, read its first screen, then choose *Run*, *Run All Cells*. What has "
            "been found so far is in the [research log](executed/README.md).",
            "",
            "| | notebook | result |",
            "| --- | :--- | --- |",
            *rows,
        ]
    )


def _row(root: Path, notebook: Path) -> str:
    number = notebook.name[:3]
    executed = root / "executed" / f"{number}.ipynb"
    result = f"[executed]({_address(root, executed)})" if executed.exists() else "not run yet"
    asked = question(notebook.read_text("utf-8")) or notebook.name
    asked = re.sub(r"[|\[\]]", r"\\\g<0>", asked)
    return f"| {number} | [{asked}]({_address(root, notebook)}) | {result} |"


def _address(root: Path, path: Path) -> str:
    return quote(path.relative_to(root).as_posix())


def _first_text(source: str) -> Iterator[str]:
    """Lines of the first Markdown cell, without the comment characters."""
    cells = re.split(r"^# %%", source, flags=re.MULTILINE)[1:]
    cell = next((each for each in cells if each.startswith(" [markdown]")), "")
    for line in cell.splitlines()[1:]:
        if line.startswith("#"):
            yield line[1:].strip()


if __name__ == "__main__":
    sys.exit(main())
