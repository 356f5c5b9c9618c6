"""Functions, models and tasks have different identities, whatever it is that differs."""

import collections
import contextlib
import dataclasses
import enum
import functools
import io
import random
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numeric import stream
from torch import nn
from transition_cases import MIXERS

from lab.mixers import DeltaNet
from lab.tasks import AnonymousOscillations, KnownOscillators, Recall, Stored, WordProblem
from lab.tasks.groups import symmetric
from lab.train.checkpoint import describe, identified
from lab.train.identity import canonical


def same(one, other):
    return canonical(describe(one)) == canonical(describe(other))


def scaled(factor, offset=0.0):
    def inner(step, add=1.0):
        return factor * step + add + offset

    return inner


def compiled(source, **names):
    """A function of that source, in a file and at a line of its own each time."""
    compiled.count += 1
    code = compile("\n" * compiled.count + textwrap.dedent(source), f"file{compiled.count}", "exec")
    space = {"__name__": "somewhere", **names}
    exec(code, space)
    return space["f"]


compiled.count = 0

FUNCTIONS = {
    "a constant": "def f(x): return x + 2",
    "another": "def f(x): return x + 3",
    "of another type": "def f(x): return x + 2.0",
    "an operator": "def f(x): return x * 2",
    "a name": "def f(x): return x.sin()",
    "another name": "def f(x): return x.cos()",
    "a default": "def f(x, y=2): return x + y",
    "another default": "def f(x, y=3): return x + y",
    "a named default": "def f(x, *, y=2): return x + y",
    "a nested function": "def f(x):\n  def g(z): return z + 1\n  return g(x)",
    "another nested one": "def f(x):\n  def g(z): return z + 2\n  return g(x)",
    "a closure": "def h(k):\n  def g(x): return x + k\n  return g\nf = h(1)",
    "another closure": "def h(k):\n  def g(x): return x + k\n  return g\nf = h(2)",
    "over a closure": "def h(k):\n  g = lambda x: x + k\n  return lambda x: g(x)\nf = h(1)",
    "over another": "def h(k):\n  g = lambda x: x + k\n  return lambda x: g(x)\nf = h(2)",
    "a global": "c = 1\ndef f(x): return x + c",
    "another global": "c = 2\ndef f(x): return x + c",
    "a function that is global": "def g(x): return x + 1\ndef f(x): return g(x)",
    "another function": "def g(x): return x + 2\ndef f(x): return g(x)",
    "a global in a nested one": "c = 1\ndef f(x): return [y + c for y in x]",
    "another in a nested one": "c = 2\ndef f(x): return [y + c for y in x]",
    "a class": "class A:\n  def g(self): return 1\ndef f(x): return A().g()",
    "another class": "class A:\n  def g(self): return 2\ndef f(x): return A().g()",
    "a class with a value": "class A:\n  c = 1\ndef f(x): return A.c",
    "another value": "class A:\n  c = 2\ndef f(x): return A.c",
    "a set": "def f(x): return x in {1, 2}",
    "another set": "def f(x): return x in {1, 3}",
    "except": "def f(x):\n  try: return 1 / x\n  except ZeroDivisionError: return 0",
    "except another": "def f(x):\n  try: return 1 / x\n  except ArithmeticError: return 0",
}


def test_functions_that_do_something_else_are_told_apart():
    found = {}
    for name, source in FUNCTIONS.items():
        found.setdefault(canonical(describe(compiled(source))), []).append(name)
    assert max(map(len, found.values())) == 1, found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_do_the_same_are_the_same_wherever_they_stand(name):
    commented = f"# a comment\n\n{FUNCTIONS[name]}\n# and another\n"
    assert same(compiled(FUNCTIONS[name]), compiled(commented))


def test_a_docstring_and_globals_that_are_not_read_make_no_difference():
    plain = "c = 1\ndef f(x):\n  'one'\n  return x.c"
    assert same(compiled(plain), compiled(plain.replace("one", "two").replace("c = 1", "c = 2")))


def test_of_a_dataclass_and_a_module_only_what_is_read_counts():
    @dataclasses.dataclass(frozen=True)
    class Parameters:
        lr: float
        samples: int

    source = "def f(x): return x * p.lr"
    first = compiled(source, p=Parameters(0.1, 5))
    assert same(first, compiled(source, p=Parameters(0.1, 6)))
    assert not same(first, compiled(source, p=Parameters(0.2, 5)))
    assert not same(compiled("def f(x): return m.sin(x)", m=torch),
                    compiled("def f(x): return m.sin(x)", m=np))  # fmt: skip


class Callable:
    def __init__(self, factor):
        self._factor = factor

    def __call__(self, step):
        return self._factor * step

    def method(self, step):
        return self(step)


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


Pair = collections.namedtuple("Pair", "a b")
PAIRS = {  # two that differ
    "closures": lambda x: scaled(x),
    "second closures": lambda x: scaled(1, x),
    "partials": lambda x: functools.partial(scaled, x),
    "partials by name": lambda x: functools.partial(torch.optim.AdamW, weight_decay=x),
    "partials of lambdas": lambda x: functools.partial(lambda y, z: y, scaled(x)),
    "optimisers in a lambda": lambda x: lambda p: torch.optim.SGD(p, momentum=x),
    "callable objects": Callable,
    "bound methods": lambda x: Callable(x).method,
    "cached functions": lambda x: functools.lru_cache(scaled(x)),
    "decorated functions": lambda x: torch.no_grad()(scaled(x)),
    "slots": Slotted,
    "sets": lambda x: {x},
    "frozen sets": lambda x: frozenset([x]),
    "bytes": lambda x: bytes([x]),
    "complex numbers": lambda x: complex(0, x),
    "arrays": lambda x: np.array([x]),
    "types of arrays": lambda x: np.array([1], [None, "int8", "int16"][x]),
    "arrays of objects": lambda x: np.array([{x}, None]),
    "numbers of numpy": np.float32,
    "deques": lambda x: collections.deque([x]),
    "counters": lambda x: collections.Counter({"a": x}),
    "named tuples": lambda x: Pair(x, 0),
    "ranges": range,
    "slices": slice,
    "paths": lambda x: Path(str(x)),
    "enumerations": Colour,
    "types": lambda x: [None, torch.float32, torch.float64][x],
    "random numbers": random.Random,
    "random numbers of numpy": np.random.default_rng,
    "random numbers of torch": stream,
    "deep lists": lambda x: [[[[[[[[[[[[x]]]]]]]]]]]],
    "keys of other types": lambda x: {[None, 1, "1"][x]: 0},
    "a key named class": lambda x: {"class": x},
    "truths and numbers": lambda x: [None, True, 1][x],
    "whole numbers and others": lambda x: [None, 1, 1.0][x],
    "long lists": lambda x: [*range(1000), x],
    "hooks": lambda x: hooked(scaled(x)),
    "frozen teachers": lambda x: [filled(nn.Linear(2, 2), x)],
    "buffers or none": lambda x: DeltaNet(
        6, heads=2, d_key=3, routing=[None, "columns", "permutations"][x]
    ),
    "sparse tensors": lambda x: torch.eye(3).mul(x).to_sparse(),
}


def hooked(hook):
    model = nn.Linear(2, 2)
    model.register_forward_hook(hook)
    return model


def filled(model, value):
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


@pytest.mark.parametrize("kind", PAIRS)
def test_things_that_differ_are_told_apart_and_those_that_do_not_are_not(kind):
    build = PAIRS[kind]
    assert same(build(1), build(1))
    assert not same(build(1), build(2))


class First(nn.Module):
    """Private and public settings, and what no description ever saw beyond eight levels."""

    def __init__(self, scale=1.0):
        super().__init__()
        self._scale = scale

    def forward(self, x):
        return self._scale * x


def test_private_attributes_of_modules_count():
    assert same(First(), First())
    assert not same(First(), First(2.0))


def test_classes_of_one_name_and_another_body_are_told_apart():
    def build(factor):
        class Model(nn.Module):
            def forward(self, x):
                return x * 2 if factor == 2 else x * 3

        class Other(nn.Module):
            factor = 2

            def forward(self, x):
                return x * self.factor

        Other.__name__ = Other.__qualname__ = Model.__qualname__
        Other.__module__ = Model.__module__
        return Model(), Other()

    assert not same(*build(2))
    assert same(build(2)[0], build(2)[0])
    assert not same(build(2)[0], build(3)[0])  # what its methods close over


def test_inherited_methods_count():
    def build(source):
        base = compiled(source)
        return type("Task", (base,), {})()

    assert not same(build("class f:\n  def g(self): return 1"),
                    build("class f:\n  def g(self): return 2"))  # fmt: skip


def test_a_property_a_static_method_and_a_cached_property_count():
    for kind in ("property", "staticmethod", "classmethod", "cached_property"):
        source = "class f:\n  @{}\n  def g(self=0): return {}"
        names = {"cached_property": functools.cached_property}
        one, other = (compiled(source.format(kind, value), **names)() for value in (1, 2))
        assert not same(one, other), kind


def test_what_a_dataclass_keeps_in_private_is_a_cache():
    task = Recall(pairs=2, queries=1, symbols=4)
    before = canonical(describe(task))
    object.__setattr__(task, "_cache", 3)
    assert canonical(describe(task)) == before


def test_functions_that_name_each_other_and_themselves_have_an_end():
    source = "def g(x): return f(x - 1)\ndef f(x): return g(x) if x else {}"
    assert same(compiled(source.format(0)), compiled(source.format(0)))
    assert not same(compiled(source.format(0)), compiled(source.format(1)))


NAMELESS = {
    "a lock": threading.Lock,
    "a file": Path(__file__).open,
    "a generator": lambda: (x for x in [1]),
    "a thread": threading.Thread,
}


@pytest.mark.parametrize("kind", NAMELESS)
def test_what_cannot_be_told_is_refused_with_the_remedy(kind):
    thing = NAMELESS[kind]()

    def before_update(step):
        return thing

    sentence = (
        r"^before_update\.thing.* is a .*, of which a checkpoint cannot tell whether it "
        r"is the same next time: give before_update a name and a version, as "
        r"lab\.train\.checkpoint\.identified\(before_update, 'a name', 1\), or an attribute"
    )
    with pytest.raises(ValueError, match=sentence):
        describe(before_update, "before_update")
    named = identified(before_update, "raise mu", 1)
    assert named(0) is thing
    assert same(named, identified(print, "raise mu", 1))
    assert not same(named, identified(before_update, "raise mu", 2))
    assert not same(named, identified(before_update, "lower mu", 1))
    if hasattr(thing, "close"):
        thing.close()


def test_a_task_may_carry_a_name_of_its_own():
    class Task:
        checkpoint_identity = "words, version 2"

        def __init__(self):
            self.lock = threading.Lock()

    assert same(Task(), Task())


@pytest.mark.parametrize("case", MIXERS, ids=lambda case: case.name)
def test_every_mixer_can_be_described(case):
    assert same(case.mixer(), case.mixer())
    assert same(case.mixer(), case.mixer(seed=1))  # the weights are compared elsewhere


def test_every_task_can_be_described():
    words = WordProblem(symmetric(4), [1, 2])
    known = KnownOscillators.draw(2, stream(0))
    tasks = [words, known, AnonymousOscillations(), Stored(words, 9, 5, stream(0)),
             Stored(words, 9, 5, stream(1)), Stored(known, 9, 5, stream(0))]  # fmt: skip
    found = [canonical(describe(task)) for task in tasks]
    assert len(set(found)) == len(tasks)


def test_a_description_is_the_same_in_another_process():
    # Sets and their like come in another order there, and every object has another address.
    script = """
        import functools, torch
        from lab.train.identity import canonical, describe
        words = {"alpha", "beta", "gamma", "delta"}
        def f(x, y={"a", "b", "c", "d"}): return x in {"a", "b", "c", "d"}, words
        class A:
            words = frozenset("abcdef")
            def g(self): return f
        parts = [f, functools.partial(f, y=words), A(), torch.nn.GELU(), lambda: f, {"a": f}]
        print(canonical([describe(part) for part in parts]))
    """
    script = textwrap.dedent(script)
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(script, {"__name__": "__main__"})
    there = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert there.stdout == here.getvalue()
