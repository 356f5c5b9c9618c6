"""What several test files need to draw and compare tensors."""

import torch
from torch import Tensor


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gap(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest finite entry if that is above 1.

    Equal infinities do not differ; anything else that is not finite makes the gap NaN or infinite.
    """
    assert actual.shape == expected.shape
    if not expected.numel():
        return 0.0
    differences = torch.where(actual == expected, 0, (actual - expected).abs())
    largest = torch.where(expected.isfinite(), expected.abs(), 0).max()
    return (differences.max() / largest.clamp_min(1)).item()
