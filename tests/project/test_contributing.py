"""The recipes of CONTRIBUTING.md, followed word by word in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent

PLACE = re.compile(r'# (?P<file>\S+), (?P<where>above|below) "(?P<line>.*)"')
NEW = "# new file "
RECIPES = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def blocks(text, *languages):
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block for language, block in found if language in languages]


COMMANDS = [
    (name, command)
    for name, text in RECIPES.items()
    for block in blocks(text, "sh")
    for command in block.splitlines()
]


def put(folder, block):
    """Do what the first line of a block says."""
    head, _, body = block.partition("\n")
    if head.startswith(NEW):
        path = folder / head.removeprefix(NEW)
        assert not path.exists(), path
        path.write_text(body, encoding="utf-8")
        return
    place = PLACE.fullmatch(head)
    assert place, f"the first line of a block of CONTRIBUTING.md is no place: {head}"
    path, start = folder / place["file"], place["line"].replace('\\"', '"')
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    row = next(i for i, line in enumerate(lines) if line.startswith(start))
    if body.startswith("def "):
        body += "\n\n"  # the formatter's two empty lines, which a block cannot end with
    lines.insert(row + (place["where"] == "below"), body)
    path.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy in which every block of CONTRIBUTING.md is where it belongs."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("lab", "tests", "notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "conftest.py", "README.md"):
        shutil.copy(ROOT / name, folder)
    (folder / "executed" / "smoke").mkdir(parents=True)
    for block in blocks(TEXT, "python"):
        put(folder, block)
    return folder


def run(command, folder):
    """What a command of a shell prints in a folder; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environment |= {"PYTHONPATH": str(folder), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_there_are_six_recipes_with_blocks_and_commands():
    kinds = ["transition", "memory", "mixer", "scan", "task", "experiment"]
    assert [name.split()[-1] for name in RECIPES] == kinds
    assert {name for name, _ in COMMANDS} == set(RECIPES)


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_a_command_of_a_recipe_succeeds(name, command, checkout):
    said = run(command, checkout)
    if command.startswith("pytest"):
        assert int(re.search(r"(\d+) passed", said)[1]) > 0


def test_the_result_reads_like_the_rest(checkout):
    run("ruff check . && ruff format --check lab tests", checkout)
