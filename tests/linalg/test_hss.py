"""Matrices with off-diagonal blocks of low rank, against the dense matrix they stand for."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.linalg.hss import HODLR, Level, compress, coupling_numbers, level_sizes

DOUBLE = torch.float64
patient = settings(deadline=None, max_examples=25)
seeds = st.integers(0, 2**31)
batches = st.sampled_from([(), (2,), (2, 3)])
dtypes = st.sampled_from([DOUBLE, torch.complex128])


def normal(seed, *shape, dtype=DOUBLE):
    return torch.randn(shape, dtype=dtype, generator=stream(seed))


def parts_of(seed, batch, leaf, depth, ranks, dtype=DOUBLE):
    """Leaves, and U, W and V of every level, of matrices with leaf * 2^depth rows."""
    p, parts = 1 << depth, []
    r, s = ranks
    for level in range(depth):
        n, b = p >> level, leaf << level
        # W has more axes of a batch than the bases, which are shared.
        shapes = [(n, b, r), (*batch, n, r, s), (n, b, s)]
        parts += [normal(seed + 7 * level + i, *shape, dtype=dtype)
                  for i, shape in enumerate(shapes)]  # fmt: skip
    return [normal(seed + 99, *batch, p, leaf, leaf, dtype=dtype), *parts]


def tree(parts):
    levels = zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    return HODLR(parts[0], tuple(Level(*level) for level in levels))


def by_hand(parts, leaf):
    """The dense matrix, block by block, from one matrix's parts."""
    p = len(parts[0])
    A = torch.zeros(p * leaf, p * leaf, dtype=parts[0].dtype)
    for i in range(p):
        A[i * leaf : (i + 1) * leaf, i * leaf : (i + 1) * leaf] = parts[0][i]
    for U, W, V in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        n, b = U.shape[:2]
        for i in range(n):
            j = i + 1 if i % 2 == 0 else i - 1
            A[i * b : (i + 1) * b, j * b : (j + 1) * b] = U[i] @ W[i] @ V[j].mT
    return A


shapes = given(
    seed=seeds, batch=batches, leaf=st.integers(1, 3), depth=st.integers(0, 3),
    ranks=st.tuples(st.integers(0, 3), st.integers(0, 3)), dtype=dtypes,
)  # fmt: skip


@patient
@given(seeds, st.integers(1, 3), st.integers(0, 3), st.tuples(*[st.integers(0, 3)] * 2), dtypes)
def test_blocks_are_where_the_definition_says(seed, leaf, depth, ranks, dtype):
    parts = parts_of(seed, (), leaf, depth, ranks, dtype)
    assert gap(tree(parts).to_dense(), by_hand(parts, leaf)) < 1e-14


@patient
@shapes
def test_products_are_those_of_the_dense_matrix(seed, batch, leaf, depth, ranks, dtype):
    A = tree(parts_of(seed, batch, leaf, depth, ranks, dtype))
    B = tree(parts_of(seed + 1, batch, leaf, depth, ranks[::-1], dtype))
    x = normal(seed, *batch, leaf << depth, 2, dtype=dtype)
    assert gap(A @ x, A.to_dense() @ x) < 1e-13
    assert gap(A @ x[..., :1], A.to_dense() @ x[..., :1]) < 1e-13
    assert gap(A.mT.to_dense(), A.to_dense().mT) < 1e-14
    assert gap(A.after(B).to_dense(), A.to_dense() @ B.to_dense()) < 1e-12


def test_ranks_add_up_in_a_product_and_by_one_more_for_every_level_above():
    A, B = (tree(parts_of(seed, (), 2, 3, (2, 2))) for seed in (0, 1))
    assert [level.U.shape[-1] for level in A.after(B).levels] == [8, 6, 4]
    assert A.after(B).after(A).levels[-1].W.shape == (2, 6, 6)


@patient
@shapes
def test_the_solve_is_the_inverse_of_the_dense_matrix(seed, batch, leaf, depth, ranks, dtype):
    leaves, *rest = parts_of(seed, batch, leaf, depth, ranks, dtype)
    # Dominant leaves keep all diagonal blocks well-conditioned, which the solve asks for.
    size = tree([leaves, *rest]).to_dense().abs().sum(-1).max()
    A = tree([leaves + 2 * size * torch.eye(leaf), *rest])
    x = normal(seed, leaf << depth, 2, dtype=dtype)
    assert gap(A.to_dense() @ A.solve(x), x.expand(*batch, *x.shape)) < 1e-12


def test_gradients_match_finite_differences():
    parts = [each.requires_grad_() for each in parts_of(0, (2,), 2, 2, (1, 2))]
    x = normal(5, 8, 1).requires_grad_()

    def all_of_it(x, leaves, *rest):
        A = tree([leaves + 20 * torch.eye(2), *rest])
        return A.to_dense(), A @ x, A.solve(x), A.after(A) @ x

    assert torch.autograd.gradcheck(all_of_it, (x, *parts))


def test_single_precision_and_half_precision():
    exact = parts_of(0, (), 4, 3, (2, 2))
    x = normal(1, 32, 3)
    single = tree([each.float() for each in exact])
    assert gap((single @ x.float()).double(), tree(exact) @ x) < 1e-5
    assert tree([each.bfloat16() for each in exact]).to_dense().dtype == torch.float32


# --- from a dense matrix -------------------------------------------------------------------------


@patient
@given(seeds, batches, st.integers(1, 3), st.integers(0, 3), st.integers(0, 3), dtypes)
def test_a_matrix_of_that_rank_is_kept(seed, batch, leaf, depth, rank, dtype):
    A = tree(parts_of(seed, batch, leaf, depth, (rank, rank), dtype)).to_dense()
    found = compress(A, leaf=leaf, rank=rank)
    assert gap(found.to_dense(), A) < 1e-12
    assert all(level.U.shape[-1] <= max(rank, 0) for level in found.levels)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_what_is_lost_are_the_small_singular_values_of_every_block(rank):
    A = normal(0, 16, 16)
    lost = (compress(A, leaf=2, rank=rank).to_dense() - A).square().sum()
    tails = 0
    for b in (2, 4, 8):
        for i in range(16 // b):
            j = i ^ 1
            block = A[i * b : (i + 1) * b, j * b : (j + 1) * b]
            tails += torch.linalg.svdvals(block)[rank:].square().sum().item()
    assert lost.item() == pytest.approx(tails, rel=1e-12, abs=1e-20)
    assert lost > 1 if rank < 3 else lost > 0.1


def test_counts_are_those_of_the_plan():
    assert [coupling_numbers(64, leaf=m, rank=r) for m, r in ((4, 4), (4, 8), (8, 4), (2, 4))] == [
        736, 1408, 736, 736
    ]  # fmt: skip
    assert coupling_numbers(512, leaf=4, rank=8) == 12_160
    assert coupling_numbers(64, leaf=4, rank=0) == 256
    assert coupling_numbers(64, leaf=64, rank=0) == 4096
    # With bases, as where they depend on the data.
    assert [compress(torch.eye(64), leaf=4, rank=r).numbers for r in (8, 4)] == [4992, 2784]
    assert level_sizes(64, 4, 8) == [4, 8, 16, 32]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: level_sizes(12, 4, 1), "a leaf of 4 and a rank of 1 for 12 rows"),
        (lambda: level_sizes(8, 3, 1), "a leaf of 3 and a rank of 1 for 8 rows"),
        (lambda: level_sizes(8, 0, 1), "a leaf of 0"),
        (lambda: compress(torch.eye(8), leaf=2, rank=-1), "a rank of -1"),
        (lambda: tree(parts_of(0, (), 2, 2, (1, 1))[:-3]), "4 leaves need log2(4) levels, got 1"),
        (
            lambda: tree([torch.zeros(2, 3, 3), torch.zeros(2, 2, 1), *[torch.zeros(2, 3, 1)] * 2]),
            "U, W and V of level 0 must be (..., 2, 3, r), (..., 2, r, s) and (..., 2, 3, s)",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        call()
