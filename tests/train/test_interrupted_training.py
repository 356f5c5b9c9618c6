"""Ctrl-C: between two updates, with a checkpoint, the losses so far, and one sentence."""

import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from jupyter_client.manager import start_new_kernel
from numeric import stream
from torch import nn

from lab.mixers import StateSpace
from lab.tasks import KnownOscillators
from lab.train import Interrupted, fit, fit_together
from lab.train.checkpoint import identified
from lab.train.interrupt import Patience
from lab.transitions import RealDiagonal

ROOT = Path(__file__).parents[2]
STEPS = 12
SETTINGS = {"steps": STEPS, "batch": 4, "length": 6, "lr": 0.02, "device": "cpu"}


class Model(nn.Module):
    """A scan, a buffer that moves and, if wanted, dropout."""

    def __init__(self, seed=0, dropout=0.0):
        super().__init__()
        generator = stream(seed)
        transition = RealDiagonal(2, d_state=3, generator=generator)
        self.mixer = StateSpace(2, transition, generator=generator)
        self.norm = nn.BatchNorm1d(2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, length):
        x = nn.functional.pad(x.float(), (0, 0, 0, length - x.shape[1]))
        y = self.norm(self.mixer(x).mT)
        return self.dropout(y).mT.sum(-1, keepdim=True)


class Calling(KnownOscillators):
    """A task that calls something at one of its samples."""

    def __init__(self, at, call):
        task = KnownOscillators.draw(1, stream(0))
        super().__init__(task.omega, task.zeta)
        object.__setattr__(self, "_left", at)
        object.__setattr__(self, "_call", call)

    def sample(self, *arguments):
        found = super().sample(*arguments)
        object.__setattr__(self, "_left", self._left - 1)
        if self._left == -1:
            self._call()
        return found


def never():
    raise AssertionError("nobody calls this")


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def ctrl_c_twice():
    ctrl_c()
    ctrl_c()


def by_hand():
    raise KeyboardInterrupt


def run(count=1, at=10**6, call=never, path=None, **changes):
    models = [Model(seed, 0.2 if count == 1 else 0.0) for seed in range(count)]
    tasks = [Calling(at, call) if seed == count - 1 else Calling(10**6, never)
             for seed in range(count)]  # fmt: skip
    settings = {**SETTINGS, "checkpoint": path, "checkpoint_seconds": 1e9, **changes}
    return models, tasks, settings


def trained(count=1, **changes):
    models, tasks, settings = run(count, **changes)
    return models, fit_together(models, tasks, seeds=range(count), **settings)


def interrupted(count=1, **changes):
    """The models and the exception."""
    models, tasks, settings = run(count, **changes)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as stopped:
        fit_together(models, tasks, seeds=range(count), **settings)
    assert signal.getsignal(signal.SIGINT) is before
    return models, stopped.value


def same(one, other):
    pairs = zip(one, other, strict=True)
    return all(
        all(map(torch.equal, a.state_dict().values(), b.state_dict().values())) for a, b in pairs
    )


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("at", [0, 1, 5, STEPS - 1])
def test_an_interrupt_waits_for_the_update_and_saves_it(tmp_path, count, at):
    expected, whole = trained(count)
    path = tmp_path / "run.safetensors"
    models, stopped = interrupted(count, at=at, call=ctrl_c, path=path)
    sentence = f"training was stopped after {at + 1} of {STEPS} updates, which {path} holds: the sa"
    assert str(stopped).startswith(sentence)
    for found, history in zip(stopped.histories, whole, strict=True):
        assert torch.equal(found.loss, history.loss[: at + 1])
    assert not same(models, [Model(seed) for seed in range(count)])
    again, histories = trained(count, path=path)
    assert same(again, expected)
    assert torch.equal(histories[0].loss, whole[0].loss)


@pytest.mark.parametrize("count", [1, 2])
def test_the_models_hold_the_update_that_was_made(count):
    models, stopped = interrupted(count, at=4, call=ctrl_c)
    assert "no checkpoint was asked for" in str(stopped)
    # The same updates, and no schedule that would know of the end.
    expected, _ = trained(count, steps=5)
    assert same(models, expected)


def test_the_cell_can_be_run_again_with_the_same_objects(tmp_path):
    expected, whole = trained()
    path = tmp_path / "run.safetensors"
    models, tasks, settings = run(at=4, call=ctrl_c, path=path)
    with pytest.raises(Interrupted):
        fit_together(models, tasks, seeds=[0], **settings)
    models[0].eval()
    histories = fit_together(models, tasks, seeds=[0], **settings)
    assert same(models, expected)
    assert torch.equal(histories[0].loss, whole[0].loss)


WHERE = {
    "before an update": lambda call: {"before_update": lambda step: step == 3 and call()},
    "while watching": lambda call: {"watch": watchers(call), "watch_every": 1},
    "in the optimiser": lambda call: {"optimizer": lambda groups: Halting(groups, call)},
}


def watchers(call):
    steps = itertools.count()

    def second(model):
        if next(steps) == 3:
            call()
        return torch.ones(())

    return {"first": lambda model: torch.zeros(()), "second": second}


class Halting(torch.optim.SGD):
    """Calls something when half of the parameters of its fourth step are updated."""

    def __init__(self, groups, call):
        super().__init__(groups, lr=0.1)
        self._call = call
        for parameter in (p for group in self.param_groups for p in group["params"]):
            self.state[parameter]["steps"] = 0

    @torch.no_grad()
    def step(self, closure=None):
        pairs = [(group, p) for group in self.param_groups for p in group["params"]]
        for i, (group, parameter) in enumerate(pairs):
            if self.state[parameter]["steps"] == 3 and i == len(pairs) // 2:
                self._call()
            parameter -= group["lr"] * parameter.grad
            self.state[parameter]["steps"] += 1


@pytest.mark.parametrize("where", WHERE)
def test_wherever_it_comes_the_update_is_finished(where):
    models, stopped = interrupted(**WHERE[where](ctrl_c))
    done = len(stopped.histories[0].loss)
    assert done == (3 if where == "while watching" else 4)
    expected, _ = trained(steps=done, **WHERE[where](lambda: None))
    assert same(models, expected)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("at", [0, 4])
def test_an_exception_in_the_middle_goes_back_to_the_last_update(tmp_path, count, at):
    expected, whole = trained(count)
    path = tmp_path / "run.safetensors"
    _, stopped = interrupted(count, at=at, call=by_hand, path=path)
    assert str(stopped).startswith(f"training was stopped after {at} of {STEPS} updates")
    assert len(stopped.histories[0].loss) == at
    again, histories = trained(count, path=path)
    assert same(again, expected)
    assert torch.equal(histories[0].loss, whole[0].loss)


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_second_one_acts_at_once_and_saves_nothing(tmp_path, seconds):
    path = tmp_path / "run.safetensors"
    _, stopped = interrupted(at=3, call=ctrl_c_twice, path=path, checkpoint_seconds=seconds)
    assert str(stopped).startswith(
        f"training was stopped at once, within update 4 of {STEPS}: that"
    )
    assert len(stopped.histories[0].loss) == 3
    assert path.exists() == (seconds == 0.0)
    again, _ = trained(path=path)  # from the update before, which is whole, or from the start
    assert same(again, trained()[0])


def test_a_half_made_update_is_not_saved(tmp_path):
    path = tmp_path / "run.safetensors"
    halting = identified(partial(Halting, call=ctrl_c_twice), "halting", 1)
    patient = identified(partial(Halting, call=lambda: None), "halting", 1)
    _, stopped = interrupted(optimizer=halting, path=path)
    assert str(stopped).startswith(
        f"training was stopped at once, within update 4 of {STEPS}: that"
    )
    assert not path.exists()
    again, _ = trained(path=path, optimizer=patient)
    assert same(again, trained(optimizer=patient)[0])


def test_an_interrupt_at_the_very_end_is_not_lost(tmp_path):
    path = tmp_path / "run.safetensors"
    calls = itertools.count()

    def at_the_end(model):
        if next(calls) == 1:
            ctrl_c()
        return torch.ones(())

    _, stopped = interrupted(path=path, watch={"end": at_the_end}, watch_every=10**6)
    assert str(stopped).startswith(f"training was stopped after {STEPS} of {STEPS} updates")
    assert len(stopped.histories[0].loss) == STEPS
    assert len(stopped.histories[0].watched["end"]) == 2


# --- handlers ------------------------------------------------------------------------------------


@contextmanager
def handler(new):
    before = signal.signal(signal.SIGINT, new)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_of_somebody_else_is_called_and_comes_back():
    called = []

    def own(number, frame):
        called.append(number)

    with handler(own):
        _, histories = trained(at=3, call=ctrl_c)
        assert signal.getsignal(signal.SIGINT) is own
        assert called == [signal.SIGINT]
        trained(at=3, call=ctrl_c_twice)
        assert called == [signal.SIGINT] * 2 or called == [signal.SIGINT] * 3
    assert len(histories[0].loss) == STEPS


def test_an_ignored_signal_stays_ignored():
    with handler(signal.SIG_IGN):
        trained(at=3, call=ctrl_c)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_train_as_well():
    found = []
    thread = threading.Thread(target=lambda: found.append(trained()[1]))
    thread.start()
    thread.join()
    assert torch.equal(found[0][0].loss, trained()[1][0].loss)


def test_patience_lets_one_wait_and_not_two():
    with Patience() as patience:
        ctrl_c()
        assert not patience.impatient
        with pytest.raises(KeyboardInterrupt):
            patience.check()
    with pytest.raises(KeyboardInterrupt), Patience():
        ctrl_c()  # acts when the context ends
    with Patience() as patience:
        with pytest.raises(KeyboardInterrupt):
            ctrl_c_twice()
        assert patience.impatient
        patience.check()  # both have acted


def under_fire(models, tasks, settings, after):
    """Histories of a training that Ctrl-C meets after some seconds, if it is still running then."""
    timer = threading.Timer(after, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    try:
        return fit_together(models, tasks, seeds=[0], **settings)
    finally:
        timer.cancel()
        timer.join()


def test_interrupts_at_random_moments_are_neither_lost_nor_wrong(tmp_path):
    expected, whole = trained()
    draw, started, stops = np.random.default_rng(0), time.perf_counter(), 0
    while time.perf_counter() - started < 4:
        path = tmp_path / f"{stops}.safetensors"
        for _ in range(20):
            try:
                under_fire(*run(path=path), draw.uniform(0, 0.1))
            except KeyboardInterrupt:  # in `fit`, or a moment before or after it
                stops += 1
            else:
                break
        models, histories = trained(path=path)
        assert same(models, expected)
        assert torch.equal(histories[0].loss, whole[0].loss)
    assert stops > 5


# --- what is seen --------------------------------------------------------------------------------

SCRIPT = """
    import sys
    sys.path.insert(0, sys.argv[1])
    from lab.tasks import AnonymousOscillations
    from lab.mixers import OscDPLR
    from lab.train import fit

    def ready(step):
        if step == 2:
            print("ready", flush=True)

    def train(**settings):
        fit(OscDPLR(1), AnonymousOscillations(), seed=0, steps=10**6, batch=2, length=8, lr=1e-3,
            device="cpu", before_update=ready, **settings)

    {}
"""


def start(ending, *arguments):
    script = textwrap.dedent(SCRIPT).format(ending)
    return subprocess.Popen(
        [sys.executable, "-c", script, str(ROOT), *arguments], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_terminal_shows_one_sentence_and_the_shell_sees_the_signal(tmp_path):
    path = tmp_path / "run.safetensors"
    process = start("train(checkpoint=sys.argv[2])", str(path))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if line.strip()]
    assert len(lines) == 1, errors
    assert re.fullmatch(
        rf"Interrupted: training was stopped after \d+ of 1000000 updates, which {path} holds: "
        "the same call goes on from there", lines[0],
    )  # fmt: skip
    assert process.returncode == -signal.SIGINT
    assert path.exists()


def test_the_shell_sees_the_signal_whatever_runs_at_exit():
    ending = "import atexit; atexit.register(lambda: (print('bye'), eval('1 + 1'))); train()"
    process = start(ending)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert said == "bye\n", errors
    assert process.returncode == -signal.SIGINT


def test_other_errors_keep_their_traceback_after_an_interrupt(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    interrupted(at=1, call=ctrl_c)
    hook = sys.excepthook
    assert hook is not sys.__excepthook__
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        hook(*sys.exc_info())
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith("ZeroDivisionError: division by zero\n")


def test_a_hook_of_somebody_else_stays(monkeypatch):
    def own(kind, error, trace):
        pass

    monkeypatch.setattr(sys, "excepthook", own)
    interrupted(at=1, call=ctrl_c)
    assert sys.excepthook is own


def test_a_notebook_shows_one_sentence_and_the_next_cell_has_the_losses():
    manager, client = start_new_kernel(
        kernel_name="python3", env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    )
    try:
        source = textwrap.dedent(SCRIPT).replace("sys.argv[1]", "'.'").format("train()")
        client.execute(source, stop_on_error=False)  # or the next cell might be called off
        shown = []
        while {"name": "stdout", "text": "ready\n"} not in shown:
            shown.append(client.get_iopub_msg(timeout=60)["content"])
        manager.interrupt_kernel()
        message = {}
        while "traceback" not in message:
            message = client.get_iopub_msg(timeout=60)["content"]
        assert message["ename"] == "Interrupted"
        (line,) = message["traceback"]
        assert re.match(
            r"Interrupted: training was stopped after \d+ of 1000000 updates, and no", line
        )
        reply = client.execute_interactive(
            "import sys; print('losses', len(sys.last_value.histories[0].loss) > 1)",
            output_hook=lambda each: shown.append(each["content"]), timeout=60,
        )  # fmt: skip
        assert reply["content"]["status"] == "ok"
        assert {"name": "stdout", "text": "losses True\n"} in shown
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_one_model_is_trained_by_fit_in_the_same_way(tmp_path):
    model, task = Model(), Calling(3, ctrl_c)
    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(model, task, seed=0, **SETTINGS)
    assert len(stopped.value.histories) == 1
