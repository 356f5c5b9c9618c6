"""All that a training depends on is in its checkpoint or its identity; anything else is refused."""

import copy
import functools
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from killed import Fragile, KilledError
from torch import nn

from lab.seeding import stream
from lab.tasks import KnownOscillators, Stored
from lab.train import fit, fit_together
from lab.train.checkpoint import Checkpoint, identified

ROOT = Path(__file__).parents[2]
SETTINGS = {"steps": 8, "batch": 4, "length": 6, "lr": 0.02, "device": "cpu"}


class Killing(Fragile):
    """A task whose sample number `left` is never given."""

    def __init__(self, left=10**9, seed=0):
        super().__init__(KnownOscillators.draw(1, stream(seed, "task")), left)


class Steps(nn.Module):
    """A linear map of the impulse to all steps, with what a test puts in the middle."""

    def __init__(self, *middle, seed=0):
        super().__init__()
        generator = stream(seed, "init")
        self.first = nn.Parameter(torch.randn(2, 6, generator=generator, dtype=torch.float64))
        self.middle = nn.Sequential(*middle).double()

    def forward(self, x, length):
        return self.middle(x[:, 0] @ self.first)[:, :length, None]


class Drifting(nn.Module):
    """A buffer that is put in the place of the one before, and decides what comes out."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(6))
        self.register_buffer("hidden", torch.zeros(6), persistent=False)

    def forward(self, x):
        self.seen = self.seen + x.detach().mean(0)
        self.hidden = 0.9 * self.hidden + 0.1 * x.detach().square().mean(0)
        return x + 0.1 * self.seen - 0.1 * self.hidden


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


MIDDLES = {
    "nothing": list,
    "batch normalisation": lambda: [nn.BatchNorm1d(6)],
    "buffers of its own": lambda: [Drifting()],
    "dropout": lambda: [nn.Dropout(0.3)],
    "noise": lambda: [Noise()],
    "all of it": lambda: [nn.BatchNorm1d(6), nn.Dropout(0.2), Drifting(), Noise()],
}
ALONE = {"dropout", "noise", "all of it"}


def run(kind, count, path=None, left=10**9, **changes):
    models = [Steps(*MIDDLES[kind](), seed=seed) for seed in range(count)]
    tasks = [Killing(seed=seed) for seed in range(count)]
    tasks[-1] = Killing(left, seed=count - 1)
    settings = {**SETTINGS, "checkpoint": path, "checkpoint_seconds": 0.0, **changes}
    return models, fit_together(models, tasks, seeds=range(count), **settings)


def everything(models):
    return [value for model in models for value in model.state_dict().values()]


CASES = [(kind, n) for kind in MIDDLES for n in (1, 2) if n == 1 or kind not in ALONE]


@pytest.mark.parametrize(("kind", "count"), CASES)
@pytest.mark.parametrize("killed_at", [[0], [1], [7], [3, 2]])
def test_any_model_ends_as_if_it_had_not_been_killed(tmp_path, kind, count, killed_at):
    expected, histories = run(kind, count)
    path = tmp_path / "run.safetensors"
    for left in killed_at:
        torch.manual_seed(left)  # another process starts from elsewhere
        with pytest.raises(KilledError):
            run(kind, count, path, left)
    models, found = run(kind, count, path, 8 - sum(killed_at))  # and not one sample more
    for one, other in zip(histories, found, strict=True):
        assert torch.equal(one.loss, other.loss)
    assert all(map(torch.equal, everything(expected), everything(models)))
    for one, other in zip(expected, models, strict=True):
        assert all(map(torch.equal, one.buffers(), other.buffers()))


@pytest.mark.parametrize("kind", ["batch normalisation", "buffers of its own"])
def test_buffers_of_models_trained_together_are_those_of_each_alone(kind):
    together, _ = run(kind, 2)
    for seed, model in enumerate(together):
        alone = Steps(*MIDDLES[kind](), seed=seed)
        before = [buffer.clone() for buffer in alone.buffers()]
        fit(alone, Killing(seed=seed), seed=seed, **SETTINGS)
        for one, other, old in zip(model.buffers(), alone.buffers(), before, strict=True):
            torch.testing.assert_close(one, other)
            assert not torch.equal(one, old)


@pytest.mark.parametrize("kind", sorted(ALONE))
def test_models_that_draw_at_random_are_not_trained_together(kind):
    with pytest.raises(ValueError, match=r"^Steps draws random numbers as it runs, as Dropout d"):
        run(kind, 2)


def test_what_a_model_draws_is_decided_by_the_seed_and_nothing_else():
    losses = []
    for start in (1, 2):
        torch.manual_seed(start)
        losses.append(run("dropout", 1)[1][0].loss)
        assert torch.initial_seed() == start
        expected = torch.Generator().manual_seed(start)
        assert torch.equal(torch.rand(3), torch.rand(3, generator=expected))
    assert torch.equal(*losses)
    model, task = Steps(*MIDDLES["dropout"]()), Killing()
    assert not torch.equal(losses[0], fit(model, task, seed=1, **SETTINGS).loss)


class Sometimes(KnownOscillators):
    """NaN in the inputs of every third batch."""

    def sample(self, batch, length, generator):
        found = super().sample(batch, length, generator)
        bad = found.inputs[0, 0, 0] > 0
        return found._replace(inputs=found.inputs * (torch.nan if bad else 1.0))


@pytest.mark.parametrize("count", [1, 2])
def test_a_skipped_update_leaves_the_buffers_as_they_were(count):
    models = [Steps(nn.BatchNorm1d(6), seed=seed) for seed in range(count)]
    known = KnownOscillators.draw(1, stream(0, "task"))
    tasks = [Sometimes(known.omega, known.zeta)] * count
    histories = fit_together(models, tasks, seeds=range(count), skip_nonfinite=True, **SETTINGS)
    for model, history in zip(models, histories, strict=True):
        assert 0 < history.skipped < 8
        assert model.middle[0].num_batches_tracked == 8 - history.skipped
        assert all(buffer.isfinite().all() for buffer in model.buffers())


# --- what is not the same training ---------------------------------------------------------------


def started(path, model=None, task=None, seed=0, **changes):
    model = Steps(nn.BatchNorm1d(6)) if model is None else model
    task = Killing() if task is None else task
    return model, fit(model, task, seed=seed, checkpoint=path, **{**SETTINGS, **changes})


def raised(parameter):
    def change(model):
        with torch.no_grad():
            dict(model.named_parameters())[parameter].mul_(3)

    return change


def moved(model):
    model.middle[0].running_mean += 1


def frozen(model):
    model.first.requires_grad_(False)


STARTS = {
    "three times the weights": (raised("first"), "initial weights.0.first is "),
    "another norm": (raised("middle.0.weight"), "initial weights.0.middle.0.weight is "),
    "another buffer": (moved, "initial weights.0.middle.0.running_mean is "),
    "a frozen parameter": (frozen, "parameters.first is torch.float64 (2, 6) there and "),
    "evaluation mode": (
        nn.Module.eval,
        "evaluating.0 is [] there and ['', 'middle', 'middle.0'] here",
    ),
}


@pytest.mark.parametrize("change", STARTS)
def test_another_start_is_another_training(tmp_path, change):
    path = tmp_path / "run.safetensors"
    started(path)
    model = Steps(nn.BatchNorm1d(6))
    STARTS[change][0](model)
    with pytest.raises(ValueError, match=re.escape(STARTS[change][1])):
        started(path, model)


def test_another_seed_of_the_weights_is_another_training(tmp_path):
    path = tmp_path / "run.safetensors"
    started(path, Steps(seed=0))
    with pytest.raises(ValueError, match=r"initial weights\.0\.first is \w{16} there and \w{16} h"):
        started(path, Steps(seed=1))


def test_the_same_objects_go_on_only_if_nobody_has_changed_them_since(tmp_path):
    path = tmp_path / "run.safetensors"
    expected, _ = run("dropout", 1)
    model = Steps(nn.Dropout(0.3))
    with pytest.raises(KilledError):
        started(path, model, Killing(5), checkpoint_seconds=0.0)
    model.eval()  # to look at it in between
    _, history = started(path, model)
    assert all(map(torch.equal, everything(expected), everything([model])))
    assert model.training
    assert all(map(torch.equal, [history.loss], [started(path, model)[1].loss]))  # as it is
    raised("first")(model)
    with pytest.raises(ValueError, match=r"initial weights\.0\.first is"):
        started(path, model)
    other = tmp_path / "other.safetensors"
    started(other, copy.deepcopy(model))
    with pytest.raises(ValueError, match=r"initial weights\.0\.first is"):
        started(other, Steps(nn.Dropout(0.3)))


def nothing(step):
    pass


def something(step):
    return step


def holding(value):
    def before_update(step):
        return value

    return before_update


def two(value, step):
    return value * step


class Scheduler:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate * step


OPTIMIZERS = [
    (lambda p: torch.optim.SGD(p, momentum=0.9), lambda p: torch.optim.SGD(p, momentum=0.5)),
    (lambda p: torch.optim.SGD(p, momentum=0.9), lambda p: torch.optim.Adam(p)),
    (functools.partial(torch.optim.SGD, momentum=0.9),
     functools.partial(torch.optim.SGD, momentum=0.5)),
]  # fmt: skip


@pytest.mark.parametrize(("there", "here"), OPTIMIZERS)
def test_another_optimiser_is_another_training(tmp_path, there, here):
    path = tmp_path / "run.safetensors"
    _, history = started(path, optimizer=there)
    assert torch.equal(history.loss, started(path, optimizer=there)[1].loss)
    with pytest.raises(
        ValueError, match=r"functions\.optimizer\.\w+[. \w]* is .* there and .* her"
    ):
        started(path, optimizer=here)


CALLED = [
    (nothing, something), (None, nothing), (holding(1), holding(2)), (Scheduler(1), Scheduler(2)),
    (functools.partial(two, 1), functools.partial(two, 2)),
    (identified(nothing, "nothing", 1), identified(nothing, "nothing", 2)),
]  # fmt: skip


@pytest.mark.parametrize(("there", "here"), CALLED)
def test_another_function_before_updates_is_another_training(tmp_path, there, here):
    path = tmp_path / "run.safetensors"
    started(path, before_update=there)
    started(path, before_update=there)
    with pytest.raises(
        ValueError, match=r"functions\.before_update[.\w ]* is .* there and .* here"
    ):
        started(path, before_update=here)


def test_another_function_that_watches_is_another_training(tmp_path):
    path = tmp_path / "run.safetensors"
    started(path, watch={"first": lambda model: model.first.mean()})
    started(path, watch={"first": lambda model: model.first.mean()})
    with pytest.raises(
        ValueError, match=r"functions\.watch\.first\.code is \w+ there and \w+ here"
    ):
        started(path, watch={"first": lambda model: model.first.amax()})


def test_a_function_may_hold_the_models_that_it_changes(tmp_path):
    def build():
        model = Steps()
        model.scale = 0.0

        def before_update(step):
            model.scale = 1.0 + step

        return model, before_update

    path = tmp_path / "run.safetensors"
    for left in (3, 2, 10):
        model, before_update = build()
        settings = {"before_update": before_update, "checkpoint_seconds": 0.0}
        if left < 10:
            with pytest.raises(KilledError):
                started(path, model, Killing(left), **settings)
        else:
            started(path, model, Killing(left), **settings)
    assert model.scale == 8.0


def test_a_function_that_counts_on_from_what_was_there_is_refused(tmp_path):
    def build():
        model = Steps()
        model.scale = 1.0

        def before_update(step):
            model.scale *= 1.1

        return model, before_update

    path = tmp_path / "run.safetensors"
    model, before_update = build()
    with pytest.raises(KilledError):
        started(path, model, Killing(5), before_update=before_update, checkpoint_seconds=0.0)
    model, before_update = build()
    with pytest.raises(ValueError, match=r"^before_update gives model 0\.scale another value than"):
        started(path, model, before_update=before_update)


def test_a_function_that_cannot_be_told_is_refused_with_the_remedy(tmp_path):
    with (ROOT / "README.md").open() as file:

        def before_update(step, handle=file):
            pass  # fmt: skip

        with pytest.raises(
            ValueError, match=r"before_update\.0 is a TextIOWrapper, of which a che"
        ):
            started(tmp_path / "run.safetensors", before_update=before_update)
        started(None, before_update=before_update)  # nothing to compare with
        named = identified(before_update, "nothing", 1)
        started(tmp_path / "run.safetensors", before_update=named)


def test_a_model_of_other_code_and_a_task_with_another_teacher_are_other_trainings(tmp_path):
    def build(factor):
        class Model(Steps):
            def forward(self, x, length):
                return factor * super().forward(x, length)

        return Model()

    path = tmp_path / "run.safetensors"
    started(path, build(1))
    with pytest.raises(ValueError, match=r"models\.0\.code is \w+ there and \w+ here"):
        started(path, build(2))

    class Teaching(Killing):
        def __init__(self, teacher):
            super().__init__()
            object.__setattr__(self, "teacher", teacher)

    path = tmp_path / "taught.safetensors"
    started(path, task=Teaching(Steps(seed=1)))
    with pytest.raises(ValueError, match=r"tasks\.0\.teacher\.first is \w+ there and \w+ here"):
        started(path, task=Teaching(Steps(seed=2)))


def test_a_default_type_and_autocast_are_settings_too(tmp_path):
    path = tmp_path / "run.safetensors"
    started(path)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ValueError, match=r"autocast is None there and torch.bfloat16 here"),
    ):
        started(path)
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(
            ValueError, match=r"default dtype is torch.float32 there and torch.float6"
        ):
            started(path, Steps(nn.BatchNorm1d(6)).double())
    finally:
        torch.set_default_dtype(torch.float32)


# --- state that nobody can save ------------------------------------------------------------------


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self._calls = 0

    def forward(self, x):
        self._calls += 1
        return x * self._calls


class Averaging(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(6)  # no buffer

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean


class Caching(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = None

    def forward(self, x):
        if self.table is None:
            self.table = torch.linspace(0, 1, 6)
        return x * self.table


class OwnStream:
    """A task with a stream of its own, a counter, or a draw from elsewhere."""

    def __init__(self, draw):
        self.task, self.draw, self.count = Killing(), draw, 0
        self.stream = stream(0, "own")
        self.loss = self.task.loss

    def sample(self, batch, length, generator):
        found = self.task.sample(batch, length, generator)
        return found._replace(targets=found.targets * self.draw(self))


def counted(task):
    task.count += 1
    return task.count


HIDDEN = {
    "a counter": (lambda: Steps(Counting()), Killing, r"model 0\.middle\.0\._calls"),
    "a tensor that is no buffer": (lambda: Steps(Averaging()), Killing, r"model 0.*\.mean"),
    "a stream of its own": (
        Steps, lambda: OwnStream(lambda task: torch.rand((), generator=task.stream)),
        r"tasks\.0\.stream\.state",
    ),
    "a counter of a task": (Steps, lambda: OwnStream(counted), r"tasks\.0\.count"),
    "numbers of numpy": (
        Steps, lambda: OwnStream(lambda _: np.random.rand()),  # noqa: NPY002
        r"(tasks\.0\.draw\.global\.np\.random|numpy's global random numbers)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HIDDEN)
def test_what_moves_and_is_not_saved_is_refused_by_name(tmp_path, kind):
    build, task, where = HIDDEN[kind]
    path = tmp_path / "run.safetensors"
    with pytest.raises(
        ValueError, match=f"^{where}.* changes with every update, and a checkpoint d"
    ):
        started(path, build(), task())
    started(None, build(), task())  # without a checkpoint there is nothing to lose
    assert not path.exists()


def test_what_is_computed_once_and_kept_is_no_state(tmp_path):
    started(tmp_path / "run.safetensors", Steps(Caching()))


class Remembering(torch.optim.SGD):
    """State in numbers and in its groups, as several published optimisers have it."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["factor"] = 0.9 * group.get("factor", 1.0)
            for parameter in group["params"]:
                kept = self.state[parameter]
                kept["calls"] = kept.get("calls", 0) + 1
                grown = kept.get("half", torch.zeros_like(parameter, dtype=torch.float16))
                kept["half"] = grown + 0.1
                parameter.data -= group["lr"] * group["factor"] / kept["calls"] * parameter.grad
                parameter.data -= 1e-3 * kept["half"].double()


class Listing(torch.optim.SGD):
    def step(self, closure=None):
        super().step()
        for group in self.param_groups:
            self.state[group["params"][0]]["seen"] = [1, 2]


class Aside(torch.optim.SGD):
    calls = 0

    def step(self, closure=None):
        self.calls += 1
        super().step()


@pytest.mark.parametrize("count", [1, 2])
def test_an_optimiser_may_remember_numbers(tmp_path, count):
    expected, histories = run("nothing", count, optimizer=Remembering)
    path = tmp_path / "run.safetensors"
    with pytest.raises(KilledError):
        run("nothing", count, path, 5, optimizer=Remembering)
    models, found = run("nothing", count, path, 3, optimizer=Remembering)
    assert all(map(torch.equal, everything(expected), everything(models)))
    assert torch.equal(histories[0].loss, found[0].loss)


def test_an_optimiser_that_remembers_anything_else_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(
        ValueError, match="Listing remembers 'seen' as a list, which a checkpoint c"
    ):
        started(path, optimizer=Listing)
    with pytest.raises(ValueError, match=r"optimizer\.calls changes with every update"):
        started(path, optimizer=Aside)


# --- damage --------------------------------------------------------------------------------------


def refused(path, identity):
    """The sentence with which the file is refused."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        Checkpoint(path, identity, 0.0).load()
    assert type(error.value) is ValueError
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_bit_that_is_wrong_is_found_in_every_byte(tmp_path):
    path, identity = tmp_path / "run.safetensors", {"steps": 3}
    Checkpoint(path, identity, 0.0).save({"a": torch.arange(3.0), "b": torch.ones(1) * 1j})
    content = path.read_bytes()
    draw = np.random.default_rng(0)
    for byte in range(len(content)):
        for bit in range(8) if byte < 16 else draw.integers(0, 8, 1).tolist():
            spoilt = bytearray(content)
            spoilt[byte] ^= 1 << bit
            path.write_bytes(spoilt)
            refused(path, identity)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refused(path, identity)
    path.write_bytes(content + b"\0")
    assert "damaged" in refused(path, identity)
    path.write_bytes(content)
    assert Checkpoint(path, identity, 0.0).load()["b"] == 1j


def test_a_spoilt_checkpoint_of_a_training_is_refused_and_changes_nothing(tmp_path):
    path = tmp_path / "run.safetensors"
    started(path)
    content = path.read_bytes()
    draw = np.random.default_rng(0)
    for bit in draw.integers(0, 8 * len(content), 60):
        spoilt = bytearray(content)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        model = Steps(nn.BatchNorm1d(6))
        with pytest.raises(ValueError, match=re.escape(str(path))) as error:
            started(path, model)
        assert "\n" not in str(error.value)
        assert all(map(torch.equal, everything([model]), everything([Steps(nn.BatchNorm1d(6))])))


def test_a_whole_file_with_the_wrong_tensors_is_refused_before_anything_changes(tmp_path):
    path = tmp_path / "run.safetensors"
    saved = {}
    save = Checkpoint.save

    def kept(self, state):
        saved["identity"], saved["state"] = self.identity, dict(state)
        save(self, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", kept)
        started(path)
    for name in saved["state"]:
        fewer = {n: value for n, value in saved["state"].items() if n != name}
        Checkpoint(path, saved["identity"], 0.0).save(fewer)
        model = Steps(nn.BatchNorm1d(6))
        with pytest.raises(ValueError, match=r"is damaged \(.*\): delete it to start afresh"):
            started(path, model)
        assert all(map(torch.equal, everything([model]), everything([Steps(nn.BatchNorm1d(6))])))


# --- killed by the operating system --------------------------------------------------------------

KILLED = """
    import os, random, signal, sys, time
    import torch
    from torch import nn
    from lab.seeding import stream
    from lab.tasks import KnownOscillators
    from lab.train import fit

    torch.set_num_threads(1)
    folder = sys.argv[1]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            g = stream(0, "init")
            self.first = nn.Parameter(torch.randn(2, 6, generator=g))
            self.rest = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.2))

        def forward(self, x, length):
            return self.rest(x[:, 0].float() @ self.first)[:, :length, None]

    def train(path):
        model = Model()
        task = KnownOscillators.draw(1, stream(0, "task"))
        history = fit(model, task, seed=0, steps=120, batch=4, length=6, lr=0.02, device="cpu",
                      checkpoint=path, checkpoint_seconds=0.0, optimizer=torch.optim.AdamW,
                      watch={"first": lambda m: m.first.sum()}, watch_every=7)
        torch.save([history.loss, history.watched, model.state_dict()], path + ".done")

    def forked(path):
        child = os.fork()
        if not child:
            try:
                train(path)
            finally:
                os._exit(0)
        return child

    # One process imports all that a training needs, which takes long, and its children are killed.
    train(folder + "/first")
    started = time.perf_counter()
    os.waitpid(forked(folder + "/whole"), 0)
    longest = min(time.perf_counter() - started, 2.0) / 2  # slow machines get further, too
    draw, kills, started = random.Random(0), 0, time.perf_counter()
    while kills < 8 or time.perf_counter() - started < 4:
        path = f"{folder}/killed{kills}"
        for _ in range(4):
            child = forked(path)
            time.sleep(draw.uniform(0.0, longest))
            kills += 1
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.waitpid(forked(path), 0)  # to the end
    print(kills)
"""


def test_a_training_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], capture_output=True,
        text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8
    loss, watched, weights = torch.load(tmp_path / "whole.done")
    finished = sorted(tmp_path.glob("killed*.done"))
    assert finished
    for path in finished:
        found = torch.load(path)
        assert torch.equal(found[0], loss)
        assert torch.equal(found[1]["first"], watched["first"])
        assert all(map(torch.equal, found[2].values(), weights.values()))


def test_a_stored_set_is_a_task_like_any_other(tmp_path):
    path = tmp_path / "run.safetensors"
    started(path, task=Stored(Killing(), 9, 6, stream(0, "set")))
    started(path, task=Stored(Killing(), 9, 6, stream(0, "set")))
    with pytest.raises(ValueError, match=r"tasks\.0\.examples\.0 is \w+ there and \w+ here"):
        started(path, task=Stored(Killing(), 9, 6, stream(1, "set")))
