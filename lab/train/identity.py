"""What tells a model, a task or a function from one of another make: JSON values, code included.

Numbers and text stand for themselves, tensors for their digest, functions for their bytecode and
all that it can see, objects for their class and attributes. What nothing is known of is refused,
and may carry a name and a version instead.
"""

import dataclasses
import dis
import enum
import functools
import hashlib
import json
import sys
import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from copyreg import dispatch_table
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

OWN = "checkpoint_identity"  # the attribute by which anything may say what it is
_LONG = 64  # plain values in a row, beyond which their digest stands for them
_OF_ANY_MODULE = set(vars(nn.Module())) | {"_modules"}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


class Identified:
    """A function that is known by a name and a version, whatever it is made of; see `identified`.

    Args:
        function: what is called.
        name, version: what it is known by.
    """

    def __init__(self, function: Callable[..., Any], name: str, version: int | str) -> None:
        self.function = function
        self.checkpoint_identity = f"{name}, version {version}"

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """What the function gives."""
        return self.function(*args, **settings)


def identified(function: Callable[..., Any], name: str, version: int | str) -> Identified:
    """`function` under a name and a version, by which checkpoints know it from now on.

    For functions whose code does not say all that they do, or that hold something that changes
    without changing what they do. Whoever changes such a function changes the version. Any other
    object (a task, a model) may have an attribute `checkpoint_identity`, a text, to the same end.
    """
    return Identified(function, name, version)


def describe(
    thing: Any,
    name: str = "",
    *,
    trained: Sequence[nn.Module] | None = None,
    known: Mapping[int, str] | None = None,
) -> Any:
    """JSON values that tell a model, a task, a function or a value from one of another make.

    - Numbers, text and what is made of them: as they are, or a digest where there are many.
    - Tensors and arrays: a digest.
    - Functions: their bytecode, defaults, closures and the globals that they read. Not their file
      or line. Of `lab` the bytecode alone; of the standard library and installed packages the name.
    - Objects: the class, its code, and all attributes; of a dataclass the fields and the public
      attributes, as others hold what was cached. The mode of a module, training or evaluation, is
      not among them, nor are the weights of modules that are `trained`.

    Args:
        thing: to be described.
        name: what the caller calls it, for errors.
        trained: modules whose parameters and buffers change; `thing` itself if None.
        known: names of objects, by their `id`, that stand for them wherever they come up.

    Raises:
        ValueError: something in it cannot be told from another one of its kind; says what, where,
            and that it can carry a name and a version.
    """
    if trained is None:
        trained = [thing] if isinstance(thing, nn.Module) else []
    return _Describer(name, trained, known or {}).describe(thing)


def digest(*tensors: Tensor) -> str:
    """16 hexadecimal digits of the values, shapes and types of tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        found.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        found.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def canonical(value: Any) -> str:
    """JSON in which equal values are equal text, and NaN equals NaN."""
    return json.dumps(value, sort_keys=True)


class _Describer:
    """One walk through an object and all that it holds."""

    def __init__(self, name: str, trained: Sequence[nn.Module], known: Mapping[int, str]) -> None:
        self.trained = {id(module) for model in trained for module in model.modules()}
        tensors = [t for model in trained for t in (*model.parameters(), *model.buffers())]
        self.known = {**{id(tensor): "trained" for tensor in tensors}, **known}
        self.way = [name or "this"]  # names of the attributes that lead here
        self.open: dict[int, int] = {}  # objects on the way, by id, which may hold themselves
        self.code: dict[int, int] = {}  # functions and classes met so far
        self.class_codes: dict[int, str] = {}
        self.kept: list[Any] = []  # what an id stands for must live on, or its id is reused

    def describe(self, thing: Any) -> Any:
        """As the function of that name."""
        own = None if isinstance(thing, type) else getattr(thing, OWN, None)
        if isinstance(own, str):
            return {"class": type(thing).__qualname__, "identity": own}
        if id(thing) in self.known:
            return {"known": self.known[id(thing)]}
        plain = _plain(thing)
        if plain is not _UNKNOWN:
            return plain
        if isinstance(thing, types.FunctionType | type):
            return self._met(thing)
        if id(thing) in self.open:
            return {"class": type(thing).__qualname__, "seen": self.open[id(thing)]}
        self.open[id(thing)] = len(self.open)
        try:
            return self._composed(thing)
        finally:
            del self.open[id(thing)]

    def _composed(self, thing: Any) -> Any:
        """Of something that holds other things."""
        parts = self._container(thing)
        if parts is None:
            parts = self._callable(thing)
        if parts is None:
            code = self._class_code(type(thing))
            parts = {**({"code": code} if code else {}), **self._members(self._attributes(thing))}
        # "class" comes first, so that it is the first difference that anyone is told of.
        return {"class": type(thing).__qualname__, **parts}

    def _members(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        return {_key(name): self._at(_key(name), value) for name, value in parts.items()}

    def _at(self, name: str, value: Any) -> Any:
        self.way.append(name)
        try:
            return self.describe(value)
        finally:
            self.way.pop()

    # --- containers and objects ------------------------------------------------------------------

    def _container(self, thing: Any) -> dict[str, Any] | None:
        if isinstance(thing, Mapping):
            return self._shortened(self._members(thing))
        if isinstance(thing, list | tuple):
            named = {str(index): value for index, value in enumerate(thing)}
            return self._shortened(self._members(named))
        if isinstance(thing, set | frozenset):
            each = sorted((self._at("an element", value) for value in thing), key=canonical)
            return self._shortened({str(index): value for index, value in enumerate(each)})
        return None

    def _shortened(self, parts: dict[str, Any]) -> dict[str, Any]:
        return parts if len(parts) <= _LONG else {"count": len(parts), "digest": _hash(parts)}

    def _attributes(self, thing: Any) -> dict[str, Any]:
        """Everything that an object holds, by name.

        Raises:
            ValueError: it does not show what it holds.
        """
        if isinstance(thing, nn.Module):
            return self._of_module(thing)
        if isinstance(thing, weakref.ref):
            return {"of": thing()}
        reduced = self._reduced(thing)
        if _says_how_it_is_pickled(type(thing)):
            return reduced
        slots = [name for each in type(thing).__mro__ for name in _slots(each)]
        found = {name: getattr(thing, name) for name in slots if hasattr(thing, name)}
        found |= getattr(thing, "__dict__", {})
        if dataclasses.is_dataclass(thing):
            fields = {field.name for field in dataclasses.fields(thing)}
            return {n: v for n, v in found.items() if n in fields or not n.startswith("_")}
        return found

    def _of_module(self, module: nn.Module) -> dict[str, Any]:
        if hasattr(module, "_orig_mod"):  # torch.compile's wrapper
            return {"compiled": module._orig_mod}
        own = {n: v for n, v in vars(module).items() if n not in _OF_ANY_MODULE}
        hooks = {n: list(getattr(module, n).values()) for n in _HOOKS if getattr(module, n)}
        weights: dict[str, Any] = {**module._parameters, **module._buffers}
        if id(module) in self.trained:  # their values change, but not which of them there are
            there = [name for name, value in weights.items() if value is not None]
            weights = {"weights": there} if there else {}
        return own | hooks | weights | dict(module.named_children())

    def _reduced(self, thing: Any) -> dict[str, Any]:
        """What a pickle would hold; there is none of what has a state that nobody can see."""
        by_type = dispatch_table.get(type(thing))
        try:
            parts = thing.__reduce_ex__(2) if by_type is None else by_type(thing)
        except Exception:  # whatever it says: locks, files, iterators, handles of C libraries
            self._refuse(thing)
        if isinstance(parts, str):
            return {"name": parts}
        names = ("made by", "from", "state", "items", "pairs")
        values = [list(p) if i > 2 and p is not None else p for i, p in enumerate(parts[:5])]
        return dict(zip(names, values, strict=False))

    def _refuse(self, thing: Any) -> NoReturn:
        """Raise the sentence.

        Raises:
            ValueError: always.
        """
        way, first = ".".join(self.way), self.way[0]
        raise ValueError(
            f"{way} is a {type(thing).__qualname__}, of which a checkpoint cannot tell whether it "
            f"is the same next time: give {first} a name and a version, as "
            f"lab.train.checkpoint.identified({first}, 'a name', 1), or an attribute {OWN}"
        )

    # --- code ------------------------------------------------------------------------------------

    def _callable(self, thing: Any) -> dict[str, Any] | None:
        """Of what can be called and is neither a function nor an object with attributes."""
        if isinstance(thing, functools.partial):
            parts = {"function": thing.func, "positional": thing.args, "named": thing.keywords}
            return self._members(parts)
        if isinstance(thing, types.MethodType):
            return self._members({"function": thing.__func__, "of": thing.__self__})
        if isinstance(thing, property):
            return self._members({"get": thing.fget, "set": thing.fset})
        for inner in ("__wrapped__", "__func__", "py_func", "func"):
            # Caches, static and class methods, compiled loops, cached properties.
            if not isinstance(thing, nn.Module) and isinstance(
                getattr(thing, inner, None), types.FunctionType
            ):
                return self._members({"function": getattr(thing, inner)})
        if isinstance(thing, _BUILT_IN):
            owner = getattr(thing, "__self__", None)
            named = f"{getattr(thing, '__module__', None)}.{thing.__qualname__}"
            held = owner is not None and not isinstance(owner, types.ModuleType | type)
            return {"name": named, **(self._members({"of": owner}) if held else {})}
        if isinstance(thing, np.ufunc) or type(thing).__module__ == "torch._ops":
            return {"name": str(thing)}
        return None

    def _met(self, thing: Any) -> dict[str, Any]:
        """Of a function or a class; only once, as they may name each other."""
        # What torch.compile has wrapped is compared by what it wraps.
        thing = getattr(thing, "_torchdynamo_orig_callable", thing)
        kind = "type" if isinstance(thing, type) else "function"
        if _origin(thing.__module__) == "library":
            return {kind: f"{thing.__module__}.{thing.__qualname__}"}
        found = {kind: thing.__name__}
        if id(thing) in self.code:
            return {**found, "seen": self.code[id(thing)]}
        self.code[id(thing)] = len(self.code)
        self.kept.append(thing)
        if isinstance(thing, type):
            return {**found, "code": self._class_code(thing)}
        return {**found, **self._function(thing)}

    def _function(self, function: types.FunctionType) -> dict[str, Any]:
        """Bytecode and all that it can see."""
        code = function.__code__
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        parts: dict[str, Any] = {
            "default": function.__defaults__,
            "named default": function.__kwdefaults__,
            "closure": {name: cell.cell_contents for name, cell in cells.items() if _full(cell)},
            "attribute": {n: v for n, v in vars(function).items() if n != "__wrapped__"},
        }
        # By its globals: a decorated function has the module of what it is wrapped around.
        if _origin(function.__globals__.get("__name__")) == "user":
            parts["global"] = dict(_globals(code, function.__globals__))
        found: dict[str, Any] = {"code": _code_digest(code, function.__doc__)}
        for kind, values in parts.items():
            if values:
                named = values if isinstance(values, dict) else dict(enumerate(values))
                found[kind] = self._members({str(name): value for name, value in named.items()})
        return found

    def _class_code(self, cls: type) -> str:
        """A digest of all that the classes of an object define; empty for those of libraries."""
        if id(cls) not in self.class_codes:
            self.kept.append(cls)
            self.class_codes[id(cls)] = cls.__name__  # where it names itself
            own = [each for each in cls.__mro__ if _origin(each.__module__) != "library"]
            written = [[each.__name__, self._members(dict(_written(each)))] for each in own]
            self.class_codes[id(cls)] = _hash(written) if own else ""
        return self.class_codes[id(cls)]


_UNKNOWN = object()
_BUILT_IN = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)


def _plain(thing: Any) -> Any:
    """Of what holds nothing else; `_UNKNOWN` of all else."""
    if isinstance(thing, enum.Enum):
        return f"{type(thing).__qualname__}.{thing.name}"
    if thing is None or type(thing) in (bool, int, float, str):
        return thing
    if isinstance(thing, Tensor):
        return digest(thing) if thing.layout == torch.strided else digest(thing.to_dense())
    if isinstance(thing, np.ndarray) and thing.dtype != object:
        return hashlib.sha256(f"{thing.dtype} {thing.shape}".encode() + thing.tobytes()).hexdigest()
    if isinstance(thing, torch.Generator):
        return {"class": "Generator", "state": digest(thing.get_state())}
    if isinstance(thing, torch.dtype | torch.device):
        return str(thing)
    if isinstance(thing, _BY_TEXT):
        return {"class": type(thing).__qualname__, "value": repr(thing)}
    if isinstance(thing, types.ModuleType):
        return {"module": thing.__name__}
    return _UNKNOWN


_BY_TEXT = (
    int, float, str, complex, bytes, bytearray, range, slice, np.generic, type(...),
    type(NotImplemented), types.GenericAlias, types.UnionType, torch.layout, torch.memory_format,
)  # fmt: skip


def _key(name: Any) -> str:
    """The key of a mapping as text, so that 1 and "1" differ, and none hides the class."""
    if not isinstance(name, str):
        return f"{type(name).__name__} {name!r}"
    return repr(name) if name == "class" else name


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def _says_how_it_is_pickled(cls: type) -> bool:
    names = ("__reduce_ex__", "__reduce__", "__getstate__")
    changed = any(getattr(cls, name) is not getattr(object, name) for name in names)
    return changed or cls in dispatch_table


def _slots(cls: type) -> Sequence[str]:
    slots = cls.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # the name is bound later, or never
        return False
    return True


@functools.cache
def _origin(module: str | None) -> str:
    """Whether a module is of a "library", of the "lab", or the "user"'s: script, notebook, test."""
    top = (module or "").partition(".")[0]
    if top == "lab":
        return "lab"
    if top == "__main__":  # a notebook's, whatever program has started the kernel
        return "user"
    if top in sys.stdlib_module_names:
        return "library"
    file = getattr(sys.modules.get(top), "__file__", None)
    installed = file is not None and {"site-packages", "dist-packages"} & set(Path(file).parts)
    return "library" if installed else "user"


@functools.cache
def _code_digest(code: types.CodeType, doc: str | None) -> str:
    """16 hexadecimal digits of `_bytecode`; code never changes, and every look asks for it."""
    return hashlib.sha256(_bytecode(code, doc)).hexdigest()[:16]


def _bytecode(code: types.CodeType, doc: str | None = None) -> bytes:
    """What a code object does, without its file, lines and docstring."""
    constants = list(code.co_consts)
    if doc is not None and constants and constants[0] == doc:
        constants[0] = None
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    parts = [code.co_code, code.co_exceptiontable, repr((names, counts)).encode()]
    return b"\0".join([*parts, *map(_constant, constants)])


def _constant(value: Any) -> bytes:
    if isinstance(value, types.CodeType):
        return _bytecode(value)
    if isinstance(value, frozenset):  # its order differs from process to process
        return b"frozenset" + b",".join(sorted(map(_constant, value)))
    if isinstance(value, tuple):
        return b"tuple" + b",".join(map(_constant, value))
    return f"{type(value).__name__} {value!r}".encode()


def _globals(code: types.CodeType, space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The globals that code reads; of modules and dataclasses only the attributes that it reads."""
    for name, *attributes in _reads(code):
        if name not in space:
            continue
        value = space[name]
        for further in attributes:
            if not _is_pure(value):
                break
            name, value = f"{name}.{further}", getattr(value, further, None)
        yield name, value
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals(constant, space)


@functools.cache
def _reads(code: types.CodeType) -> list[list[str]]:
    """Every global that code reads, and the attributes that it reads of it one after the other."""
    steps = list(dis.get_instructions(code))
    return [
        [step.argval, *(each.argval for each in takewhile(_is_attribute, steps[i + 1 :]))]
        for i, step in enumerate(steps)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    ]


def _is_attribute(step: dis.Instruction) -> bool:
    return step.opname in ("LOAD_ATTR", "LOAD_METHOD")


def _is_pure(value: Any) -> bool:
    """Whether an attribute is all that reading it reads."""
    return isinstance(value, types.ModuleType) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def _written(cls: type) -> Iterator[tuple[str, Any]]:
    """What the body of a class defines: methods and values, not what Python or a decorator adds."""
    for name, value in sorted(vars(cls).items()):
        inner = getattr(value, "__func__", value)
        if isinstance(inner, types.FunctionType):
            if inner.__code__.co_filename != "<string>":  # made by a dataclass or a named tuple
                yield name, inner
        elif not (name.startswith("__") or name == "_abc_impl" or isinstance(value, _MADE)):
            yield name, inner


_MADE = (types.GetSetDescriptorType, types.MemberDescriptorType)
