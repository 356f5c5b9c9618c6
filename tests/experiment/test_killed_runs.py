"""A headless run that is killed goes on where it was, and ends with the same record."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.evidence import reproducible
from lab.records.executed import read_notebook

ROOT = Path(__file__).parents[2]
STEPS = 400

# Two short arms and two long ones, so that a kill finds some of them finished. They say in a file
# that they were begun, as a finished arm must not be trained again.
NOTEBOOK = f"""
# %% tags=["parameters"]
experiment: str = "300"  # the notebook these parameters belong to
seeds: list[int] = [100, 101]  # of the models
steps: int = {STEPS}  # updates of the long arms, in [1, 100000]

# %%
import lab

p = lab.parameters()

# %%
from lab.experiment import Experiment, MEAN, Planned
from lab.mixers import StateSpace
from lab.model import SequenceModel
from lab.seeding import stream
from lab.tasks import WordProblem, groups
from lab.transitions import PolarDiagonal, RealDiagonal

exp = Experiment("300", title="A run to be killed", question="Is it the same?", parameters=p,
                 criteria=[Planned("C1", "accuracy of {{part}}", ">", 0.5,
                                   parts=["real", "polar", "real, short", "polar, short"])])
exp

# %%
task = WordProblem(groups.cyclic(3), [1, 2])


def build_real(task, seed):
    return model(RealDiagonal, task, seed)


def build_polar(task, seed):
    return model(PolarDiagonal, task, seed)


def model(kind, task, seed):
    generator = stream(seed, "init")
    mixer = StateSpace(8, kind(8, d_state=4, generator=generator), generator=generator)
    return SequenceModel(task.vocabulary, task.classes, 8, [mixer], generator=generator)


# %%
from lab.experiment import Arm

recipe = {{"steps": p.steps, "batch": 8, "length": 8, "lr": 1e-2, "device": "cpu",
          "checkpoint_seconds": 0.2}}
arms = exp.train(
    {{"real": build_real, "polar": build_polar,
     "real, short": Arm(build_real, steps=20), "polar, short": Arm(build_polar, steps=20)}},
    task, recipe, workers=2)
scores = arms.scores(length=8, samples=200, score="accuracy", workers=1)
exp.judge("C1", scores)
exp.table("losses", [{{"arm": name, "seed": seed, "loss": history.loss[-1].item()}}
                     for name, arm in arms.items()
                     for seed, history in zip(arm.seeds, arm.histories, strict=True)])

# %%
exp.conclude()
"""


@pytest.fixture
def project(tmp_path):
    for name in ("notebooks", "params", "executed/killed"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "notebooks" / "300_killed.py").write_text(NOTEBOOK)
    (tmp_path / "params" / "300.yaml").write_text(f'experiment: "300"\nsteps: {STEPS}\n')
    return tmp_path


def start(project, folder=""):
    """The run as a user types it, in a process group of its own."""
    command = [Path(sys.executable).with_name("papermill"), "notebooks/300_killed.py",
               f"executed/{folder}/300.ipynb", "-f", "params/300.yaml"]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LAB_")}
    return subprocess.Popen(
        command, cwd=project, start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
        env={**environment, "LAB_CHECKPOINTS": str(project / "kept"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def kill(run):
    """The run, its kernel and its workers, at once."""
    children = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    parents = {int(pid): int(ppid) for pid, ppid in map(str.split, children.splitlines())}
    doomed, size = {run.pid}, 0
    while len(doomed) > size:
        size = len(doomed)
        doomed |= {pid for pid, parent in parents.items() if parent in doomed}
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run.wait()
    run.stdout.close()


def finished(run):
    out, _ = run.communicate(timeout=600)
    assert run.returncode == 0, out


def kept(project):
    return list((project / "kept").glob("300-*/*.safetensors"))


def until(condition, run, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert run.poll() is None, run.stdout.read()
        assert time.monotonic() < end, "it does not get there"
        time.sleep(0.02)


def test_a_run_that_was_killed_three_times_has_the_record_of_one_that_was_not(project):
    run = start(project)
    finished(run)
    undisturbed = read_notebook(project / "executed" / "300.ipynb").record
    assert not (project / "kept").exists() or not list((project / "kept").iterdir())

    for files in (1, 3, 4):  # while the first arms train, and once the short ones are done
        run = start(project, "killed")
        until(lambda files=files: len(kept(project)) >= files, run)
        kill(run)
        assert kept(project)
    times = {path.name: path.stat().st_mtime_ns for path in kept(project)}
    run = start(project, "killed")
    until(
        lambda: any(path.stat().st_mtime_ns != times.get(path.name) for path in kept(project)), run
    )
    finished(run)
    again = read_notebook(project / "executed" / "killed" / "300.ipynb")
    assert again.record is not None, again.reason
    assert reproducible(again.record) == reproducible(undisturbed)
    assert not list((project / "kept").iterdir())
