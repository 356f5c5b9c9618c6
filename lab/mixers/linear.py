"""A dense layer whose first weights come from a stream of their own."""

import math

import torch
from torch import Tensor, nn


def linear(
    d_in: int,
    d_out: int,
    *,
    bias: bool = True,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Linear:
    """["... d_in"] to ["... d_out"], as torch draws it but from `generator`.

    Weights and biases are uniform in (-1, 1) / sqrt(d_in); weights are multiplied by `gain`.
    """
    layer = nn.utils.skip_init(nn.Linear, d_in, d_out, bias=bias, dtype=dtype)
    reach = 1 / math.sqrt(d_in)
    with torch.no_grad():
        layer.weight.copy_(gain * _uniform(layer.weight, reach, generator))
        if bias:
            layer.bias.copy_(_uniform(layer.bias, reach, generator))
    return layer


def _uniform(like: Tensor, reach: float, generator: torch.Generator | None) -> Tensor:
    return reach * (2 * torch.rand(like.shape, generator=generator, dtype=like.dtype) - 1)
