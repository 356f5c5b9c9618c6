"""One suite for all mixers: every form of one must be the same map. A new mixer adds rows."""

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from torch import Tensor, nn

from lab.linalg import kernel_sequential
from lab.mixers import OscDPLR, osc_dplr, unroll

# --- what the suite needs to know of a mixer -----------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A mixer: how to build it, its plain definition, and how many channels go in."""

    name: str
    build: Callable[[torch.Generator, torch.dtype], nn.Module]
    definition: Callable[[nn.Module, Tensor], Tensor]
    width: int
    state: int

    def mixer(self, seed: int = 0) -> nn.Module:
        """In double precision, every parameter moved well away from its initial value."""
        generator = stream(seed)
        mixer = self.build(generator, torch.float64)
        with torch.no_grad():
            for parameter in mixer.parameters():
                noise = torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)
                parameter += 0.3 * noise
        return mixer

    def x(self, T: int, B: int = 2, seed: int = 1) -> Tensor:
        return torch.randn(B, T, self.width, dtype=torch.float64, generator=stream(seed))


def osc_dplr_definition(mixer: OscDPLR, x: Tensor) -> Tensor:
    """From the parameters and the docstring, with dense matrices and one step after another."""
    dt, omega, zeta = mixer.dt, mixer.log_omega.exp(), mixer.logit_zeta.sigmoid()
    P, Q = mixer.P, mixer.Q
    diagonal = torch.complex(-zeta * omega, omega * (1 - zeta**2).sqrt())
    low_rank = P @ Q.mT if mixer.form != "dissipative" else -P @ P.mT + P @ Q.mT - Q @ P.mT
    A = torch.diag(diagonal.real + 0j if mixer.form == "real" else diagonal) + low_rank
    complex_io = mixer.B.ndim == 3
    C = torch.view_as_complex(mixer.C) if complex_io else mixer.C + 0j
    narrow = torch.view_as_complex(mixer.B) if complex_io else mixer.B + 0j
    N, p = len(A), x.shape[-1]
    B = torch.stack([
        torch.stack([
            narrow[j, c // mixer.heads] if j % mixer.heads == c % mixer.heads else narrow[j, 0] * 0
            for c in range(p)
        ])
        for j in range(N)
    ])  # fmt: skip
    identity = torch.eye(N, dtype=A.dtype)
    if mixer.discretisation == "bilinear":
        A_d = torch.linalg.solve(identity - dt / 2 * A, identity + dt / 2 * A)
        B_d = math.sqrt(dt) * torch.linalg.solve(identity - dt / 2 * A, B)
    else:
        A_d = torch.linalg.matrix_exp(torch.stack([dt * A, A]))[0]
        B_d = torch.linalg.solve(A, (A_d - identity) @ B) / math.sqrt(dt)
    h, outputs = torch.zeros(len(x), N, dtype=A.dtype), []
    for u in x.unbind(1):
        h = h @ A_d.mT + (u + 0j) @ B_d.mT
        outputs.append((h @ C.mT).real + u @ mixer.D.mT)
    return torch.stack(outputs, dim=1)


def osc_dplr_case(form, discretisation, complex_io, heads, rank) -> Case:
    def build(generator, dtype):
        return OscDPLR(
            4, d_output=3, d_state=6, rank=rank, heads=heads, dt=0.5, form=form,
            complex_io=complex_io, discretisation=discretisation, omega_range=(0.1, 2),
            generator=generator, dtype=dtype,
        )  # fmt: skip

    io = "complex" if complex_io else "real"
    name = f"OscDPLR {form}, {discretisation}, {io} io, {heads} heads, rank {rank}"
    return Case(name, build, osc_dplr_definition, width=4, state=6)


CASES = [
    osc_dplr_case(*choice)
    for choice in itertools.product(
        ("plain", "dissipative", "real"),
        ("bilinear", "zero-order hold"),
        (False, True),
        (1, 2),
        (0, 2),
    )
]

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def forms(mixer: nn.Module) -> dict[str, Callable[[Tensor], Tensor]]:
    """The ways to compute the map, the definition left out."""
    found = {"forward": mixer.forward, "step": lambda x: unroll(mixer, x)}
    if hasattr(mixer, "forward_scan"):
        found["scan"] = mixer.forward_scan
    return found


# --- the suite -----------------------------------------------------------------------------------


# Criterion C3. Worst gap in value over 40 seeds: 7e-13.
@pytest.mark.parametrize("T", [1, 13])
@every_case
def test_all_forms_are_the_definition_in_value_and_gradient(case, T):
    mixer, x = case.mixer(), case.x(T).requires_grad_()
    leaves = {"x": x} | {n: p for n, p in mixer.named_parameters() if p.numel()}
    expected = case.definition(mixer, x)
    projection = torch.randn(expected.shape, dtype=x.dtype, generator=stream(2))
    slopes = torch.autograd.grad((projection * expected).sum(), list(leaves.values()))
    for form, function in forms(mixer).items():
        actual = function(x)
        assert gap(actual, expected) < 1e-10, form
        found = torch.autograd.grad((projection * actual).sum(), list(leaves.values()))
        for name, slope, expected_slope in zip(leaves, found, slopes, strict=True):
            assert gap(slope, expected_slope) < 1e-10, f"{form}, gradient of {name}"


@every_case
def test_gradients_reach_every_entry_of_every_parameter_from_the_start(case):
    mixer = case.build(stream(0), torch.float64)
    mixer(case.x(13)).square().sum().backward()
    for name, parameter in mixer.named_parameters():
        if not parameter.numel():
            continue  # a low-rank term of rank 0
        assert (parameter.grad != 0).all(), name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("at", [0, 12])
@every_case
def test_the_future_does_not_reach_back(case, at):
    mixer, x = case.mixer(), case.x(13)
    changed = x.clone()
    changed[:, at] += 10
    for form, function in forms(mixer).items():
        difference = (function(changed) - function(x)).abs()
        assert difference[:, :at].sum() < 1e-11, form  # a Fourier transform rounds everywhere
        assert difference[:, at].min() > 1e-6, form  # what goes in acts at once


# Rounding through 13 steps that may grow. Worst gap over 40 seeds: 2e-6.
@every_case
def test_single_precision_is_close_to_double(case):
    mixer, x = case.mixer(), case.x(13)
    expected = mixer(x)
    for form, function in forms(mixer.float()).items():
        actual = function(x.float())
        assert actual.dtype == torch.float32, form
        assert gap(actual.double(), expected) < 3e-5, form


@every_case
def test_the_last_of_the_states_is_the_state_of_the_step_form(case):
    mixer, x = case.mixer(), case.x(7)
    states, state = mixer.states(x), None
    for t, x_t in enumerate(x.unbind(1)):
        _, state = mixer.step(x_t, state)
        assert gap(states[:, t], state) < 1e-12


@every_case
def test_eigenvalues_are_complex_and_one_per_state_and_step(case):
    mixer, x = case.mixer(), case.x(7)
    eigenvalues = mixer.eigenvalues(x)
    assert eigenvalues.shape == (2, 7, case.state)
    assert eigenvalues.is_complex()


@every_case
def test_an_empty_batch_has_an_empty_output(case):
    mixer = case.mixer()
    for T in (1, 13):
        x = case.x(T, B=0)
        assert mixer(x).shape == case.definition(mixer, x).shape


@every_case
def test_the_initial_draw_comes_from_its_generator_alone(case):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = case.build(stream(0), torch.float64)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    for one, other in zip(
        first.parameters(), case.build(stream(0), torch.float64).parameters(), strict=True
    ):
        assert torch.equal(one, other)


# --- OscDPLR alone -------------------------------------------------------------------------------


@pytest.mark.parametrize("complex_io", [False, True])
@pytest.mark.parametrize(
    ("p", "q", "N", "r", "heads"), [(1, 1, 16, 2, 1), (4, 3, 6, 0, 2), (6, 1, 9, 1, 3)]
)
def test_the_parameter_count_is_that_of_the_docstring(p, q, N, r, heads, complex_io):
    layer = OscDPLR(p, d_output=q, d_state=N, rank=r, heads=heads, complex_io=complex_io)
    io = N * p // heads + q * N
    expected = 2 * N + 2 * N * r + io * (2 if complex_io else 1) + q * p
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected


def test_the_reported_layer_has_129_parameters():
    assert sum(parameter.numel() for parameter in OscDPLR(1).parameters()) == 129


@pytest.mark.parametrize("discretisation", ["bilinear", "zero-order hold"])
@pytest.mark.parametrize("form", ["plain", "dissipative", "real"])
def test_all_of_its_forms_are_the_definition(form, discretisation):
    case = osc_dplr_case(form, discretisation, True, 2, 2)
    layer, x = case.mixer(), case.x(9)
    forms = layer.forms()
    assert len(forms) == (4 if discretisation == "bilinear" else 3)
    for each in forms:
        assert gap(each(x), case.definition(layer, x)) < 1e-10


def test_the_output_is_as_wide_as_the_input_unless_it_is_said():
    x = torch.zeros(2, 5, 4)
    assert OscDPLR(4)(x).shape == (2, 5, 4)
    assert OscDPLR(4, d_output=1)(x).shape == (2, 5, 1)


def test_the_initial_frequencies_fill_their_range():
    layer = OscDPLR(1, d_state=1000, omega_range=(0.01, 0.1), generator=stream(0))
    omega = layer.log_omega.exp()
    assert 0.01 <= omega.min() < 0.0102
    assert 0.098 < omega.max() <= 0.1
    # Log-uniform: a mean of (0.1 - 0.01) / log(10), a standard error of 0.0008.
    assert omega.mean().item() == pytest.approx(0.0391, abs=0.003)
    assert layer.logit_zeta.std().item() == pytest.approx(0.5, abs=0.05)
    for weight in (layer.P, layer.Q, layer.B, layer.C):
        assert weight.std().item() == pytest.approx(0.1, abs=0.01)
    assert (layer.D == 0).all()


@pytest.mark.parametrize("complex_io", [False, True])
def test_an_oscillator_hears_its_own_head_only(complex_io):
    layer = OscDPLR(
        6, d_output=2, d_state=9, rank=0, heads=3, complex_io=complex_io, generator=stream(0)
    )
    for channel in range(6):
        x = torch.zeros(1, 5, 6)
        x[:, 0, channel] = 1
        heard = layer.states(x)[0].abs().amin(0) > 0
        deaf = layer.states(x)[0].abs().amax(0) == 0
        own = torch.arange(9) % 3 == channel % 3
        assert torch.equal(heard, own)
        assert torch.equal(deaf, ~own)


@pytest.mark.parametrize(("S", "length"), [(1, 1), (1, 13), (3, 13), (8, 9), (9, 13), (13, 13)])
def test_an_input_that_ends_early_is_silent_from_there(S, length):
    case = osc_dplr_case("plain", "bilinear", True, 2, 2)
    layer, x = case.mixer(), case.x(S)
    padded = nn.functional.pad(x, (0, 0, 0, length - S))
    assert gap(layer(x, length), layer(padded)) < 1e-12


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(-1, 2).map(lambda power: 10**power),
    dt=st.floats(-2, 1).map(lambda power: 10**power),
    discretisation=st.sampled_from(["bilinear", "zero-order hold"]),
    rank=st.integers(0, 3),
)
def test_a_dissipative_layer_is_never_outside_the_unit_circle(
    seed, scale, dt, discretisation, rank
):
    generator = stream(seed)
    layer = OscDPLR(
        1, d_state=5, rank=rank, dt=dt, form="dissipative", discretisation=discretisation,
        omega_range=(0.01, 10), generator=generator, dtype=torch.float64,
    )  # fmt: skip
    with torch.no_grad():
        layer.P *= 10 * scale
        layer.Q *= 10 * scale
        layer.logit_zeta -= 10 * scale  # next to no damping
    assert layer.eigenvalues(torch.zeros(1, 1, 1)).abs().max() <= 1 + 1e-10


def test_a_plain_layer_can_be_outside_the_unit_circle():
    # Else the test above could not fail.
    layer = OscDPLR(1, form="plain", generator=stream(0))
    with torch.no_grad():
        layer.P *= 10
        layer.Q *= 10
    assert layer.eigenvalues(torch.zeros(1, 1, 1)).abs().max() > 1.1


@pytest.mark.parametrize("complex_io", [False, True])
@pytest.mark.parametrize("form", ["plain", "dissipative", "real"])
@pytest.mark.parametrize(("N", "pays"), [(16, False), (17, True)])
def test_the_kernel_is_the_same_on_both_sides_of_the_choice(N, pays, form, complex_io, monkeypatch):
    layer = OscDPLR(
        1, d_state=N, rank=0, form=form, complex_io=complex_io, omega_range=(0.1, 1),
        generator=stream(0), dtype=torch.float64,
    )  # fmt: skip
    assert osc_dplr.resolvent_pays(0, layer.input_matrix().shape, 1) == pays
    used = []
    for name in ("kernel_resolvent", "kernel_doubling"):
        original = getattr(osc_dplr, name)
        monkeypatch.setattr(
            osc_dplr, name, lambda *a, f=original, n=name: (used.append(n), f(*a))[1]
        )
    expected = kernel_sequential(*layer.discretised(), layer.readout(), 31)
    assert gap(layer.kernel(31), expected) < 1e-12
    assert used == ["kernel_resolvent" if pays else "kernel_doubling"]


def test_the_resolvent_is_not_asked_for_a_zero_order_hold():
    layer = OscDPLR(
        1, d_state=17, rank=0, discretisation="zero-order hold", omega_range=(0.1, 1),
        generator=stream(0), dtype=torch.float64,
    )  # fmt: skip
    expected = kernel_sequential(*layer.discretised(), layer.readout(), 31)
    assert gap(layer.kernel(31), expected) < 1e-12


def test_single_precision_survives_saturated_damping():
    layer = OscDPLR(1, generator=stream(0))
    with torch.no_grad():
        layer.logit_zeta += 50
    layer(torch.ones(1, 1, 1), 16).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize(("p", "N", "heads"), [(3, 16, 2), (4, 15, 2)])
def test_heads_that_do_not_divide_the_channels_are_named(p, N, heads):
    sentence = f"heads {heads} must divide d_model {p} and d_state {N}"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        OscDPLR(p, d_output=1, d_state=N, heads=heads)


@pytest.mark.parametrize("setting", [{"form": "stable"}, {"discretisation": "zoh"}])
def test_an_unknown_form_or_rule_is_named_beside_the_known_ones(setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=rf"{name} '{value}'.* 'dissipative'.* 'zero-order hold'"):
        OscDPLR(1, **setting)
