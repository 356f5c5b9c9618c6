"""Checks all parameters of a .py notebook before papermill injects any of them.

papermill writes parameter names unchecked into a code cell, and does not quote every value, so a
parameter file could run code. Parameters reach papermill in two ways, and both are checked here.
First, its command reads YAML files and the command line; these are now parsed strictly, once,
before papermill parses them. Second, its function `parameterize_notebook` injects parameters for
any caller; it now runs `check_given` first, and inspects the written cell afterwards.

Both checks apply to notebooks that jupytext made from text. Other .ipynb files are unaffected.
"""

import base64
import binascii
import functools
import importlib.abc
import importlib.machinery
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import click

from lab import plain_yaml
from lab.arguments import called, shorten
from lab.records.parameters import (
    Declaration,
    ParameterError,
    check_given,
    declarations,
    injected_values,
)


class NotebookError(click.ClickException):
    """A notebook cannot be read or written; papermill's command shows only the message."""


# --- the first way: the command ------------------------------------------------------------------


def check_command(cli: ModuleType) -> None:
    """Make the command of the module `papermill.cli` parse parameters of .py notebooks strictly."""
    stock = cli.papermill.callback

    @functools.wraps(stock)
    def papermill(**options: Any) -> Any:
        try:
            if str(options["notebook_path"]).endswith(".py"):
                options = _checked_options(options, cli)
            return stock(**options)
        except (ParameterError, plain_yaml.PlainError) as error:
            raise NotebookError(str(error)) from None

    cli.papermill.callback = papermill


def _checked_options(options: dict[str, Any], cli: ModuleType) -> dict[str, Any]:
    """The options, with files replaced by their contents, so that each file is read only once.

    Raises:
        NotebookError: the notebook or a file of parameters cannot be read.
        ParameterError: a word of the command line is ambiguous, or a parameter is wrong.
        PlainError: a YAML text is not plain.
    """
    files = [_text(path) for path in options["parameters_file"]]
    texts = [("-b", _decoded(text)) for text in options["parameters_base64"]]
    texts += zip(options["parameters_file"], files, strict=True)
    texts += [("-y", text) for text in options["parameters_yaml"]]
    given: dict[Any, Any] = {}
    for label, text in texts:
        given |= plain_yaml.load_map(text, label)
    given |= _words(options["parameters"], options["parameters_raw"], cli._resolve_type)
    _check_against_notebook(options["notebook_path"], given)
    return {
        **options,
        "parameters_file": (),
        "parameters_yaml": (*files, *options["parameters_yaml"]),
    }


def _check_against_notebook(path: str, given: Mapping[Any, Any]) -> None:
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import add_builtin_parameters, parameterize_path

    if given:
        notebook = load_notebook_node(parameterize_path(path, add_builtin_parameters(given)))
        check_given(declared(notebook), given)


def _words(
    pairs: Iterable[tuple[str, str]],
    raw: Iterable[tuple[str, str]],
    resolve: Callable[[str], Any],
) -> dict[str, Any]:
    """Values of -p and -r, by name.

    Raises:
        ParameterError: a name is repeated, or papermill would read a number that may not be meant.
    """
    given: dict[str, Any] = {}
    typed = [("-p", name, _resolved(name, text, resolve)) for name, text in pairs]
    for option, name, value in [*typed, *(("-r", name, text) for name, text in raw)]:
        if name in given:
            raise ParameterError(f"{option} {called(name)} was given before: keep one of them")
        given[name] = value
    return given


def _resolved(name: str, text: str, resolve: Callable[[str], Any]) -> Any:
    value = resolve(text)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    patterns = (plain_yaml.PLAIN_INT, plain_yaml.PLAIN_FLOAT)
    if is_number and not any(pattern.fullmatch(text) for pattern in patterns):
        raise ParameterError(
            f"-p {called(name)} {shorten(text)} would be read as {shorten(value)}: write a finite "
            "decimal number without leading zeros, or use -r if it is text"
        )
    return value


def _decoded(text: str) -> str:
    try:
        # The command base64 breaks its output into lines; papermill ignores other bytes as well.
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except UnicodeDecodeError:
        raise ParameterError("-b does not hold UTF-8: encode the YAML as that first") from None
    except (binascii.Error, ValueError):
        raise ParameterError(f"-b {shorten(text)} is not base64 of a YAML text") from None


def _text(path: str) -> str:
    """The text of a parameters file, of which only a limited length is read."""
    from papermill.iorw import LocalHandler, papermill_io

    try:
        if not isinstance(papermill_io.get_handler(path), LocalHandler):
            return str(papermill_io.read(path, [""]))
        with open(path, "rb") as file:  # noqa: PTH123  (papermill takes any JSON for a path as well)
            content = file.read(4 * plain_yaml.LONGEST + 1)
        return content.decode()
    except UnicodeDecodeError as error:
        raise NotebookError(
            f"{path} is not UTF-8 (its byte {error.start} is no part of a character): save it as "
            "UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        if _is_json(path):
            return path
        reason = getattr(error, "strerror", None) or error
        raise NotebookError(f"the parameters file {path} cannot be read: {reason}") from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


# --- the second way: the injection ---------------------------------------------------------------


def check_injection(parameterize: ModuleType) -> None:
    """Check the arguments of papermill's `parameterize_notebook`, and the cell that it writes."""
    stock = parameterize.parameterize_notebook

    @functools.wraps(stock)
    def parameterize_notebook(nb: Any, parameters: Any, *args: Any, **options: Any) -> Any:
        if "jupytext" not in nb.metadata:
            return stock(nb, parameters, *args, **options)
        if isinstance(parameters, str):
            parameters = plain_yaml.load_map(_text(parameters), parameters)
        check_given(declared(nb), parameters)
        done = stock(nb, parameters, *args, **options)
        _require_same(done, parameters)
        return done

    parameterize.parameterize_notebook = parameterize_notebook  # type: ignore[attr-defined]


def declared(notebook: Any) -> dict[str, Declaration]:
    """What the parameters cell of a notebook declares.

    Raises:
        ParameterError: there is no such cell, there are several, or the cell is malformed.
    """
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(
            f"{len(tagged)} cells of this notebook have the tag parameters, and it was given some: "
            "give the tag to the one cell that declares them"
        )
    return declarations(tagged[0].source)


def _require_same(notebook: Any, parameters: Mapping[str, Any]) -> None:
    """Check that the injected cell contains exactly these parameters, whatever wrote it."""
    cell = next(c for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", []))
    try:
        is_same = injected_values(cell.source) == dict(parameters)
    except ParameterError:
        is_same = False
    if not is_same:
        raise ParameterError(
            f"papermill would write {shorten(cell.source)} for these parameters: run the notebook "
            "with its own kernel and language"
        )


# --- installation --------------------------------------------------------------------------------


def install() -> None:
    """Add the checks to papermill, whether or not its modules have been imported already."""
    actions = {"papermill.parameterize": check_injection, "papermill.cli": check_command}
    waiting = dict(actions)
    for name, action in actions.items():
        if name in sys.modules:
            action(sys.modules[name])
            del waiting[name]
    sys.meta_path.insert(0, _AfterImport(waiting))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function on a module directly after its import, before other code can use it.

    This is needed because papermill loads the handler before it imports these modules.
    """

    def __init__(self, actions: dict[str, Callable[[ModuleType], None]]) -> None:
        self.actions = actions

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self.actions:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = self._followed(spec.loader.exec_module, self.actions[name])
            spec.loader.exec_module = execute  # type: ignore[method-assign, assignment]
        return spec

    @staticmethod
    def _followed(
        execute: Callable[[ModuleType], None], action: Callable[[ModuleType], None]
    ) -> Callable[[ModuleType], None]:
        def run(module: ModuleType) -> None:
            execute(module)
            action(module)

        return run
