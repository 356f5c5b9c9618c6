"""Paired differences in clusters: against plain loops, and how often the claims are wrong."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import stream

from lab.experiment.clustered import (
    bootstrap,
    effect,
    effective_number,
    equivalence,
    holm,
    sign_flip,
    standard_error,
)

DOUBLE = torch.float64


def drawn(seed, *, clusters=12, size=6, shared=1.0, mean=0.0):
    """Units whose clusters have a part in common, with the standard deviation `shared`."""
    generator = stream(seed)
    own = torch.randn(clusters, size, generator=generator, dtype=DOUBLE)
    common = shared * torch.randn(clusters, 1, generator=generator, dtype=DOUBLE)
    return (mean + own + common).flatten(), torch.arange(clusters).repeat_interleave(size)


def test_the_p_value_is_the_share_of_all_flips_where_there_are_few():
    values = torch.tensor([0.5, 1.0, 0.3, -0.2, 0.9, 1.4], dtype=DOUBLE)
    clusters = torch.tensor([7, 7, 3, 3, 5, 9])
    sums = [1.5, 0.1, 0.9, 1.4]
    flipped = [abs(sum(s * x for s, x in zip(signs, sums, strict=True)))
               for signs in itertools.product((1, -1), repeat=4)]  # fmt: skip
    exact = sum(each >= abs(sum(sums)) - 1e-12 for each in flipped) / 16
    found = sign_flip(values, clusters, flips=40_000, generator=stream(0))
    assert found == pytest.approx(exact, abs=0.01)


def test_p_is_small_for_an_effect_and_never_zero():
    values, clusters = drawn(0, clusters=30, mean=3.0, shared=0.1)
    assert sign_flip(values, clusters, flips=999, generator=stream(0)) == pytest.approx(1 / 1000)


def test_flips_by_cluster_are_wrong_as_rarely_as_they_say_and_flips_by_unit_are_not():
    wrong = {"cluster": 0, "unit": 0}
    for seed in range(300):
        values, clusters = drawn(seed, shared=1.5)
        for how, groups in (("cluster", clusters), ("unit", torch.arange(len(values)))):
            wrong[how] += sign_flip(values, groups, flips=200, generator=stream(seed)) < 0.05
    # Of 300 at 5 %: 15 expected, and above 26 with a probability of 0.3 %.
    assert wrong["cluster"] <= 26
    assert wrong["unit"] > 60


def test_an_interval_holds_the_mean_as_often_as_it_says():
    held = 0
    for seed in range(200):
        values, clusters = drawn(seed, clusters=40, mean=0.7)
        found = bootstrap(values, clusters, draws=400, generator=stream(seed))
        held += found.low <= 0.7 <= found.high
    # Percentile intervals of 40 clusters are a little short: 93 to 94 %.
    assert 178 <= held <= 199


def test_the_standard_error_is_the_sandwich_of_clusters():
    values, clusters = drawn(3, clusters=5, size=4)
    total = sum(
        ((values - values.mean())[clusters == c].sum() ** 2).item() for c in range(5)
    )  # fmt: skip
    expected = math.sqrt(5 / 4 * total) / 20
    assert standard_error(values, clusters) == pytest.approx(expected)


def test_the_effective_number_lies_between_clusters_and_units():
    values, _ = drawn(0, clusters=1000, size=1, shared=0.0)
    alone = effective_number(values, torch.arange(1000))
    assert alone == pytest.approx(1000)
    repeated = values.repeat_interleave(5)
    found = effective_number(repeated, torch.arange(1000).repeat_interleave(5))
    assert found == pytest.approx(1000, rel=0.01)
    assert math.isnan(effective_number(torch.ones(4), torch.tensor([0, 0, 1, 1])))


def test_equivalence_is_that_of_two_t_tests():
    from scipy.stats import ttest_1samp

    values = 0.1 * torch.randn(40, generator=stream(0), dtype=DOUBLE) + 0.01
    expected = max(
        ttest_1samp(values, -0.05, alternative="greater").pvalue,
        ttest_1samp(values, 0.05, alternative="less").pvalue,
    )
    assert equivalence(values, torch.arange(40), margin=0.05) == pytest.approx(expected)
    assert equivalence(values + 0.2, torch.arange(40), margin=0.05) > 0.99
    assert equivalence(torch.zeros(4), torch.tensor([0, 0, 1, 1]), margin=0.01) == 0
    assert equivalence(torch.ones(4), torch.tensor([0, 0, 1, 1]), margin=0.01) == 1


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(p):
    adjusted = holm(p)
    for alpha in (0.01, 0.05, 0.3):
        rejected, order = set(), sorted(range(len(p)), key=p.__getitem__)
        for rank, i in enumerate(order):
            if p[i] * (len(p) - rank) > alpha:
                break
            rejected.add(i)
        assert {i for i, each in enumerate(adjusted) if each <= alpha} == rejected


def test_everything_together_says_what_the_parts_say():
    values, clusters = drawn(1, mean=0.5)
    found = effect(values, clusters, margin=2.0, generator=stream(5), draws=500)
    assert (found.units, found.clusters) == (72, 12)
    assert found.low <= found.mean <= found.high
    assert found.mean == pytest.approx(values.mean().item())
    assert found.d_z == pytest.approx((values.mean() / values.std()).item())
    assert found.p_equivalence == equivalence(values, clusters, margin=2.0)
    assert found == effect(values, clusters, margin=2.0, generator=stream(5), draws=500)


@pytest.mark.parametrize(
    ("values", "clusters", "sentence"),
    [
        (torch.ones(3), torch.tensor([0, 1]), r"'\(3,\) and \(2,\)'; it must be one row"),
        (torch.tensor([1.0, math.nan]), torch.tensor([0, 1]), "it must be finite numbers"),
        (torch.ones(2), torch.tensor([4, 4]), r"clusters is \[4\]; it must be two or more"),
    ],
)
def test_what_does_not_fit_is_named(values, clusters, sentence):
    with pytest.raises(ValueError, match=sentence):
        effect(values, clusters, margin=1, generator=stream(0))
    with pytest.raises(ValueError, match="margin is 0; it must be above 0"):
        equivalence(torch.ones(2), torch.tensor([0, 1]), margin=0)
    with pytest.raises(ValueError, match=r"level is 1; it must be in \(0, 1\)"):
        bootstrap(torch.ones(2), torch.tensor([0, 1]), level=1, generator=stream(0))
