"""2:4 masks, groupings and what fits inside a mask, against plain loops and counts."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.linalg import monarch, sparsity

DOUBLE = torch.float64
seeds = st.integers(0, 2**31)
patient = settings(deadline=None, max_examples=25)


def normal(seed, *shape):
    return torch.randn(shape, dtype=DOUBLE, generator=stream(seed))


def mask_by_hand(size, order):
    """The two largest of every four, entry by entry."""
    mask = torch.zeros(size.shape, dtype=torch.bool)
    for row in range(len(size)):
        for begin in range(0, len(order), 4):
            group = order[begin : begin + 4]
            for column in sorted(group, key=lambda c: -size[row, c].item())[:2]:
                mask[row, column] = True
    return mask


@patient
@given(b=st.sampled_from([4, 8, 12]), seed=seeds)
def test_a_magnitude_mask_keeps_the_two_largest_of_every_group(b, seed):
    size = normal(seed, 3, b, b).square()
    order = torch.stack([torch.randperm(b, generator=stream(seed + i)) for i in range(3)])
    found = sparsity.magnitude_mask(size, order)
    expected = [mask_by_hand(*each) for each in zip(size, order.tolist(), strict=True)]
    assert torch.equal(found, torch.stack(expected))
    natural = sparsity.magnitude_mask(size)
    assert torch.equal(natural, torch.stack([mask_by_hand(each, range(b)) for each in size]))
    assert sparsity.is_two_four(size * found, order)
    assert sparsity.is_two_four(size * natural)


def test_a_mask_of_other_groups_is_no_two_four_mask():
    size = torch.zeros(4, 8, dtype=DOUBLE)
    size[:, :3] = 1.0
    assert not sparsity.is_two_four(size)
    order = torch.tensor([0, 1, 4, 5, 2, 3, 6, 7])
    assert sparsity.is_two_four(size, order)


def test_equal_entries_still_leave_two_of_four():
    mask = sparsity.magnitude_mask(torch.ones(8, 8))
    assert torch.equal(mask.unflatten(-1, (2, 4)).sum(-1), torch.full((8, 2), 2))
    assert sparsity.unstructured_mask(torch.ones(8, 8)).sum() == 32


def test_an_unstructured_mask_keeps_the_larger_half():
    size = normal(0, 5, 8, 8).square()
    mask = sparsity.unstructured_mask(size)
    assert torch.equal(mask.sum((1, 2)), torch.full((5,), 32))
    for each, kept in zip(size, mask, strict=True):
        assert each[kept].min() >= each[~kept].max()


@pytest.mark.parametrize("b", [4, 8, 16])
def test_the_aligned_mask_is_legal_both_ways_and_holds_orthogonal_blocks(b):
    mask = sparsity.aligned_mask(b)
    assert mask.sum() == b * b // 2
    assert sparsity.is_two_four(mask)
    assert sparsity.is_two_four(mask.mT)
    squares = torch.linalg.qr(normal(0, 3, 2, b // 2, b // 2)).Q
    blocks = sparsity.aligned_blocks(squares)
    assert gap(blocks @ blocks.mT, torch.eye(b, dtype=DOUBLE).expand(3, b, b)) < 1e-13
    assert not blocks[:, ~mask].any()
    assert blocks[:, mask].all()  # every entry that the mask allows is used


def test_the_aligned_mask_of_side_eight_is_the_one_described():
    fours = [0, 1, 4, 5], [2, 3, 6, 7]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    for four in fours:
        for row, column in itertools.product(four, four):
            expected[row, column] = True
    assert torch.equal(sparsity.aligned_mask(8), expected)


def test_groupings_are_counted_and_listed():
    assert [sparsity.grouping_count(b) for b in (4, 8, 12, 16)] == [1, 35, 5775, 2_627_625]
    every = sparsity.groupings(8)
    assert every.shape == (35, 8)
    assert torch.equal(every[0], torch.arange(8))
    partitions = {
        frozenset(frozenset(four) for four in (row[:4], row[4:])) for row in every.tolist()
    }
    assert len(partitions) == 35
    # All permutations of the input give these partitions and no others.
    drawn = [torch.randperm(8, generator=stream(seed)).tolist() for seed in range(500)]
    assert {frozenset(map(frozenset, (row[:4], row[4:]))) for row in drawn} <= partitions


@patient
@given(seed=seeds)
def test_the_best_grouping_keeps_most(seed):
    size = normal(seed, 4, 8, 8).square()
    every = sparsity.groupings(8)
    shares = sparsity.kept_share(size, every)
    by_hand = torch.stack(
        [
            (size * sparsity.magnitude_mask(size, order.expand(4, 8))).sum((1, 2))
            / size.sum((1, 2))
            for order in every
        ]
    ).mT
    assert gap(shares, by_hand) < 1e-13
    best = sparsity.best_grouping(size)
    kept = (size * sparsity.magnitude_mask(size, best)).sum((1, 2)) / size.sum((1, 2))
    assert gap(kept, by_hand.amax(1)) < 1e-13


def test_sixteen_columns_have_too_many_groupings_to_list():
    with pytest.raises(ValueError, match="2,627,625 groupings of 16 columns"):
        sparsity.groupings(16)


@pytest.mark.parametrize("seed", range(4))
def test_the_rank_of_a_masked_matrix_is_its_largest_matching(seed):
    for mask in sparsity.magnitude_mask(torch.rand(100, 8, 8, generator=stream(seed))):
        permutation, size = sparsity.matching(mask)
        assert torch.linalg.matrix_rank(normal(seed, 8, 8) * mask) == size
        assert permutation.sum() == size
        assert (permutation.sum(0) <= 1).all()
        assert (permutation.sum(1) <= 1).all()
        assert not (permutation & ~mask).any()


def test_a_deficient_mask_has_a_smaller_matching():
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:, :2] = True
    assert sparsity.matching(mask)[1] == 2


def test_random_masks_hold_a_permutation():
    # Of 200 plain draws some do not, or this would test nothing.
    plain = sparsity.magnitude_mask(torch.rand(200, 8, 8, generator=stream(0)))
    assert min(sparsity.matching(each)[1] for each in plain) < 8
    masks = sparsity.random_mask(200, 8, 8, generator=stream(0))
    assert all(sparsity.matching(each)[1] == 8 for each in masks)
    assert sparsity.is_two_four(masks.double())


@patient
@given(seed=seeds)
def test_the_norm_of_a_masked_orthogonal_block_is_bounded(seed):
    Q = torch.linalg.qr(normal(seed, 10, 8, 8)).Q
    for mask in (
        sparsity.magnitude_mask(Q.square()),
        torch.rand(10, 8, 8, generator=stream(seed)) < 0.5,
    ):
        kept = mask & (mask.cumsum(-1) <= 4)  # at most b/2 ones a row
        assert torch.linalg.matrix_norm(Q * kept, 2).max() <= 2 + 1e-12


def test_pruning_hides_entries_and_may_let_their_gradient_through():
    A, mask = normal(0, 2, 4, 4).requires_grad_(), sparsity.aligned_mask(4)
    for straight_through in (False, True):
        found = sparsity.pruned(A, mask, straight_through=straight_through)
        assert torch.equal(found, A * mask)
        (gradient,) = torch.autograd.grad(found.sum(), A)
        assert torch.equal(
            gradient, torch.ones_like(A) if straight_through else mask.expand(2, 4, 4).to(DOUBLE)
        )


@pytest.mark.parametrize("b", [0, 2, 6])
def test_a_side_that_is_no_multiple_of_four_is_named(b):
    for call in (
        lambda: sparsity.aligned_mask(b),
        lambda: sparsity.magnitude_mask(torch.ones(b, b)),
        lambda: sparsity.groupings(b),
    ):
        with pytest.raises(ValueError, match=f"multiple of four, got {b}"):
            call()
    with pytest.raises(ValueError, match="two squares"):
        sparsity.aligned_blocks(torch.ones(3, 4, 4))


# --- renaming states -----------------------------------------------------------------------------


@patient
@given(b=st.integers(1, 5), seed=seeds)
def test_relabelled_blocks_are_those_of_the_renamed_states(b, seed):
    L, R = normal(seed, 2, b, b, b)
    rows, columns = (torch.randperm(b, generator=stream(seed + i)) for i in range(2))
    renaming = (b * rows[:, None] + columns).flatten()  # new number to old number
    expected = monarch.monarch_dense(L, R)[renaming][:, renaming]
    assert gap(monarch.monarch_dense(*monarch.relabelled(L, R, rows, columns)), expected) == 0


def test_one_permutation_shared_by_all_blocks_is_a_renaming():
    # Blocks S Pi are 2:4 in other groups; renaming the states makes them 2:4 in the natural ones.
    L, R = normal(0, 2, 8, 8, 8)
    L, R = (each * sparsity.magnitude_mask(each.square()) for each in (L, R))
    left, right = (torch.randperm(8, generator=stream(i)) for i in range(2))
    shuffled = L[..., left], R[..., right]
    assert not sparsity.is_two_four(shuffled[0])
    back = monarch.relabelled(*shuffled, left.argsort(), right.argsort())
    assert sparsity.is_two_four(torch.stack(back))
    # Which states are meant by which number changes nothing else.
    renaming = (8 * left.argsort()[:, None] + right.argsort()).flatten()
    whole = monarch.monarch_dense(*shuffled)
    assert gap(monarch.monarch_dense(*back), whole[renaming][:, renaming]) == 0
