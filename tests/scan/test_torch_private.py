"""Private functions of torch are called only in lab/scan/torch_private.py."""

import ast
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad

import lab
from lab.scan import torch_private

FOLDER = Path(lab.__file__).parent
ALLOWED = FOLDER / "scan" / "torch_private.py"
SOURCES = sorted(path for path in FOLDER.rglob("*.py") if path != ALLOWED)
CLASSES = (torch.Tensor, torch.UntypedStorage, torch._ops.OpOverload, torch.library.Library)


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def imported_from_torch(tree):
    """Names that stand for torch, its modules and what they hold; private names in the imports."""
    names, private = set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [each for each in node.names if each.name.split(".")[0] == "torch"]
            names |= {each.asname or "torch" for each in found}
            private += [each.name for each in found if any(map(is_private, each.name.split(".")))]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            names |= {each.asname or each.name for each in node.names}
            parts = [*node.module.split("."), *(each.name for each in node.names)]
            private += [node.module for part in parts if is_private(part)]
    return names, private


def root(node):
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def private_uses(source):
    tree = ast.parse(source)
    names, private = imported_from_torch(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            of_torch = root(node) in names
            of_an_object = root(node) not in ("self", "cls") and any(
                hasattr(each, node.attr) for each in CLASSES
            )
            if of_torch or of_an_object:
                private.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = ast.unparse(node.args[0])
            private += [name] if "torch." in name and "._" in name else []
    return private


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_other_module_calls_what_torch_keeps_private(path):
    assert private_uses(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch._C.f()",
        "import torch._dynamo",
        "import torch as t\nt.nn._x",
        "from torch._functorch import pyfunctorch",
        "from torch.autograd import forward_ad\nforward_ad._current_level",
        "from torch.nn.parallel import _functions",
        "def f(x):\n    return x.untyped_storage()._cdata",
        "def f(op):\n    return op._opname",
        "import importlib\nimportlib.import_module('torch._higher_order_ops')",
    ],
)
def test_the_search_finds_them(source):
    assert private_uses(source)


def test_every_private_call_is_there_in_this_torch():
    x = torch.ones(2)
    assert not torch_private.is_differentiating()
    assert not torch_private.is_watched([x])
    assert not torch_private.is_batched(x)
    assert torch_private.operator_name(torch.ops.lab.linear_scan.default) == "linear_scan"
    assert torch_private.storage_users(x.untyped_storage()) == 2
    identity = torch_private.storage_identity
    assert identity(x.untyped_storage()) == identity(x[:1].untyped_storage())
    assert identity(x.untyped_storage()) != identity(x.clone().untyped_storage())
    assert callable(torch_private.torch_associative_scan())
    assert torch_private.tree_leaves(torch_private.tree_map(abs, (-1, [-2, {}]))) == [1, 2]
    assert torch_private.values_of(x).equal(x)
    assert torch_private.values_of(x.to("meta")) is None
    written = torch_private.writes_to(x)
    x[:1].add_(0)
    assert torch_private.writes_to(x) == written + 1
    graph = torch_private.trace(lambda value: value * x + 1, [torch.zeros(2)])
    assert graph(2 * x).tolist() == [3, 3]
    with torch_private.below_autograd():
        assert not (x.requires_grad_() * 2).requires_grad


def test_the_compiler_knows_the_mark_of_a_constant_answer():
    marked = torch.compiler.assume_constant_result(lambda: None)
    assert vars(marked).items() <= vars(torch_private.is_differentiating).items()
    assert vars(marked)


def test_transforms_and_modes_are_noticed():
    seen = {}

    def look(name):
        def function(x):
            seen[name] = (
                torch_private.is_differentiating(),
                torch_private.is_watched([x]),
                torch_private.is_batched(x),
            )
            assert torch_private.values_of(x).shape == (3, 2)
            return (x * x).sum()

        return function

    x = torch.ones(3, 2)
    torch.vmap(look("vmap"))(x)
    torch.func.grad(look("grad"))(x)
    torch.vmap(torch.func.grad(look("grad in vmap")))(x)
    with forward_ad.dual_level():
        look("dual")(x)
    with torch.profiler.profile():
        look("profile")(x)
    assert seen == {
        "vmap": (False, True, True),
        "grad": (True, True, False),
        "grad in vmap": (True, True, True),
        "dual": (True, False, False),
        "profile": (False, True, False),
    }
