"""The parameters of a notebook: declared in one cell, injected by papermill, checked here.

A notebook calls `parameters()`, and its docstring is the contract. Everything behind it is `check`,
a pure function of the source of the two cells and of the values they left behind.
"""

import ast
import difflib
import io
import linecache
import math
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from typing import Any, NoReturn, TypeGuard, get_args

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


class ParameterError(ValueError):
    """A parameter is declared or given wrongly; the message is one sentence that says which."""

    def _render_traceback_(self) -> list[str]:
        # IPython shows this in place of a traceback, in which the sentence would be hard to find.
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Interval:
    """The numbers between `low` and `high`, with brackets as in `text`."""

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
    """A few words or whole numbers, compared as they are written."""

    words: tuple[str, ...]

    def __contains__(self, value: object) -> bool:
        return str(value) in self.words

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True)
class Declaration:
    """One line of a parameters cell: its name, type, default, and the rule in its comment."""

    name: str
    kind: str
    default: Any
    rule: Interval | Choices | None


def parameters() -> Any:
    """The checked parameters of the notebook that calls this, as a frozen object.

    A notebook declares them in one cell tagged `parameters`, of annotated assignments alone, one a
    line, and calls this in the next cell:

        length: int = 128  # time steps in training, in [2, 4096]
        lr: float = 0.01  # peak learning rate, in (0, 1]
        seeds: list[int] = [0, 1, 2]  # one model each, in [0, 2147483647]
        device: str = "auto"  # where to train, one of auto, cpu, cuda

    - Types are int, float, str, bool, list[int], list[float] and list[str]. An int may stand for a
      float; a bool is no int; nan and inf are no values; a list holds at least one element.
    - A comment may say `in [a, b]`, with a round bracket where the end itself is left out, and
      `inf` for no end; or it may close with `one of a, b, c`. A list obeys it in every element.
      This is the only place where a range is declared: papermill --help-notebook shows it to users.
    - A parameter called `experiment` says whose parameters these are, and nobody may change it.

    papermill injects a cell of plain assignments behind the declarations, headed `# Parameters`.

    Returns:
        An instance of a frozen dataclass with the declared names as its fields, and lists copied.

    Raises:
        ParameterError: an injected name is not declared; a value has the wrong type or is out of
            its range; the parameters are those of another experiment; a declaration is malformed,
            or there is none; or this is not called from a notebook.
    """
    # IPython takes half a second to import, and where it is not imported yet, no notebook runs.
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise ParameterError(
            "lab.parameters() was called outside a notebook: call it in a cell, under papermill or "
            "in JupyterLab"
        )
    declaration, injected = find_cells(_executed_cells(shell)[:-1])
    return check(declaration, injected, shell.user_ns)


def at_defaults() -> bool:
    """Whether papermill injected no parameters into the notebook that calls this.

    False outside a notebook, and where no parameters cell ran.
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
    """Sources of the cells executed so far, the current one last."""
    history = list(shell.user_ns["In"])
    if len(history) > 1:
        return history
    # nbval executes cells without history. What IPython keeps for tracebacks is as good there, but
    # not in JupyterLab, for it leaves a cell that is executed once more at its old place.
    compiled = [name for name in linecache.cache if shell.compile.format_code_name(name)]
    return ["".join(linecache.getlines(name)) for name in compiled]


def find_cells(history: Sequence[str]) -> tuple[str, list[str]]:
    """The latest parameters cell among executed cells, and the injected cells that ran after it.

    Raises:
        ParameterError: no cell consists of annotated assignments alone, or the first injected cell
            ran before the first such cell, which then overwrote what it said.
    """
    declared = [i for i, source in enumerate(history) if _is_declaration(source)]
    injected = [i for i, source in enumerate(history) if _is_injected(source)]
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
        namespace: the values of all names once these cells have run.

    Raises:
        ParameterError: as in `parameters()`.
    """
    declared = declarations(declaration)
    values = {name: namespace.get(name, entry.default) for name, entry in declared.items()}
    # First of all: the parameters of another notebook are wrong in many ways.
    if "experiment" in declared:
        _require_same_experiment(declared["experiment"].default, values["experiment"])
    for name in [name for source in injected for name in _assigned(source)]:
        if name not in declared and name not in PAPERMILL_PATHS:
            _raise_unknown(name, list(declared))
    checked = {name: _checked(declared[name], value) for name, value in values.items()}
    return _frozen(declared, checked)


def declarations(source: str) -> dict[str, Declaration]:
    """What a parameters cell declares, by name, defaults checked.

    Raises:
        ParameterError: the type is not supported, the value is not a literal, the comment's range
            cannot be read, two declarations share a line or a name, or a default breaks its rule.
    """
    comments = _comments(source)
    found: dict[str, Declaration] = {}
    last_line = 0
    for statement in ast.parse(source).body:
        if not _is_annotated(statement):
            raise ParameterError(
                f"the parameters cell holds {ast.unparse(statement)!r}: write NAME: TYPE = VALUE"
            )
        entry = _declaration(statement, comments.get(statement.end_lineno or 0, ""))
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
    assert statement.value is not None  # `_is_annotated` saw it
    try:
        default = ast.literal_eval(statement.value)
    except (TypeError, ValueError):
        # papermill would inject over the names it is derived from, and leave it as it was.
        raise ParameterError(
            f"{name} is {ast.unparse(statement.value)} in the parameters cell: write the value "
            "itself there, and derive others after lab.parameters()"
        ) from None
    return Declaration(name, kind, default, _rule(name, kind, comment))


def _rule(name: str, kind: str, comment: str) -> Interval | Choices | None:
    """The range that a comment declares, if any; what looks like one and is none is an error."""
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
    is_written_alike = "int" in kind or "str" in kind  # 1.0 and 1e0 are one float
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


def _raise_unknown(name: str, known: list[str]) -> NoReturn:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
    raise ParameterError(f"this notebook has no parameter {name}: {remedy}")


def _checked(entry: Declaration, value: Any) -> Any:
    """`value` as the type that was declared.

    Raises:
        ParameterError: it is not of that type, or out of its range.
    """
    element = get_args(TYPES[entry.kind])
    if not element:
        return _scalar(entry, entry.name, TYPES[entry.kind], value)
    if not isinstance(value, list) or not value:
        expected = f"{entry.kind} with at least one element"
        _raise_wrong(
            entry.name, value, expected, f"on a command line, -y '{entry.name}: {entry.default}'"
        )
    return [_scalar(entry, f"{entry.name}[{i}]", element[0], x) for i, x in enumerate(value)]


def _scalar(entry: Declaration, label: str, kind: type, value: Any) -> Any:
    # `type` and not `isinstance`, to which True is an int.
    is_whole = kind is float and type(value) is int and abs(value) < 2**1023
    if not is_whole and type(value) is not kind:
        _raise_wrong(label, value, kind.__name__, _hint(entry, value))
    if kind is float and not math.isfinite(value):
        _raise_wrong(label, value, "a finite float")
    if entry.rule is not None and value not in entry.rule:
        _raise_wrong(label, value, str(entry.rule))
    return kind(value)


def _raise_wrong(label: str, value: Any, expected: str, hint: str = "") -> NoReturn:
    found = f"{label} is {value!r} ({type(value).__name__})"
    raise ParameterError(f"{found}, and must be {expected}{': ' + hint if hint else ''}")


def _hint(entry: Declaration, value: Any) -> str:
    """What to write instead, where YAML and the command line surprise people."""
    if "str" in entry.kind:
        return f'put it in quotes, as in {entry.name}: "{entry.default}"'
    if "int" in entry.kind and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    if isinstance(value, str) and (match := EXPONENT.fullmatch(value)):
        written = f"{match[1]}{match[2] or '.0'}e{match[3] or '+'}{match[4]}"
        return f"YAML 1.1 reads {value} as text, write {written}"
    return "write it without quotes" if isinstance(value, str) else ""


def _frozen(declared: Mapping[str, Declaration], values: Mapping[str, Any]) -> Any:
    fields = [(name, TYPES[entry.kind]) for name, entry in declared.items()]
    return make_dataclass("Parameters", fields, frozen=True)(**values)


def _is_annotated(statement: ast.stmt) -> TypeGuard[ast.AnnAssign]:
    return (
        isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and statement.value is not None
    )


def _is_declaration(source: str) -> bool:
    body = _parsed(source)
    return bool(body) and all(map(_is_annotated, body))


def _is_injected(source: str) -> bool:
    is_plain = all(isinstance(statement, ast.Assign) for statement in _parsed(source))
    return source.lstrip().startswith("# Parameters\n") and is_plain


def _assigned(source: str) -> list[str]:
    return [ast.unparse(t) for s in _parsed(source) if isinstance(s, ast.Assign) for t in s.targets]


def _parsed(source: str) -> list[ast.stmt]:
    """The statements of a cell, none where it did not even parse when it ran."""
    try:
        return ast.parse(source).body
    except SyntaxError:
        return []


def _comments(source: str) -> dict[int, str]:
    """Comments by line; tokenized, because a string may hold a # as well."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
