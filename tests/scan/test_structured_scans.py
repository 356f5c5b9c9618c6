"""Each structured scan against the matrix scan of its matrices, which are written out here."""

import re

import pytest
import scan_cases as draws
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from scan_cases import FIELDS, Random

from lab import scan


def blocks_to_dense(A, b, initial):
    # Row (k, i) and column (l, j) hold A[k, i, j] where k = l.
    dense = torch.einsum("btkij,kl->btkilj", A, torch.eye(A.shape[2], dtype=A.dtype))
    return dense.flatten(4, 5).flatten(2, 3), b, initial


def pairs_to_dense(A, b, initial):
    # Row (i, n) and column (j, m) hold A[i, j, n] where n = m.
    dense = torch.einsum("btijn,nm->btinjm", A, torch.eye(A.shape[-1], dtype=A.dtype))
    return dense.flatten(4, 5).flatten(2, 3), b.flatten(2), initial.flatten(1)


def permutation_to_dense(source, a, b, initial):
    return torch.nn.functional.one_hot(source, b.shape[-1]) * a[..., None], b, initial


def scatter_to_dense(target, a, b, initial):
    # Column n has a[n] in row target[n].
    return torch.nn.functional.one_hot(target, b.shape[-1]).mT * a[..., None, :], b, initial


def reflections_to_dense(beta, k, b, initial):
    outer = k[..., :, None] * k.conj()[..., None, :]
    factors = torch.eye(k.shape[-1], dtype=k.dtype) - beta[..., None, None] * outer
    return factors[:, :, 1] @ factors[:, :, 0], b, initial


STRUCTURED = [
    *[
        pytest.param(scan.block_scan, draw, blocks_to_dense, id=draw.__name__)
        for draw in (draws.blocks, draws.blocks_of_all_steps, draws.blocks_of_the_batch)
    ],
    *[
        pytest.param(scan.pair_scan, draw, pairs_to_dense, id=draw.__name__)
        for draw in (
            draws.pairs, draws.pairs_of_all_steps, draws.pairs_of_the_batch, draws.one_pair,
        )
    ],
    *[
        pytest.param(scan.permutation_scan, draw, permutation_to_dense, id=draw.__name__)
        for draw in (draws.permutation, draws.gather)
    ],
    *[
        pytest.param(scan.scatter_scan, draw, scatter_to_dense, id=f"to {draw.__name__}")
        for draw in (draws.permutation, draws.gather, draws.sent_to_the_same)
    ],
    *[
        pytest.param(scan.householder_scan, draw, reflections_to_dense, id=draw.__name__)
        for draw in (draws.reflections, draws.reflections_of_any_length)
    ],
]  # fmt: skip


def both(function, arguments, seed):
    """The states, one row a step, and the gradients of a random projection of them."""
    arguments = [a.clone().requires_grad_(a.dtype != torch.int64) for a in arguments]
    h = function(*arguments).flatten(2)
    direction = torch.randn(h.shape, dtype=h.dtype, generator=stream(seed))
    inputs = [a for a in arguments if a.requires_grad]
    return h, *torch.autograd.grad((direction.conj() * h).real.sum(), inputs)


# Worst gap in 3,300 draws: 3e-15.
@pytest.mark.parametrize(("fast", "draw", "to_dense"), STRUCTURED)
@pytest.mark.parametrize("dtype", FIELDS)
@settings(deadline=None, max_examples=15)
@given(B=st.integers(1, 3), T=st.integers(1, 33), N=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_it_is_the_matrix_scan_of_the_dense_matrix(fast, draw, to_dense, dtype, B, T, N, seed):
    arguments = draw(Random(dtype, stream(seed)), B, T, N)

    def dense(*arguments):
        return scan.matrix_scan(*to_dense(*arguments))

    actual, expected = both(fast, arguments, seed), both(dense, arguments, seed)
    assert all(gap(*pair) < 1e-13 for pair in zip(actual, expected, strict=True))


@pytest.mark.parametrize("N", [2, 5, 16, 33, 64])
@pytest.mark.parametrize(
    "draw",
    [draws.matrix, draws.matrix_of_all_steps, draws.matrix_of_the_batch, draws.one_matrix],
    ids=lambda draw: draw.__name__,
)
@pytest.mark.parametrize("dtype", FIELDS)
def test_wide_states_and_many_sequences(dtype, draw, N):
    # Wide enough for all paths through the kernels' loops over rows, and for several groups.
    arguments = draw(Random(dtype, stream(N)), 9, 6, N)
    actual = both(scan.matrix_scan, arguments, seed=0)
    expected = both(scan.matrix_scan_sequential, arguments, seed=0)
    assert all(gap(*pair) < 1e-13 for pair in zip(actual, expected, strict=True))


def second_gradients(function, arguments):
    """Gradients of a random projection of the gradients of a random projection of the states."""
    arguments = [a.clone().requires_grad_(a.dtype != torch.int64) for a in arguments]
    inputs, projection = [a for a in arguments if a.requires_grad], function(*arguments)
    for seed in range(2):
        random = Random(inputs[0].dtype, stream(seed))
        parts = projection if seed else [projection]
        total = sum((random.normal(*part.shape).conj() * part).real.sum() for part in parts)
        projection = torch.autograd.grad(total, inputs, create_graph=not seed)
    return projection


# Long enough for composed steps to be composed again on the way back in time.
@pytest.mark.parametrize(("fast", "draw", "to_dense"), STRUCTURED)
@pytest.mark.parametrize("dtype", FIELDS)
def test_second_gradients_over_many_steps(fast, draw, to_dense, dtype):
    arguments = draw(Random(dtype, stream(0)), 2, 13, 3)
    definition = getattr(scan, f"{fast.__name__}_sequential")
    actual, expected = (second_gradients(form, arguments) for form in (fast, definition))
    assert all(gap(*pair) < 1e-13 for pair in zip(actual, expected, strict=True))


@pytest.mark.parametrize("dtype", FIELDS)
def test_what_is_sent_by_a_permutation_is_taken_by_its_inverse(dtype):
    target, a, b, initial = draws.permutation(Random(dtype, stream(0)), 3, 20, 6)
    source = target.argsort(-1)
    taken = scan.permutation_scan(source, a.gather(-1, source), b, initial)
    assert gap(scan.scatter_scan(target, a, b, initial), taken) < 1e-13


def test_what_collides_adds_up_and_what_nothing_is_sent_to_keeps_its_input():
    target = torch.tensor([[[1, 1, 0], [2, 2, 2]]])
    a, b, initial = zeros(1, 2, 3) + 1, zeros(1, 2, 3), torch.tensor([[1.0, 2.0, 4.0]]).double()
    b[0, 1, 0] = 5.0
    expected = torch.tensor([[[4.0, 3.0, 0.0], [5.0, 0.0, 7.0]]]).double()
    assert torch.equal(scan.scatter_scan(target, a, b, initial), expected)


def test_no_reflection_leaves_a_cumulative_sum():
    b = torch.randn(2, 5, 3, dtype=torch.float64, generator=stream(0)).requires_grad_()
    beta, k = (b.new_zeros(shape).requires_grad_() for shape in ((2, 5, 0), (2, 5, 0, 3)))
    assert torch.equal(scan.householder_scan(beta, k, b), b.cumsum(1))
    assert torch.autograd.gradcheck(scan.householder_scan, (beta, k, b))
    assert torch.autograd.gradgradcheck(scan.householder_scan, (beta, k, b))


def test_what_all_share_is_not_repeated_in_memory():
    A = torch.eye(64)[None, None].requires_grad_()
    b = torch.ones(256, 64, 64)
    # A copy of A per step and sequence would take 256 MiB; per sequence it is 4 MiB.
    with torch.profiler.profile(profile_memory=True) as profile:
        scan.matrix_scan(A, b).sum().backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 5 * b.nbytes


def zeros(*shape, dtype=torch.float64):
    return torch.zeros(shape, dtype=dtype)


MISFITS = [
    (
        "block_scan",
        (zeros(2, 3, 2, 2, 2), zeros(2, 3, 5)),
        "A (2, 3, 2, 2, 2) and b (2, 3, 5) do not match: A must be (1 or 2, 1 or 3, K, 5/K, 5/K)",
    ),
    ("block_scan", (zeros(2, 3, 2, 1, 2), zeros(2, 3, 4)), "A must be (1 or 2, 1 or 3, K, 4/K"),
    ("block_scan", (zeros(2, 3, 4, 4), zeros(2, 3, 4)), "must be (B, T, K, N/K, N/K) and (B, T, N"),
    ("block_scan", (zeros(1, 1, 2, 2, 2), zeros(2, 0, 4)), "and (B, T, N) with T > 0"),
    (
        "block_scan",
        (zeros(1, 1, 2, 2, 2), zeros(2, 3, 4), zeros(2, 2, 2)),
        "initial must be (2, 4), got (2, 2, 2)",
    ),
    ("pair_scan", (zeros(2, 3, 2, 2, 4), zeros(2, 3, 4)), "must be (B, T, 2, 2, N) and (B, T, 2"),
    (
        "pair_scan",
        (zeros(2, 3, 2, 2, 4), zeros(2, 3, 2, 5)),
        "A (2, 3, 2, 2, 4) and b (2, 3, 2, 5) do not match: A must be (1 or 2, 1 or 3, 2, 2, 5)",
    ),
    (
        "pair_scan",
        (zeros(2, 3, 2, 2, 4), zeros(2, 3, 2, 4), zeros(2, 4)),
        "initial must be (2, 2, 4), got (2, 4)",
    ),
    (
        "pair_scan",
        (zeros(2, 3, 2, 2, 4), zeros(2, 3, 2, 4, dtype=torch.float32)),
        "dtypes differ: A torch.float64, b torch.float32, initial torch.float32",
    ),
    (
        "permutation_scan",
        (zeros(2, 3, 4, dtype=torch.int64), zeros(2, 3, 4), zeros(2, 3, 5)),
        "source (2, 3, 4), a (2, 3, 4) and b (2, 3, 5) must share one (B, T, N) shape with T > 0",
    ),
    (
        "permutation_scan",
        (zeros(2, 3, 4), zeros(2, 3, 4), zeros(2, 3, 4)),
        "source must be torch.int64, got torch.float64",
    ),
    (
        "permutation_scan",
        (torch.full((2, 3, 4), 4), zeros(2, 3, 4), zeros(2, 3, 4)),
        "source must be in [0, 4), got 4 at (0, 0, 0)",
    ),
    (
        "permutation_scan",
        (-torch.eye(3, 4, dtype=torch.int64).roll(1, 1)[None], zeros(1, 3, 4), zeros(1, 3, 4)),
        "source must be in [0, 4), got -1 at (0, 0, 1)",
    ),
    (
        "scatter_scan",
        (zeros(2, 3, 4, dtype=torch.int64), zeros(2, 3, 4), zeros(2, 3, 5)),
        "target (2, 3, 4), a (2, 3, 4) and b (2, 3, 5) must share one (B, T, N) shape with T > 0",
    ),
    (
        "scatter_scan",
        (zeros(2, 3, 4), zeros(2, 3, 4), zeros(2, 3, 4)),
        "target must be torch.int64, got torch.float64",
    ),
    (
        "scatter_scan",
        (torch.full((2, 3, 4), 4), zeros(2, 3, 4), zeros(2, 3, 4)),
        "target must be in [0, 4), got 4 at (0, 0, 0)",
    ),
    (
        "householder_scan",
        (zeros(2, 3, 1), zeros(2, 3, 4), zeros(2, 3, 4)),
        "k (2, 3, 4) and b (2, 3, 4) must be (B, T, R), (B, T, R, N) and (B, T, N) with T > 0",
    ),
    (
        "householder_scan",
        (zeros(2, 3, 1), zeros(2, 3, 2, 4), zeros(2, 3, 4)),
        "do not match: beta must be (2, 3, 2) and k (2, 3, 2, 4)",
    ),
    (
        "householder_scan",
        (zeros(2, 3, 2), zeros(2, 3, 2, 4, dtype=torch.complex128), zeros(2, 3, 4)),
        "dtypes differ: beta torch.float64, k torch.complex128, b torch.float64",
    ),
]


@pytest.mark.parametrize("form", ["", "_sequential", "_associative"])
@pytest.mark.parametrize(("name", "arguments", "sentence"), MISFITS)
def test_arguments_that_do_not_fit_are_named(name, arguments, sentence, form):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        getattr(scan, name + form)(*arguments)
