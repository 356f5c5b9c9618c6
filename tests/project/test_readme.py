"""README's commands and snippets, each tried as far as seconds go, or listed with a reason.

A command counts wherever it stands: in a fenced block, or as `code` within a sentence. To add one
to README, nothing has to be done here as long as its program is known below.
"""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from lab import research_log
from lab.evidence import shown
from lab.experiment import MEAN, Experiment, Planned
from lab.mixers import StateSpace
from lab.model import SequenceModel, residual_model
from lab.tasks import WordProblem, groups
from lab.transitions import RealDiagonal

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent

PROGRAMS = ("make", "papermill", "pytest", "python", "python3", "pip", "source", "git", "env", "uv")

# Commands that begin like this take more than seconds, or a network, or change the shell.
NOT_TRIED = {
    "source ": "it changes the shell that it is typed in",
    "git clone": "it needs a network",
    "python scripts/constraints.py": "it asks the package index; .ci/run runs it",
    "pip install": "it needs a network, and changes the environment",
    "python -m pip install": "it needs a network, and changes the environment",
    "python3 -m venv": "it makes an environment",
    "uv pip": "it needs a network",
    "env ": "it is a command with another environment",
    "pytest": "all tests, this one too; tests/project/test_conftest.py tries pytest --nbval",
}


def blocks():
    """Fenced blocks: language and text."""
    return re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def commands():
    """Every command, without comments, once."""
    fenced = [line for language, text in blocks() if language != "python" for line in
              text.replace("\\\n", " ").splitlines()]  # fmt: skip
    prose = re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    found = fenced + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    cut = [re.split(r"\s+#\s", line.removeprefix("$ "))[0].strip() for line in found]
    known = {line for line in cut if line.split(" ")[0] in PROGRAMS}
    # A word alone is the name of a program in a sentence, and no command.
    return sorted(line for line in known if " " in line or line in ("make", "pytest"))


SNIPPETS = [text for language, text in blocks() if language == "python"]


def run(command, cwd=ROOT):
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def try_make(words, tmp_path):
    # What it would do; the commands within are tried elsewhere.
    assert run([words[0], "-n", *words[1:]]) or words[1:] == ["setup"]


def try_papermill(words, tmp_path):
    if "--help-notebook" in words:
        assert "experiment: str" in run(words)
        return
    # Everything but the cells: the notebook and the parameters are read, checked and injected.
    prepared = [words[0], words[1], str(tmp_path / "out.ipynb"), *words[3:], "--prepare-only"]
    run(prepared)
    assert (tmp_path / "out.ipynb").exists()


def try_pytest(words, tmp_path):
    assert "collected" in run([sys.executable, "-m", *words, "--collect-only", "-q"])


def try_python(words, tmp_path):
    if words[1:3] == ["-m", "lab.records.programme"]:
        assert "is " in run([sys.executable, *words[1:], "--list"])
        return
    if words[1:3] == ["-m", "lab.benchmark.updates"]:  # it takes minutes
        assert "--rounds" in run([sys.executable, *words[1:3], "--help"])
        return
    assert words[1:3] == ["-m", "lab.research_log"], f"{words} has no way to be tried in seconds"
    folder = tmp_path / "executed"
    shutil.copytree(ROOT / "executed", folder)
    words = [str(folder) if word == "executed" else word for word in words]
    assert run([sys.executable, *words[1:]])


TRY = {"make": try_make, "papermill": try_papermill, "pytest": try_pytest, "python": try_python}


def reason_not_to(command):
    if command in ("pytest", "pytest --nbval"):
        return NOT_TRIED["pytest"]
    if " -n " in command and importlib.util.find_spec("xdist") is None:
        return "pytest-xdist is not installed"
    starts = [start for start in NOT_TRIED if start != "pytest" and command.startswith(start)]
    return NOT_TRIED[starts[0]] if starts else None


def test_commands_and_snippets_are_found():
    assert {"make run", "make test"} <= set(commands())
    assert any(command.startswith("papermill notebooks/") for command in commands())
    assert SNIPPETS


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_works(command, tmp_path):
    if reason := reason_not_to(command):
        pytest.skip(reason)
    # Placeholders of the text, and the words of a folder that is described.
    command = command.replace("NNN", "004").replace("FOLDER", "executed")
    words = shlex.split(command)
    assert words[0] in TRY, f"{command!r} of README.md is neither tried nor listed in NOT_TRIED"
    TRY[words[0]](words, tmp_path)


@dataclass(frozen=True)
class Parameters:
    seeds: tuple = (100, 101)


def experiment():
    """What a notebook has before a user's own mixer joins."""

    def diagonal(generator):
        return StateSpace(
            64, RealDiagonal(64, d_state=16, generator=generator), generator=generator
        )

    class Squared(RealDiagonal):
        def forward(self, x):
            return super().forward(x).square()

    difference = Planned("C1", "mine - diagonal, accuracy", ">", 0.0, MEAN, paired=True)
    return {
        "exp": Experiment("300", title="A title", question="A question?", parameters=Parameters(),
                          criteria=[difference]),
        "arms": {"diagonal": partial(residual_model, d_model=64, mixer=diagonal)},
        "recipe": {"steps": 3, "batch": 4, "length": 8, "lr": 1e-2, "device": "cpu"},
        "StateSpace": StateSpace, "Squared": Squared,
    }  # fmt: skip


def prelude():
    """What the snippets take for granted: inputs of the shapes that their comments give."""
    torch.manual_seed(0)
    B, T, N = 2, 32, 4
    return {
        "torch": torch,
        "x": torch.randn(B, T, 2),
        "tokens": torch.randint(0, 5, (B, T)),
        "model": SequenceModel(2, 2, 8, [RealDiagonal(8, d_state=8)]),
        "task": WordProblem(groups.cyclic(2), [0, 1]),
        "a": torch.rand(B, T, N),
        "A": torch.rand(B, T, N, N) / N,
        "b": torch.randn(B, T, N),
        "decay": -torch.rand(B, T, 1),
        "reset": torch.arange(T).expand(B, T) == 2,
        "score": torch.randn(B, T, 1),
        "value": torch.randn(B, T, 1, N),
        "__name__": "__main__",  # as in a notebook
        **experiment(),
    }


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.splitlines()[0][:60])
def test_a_snippet_of_the_readme_runs(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a checkpoint is written where they run
    monkeypatch.setenv("LAB_CHECKPOINTS", str(tmp_path))
    monkeypatch.setenv("LAB_WORKERS", "1")
    exec(compile(snippet, "README.md", "exec"), prelude())


def test_a_mixer_of_ones_own_joins_a_comparison_in_five_lines(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CHECKPOINTS", str(tmp_path))
    monkeypatch.setenv("LAB_WORKERS", "1")
    own, joins = (next(s for s in SNIPPETS if word in s) for word in ("class Squared", "exp.judge"))
    lines = [line for line in joins.splitlines() if line and "import " not in line]
    assert len(lines) == 5
    space = prelude()
    for snippet in (own, joins):
        exec(compile(snippet, "README.md", "exec"), space)
    (row,) = space["exp"].sheet.judged()
    assert (row.id, row.detail) == ("C1", "2 seeds")
    assert row.low <= row.value <= row.high


def test_every_file_that_the_readme_links_to_exists():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    missing = [link for link in links if not (ROOT / link).exists()]
    assert missing == []


def reached_by(record, id_):
    """What a committed run of notebook 200 reached: the worst value of a row, or a dash."""
    found = [row for row in record["criteria"] if row["id"] == id_ and row["value"] is not None]
    if not found:
        return "-"
    worst = max if found[0]["op"] in ("<", "<=") else min
    return shown(worst(row["value"] for row in found), 2)


def test_what_the_readme_says_that_layers_reach_is_in_the_record():
    record = research_log.read_notebook(ROOT / "executed" / "200.ipynb").record
    rows = re.findall(r"^\| ([SLT]\d+) \| .* \| ([<>]=?) ([\d.]+) \| (\S+) \|$", TEXT, re.MULTILINE)
    assert {"S1", "L1", "L10", "T1"} <= {row[0] for row in rows}
    for id_, op, limit, reached in rows:
        assert reached == reached_by(record, id_), id_
        for row in record["criteria"]:
            if row["id"] == id_:
                assert (row["op"], row["threshold"]) == (op, float(limit)), id_


def test_every_experiment_that_the_readme_runs_has_what_it_needs():
    numbers = re.findall(r"NN=(\d{3})", TEXT) + re.findall(r"executed/(\d{3})\.ipynb", TEXT)
    made = re.findall(r"make new NN=(\d{3})", TEXT)  # by the command; tests/records/test_new.py
    for number in set(numbers) - set(made):
        assert research_log.read_notebook(ROOT / f"executed/{number}.ipynb").status == "complete"
        assert (ROOT / "params" / f"{number}.yaml").exists()
