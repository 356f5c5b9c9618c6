"""Lets the stock papermill command read py:percent notebooks and write results atomically.

This module also installs `lab.params.papermill_checks`, which checks the parameters.

Only papermill imports this module, during its own import, through the entry point `notebooks/` in
pyproject.toml. Importing it before papermill would be circular.

papermill chooses a handler by the first characters of a path, and falls back on its own handler of
local files. This module extends that handler to read .py files, so that ./notebooks, ../notebooks
and absolute paths work as well, and papermill's --cwd still applies to it.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from papermill.iorw import LocalHandler, papermill_io
from papermill.models import Parameter
from papermill.translators import PythonTranslator, papermill_translators

from lab.arguments import shorten
from lab.files import write_bytes, write_text
from lab.params import papermill_checks
from lab.params.papermill_checks import NotebookError
from lab.params.parameters import ParameterError, declarations, is_declaration
from lab.records import made_of
from lab.records.executed import TEMPLATE, TEMPLATE_TITLE, is_finished, previous

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


# How the file name of an experiment begins.
NUMBER = re.compile(rf"(\d{{3}}|{TEMPLATE})_")

# Syntax of IPython that is not Python: %magic, !command, ?help, help?, x = !command.
IPYTHON = re.compile(r"\s*([%!?]|[\w., ]+=\s*[%!]|[%\w.]+\s*\?{1,2}\s*$)")


class PercentHandler(LocalHandler):
    """papermill's handler of local files, extended to treat a .py file as a notebook."""

    def read(self, path: str) -> str:
        """The text of a file; for a .py file, as notebook JSON.

        Raises:
            NotebookError: a .py file cannot be read, is not valid Python, has no `# %%` cell,
                declares its parameters wrongly, has another experiment number than its file name,
                or has the title of the template.
        """
        if not path.endswith(".py"):
            return str(super().read(path))
        from lab.records import papermill_saves  # not above: papermill is half imported there

        papermill_saves.install()
        # papermill warns of output paths without extension, but here they may be folders.
        warnings.filterwarnings("ignore", "the file is not specified with any extension")
        try:
            source = super().read(path)
        except FileNotFoundError:
            raise NotebookError(f"there is no notebook {path}") from None
        except UnicodeDecodeError:
            raise NotebookError(f"{path} is not UTF-8: save it as UTF-8") from None
        except OSError as error:
            raise NotebookError(f"{path} cannot be read: {error.strerror or error}") from None
        notebook = json.loads(notebook_json(source, path))
        # Read before anything runs: what changes while it does is not what it was made of.
        notebook["metadata"][made_of.KEY] = made_of.made_of(Path(self._cwd or ".", path).resolve())
        return json.dumps(notebook)

    def write(self, buf: str, path: str) -> None:
        """Write a result: atomically if it comes from a .py file, otherwise as papermill does.

        For a .py notebook, `path` may be a folder, in which the result is named after its source. A
        finished result is kept beside a new run until the new run has finished, too.

        Raises:
            NotebookError: the folder does not exist, or a .py file would be overwritten.
        """
        target = Path(self._cwd or ".", path)
        metadata = _metadata(buf)
        source = str(metadata.get("papermill", {}).get("input_path", ""))
        if target.is_dir() and source.endswith(".py"):
            target /= f"{Path(source).stem}.ipynb"
        # A terminal or a pipe cannot be replaced by renaming a file.
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
    """The notebook that a py:percent text describes, as JSON; equal texts give equal JSON.

    Raises:
        NotebookError: as in `PercentHandler.read`.
    """
    # Imported here because it is slow, and only .py notebooks need it.
    import jupytext
    import nbformat

    source = source.removeprefix("\ufeff")  # a byte-order mark, as some editors write
    tree = _parsed(source, path)
    notebook = jupytext.reads(source, fmt="py:percent")
    _require_sound(notebook.cells, tree, path)
    notebook.metadata["kernelspec"] = {**KERNEL, **notebook.metadata.get("kernelspec", {})}
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i}"
    return str(nbformat.writes(notebook))


def _parsed(source: str, path: str) -> ast.AST:
    if not re.search(r"^# ?%%", source, re.MULTILINE):
        raise NotebookError(f"{path} is not a py:percent notebook: no line starts a cell with # %%")
    try:
        return compile(source, path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    except SyntaxError as error:
        raise NotebookError(_syntax_error(source, path, error)) from None
    except ValueError as error:  # raised by older Pythons for a null byte
        raise NotebookError(f"{path}: {error}") from None
    except (MemoryError, RecursionError):
        raise NotebookError(f"{path} nests brackets too deeply for Python") from None


def _syntax_error(source: str, path: str, error: SyntaxError) -> str:
    place = f"{path}, line {error.lineno}"
    lines = source.splitlines()
    line = lines[error.lineno - 1] if error.lineno and error.lineno <= len(lines) else ""
    if not IPYTHON.match(line):
        return f"{place}: {error.msg}"
    written = line.strip()
    return (
        f"{place}: {shorten(written)} is IPython and no Python, which a .py must be: write it as a "
        f"comment, {shorten(f'# {written}')}, and it runs in the notebook"
    )


def _require_sound(cells: list[Any], tree: ast.AST, path: str) -> None:
    """Raise an error for cells that would stop or mislead the run later."""
    code = [cell for cell in cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    for cell in code:
        # `lab.parameters` sees the sources of cells, but not their tags.
        if tagged and cell not in tagged[:1] and is_declaration(cell.source):
            line = shorten(cell.source.strip().splitlines()[0])
            raise NotebookError(
                f"{path}: the cell that begins with {line} would be taken for the parameters cell, "
                "because it holds annotated assignments alone: drop an annotation"
            )
    if tagged and is_declaration(tagged[0].source):
        try:
            entries = declarations(tagged[0].source)
        except ParameterError as error:
            raise NotebookError(f"{path}: {error}") from None
        experiment = entries["experiment"].default if "experiment" in entries else None
        _require_own_number(path, experiment, tree)
    _require_own_title(path, tree)


def _require_own_number(path: str, experiment: str | None, tree: ast.AST) -> None:
    """Check that file name, parameter and record have the same experiment number."""
    name = Path(path).name
    if name.startswith("_") or experiment is None:
        return
    remedy = "give its number to the file, to the parameter experiment and to Evidence alike"
    match = NUMBER.match(name)
    recorded = [f"Evidence({each!r})" for each in _recorded(tree) if each != experiment]
    if TEMPLATE in (experiment, *_recorded(tree)):
        raise NotebookError(f"{path} is a copy of the template and still says {TEMPLATE}: {remedy}")
    if match and match[1] != experiment:
        raise NotebookError(f"{path} says that it is experiment {experiment}: {remedy}")
    if recorded:
        raise NotebookError(f"{path} is experiment {experiment} and has {recorded[0]}: {remedy}")


def _require_own_title(path: str, tree: ast.AST) -> None:
    """Check that a copy of the template has its own title, which the research log shows."""
    titles = [k.value for call in _records(tree) for k in call.keywords if k.arg == "title"]
    if not Path(path).name.startswith("_") and TEMPLATE_TITLE in _texts(titles):
        raise NotebookError(
            f"{path} still has the title of the template, {TEMPLATE_TITLE!r}: give Evidence a "
            "title of its own"
        )


def _recorded(tree: ast.AST) -> list[str]:
    """The experiment numbers that a notebook passes to its records as literals."""
    return _texts(call.args[0] for call in _records(tree) if call.args)


def _records(tree: ast.AST) -> list[ast.Call]:
    """The calls with which a notebook creates records."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    makers = ("Evidence", "Experiment")
    return [call for call in calls if ast.unparse(call.func).split(".")[-1] in makers]


def _texts(values: Iterable[ast.expr]) -> list[str]:
    """The values that are string literals."""
    constants = [each.value for each in values if isinstance(each, ast.Constant)]
    return [value for value in constants if isinstance(value, str)]


def _replace(target: Path, buf: str) -> None:
    """Write the state of a run; keep the previous finished result until this run has finished."""
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


class DeclarationTranslator(PythonTranslator):
    """papermill's Python translator, for all declarations that `lab.params.parameters` allows.

    papermill's own translator parses lines with regular expressions, and overlooks a parameter
    whose value or comment contains = or #.
    """

    @classmethod
    def inspect(cls, parameters_cell: Any) -> list[Parameter]:
        """Parameters of a cell: name, type, default and comment, for --help-notebook."""
        try:
            entries = declarations(parameters_cell["source"])
        except ParameterError:
            return list(super().inspect(parameters_cell))
        return [
            Parameter(entry.name, entry.kind, repr(entry.default), entry.comment)
            for entry in entries.values()
        ]


# papermill warns about every extension except .ipynb and .json; for .py the warning is wrong here.
warnings.filterwarnings(
    "ignore", r"The specified file \((?!\w+://).*\.py\) does not end in one of", UserWarning
)

handler = papermill_io.get_handler("local")
# papermill falls back on the handler that was registered first, which cannot be replaced, and it
# sets the working directory on that object. Therefore the class of that object is changed.
handler.__class__ = PercentHandler

papermill_translators.register("python", DeclarationTranslator)
papermill_checks.install()
