"""Oscillators that turn one another: what the shared suite of scans does not know of them."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.scan import kuramoto_scan, kuramoto_scan_sequential, linear_scan
from lab.scan.cpu.threads import kernel
from lab.scan.cpu.trigonometric import FARTHEST, turns

FORMS = [kuramoto_scan, kuramoto_scan_sequential]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
sizes = given(
    B=st.integers(0, 3), T=st.integers(1, 20), N=st.integers(1, 9), seed=st.integers(0, 2**31)
)


def problem(B, T, N, seed=0):
    generator = stream(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    gain, coupling = torch.exp(-normal(B, T, N).exp()), 2 * normal(B, T).sigmoid()
    return gain, normal(B, T, N), coupling, normal(B, T, 2, N), normal(B, 2, N)


def as_complex(z):
    return torch.complex(*z.unbind(-2))


@every_form
def test_it_is_what_its_docstring_says(form):
    """With complex numbers, one oscillator after another."""
    gain, turn, coupling, b, initial = problem(B=2, T=4, N=3)
    found = as_complex(form(gain, turn, coupling, b, initial))
    for s in range(2):
        z = [complex(each) for each in as_complex(initial)[s]]
        for t in range(4):
            u = [each / math.sqrt(abs(each) ** 2 + 1e-6) for each in z]
            mean = sum(u) / 3
            for n in range(3):
                pull = (mean * u[n].conjugate()).imag
                angle = turn[s, t, n].item() + coupling[s, t].item() * pull
                turned = gain[s, t, n].item() * complex(math.cos(angle), math.sin(angle))
                z[n] = turned * z[n] + complex(b[s, t, 0, n], b[s, t, 1, n])
            assert gap(found[s, t], torch.tensor(z, dtype=torch.complex128)) < 1e-14


@every_form
@settings(deadline=None, max_examples=25)
@sizes
def test_without_coupling_it_is_the_linear_scan(form, B, T, N, seed):
    gain, turn, coupling, b, initial = problem(B, T, N, seed)
    found = form(gain, turn, 0 * coupling, b, initial)
    expected = linear_scan(torch.polar(gain, turn), as_complex(b), as_complex(initial))
    assert gap(as_complex(found), expected) < 1e-13


@every_form
@settings(deadline=None, max_examples=25)
@sizes
def test_a_rotation_of_all_inputs_rotates_all_states(form, B, T, N, seed):
    gain, turn, coupling, b, initial = problem(B, T, N, seed)
    rotation = complex(math.cos(0.7), math.sin(0.7))

    def rotated(z):
        turned = as_complex(z) * rotation
        return torch.stack([turned.real, turned.imag], dim=-2)

    expected = rotated(form(gain, turn, coupling, b, initial))
    assert gap(form(gain, turn, coupling, rotated(b), rotated(initial)), expected) < 1e-12


@every_form
def test_equal_oscillators_come_together_and_sizes_only_fade(form):
    N, T = 16, 60
    phase = torch.rand(1, N, generator=stream(0), dtype=torch.float64) * 2 * math.pi
    size = torch.rand(1, N, generator=stream(1), dtype=torch.float64) + 0.5
    initial = torch.stack([size * phase.cos(), size * phase.sin()], dim=1)
    ones = torch.ones(1, T, N, dtype=torch.float64)
    z = form(0.99 * ones, 0.3 * ones, ones[..., 0], torch.zeros(1, T, 2, N).double(), initial)
    states = as_complex(z)
    order = states.sgn().mean(-1).abs()[0]
    assert order[0] < 0.7
    assert (order.diff() > -1e-9).all()
    assert order[-1] > 0.99
    fading = size * 0.99 ** torch.arange(1, T + 1).double()[:, None]
    assert gap(states[0].abs(), fading) < 1e-12


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e-3])
def test_oscillators_of_next_to_no_size_have_gradients(scale):
    gain, turn, coupling, b, initial = problem(B=1, T=5, N=4)
    inputs = [part.requires_grad_() for part in (gain, turn, coupling, scale * b, scale * initial)]
    weights = torch.randn(1, 5, 2, 4, generator=stream(1), dtype=torch.float64)
    actual, expected = (
        torch.autograd.grad((weights * form(*inputs)).sum(), inputs) for form in FORMS
    )
    for found, right in zip(actual, expected, strict=True):
        assert found.isfinite().all()
        assert gap(found, right) < 1e-11


@kernel
def _turns(angle, cosine, sine):
    turns(angle, cosine, sine)


# Worst errors on 200,000 draws within FARTHEST: 1.3 half units in the last place of 1.
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reach", [1e-3, 1.0, 4.0, 100.0, FARTHEST, 10 * FARTHEST, 1e30])
def test_sines_and_cosines_of_any_angle(dtype, reach):
    drawn = torch.rand(10_000, generator=stream(0), dtype=torch.float64) * 2 - 1
    angle = (drawn.numpy() * reach).astype(dtype)
    cosine, sine = np.empty_like(angle), np.empty_like(angle)
    _turns(angle, cosine, sine)
    for found, function in ((cosine, math.cos), (sine, math.sin)):
        right = np.array([function(float(x)) for x in angle])
        assert abs(found - right).max() < np.finfo(dtype).eps


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_angle_that_is_no_number_spoils_no_other(bad):
    angle = np.array([0.5, bad, -0.5] * 8)
    cosine, sine = np.empty_like(angle), np.empty_like(angle)
    _turns(angle, cosine, sine)
    assert np.isnan(cosine[1::3]).all()
    assert np.isnan(sine[1::3]).all()
    assert cosine[0::3].tolist() == pytest.approx([math.cos(0.5)] * 8)
    assert sine[2::3].tolist() == pytest.approx([-math.sin(0.5)] * 8)


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


FITS = {"gain": zeros(2, 5, 3), "turn": zeros(2, 5, 3), "coupling": zeros(2, 5),
        "b": zeros(2, 5, 2, 3)}  # fmt: skip
MISFITS = [
    ({"b": zeros(2, 5, 3)}, "b (2, 5, 3) must have a shape (B, T, 2, N) with T > 0"),
    ({"b": zeros(2, 5, 3, 2)}, "b (2, 5, 3, 2) must have a shape (B, T, 2, N) with T > 0"),
    ({"b": zeros(2, 0, 2, 3)}, "b (2, 0, 2, 3) must have a shape (B, T, 2, N) with T > 0"),
    ({"gain": zeros(2, 5, 2)}, "gain must be (2, 5, 3) beside b (2, 5, 2, 3), got (2, 5, 2)"),
    ({"turn": zeros(5, 3)}, "turn must be (2, 5, 3) beside b (2, 5, 2, 3), got (5, 3)"),
    ({"coupling": zeros(2, 5, 1)}, "coupling must be (2, 5) beside b (2, 5, 2, 3), got (2, 5, 1)"),
    ({"initial": zeros(2, 3)}, "initial must be (2, 2, 3), got (2, 3)"),
    ({"turn": zeros(2, 5, 3).double()}, "dtypes differ: gain torch.float32, turn torch.float64"),
    ({"b": zeros(2, 5, 2, 3, dtype=torch.complex64)}, "b must be real, got torch.complex64"),
]  # fmt: skip


@every_form
@pytest.mark.parametrize(("change", "sentence"), MISFITS)
def test_arguments_that_do_not_fit_are_named(form, change, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        form(**(FITS | change))
