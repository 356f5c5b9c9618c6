"""Proven norms of oscillator steps, and a claim that fails."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.mixers import DelayLine, OscillatorBank
from lab.transitions import LinOSS, OscGate
from lab.transitions.linoss import Oscillators, implicit_norm, implicit_norm_bound, inverse_softplus

DOUBLE = torch.float64
frequencies = st.floats(1e-4, 1e4)
steps = st.sampled_from([0.1, 0.5, 1.0, 2.0])


def matrix(omega, keep=1.0, *, polar=False, dt=1.0):
    """Float["2 2"]: one step of one oscillator."""
    pair = torch.tensor([omega], dtype=DOUBLE), torch.tensor([keep], dtype=DOUBLE)
    return Oscillators(1, d_state=2, polar=polar, dt=dt).dense(pair)


def history(seed, T, low=-2, high=2):
    """omega log-uniform and keep uniform, Float["1 T 1"] each."""
    uniform = torch.rand(2, 1, T, 1, dtype=DOUBLE, generator=stream(seed))
    return 10 ** (low + (high - low) * uniform[0]), uniform[1]


def test_the_implicit_step_solves_its_own_equations():
    """z' = z - dt a y', y' = y + dt z': the speed is driven by the position after the step."""
    omega, dt, before = 1.7, 0.4, torch.tensor([0.3, -1.1], dtype=DOUBLE)
    z, y = matrix(omega, dt=dt) @ before
    assert z.item() == pytest.approx(before[0].item() - dt * omega**2 * y.item(), abs=1e-14)
    assert y.item() == pytest.approx(before[1].item() + dt * z.item(), abs=1e-14)


@settings(deadline=None)
@given(omega=frequencies, dt=steps)
def test_the_norm_of_an_implicit_step_is_the_formula_and_below_its_bound(omega, dt):
    M = matrix(omega, dt=dt)
    norm = torch.linalg.matrix_norm(M, 2).item()
    assert norm == pytest.approx(implicit_norm(torch.tensor(omega, dtype=DOUBLE), dt).item(), 1e-9)
    assert norm <= implicit_norm_bound(dt) * (1 + 1e-12)
    s = 1 / (1 + (dt * omega) ** 2)
    assert torch.linalg.eigvals(M).abs().max().item() == pytest.approx(math.sqrt(s), rel=1e-6)


@settings(deadline=None)
@given(omega=frequencies, dt=steps)
def test_the_norm_is_at_most_one_exactly_where_the_proof_says(omega, dt):
    a, norm = omega**2, torch.linalg.matrix_norm(matrix(omega, dt=dt), 2).item()
    safe = a >= 1 / (1 + dt) and (dt >= 1 or a <= 1 / (1 - dt))
    near = min(abs(a * (1 + dt) - 1), abs(a * (1 - dt) - 1)) < 1e-6
    assert near or (norm <= 1) == safe


@pytest.mark.parametrize("dt", [0.1, 1.0, 3.0])
def test_the_bound_is_approached(dt):
    norms = implicit_norm(torch.tensor([1e-6, 1e6], dtype=DOUBLE), dt)
    assert norms.max().item() == pytest.approx(implicit_norm_bound(dt), rel=1e-5)


def test_a_spectral_radius_below_one_bounds_no_norm():
    """The claim |M| <= sqrt(s) is false: at a = 0.01 the norm is 1.6."""
    M = matrix(0.1)
    assert torch.linalg.eigvals(M).abs().max() < 1
    assert 1.59 < torch.linalg.matrix_norm(M, 2) < 1.61


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), T=st.integers(1, 30), dt=steps)
def test_the_energy_of_an_implicit_state_is_bounded_as_proved(seed, T, dt):
    omega, keep = history(seed, T)
    h = torch.randn(1, 2, dtype=DOUBLE, generator=stream(seed))
    states = Oscillators(1, d_state=2, polar=False, dt=dt).scan(
        (omega, keep), torch.zeros(1, T, 2).double(), h
    )
    omega, keep = omega[0, :, 0], keep[0, :, 0]
    energies = (states[0, :, 0].square() + (omega * states[0, :, 1]).square()).sqrt()
    first = (h[0, 0].square() + (omega[0] * h[0, 1]).square()).sqrt()
    rises = torch.cat([torch.ones(1), (omega[1:] / omega[:-1]).clamp(min=1)])
    bound = first * (keep * rises / (1 + (dt * omega).square()).sqrt()).cumprod(0)
    assert (energies <= bound * (1 + 1e-9) + 1e-300).all()


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), T=st.integers(1, 30), dt=steps)
def test_polar_steps_shrink_by_their_damping_and_nothing_else(seed, T, dt):
    omega, keep = history(seed, T)
    h = torch.randn(1, 2, dtype=DOUBLE, generator=stream(seed))
    states = Oscillators(1, d_state=2, polar=True, dt=dt).scan(
        (omega, keep), torch.zeros(1, T, 2).double(), h
    )
    assert gap(states[0].norm(dim=1), h.norm() * keep[0, :, 0].cumprod(0)) < 1e-12


@pytest.mark.parametrize("dt", [0.3, 1.0, 2.0])
def test_tokens_can_pump_the_implicit_form_and_not_the_polar_one(dt):
    """Four steps at rest and a stiff one: growth beyond double precision in 10,000 steps."""
    omega = torch.tensor([1e-4] * 4 + [1e4], dtype=DOUBLE).repeat(2000)[None, :, None]
    problem = (omega, torch.ones_like(omega)), torch.zeros(1, 10_000, 2).double()
    h = torch.tensor([[0.6, 0.8]], dtype=DOUBLE)
    pumped = Oscillators(1, d_state=2, polar=False, dt=dt).scan(*problem, h)[0]
    safe = Oscillators(1, d_state=2, polar=True, dt=dt).scan(*problem, h)[0]
    assert not pumped[-1].isfinite().all()
    # A period of five steps multiplies by nearly 4.
    sizes = pumped[4:500:5].norm(dim=1)
    assert gap(sizes[50] / sizes[49], torch.tensor(4.0).double()) < 1e-2
    assert (safe.norm(dim=1) - 1).abs().max() < 1e-9


def test_eigenvalues_of_the_implicit_step_lose_what_they_turn_by():
    omega = torch.rand(20, dtype=DOUBLE, generator=stream(0)) * 10
    found = Oscillators(1, d_state=40, polar=False).eigenvalues((omega, torch.ones_like(omega)))
    assert gap(found.abs(), found.angle().cos()) < 1e-12


@pytest.mark.parametrize("polar", [True, False])
def test_the_force_is_that_of_the_implicit_step(polar):
    """u acts as a term in y'' does: z' = z - dt a y' + dt u."""
    bank = OscillatorBank(
        4, OscGate(4, d_state=6, polar=polar, dt=0.7, generator=stream(0))
    ).double()
    x = torch.randn(2, 4, dtype=DOUBLE, generator=stream(1))
    omega, _ = bank.transition(x)
    u = bank.B(x)
    s = 1 / (1 + (0.7 * omega).square())
    _, state = bank.step(x)
    assert gap(state, torch.cat([0.7 * s * u, 0.49 * s * u], dim=-1)) < 1e-12


def test_an_oscgate_starts_with_angles_spread_and_little_damping():
    omega, keep = OscGate(4, d_state=16, dt=0.5, damping=0.01, generator=stream(0))(
        torch.zeros(1, 4)
    )
    angles = torch.atan(0.5 * omega[0]) / (math.pi / 2)
    assert gap(angles, (torch.arange(8) + 0.5) / 8) < 1e-5
    assert gap(keep, torch.full_like(keep, 0.99)) < 1e-6


def test_a_gate_that_is_off_depends_on_no_input():
    x = torch.randn(2, 5, 4, generator=stream(0))
    for settings_, which in (({"frequency_gate": False}, 0), ({"damping_gate": False}, 1)):
        found = OscGate(4, d_state=6, generator=stream(1), **settings_)(x)
        assert found[which].flatten(0, 1).std(0).max() == 0
        assert found[1 - which].flatten(0, 1).std(0).min() > 0


def test_linoss_is_the_same_at_all_times():
    bank = OscillatorBank(4, LinOSS(4, d_state=6, generator=stream(0)), readout_bias=False).double()
    bank.B.bias.data.zero_()
    x = torch.randn(1, 9, 4, dtype=DOUBLE, generator=stream(1))
    late = torch.cat([torch.zeros(1, 5, 4, dtype=DOUBLE), x], dim=1)
    assert gap(bank(late)[:, 5:], bank(x)) < 1e-12


def test_a_delay_line_holds_its_last_steps():
    line = DelayLine(3, taps=4, channels=2, generator=stream(0))
    x = torch.randn(1, 6, 3, generator=stream(1))
    held = line.states(x)[0].unflatten(-1, (2, 4))
    assert gap(held[5], line.B(x[0, 2:6]).mT) < 1e-6
    assert held[1, :, :2].abs().max() == 0


@pytest.mark.parametrize(("taps", "channels"), [(0, 8), (4, 0)])
def test_a_delay_line_needs_taps_and_channels(taps, channels):
    with pytest.raises(ValueError, match=f"taps {taps} and channels {channels}"):
        DelayLine(3, taps=taps, channels=channels)


def test_a_step_is_above_zero():
    with pytest.raises(ValueError, match="dt is 0"):
        Oscillators(1, d_state=2, polar=True, dt=0)


@settings(deadline=None)
@given(y=st.floats(1e-6, 1e3))
def test_inverse_softplus(y):
    x = inverse_softplus(torch.tensor(y, dtype=DOUBLE))
    assert torch.nn.functional.softplus(x).item() == pytest.approx(y, rel=1e-6)
