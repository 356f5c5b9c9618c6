"""Structured matrices against dense ones, discretisations and kernels against their definitions."""

import re

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from torch import Tensor

from lab.linalg import (
    DPLR,
    bilinear,
    causal_convolution,
    dissipative,
    kernel_doubling,
    kernel_resolvent,
    kernel_sequential,
    oscillator_eigenvalues,
    oscillator_parameters,
    parameter_error,
    zero_order_hold,
)
from lab.linalg.convolution import SHORT

REAL, COMPLEX = torch.float64, torch.complex128

patient = settings(deadline=None)
seeds = st.integers(0, 2**31)
orders = st.integers(1, 6)  # N
ranks = st.sampled_from([0, 1, 3])
dtypes = st.sampled_from([REAL, COMPLEX])
steps = st.floats(-2, 1).map(lambda power: 10**power)  # dt


@st.composite
def matrices(draw: st.DrawFn) -> DPLR:
    """DPLR matrices of real and complex parts, with the diagonal in the left half plane."""
    N, r, generator = draw(orders), draw(ranks), stream(draw(seeds))
    diagonal = torch.randn(N, dtype=draw(dtypes), generator=generator)
    diagonal = diagonal - 2 * diagonal.real.clamp_min(0)
    P = torch.randn(N, r, dtype=draw(dtypes), generator=generator)
    return DPLR(diagonal, P, torch.randn(N, r, dtype=draw(dtypes), generator=generator))


@st.composite
def problems(draw: st.DrawFn) -> tuple[DPLR, Tensor, Tensor]:
    """A matrix A, an x or B ["N k"] and a C ["q N"], each real or complex."""
    A, generator = draw(matrices()), stream(draw(seeds))
    N = len(A.diagonal)
    x = torch.randn(N, draw(st.integers(1, 3)), dtype=draw(dtypes), generator=generator)
    return A, x, torch.randn(draw(st.integers(1, 3)), N, dtype=draw(dtypes), generator=generator)


def dense(A: DPLR) -> Tensor:
    """The matrix from its definition, entry by entry, always complex."""
    P, Q = A.P.to(COMPLEX), A.Q.to(COMPLEX)
    return torch.diag(A.diagonal.to(COMPLEX)) + sum(
        (torch.outer(P[:, k], Q[:, k]) for k in range(A.rank)), torch.zeros((), dtype=COMPLEX)
    )


# --- DPLR ----------------------------------------------------------------------------------------


@patient
@given(problems())
def test_a_dplr_matrix_multiplies_numbers_of_any_type(problem):
    A, x, _ = problem
    assert A.to_dense().dtype == A.dtype
    assert gap(A @ x, dense(A) @ x.to(COMPLEX)) < 1e-13


@patient
@given(problems(), st.integers(1, 4), seeds)
def test_resolvent_and_transfer_are_those_of_the_dense_matrix(problem, L, seed):
    A, x, left = problem
    # alpha I - beta A, kept away from singular: what Woodbury loses there is not its error.
    beta = torch.randn(L, dtype=COMPLEX, generator=stream(seed))
    alpha = 3 * torch.linalg.norm(dense(A)) * (1 + beta.abs()) * torch.exp(1j * beta.real)
    identity = torch.eye(len(A.diagonal), dtype=COMPLEX)
    shifted = alpha[:, None, None] * identity - beta[:, None, None] * dense(A)
    expected = torch.linalg.solve(shifted, x.to(COMPLEX).expand(L, -1, -1))
    assert gap(A.resolvent(alpha, beta, x), expected) < 1e-12
    assert gap(A.transfer(left, alpha, beta, x), left.to(COMPLEX) @ expected) < 1e-12


@pytest.mark.parametrize("r", [0, 1, 3])
@pytest.mark.parametrize("dtype", [REAL, COMPLEX])
def test_gradients_of_the_resolvents(r, dtype):
    generator = stream(0)
    shapes = [(4,), (4, r), (4, r), (2, 4), (4, 2)]
    parts = [torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]
    alpha, beta = 10 + torch.randn(2, 3, dtype=COMPLEX, generator=generator)
    beta = beta / 10

    def resolvents(diagonal, P, Q, left, right):
        A = DPLR(diagonal, P, Q)
        return A @ right, A.resolvent(alpha, beta, right), A.transfer(left, alpha, beta, right)

    assert torch.autograd.gradcheck(resolvents, [part.requires_grad_() for part in parts])


@pytest.mark.parametrize(
    ("diagonal", "P", "Q", "sentence"),
    [
        ((3,), (3, 1), (3, 2), "P (3, 1) and Q (3, 2) must both be (..., 3, r)"),
        ((3,), (2, 1), (2, 1), "P (2, 1) and Q (2, 1) must both be (..., 3, r)"),
        ((3,), (3,), (3,), "P (3,) and Q (3,) must both be (..., 3, r)"),
        ((), (3, 1), (3, 1), "must both be (..., 0, r) for a diagonal of 0"),
    ],
)
def test_parts_that_do_not_fit_are_named(diagonal, P, Q, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        DPLR(torch.zeros(diagonal), torch.zeros(P), torch.zeros(Q))


# --- the dissipative form ------------------------------------------------------------------------


@st.composite
def damped(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """A diagonal in the left half plane, up to its edge, and real P, Q of any size."""
    N, r, generator = draw(orders), draw(ranks), stream(draw(seeds))
    diagonal = torch.randn(N, dtype=COMPLEX, generator=generator)
    undamped = draw(st.booleans())
    diagonal = torch.complex(0 * diagonal.real if undamped else -diagonal.real.abs(), diagonal.imag)
    scale = 10 ** draw(st.floats(-2, 1))
    P, Q = scale * torch.randn(2, N, r, dtype=REAL, generator=generator)
    return diagonal, P, Q


def spectral_norm(A: Tensor) -> float:
    return torch.linalg.matrix_norm(A, 2).item()


@patient
@given(damped(), steps)
def test_the_dissipative_form_never_gains_energy(parts, dt):
    diagonal, P, Q = parts
    A = dissipative(*parts)
    formula = torch.diag(diagonal) - P @ P.mT + (P @ Q.mT - Q @ P.mT)
    assert gap(A.to_dense(), formula) < 1e-13
    rounding = 1e-13 * max(1, spectral_norm(formula))
    assert torch.linalg.eigvalsh(formula + formula.mH).max() <= rounding
    assert torch.linalg.eigvals(A.to_dense()).real.max() <= rounding
    A_d, _ = bilinear(A, torch.zeros(len(diagonal), 1, dtype=REAL), dt)
    assert spectral_norm(A_d) <= 1 + 1e-12


def test_the_plain_form_gains_energy_for_some_parts():
    # Else the test above could not fail.
    norms = []
    for seed in range(20):
        generator = stream(seed)
        diagonal = -torch.rand(4, dtype=REAL, generator=generator)
        P, Q = torch.randn(2, 4, 2, dtype=REAL, generator=generator)
        A_d, _ = bilinear(DPLR(diagonal.to(COMPLEX), P, Q), P, dt=1.0)
        norms.append(torch.linalg.eigvals(A_d).abs().max().item())
    assert max(norms) > 1.1


@pytest.mark.parametrize("complex_part", [0, 1])
def test_complex_low_rank_parts_are_refused(complex_part):
    parts = [torch.zeros(3, 1), torch.zeros(3, 1)]
    parts[complex_part] = parts[complex_part].to(torch.complex64)
    with pytest.raises(ValueError, match=r"P and Q must be real, got torch\.\w+ and torch\.\w+"):
        dissipative(torch.zeros(3, dtype=torch.complex64), *parts)


# --- discretisation ------------------------------------------------------------------------------


@patient
@given(problems(), steps)
def test_the_bilinear_rule_is_its_definition(problem, dt):
    A, B, _ = problem
    identity = torch.eye(len(A.diagonal), dtype=COMPLEX)
    implicit = identity - dt / 2 * dense(A)
    # A plain matrix may be nearly singular here: the bound grows with its condition.
    atol = 1e-13 * torch.linalg.cond(implicit).item() ** 2
    A_d, B_d = bilinear(A, B, dt)
    assert gap(A_d, torch.linalg.solve(implicit, identity + dt / 2 * dense(A))) < atol
    assert gap(B_d, torch.linalg.solve(implicit, dt * B.to(COMPLEX))) < atol


def exponential(A: Tensor) -> Tensor:
    return torch.from_numpy(scipy.linalg.expm(A.numpy()))


@patient
@given(problems(), st.floats(0.01, 1))
def test_the_zero_order_hold_is_its_definition(problem, dt):
    A, B, _ = problem
    nodes, weights = np.polynomial.legendre.leggauss(40)
    integral = sum(
        dt / 2 * weight * exponential(dt / 2 * (1 + node) * dense(A)) @ B.to(COMPLEX)
        for node, weight in zip(nodes, weights, strict=True)
    )
    A_d, B_d = zero_order_hold(A, B, dt)
    assert gap(A_d, exponential(dt * dense(A))) < 1e-11
    assert gap(B_d, integral) < 1e-11


def test_the_zero_order_hold_of_a_singular_matrix():
    P, B = torch.tensor([[1.0], [0.0]], dtype=REAL), torch.tensor([[2.0], [3.0]], dtype=REAL)
    integrators = DPLR(torch.zeros(2, dtype=REAL), P[:, :0], P[:, :0])
    A_d, B_d = zero_order_hold(integrators, B, 0.5)
    assert gap(A_d, torch.eye(2, dtype=REAL)) < 1e-14
    assert gap(B_d, 0.5 * B) < 1e-14
    # A position x and its speed v: A = [[0, 1], [0, 0]], B pushes both.
    chain = DPLR(torch.zeros(2, dtype=REAL), P, P.flip(0))
    A_d, B_d = zero_order_hold(chain, B, 0.5)
    assert gap(A_d, torch.tensor([[1, 0.5], [0, 1]], dtype=REAL)) < 1e-14
    assert gap(B_d, torch.tensor([[0.5 * 2 + 0.125 * 3], [0.5 * 3]], dtype=REAL)) < 1e-14


def some_matrix(N: int = 4, r: int = 2) -> DPLR:
    generator = stream(0)
    diagonal = torch.randn(N, dtype=COMPLEX, generator=generator)
    P, Q = torch.randn(2, N, r, dtype=REAL, generator=generator)
    return dissipative(torch.complex(-diagonal.real.abs(), diagonal.imag), P, Q)


def test_the_bilinear_rule_is_of_second_order():
    # One step is off by dt^3, and so the 1 / dt steps of a second by dt^2.
    A = some_matrix()
    sizes = [0.1 / 2**k for k in range(6)]
    errors = [
        spectral_norm(bilinear(A, A.P, dt)[0] - exponential(dt * A.to_dense())) for dt in sizes
    ]
    order, _ = np.polyfit(np.log(sizes), np.log(errors), 1)
    assert order == pytest.approx(3, abs=0.1)


@patient
@given(seeds, orders, steps)
def test_the_bilinear_rule_warps_undamped_frequencies(seed, N, dt):
    omega = torch.rand(N, dtype=REAL, generator=stream(seed))
    empty = torch.zeros(N, 0, dtype=REAL)
    A = DPLR(oscillator_eigenvalues(omega, torch.zeros_like(omega)), empty, empty)
    A_d, _ = bilinear(A, torch.zeros(N, 1, dtype=REAL), dt)
    assert gap(A_d, torch.diag(torch.exp(2j * torch.atan(dt * omega / 2)))) < 1e-13


# --- oscillators ---------------------------------------------------------------------------------


@patient
@given(seeds, orders, st.booleans())
def test_poles_solve_the_equation_of_motion(seed, N, undamped):
    omega, zeta = torch.rand(2, N, dtype=REAL, generator=stream(seed))
    zeta = 0 * zeta if undamped else zeta
    pole = oscillator_eigenvalues(omega, zeta)
    assert (pole.square() + 2 * zeta * omega * pole + omega.square()).abs().max() < 1e-14
    assert gap(pole.abs(), omega) < 1e-14
    assert (pole.real <= 0).all()
    assert (pole.imag >= 0).all()


@patient
@given(seeds, orders, ranks, st.floats(0.01, 1))
def test_parameters_are_read_back_from_the_transition(seed, N, r, dt):
    generator = stream(seed)
    omega, zeta = torch.rand(2, N, dtype=REAL, generator=generator)
    diagonal = oscillator_eigenvalues(omega + 0.1, 0.95 * zeta)
    empty = torch.zeros(N, 0, dtype=REAL)
    A_d, _ = zero_order_hold(DPLR(diagonal, empty, empty), torch.zeros(N, 1, dtype=REAL), dt)
    omega_read, zeta_read = oscillator_parameters(A_d, dt)
    order, order_read = omega.argsort(), omega_read.argsort()
    # The logarithm of an eigenvalue near 1 loses as many digits as dt is small.
    assert gap(omega_read[order_read], omega[order] + 0.1) < 1e-12
    assert gap(zeta_read[order_read], 0.95 * zeta[order]) < 1e-12

    # With a low-rank term, those of the eigenvalues that the whole matrix has.
    P, Q = 0.2 * torch.randn(2, N, r, dtype=REAL, generator=generator)
    A = dissipative(diagonal, P, Q)
    A_d, _ = zero_order_hold(A, P, dt)
    expected = torch.linalg.eigvals(A.to_dense())
    omega_read, zeta_read = oscillator_parameters(A_d, dt)
    # Eigenvalues that nearly meet are known to the root of the precision only.
    assert gap(omega_read.sort()[0], expected.abs().sort()[0]) < 1e-6
    size = (zeta_read * omega_read).sort()[0]
    assert gap(size, (-expected.real).sort()[0]) < 1e-6


@patient
@given(st.integers(1, 4), st.integers(0, 2), st.randoms(use_true_random=False), seeds)
def test_the_error_of_oscillators_does_not_hang_on_their_order(N, more, random, seed):
    # Apart by factors of 3, so that errors of up to 0.1 cannot make another pair the better one.
    true = 3.0 ** torch.arange(N + more, dtype=REAL) * torch.tensor([[0.01], [0.2]], dtype=REAL)
    errors = 0.1 * (2 * torch.rand(2, N + more, dtype=REAL, generator=stream(seed)) - 1)
    found, wanted = true * (1 + errors), random.sample(range(N + more), N)
    found = found[:, torch.tensor(random.sample(range(N + more), N + more))]
    expected = errors[:, wanted].abs().max()
    assert gap(parameter_error(found, true[:, wanted]), expected) < 1e-12


def test_oscillators_that_were_not_found_have_no_error():
    with pytest.raises(ValueError, match=re.escape("found (2, 1) and true (2, 2) must share")):
        parameter_error(torch.ones(2, 1), torch.ones(2, 2))


def test_an_eigenvalue_that_grows_has_negative_damping():
    _, zeta = oscillator_parameters(torch.tensor([[1.1 + 0.1j]]), dt=1.0)
    assert zeta.item() < 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_stay_finite_where_the_damping_rounds_to_critical(dtype):
    logit = torch.tensor([50.0], dtype=dtype, requires_grad=True)
    assert logit.sigmoid() == 1
    pole = oscillator_eigenvalues(torch.ones(1, dtype=dtype), logit.sigmoid())
    torch.testing.assert_close(pole, torch.tensor([-1], dtype=pole.dtype))
    (pole.real + pole.imag).backward()
    assert logit.grad.isfinite().all()


# --- kernels -------------------------------------------------------------------------------------


def kernel_parts(N: int, r: int, p: int, q: int, dtype: torch.dtype, seed: int) -> list[Tensor]:
    """What stable A, B and C are made of, as leaves: slow and fast modes, some hardly damped.

    An undamped one may meet a root of unity, where the resolvent has no precision left.
    """
    generator = stream(seed)
    omega = 0.05 + 2 * torch.rand(N, dtype=REAL, generator=generator)
    zeta = 0.05 + 0.9 * torch.rand(N, dtype=REAL, generator=generator).square()
    P, Q = 0.5 * torch.randn(2, N, r, dtype=REAL, generator=generator)
    B = torch.randn(N, p, dtype=dtype, generator=generator)
    C = torch.randn(q, N, dtype=dtype, generator=generator)
    return [part.requires_grad_() for part in (omega, zeta, P, Q, B, C)]


def kernels(parts: list[Tensor], dt: float, T: int, *, real: bool) -> dict[str, Tensor]:
    omega, zeta, P, Q, B, C = parts
    diagonal = oscillator_eigenvalues(omega, zeta)
    A = dissipative(-omega if real else diagonal, P, Q)
    A_d, B_d = bilinear(A, B, dt)
    return {
        "sequential": kernel_sequential(A_d, B_d, C, T),
        "doubling": kernel_doubling(A_d, B_d, C, T),
        "resolvent": kernel_resolvent(A, B, C, dt, T),
    }


channels = st.integers(1, 3)


@pytest.mark.parametrize("T", [1, 2, 3, 31, 64, 128])
@settings(deadline=None, max_examples=15)
@given(seed=seeds, N=orders, r=ranks, p=channels, q=channels, dtype=dtypes, real=st.booleans())
def test_fast_kernels_equal_the_definition_in_value_and_gradient(T, seed, N, r, p, q, dtype, real):
    parts = kernel_parts(N, r, p, q, dtype, seed)
    found = kernels(parts, 0.5, T, real=real)
    projection = torch.randn(T, q, p, dtype=REAL, generator=stream(seed))
    expected = found.pop("sequential")
    assert expected.shape == (T, q, p)
    assert expected.dtype == REAL
    zeta = parts[1]  # which a real diagonal does without
    leaves = [part for part in parts if part.numel() and not (real and part is zeta)]
    slopes = torch.autograd.grad((projection * expected).sum(), leaves, retain_graph=True)
    for kernel in found.values():
        assert gap(kernel, expected) < 1e-10  # the worst in 1,000 draws: 1.4e-14
        actual = torch.autograd.grad((projection * kernel).sum(), leaves, retain_graph=True)
        for slope, expected_slope in zip(actual, slopes, strict=True):
            assert gap(slope, expected_slope) < 1e-10  # the worst: 4e-13


# Rounding of the powers of A_d, once squared a pass. Worst gap in 1,000 draws: 1e-5.
@pytest.mark.parametrize("T", [1, 31, 128])
@settings(deadline=None, max_examples=15)
@given(seed=seeds, N=orders, r=ranks, p=channels, q=channels, dtype=dtypes, real=st.booleans())
def test_fast_kernels_in_single_precision(T, seed, N, r, p, q, dtype, real):
    parts = [part.detach() for part in kernel_parts(N, r, p, q, dtype, seed)]
    expected = kernels(parts, 0.5, T, real=real)["sequential"]
    single = [part.to(torch.complex64 if part.is_complex() else torch.float32) for part in parts]
    for kernel in kernels(single, 0.5, T, real=real).values():
        assert kernel.dtype == torch.float32
        assert gap(kernel.double(), expected) < 2e-4


@patient
@given(problems(), st.integers(1, 9))
def test_the_kernel_is_the_impulse_response_for_any_mixture_of_types(problem, T):
    A, B, C = problem
    A_d = dense(A) / (1 + spectral_norm(dense(A)))
    if A.dtype == REAL:
        A_d = A_d.real
    full = [part.to(COMPLEX).numpy() for part in (A_d, B, C)]
    expected = torch.stack([
        torch.from_numpy((full[2] @ np.linalg.matrix_power(full[0], t) @ full[1]).real)
        for t in range(T)
    ])  # fmt: skip
    assert gap(kernel_sequential(A_d, B, C, T), expected) < 1e-13
    assert gap(kernel_doubling(A_d, B, C, T), expected) < 1e-13


# --- convolution ---------------------------------------------------------------------------------


def double_loop(x: Tensor, kernel: Tensor) -> Tensor:
    B, S, _ = x.shape
    y = x.new_zeros(B, *kernel.shape[:2])
    for t in range(kernel.shape[0]):
        for s in range(min(S, t + 1)):
            y[:, t] += x[:, s] @ kernel[t - s].mT
    return y


@patient
@given(
    seeds, st.integers(0, 3), st.integers(1, 2 * SHORT + 1), st.integers(0, 20), channels, channels
)
@example(seed=0, B=1, S=1, later=0, p=1, q=1)
@example(seed=0, B=2, S=SHORT, later=0, p=2, q=1)
@example(seed=0, B=2, S=SHORT + 1, later=0, p=1, q=2)
@example(seed=0, B=0, S=SHORT + 1, later=3, p=1, q=1)
def test_convolution_is_the_double_loop(seed, B, S, later, p, q):
    generator = stream(seed)
    x = torch.randn(B, S, p, dtype=REAL, generator=generator)
    kernel = torch.randn(S + later, q, p, dtype=REAL, generator=generator)
    assert gap(causal_convolution(x, kernel), double_loop(x, kernel)) < 1e-13


@pytest.mark.parametrize("S", [1, 2, SHORT, SHORT + 1, 13])
def test_the_future_of_the_input_does_not_reach_back(S):
    generator = stream(0)
    x = torch.randn(2, S, 2, dtype=REAL, generator=generator)
    kernel = torch.randn(17, 3, 2, dtype=REAL, generator=generator)
    changed = x.clone()
    changed[:, -1] += 100
    difference = causal_convolution(changed, kernel) - causal_convolution(x, kernel)
    # The Fourier transform leaves its rounding everywhere.
    assert difference[:, : S - 1].abs().sum() < 1e-11
    assert difference[:, S - 1].abs().min() > 1


@pytest.mark.parametrize("S", [1, 3, SHORT + 1])
def test_gradients_of_the_convolution(S):
    x = torch.randn(2, S, 2, dtype=REAL, generator=stream(0), requires_grad=True)
    kernel = torch.randn(S + 2, 2, 2, dtype=REAL, generator=stream(1), requires_grad=True)
    assert torch.autograd.gradcheck(causal_convolution, (x, kernel))


@pytest.mark.parametrize(
    ("x", "kernel"),
    [
        ((2, 4, 1), (3, 1, 1)),
        ((2, 0, 1), (3, 1, 1)),
        ((2, 3, 2), (3, 2, 1)),
        ((3, 2), (3, 1, 2)),
    ],
)
def test_inputs_that_do_not_fit_the_kernel_are_named(x, kernel):
    sentence = f"x {x} and kernel {kernel} must be (B, S, p) and (T, q, p) with 1 <= S <= T"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        causal_convolution(torch.zeros(x), torch.zeros(kernel))
