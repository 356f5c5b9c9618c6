"""Models that see the future are caught, however rarely it shows; causal mixers never are."""

import math

import pytest
import torch
from numeric import stream
from transition_cases import D_MODEL, MIXERS

from lab.audit.look_ahead import look_ahead


def pair(B=16, T=24, seed=0):
    x, change = torch.randn(2, B, T, D_MODEL, dtype=torch.float64, generator=stream(seed))
    return x, x + change


@pytest.mark.parametrize("case", MIXERS, ids=lambda case: case.name)
def test_causal_mixers_pass(case):
    assert look_ahead(case.mixer(), *pair()).size < 1e-10


def every_fourth(x):
    """Compares the first step with the fourth, and no others."""
    y = x.clone()
    if x.shape[1] >= 4:
        y[:, 0] += (x[:, 3] > 2.5) * 1.0
    return y


def short_only(x):
    """Sees the end of sequences of at most eight steps."""
    return x + (x[:, -1:] if x.shape[1] <= 8 else 0)


def end_alone(x):
    """The last step wins against the first if it is the larger one."""
    return x + (x[:, -1:] > x[:, :1]) * 1.0


def one_step_alone(x):
    """The sum of two late steps: together they may hide what one of them shows."""
    return x + x[:, -2:].sum(1, keepdim=True)


@pytest.mark.parametrize("model", [every_fourth, short_only, end_alone, one_step_alone])
def test_what_looks_ahead_is_caught(model):
    found = look_ahead(model, *pair())
    assert found.size > 0.1
    assert 1 <= found.step < found.length <= 24


def test_nan_is_a_move():
    assert math.isnan(look_ahead(lambda x: x * torch.nan, *pair()).size)


def test_a_sequence_of_one_step_has_no_future():
    x, other = pair(T=1)
    assert look_ahead(lambda x: x, x, other).size == 0


def test_shapes_that_differ_are_refused():
    x, other = pair()
    with pytest.raises(ValueError, match="must have one shape"):
        look_ahead(lambda x: x, x, other[:, 1:])
