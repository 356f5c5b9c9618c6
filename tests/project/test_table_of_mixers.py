"""README's table of mixers: complete, of classes that exist, with the states that they have."""

import re
from pathlib import Path

import pytest
import torch
from numeric import stream
from torch import nn

import lab.memories
import lab.mixers
import lab.transitions
from lab.audit.state_size import state_bytes
from lab.memories import Memory
from lab.mixers import MultiHead, StateSpace

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = {
    name: [cell.strip() for cell in rest.split("|")]
    for name, rest in re.findall(r"^\| `(\w+)` \|(.*)\|$", TEXT, re.MULTILINE)
    if rest.count("|") == 4
}
PACKAGES = (lab.memories, lab.mixers, lab.transitions)
# What others are derived from, what stands before or behind a mixer, and special cases.
UNLISTED = {
    "Memory", "Transition", "Oscillators", "ShortConvolution", "Convolved", "OutputGate",
}  # fmt: skip

D, B, T = 8, 2, 7
SIZES = {"H": 2, "K": 4, "M": 3, "N": 6, "T": T, "D": D, "r": 2, "taps": 5}


def class_of(name):
    return next(getattr(p, name) for p in PACKAGES if name in p.__all__)


def test_the_table_lists_every_layer_that_is_exported():
    layers = {
        name
        for package in PACKAGES
        for name in package.__all__
        if isinstance(getattr(package, name), type)
        and issubclass(getattr(package, name), nn.Module)
    }
    assert layers - UNLISTED == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_the_notebooks_of_a_row_use_its_class(name):
    numbers = re.findall(r"\d{3}", ROWS[name][-1])
    if ROWS[name][-1] == "none yet":
        notebooks = (ROOT / "notebooks").glob("[0-9]*.py")
        assert not any(re.search(rf"\b{name}\b", path.read_text("utf-8")) for path in notebooks)
        return
    assert numbers
    for number in numbers:
        (path,) = (ROOT / "notebooks").glob(f"{number}_*.py")
        assert re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")), number


def formula(name):
    """The number of a row, from its formula in README."""
    (text,) = re.findall(r"`(.*)`", ROWS[name][3])
    product = re.sub(r"(?<=[\w)])\s+(?=[\w(])", " * ", text)  # H K is a product
    return eval(product, {"__builtins__": {}}, SIZES)


def numbers(mixer):
    """Float64 numbers that a mixer keeps of a sequence; counts of steps are none."""
    x = torch.randn(B, T, D, dtype=torch.float64, generator=stream(0))
    return state_bytes(mixer.double(), x) / 8


def memory(name):
    kind = class_of(name)
    sizes = {"heads": SIZES["H"], "d_key": SIZES["K"], "d_value": SIZES["M"]}
    if name == "CosFormer":
        sizes["horizon"] = 100
    return kind(D, **sizes)


MEMORIES = [name for name in ROWS if issubclass(class_of(name), Memory)]


@pytest.mark.parametrize("name", sorted(set(MEMORIES) - {"LogLinearAttention"}))
def test_a_memory_has_the_state_that_its_row_says(name):
    assert numbers(MultiHead(D, memory(name))) == formula(name)


@pytest.mark.parametrize("name", ["RealDiagonal", "PolarDiagonal", "Circulant"])
def test_a_transition_has_the_state_that_its_row_says(name):
    mixer = StateSpace(D, class_of(name)(D, d_state=SIZES["N"]))
    assert numbers(mixer) == formula(name)
