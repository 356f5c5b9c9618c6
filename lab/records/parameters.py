"""The parameters of a notebook: declared in one cell, injected by papermill, checked here.

A notebook calls `parameters()`, whose docstring specifies everything. The work is done by `check`,
a pure function of the sources of the two cells and of the values that the cells assigned.
"""

import ast
import difflib
import io
import json
import linecache
import math
import re
import sys
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from typing import Any, NoReturn, TypeGuard, get_args

from lab.arguments import called, is_text, shorten

TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list[int]": list[int],
    "list[float]": list[float],
    "list[str]": list[str],
}

NUMBER = r"([-+]?(?:inf|\d+(?:\.\d*)?(?:e[-+]?\d+)?))"
INTERVAL = re.compile(rf"in\s*([\[(])\s*{NUMBER}\s*,\s*{NUMBER}\s*([\])])")
CHOICE = re.compile(r"[\w+-]+(\.[\w+-]+)*")
EXPONENT = re.compile(r"([-+]?\d+)(\.\d*)?e([-+]?)(\d+)", re.IGNORECASE)

# papermill --inject-paths adds these to every notebook, declared or not.
PAPERMILL_PATHS = {"PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH"}

# The line that papermill writes above the values that it injects.
INJECTED = "# Parameters\n"


class ParameterError(ValueError):
    """A parameter is declared or given wrongly; the message is one sentence that names it."""

    def _render_traceback_(self) -> list[str]:
        # IPython shows this instead of a traceback, in which the sentence would be hard to find.
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Interval:
    """The interval from `low` to `high`; the brackets in `text` say if it includes its ends."""

    low: float
    high: float
    text: str

    def __contains__(self, number: float) -> bool:
        above = number >= self.low if self.text[0] == "[" else number > self.low
        below = number <= self.high if self.text[-1] == "]" else number < self.high
        return above and below

    def __str__(self) -> str:
        return f"in {self.text}"


@dataclass(frozen=True)
class Choices:
    """A few words or whole numbers, which are compared as text."""

    words: tuple[str, ...]

    def __contains__(self, value: object) -> bool:
        return str(value) in self.words

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True)
class Declaration:
    """One line of a parameters cell: name, type, default, comment, and the range in the comment."""

    name: str
    kind: str
    default: Any
    rule: Interval | Choices | None
    comment: str


def parameters() -> Any:
    """The checked parameters of the notebook that calls this, as a frozen object.

    A notebook declares them in one cell tagged `parameters`, which holds only annotated
    assignments, one per line, and calls this function in the next cell:

        length: int = 128  # time steps in training, in [2, 4096]
        lr: float = 0.01  # peak learning rate, in (0, 1]
        seeds: list[int] = [0, 1, 2]  # one model each, in [0, 2147483647]
        device: str = "auto"  # where to train, one of auto, cpu, cuda

    - Types are int, float, str, bool, list[int], list[float] and list[str]. An int is accepted for
      a float, but a bool is not accepted for an int. nan and inf are not allowed, and a list needs
      at least one element.
    - A comment may contain `in [a, b]`, with a round bracket where the end is excluded and `inf`
      for no limit; or it may end with `one of a, b, c`. For a list, this applies to every element.
      Ranges are declared only here, because papermill --help-notebook shows comments to users.
    - A list called `seeds` or `..._seeds` may not repeat a seed, which would count one run twice.
    - A parameter called `experiment` names the experiment, and its value cannot be changed.

    papermill injects a cell of plain assignments below the declarations, headed `# Parameters`.
    `lab.records.papermill_checks` calls `check_given` before that. The result of such a cell is
    checked again here, because a run may have been started in another way.

    Returns:
        An instance of a frozen dataclass with the declared names as its fields, and lists copied.

    Raises:
        ParameterError: an injected name is not declared; a value has the wrong type or is out of
            its range; the parameters belong to another experiment; a declaration is malformed, or
            there is none; the injected cell contains anything but assignments of plain values; or
            the caller is not a notebook.
    """
    # IPython takes half a second to import. If it has not been imported, this is not a notebook.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None:
        raise ParameterError(
            "lab.parameters() was called outside a notebook: call it in a cell, under papermill or "
            "in JupyterLab"
        )
    declaration, injected = find_cells(_executed_cells(shell)[:-1])
    return check(declaration, injected, shell.user_ns)


def at_defaults() -> bool:
    """Whether papermill injected no parameters into the notebook that calls this.

    False outside a notebook, and if no parameters cell has run.
    """
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return False
    try:
        _, injected = find_cells(_executed_cells(shell)[:-1])
    except ParameterError:
        return False
    return not injected


def _executed_cells(shell: Any) -> list[str]:
    """Sources of the cells executed so far; the current one is the last."""
    history = list(shell.user_ns["In"])
    if len(history) > 1:
        return history
    # nbval executes cells without history. There, the sources that IPython keeps for tracebacks
    # serve as well. In JupyterLab they do not: a cell that runs again keeps its old position.
    compiled = [name for name in linecache.cache if shell.compile.format_code_name(name)]
    return ["".join(linecache.getlines(name)) for name in compiled]


def find_cells(history: Sequence[str]) -> tuple[str, list[str]]:
    """The latest parameters cell among the executed cells, and the injected cells after it.

    Raises:
        ParameterError: no cell consists only of annotated assignments, or the first injected cell
            ran before the first such cell, which then overwrote the injected values.
    """
    injected = [i for i, source in enumerate(history) if _is_injected(source)]
    declared = [
        i for i, source in enumerate(history) if i not in injected and is_declaration(source)
    ]
    if not declared:
        raise ParameterError(
            "no parameters cell ran before lab.parameters(): write one, of lines that all read "
            "NAME: TYPE = VALUE"
        )
    if injected and injected[0] < declared[0]:
        raise ParameterError(
            "papermill injected its parameters above the parameters cell, which undid them: give "
            'that cell the tag "parameters"'
        )
    return history[declared[-1]], [history[i] for i in injected if i > declared[-1]]


def check(declaration: str, injected: Iterable[str], namespace: Mapping[str, Any]) -> Any:
    """`parameters()` as a pure function.

    Args:
        declaration: source of the parameters cell.
        injected: sources of the cells that papermill added after it.
        namespace: the values of all names after these cells have run.

    Raises:
        ParameterError: as in `parameters()`.
    """
    declared = declarations(declaration)
    values = {name: namespace.get(name, entry.default) for name, entry in declared.items()}
    # This comes first, because parameters of another notebook cause many other errors.
    if "experiment" in declared:
        _require_same_experiment(declared["experiment"].default, values["experiment"])
    for source in injected:
        _require_known(injected_values(source), declared)
    checked = {name: _checked(declared[name], value) for name, value in values.items()}
    return _frozen(declared, checked)


def check_given(declared: Mapping[str, Declaration], given: Mapping[Any, Any]) -> None:
    """Check parameters before papermill turns them into code.

    Args:
        declared: what the notebook declares.
        given: names and values from any source; they may be of any type.

    Raises:
        ParameterError: a name is not declared (so only identifiers are accepted), or a value is not
            plain, not of the declared type or not in its range.
    """
    if "experiment" in declared and "experiment" in given:
        _require_same_experiment(declared["experiment"].default, given["experiment"])
    _require_known(given, declared)
    for name, value in given.items():
        if name in declared:
            _checked(declared[name], value)
        elif type(value) is not str or not is_text(value):
            _raise_wrong(name, value, "a path")


def injected_values(source: str) -> dict[str, Any]:
    """The values that an injected cell assigns, by name.

    Raises:
        ParameterError: it contains anything but assignments of plain values to names.
    """
    try:
        statements = ast.parse(source).body
        return dict(_literal_assignment(statement) for statement in statements)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise ParameterError(
            f"the cell headed {INJECTED.strip()!r} holds more than plain values given to names: "
            "its code may have run, so look at it before you run it again"
        ) from None


def _literal_assignment(statement: ast.stmt) -> tuple[str, Any]:
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        raise ValueError("no plain assignment")
    target = statement.targets[0]
    if not isinstance(target, ast.Name):
        raise ValueError("no plain name")
    return target.id, ast.literal_eval(_Floats().visit(statement.value))


class _Floats(ast.NodeTransformer):
    """Turns papermill's spelling of nan and inf into constants, which a later check refuses."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if ast.unparse(node) in ("float('nan')", "float('inf')", "float('-inf')"):
            return ast.Constant(float(ast.literal_eval(node.args[0])))
        return node


def declarations(source: str) -> dict[str, Declaration]:
    """What a parameters cell declares, by name, with checked defaults.

    Raises:
        ParameterError: the type is not supported, the value is not a literal, the comment's range
            cannot be parsed, two declarations share a line or a name, or a default is out of range.
    """
    if source.lstrip().startswith(INJECTED):
        raise ParameterError(
            f"the parameters cell begins with {INJECTED.strip()!r}, as do the cells that papermill "
            "injects: write another comment there"
        )
    try:
        statements, comments = ast.parse(source).body, _comments(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ParameterError(f"the parameters cell is no Python: {error}") from None
    found: dict[str, Declaration] = {}
    last_line = 0
    for statement in statements:
        if not _is_annotated(statement):
            raise ParameterError(
                f"the parameters cell holds {ast.unparse(statement)!r}: write NAME: TYPE = VALUE"
            )
        lines = range(statement.lineno, (statement.end_lineno or 0) + 1)
        # A long declaration may span several lines, with its comment on any of them.
        entry = _declaration(statement, " ".join(comments[i] for i in lines if i in comments))
        if entry.name in found or statement.lineno == last_line:
            raise ParameterError(f"{entry.name} must be declared once, on a line of its own")
        _checked(entry, entry.default)
        found[entry.name] = entry
        last_line = statement.end_lineno or 0
    return found


def _declaration(statement: ast.AnnAssign, comment: str) -> Declaration:
    name, kind = ast.unparse(statement.target), ast.unparse(statement.annotation)
    if kind not in TYPES:
        raise ParameterError(f"{name} has the type {kind}: use one of {', '.join(TYPES)}")
    assert statement.value is not None  # `_is_annotated` has checked this
    try:
        default = ast.literal_eval(statement.value)
    except (TypeError, ValueError):
        # papermill would overwrite the names that it depends on, but not recompute the value.
        raise ParameterError(
            f"{name} is {ast.unparse(statement.value)} in the parameters cell: write the value "
            "itself there, and derive others after lab.parameters()"
        ) from None
    return Declaration(name, kind, default, _rule(name, kind, comment), comment)


def _rule(name: str, kind: str, comment: str) -> Interval | Choices | None:
    """The range that a comment declares, or None; one that cannot be parsed is an error."""
    intervals = [comment[m.start() :] for m in re.finditer(r"\bin\s*[\[(]", comment)]
    choices = [comment[m.start() :] for m in re.finditer(r"\bone of\b", comment)]
    if len(intervals) + len(choices) > 1:
        raise ParameterError(f"{name} has two ranges in its comment {comment!r}: keep one")
    if intervals:
        return _interval(name, kind, intervals[0])
    return _choices(name, kind, choices[0]) if choices else None


def _interval(name: str, kind: str, text: str) -> Interval:
    match = INTERVAL.match(text)
    is_number = "int" in kind or "float" in kind
    if match is None or not is_number or float(match[2]) >= float(match[3]):
        raise ParameterError(
            f"{name}: {kind} has {text!r} in its comment: write 'in [a, b]' with a < b, for a "
            "number, and use no other bracket after 'in'"
        )
    bracketed = match[0].removeprefix("in").strip()
    return Interval(float(match[2]), float(match[3]), bracketed)


def _choices(name: str, kind: str, text: str) -> Choices:
    words = tuple(word.strip() for word in text.removeprefix("one of").split(","))
    is_written_alike = "int" in kind or "str" in kind  # 1.0 and 1e0 are the same float
    if not is_written_alike or not all(map(CHOICE.fullmatch, words)):
        raise ParameterError(
            f"{name}: {kind} has {text!r} in its comment: close the comment with "
            "'one of a, b, c', for words or whole numbers"
        )
    return Choices(words)


def _require_same_experiment(own: Any, given: Any) -> None:
    if isinstance(given, str) and given != own:
        raise ParameterError(
            f"these parameters are for experiment {given}, this notebook is {own}: "
            f"use params/{own}.yaml"
        )


def _require_known(names: Iterable[Any], declared: Mapping[str, Declaration]) -> None:
    for name in names:
        if type(name) is not str or (name not in declared and name not in PAPERMILL_PATHS):
            _raise_unknown(name, list(declared))


def _raise_unknown(name: Any, known: list[str]) -> NoReturn:
    shown = called(name)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5) if shown == name else []
    remedy = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
    raise ParameterError(f"this notebook has no parameter {shown}: {remedy}")


def _checked(entry: Declaration, value: Any) -> Any:
    """`value`, converted to the declared type.

    Raises:
        ParameterError: it is not of that type, or is out of range.
    """
    element = get_args(TYPES[entry.kind])
    if not element:
        return _scalar(entry, entry.name, TYPES[entry.kind], value)
    if not isinstance(value, list) or not value:
        expected = f"{entry.kind} with at least one element"
        _raise_wrong(
            entry.name, value, expected, f"on a command line, -y '{entry.name}: {entry.default}'"
        )
    checked = [_scalar(entry, f"{entry.name}[{i}]", element[0], x) for i, x in enumerate(value)]
    if entry.name == "seeds" or entry.name.endswith("_seeds"):
        _require_distinct(entry.name, checked)
    return checked


def _require_distinct(name: str, values: list[Any]) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise ParameterError(
                f"{name} holds {value!r} twice, which counts one run as two: keep one of them"
            )


def _scalar(entry: Declaration, label: str, kind: type, value: Any) -> Any:
    # `type` instead of `isinstance`, for which True is an int.
    is_whole = kind is float and type(value) is int and abs(value) < 2**1023
    if not is_whole and type(value) is not kind:
        _raise_wrong(label, value, kind.__name__, _hint(entry, value))
    if kind is float and not math.isfinite(value):
        _raise_wrong(label, value, "a finite float")
    if kind is str and not is_text(value):
        _raise_wrong(label, value, "text without halves of characters")
    if entry.rule is not None and value not in entry.rule:
        _raise_wrong(label, value, str(entry.rule))
    return kind(value)


def _raise_wrong(label: str, value: Any, expected: str, hint: str = "") -> NoReturn:
    found = f"{label} is {shorten(value)} ({type(value).__name__})"
    raise ParameterError(f"{found}, and must be {expected}{': ' + hint if hint else ''}")


def _hint(entry: Declaration, value: Any) -> str:
    """What to write instead, for values that YAML or the command line read in an unexpected way."""
    if entry.kind == "str":
        return (
            f'put it in quotes, as in {entry.name}: "{entry.default}" '
            f"(on a command line, -r {entry.name} {entry.default})"
        )
    if entry.kind == "list[str]":
        return f"put it in quotes, as in {entry.name}: {json.dumps(entry.default)}"
    if "int" in entry.kind and isinstance(value, float) and value.is_integer():
        return f"write {shorten(int(value))}"
    if not isinstance(value, str) or len(value) > 100:
        return ""
    if match := EXPONENT.fullmatch(value):
        written = f"{match[1]}{match[2] or '.0'}e{match[3] or '+'}{match[4]}"
        return f"YAML 1.1 reads {value} as text, write {written}"
    if value.isdecimal() and value != str(int(value)):
        return f"write {int(value)}"
    return "write it without quotes"


def _frozen(declared: Mapping[str, Declaration], values: Mapping[str, Any]) -> Any:
    fields = [(name, TYPES[entry.kind]) for name, entry in declared.items()]
    return make_dataclass("Parameters", fields, frozen=True)(**values)


def _is_annotated(statement: ast.stmt) -> TypeGuard[ast.AnnAssign]:
    return (
        isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and statement.value is not None
    )


def is_declaration(source: str) -> bool:
    """Whether a cell consists only of annotated assignments, as a parameters cell does."""
    body = _parsed(source)
    return bool(body) and all(map(_is_annotated, body))


def _is_injected(source: str) -> bool:
    return source.lstrip().startswith(INJECTED)


def _parsed(source: str) -> list[ast.stmt]:
    """The statements of a cell; empty if the cell is not valid Python."""
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return []


def _comments(source: str) -> dict[int, str]:
    """Comments by line, found by the tokenizer because a string may also contain a #."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
