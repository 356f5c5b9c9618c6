"""What several test files need to draw and compare tensors."""

import torch
from torch import Tensor


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gap(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest entry if that is above 1."""
    assert actual.shape == expected.shape
    if not expected.numel():
        return 0.0
    return ((actual - expected).abs().max() / expected.abs().max().clamp_min(1)).item()
