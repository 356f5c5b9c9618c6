"""The defaults of a notebook: the cost of Run All, and the full run shown beside a short one."""

import math
import re
from pathlib import Path

import jupytext
import pytest
import yaml

from lab.params.parameters import declarations

ROOT = Path(__file__).parents[2]
NUMBERED = {
    path.stem.split("_")[0]: path for path in sorted((ROOT / "notebooks").glob("[0-9]*_*.py"))
}
SHAPE = re.compile(r"\d+(x\d+)+")

# Parameters that cost no time, and why.
FREE = {
    "experiment": "it names the notebook",
    "device": "it says where to train",
    "folder": "it says which records are read",
    "expected": "it says which records must be among them",
}


def parameters_cell(path):
    cells = jupytext.read(path).cells
    return next(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))


def defaults(path):
    """The declared defaults of a notebook, by name, without those that cost no time."""
    declared = declarations(parameters_cell(path))
    return {name: entry.default for name, entry in declared.items() if name not in FREE}


def given(number, folder=""):
    return yaml.safe_load((ROOT / "params" / folder / f"{number}.yaml").read_text())


def cost(name, value):
    """What a value costs, in a unit of its own: more is slower.

    Seeds cost by their count, lists of sizes by their sum, lists of names by their length, and
    shapes such as 8x1024x256 by their numbers of elements.
    """
    if isinstance(value, list):
        is_seeds = name.endswith("seeds")
        return len(value) if is_seeds else sum(cost(name, each) for each in value)
    if isinstance(value, str):
        return math.prod(map(int, value.split("x"))) if SHAPE.fullmatch(value) else 1
    return value


def test_cost_counts_seeds_and_adds_up_sizes_and_shapes():
    assert cost("copy_seeds", [7, 900]) == 2
    assert cost("loads", [4, 8]) == 12
    assert cost("shapes", ["2x3x4", "1x5x1"]) == 29
    assert cost("memory_of", ["lab.scan", "mambapy pscan"]) == 2
    assert cost("with_compile", True) > cost("with_compile", False)


@pytest.mark.parametrize("number", NUMBERED)
def test_every_parameter_that_costs_time_is_given_in_full_and_smoke_runs(number):
    # Else a lower default would change a full run, and nobody would notice.
    for folder in ("", "smoke"):
        assert not defaults(NUMBERED[number]).keys() - given(number, folder).keys(), folder


@pytest.mark.parametrize("number", NUMBERED)
def test_defaults_and_smoke_runs_cost_no_more_than_full_runs(number):
    full, smoke = given(number), given(number, "smoke")
    for name, default in defaults(NUMBERED[number]).items():
        most = cost(name, full[name])
        assert cost(name, default) <= most, f"the default of {name} is above the full run's"
        assert cost(name, smoke[name]) <= most, f"{name} of the smoke run is above the full run's"


MEASURED = yaml.safe_load((ROOT / "tests" / "records" / "measured_defaults.yaml").read_text())
NOTEBOOKS = {**NUMBERED, "_template": ROOT / "notebooks" / "_template.py"}


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_defaults_cost_no_more_than_what_was_found_to_take_a_minute(number):
    # The clock of a test says little. That no default grew since then says much.
    measured = dict(MEASURED[number])
    assert 0 < measured.pop("cpu_seconds") < 60
    current = defaults(NOTEBOOKS[number])
    assert current.keys() == measured.keys()
    for name, default in current.items():
        assert cost(name, default) <= cost(name, measured[name]), (
            f"the default of {name} grew: run the notebook at its defaults, and write what it "
            "takes into tests/records/measured_defaults.yaml"
        )
