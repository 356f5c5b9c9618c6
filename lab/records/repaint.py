"""Draws the pictures of executed notebooks again, from the figures stored in them.

    python -m lab.records.repaint executed/*.ipynb

A picture is a second form of a figure that a run has made. When the drawing of pictures changes,
this command updates those in committed results. No number changes.
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
        The number of pictures that have changed, and the number of figures that could not be drawn
        and keep their old picture.

    Raises:
        OSError: the file cannot be read or written.
        nbformat.ValidationError, ValueError: it is not a notebook.
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
    """Replace the picture in an output by that of its figure; returns whether it has changed."""
    data, metadata = bundle(output["data"][PLOTLY])
    before = output["data"].get(PICTURE, "")
    output["data"][PICTURE] = data[PICTURE]
    output["metadata"] = {**output.get("metadata", {}), **metadata}
    return bool("".join(before).strip() != data[PICTURE].strip())


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; prints for every notebook what has changed."""
    parser = argparse.ArgumentParser(prog="python -m lab.records.repaint", description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path, help="executed notebooks")
    for path in parser.parse_args(arguments).notebooks:
        changed, refused = repaint(path)
        print(f"{path}: {changed} pictures drawn anew, {refused} figures cannot be drawn")


if __name__ == "__main__":
    main()
