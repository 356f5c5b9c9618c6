"""A long computation shows a bar while it runs, and one line when it is done."""

import io
import os
import re
import subprocess
import sys
import types
import uuid

import IPython
import IPython.display
import pytest
import torch

from lab.progress import Part, Progress, summary, told
from lab.tasks import KnownOscillators
from lab.train import Interrupted, fit_together

TRAINED = Part("updates", models=5, total=600, done=600, seconds=41.2, loss=0.0312, finished=True)


def part(**changes):
    return Part(**{**vars(TRAINED), **changes})


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ([TRAINED], "5 models, 600 updates, 41 s, loss 0.031"),
        (
            [part(models=1, total=1, done=1, seconds=0.04, loss=2e-5)],
            "1 model, 1 update, 0.0 s, loss 2e-05",
        ),
        (
            [TRAINED, part(loss=0.5, seconds=100), part(loss=0.1)],
            "15 models in 3 trainings, 1,800 updates, 3 min 2 s, loss 0.031 to 0.5",
        ),
        ([TRAINED, TRAINED], "10 models in 2 trainings, 1,200 updates, 1 min 22 s, loss 0.031"),
        (
            [part(done=250, finished=False)],
            "5 models, 250 of 600 updates, 41 s, loss 0.031, stopped",
        ),
        (
            [TRAINED, part(done=1, finished=False)],
            "10 models in 2 trainings, 601 of 1,200 updates, 1 min 22 s, loss 0.031, stopped",
        ),
        (
            [part(done=0, loss=None, seconds=0, finished=False)],
            "5 models, 0 of 600 updates, 0.0 s, stopped",
        ),
        ([part(total=None, done=7, seconds=7000)], "5 models, 7 updates, 1 h 56 min, loss 0.031"),
        ([part(loss=float("nan"))], "5 models, 600 updates, 41 s, loss nan"),
        (
            [part(loss=float("nan")), TRAINED],
            "10 models in 2 trainings, 1,200 updates, 1 min 22 s, loss 0.031",
        ),
        (
            [part(unit="rounds", models=0, loss=None, done=3, total=3), TRAINED],
            "5 models, 600 updates, 41 s, loss 0.031; 3 rounds, 41 s",
        ),
    ],
)
def test_a_cell_is_summed_up_in_one_line(parts, line):
    assert summary(parts) == line


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def headless(monkeypatch):
    for name in ("LAB_PANELS", "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))


def count_to(n, label="training", **settings):
    with Progress(label, n, **settings) as shown:
        for _ in range(n):
            shown.advance()


@pytest.mark.parametrize(("stderr", "drawn"), [(io.StringIO, False), (Terminal, True)])
def test_a_bar_is_drawn_on_a_terminal_and_vanishes(headless, monkeypatch, stderr, drawn):
    stream = stderr()
    monkeypatch.setattr(sys, "stderr", stream)
    count_to(3, loss=lambda: 0.25)
    assert ("training" in stream.getvalue()) is drawn
    assert ("loss 0.25" in stream.getvalue()) is drawn
    assert stream.getvalue().split("\r")[-1].strip() == ""


def test_a_process_without_an_error_stream_shows_nothing(headless, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    count_to(3)


class Shell:
    """The part of IPython that a progress bar uses, which can execute cells."""

    def __init__(self):
        self.execution_count, self.message = 0, "none"
        self.outputs = []

    def get_parent(self):
        return {"header": {"msg_id": self.message}}

    def execute(self):
        self.execution_count += 1
        self.message = str(uuid.uuid4())

    def display(self, data, **settings):
        assert settings == {"raw": True, "display_id": True}
        self.outputs.append([data["text/plain"]])
        return types.SimpleNamespace(update=self.update)

    def update(self, data, raw):
        self.outputs[-1].append(data["text/plain"])


@pytest.fixture
def shell(headless, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "analysis.ipynb")
    shell = Shell()
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(IPython.display, "display", shell.display)
    shell.execute()
    return shell


def test_a_bar_says_loss_speed_and_time_left_and_becomes_one_line(shell):
    losses = iter([0.5, 0.25])
    with Progress("training", 2, models=5, loss=lambda: next(losses, 0.125)) as shown:
        shown.bar.mininterval = 0
        shown.advance()
        shown.advance()
    (output,) = shell.outputs
    assert output[1].startswith("training:   0%|")
    assert re.search(r"\| 1/2, loss 0\.\d+, +[\d.]+ updates/s, [\d:]+ left$", output[2])
    assert re.fullmatch(r"5 models, 2 updates, 0\.\d s, loss 0\.12", output[-1])
    assert "" not in output[1:]  # nothing jumps


def test_all_trainings_of_a_cell_share_its_line_and_the_next_cell_has_its_own(shell):
    for label in ("first", "second"):
        count_to(2, label, models=1)
    assert len(shell.outputs) == 1
    assert any(text.startswith("2. second:   0%|") for text in shell.outputs[0])
    assert re.fullmatch(r"2 models in 2 trainings, 4 updates, 0\.\d s", shell.outputs[0][-1])
    shell.execute()
    count_to(3, models=1)
    assert len(shell.outputs) == 2
    assert re.fullmatch(r"1 model, 3 updates, 0\.\d s", shell.outputs[1][-1])


def test_a_kernel_that_names_no_message_is_asked_for_the_number_of_the_cell(shell, monkeypatch):
    monkeypatch.setattr(shell, "get_parent", dict)
    count_to(1)
    count_to(1)
    shell.execute()
    count_to(1)
    assert len(shell.outputs) == 2


def test_an_error_leaves_how_far_it_came(shell):
    def fail():
        with Progress("training", 3, models=1) as shown:
            shown.advance()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert re.fullmatch(r"1 model, 1 of 3 updates, 0\.\d s, stopped", shell.outputs[0][-1])


def train(*, stop_at=None, steps=6):
    """Train two layers of one oscillator, with Ctrl-C at an update."""

    def before(step):
        if step == stop_at:
            raise KeyboardInterrupt

    torch.manual_seed(0)
    models = [torch.nn.Linear(1, 1) for _ in range(2)]
    tasks = [Constant.draw(1, torch.Generator().manual_seed(seed)) for seed in range(2)]
    return fit_together(
        models, tasks, seeds=[0, 1], steps=steps, batch=4, length=8, lr=1e-2, device="cpu",
        before_update=before,
    )  # fmt: skip


class Constant(KnownOscillators):
    """The first value of every channel, which a plain layer can be trained on."""

    def loss(self, model, batch):
        return (model(batch.inputs[:, :1, :1].float()) - 1).square().mean()


def test_a_training_shows_its_models_updates_and_loss(shell):
    histories = train()
    last = torch.stack([history.loss[-1] for history in histories]).median().item()
    pattern = rf"2 models, 6 updates, \d\.\d s, loss {re.escape(f'{last:.2g}')}"
    assert re.fullmatch(pattern, shell.outputs[0][-1])


def test_an_interrupted_training_says_how_far_it_came_and_keeps_its_histories(shell):
    with pytest.raises(Interrupted) as stopped:
        train(stop_at=4)
    assert [len(history.loss) for history in stopped.value.histories] == [4, 4]
    line = shell.outputs[0][-1]
    assert re.fullmatch(r"2 models, 4 of 6 updates, \d\.\d s, loss [\d.]+, stopped", line)


def test_a_worker_process_of_a_notebook_writes_nothing():
    program = """
import IPython, IPython.display  # as where a function of a notebook is sent to another process
from lab.progress import Progress
with Progress("training", 2, models=1) as shown:
    shown.advance(); shown.advance()
"""
    environment = {**os.environ, "JPY_SESSION_NAME": "analysis.ipynb"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_bar_over_jobs_is_no_part_of_the_job_that_runs_meanwhile():
    heard = []
    with Progress("all jobs", 10) as over, told(lambda *said: heard.append(said)):
        over.advance(3)
    assert (heard, over.part.done) == ([], 3)
