"""Training can be killed at any update, and a score depends only on its seed."""

import functools
import math
import re

import pytest
import torch
from killed import Fragile, KilledError
from torch import nn

from lab.linalg import causal_convolution
from lab.mixers import OscDPLR
from lab.seeding import stream
from lab.tasks import (
    AnonymousOscillations,
    Batch,
    KnownOscillators,
    Stored,
    masked_cross_entropy,
)
from lab.train import fit, fit_together, loop, score
from lab.train.loop import _multiplier
from lab.train.optimiser import multipliers
from lab.train.side_by_side import pick_device

DOUBLE = torch.float64
SETTINGS = {"steps": 12, "batch": 4, "length": 8, "lr": 0.02, "device": "cpu"}


def layer(seed=0, rank=1, dtype=DOUBLE, **options):
    return OscDPLR(
        2,
        d_output=1,
        d_state=3,
        rank=rank,
        dt=0.5,
        generator=stream(seed, "init"),
        dtype=dtype,
        **options,
    )


def oscillators(seed=0):
    return KnownOscillators.draw(1, stream(seed, "task"))


class Kernel(nn.Module):
    """The simplest model there is: one number per step and channel."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(8, 1, 2, dtype=DOUBLE))

    def forward(self, x, length):
        return causal_convolution(x, self.kernel[:length])


def equal_models(first, second):
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


# --- learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "one-cycle", "warmup-cosine"])
def test_fit_learns_a_task_that_can_be_learned(schedule):
    model, task = layer(complex_io=True), oscillators()
    history = fit(
        model, task, seed=0, steps=150, batch=16, length=16, lr=0.03, schedule=schedule,
        device="cpu",
    )  # fmt: skip
    assert history.loss.shape == (150,)
    assert history.loss[-20:].mean() < 0.01 * history.loss[:5].mean()
    found = score(model, task, length=16, samples=200, seed=0)
    assert found.loss < 0.01 * task.chance(16)


def test_one_update_is_that_of_the_optimizer_on_the_mean_loss():
    model, reference, task = layer(), layer(), oscillators()
    history = fit(model, task, seed=5, optimizer=torch.optim.SGD, **{**SETTINGS, "steps": 1})
    loss = task.loss(reference, task.sample(4, 8, stream(5, "data")))
    loss.backward()
    assert history.loss.tolist() == [loss.item()]
    for trained, parameter in zip(model.parameters(), reference.parameters(), strict=True):
        expected = parameter - 0.02 * parameter.grad
        torch.testing.assert_close(trained.data, expected.data, rtol=0, atol=1e-14)


# --- several at once -----------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("form", ["plain", "dissipative"])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_models_trained_together_end_as_each_alone(form, rank, optimizer):
    seeds = [0, 1, 2]

    def build():
        return [layer(s, rank, form=form) for s in seeds], [oscillators(s) for s in seeds]

    settings = {**SETTINGS, "steps": 30, "schedule": "one-cycle", "optimizer": optimizer}
    settings |= {"watch": {"P": lambda model: model.P}}
    together, tasks = build()
    joint = fit_together(together, tasks, seeds=seeds, **settings)
    alone, _ = build()
    for model, task, seed, trained, history in zip(
        alone, tasks, seeds, together, joint, strict=True
    ):
        expected = fit(model, task, seed=seed, **settings)
        # Batched products round in another order, and Adam divides by small numbers.
        torch.testing.assert_close(history.loss, expected.loss, rtol=1e-9, atol=0)
        torch.testing.assert_close(history.watched, expected.watched, rtol=0, atol=1e-9)
        for one, other in zip(trained.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_models_trained_together_are_changed_without_anyone_watching():
    models = [layer(0), layer(1)]
    fit_together(models, [oscillators(), oscillators()], seeds=[0, 1], **SETTINGS)
    for seed, model in enumerate(models):
        assert not equal_models(model, layer(seed))


# --- killed and resumed --------------------------------------------------------------------------

WATCH = {"eigenvalues": lambda model: model.eigenvalues(torch.zeros(1, 1, 2))[0, 0],
         "C": lambda model: model.C}  # fmt: skip
OPTIMIZERS = {
    "Adam": torch.optim.Adam,
    "AdamW": functools.partial(torch.optim.AdamW, weight_decay=0.1, amsgrad=True),
    "momentum": functools.partial(torch.optim.SGD, momentum=0.9),
}


def run(count, left, checkpoint, optimizer=torch.optim.Adam, rank=1, **changes):
    """`count` models trained together, killed at sample `left` of the last one's task."""
    seeds = list(range(count))
    models = [layer(seed, rank) for seed in seeds]
    tasks = [Fragile(oscillators(seed)) for seed in seeds]
    tasks[-1] = Fragile(oscillators(count - 1), left)
    settings = {"schedule": "one-cycle", "watch": WATCH, "watch_every": 5, **SETTINGS}
    settings |= {"length": [8, 5], "checkpoint": checkpoint, "checkpoint_seconds": 0.0}
    histories = fit_together(models, tasks, seeds=seeds, optimizer=optimizer, **settings | changes)
    return models, histories


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("killed_at", [[0], [1], [5], [6], [11], [3, 4]])
def test_a_killed_run_ends_as_if_it_had_not_been_killed(tmp_path, killed_at, optimizer, count):
    method = OPTIMIZERS[optimizer]
    expected_models, expected = run(count, math.inf, None, method)
    path = tmp_path / "run.safetensors"
    for left in killed_at:
        with pytest.raises(KilledError):
            run(count, left, path, method)
    models, histories = run(count, 12 - sum(killed_at), path, method)  # and not one sample more
    for model, other in zip(models, expected_models, strict=True):
        assert equal_models(model, other)
    for history, other in zip(histories, expected, strict=True):
        assert torch.equal(history.loss, other.loss)
        assert history.watched_at == other.watched_at == [0, 5, 10, 12]
        for name in WATCH:
            assert torch.equal(history.watched[name], other.watched[name])
        assert history.watched["eigenvalues"].is_complex()
        assert len(history.watched["C"]) == 4


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_finished_run_is_read_and_not_repeated(tmp_path, rank, count):
    path = tmp_path / "run.safetensors"
    models, histories = run(count, math.inf, path, rank=rank, checkpoint_seconds=math.inf)
    content = path.read_bytes()
    again, same = run(count, 0, path, rank=rank)
    assert all(map(equal_models, models, again))
    for history, other in zip(histories, same, strict=True):
        assert torch.equal(history.loss, other.loss)
        assert history.watched_at == other.watched_at
        assert torch.equal(history.watched["eigenvalues"], other.watched["eigenvalues"])
    assert path.read_bytes() == content


def test_an_interrupted_cell_can_be_run_again_with_the_same_objects(tmp_path):
    expected = layer()
    fit(expected, oscillators(), seed=0, **SETTINGS)
    model, path = layer(), tmp_path / "run.safetensors"
    saving = {**SETTINGS, "checkpoint": path, "checkpoint_seconds": 0.0}
    with pytest.raises(KilledError):
        fit(model, Fragile(oscillators(), 7), seed=0, **saving)
    model.eval()
    fit(model, Fragile(oscillators()), seed=0, **saving)
    assert equal_models(model, expected)


def test_seconds_include_the_part_before_the_kill(tmp_path, monkeypatch):
    now = 0.0

    def clock():
        nonlocal now
        now += 1.0
        return now

    monkeypatch.setattr("lab.train.loop.time.perf_counter", clock)
    with pytest.raises(KilledError):
        run(1, 6, tmp_path / "run.safetensors")
    at_the_kill = now
    _, (history,) = run(1, math.inf, tmp_path / "run.safetensors")
    assert at_the_kill / 2 < history.seconds <= now
    assert history.seconds > now - at_the_kill


CHANGES = [
    ({"steps": 13}, "steps is 12 there and 13 here"),
    ({"batch": 5}, "batch is 4 there and 5 here"),
    ({"length": 8}, "lengths is [8, 5] there and [8] here"),
    ({"lr": 0.01}, "rates.log_omega is 0.02 there and 0.01 here"),
    ({"lr": {"": 0.02, "C": 0.01}}, "rates.C is 0.02 there and 0.01 here"),
    ({"schedule": "constant"}, "schedule is one-cycle there and constant here"),
    ({"optimizer": torch.optim.SGD}, "optimizer is Adam there and SGD here"),
    ({"watch": {"C": WATCH["C"]}}, "watch is ['C', 'eigenvalues'] there and ['C'] here"),
    ({"watch_every": 4}, "watch_every is 5 there and 4 here"),
    (
        {"rank": 2},
        "parameters.P is torch.float64 (3, 1) there and torch.float64 (3, 2) here",
    ),
]


@pytest.mark.parametrize(("change", "difference"), CHANGES)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, change, difference):
    path = tmp_path / "run.safetensors"
    run(1, math.inf, path)
    sentence = f"{path} is of another model or other settings ({difference}): delete it to start "
    with pytest.raises(ValueError, match=re.escape(sentence)):
        run(1, math.inf, path, **change)


def test_a_checkpoint_of_other_seeds_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    fit(layer(), oscillators(), seed=0, checkpoint=path, **SETTINGS)
    with pytest.raises(ValueError, match=re.escape("seeds is [0] there and [1] here")):
        fit(layer(), oscillators(), seed=1, checkpoint=path, **SETTINGS)


def test_a_checkpoint_of_an_older_loop_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_VERSION", loop._VERSION - 1)
        fit(layer(), oscillators(), seed=0, checkpoint=path, **SETTINGS)
    sentence = f"version is {loop._VERSION - 1} there and {loop._VERSION} here"
    with pytest.raises(ValueError, match=sentence):
        fit(layer(), oscillators(), seed=0, checkpoint=path, **SETTINGS)


def with_parameters_of_the_same_shapes():
    task = oscillators()
    return [
        (layer(form="dissipative"), task, "models.0.form is plain there and dissipative here"),
        (
            layer(discretisation="zero-order hold"),
            task,
            "models.0.discretisation is bilinear there and zero-order hold here",
        ),
        (layer(dtype=torch.float32), task, "parameters.log_omega is torch.float64 (3,) there and"),
        (layer(), KnownOscillators(task.omega, task.zeta, 2.0), "tasks.0.dt is 1.0 there and 2.0"),
        (layer(), oscillators(seed=1), "tasks.0.omega is "),
        (layer(), Stored(task, 9, 8, stream(0, "task")), "tasks.0.class is KnownOscillators there"),
    ]


@pytest.mark.parametrize("which", range(6))
def test_a_checkpoint_of_another_make_with_the_same_shapes_is_refused(tmp_path, which):
    path = tmp_path / "run.safetensors"
    fit(layer(), oscillators(), seed=0, checkpoint=path, **SETTINGS)
    model, task, difference = with_parameters_of_the_same_shapes()[which]
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=re.escape(difference)):
        fit(model, task, seed=0, checkpoint=path, **SETTINGS)
    assert all(map(torch.equal, model.parameters(), before))


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, kept):
    path = tmp_path / "run.safetensors"
    run(1, math.inf, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"run\.safetensors is damaged \(.*\): delete it to start"):
        run(1, math.inf, path)


def test_a_missing_folder_is_named_before_anything_is_trained(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no folder {tmp_path}/missing"):
        run(1, 0, tmp_path / "missing" / "run.safetensors")


# --- what is asked for ---------------------------------------------------------------------------


def test_a_rate_can_be_given_by_parameter():
    model, before = layer(), layer()
    fit(model, oscillators(), seed=0, **{**SETTINGS, "lr": {"": 0.0, "B": 0.01}})
    moved = {
        name
        for (name, parameter), other in zip(
            model.named_parameters(), before.parameters(), strict=True
        )
        if not torch.equal(parameter, other)
    }
    assert moved == {"B"}


def test_rates_are_checked_against_the_parameters():
    with pytest.raises(ValueError, match=r"lr names \['E'\], the model has \['B', 'C', 'D',"):
        fit(layer(), oscillators(), seed=0, **{**SETTINGS, "lr": {"": 0.1, "E": 0.1}})
    with pytest.raises(
        ValueError, match=r"lr leaves out \['log_omega', .*\]; give it, or \"\" for"
    ):
        fit(layer(), oscillators(), seed=0, **{**SETTINGS, "lr": {"B": 0.1}})


class Scaled(Kernel):
    """A model with a plain attribute that is no parameter and no buffer."""

    scale = 1.0

    def forward(self, x, length):
        return self.scale * super().forward(x, length)


@pytest.mark.parametrize("count", [1, 2])
def test_before_every_update_an_attribute_can_be_set(count):
    models, seen = [Scaled() for _ in range(count)], []

    def prepare(step):
        seen.append(step)
        for model in models:
            model.scale = 0.0 if step < 5 else 1.0  # until then nothing is learned

    tasks, seeds = [oscillators()] * count, range(count)
    histories = fit_together(models, tasks, seeds=seeds, before_update=prepare, **SETTINGS)
    late = SETTINGS | {"steps": 5}
    still = [Scaled() for _ in range(count)]
    for model in still:
        model.scale = 0.0
    without = fit_together(still, tasks, seeds=seeds, **late)
    assert seen == list(range(12))
    for history, early, model in zip(histories, without, models, strict=True):
        assert torch.equal(history.loss[:5], early.loss)
        assert model.kernel.abs().sum() > 0
    assert not still[0].kernel.any()


def test_lengths_are_taken_in_turns():
    lengths = []

    class Noting(KnownOscillators):
        def sample(self, batch, length, generator):
            lengths.append((batch, length))
            return super().sample(batch, length, generator)

    task = oscillators()
    fit(
        layer(), Noting(task.omega, task.zeta), seed=0,
        **{**SETTINGS, "length": (8, 3, 5), "steps": 7},
    )  # fmt: skip
    assert lengths == [(4, length) for length in (8, 3, 5, 8, 3, 5, 8)]


@pytest.mark.parametrize("steps", [10, 100, 1000])
def test_one_cycle_rises_to_the_peak_and_falls_to_nothing(steps):
    rates = [_multiplier("one-cycle", step, steps) for step in range(steps)]
    assert multipliers("one-cycle", steps).tolist() == rates
    peak = 3 * steps // 10
    assert rates[peak] == 1
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[0] < 0.005
    # A cosine that reaches 0 one update after the last: (pi / 2)^2 over the square of the fall.
    assert rates[-1] <= (math.pi / 2 / (0.7 * steps)) ** 2
    assert _multiplier("constant", 3, steps) == 1


def test_the_schedule_scales_the_updates():
    model, before = layer(), layer()
    settings = {**SETTINGS, "steps": 10, "optimizer": torch.optim.SGD}
    history = fit(
        model, oscillators(), seed=0, schedule="one-cycle", watch={"D": lambda m: m.D},
        watch_every=1, **settings,
    )  # fmt: skip
    reference, task, data = layer(), oscillators(), stream(0, "data")
    for step in range(10):
        torch.testing.assert_close(history.watched["D"][step], reference.D, rtol=0, atol=1e-14)
        task.loss(reference, task.sample(4, 8, data)).backward()
        with torch.no_grad():
            for parameter in reference.parameters():
                parameter -= 0.02 * _multiplier("one-cycle", step, 10) * parameter.grad
        reference.zero_grad()
    assert torch.equal(history.watched["D"][0], before.D)
    torch.testing.assert_close(model.D, reference.D, rtol=0, atol=1e-14)


def test_unknown_schedules_and_uneven_lists_are_named():
    with pytest.raises(ValueError, match=r"schedule is 'cosine'; it must be one of .*'one-cycle'"):
        fit(layer(), oscillators(), seed=0, schedule="cosine", **SETTINGS)
    with pytest.raises(ValueError, match="2 models, 1 tasks and 2 seeds: there must be one of"):
        fit_together([layer(), layer()], [oscillators()], seeds=[0, 1], **SETTINGS)
    with pytest.raises(ValueError, match="0 models, 0 tasks and 0 seeds"):
        fit_together([], [], seeds=[], **SETTINGS)


@pytest.mark.parametrize("count", [1, 2])
def test_no_steps_leave_the_models_as_they_are(count):
    models, histories = run(count, 0, None, steps=0)
    for seed, (model, history) in enumerate(zip(models, histories, strict=True)):
        assert equal_models(model, layer(seed))
        assert history.loss.shape == (0,)
        assert history.watched_at == [0]


class Poisoned(KnownOscillators):
    def sample(self, batch, length, generator):
        found = super().sample(batch, length, generator)
        return found._replace(targets=torch.full_like(found.targets, torch.nan))


def test_a_loss_that_is_not_finite_stops_the_run_with_its_seed_and_update():
    task = oscillators()
    with pytest.raises(FloatingPointError, match="the loss of seed 8 is nan at update 0: try a sm"):
        fit_together(
            [layer(), layer()], [task, Poisoned(task.omega, task.zeta)], seeds=[7, 8], **SETTINGS
        )
    settings = {**SETTINGS, "steps": 500, "optimizer": torch.optim.SGD, "lr": 1e3}
    with pytest.raises(
        FloatingPointError, match=r"the loss of seed 3 is (inf|nan) at update [1-9]"
    ):
        fit(Kernel(), task, seed=3, **settings)


class Unsolvable(Kernel):
    def forward(self, x, length):
        return torch.linalg.solve(0 * torch.eye(length, dtype=DOUBLE), super().forward(x, length))


def test_a_model_that_has_run_away_from_its_solver_stops_the_run():
    with pytest.raises(
        FloatingPointError, match=r"not be evaluated at update 0 \(.*\): try a smaller"
    ):
        fit(Unsolvable(), oscillators(), seed=0, **SETTINGS)


def test_the_device_is_named_or_found():
    assert pick_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert pick_device("auto").type == expected


# --- scoring -------------------------------------------------------------------------------------


class Masked(AnonymousOscillations):
    """Scores the steps of even index in the first sequence, and the first step of all others."""

    def sample(self, batch, length, generator):
        found = super().sample(batch, length, generator)
        mask = torch.zeros(batch, length, dtype=torch.bool)
        mask[:, 0] = True
        mask[0, ::2] = True
        return Batch(found.inputs, found.targets, mask)


class Silent(nn.Module):
    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.zeros((), dtype=DOUBLE))

    def forward(self, x, length):
        return self.zero * torch.ones(len(x), length, 1, dtype=DOUBLE)


@pytest.mark.parametrize("task", [AnonymousOscillations(dtype=DOUBLE), Masked(dtype=DOUBLE)])
def test_the_score_weighs_every_scored_step_of_every_chunk_alike(task):
    generator = stream(4, "scoring")
    chunks = [task.sample(size, 8, generator) for size in (20, 20, 10)]
    squares = torch.cat([chunk.targets[chunk.mask].square() for chunk in chunks])
    found = score(Silent(), task, length=8, samples=50, seed=4, chunk=20)
    assert found.loss == pytest.approx(squares.mean().item(), rel=1e-13)
    assert math.isnan(found.accuracy)  # its targets are numbers
    assert found.by_step.shape == (8,)
    assert found.by_step.isnan().all()


def test_the_score_depends_on_nothing_but_its_seed():
    model, task = layer(), oscillators()
    first = score(model, task, length=8, samples=50, seed=4).loss
    torch.manual_seed(1)
    assert score(model, task, length=8, samples=50, seed=4).loss == first
    assert score(model, task, length=8, samples=50, seed=5).loss != first
    assert all(parameter.grad is None for parameter in model.parameters())


def test_noise_of_a_scored_model_depends_on_the_seed_alone():
    task = oscillators()

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.size = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, b, *_):
            return self.size * torch.randn(*b.shape[:2], 1, dtype=b.dtype)

    state = torch.get_rng_state()
    first = score(Noisy(), task, length=8, samples=50, seed=4, chunk=20).loss
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert score(Noisy(), task, length=8, samples=50, seed=4, chunk=20).loss == first
    assert score(Noisy(), task, length=8, samples=50, seed=5, chunk=20).loss != first


def test_scoring_examples_are_not_those_of_training():
    seen = []

    class Noting(KnownOscillators):
        def sample(self, *arguments):
            found = super().sample(*arguments)
            seen.append(found.targets[:4])
            return found

    task = oscillators()
    task = Noting(task.omega, task.zeta)
    model = layer()
    fit(model, task, seed=0, **{**SETTINGS, "steps": 1})
    score(model, task, length=8, samples=4, seed=0)
    assert not torch.isclose(seen[0], seen[1]).any()


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    run(2, math.inf, None)
    score(layer(), oscillators(), length=8, samples=50, seed=4)
    assert torch.equal(torch.get_rng_state(), state)


# --- lengths, clipping, skipped updates ----------------------------------------------------------


class Recorded(KnownOscillators):
    """The same task, which remembers the lengths that it was asked for."""

    def __init__(self, task: KnownOscillators) -> None:
        super().__init__(task.omega, task.zeta, task.dt)
        object.__setattr__(self, "lengths", [])

    def sample(self, batch, length, generator):
        self.lengths.append(length)
        return super().sample(batch, length, generator)


@pytest.mark.parametrize("length", [8, [8, 5], lambda step: 4 + step])
def test_lengths_are_one_or_several_in_turns_or_a_curriculum(length):
    task = Recorded(oscillators())
    fit(layer(), task, seed=0, **{**SETTINGS, "steps": 4, "length": length})
    expected = {int: [8] * 4, list: [8, 5, 8, 5]}.get(type(length), [4, 5, 6, 7])
    assert task.lengths == expected


def test_warmup_rises_along_a_line_and_a_cosine_falls_to_nothing():
    rates = [_multiplier("warmup-cosine", step, 200) for step in range(200)]
    assert rates[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert rates.index(max(rates)) == 10
    assert max(rates) == 1
    assert rates[105] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3


@pytest.mark.parametrize("count", [1, 2])
def test_clipping_shrinks_the_gradients_of_each_model_alone(count):
    settings = {**SETTINGS, "steps": 1, "optimizer": torch.optim.SGD, "lr": 1.0}
    first = range(count)
    free, clipped = ([layer(seed) for seed in first] for _ in range(2))
    tasks = [oscillators(seed) for seed in first]
    fit_together(free, tasks, seeds=list(first), **settings)
    moves = [update(layer(seed), model) for seed, model in zip(first, free, strict=True)]
    limit = 0.5 * max(move.norm().item() for move in moves)
    fit_together(clipped, tasks, seeds=list(first), clip=limit, **settings)
    for seed, move, model in zip(first, moves, clipped, strict=True):
        expected = move * min(1.0, limit / move.norm().item())
        torch.testing.assert_close(update(layer(seed), model), expected, rtol=1e-9, atol=1e-12)


def update(before, after):
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return torch.cat([(new - old).detach().flatten() for old, new in pairs])


class Broken(KnownOscillators):
    """The same task, whose loss is NaN wherever the first input of an example is negative."""

    def loss(self, model, batch):
        spoilt = torch.where(batch.inputs[:, 0, 0] < 0, math.nan, 0.0).sum()
        return super().loss(model, batch) + spoilt


def broken(seed):
    task = oscillators(seed)
    return Broken(task.omega, task.zeta, task.dt)


def test_a_clip_that_nothing_reaches_changes_nothing_and_none_at_all_is_refused():
    free, clipped = layer(), layer()
    fit(free, oscillators(), seed=0, **SETTINGS)
    fit(clipped, oscillators(), seed=0, clip=math.inf, **SETTINGS)
    assert equal_models(free, clipped)
    with pytest.raises(ValueError, match="clip is 0; it must be above 0"):
        fit(layer(), oscillators(), seed=0, clip=0, **SETTINGS)


def test_a_skipped_update_leaves_the_momentum_as_it_was():
    momentum = functools.partial(torch.optim.SGD, momentum=0.9)
    settings = {**SETTINGS, "batch": 1, "steps": 12, "optimizer": momentum}
    models, tasks = [layer(0), layer(1)], [broken(0), broken(1)]
    fit_together(models, tasks, seeds=[0, 1], skip_nonfinite=True, **settings)
    for seed, model in enumerate(models):
        alone, task, data = layer(seed), broken(seed), stream(seed, "data")
        updates = momentum(alone.parameters(), lr=0.02)
        for _ in range(12):
            updates.zero_grad()
            loss = task.loss(alone, task.sample(1, 8, data))
            if loss.isfinite():
                loss.backward()
                updates.step()
        for actual, expected in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 3])
def test_updates_that_are_not_finite_are_skipped_and_counted(count):
    settings = {**SETTINGS, "batch": 1, "steps": 12, "skip_nonfinite": True}
    models = [layer(seed) for seed in range(count)]
    histories = fit_together(
        models, [broken(seed) for seed in range(count)], seeds=list(range(count)),
        watch={"D": lambda model: model.D}, watch_every=1, **settings,
    )  # fmt: skip
    for model, history in zip(models, histories, strict=True):
        bad = history.loss.isnan()
        assert 0 < history.skipped == bad.sum().item() < 12
        assert all(parameter.isfinite().all() for parameter in model.parameters())
        moved = (history.watched["D"].diff(dim=0) != 0).flatten(1).any(1)
        assert torch.equal(moved, ~bad)


def test_a_loss_that_is_not_finite_stops_unless_it_may_be_skipped():
    with pytest.raises(FloatingPointError, match="the loss of seed 0 is nan"):
        fit(layer(), broken(0), seed=0, **{**SETTINGS, "batch": 8})


# --- accuracy ------------------------------------------------------------------------------------


class Parrot:
    """Tokens whose right answer is the token itself, where the mask says that it counts."""

    def sample(self, batch, length, generator):
        inputs = torch.randint(3, (batch, length), generator=generator)
        return Batch(inputs, inputs, torch.arange(length).expand(batch, length) > 0)

    def loss(self, model, batch):
        return masked_cross_entropy(model(batch.inputs), batch)


def test_accuracy_is_the_share_of_right_answers_at_every_scored_step():
    def model(tokens):
        # Right at even steps; at odd ones always token 0, which is right for a third.
        even = torch.arange(tokens.shape[1]) % 2 == 0
        return nn.functional.one_hot(torch.where(even, tokens, 0), 3).float()

    found = score(model, Parrot(), length=4, samples=2500, seed=0).by_step
    assert found[0].isnan()
    assert found[2] == 1
    assert found[[1, 3]].tolist() == pytest.approx([1 / 3] * 2, abs=0.03)
    again = score(model, Parrot(), length=4, samples=2500, seed=0).by_step
    assert torch.equal(found[1:], again[1:])


def test_a_model_is_asked_once_for_loss_and_accuracy():
    asked = []

    def model(tokens):
        asked.append(len(tokens))
        return nn.functional.one_hot(tokens, 3).float()

    found = score(model, Parrot(), length=4, samples=50, seed=0, chunk=20)
    assert asked == [20, 20, 10]
    assert found.accuracy == 1
    assert found.loss == pytest.approx(math.log(math.e + 2) - 1)


def test_accuracy_is_that_of_all_scored_steps_together():
    def model(tokens):
        return nn.functional.one_hot(torch.zeros_like(tokens), 3).float()

    settings = {"length": 4, "samples": 600, "seed": 0, "chunk": 250}
    found = score(model, Parrot(), **settings)
    # Every step but the first is scored equally often.
    assert found.accuracy == pytest.approx(found.by_step[1:].mean().item(), abs=1e-6)
    assert found.accuracy == pytest.approx(1 / 3, abs=0.04)
