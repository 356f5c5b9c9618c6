"""Power of the paired t test: known values, and simulated ones."""

import pytest
import torch
from numeric import stream

from lab.experiment.power import detectable, effect_of, pairs_needed, power


# What experiment 100 states of the published test, to the digits that it has.
def test_the_numbers_of_the_published_intervention():
    assert effect_of(0.0886, 10) == pytest.approx(0.60, abs=0.005)
    assert power(0.6, 10) == pytest.approx(0.40, abs=0.005)
    assert power(0.6, 24) == pytest.approx(0.81, abs=0.01)
    assert power(0.6, 36, alpha=0.01) == pytest.approx(0.81, abs=0.01)
    assert pairs_needed(0.2) == pytest.approx(199, abs=1)
    assert detectable(512) == pytest.approx(0.124, abs=0.001)


def test_the_p_value_of_an_effect_is_that_of_the_test():
    from scipy.stats import ttest_1samp

    values = torch.randn(15, generator=stream(0), dtype=torch.float64) + 0.4
    p = float(ttest_1samp(values, 0).pvalue)
    assert effect_of(p, 15) == pytest.approx((values.mean() / values.std()).item())


def test_power_is_the_share_of_trials_that_find_the_effect():
    from scipy.stats import ttest_1samp

    values = torch.randn(4000, 12, generator=stream(0), dtype=torch.float64) + 0.8
    found = (ttest_1samp(values, 0, axis=1).pvalue < 0.05).mean()
    assert power(0.8, 12) == pytest.approx(found, abs=0.02)
    assert power(0, 12) == pytest.approx(0.05)
    assert power(3.0, 5000) == 1


def test_numbers_needed_and_effects_that_are_seen_are_the_smallest():
    for d_z in (0.1, 0.5, 2.0):
        n = pairs_needed(d_z)
        assert power(d_z, n) >= 0.8 > power(d_z, n - 1)
    assert power(detectable(30), 30) == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: power(0.5, 1), "power: pairs is 1; it must be above 1"),
        (lambda: power(0.5, 9, alpha=1), r"power: alpha is 1; it must be in \(0, 1\)"),
        (lambda: pairs_needed(0), "pairs_needed: d_z is 0; it must be at least 0.001"),
        (lambda: detectable(9, wanted=2), r"detectable: wanted is 2; it must be in \(0, 1\)"),
        (lambda: effect_of(0.5, 1), "effect_of: pairs is 1; it must be at least 2"),
    ],
)
def test_what_is_out_of_range_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
