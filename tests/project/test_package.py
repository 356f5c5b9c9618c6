"""What is installed and what an import loads: the library works without the notebooks' packages."""

import ast
import email
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import lab

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# What the extra `notebooks` installs, and what comes with it, under the names of import.
NOTEBOOKS_NEED = {
    "IPython", "click", "ipykernel", "ipywidgets", "jupyter_client", "jupyterlab", "jupytext",
    "matplotlib", "nbclient", "nbformat", "nbval", "pandas", "papermill", "plotly", "traitlets",
    "yaml",
}  # fmt: skip
# Modules of figures, of papermill and of what a notebook displays; all else is the library.
FOR_NOTEBOOKS = (
    "lab.experiment",
    "lab.records.papermill_handler",
    *("lab.records.papermill_saves", "lab.params.plain_yaml", "lab.records.committed"),
    "lab.params.papermill_checks",
    *("lab.records.programme", "lab.records.repaint"),
    "lab.plots",
)

# Python without the extra: its packages cannot be imported.
WITHOUT = f"""
import sys
import warnings

import importlib.machinery

class Without(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        missing = name.partition(".")[0] in {sorted(NOTEBOOKS_NEED)!r}
        return None if missing else super().find_spec(name, path, target)

standard = importlib.machinery.PathFinder
sys.meta_path[:] = [Without if finder is standard else finder for finder in sys.meta_path]
warnings.simplefilter("error")
"""


def run(program, cwd=ROOT):
    """What a program of this Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def library():
    """The names of all modules of the library for which no GPU is needed."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "lab").rglob("*.py")]
    names = {".".join(path.parts).removesuffix(".__init__") for path in paths}
    on_gpu = {name for name in names if name.startswith("lab.scan.gpu.")}
    return sorted(name for name in names - on_gpu if not name.startswith(FOR_NOTEBOOKS))


# Imported where they are used: each takes about as long as all of `lab`, or longer. numba, which
# compiles the scans, brings yaml and a part of scipy along.
HEAVY = (NOTEBOOKS_NEED - {"yaml"}) | {"scipy.stats", "scipy.optimize", "torch._dynamo", "triton"}


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("lab.train", {"scipy", "numba"}),
        ("lab.tasks", {"scipy", "numba"}),
        ("lab.audit", set()),
        ("lab.mixers", set()),
        ("lab.scan", set()),
        ("lab.evidence", {"torch", "numpy"}),
        ("lab.research_log", {"torch", "numpy"}),
        ("lab", {"torch", "numpy"}),
    ],
)
def test_an_import_brings_nothing_heavy_along(module, others):
    loaded = set(run(f"import sys, {module}; print(*sys.modules)").split())
    assert module in loaded
    assert not (HEAVY | others) & loaded


def test_the_library_does_without_the_notebooks():
    program = f"""
import importlib
for name in {library()!r}:
    importlib.import_module(name)
import torch
from lab.memories import DeltaRule
from lab.mixers import MultiHead
from lab.model import SequenceModel
from lab.tasks import ZoologyRecall
from lab.train import fit
torch.manual_seed(0)
task = ZoologyRecall(vocabulary=16, pairs=2)
mixer = MultiHead(8, DeltaRule(8, heads=1, d_key=4))
model = SequenceModel(task.vocabulary, task.classes, 8, [mixer])
history = fit(model, task, steps=2, batch=2, length=task.length, lr=1e-3, seed=0)
print(len(history.loss), sorted(task.ceilings))
try:
    lab.parameters()
except lab.params.parameters.ParameterError as error:
    print(error)
"""
    trained, sentence = run(f"{WITHOUT}\nimport lab\n{program}").splitlines()
    assert trained.startswith("2 [")
    assert sentence.startswith("lab.parameters() was called outside a notebook")


def test_a_progress_bar_that_is_asked_for_needs_no_notebook():
    program = """
import os
os.environ["LAB_PANELS"] = "live"
from lab.progress import Progress
with Progress("training", 3) as shown:
    shown.advance()
    print("advanced")
"""
    assert run(WITHOUT + program) == "advanced\n"


def imports(path):
    """Names of the packages that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


# Imported under another name, or by way of a package that is declared and cannot do without it.
BY_WAY_OF = {
    "IPython": "ipywidgets", "click": "papermill", "nbformat": "papermill", "yaml": "pyyaml",
    "PIL": "matplotlib", "jinja2": "nbconvert", "llvmlite": "numba",
    "accelerated_scan": "accelerated-scan",
}  # fmt: skip


def requirements(*extras):
    """Lines of pyproject.toml: of the library, and of these extras."""
    optional = PROJECT["optional-dependencies"]
    return [*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])]


def declared(*extras):
    return {re.match(r"[\w.-]+", line)[0] for line in requirements(*extras)}


def test_every_import_is_declared():
    names = {name for path in (ROOT / "lab").rglob("*.py") for name in imports(path)}
    # A contender of the benchmark that is measured only where somebody has installed it.
    others = names - set(sys.stdlib_module_names) - {"lab", "fla"}
    needed = {BY_WAY_OF.get(name, name) for name in others}
    assert needed <= declared("notebooks", "gpu", "cluster", "text", "dev")


# The build that pip starts, in a copy of the sources, since setuptools leaves its own in place.
BUILD = "import setuptools.build_meta as build; print(build.build_wheel({folder!r}))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """What `pip install .` installs: contents by name."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "lab", source / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    name = run(BUILD.format(folder=str(folder)), cwd=source).splitlines()[-1]
    with zipfile.ZipFile(folder / name) as archive:
        return {each: archive.read(each).decode() for each in archive.namelist()}


def test_the_wheel_holds_the_whole_package(wheel):
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "lab").rglob("*.py")}
    installed = {name for name in wheel if name.endswith((".py", ".typed"))}
    assert installed == sources | {"lab/py.typed"}


def test_the_metadata_say_what_it_is_and_needs(wheel):
    (text,) = (content for name, content in wheel.items() if name.endswith("/METADATA"))
    metadata = email.message_from_string(text)
    assert metadata["Version"] == lab.__version__
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert (
        metadata.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    )
    needs = metadata.get_all("Requires-Dist")
    alone = {re.match(r"[\w.-]+", need)[0] for need in needs if "extra ==" not in need}
    assert alone == {
        "torch", "numpy", "jaxtyping", "numba", "scipy", "platformdirs", "safetensors", "tqdm",
    }  # fmt: skip


def test_only_the_constraints_are_exact():
    versions = [line.partition(";")[0] for line in requirements("notebooks", "gpu", "docs", "dev")]
    assert not [version for version in versions if "==" in version or "<" in version]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {re.match(r"([\w.-]+)==", line)[1] for line in lines if line[0] != "#"}
    assert {name.lower() for name in declared("notebooks", "gpu", "docs", "dev")} <= pinned
