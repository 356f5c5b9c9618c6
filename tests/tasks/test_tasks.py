"""Limits in closed form against Monte Carlo and quadrature; targets against their own solution."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import stream
from scipy.integrate import dblquad

from lab.linalg import causal_convolution
from lab.tasks import AnonymousOscillations, Batch, KnownOscillators, Stored, oscillation
from lab.tasks.oscillation import AMPLITUDE, OMEGA, ZETA, mean_decay

KINDS = ["damped", "undamped", "decay"]
DOUBLE = torch.float64


def zero(inputs, length):
    return torch.zeros(len(inputs), length, 1, dtype=inputs.dtype)


def monte_carlo(task, model, length, samples=50_000):
    """The mean loss of a model that sees no input, and its standard error."""
    batch = task.sample(samples, length, stream(0))
    errors = (model(batch.inputs, length) - batch.targets).square().mean((1, 2))
    loss = task.loss(model, batch).item()
    assert loss == pytest.approx(errors.mean().item(), rel=1e-5)
    return loss, errors.std().item() / math.sqrt(samples)


def tasks():
    return {
        **{f"anonymous, {kind}": AnonymousOscillations(dt=1.0, kind=kind) for kind in KINDS},
        "anonymous, as first posed": AnonymousOscillations(),
        "known, K = 1": KnownOscillators.draw(1, stream(1)),
        "known, K = 5": KnownOscillators.draw(5, stream(1), dtype=torch.float32),
    }


every_task = pytest.mark.parametrize("name", tasks())


# --- what holds for all --------------------------------------------------------------------------


@every_task
def test_chance_is_the_loss_of_predicting_zero(name):
    task = tasks()[name]
    loss, error = monte_carlo(task, zero, length=32)
    assert loss == pytest.approx(task.chance(32), abs=4 * error)


@every_task
def test_a_generator_alone_decides_the_examples(name):
    task = tasks()[name]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = task.sample(7, 5, stream(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    again, other = task.sample(7, 5, stream(3)), task.sample(7, 5, stream(4))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first.targets, other.targets)


@pytest.mark.parametrize(("batch", "length"), [(0, 3), (1, 1), (3, 7)])
@every_task
def test_shapes_and_mask(name, batch, length):
    task = tasks()[name]
    inputs, targets, mask = task.sample(batch, length, stream(0))
    assert inputs.shape == (batch, 1, 2 * task.systems if name.startswith("known") else 1)
    assert targets.shape == (batch, length, 1)
    assert mask.shape == (batch, length)
    assert mask.all()
    assert inputs.dtype == targets.dtype


@every_task
def test_the_loss_is_the_mean_over_the_scored_steps(name):
    task = tasks()[name]
    inputs, targets, _ = task.sample(2, 3, stream(0))
    mask = torch.tensor([[True, False, False], [True, True, False]])
    wrong = torch.tensor([[1.0, 50, 60], [2, 3, 70]])[..., None]
    loss = task.loss(lambda _x, _length: targets + wrong, Batch(inputs, targets, mask))
    assert loss.item() == pytest.approx((1 + 4 + 9) / 3, rel=1e-5)


# --- the oscillation itself ----------------------------------------------------------------------


def test_an_oscillation_is_its_formula():
    generator = stream(0)
    omega, zeta, amplitude, phase = torch.rand(4, 6, dtype=DOUBLE, generator=generator)
    found = oscillation(omega, zeta, amplitude, phase, 0.3, 20)
    for i in range(6):
        w, z, a, f = (part[i].item() for part in (omega, zeta, amplitude, phase))
        for k in range(20):
            t = 0.3 * k
            y = a * math.exp(-z * w * t) * math.sin(w * math.sqrt(1 - z**2) * t + f)
            assert found[i, k].item() == pytest.approx(y, abs=1e-13)


# --- as first posed ------------------------------------------------------------------------------


# Means over 200,000 sequences, whose squares scatter by 0.9: a standard error of 0.002, and half a
# unit of the last digit on top.
@pytest.mark.parametrize(("length", "published"), [(128, 0.846), (512, 0.767)])
def test_the_floors_are_those_of_the_specification(length, published):
    task = AnonymousOscillations()
    assert task.floor(length) == task.chance(length)
    assert task.floor(length) == pytest.approx(published, abs=0.0025)


@pytest.mark.parametrize("kind", KINDS)
def test_the_floor_is_the_loss_of_the_best_prediction(kind):
    task = AnonymousOscillations(dt=1.0, kind=kind)
    best = task.best_prediction(32)

    def predict(inputs, length):
        return best.to(inputs.dtype)[None, :length, None].expand(len(inputs), -1, 1)

    loss, error = monte_carlo(task, predict, length=32)
    assert loss == pytest.approx(task.floor(32), abs=4 * error)
    # Only a decay has a mean worth predicting.
    assert (task.floor(32) < 0.5 * task.chance(32)) == (kind == "decay")


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_prediction_and_the_mean_square_are_the_moments_of_the_targets(kind):
    task = AnonymousOscillations(dt=1.0, kind=kind, dtype=DOUBLE)
    targets = task.sample(20_000, 64, stream(0)).targets[..., 0]
    for moment, samples in (
        (task.best_prediction(64), targets),
        (task.mean_square(64), targets.square()),
    ):
        errors = (samples.mean(0) - moment).abs()
        # 4.5: the largest of 64 errors, though neighbours are nearly one.
        assert (errors <= 4.5 * samples.std(0) / math.sqrt(20_000)).all()


def test_every_sequence_has_the_same_input():
    inputs = AnonymousOscillations().sample(100, 8, stream(0)).inputs
    assert torch.equal(inputs, torch.ones(100, 1, 1))
    assert AnonymousOscillations().distinct_inputs(8) == 1


def test_nothing_oscillates_in_128_steps_as_first_posed():
    batch = AnonymousOscillations(dtype=DOUBLE).sample(1000, 128, stream(0))
    y = batch.targets[:, ::40, 0]  # at 0, 40, 80, 120
    # y[k + 2] = c1 y[k + 1] + c0 y[k], and the roots of z^2 = c1 z + c0 turn as y does.
    rows = torch.stack([y[:, 1:3], y[:, 0:2]], dim=-1)
    c1, c0 = torch.linalg.solve(rows, y[:, 2:4]).unbind(-1)
    turned = torch.sqrt(-c0 - c1.square() / 4) / (c1 / 2)
    turned = torch.atan(turned) * 128 / 40
    assert turned.max() <= 0.128
    assert turned.max() > 0.11
    assert turned.min() >= 0.128 * 0.1 * math.sqrt(1 - ZETA[1] ** 2)


def test_an_undamped_oscillation_keeps_its_amplitude_and_a_decay_its_sign():
    undamped = AnonymousOscillations(dt=10.0, kind="undamped", dtype=DOUBLE)
    peaks = undamped.sample(500, 5000, stream(0)).targets.abs()
    assert torch.allclose(peaks[:, :2500].amax(1), peaks[:, 2500:].amax(1), rtol=0.05)
    assert peaks.max() <= AMPLITUDE[1]
    decay = AnonymousOscillations(dt=10.0, kind="decay", dtype=DOUBLE)
    targets = decay.sample(500, 50, stream(0)).targets[..., 0]
    assert (targets > 0).all()
    assert (targets.diff() < 0).all()
    # A straight line in the logarithm, with the slope of -zeta omega.
    slopes = targets.log().diff() / 10
    assert torch.allclose(slopes, slopes[:, :1].expand_as(slopes), atol=1e-14)
    assert slopes.min() >= -ZETA[1] * OMEGA[1]
    assert slopes.max() <= -ZETA[0] * OMEGA[0]
    assert AMPLITUDE[0] <= targets[:, 0].min() <= targets[:, 0].max() <= AMPLITUDE[1]


TIMES = [0.0, 1e-6, 1e-3, 0.02, 1.0, 10.24, 100.0, 1e4]


@pytest.mark.parametrize("time", TIMES)
def test_the_mean_decay_is_its_integral(time):
    integral, _ = dblquad(
        lambda omega, zeta: math.exp(-zeta * omega * time), *ZETA, *OMEGA, epsabs=1e-13
    )
    expected = integral / ((OMEGA[1] - OMEGA[0]) * (ZETA[1] - ZETA[0]))
    found = mean_decay(torch.tensor([time], dtype=DOUBLE)).item()
    # The cancellation that the docstring states, and the quadrature's own error.
    assert found == pytest.approx(expected, rel=0, abs=1e-13 / max(time, 1e-9) + 1e-12)


def test_the_mean_decay_keeps_the_shape_of_the_times():
    times = torch.tensor(TIMES, dtype=DOUBLE)
    expected = mean_decay(times)
    assert torch.equal(mean_decay(times.reshape(2, 4)), expected.reshape(2, 4))
    assert [mean_decay(time).item() for time in times] == expected.tolist()


# --- repaired ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    systems=st.integers(1, 5),
    batch=st.integers(0, 4),
    length=st.integers(1, 40),
    dt=st.floats(0.01, 3),
    seed=st.integers(0, 2**31),
)
def test_the_response_solves_the_repaired_task(systems, batch, length, dt, seed):
    task = KnownOscillators.draw(systems, stream(seed), dt=dt)
    inputs, targets, _ = task.sample(batch, length, stream(seed + 1))
    found = causal_convolution(inputs, task.response(length))
    torch.testing.assert_close(found, targets, rtol=0, atol=1e-13)
    # One system is excited in each sequence, by the two channels that are its own.
    excited = inputs[:, 0].unflatten(1, (2, systems)).abs().sum(1) > 0
    assert (excited.sum(1) == 1).all()


def test_the_response_attains_the_floor():
    task = KnownOscillators.draw(4, stream(0))
    batch = task.sample(500, 128, stream(1))
    loss = task.loss(lambda x, length: causal_convolution(x, task.response(length)), batch)
    assert task.floor(128) == 0
    assert loss < 1e-28
    assert task.distinct_inputs(128) == math.inf


def test_the_targets_are_the_oscillations_that_the_inputs_name():
    task = KnownOscillators.draw(3, stream(0), dt=0.5)
    inputs, targets, _ = task.sample(200, 20, stream(1))
    sine, cosine = inputs[:, 0].unflatten(1, (2, 3)).unbind(1)  # A cos(phi), A sin(phi)
    system = (sine.abs() + cosine.abs()).argmax(1)
    amplitude = torch.hypot(sine, cosine).sum(1)
    phase = torch.atan2(cosine.sum(1), sine.sum(1))
    expected = oscillation(task.omega[system], task.zeta[system], amplitude, phase, 0.5, 20)
    torch.testing.assert_close(targets[..., 0], expected, rtol=0, atol=1e-13)
    assert AMPLITUDE[0] <= amplitude.min() < 0.6
    assert 1.9 < amplitude.max() <= AMPLITUDE[1]
    assert set(system.tolist()) == {0, 1, 2}
    # Phases all round the circle: Rayleigh's mean direction of 200 is about 0.07.
    assert torch.polar(torch.ones(200, dtype=DOUBLE), phase).mean().abs() < 0.2


def test_systems_are_drawn_from_the_ranges_of_the_first_task():
    task = KnownOscillators.draw(2000, stream(0))
    for values, (low, high) in ((task.omega, OMEGA), (task.zeta, ZETA)):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
    assert task.systems == 2000
    assert torch.equal(task.omega, KnownOscillators.draw(2000, stream(0)).omega)


# --- a fixed set ---------------------------------------------------------------------------------


def test_a_stored_set_draws_its_own_examples_only():
    source = KnownOscillators.draw(2, stream(0))
    stored = Stored(source, 5, 8, stream(1))
    own = {tuple(row) for row in stored.examples.targets[..., 0].tolist()}
    inputs, targets, mask = stored.sample(200, 8, stream(2))
    assert {tuple(row) for row in targets[..., 0].tolist()} == own
    # Inputs and targets stay together.
    torch.testing.assert_close(
        causal_convolution(inputs, source.response(8)), targets, rtol=0, atol=1e-13
    )
    assert mask.shape == (200, 8)
    assert all(map(torch.equal, stored.sample(9, 8, stream(3)), stored.sample(9, 8, stream(3))))
    fresh = source.sample(5, 8, stream(1))
    assert all(map(torch.equal, stored.examples, fresh))


def test_a_stored_set_has_the_limits_of_its_task():
    source = AnonymousOscillations()
    stored = Stored(source, 5, 8, stream(1))
    assert stored.chance(8) == source.chance(8)
    assert stored.floor(8) == source.floor(8)
    assert stored.distinct_inputs(8) == 1
    assert Stored(KnownOscillators.draw(2, stream(0)), 5, 8, stream(1)).distinct_inputs(8) == 5


def test_another_length_than_the_stored_one_is_named():
    stored = Stored(AnonymousOscillations(), 5, 8, stream(1))
    with pytest.raises(ValueError, match="the stored examples have 8 steps, not 16"):
        stored.sample(2, 16, stream(2))
