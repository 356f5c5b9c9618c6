"""Which results are older than their code, in a checkout of a few files."""

import json
import subprocess

import pytest

from lab.evidence import MIME, Evidence
from lab.records import stale

FILES = {
    "lab/__init__.py": "from lab.parameters import p\n",
    "lab/parameters.py": "p = 1\n",
    "lab/used.py": "def f():\n    from lab.lazy import g\n\n    return g\n",
    "lab/lazy.py": "g = 1\n",
    "lab/unused.py": "x = 1\n",
    "lab/package/__init__.py": "from .inside import a\nfrom lab.package.other import b as c\n",
    "lab/package/inside.py": "a = 1\n",
    "lab/package/other.py": "b = 1\n",
    "lab/computed/__init__.py": "import importlib\nm = importlib.import_module(f'{__name__}.x')\n",
    "lab/computed/x.py": "",
    "lab/process.py": "",
    "notebooks/004_a.py": "# %%\nimport lab\nfrom lab.package import c\nfrom lab import used\n",
    "notebooks/005_a.py": "# %%\nimport lab.computed\nrun = 'lab.process'\nawait f()\n",
    "params/004.yaml": "a: 1\n",
    "params/smoke/004.yaml": "a: 0\n",
    "README.md": "",
}
OF_004 = [
    "lab/__init__.py", "lab/lazy.py", "lab/package/other.py", "lab/parameters.py", "lab/used.py",
    "notebooks/004_a.py",
]  # fmt: skip


def git(root, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ("git", "-C", str(root), *who, *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def result(root, name, commit, experiment="004"):
    record = Evidence(experiment, title="x", reported={}).record()
    record["environment"]["commit"] = commit
    output = {"output_type": "display_data", "data": {MIME: record}, "metadata": {}}
    cell = {"cell_type": "code", "source": "a", "metadata": {}, "execution_count": 1}
    path = root / "executed" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": [{**cell, "outputs": [output]}]}))


@pytest.fixture
def root(tmp_path):
    write(tmp_path, FILES)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "a")
    return tmp_path


def head(root):
    return git(root, "rev-parse", "HEAD")[:12]


def test_what_a_notebook_takes_from_the_library_is_followed(root):
    found = stale.dependencies(root / "notebooks/004_a.py", root)
    assert sorted(path.relative_to(root).as_posix() for path in found) == OF_004
    found = stale.dependencies(root / "notebooks/005_a.py", root)
    assert sorted(path.relative_to(root).as_posix() for path in found) == [
        "lab/computed/__init__.py", "lab/computed/x.py", "lab/process.py", "notebooks/005_a.py"
    ]  # fmt: skip


@pytest.mark.parametrize("name", [*OF_004, "params/004.yaml"])
def test_a_change_of_anything_it_depends_on_is_listed(root, name):
    result(root, "004.ipynb", head(root))
    assert stale.results(root / "executed", root) == [stale.Result("004.ipynb", head(root), 7)]
    write(root, {name: FILES[name] + "# changed\n"})
    (found,) = stale.results(root / "executed", root)
    assert found.changed == (name,)
    commit = head(root)
    git(root, "commit", "-qam", "b")
    (found,) = stale.results(root / "executed", root)
    assert (found.commit, found.changed) == (commit, (name,))


def test_a_change_elsewhere_or_taken_back_is_not(root):
    result(root, "004.ipynb", head(root) + "+changes")
    write(root, {"lab/unused.py": "x = 2\n", "params/smoke/004.yaml": "", "lab/lazy.py": "g = 2\n"})
    git(root, "commit", "-qam", "b")
    write(root, {"lab/lazy.py": "g = 1\n"})
    (found,) = stale.results(root / "executed", root)
    assert found.changed == ()


def test_a_new_module_counts_before_it_is_committed(root):
    result(root, "004.ipynb", head(root))
    write(root, {"lab/lazy.py": "from lab.new import g\n", "lab/new.py": "g = 1\n"})
    (found,) = stale.results(root / "executed", root)
    assert found.changed == ("lab/lazy.py", "lab/new.py")


def test_smoke_runs_have_parameters_of_their_own(root):
    result(root, "smoke/004.ipynb", head(root))
    write(root, {"params/smoke/004.yaml": "a: 2\n", "params/004.yaml": "a: 3\n"})
    (found,) = stale.results(root / "executed" / "smoke", root)
    assert found.changed == ("params/smoke/004.yaml",)


@pytest.mark.parametrize(
    ("experiment", "commit", "unknown"),
    [
        ("004", None, "its record names no commit"),
        ("004", "0123456789ab", "its commit is not in this repository"),
        ("004", "--output=x", "its commit is not in this repository"),
        ("006", "0123456789ab", "0 notebooks have its number"),
        ("../004", "0123456789ab", "0 notebooks have its number"),
    ],
)
def test_what_cannot_be_told_is_said(root, experiment, commit, unknown):
    result(root, "x.ipynb", commit, experiment)
    (found,) = stale.results(root / "executed", root)
    assert found.unknown == unknown
    assert stale.summary([found]) == (
        "0 of 1 results are older than the code they ran; of 1 it cannot be told."
    )


def test_outside_a_checkout_there_is_nothing_to_compare(tmp_path):
    (tmp_path / "executed").mkdir()
    with pytest.raises(stale.StaleError, match="is no git checkout with a commit"):
        stale.results(tmp_path / "executed", tmp_path)
