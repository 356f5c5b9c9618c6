"""What stands in several places agrees: versions, commands, rows of the shared suites."""

import re
from pathlib import Path

import pytest
import yaml
from numeric import stream
from torch import nn
from transition_cases import D_MODEL, MIXERS, TRANSITIONS

import lab
import lab.memories
import lab.mixers
import lab.transitions
from lab.mixers import OscDPLR

ROOT = Path(__file__).parents[2]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


# --- versions ------------------------------------------------------------------------------------


def test_the_changelog_begins_with_this_version():
    assert re.findall(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)[0] == lab.__version__


def test_the_citation_is_of_this_version_and_its_licence():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == lab.__version__
    assert citation["cff-version"] == "1.2.0"
    assert f'license = "{citation["license"]}"' in read("pyproject.toml")
    assert {"title", "authors", "type", "message"} <= citation.keys()


# --- commands ------------------------------------------------------------------------------------


def test_a_commit_is_checked_by_what_ci_checks():
    hooks = [hook for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
             for hook in repo["hooks"]]  # fmt: skip
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE)[1]
    of_commits = [hook["entry"].removeprefix(".venv/bin/") for hook in hooks]
    assert of_commits == [line.strip() for line in lint.splitlines()]
    assert not any(hook["pass_filenames"] for hook in hooks)  # the whole checkout, as in CI
    assert "make lint" in read(".ci/run")


# --- rows of the shared suites -------------------------------------------------------------------

BUILT = [
    *(case.build(stream(0)) for case in (*TRANSITIONS, *MIXERS)),
    OscDPLR(D_MODEL, d_state=2, generator=stream(0)),
]
TESTED = {type(part).__name__ for each in BUILT for part in each.modules()}
# What others are derived from has no rows of its own.
BASES = {"Memory", "Transition", "Oscillators"}


def exported(package):
    """Names of the layers that a package exports."""
    found = {name: getattr(package, name) for name in package.__all__}
    return {
        name
        for name, each in found.items()
        if isinstance(each, type) and issubclass(each, nn.Module) and name not in BASES
    }


@pytest.mark.parametrize("package", [lab.memories, lab.mixers, lab.transitions])
def test_every_layer_that_is_exported_has_rows_in_the_shared_suites(package):
    assert exported(package)
    assert exported(package) - TESTED == set()
