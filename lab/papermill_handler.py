"""Lets the stock papermill command read py:percent notebooks and write results in one piece.

Only papermill imports this, half-way through its own import, through the entry point `notebooks/`
in pyproject.toml. An import before papermill's would be circular.

papermill picks a handler by the first characters of a path, and one of its own serves all paths
that no other claims. That one is taught to read .py here, so that ./notebooks, ../notebooks and
absolute paths work as well, and papermill's --cwd reaches it as before.
"""

import ast
import json
import re
import warnings
from pathlib import Path
from typing import Any

import click
from papermill.iorw import LocalHandler, papermill_io

from lab.executed import is_finished, previous
from lab.files import write_bytes, write_text

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


class NotebookError(click.ClickException):
    """A notebook cannot be read or written; papermill's command shows the message alone."""


class PercentHandler(LocalHandler):
    """papermill's handler of local files, for which a .py file is a notebook."""

    def read(self, path: str) -> str:
        """The text of a file, as notebook JSON where it is a .py.

        Raises:
            NotebookError: a .py is not there, is not valid Python, or has no `# %%` cell.
        """
        if not path.endswith(".py"):
            return str(super().read(path))
        # An output folder has no extension, and is welcome for these notebooks.
        warnings.filterwarnings("ignore", "the file is not specified with any extension")
        try:
            source = super().read(path)
        except FileNotFoundError:
            raise NotebookError(f"there is no notebook {path}") from None
        return notebook_json(source, path)

    def write(self, buf: str, path: str) -> None:
        """Write a result: whole or not at all if it came from a .py, else as papermill does.

        A .py notebook may go to a folder, and is named after its source there. A finished result
        is kept beside the run that replaces it until that has finished too.

        Raises:
            NotebookError: the folder to write to does not exist, or a .py would be written over.
        """
        target = Path(self._cwd or ".", path)
        metadata = _metadata(buf)
        source = str(metadata.get("papermill", {}).get("input_path", ""))
        if target.is_dir() and source.endswith(".py"):
            target /= f"{Path(source).stem}.ipynb"
        # A terminal or a pipe has no name to be renamed to.
        if "jupytext" not in metadata or (target.exists() and not target.is_file()):
            super().write(buf, path)
            return
        if target.suffix == ".py":
            raise NotebookError(f"{path} is no place for a result: name a file that ends in .ipynb")
        try:
            _replace(target, buf)
        except FileNotFoundError as error:
            raise NotebookError(str(error)) from None


def notebook_json(source: str, path: str) -> str:
    """The notebook that a py:percent text describes, as JSON, the same for the same text.

    Raises:
        NotebookError: the text is not valid Python, or has no `# %%` cell.
    """
    # Slow to import, and needed by no other notebook.
    import jupytext
    import nbformat

    _require_percent(source, path)
    notebook = jupytext.reads(source, fmt="py:percent")
    notebook.metadata["kernelspec"] = {**KERNEL, **notebook.metadata.get("kernelspec", {})}
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i}"
    return str(nbformat.writes(notebook))


def _require_percent(source: str, path: str) -> None:
    if not re.search(r"^# ?%%", source, re.MULTILINE):
        raise NotebookError(f"{path} is not a py:percent notebook: no line starts a cell with # %%")
    try:
        compile(source, path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    except SyntaxError as error:
        raise NotebookError(f"{path}, line {error.lineno}: {error.msg}") from None


def _replace(target: Path, buf: str) -> None:
    """Write how far a run has come; the finished result before it is kept until it has finished."""
    kept = previous(target)
    if is_finished(buf):
        write_text(target, buf)
        kept.unlink(missing_ok=True)
        return
    if target.exists() and is_finished(content := target.read_bytes()):
        write_bytes(kept, content)
    write_text(target, buf)


def _metadata(buf: str) -> dict[str, Any]:
    """Metadata of a notebook, empty for any other text."""
    try:
        return dict(json.loads(buf)["metadata"])
    except (KeyError, TypeError, ValueError):
        return {}


# papermill warns of every extension but .ipynb and .json, elsewhere rightly so.
warnings.filterwarnings(
    "ignore", r"The specified file \((?!\w+://).*\.py\) does not end in one of", UserWarning
)

handler = papermill_io.get_handler("local")
# papermill falls back on the handler that was registered first, which cannot be replaced; and it
# sets the working directory on that very object.
handler.__class__ = PercentHandler
