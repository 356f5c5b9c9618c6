"""Tests check annotated shapes, and all public functions of some folders have them."""

import ast
import re
import sys
import textwrap
from pathlib import Path

import pytest
import shapes
import torch

from lab.mixers import DelayLine
from lab.scan import linear_scan

ROOT = Path(__file__).parents[2]

MODULE = """
from functools import cache, cached_property
from jaxtyping import Float, Int64
from torch import Tensor

def outer(a: Float[Tensor, "M"], b: Float[Tensor, "N"] | None = None) -> Float[Tensor, "M N"]:
    if a.ndim != 1:
        raise ValueError("a must be (M,)")
    return a[:, None] * (a if b is None else b)

def wrong(a: Float[Tensor, "M N"]) -> Float[Tensor, "M"]:
    return a.sum(0)

def pair(x: Float[Tensor, "B T"]) -> tuple[Float[Tensor, "B"], int]:
    return x[:, 0], x.shape[1]

def plain(a: Tensor) -> int:
    return a.ndim

class Table:
    def __init__(self, values: Float[Tensor, "V D"]) -> None:
        self.values = values

    def rows(self, tokens: Int64[Tensor, "B"]) -> Float[Tensor, "B D"]:
        return self.values[tokens]

    @staticmethod
    def of_one(row: Float[Tensor, "D"]) -> Float[Tensor, "1 D"]:
        return row[None]

    @property
    def first(self) -> Float[Tensor, "D"]:
        return self.values[:1]

    @cached_property
    def last(self) -> Float[Tensor, "D"]:
        return self.values[-1:]
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A module with annotated shapes, imported as tests import the rooms of lab."""
    folder = tmp_path_factory.mktemp("annotated")
    (folder / "annotated_example.py").write_text(textwrap.dedent(MODULE))
    sys.path.insert(0, str(folder))
    shapes.check("annotated_example")
    try:
        import annotated_example
    finally:
        sys.path.remove(str(folder))
        del sys.meta_path[0]
    return annotated_example


ones = torch.ones


def test_calls_that_are_as_annotated_pass(example):
    assert (
        example.outer(ones(2), ones(3)).shape == example.outer(ones(2), b=ones(3)).shape == (2, 3)
    )
    assert example.outer(ones(2)).shape == (2, 2)
    assert example.pair(ones(2, 3))[1] == 3
    table = example.Table(ones(5, 3))
    assert table.rows(torch.tensor([1, 1])).shape == (2, 3)
    assert table.of_one(ones(3)).shape == (1, 3)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: m.wrong(ones(2, 3)), r"wrong: the result is torch.float32 \(3,\)"),
        (lambda m: m.outer(ones(2, dtype=torch.int64)), r"outer: a is torch.int64 \(2,\)"),
        (lambda m: m.outer(ones(2), ones(1, 2)), r"outer: b is torch.float32 \(1, 2\); .* \| None"),
        (lambda m: m.pair(ones(2, 3, 4)), r"pair: x is torch.float32 \(2, 3, 4\); .*Float.*'B T'"),
        (lambda m: m.Table(ones(5)), r"Table.__init__: values is torch.float32 \(5,\)"),
        (lambda m: m.Table(ones(5, 3)).rows([1]), r"Table.rows: tokens is \(1\)"),
        (lambda m: m.Table(ones(5, 3)).first, r"Table.first: the result is torch.float32 \(1, 3\)"),
        (lambda m: m.Table(ones(5, 3)).last, r"Table.last: the result is torch.float32 \(1, 3\)"),
        (lambda m: m.Table.of_one(ones(2, 3)), r"Table.of_one: row is torch.float32 \(2, 3\)"),
    ],
)
def test_a_call_that_is_not_as_annotated_is_refused(example, call, sentence):
    for _ in range(2):  # what was refused once is not taken for known
        with pytest.raises(shapes.ShapeError, match=sentence):
            call(example)


def test_a_wrong_annotation_may_fit_one_call_and_not_another(example):
    example.wrong(ones(3, 3))
    with pytest.raises(shapes.ShapeError):
        example.wrong(ones(2, 3))


def test_what_a_function_refuses_itself_keeps_its_own_sentence(example):
    with pytest.raises(ValueError, match=r"a must be \(M,\)"):
        example.outer(ones(2, 3))


def test_functions_without_shapes_are_left_alone(example):
    assert not hasattr(example.plain, "__wrapped__")


def test_every_function_is_compiled_on_its_own_account(example):
    assert example.outer.__code__ is not example.wrong.__code__


def test_compiled_and_mapped_calls_go_through(example):
    compiled = torch.compile(example.outer, fullgraph=True, backend="eager")
    assert compiled(ones(2), ones(3)).shape == (2, 3)
    assert torch.vmap(example.outer)(ones(4, 2), ones(4, 3)).shape == (4, 2, 3)


def test_a_room_that_is_imported_already_cannot_be_checked():
    with pytest.raises(RuntimeError, match="were imported before: their shapes would not be"):
        shapes.check("lab.scan")


def test_the_rooms_of_lab_are_checked():
    for function in (linear_scan, DelayLine.forward, DelayLine.step):
        assert "return" in shapes.hints_of(function)


# --- every public function has them --------------------------------------------------------------

# What takes tensors of any shape and dtype, or is about to say which it takes.
ANY = {
    "lab/linalg/fenwick.py": {"advance"},
    "lab/linalg/precision.py": {"wide", "autocasts", "uncast"},
    "lab/linalg/structure.py": {"with_one_batch"},
    "lab/nn/guard.py": {"check_numbers", "check_reset", "check_tokens"},
    "lab/scan/arguments.py": {"alike", "full_precision", "within"},
    "lab/scan/block.py": {"gradients"},
    "lab/scan/growth.py": {"Growth.see"},
    "lab/scan/log.py": {"real"},
    "lab/scan/operators.py": {"Operator.differentiable"},
    "lab/scan/torch_private.py": {
        "compile_graph",
        "is_batched",
        "is_watched",
        "trace",
        "values_of",
        "writes_to",
    },
}
SHAPED = re.compile(r"\b[A-Z]\w+\[Tensor, '[^']*'\]|Callable\[\.\.\., Tensor\]")


def annotated():
    """File and name of every public function, and whether a tensor in it has no shape."""
    for room in shapes.ROOMS:
        folder = ROOT.joinpath(*room.split("."))
        paths = sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
        for path in paths:
            for name, node in public(ast.parse(path.read_text())):
                args = node.args
                every = [*args.posonlyargs, *args.args, *args.kwonlyargs]
                hints = [each.annotation for each in every] + [node.returns]
                texts = [SHAPED.sub("", ast.unparse(hint)) for hint in hints if hint]
                yield str(path.relative_to(ROOT)), name, any("Tensor" in text for text in texts)


def public(node, within=""):
    for each in ast.iter_child_nodes(node):
        name = getattr(each, "name", "_")
        if name.startswith("_") and name not in ("__call__", "__matmul__"):
            continue
        if isinstance(each, ast.ClassDef):
            yield from public(each, f"{name}.")
        elif isinstance(each, ast.FunctionDef):
            yield f"{within}{name}", each


def test_every_public_function_says_the_shapes_of_its_tensors():
    found = list(annotated())
    assert ("lab/scan/linear.py", "linear_scan", False) in found
    bare = {(path, name) for path, name, is_bare in found if is_bare}
    assert bare == {(path, name) for path, names in ANY.items() for name in names}
