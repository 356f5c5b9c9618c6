"""A new experiment, made as README says, and what is refused in one sentence."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import papermill  # noqa: F401  (which loads the handler; it cannot be imported first)
import pytest

from lab import plain_yaml
from lab.records.executed import TEMPLATE, TEMPLATE_QUESTION, TEMPLATE_TITLE, read_notebook
from lab.records.new import main
from lab.records.papermill_checks import declared
from lab.records.papermill_handler import PercentHandler
from lab.records.parameters import check_given

ROOT = Path(__file__).parents[2]
FILES = ("notebooks/_template.py", "params/_template.yaml", "params/smoke/_template.yaml")
MADE = ("notebooks/300_gated_rotations.py", "params/300.yaml", "params/smoke/300.yaml")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The template and its parameters, in a folder that is the working directory."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_files_are_the_template_with_number_and_title(project, capsys):
    assert main(["300", "gated_rotations"]) == 0
    assert tuple(capsys.readouterr().out.splitlines()) == MADE
    assert files(project) == sorted((*FILES, *MADE))
    notebook = Path(MADE[0]).read_text()
    assert "# # 300 · Gated rotations\n" in notebook
    assert 'title="Gated rotations"' in notebook
    for placeholder in (TEMPLATE, TEMPLATE_QUESTION, TEMPLATE_TITLE):
        assert placeholder in Path(FILES[0]).read_text()
        assert placeholder not in "".join(Path(name).read_text() for name in MADE)


def test_the_parameters_are_those_of_the_notebook_and_it_is_not_refused(project):
    assert main(["300", "gated_rotations"]) == 0
    declarations = declared(jupytext.read(MADE[0]))
    for name in MADE[1:]:
        given = plain_yaml.load_map(Path(name).read_text(), name)
        check_given(declarations, given)
        assert list(given) == list(declarations)
        assert given["experiment"] == "300"
    assert PercentHandler().read(MADE[0])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "a number and a name are needed, as in make new NN=300 NAME=gated_rotations"),
        (("", "a"), "NN is '', and must be three digits"),
        (("30", "a"), "NN is '30', and must be three digits, as in make new NN=300"),
        (("3000", "a"), "NN is '3000', and"),
        (("٣٠٠", "a"), "NN is '٣٠٠', and"),
        (("../", "a"), "NN is '../', and"),
        (("300\n", "a"), r"NN is '300\n', and"),
        (("300", ""), "NAME is '', and must be words of a-z and 0-9 with underscores between"),
        (("300", "Gated"), "NAME is 'Gated', and"),
        (("300", "gated-rotations"), "NAME is 'gated-rotations', and"),
        (("300", "a__b"), "NAME is 'a__b', and"),
        (("300", "a/b"), "NAME is 'a/b', and"),
        (("300", "2_b"), "NAME is '2_b', and"),
    ],
)
def test_a_bad_number_or_name_is_one_sentence(project, capsys, arguments, sentence):
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(sentence)
    assert shown.err.endswith(".\n")
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert files(project) == sorted(FILES)


@pytest.mark.parametrize(
    "name",
    [
        "notebooks/300_other.py", "params/300.yaml", "params/smoke/300.yaml", "executed/300.ipynb",
    ],
)  # fmt: skip
def test_nothing_is_written_over(project, capsys, name):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("mine")
    assert main(["300", "gated_rotations"]) == 1
    sentence = f"{name} exists already: choose another number than 300.\n"
    assert capsys.readouterr().err == sentence
    assert Path(name).read_text() == "mine"
    assert files(project) == sorted((*FILES, name))


def test_without_a_template_nothing_is_written(project, capsys):
    Path(FILES[2]).unlink()
    assert main(["300", "gated_rotations"]) == 1
    assert capsys.readouterr().err == f"there is no {FILES[2]} to start from.\n"
    assert files(project) == sorted(FILES[:2])


def readme_commands():
    """The commands that README's section on a new experiment begins with."""
    section = (ROOT / "README.md").read_text().split("## Add an experiment\n")[1]
    block = re.match(r"\s*```\n(.*?)```", section, re.DOTALL)[1]
    return [line.split("#")[0].strip() for line in block.splitlines()]


def test_readme_followed_to_the_letter_ends_in_a_verdict(tmp_path):
    project = tmp_path / "project"
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("*.ipynb"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / name, project / name)
    (project / "lab").symlink_to(ROOT / "lab")
    # An environment after `make setup`, which is this one.
    (project / ".venv").mkdir()
    (project / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (project / ".venv" / "installed").touch()
    kept = {k: v for k, v in os.environ.items() if "MAKE" not in k and k not in ("NN", "NAME")}
    environment = {**kept, "PYTHONPATH": str(project)}
    commands = readme_commands()
    assert [command.split()[:2] for command in commands] == [["make", "new"], ["make", "smoke"]]
    for command in commands:
        done = subprocess.run(
            shlex.split(command), cwd=project, env=environment, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    entry = read_notebook(project / "executed" / "smoke" / "300.ipynb")
    assert entry.status == "complete", entry.detail
    assert entry.record["title"] == "Gated rotations"
    assert entry.record["verdict"] in done.stdout
