"""Monarch matrices against dense ones, limits of fixed blocks, and the reach of rotating blocks."""

import itertools
import re
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from torch import nn

from lab.linalg import monarch, spin
from lab.mixers import StateSpace
from lab.model import SequenceModel, SwiGLU
from lab.scan.monarch import monarch_scan, monarch_scan_sequential
from lab.tasks.groups import symmetric, transpositions
from lab.transitions import RealDiagonal
from lab.transitions.monarch import (
    BlockCay,
    BlockDense,
    BlockExp,
    BlockHH,
    GatedMonarch,
    MonarchHH,
    MonarchID,
)

DOUBLE = torch.float64
sides, seeds = st.integers(1, 5), st.integers(0, 2**31)
patient = settings(deadline=None, max_examples=40)
DIAGONAL = partial(RealDiagonal, start="dense")
SWAPS = list(itertools.combinations(range(5), 2))


def normal(generator, *shape, dtype=DOUBLE):
    return torch.randn(shape, dtype=dtype, generator=generator)


# --- the grid ------------------------------------------------------------------------------------


@patient
@given(b=sides, lead=st.sampled_from([(), (3,), (2, 3)]), seed=seeds)
def test_the_dense_matrix_is_the_product_of_its_factors(b, lead, seed):
    generator = stream(seed)
    L, R = (normal(generator, *lead, b, b, b) for _ in range(2))
    dense = monarch.monarch_dense(L, R)
    # P^T L P R, with P written out.
    P = torch.eye(b * b, dtype=DOUBLE)[monarch.stride_permutation(b)]
    assert gap(P.mT @ monarch.row_factor(L) @ P @ monarch.row_factor(R), dense) < 1e-13
    assert gap(P.mT @ monarch.row_factor(L) @ P, monarch.column_factor(L)) == 0
    assert torch.equal(P, P.mT)


@pytest.mark.parametrize("N", [-4, 0, 2, 60])
def test_a_number_of_states_that_is_no_square_is_named(N):
    with pytest.raises(ValueError, match=rf"a square number of states, got {N}"):
        monarch.grid_side(N)
    sentence = rf"a square number of states, got {N}" if N > 0 else f"d_state is {N}; it must be"
    with pytest.raises(ValueError, match=sentence):
        MonarchID(4, d_state=N)


def test_blocks_that_do_not_fit_are_named():
    blocks = torch.zeros(3, 3, 3)
    with pytest.raises(ValueError, match=re.escape("blocks of side 3 act on 9 states, got 8")):
        monarch.monarch_product(blocks, blocks, torch.zeros(8))
    with pytest.raises(ValueError, match=re.escape("L (2, 3, 3) and R (3, 3, 3) must both end in")):
        monarch.monarch_dense(blocks[:2], blocks)
    with pytest.raises(ValueError, match=re.escape("of side 3 has 3 entries above the diagonal")):
        monarch.skew(torch.zeros(4), 3)


# --- blocks --------------------------------------------------------------------------------------


@patient
@given(b=st.integers(1, 6), size=st.floats(-2, 2).map(lambda power: 10**power), seed=seeds)
def test_skew_matrices_become_rotations(b, size, seed):
    entries = size * normal(stream(seed), 3, b * (b - 1) // 2)
    A = monarch.skew(entries, b)
    assert gap(A.mT, -A) == 0
    assert torch.equal(monarch.skew_entries(A), entries)
    identity = torch.eye(b, dtype=DOUBLE).expand(3, b, b)
    for rotation in (monarch.cayley(A), monarch.expm(A)):
        assert gap(rotation @ rotation.mT, identity) < 1e-11
        assert gap(torch.linalg.det(rotation), torch.ones(3, dtype=DOUBLE)) < 1e-11
    assert gap((identity + A) @ monarch.cayley(A), identity - A) < 1e-11


@pytest.mark.parametrize("function", [monarch.cayley, monarch.expm])
def test_gradients_of_rotations_match_finite_differences(function):
    entries = normal(stream(0), 2, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: function(monarch.skew(x, 4)), entries)


def test_cayley_turns_by_twice_the_arc_tangent_and_never_by_pi():
    for size in (0.1, 1.0, 10.0, 1000.0):
        rotation = monarch.cayley(monarch.skew(torch.tensor([size], dtype=DOUBLE), 2))
        angle = torch.linalg.eigvals(rotation).angle().abs()
        assert gap(angle, 2 * torch.tensor([size, size], dtype=DOUBLE).atan()) < 1e-12
        assert angle.max() < torch.pi


def test_a_reflection_negates_its_direction_and_nothing_else():
    v = normal(stream(0), 3, 5)
    block = monarch.householder_blocks(v, torch.full((3,), 2.0, dtype=DOUBLE))
    assert gap((block @ v[..., None])[..., 0], -v) < 1e-13
    assert gap(torch.linalg.det(block), -torch.ones(3, dtype=DOUBLE)) < 1e-13
    nothing = monarch.householder_blocks(0 * v, torch.ones(3, dtype=DOUBLE))
    assert gap(nothing, torch.eye(5, dtype=DOUBLE).expand(3, 5, 5)) == 0


# --- fixed blocks cannot flip a sign for less than a factor of two -------------------------------


def gated(generator, b, low=0.0):
    """A function to Monarch matrices of the same rotations, with gains in (low, 1) for blocks."""
    skews = [monarch.skew(normal(generator, b, b * (b - 1) // 2), b) for _ in range(2)]
    L, R = map(monarch.cayley, skews)

    def matrix():
        alpha, beta = gains(generator, 2, b, 1, 1, low=low)
        return monarch.monarch_dense(alpha * L, beta * R)

    return matrix


def gains(generator, *shape, low=0.0):
    """Crowded at both ends: gains that differ little leave no sign to flip."""
    return (
        low + (1 - low) * (8 * torch.rand(shape, dtype=DOUBLE, generator=generator) - 4).sigmoid()
    )


def gated_everywhere(generator, N):
    """As `gated`, with any rotations, and a gain for every coordinate before and after."""
    U, V = monarch.cayley(monarch.skew(3 * normal(generator, 2, N * (N - 1) // 2), N))

    def matrix():
        a, b = gains(generator, 2, N, 1)
        return (a * U) @ (b * V)

    return matrix


@settings(deadline=None, max_examples=100)
@given(N=st.integers(2, 9), seed=seeds)
def test_positive_gains_flip_a_sign_by_half_at_most(N, seed):
    generator = stream(seed)
    matrix = gated_everywhere(generator, N)
    first, second = matrix(), matrix()
    assert monarch.sign_flip(first, second) <= 0.5
    # c1 + c2 <= 1, coordinate by coordinate: what differs in sign is no larger than what went in.
    w = normal(generator, N, 50)
    one, other = first @ w, second @ w
    flipped = torch.where(one * other < 0, one.abs() + other.abs(), 0)
    assert (flipped.norm(dim=0) <= w.norm(dim=0)).all()


def test_random_gains_do_flip_signs():
    # Else the bound above would be tested on nothing.
    matrix = gated_everywhere(stream(0), 6)
    assert max(monarch.sign_flip(matrix(), matrix()) for _ in range(100)) > 0.1


@settings(deadline=None, max_examples=50)
@given(N=st.integers(2, 6), seed=seeds)
def test_positive_gains_never_flip_a_vector_exactly(N, seed):
    # first^-1 second is similar to a product of two positive definite matrices.
    matrix = gated_everywhere(stream(seed), N)
    values = torch.linalg.eigvals(torch.linalg.solve(matrix(), matrix()))
    assert values.real.min() > 0
    assert values.imag.abs().max() < 1e-6 * values.abs().max()


def test_the_bound_is_reached_where_gains_may_be_zero():
    turn = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=DOUBLE) * 0.5**0.5
    first, second = (torch.diag(g) for g in torch.eye(2, dtype=DOUBLE))
    pair = [first @ turn @ gain for gain in (first, second)]
    assert monarch.sign_flip(*pair).item() == pytest.approx(0.5)


def test_a_sign_flip_is_one():
    rotation = monarch.expm(monarch.skew(normal(stream(0), 6), 4))
    for size in (0.3, 1.0):
        assert monarch.sign_flip(size * rotation, -size * rotation).item() == pytest.approx(size)
    assert monarch.sign_flip(rotation, rotation) == 0


def test_gains_of_both_signs_break_the_bound():
    matrix = gated(stream(0), 3, low=-1.0)
    assert max(monarch.sign_flip(matrix(), matrix()) for _ in range(100)) > 0.8


@pytest.mark.parametrize("gate", ["sigmoid", "tanh"])
def test_a_gated_monarch_matrix_contracts(gate):
    layer = GatedMonarch(6, d_state=16, gate=gate, spread=1.0, generator=stream(0)).double()
    A = layer.dense(layer(3 * normal(stream(1), 200, 6)))
    assert torch.linalg.matrix_norm(A, 2).max() < 1


@pytest.mark.parametrize("gate", ["sigmoid", "tanh"])
def test_quotients_of_gated_monarch_matrices_are_symmetric_and_commute(gate):
    # Why fixed blocks can only count: see the docstring of GatedMonarch.
    layer = GatedMonarch(6, d_state=16, gate=gate, spread=1.0, generator=stream(0)).double()
    A = layer.dense(layer(normal(stream(1), 5, 6)))
    X = A[1:] @ torch.linalg.inv(A[0])
    assert gap(X, X.mT) < 1e-9
    assert gap(X[:, None] @ X, (X[:, None] @ X).transpose(0, 1)) < 1e-9
    if gate == "sigmoid":
        assert torch.linalg.eigvalsh(X).min() > 0


def test_gated_monarch_matrices_flip_no_sign():
    matrix = gated(stream(0), 4)
    assert max(monarch.sign_flip(matrix(), matrix()) for _ in range(50)) < 1e-6


# --- N1: the symmetric group, exactly ------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 4, 6, 8])
def test_gamma_matrices_anticommute(n):
    gamma = spin.gamma_matrices(n)
    products = torch.einsum("aij,bjk->abik", gamma, gamma)
    twice = torch.einsum("ab,ij->abij", 2 * torch.eye(n), torch.eye(2 ** (n // 2))) + 0j
    assert gap(products + products.transpose(0, 1), twice.to(products.dtype)) < 1e-13


def with_generators(layer: nn.Module, generators) -> nn.Module:
    """The layer made to have these skew matrices ["tokens K b b"] for one-hot inputs."""
    layer = layer.double()
    with torch.no_grad():
        layer.entries.weight.copy_(monarch.skew_entries(generators).flatten(1).mT)
        layer.entries.bias.zero_()
    return layer


def exact_monarch() -> MonarchID:
    pairs = [spin.swap_factors(i, j) for i, j in SWAPS]
    blocks = torch.stack([torch.stack([L] * 8 + [R] * 8) for L, R in pairs])
    return with_generators(MonarchID(10, d_state=64), monarch.cayley(blocks))


def exact_exponentials() -> BlockExp:
    generators = torch.stack([spin.swap_generator(i, j, 5, 8) for i, j in SWAPS])
    return with_generators(BlockExp(10, d_state=64), generators[:, None].expand(10, 8, 8, 8))


@pytest.mark.parametrize("build", [exact_monarch, exact_exponentials])
def test_the_ten_transpositions_are_represented_exactly(build):
    layer = build()
    A = layer.dense(layer(torch.eye(10, dtype=DOUBLE)))
    S5 = symmetric(5)
    swaps = S5.indices(transpositions(5))
    # Every element by a shortest product, then every product against the table of the group.
    image, frontier = {0: torch.eye(64, dtype=DOUBLE)}, [0]
    while frontier:
        element = frontier.pop(0)
        for token, swap in enumerate(swaps):
            product = S5.product(element, swap)
            if product not in image:
                image[product] = image[element] @ A[token]
                frontier.append(product)
    assert len(image) == 120
    represented = torch.stack([image[element] for element in range(120)])
    for token, swap in enumerate(swaps):
        assert gap(represented @ A[token], represented[S5.table[:, swap]]) < 1e-6
    distances = torch.cdist(represented.flatten(1), represented.flatten(1))
    assert (distances + 10 * torch.eye(120)).min() > 1  # faithful: 120 different matrices


def test_the_spin_cover_stays_away_from_what_cayley_cannot_reach():
    for i, j in SWAPS:
        for rotation in spin.swap_factors(i, j):
            assert monarch.cayley(rotation).abs().max() < 0.70711
            assert gap(rotation @ rotation, -torch.eye(8, dtype=DOUBLE)) < 1e-13


def test_a_cayley_transform_squared_swaps_with_entries_of_size_one():
    for i, j in SWAPS:
        A = spin.swap_generator(i, j, 5, 8)
        half = monarch.cayley(A / torch.pi)
        assert gap(half @ half, monarch.expm(A)) < 1e-13


# --- the scan ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.complex128, 1e-12)])
@settings(deadline=None, max_examples=20)
@given(B=st.integers(0, 3), T=st.integers(1, 12), n=st.integers(1, 4), seed=seeds)
def test_the_scan_is_its_plain_loop_in_value_and_gradient(dtype, tolerance, B, T, n, seed):
    inputs = scan_problem(stream(seed), B, T, n, dtype)
    found = [value_and_gradients(form, inputs, seed) for form in (monarch_scan, plain_loop)]
    assert all(gap(*pair) < tolerance for pair in zip(*found, strict=True))


def scan_problem(generator, B, T, n, dtype=DOUBLE):
    # Rotations and a little more, so that no state dies before it is compared.
    blocks = [torch.linalg.qr(normal(generator, B, T, n, n, n, dtype=dtype)).Q for _ in range(2)]
    b, initial = (
        normal(generator, B, T, n * n, dtype=dtype),
        normal(generator, B, n * n, dtype=dtype),
    )
    return *(1.05 * each for each in blocks), b, initial


def plain_loop(L, R, b, initial):
    """With dense matrices: nothing shared with the code under test."""
    h, states = initial, []
    for t in range(b.shape[1]):
        h = (monarch.monarch_dense(L[:, t], R[:, t]) @ h[..., None])[..., 0] + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def value_and_gradients(form, inputs, seed):
    leaves = [each.clone().requires_grad_() for each in inputs]
    h = form(*leaves)
    direction = normal(stream(seed), *h.shape, dtype=h.dtype)
    return h, *torch.autograd.grad((direction.conj() * h).real.sum(), leaves)


@pytest.mark.parametrize("form", [monarch_scan, monarch_scan_sequential])
def test_first_and_second_gradients_match_finite_differences(form):
    inputs = [each.requires_grad_() for each in scan_problem(stream(0), 2, 3, 2)]
    assert torch.autograd.gradcheck(form, inputs)
    assert torch.autograd.gradgradcheck(form, inputs)


def test_models_side_by_side_are_models_one_by_one():
    inputs = scan_problem(stream(0), 6, 5, 3)
    apart = [each.unflatten(0, (2, 3)) for each in inputs]
    assert gap(torch.vmap(monarch_scan)(*apart).flatten(0, 1), monarch_scan(*inputs)) < 1e-13


# Worst gap in 20 seeds: 3e-6.
def test_single_precision_is_close_to_double():
    inputs = scan_problem(stream(0), 3, 40, 8)
    narrow = monarch_scan(*(each.float() for each in inputs))
    assert gap(narrow.double(), monarch_scan(*inputs)) < 3e-5


def test_arguments_that_do_not_fit_are_named():
    blocks, b = torch.zeros(2, 3, 2, 2, 2), torch.zeros(2, 3, 5)
    with pytest.raises(ValueError, match=r"L and R must be \(2, 3, 2, 2, 2\), b end in 4"):
        monarch_scan(blocks, blocks, b)
    with pytest.raises(ValueError, match="with T > 0"):
        monarch_scan(blocks[:, :0], blocks[:, :0], b[:, :0, :4])
    with pytest.raises(ValueError, match="dtypes differ"):
        monarch_scan(blocks, blocks.double(), b[..., :4])


# --- counts --------------------------------------------------------------------------------------


def model(transition, layers, vocabulary, positions):
    mixers = [StateSpace(64, transition(64, d_state=64)) for _ in range(layers)]
    channels = [SwiGLU(64, 170) for _ in range(layers)]
    return SequenceModel(vocabulary, 120, 64, mixers, channels=channels, positions=positions)


@pytest.mark.parametrize(
    ("transition", "layers", "vocabulary", "positions", "count"),
    [
        (GatedMonarch, 2, 133, 54, 106_136),
        (DIAGONAL, 2, 133, 54, 110_328),
        (GatedMonarch, 2, 133, 24, 104_216),
        (DIAGONAL, 2, 133, 24, 108_408),
        (MonarchID, 1, 11, 0, 78_776),
        (BlockCay, 1, 11, 0, 64_216),
        (BlockExp, 1, 11, 0, 64_216),
        (BlockHH, 1, 11, 0, 54_336),
    ],
)
def test_models_have_the_parameters_that_were_counted(
    transition, layers, vocabulary, positions, count
):
    built = model(transition, layers, vocabulary, positions)
    assert sum(parameter.numel() for parameter in built.parameters()) == count


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        (DIAGONAL(6, d_state=9), 63),
        (GatedMonarch(6, d_state=9), 54 + 42),
        (MonarchID(6, d_state=9), 126),
        (MonarchHH(6, d_state=9), 168),
        (BlockCay(6, d_state=9), 63),
        (BlockDense(6, d_state=9), 189),
        (BlockHH(6, d_state=9), 84),
        (BlockHH(6, d_state=9, shared=True), 28),
    ],
)
def test_transitions_have_the_parameters_of_their_docstrings(layer, count):
    assert sum(parameter.numel() for parameter in layer.parameters()) == count


def test_an_unknown_gate_is_named_beside_the_known_ones():
    with pytest.raises(ValueError, match=r"gate is 'relu'; it must be one of \('sigmoid', 'tanh'"):
        GatedMonarch(4, d_state=9, gate="relu")
