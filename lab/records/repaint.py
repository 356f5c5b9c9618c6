"""Draws the pictures of executed notebooks anew, from the figures that they hold.

    python -m lab.records.repaint executed/*.ipynb

A picture is another form of a figure that a run has made. When the way in which pictures are drawn
changes, this brings those of committed results up to date; every number stays as it was.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from lab import files
from lab.plots.render import PICTURE, PLOTLY, bundle
from lab.plots.twin import Undrawable


def repaint(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Replace the picture of every figure in an executed notebook.

    Returns:
        How many pictures are another one now, and how many figures could not be drawn and keep what
        they had.

    Raises:
        OSError: the file cannot be read or written.
        nbformat.ValidationError, ValueError: it is no notebook.
    """
    notebook = nbformat.read(path, as_version=4)
    changed = refused = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if PLOTLY not in output.get("data", {}):
                continue
            try:
                changed += _repainted(output)
            except Undrawable:
                refused += 1
    if changed:
        files.write_text(path, nbformat.writes(notebook) + "\n")
    return changed, refused


def _repainted(output: Any) -> bool:
    """Give an output the picture of its figure; says whether it was another one before."""
    data, metadata = bundle(output["data"][PLOTLY])
    before = output["data"].get(PICTURE, "")
    output["data"][PICTURE] = data[PICTURE]
    output["metadata"] = {**output.get("metadata", {}), **metadata}
    return bool("".join(before).strip() != data[PICTURE].strip())


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; says of every notebook what it did."""
    parser = argparse.ArgumentParser(prog="python -m lab.records.repaint", description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path, help="executed notebooks")
    for path in parser.parse_args(arguments).notebooks:
        changed, refused = repaint(path)
        print(f"{path}: {changed} pictures drawn anew, {refused} figures cannot be drawn")


if __name__ == "__main__":
    main()
