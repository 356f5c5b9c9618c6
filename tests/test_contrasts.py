"""Contrasts recover the effects that were put into a factorial experiment."""

import pytest
import torch
from numeric import stream

from lab.statistics import contrast, contrasts


def additive(seeds=4):
    """a adds 3, b adds 1, both together 0.5 more, c nothing; seeds differ."""
    a, b = torch.meshgrid(torch.arange(2.0), torch.arange(2.0), indexing="ij")
    cells = (3 * a + b + 0.5 * a * b)[..., None, None].expand(2, 2, 2, 1)
    return cells + torch.randn(seeds, generator=stream(0)).double()


def test_what_all_share_cancels():
    values = additive()
    assert torch.allclose(contrast(values, (1,)).view(2, 2, -1)[0], torch.ones(()).double())
    assert torch.allclose(contrast(values, (1,)).view(2, 2, -1)[1], torch.tensor(1.5).double())
    assert torch.allclose(contrast(values, (0, 1)), torch.tensor(0.5).double())
    assert contrast(values, (0, 1)).shape == (8,)


def test_all_effects_have_names():
    found = contrasts(additive(), ("a", "b", "c"))
    assert {name: len(each) for name, each in found.items()} == {
        "a": 16, "b": 16, "c": 16, "a x b": 8, "a x c": 8, "b x c": 8
    }  # fmt: skip
    means = {name: round(each.mean().item(), 6) for name, each in found.items()}
    assert means == {"a": 3.25, "b": 1.25, "c": 0, "a x b": 0.5, "a x c": 0, "b x c": 0}


def test_axes_are_checked():
    for axis in (3, -1):
        with pytest.raises(ValueError, match="no factor"):
            contrast(additive(), (axis,))
    with pytest.raises(ValueError, match="2 names"):
        contrasts(additive(), ("a", "b"))
