"""Training leaves the compiler alone, and who wants it gets all of it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINED = """
import sys, warnings
import torch
from torch import nn
from lab.tasks import WordProblem, groups
from lab.train import fit

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Embedding(2, 2)
    def forward(self, tokens):
        return self.inner(tokens)

def trained(optimizer, **settings):
    torch.manual_seed(0)
    model = Tiny()
    task = WordProblem(groups.cyclic(2), range(2))
    history = fit(model, task, seed=0, steps=3, batch=4, length=3, lr=0.1, device="cpu",
                  optimizer=optimizer, **settings)
    return model.inner.weight.tolist(), history.loss.tolist()
"""


def run(program, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", TRAINED + program, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_training_imports_no_compiler_and_gives_the_same_numbers_with_one(name, tmp_path):
    run(
        """
optimizer = getattr(torch.optim, sys.argv[1])
found = trained(optimizer, checkpoint=sys.argv[2] + "/a.safetensors", clip=1.0)
assert "torch._dynamo" not in sys.modules
import torch._dynamo
assert trained(optimizer, clip=1.0) == found
assert torch._dynamo.is_compiling() is False
""",
        name,
        str(tmp_path),
    )


def test_the_compiler_is_told_what_not_to_compile_once_it_is_there():
    run(
        """
from lab.train.without_compiler import without_compiler

with without_compiler():
    import torch._dynamo
    calls = torch._dynamo.disable(lambda: torch.compiler.is_compiling())
    assert type(torch._dynamo).__name__ == "_StandIn" and calls() is False
assert "torch._dynamo" not in sys.modules
compiled = torch.compile(lambda: calls(), backend="eager")
assert compiled() is False
"""
    )


@pytest.mark.parametrize(
    "wanted",
    ["import torch._dynamo.config", "import torch; torch._dynamo.config.suppress_errors",
     "from torch._dynamo import is_compiling"],
)  # fmt: skip
def test_all_else_of_the_compiler_is_its_own(wanted):
    run(
        f"""
from lab.train.without_compiler import without_compiler

with without_compiler():
    {wanted}
assert type(sys.modules["torch._dynamo"]).__name__ == "module"
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)) == 2
"""
    )
