"""A dense layer whose initial weights come from a given random stream."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.linalg.precision import widened


def linear(
    d_in: int,
    d_out: int,
    *,
    bias: bool = True,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Linear:
    """torch's dense layer ["... d_in"] to ["... d_out"], initialised from `generator`.

    Weights and biases are uniform in (-1, 1) / sqrt(d_in); weights are multiplied by `gain`.
    """
    layer = nn.utils.skip_init(nn.Linear, d_in, d_out, bias=bias, dtype=dtype)
    reach = 1 / math.sqrt(d_in)
    with torch.no_grad():
        layer.weight.copy_(gain * _uniform(layer.weight, reach, generator))
        if bias:
            layer.bias.copy_(_uniform(layer.bias, reach, generator))
    return layer


def precise(layer: nn.Linear, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
    """layer(x), in float32 at least, even under torch.autocast or with half-precision weights.

    This is for numbers that act on a state at every step (decays, phases, entries of a transition),
    where relative errors of 2^-8 would add up over the steps.
    """
    return precise_product(x, layer.weight, layer.bias)


@widened
def precise_product(
    x: Float[Tensor, "... d_in"],
    weight: Float[Tensor, "d_out d_in"],
    bias: Float[Tensor, "d_out"] | None,
) -> Float[Tensor, "... d_out"]:
    """`precise` for given x ["... d_in"], weight ["d_out d_in"] and bias ["d_out"]."""
    return nn.functional.linear(x, weight, bias)


def _uniform(like: Tensor, reach: float, generator: torch.Generator | None) -> Tensor:
    return reach * (2 * torch.rand(like.shape, generator=generator, dtype=like.dtype) - 1)
