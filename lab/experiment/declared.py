"""Criteria as the source of a notebook declares them, read without running it.

It can evaluate literals, arithmetic with literals, module-level names that are assigned a literal
once, and comprehensions over literals. Of any other argument, the source text is kept.
"""

import ast
import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.evidence.comparison import OPS
from lab.evidence.planned import Planned
from lab.experiment import statistics

Form = dict[str, Any]  # arguments of a criterion by name, `Unread` where a run alone could tell

_FIELDS = {field.name: field.default for field in dataclasses.fields(Planned)}
_CHECK = ("id", "value", "op", "threshold")  # of `Evidence.check`, in their order
_KNOWN: dict[str, Any] = {
    name: getattr(statistics, name)
    for name in ("NUMBER", "WORST", "EVERY", "MEDIAN", "MEAN", "GIVEN")
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "solved": statistics.solved, "range": range, "tuple": tuple, "list": list,
}  # fmt: skip
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_LONGEST = 1000  # elements of what is gone through


@dataclass(frozen=True)
class Unread:
    """An argument whose value cannot be read without running the notebook."""

    text: str


@dataclass(frozen=True)
class Declared:
    """The criteria of one source.

    Attributes:
        forms: by id; one id of an older notebook may have several.
        hidden: whether there are criteria whose id cannot be read.
    """

    forms: Mapping[str, list[Form]]
    hidden: bool


def declared(source: str) -> Declared:
    """The criteria in a source: calls of `Planned`, and of `Evidence.check` in older notebooks.

    A source that is not valid Python has no forms, and counts as hidden.
    """
    try:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
        tree = compile(source, "notebook", "exec", flags)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Declared({}, hidden=True)
    assert isinstance(tree, ast.Module)
    forms: dict[str, list[Form]] = {}
    hidden = False
    for form in _forms(tree, _constants(tree)):
        id_ = form.pop("id")
        if isinstance(id_, str):
            forms.setdefault(id_, []).append(form)
        else:
            hidden = True
    return Declared(forms, hidden)


class _UnreadableError(Exception):
    """An expression cannot be evaluated without running the notebook."""


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Module-level names that are assigned once, and whose value can be read."""
    written = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and _is_store(n)]
    found = dict(_KNOWN)
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            try:
                new = _bound(node.targets[0], _value(node.value, found))
            except _UnreadableError:
                continue
            found |= {name: value for name, value in new.items() if written.count(name) == 1}
    return found


def _is_store(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _forms(node: ast.AST, names: Mapping[str, Any]) -> Iterator[Form]:
    """The criteria below a node, those of a comprehension once for each of its elements."""
    if isinstance(node, ast.ListComp | ast.GeneratorExp):
        try:
            spaces = list(_spaces(node.generators, names))
        except _UnreadableError:
            spaces = [{n: v for n, v in names.items() if n not in _targets(node)}]
        for space in spaces:
            yield from _forms(node.elt, space)
        return
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        own = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
        names = {name: value for name, value in names.items() if name not in own}
    if isinstance(node, ast.Call) and (form := _form(node, names)) is not None:
        yield form
    for child in ast.iter_child_nodes(node):
        yield from _forms(child, names)


def _form(call: ast.Call, names: Mapping[str, Any]) -> Form | None:
    """The arguments of a call that declares a criterion; None of any other."""
    called = ast.unparse(call.func).split(".")[-1]
    if called == "Planned":
        order, defaults = tuple(_FIELDS), _FIELDS
    elif called == "check" and _is_comparison(call.args):
        order, defaults = _CHECK, {}
    else:
        return None
    given = dict(zip(order, call.args, strict=False))
    given |= {each.arg: each.value for each in call.keywords if each.arg in order}
    spread: list[ast.expr] = [each for each in call.args if isinstance(each, ast.Starred)]
    spread += [each.value for each in call.keywords if each.arg is None]
    left_out = Unread(ast.unparse(call)) if spread else None
    form = {name: left_out or value for name, value in defaults.items()}
    form |= {name: _read(node, names) for name, node in given.items() if name != "value"}
    return form if "id" in form else None


def _is_comparison(arguments: list[ast.expr]) -> bool:
    """Whether arguments are an id, a value, an operator and a threshold."""
    op = arguments[2] if len(arguments) == len(_CHECK) else None
    return isinstance(op, ast.Constant) and op.value in OPS


def _read(node: ast.expr, names: Mapping[str, Any]) -> Any:
    try:
        return _value(node, names)
    except _UnreadableError:
        return Unread(ast.unparse(node))


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an expression.

    Raises:
        _UnreadableError: it cannot be evaluated without running the notebook.
    """
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.Attribute) and node.attr in _KNOWN:
        return _KNOWN[node.attr]
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(each, names) for each in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [_value(key, names) for key in node.keys if key is not None]
        return dict(zip(keys, (_read(each, names) for each in node.values), strict=True))
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(each, names) for each in node.values)
    if isinstance(node, ast.ListComp | ast.GeneratorExp):
        return tuple(_value(node.elt, space) for space in _spaces(node.generators, names))
    return _computed(node, names)


def _computed(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Arithmetic, and calls of a few functions without side effects."""
    try:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -_value(node.operand, names)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = _value(node.left, names), _value(node.right, names)
            if isinstance(left, int | float) and isinstance(right, int | float):
                return _ARITHMETIC[type(node.op)](left, right)
        if isinstance(node, ast.Call) and not node.keywords:
            function = _FUNCTIONS.get(ast.unparse(node.func).split(".")[-1])
            if function is not None:
                return function(*(_value(each, names) for each in node.args))
    except (ArithmeticError, TypeError, ValueError):
        pass
    raise _UnreadableError


def _text(node: ast.expr, names: Mapping[str, Any]) -> str:
    """A piece of an f-string."""
    if not isinstance(node, ast.FormattedValue):
        return str(_value(node, names))
    if node.conversion != -1:
        raise _UnreadableError
    spec = "" if node.format_spec is None else str(_value(node.format_spec, names))
    try:
        return format(_value(node.value, names), spec)
    except (TypeError, ValueError):
        raise _UnreadableError from None


def _spaces(
    generators: list[ast.comprehension], names: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """The names that every element of a comprehension sees."""
    if not generators:
        yield names
        return
    first, *rest = generators
    through = _value(first.iter, names)
    if first.ifs or not isinstance(through, tuple | dict | range) or len(through) > _LONGEST:
        raise _UnreadableError
    for each in through:
        yield from _spaces(rest, {**names, **_bound(first.target, each)})


def _bound(target: ast.expr, value: Any) -> dict[str, Any]:
    """What an assignment gives to the names of its target."""
    if isinstance(target, ast.Name):
        return {target.id: value}
    parts = target.elts if isinstance(target, ast.Tuple) else []
    if parts and isinstance(value, tuple) and len(value) == len(parts):
        pairs = zip(parts, value, strict=True)
        return {name: each for part, one in pairs for name, each in _bound(part, one).items()}
    raise _UnreadableError


def _targets(node: ast.ListComp | ast.GeneratorExp) -> set[str]:
    names = [n for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)]
    return {name.id for name in names}
