"""Matrices with off-diagonal blocks of low rank: their ranks, counts and nearest ones."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from structure_cases import draw_hodlr, stream_of, tree

from lab.linalg.hss import compress, coupling_numbers, level_sizes

DOUBLE = torch.float64
patient = settings(deadline=None, max_examples=25)
seeds = st.integers(0, 2**31)
batches = st.sampled_from([(), (2,), (2, 3)])
dtypes = st.sampled_from([DOUBLE, torch.complex128])


def normal(seed, *shape, dtype=DOUBLE):
    return torch.randn(shape, dtype=dtype, generator=stream(seed))


def test_ranks_add_up_in_a_product_and_by_one_more_for_every_level_above():
    A, B = (tree(*draw_hodlr(stream_of(seed), (), 2, 3, 2, 2)) for seed in (0, 1))
    assert [level.U.shape[-1] for level in A.after(B).levels] == [8, 6, 4]
    assert A.after(B).after(A).levels[-1].W.shape == (2, 6, 6)


# --- from a dense matrix -------------------------------------------------------------------------


@patient
@given(seeds, batches, st.integers(1, 3), st.integers(0, 3), st.integers(0, 3), dtypes)
def test_a_matrix_of_that_rank_is_kept(seed, batch, leaf, depth, rank, dtype):
    A = tree(*draw_hodlr(stream_of(seed, dtype), batch, leaf, depth, rank, rank)).to_dense()
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
        (
            lambda: tree(*draw_hodlr(stream_of(0), (), 2, 2, 1, 1)[:-3]),
            "4 leaves need log2(4) levels, got 1",
        ),
        (
            lambda: tree(torch.zeros(2, 3, 3), torch.zeros(2, 2, 1), *[torch.zeros(2, 3, 1)] * 2),
            "U, W and V of level 0 must be (..., 2, 3, r), (..., 2, r, s) and (..., 2, 3, s)",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        call()
