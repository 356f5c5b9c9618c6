"""Imports point downwards: from a room of lab/ to one on a lower floor, and never in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# From the ground up. A room imports itself and rooms on lower floors.
FLOORS = (
    {"arguments", "files", "frontend", "git", "statistics"},
    {"params", "progress"},
    {"evidence", "linalg", "seeding"},
    {"nn", "scan", "tasks"},
    {"memories", "plots", "train", "transitions"},
    {"records"},
    {"mixers"},
    {"model"},
    {"audit"},
    {"benchmark", "experiment"},
    {"__init__", "research_log"},  # what is typed, or imported first
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def name_of(path):
    """The module in a file: lab.scan for lab/scan/__init__.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(path): path for path in (ROOT / "lab").rglob("*.py")}


def room_of(module):
    return module.split(".")[1] if "." in module else "__init__"


def imported(source):
    """Every name that an import statement mentions, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not in use here"
            for alias in node.names:  # a module of a package, or a name in a module
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES else node.module


def modules(source):
    """The modules of lab that a source imports."""
    return {name for name in imported(source) if name in FILES and name != "lab"}


def too_high(module, used):
    """Those of the modules in use that are not below the floor of a module."""
    own = room_of(module)
    return {u for u in used if room_of(u) != own and FLOOR[room_of(u)] >= FLOOR[own]}


def circle(uses):
    """The modules of a circle, or an empty list."""
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        return error.args[1]
    return []


USES = {name: modules(path.read_text()) for name, path in FILES.items()}


def test_every_room_has_a_floor():
    assert {room_of(name) for name in FILES} == FLOOR.keys()


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_downwards(module):
    assert not too_high(module, USES[module])


def test_no_import_goes_round_in_a_circle():
    # The face of a package imports its files, and a file of it never its face.
    assert circle(USES) == []


def test_both_tests_can_fail():
    assert too_high("lab.scan.linear", modules("def f():\n    from lab.mixers import unroll"))
    assert too_high("lab.nn.linear", modules("import lab.scan")) == {"lab.scan"}
    assert circle({"a": {"b"}, "b": {"a"}})
