"""The rule for doses: an effect, none, or undecided, where it is known which."""

import pytest
import torch
from numeric import stream

from lab.experiment.clustered import effect, holm
from lab.experiment.dose_response import judged, with_effect

CLUSTERS = torch.arange(40).repeat_interleave(3)


def differences(mean, spread, seed=0):
    drawn = torch.randn(120, generator=stream(seed), dtype=torch.float64)
    return mean + spread * (drawn - drawn.mean()) / drawn.std()


def rule(found, **changed):
    settings = {"alpha": 0.01, "least": 0.02, "margin": 0.01, "draws": 2000} | changed
    return judged(found, CLUSTERS, generator=stream(1), **settings)


def test_each_outcome_is_the_one_that_it_was_made_for():
    found = rule({
        0.1: differences(0.05, 0.05), 0.3: differences(-0.05, 0.05), 0.5: differences(0.0, 0.01),
        0.7: differences(0.012, 0.01), 0.9: differences(0.03, 0.5),
    })  # fmt: skip
    expected = ["effect", "effect", "none", "undecided", "undecided"]
    assert [each.outcome for each in found.values()] == expected
    assert found[0.7].p_holm < 0.01  # surely not zero, and too small to count
    assert with_effect(found) == (2, 2, 4)
    assert found[0.1].row()["outcome"] == "effect"


def test_p_values_are_adjusted_over_all_doses():
    rows = {r: differences(0.03, 0.17, seed=i) for i, r in enumerate((0.1, 0.5, 0.9))}
    generator = stream(1)
    alone = [
        effect(each, CLUSTERS, margin=0.01, draws=2000, generator=generator).p
        for each in rows.values()
    ]
    assert [each.p_holm for each in rule(rows).values()] == pytest.approx(holm(alone))


def test_no_effect_anywhere_is_a_count_of_zero_and_an_unknown_one_is_an_interval():
    nothing = {r: differences(0.0, 0.01, seed=i) for i, r in enumerate((0.1, 0.5, 0.9))}
    assert with_effect(rule(nothing)) == (0, 0, 0)
    assert with_effect(rule(nothing | {0.7: differences(0.0, 2.0)})) == (0, 0, 1)


def test_a_margin_beyond_the_smallest_effect_is_refused():
    with pytest.raises(ValueError, match=r"margin is 0\.02; it must be below least, 0\.02"):
        rule({0.1: differences(0, 1)}, margin=0.02)
