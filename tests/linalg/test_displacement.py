"""Cauchy-like matrices against dense ones: kernels, displacement rank, products, truncation."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from torch import Tensor

from lab.linalg import DPLR
from lab.linalg.displacement import (
    CauchyLike,
    balanced_kernel,
    cauchy_kernel,
    cauchy_product,
    chebyshev_nodes,
    compose,
    displacement,
    displacement_rank,
    fast_cauchy_product,
    nearest,
    random_cauchy_like,
    random_kernel,
    roots_of_unity,
    stein_kernel,
    truncate,
    truncation_errors,
    uniform_nodes,
    unit_kernel,
    zero_diagonal,
)
from lab.transitions import RealDiagonal
from lab.transitions.displacement_rank import (
    BOUNDS,
    CayleyCauchy,
    Dense,
    DisplacementRank,
    clip_columns,
    newton_schulz,
)

DOUBLE = torch.float64
N = 16

patient = settings(deadline=None)
seeds = st.integers(0, 2**31)
ranks = st.integers(2, 5)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=stream(seed))


def cauchy_like(seed: int, rank: int, n: int = N, proper: bool = True) -> CauchyLike:
    """Random, with an off-diagonal part that neither vanishes nor drowns the diagonal."""
    G, H = normal(2, n, rank, seed=seed) / math.sqrt(n)
    H = zero_diagonal(G, H) if proper else H
    return CauchyLike(chebyshev_nodes(n), normal(n, seed=seed + 1).tanh(), G, H)


# --- kernels -------------------------------------------------------------------------------------


def test_the_kernel_of_chebyshev_nodes_is_large_and_not_badly_conditioned():
    values = torch.linalg.svdvals(cauchy_kernel(chebyshev_nodes(N)))
    assert values[0].item() == pytest.approx(33.1, abs=0.05)
    assert (values[0] / values[-1]).item() == pytest.approx(22.5, abs=0.05)
    uniform = torch.linalg.svdvals(cauchy_kernel(uniform_nodes(N)))
    assert uniform[0].item() == pytest.approx(20.2, abs=0.05)
    roots = torch.linalg.svdvals(cauchy_kernel(roots_of_unity(N)))
    assert roots[0].item() == pytest.approx(7.5, abs=0.05)


@pytest.mark.parametrize("n", [2, 8, 16])
def test_the_stein_kernel_of_interleaved_roots_is_half_n_times_unitary(n):
    kernel = stein_kernel(n)
    identity = torch.eye(n, dtype=kernel.dtype)
    assert gap(kernel @ kernel.mH, (n / 2) ** 2 * identity) < 1e-12


@patient
@given(n=st.integers(2, 20), seed=seeds)
def test_kernels_are_antisymmetric_and_the_scaled_ones_have_norm_one(n, seed):
    kernel = cauchy_kernel(normal(n, seed=seed))
    assert gap(kernel, -kernel.mT) < 1e-13
    assert (kernel.diagonal() == 0).all()
    for scaled in (unit_kernel(kernel), balanced_kernel(kernel)):
        norm = torch.linalg.matrix_norm(scaled, ord=2)
        assert norm.item() == pytest.approx(1, abs=1e-12)
        assert gap(scaled, -scaled.mT) < 1e-12


def test_equal_nodes_are_refused():
    with pytest.raises(ValueError, match="nodes must be distinct"):
        cauchy_kernel(torch.tensor([0.0, 1.0, 0.0]))


# --- displacement rank ---------------------------------------------------------------------------


@patient
@given(seed=seeds, rank=ranks)
def test_the_displacement_of_a_cauchy_like_matrix_is_its_generators_product(seed, rank):
    A = cauchy_like(seed, rank)
    assert gap(displacement(A.to_dense(), A.nodes), A.G @ A.H.mT) < 1e-12
    assert displacement_rank(A.to_dense(), A.nodes) == rank


@patient
@given(seed=seeds, rank=ranks)
def test_generators_read_off_a_matrix_give_it_back(seed, rank):
    A = cauchy_like(seed, rank).to_dense()
    found = CauchyLike.from_dense(A, chebyshev_nodes(N), rank)
    assert found.G.shape == (N, rank)
    assert gap(found.to_dense(), A) < 1e-10


@patient
@given(seed=seeds, rank=st.integers(1, 4))
def test_without_the_projection_the_rank_is_full(seed, rank):
    A = cauchy_like(seed, rank, proper=False)
    assert displacement_rank(A.to_dense(), A.nodes) >= N - 1


def test_nothing_that_mixes_is_left_of_one_projected_column():
    G, H = normal(2, N, 1, seed=0)
    assert gap(zero_diagonal(G, H), torch.zeros(N, 1, dtype=DOUBLE)) < 1e-12


@patient
@given(seed=seeds, rank=st.integers(1, 3))
def test_dplr_matrices_have_twice_their_rank(seed, rank):
    nodes = chebyshev_nodes(N)
    A = DPLR(nodes, *normal(2, N, rank, seed=seed))
    assert displacement_rank(A.to_dense(), nodes) == 2 * rank


@patient
@given(seed=seeds, rank=ranks)
def test_inverses_have_the_same_rank(seed, rank):
    A = cauchy_like(seed, rank)
    assert displacement_rank(torch.linalg.inv(A.to_dense()), A.nodes, tolerance=1e-6) == rank


# --- products ------------------------------------------------------------------------------------


@patient
@given(seed=seeds, first=ranks, second=ranks)
def test_the_diagonal_of_a_product_is_not_that_of_the_diagonals(seed, first, second):
    later, earlier = cauchy_like(seed, second), cauchy_like(seed + 7, first)
    product = compose(later, earlier)
    assert gap(product.to_dense(), later.to_dense() @ earlier.to_dense()) < 1e-11
    assert (product.diagonal - later.diagonal * earlier.diagonal).abs().max() > 1e-3


def test_other_nodes_are_refused():
    A = cauchy_like(0, 2)
    other = CauchyLike(uniform_nodes(N), A.diagonal, A.G, A.H)
    with pytest.raises(ValueError, match="different nodes"):
        compose(A, other)


def test_shapes_are_named():
    nodes = chebyshev_nodes(4)
    with pytest.raises(ValueError, match=re.escape("[(3,), (4, 1), (4, 1)]; 4 nodes ask for (4,)")):
        CauchyLike(nodes, torch.zeros(3), torch.zeros(4, 1), torch.zeros(4, 1))


@pytest.mark.parametrize(("proper", "expected"), [(True, 3), (False, N)])
def test_a_random_matrix_has_the_rank_if_it_is_proper(proper, expected):
    A = random_cauchy_like(N, 3, scale=0.5, proper=proper, generator=stream(0))
    assert displacement_rank(A.to_dense(), A.nodes) == expected
    assert torch.linalg.matrix_norm(A.G).item() == pytest.approx(0.5 * math.sqrt(3))
    assert (A.diagonal == 0.9).all()


# --- truncation ----------------------------------------------------------------------------------


@patient
@given(seed=seeds, kept=st.integers(1, 5))
def test_the_nearest_generators_are_those_of_the_largest_singular_values(seed, kept):
    G, H = normal(2, N, 6, seed=seed)
    left, right = nearest(G, H, kept)
    U, values, V = torch.linalg.svd(G @ H.mT)
    assert left.shape == right.shape == (N, kept)
    assert gap(left @ right.mT, U[:, :kept] * values[:kept] @ V[:kept]) < 1e-9


def test_a_slice_of_the_columns_is_no_truncation():
    G, H = normal(2, N, 6, seed=0)
    left, right = nearest(G, H, 3)
    best = torch.linalg.matrix_norm(G @ H.mT - left @ right.mT)
    sliced = torch.linalg.matrix_norm(G @ H.mT - G[:, :3] @ H[:, :3].mT)
    assert best < 0.8 * sliced


@patient
@given(seed=seeds)
def test_a_truncated_matrix_keeps_its_diagonal_and_has_the_rank(seed):
    A = compose(cauchy_like(seed, 2), cauchy_like(seed + 7, 2))
    small = truncate(A, 2)
    assert torch.equal(small.diagonal, A.diagonal)
    assert displacement_rank(small.to_dense(), small.nodes) == 2
    assert truncate(A, 4) is A


def test_what_has_the_rank_already_is_not_changed_by_truncation():
    A = cauchy_like(0, 3)
    zeros = torch.zeros_like(A.G)
    padded = CauchyLike(A.nodes, A.diagonal, torch.cat([A.G, zeros], 1), torch.cat([A.H, A.H], 1))
    assert gap(truncate(padded, 3).to_dense(), A.to_dense()) < 1e-11


def test_truncation_errors_are_those_of_products_of_dense_matrices():
    factors = [cauchy_like(seed, 2) for seed in range(4)]
    kept = truncate(compose(factors[1], factors[0]), 3)
    first = kept.to_dense(), factors[1].to_dense() @ factors[0].to_dense()
    kept = truncate(compose(factors[2], kept), 3)
    second = kept.to_dense(), factors[2].to_dense() @ first[1]
    expected = [torch.dist(short, whole) / whole.norm() for short, whole in (first, second)]
    assert gap(truncation_errors(factors[:3], 3), torch.stack(expected)) < 1e-12


@patient
@given(seed=seeds, rank=ranks)
def test_products_that_are_never_cut_have_no_truncation_error(seed, rank):
    factors = [cauchy_like(seed + i, rank) for i in range(3)]
    assert truncation_errors(factors, 3 * rank).max() < 1e-9


# --- the fast product ----------------------------------------------------------------------------


# Worst gap in 2,000 draws: 3e-13 and 2e-5; the kernel's large entries make rounding grow with n.
@pytest.mark.parametrize(("dtype", "atol"), [(DOUBLE, 1e-11), (torch.float32, 1e-3)])
@patient
@given(n=st.integers(1, 130), seed=seeds)
def test_the_fast_cauchy_product_is_the_plain_one(n, seed, dtype, atol):
    v = normal(2, n, seed=seed)
    actual = fast_cauchy_product(v.to(dtype))
    assert actual.dtype == dtype
    assert gap(actual.double(), cauchy_product(v)) < atol


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_gradients_of_the_fast_product_match_finite_differences(n):
    v = normal(3, n, seed=0).requires_grad_()
    assert torch.autograd.gradcheck(fast_cauchy_product, v)


# --- transitions ---------------------------------------------------------------------------------


def inputs(seed: int) -> Tensor:
    return normal(20, 8, seed=seed)


@patient
@given(seed=seeds, rank=st.sampled_from([2, 4, 8]), two_sided=st.booleans())
def test_cayley_transitions_have_exactly_their_rank_and_do_not_expand(seed, rank, two_sided):
    A = CayleyCauchy(
        8, d_state=N, rank=rank, two_sided=two_sided, generator=stream(seed), dtype=DOUBLE
    )
    Q = A.orthogonal(inputs(seed))
    assert gap(Q.mT @ Q, torch.eye(N, dtype=DOUBLE).expand_as(Q)) < 1e-11
    assert (displacement_rank(A(inputs(seed)), chebyshev_nodes(N)) == rank).all()
    assert torch.linalg.matrix_norm(A(inputs(seed)), ord=2).max() < 1


@pytest.mark.parametrize("bound", ["none", "frobenius", "columns", "norm"])
def test_projected_transitions_have_their_rank_under_every_bound_that_scales(bound):
    nodes = chebyshev_nodes(N)
    for proper, rank in ((True, 3), (False, N)):
        A = DisplacementRank(
            8, d_state=N, rank=3, bound=bound, proper=proper, generator=stream(0), dtype=DOUBLE
        )
        assert (displacement_rank(A(inputs(0)), nodes) == rank).all()


def test_without_a_kernel_the_displacement_has_twice_the_rank():
    A = DisplacementRank(8, d_state=N, rank=3, kernel="none", generator=stream(0), dtype=DOUBLE)
    assert (displacement_rank(A(inputs(0)), chebyshev_nodes(N)) == 6).all()


@patient
@given(seed=seeds, rank=st.sampled_from([2, 4, 8]))
def test_with_a_random_kernel_nothing_changes_but_the_displacement_rank(seed, rank):
    kernel = random_kernel(N, generator=stream(seed))
    assert torch.equal(kernel, -kernel.mT)
    assert torch.linalg.matrix_norm(kernel, ord=2).item() == pytest.approx(1)
    for build in (CayleyCauchy, DisplacementRank):
        alike, other = (
            build(8, d_state=N, rank=rank, generator=stream(seed), kernels=stream(1), kernel=each)
            for each in ("unit", "random")
        )
        for name, parameter in alike.named_parameters():
            assert torch.equal(parameter, other.get_parameter(name))
        assert not torch.equal(alike.kernel, other.kernel)
    A = CayleyCauchy(8, d_state=N, rank=rank, kernel="random", generator=stream(seed), dtype=DOUBLE)
    Q = A.orthogonal(inputs(seed))
    assert gap(Q.mT @ Q, torch.eye(N, dtype=DOUBLE).expand_as(Q)) < 1e-11
    assert displacement_rank(A(inputs(seed)), chebyshev_nodes(N)).min() > 8


def test_the_first_runs_normalisation_keeps_the_generators_large():
    layer = DisplacementRank(
        8, d_state=N, rank=4, kernel="cauchy", bound="frobenius", generator=stream(0), dtype=DOUBLE
    )
    with torch.no_grad():
        layer.generators.bias *= 1e-4
        layer.generators.weight *= 1e-4
    for generators in layer.generators_of(inputs(0)):
        assert gap(torch.linalg.matrix_norm(generators), torch.full((20,), 2.0).double()) < 1e-12


def test_parameter_counts_are_those_of_the_docstrings():
    D = 64
    for layer, expected in (
        (RealDiagonal(D, d_state=N, gate="tanh", start=2.2, spread=0.0), 65 * 16),
        (DisplacementRank(D, d_state=N, rank=4), 65 * (16 + 128)),
        (Dense(D, d_state=N), 65 * (16 + 256)),
        (CayleyCauchy(D, d_state=N, rank=2), 65 * 32),
        (CayleyCauchy(D, d_state=N, rank=2, two_sided=True), 65 * 48),
        (CayleyCauchy(D, d_state=N, rank=4), 65 * (32 + 64)),
    ):
        assert sum(parameter.numel() for parameter in layer.parameters()) == expected


def test_newton_schulz_steps_make_a_matrix_orthogonal():
    A = normal(N, N, seed=0)
    Q = newton_schulz(A / torch.linalg.matrix_norm(A, ord=2), steps=40)
    U, _, V = torch.linalg.svd(A)
    assert gap(Q, U @ V) < 1e-10


@patient
@given(seed=seeds)
def test_bounds_bound(seed):
    d, off = normal(5, N, seed=seed).tanh(), 3 * normal(5, N, N, seed=seed + 1)
    columns = BOUNDS["columns"](d, off).square().sum(-2)
    assert columns.max() <= 1 + 1e-12
    short = clip_columns(0.01 * off)
    assert torch.equal(short, 0.01 * off)
    for name in ("norm", "newton-schulz"):
        assert torch.linalg.matrix_norm(BOUNDS[name](d, off), ord=2).max() <= 1 + 1e-9


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: DisplacementRank(8, d_state=16, rank=0), "rank is 0; it must be at least 1"),
        (
            lambda: DisplacementRank(8, d_state=16, rank=1, bound="row"),
            "bound is 'row'; it must be one of",
        ),
        (
            lambda: DisplacementRank(8, d_state=16, rank=1, kernel="K"),
            "kernel is 'K'; it must be one of",
        ),
        (lambda: Dense(8, d_state=16, gate="relu"), "gate is 'relu'; it must be one of"),
        (lambda: CayleyCauchy(8, d_state=16, rank=3), "rank is 3; it must be even and at least 2"),
        (
            lambda: CayleyCauchy(8, d_state=16, rank=4, kernel="none"),
            "kernel is 'none'; it must be one of",
        ),
        (lambda: DisplacementRank(8, d_state=16, rank=1, kernel="random"), "kernels is None"),
    ],
)
def test_bad_settings_are_named(build, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        build()
