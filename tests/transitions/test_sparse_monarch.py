"""Monarch transitions under masks: what is kept, when masks change, and what they cost."""

from functools import partial

import pytest
import torch
from numeric import gap, stream
from torch import nn

from lab.linalg.sparsity import aligned_mask, is_two_four, unstructured_mask
from lab.mixers import StateSpace
from lab.model import SequenceModel
from lab.tasks import WordProblem, groups
from lab.train import fit_together
from lab.transitions import AlignedMonarch, FreeMonarch, MaskedGatedMonarch, MonarchID

DOUBLE = torch.float64
PATTERNS = ("unstructured", "random", "magnitude", "by input", "aligned")


def inputs(seed=0, *shape):
    return torch.randn(*(shape or (5, 6)), dtype=DOUBLE, generator=stream(seed))


def free(pattern, **settings):
    return FreeMonarch(6, d_state=64, pattern=pattern, generator=stream(0), **settings).double()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_half_of_all_entries_are_kept(pattern):
    layer = free(pattern)
    blocks = torch.cat(layer(inputs()), dim=-3)
    assert torch.equal((blocks != 0).sum((-1, -2)), torch.full((5, 16), 32))
    if pattern != "unstructured":
        assert is_two_four(blocks)


def test_blocks_of_groupings_are_two_four_in_their_own_groups():
    layer = free("magnitude", grouped=True)
    blocks = torch.cat(layer(inputs()), dim=-3)
    assert is_two_four(blocks, layer.grouping.expand(5, 16, 8))
    assert not is_two_four(blocks)


@pytest.mark.parametrize("pattern", ["dense", *PATTERNS])
def test_no_state_is_lost_before_the_first_update(pattern):
    layer = free(pattern)
    nn.init.zeros_(layer.entries.weight)
    nn.init.zeros_(layer.entries.bias)
    A = layer.dense(layer(inputs()))
    assert gap(A.mT @ A, torch.eye(64, dtype=DOUBLE).expand_as(A)) < 1e-13


def test_masks_change_only_when_they_are_chosen():
    layer = free("magnitude", grouped=True)
    mask, grouping = layer.mask.clone(), layer.grouping.clone()
    with torch.no_grad():
        layer.entries.weight.copy_(10 * torch.randn_like(layer.entries.weight))
    before = layer(inputs())
    assert torch.equal(layer.mask, mask)
    layer.choosing = "masks"
    layer(inputs())
    assert not torch.equal(layer.mask, mask)
    assert torch.equal(layer.grouping, grouping)
    layer.choosing = "groupings and masks"
    after = layer(inputs())
    assert not torch.equal(layer.grouping, grouping)
    size = layer.free(inputs()).square().mean(0)
    kept = (size * layer.mask).sum((1, 2))
    layer.grouping.copy_(torch.arange(8))
    layer.choosing = "masks"
    layer(inputs())
    assert (kept >= (size * layer.mask).sum((1, 2))).all()
    assert not torch.equal(before[0], after[0])


def test_the_first_mask_is_that_of_the_mean_square_over_normal_inputs():
    layer = free("unstructured")
    size = layer.free(inputs(1, 4000, 6)).square().mean(0)
    kept = [(size * mask).sum() for mask in (layer.mask, unstructured_mask(size))]
    assert kept[1] * 0.999 < kept[0] <= kept[1]


def test_dropped_entries_have_a_gradient_only_if_asked():
    for straight_through in (False, True):
        layer = free("magnitude", straight_through=straight_through)
        L, R = layer(inputs())
        (torch.cat([L, R], dim=-3) * torch.randn(8, 8, dtype=DOUBLE)).sum().backward()
        dropped = layer.entries.bias.grad.view(16, 8, 8)[~layer.mask]
        assert bool(dropped.all()) is straight_through
        assert bool(dropped.any()) is straight_through


@pytest.mark.parametrize("kind", ["reflections", "rotations"])
def test_aligned_blocks_stay_inside_the_aligned_mask(kind):
    layer = AlignedMonarch(6, d_state=64, kind=kind, generator=stream(0)).double()
    blocks = torch.cat(layer(inputs()), dim=-3)
    assert not blocks[..., ~aligned_mask(8)].any()
    assert blocks[..., aligned_mask(8)].all()


def test_an_aligned_reflection_is_orthogonal_at_its_largest_beta():
    layer = AlignedMonarch(6, d_state=64, generator=stream(0)).double()
    with torch.no_grad():
        layer.entries.bias.view(16, 2, 5)[..., 0] = 40.0
    A = layer.dense(layer(inputs()))
    assert gap(A.mT @ A, torch.eye(64, dtype=DOUBLE).expand_as(A)) < 1e-12


@pytest.mark.parametrize("prune", ["dense", "2:4", "2:4, shuffled"])
def test_blocks_as_proposed_have_frobenius_norm_one_and_shrink_a_state(prune):
    layer = MaskedGatedMonarch(6, d_state=64, prune=prune, generator=stream(0)).double()
    blocks = torch.cat(layer.blocks())
    assert gap(blocks.square().sum((-1, -2)), torch.ones(16, dtype=DOUBLE)) < 1e-13
    assert is_two_four(blocks) is (prune != "dense")
    # Of an orthogonal block divided by sqrt(8), two in a row leave an eighth, and gates take more.
    dense = MaskedGatedMonarch(6, d_state=64, prune="dense", generator=stream(0)).double()
    A = dense.dense(dense(inputs()))
    assert torch.linalg.matrix_norm(A, 2).max() < 1 / 8


# --- counts --------------------------------------------------------------------------------------


def count(build, N=64):
    transition = build(64, d_state=N)
    mixer = StateSpace(64, transition, drive_bias=False, learn_initial=True)
    model = SequenceModel(11, 120, 64, [mixer])
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("build", "N", "parameters"),
    [
        (MonarchID, 64, 46_072),
        (FreeMonarch, 64, 83_512),
        (AlignedMonarch, 64, 27_352),
        (lambda d, **sizes: AlignedMonarch(d, kind="rotations", **sizes), 64, 29_432),
        (MonarchID, 36, 25_040),
    ],
)
def test_models_have_the_parameters_that_were_counted(build, N, parameters):
    assert count(build, N) == parameters


# --- trained side by side ------------------------------------------------------------------------


def models(seeds):
    built = []
    for seed in seeds:
        transition = FreeMonarch(
            16, d_state=64, pattern="magnitude", grouped=True, straight_through=True,
            generator=stream(seed), masks=stream(seed + 10),
        )  # fmt: skip
        mixer = StateSpace(16, transition, learn_initial=True, generator=stream(seed))
        built.append(SequenceModel(3, 6, 16, [mixer], generator=stream(seed)))
    return built


def choose(trained: list[nn.Module], update: int) -> None:
    for model in trained:
        model.mixers[0].transition.choosing = (
            "groupings and masks" if update == 2 else "masks" if update < 4 else "nothing"
        )


def test_masks_chosen_side_by_side_are_those_chosen_alone():
    S3 = groups.symmetric(3)
    task = WordProblem(S3, [1, 2], start_token=True)
    settings = {"steps": 6, "batch": 8, "length": 5, "lr": 1e-2, "device": "cpu"}
    together = models([0, 1])
    hook = partial(choose, together)
    fit_together(together, [task] * 2, seeds=[0, 1], before_update=hook, **settings)
    for seed, expected in zip([0, 1], together, strict=True):
        (alone,) = models([seed])
        first = alone.mixers[0].transition.mask.clone()
        hook = partial(choose, [alone])
        fit_together([alone], [task], seeds=[seed], before_update=hook, **settings)
        one, other = (each.mixers[0].transition for each in (alone, expected))
        assert not torch.equal(one.mask, first)
        assert torch.equal(one.mask, other.mask)
        assert torch.equal(one.grouping, other.grouping)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: FreeMonarch(4, d_state=16, pattern="sparse"), "pattern is 'sparse'"),
        (lambda: FreeMonarch(4, d_state=16, pattern="random", grouped=True), "groupings are for"),
        (lambda: FreeMonarch(4, d_state=9, pattern="aligned"), "multiple of four, got 3"),
        (lambda: FreeMonarch(4, d_state=15), "a square number of states"),
        (lambda: AlignedMonarch(4, d_state=36), "multiple of four, got 6"),
        (lambda: AlignedMonarch(4, d_state=16, kind="turns"), "kind is 'turns'"),
        (lambda: MaskedGatedMonarch(4, d_state=9), "multiple of four, got 3"),
        (lambda: MaskedGatedMonarch(4, d_state=16, prune="1:4"), "prune is '1:4'"),
    ],
)
def test_what_does_not_fit_is_named(build, said):
    with pytest.raises(ValueError, match=said):
        build()
