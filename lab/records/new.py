"""Creates a new experiment, its notebook and its parameter files, from the template.

From a shell, in the root of the project:

    python -m lab.records.new 300 gated_rotations

writes notebooks/300_gated_rotations.py, params/300.yaml and params/smoke/300.yaml.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.files import write_text
from lab.records.executed import TEMPLATE, TEMPLATE_QUESTION, TEMPLATE_TITLE
from lab.records.parameters import shorten

EXAMPLE = "make new NN=300 NAME=gated_rotations"


class NewError(ValueError):
    """An experiment cannot be created; the message is one sentence that says why."""


def new(root: Path, number: str, name: str) -> list[Path]:
    """Write the files of a new experiment, and return their paths.

    Args:
        root: top folder of the project.
        number: three digits that no experiment has yet.
        name: name in the notebook's file name, such as "gated_rotations"; its words become the
            title.

    Raises:
        NewError: the number or the name has the wrong form, a file with that number exists, or a
            template is missing. Nothing is written in these cases.
    """
    _check(root, number, name)
    texts = {
        root / "notebooks" / f"{number}_{name}.py": root / "notebooks" / "_template.py",
        root / "params" / f"{number}.yaml": root / "params" / "_template.yaml",
        root / "params" / "smoke" / f"{number}.yaml": root / "params" / "smoke" / "_template.yaml",
    }
    title = name.replace("_", " ").capitalize()
    filled = {path: _filled(template, number, title) for path, template in texts.items()}
    for path, text in filled.items():
        write_text(path, text)
    return list(filled)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: a number and a name; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if len(words) != 2:
            raise NewError(f"a number and a name are needed, as in {EXAMPLE}")
        for path in new(Path(), *words):
            print(path)
    except (NewError, OSError) as error:
        print(f"{error}.", file=sys.stderr)
        return 1
    return 0


def _check(root: Path, number: str, name: str) -> None:
    if not re.fullmatch(r"[0-9]{3}", number):
        raise NewError(f"NN is {shorten(number)}, and must be three digits, as in {EXAMPLE}")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise NewError(
            f"NAME is {shorten(name)}, and must be words of a-z and 0-9 with underscores between "
            f"them, as in {EXAMPLE}"
        )
    places = ("notebooks/{}_*.py", "params/{}.yaml", "params/smoke/{}.yaml", "executed/{}.ipynb")
    taken = [path for place in places for path in sorted(root.glob(place.format(number)))]
    if taken:
        there = taken[0].relative_to(root)
        raise NewError(f"{there} exists already: choose another number than {number}")


def _filled(template: Path, number: str, title: str) -> str:
    try:
        text = template.read_text("utf-8")
    except FileNotFoundError:
        raise NewError(f"there is no {template} to start from") from None
    for placeholder, value in (
        (TEMPLATE, number),
        (TEMPLATE_QUESTION, title),
        (TEMPLATE_TITLE, title),
    ):
        text = text.replace(placeholder, value)
    return text


if __name__ == "__main__":
    sys.exit(main())
