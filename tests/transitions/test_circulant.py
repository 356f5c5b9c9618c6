"""Circulant matrices against dense ones, and the layers made of them against each other."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.linalg import circulant as c
from lab.mixers import StateSpace, unroll
from lab.mixers.equivalence import as_diagonal
from lab.tasks.groups import cyclic, symmetric
from lab.transitions import BlockCirculant, Circulant, PolarDiagonal, RealDiagonal

DOUBLE = torch.float64
patient = settings(deadline=None)
seeds = st.integers(0, 2**31)
sizes = st.integers(1, 9)


def normal(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(shape, dtype=dtype, generator=stream(seed))


# --- the matrices --------------------------------------------------------------------------------


@patient
@given(n=sizes, seed=seeds)
def test_frequencies_and_column_determine_each_other(n, seed):
    column = normal(n, seed=seed)
    half = c.frequencies(column)
    assert gap(c.from_frequencies(half, n), column) < 1e-13
    # The other half are conjugates; together they are the eigenvalues of the dense matrix.
    turning = c.is_complex_frequency(n)
    both = torch.cat([half, half[turning].conj()])
    A = c.circulant(column)
    assert gap(both.sum().real, A.trace()) < 1e-12
    assert gap(both.square().sum().real, (A @ A).trace()) < 1e-12
    assert math.isclose(half.abs().max(), torch.linalg.matrix_norm(A, 2), rel_tol=1e-12)


@patient
@given(k=sizes, p=st.integers(1, 3), seed=seeds)
def test_block_frequencies_determine_the_blocks_and_the_norm(k, p, seed):
    blocks = normal(k, p, p, seed=seed)
    spectrum = c.block_frequencies(blocks)
    assert gap(c.from_block_frequencies(spectrum, k), blocks) < 1e-13
    norm = torch.linalg.matrix_norm(c.block_circulant(blocks), 2)
    assert math.isclose(torch.linalg.matrix_norm(spectrum, 2).max(), norm, rel_tol=1e-12)


@patient
@given(n=sizes, seed=seeds)
def test_all_circulants_commute_and_block_circulants_do_not(n, seed):
    A, B = c.circulant(normal(2, n, seed=seed))
    assert gap(A @ B, B @ A) < 1e-12
    A, B = c.block_circulant(normal(2, n, 2, 2, seed=seed))
    assert (A @ B - B @ A).abs().max() > 1e-6


@patient
@given(n=sizes, seed=seeds)
def test_the_half_spectrum_as_real_numbers_is_an_orthogonal_map(n, seed):
    h = normal(3, n, seed=seed)
    modes = c.to_modes(c.fourier(h), n)
    assert modes.shape == h.shape
    assert gap(c.space(c.from_modes(modes), n), h) < 1e-13
    F = c.real_fourier(n)
    assert gap(F @ F.mT, torch.eye(n, dtype=DOUBLE)) < 1e-13
    assert gap(h @ F.mT, modes) < 1e-13
    assert int((~c.is_complex_frequency(n)).sum()) == (1 if n % 2 else 2)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_gradients_match_finite_differences(n):
    h = normal(2, n).requires_grad_()
    assert torch.autograd.gradcheck(lambda h: c.to_modes(c.fourier(h), n), (h,))
    assert torch.autograd.gradcheck(lambda modes: c.space(c.from_modes(modes), n), (h,))


def test_shapes_that_do_not_match_are_named():
    with pytest.raises(ValueError, match="must share n"):
        c.circulant_product(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="3 blocks of 2"):
        c.block_circulant_product(torch.zeros(3, 2, 2), torch.zeros(5))
    with pytest.raises(ValueError, match="has 3 frequencies, a real signal of 6 has 4"):
        c.from_frequencies(torch.zeros(3), 6)


# --- the layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("N", [1, 2, 7, 8])
def test_a_circulant_layer_is_a_diagonal_layer_in_another_basis(N):
    layer = StateSpace(
        5, Circulant(5, d_state=N, generator=stream(0)), learn_initial=True, generator=stream(1)
    ).double()
    twin, x = as_diagonal(layer), normal(3, 40, 5)
    assert gap(twin(x), layer(x)) < 1e-12
    assert gap(unroll(twin, x), layer(x)) < 1e-12
    F = c.real_fourier(N)
    assert gap(layer.states(x) @ F.mT, twin.states(x)) < 1e-12
    assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize("N", [1, 5, 6])
def test_blocks_of_one_and_one_factor_are_the_circulant(N):
    plain = Circulant(4, d_state=N, generator=stream(0)).double()
    blocks = BlockCirculant(4, d_state=N, block=1, factors=1, generator=stream(1)).double()
    blocks.decay.load_state_dict(plain.decay.state_dict())
    blocks.phase.load_state_dict(plain.phase.state_dict())
    x = normal(7, 4)
    assert gap(blocks.dense(blocks(x)), plain.dense(plain(x))) < 1e-9  # v is bounded below


def test_radii_start_near_one_and_can_reach_it():
    for build in (PolarDiagonal, Circulant):
        layer = build(8, d_state=16, generator=stream(0))
        x = torch.nn.functional.rms_norm(normal(500, 8, dtype=torch.float32), (8,))
        turning = layer(x)[:, layer.turns].abs()
        assert 0.995 < turning.min() <= turning.max() <= 1
        with torch.no_grad():
            layer.decay.weight.zero_()
            layer.decay.bias.zero_()
        assert gap(layer(x)[:, layer.turns].abs(), torch.ones_like(turning)) < 1e-6


def test_a_circulant_layer_can_hold_z8_for_ever():
    layer = Circulant(8, d_state=8).double()
    with torch.no_grad():  # token k, a unit vector, turns frequency f by -2 pi f k / 8
        layer.decay.weight.zero_()
        layer.decay.bias.zero_()
        turns = torch.outer(torch.arange(5), torch.arange(8)).double() / 8
        layer.phase.weight.copy_(-2 * math.pi * turns)
    A = layer.dense(layer(torch.eye(8, dtype=DOUBLE)))
    assert gap(A, cyclic(8).matrices) < 1e-12


def test_a_block_circulant_layer_can_hold_s3():
    # Blocks of 3 at every frequency alike: each element is a product of at most two reflections.
    group = symmetric(3)
    layer = BlockCirculant(6, d_state=6, block=3, factors=2).double()
    for element, matrix in enumerate(group.matrices):
        gain = torch.ones(2, 2, dtype=torch.complex128)
        v = torch.ones(2, 2, 3, dtype=torch.complex128) / math.sqrt(3)
        for factor, reflection in enumerate(_reflections(matrix)):
            gain[factor], v[factor] = -1, reflection.to(v.dtype)
        A = layer.dense((gain, v))
        assert gap(A, torch.kron(torch.eye(2, dtype=DOUBLE), matrix)) < 1e-12, element


def _reflections(matrix):
    """Unit vectors whose reflections multiply to a permutation of three points, first one first."""
    root = math.sqrt(0.5)
    swaps = torch.tensor([[1, -1, 0], [1, 0, -1], [0, 1, -1]], dtype=DOUBLE) * root
    one = [[u] for u in swaps]
    two = [[u, w] for u in swaps for w in swaps]
    for chosen in ([], *one, *two):
        A = torch.eye(3, dtype=DOUBLE)
        for u in chosen:
            A = A - 2 * torch.outer(u, u @ A)
        if gap(A, matrix) < 1e-12:
            return chosen
    raise AssertionError("no product of two reflections")


@pytest.mark.parametrize("signed", [False, True])
def test_real_gains_start_from_a_half_to_the_longest_memory(signed):
    layer = RealDiagonal(
        4, d_state=6, gate="tanh" if signed else "sigmoid", longest=0.99, generator=stream(0)
    ).double()
    gain = layer(torch.zeros(4, dtype=DOUBLE)).detach()
    assert math.isclose(gain.abs().min(), 0.5, rel_tol=1e-6)
    assert math.isclose(gain.abs().max(), 0.99, rel_tol=1e-6)
    assert (gain[1::2] < 0).all() == signed


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="d_state 5 must be even"):
        PolarDiagonal(4, d_state=5)
    with pytest.raises(ValueError, match="blocks of 3 must divide d_state 8"):
        BlockCirculant(4, d_state=8, block=3)
