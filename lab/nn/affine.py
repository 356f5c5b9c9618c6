"""Affine maps of the input whose outputs start where they are told to."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lab.nn.linear import precise_product
from lab.nn.weight_decay import without_decay


class Affine(nn.Module):
    """x -> weight x + bias in float32 at least, from a given bias and a weight drawn around zero.

    Args:
        d_input: width of x.
        start: Float["d_output"], the bias, so what comes out for x = 0.
        spread: standard deviation of what a token adds at the start, for x of unit mean square;
            0 draws nothing and starts the weight at zero.
        generator: the stream of the draw.
    """

    def __init__(
        self,
        d_input: int,
        start: Tensor,
        *,
        spread: float,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        if spread:
            normal = torch.randn(len(start), d_input, generator=generator, dtype=start.dtype)
            self.weight = nn.Parameter(spread / math.sqrt(d_input) * normal)
        else:
            self.weight = nn.Parameter(start.new_zeros(len(start), d_input))
        self.bias = nn.Parameter(start.clone())
        without_decay(self, "bias")

    def forward(self, x: Tensor) -> Tensor:
        """["... d_input"] to ["... d_output"]."""
        return precise_product(x, self.weight, self.bias)


def affine(maps: Sequence[Affine], x: Tensor) -> tuple[Tensor, ...]:
    """What each of the maps makes of x ["... d_input"], by one matrix product for all of them."""
    weight = torch.cat([each.weight for each in maps])
    bias = torch.cat([each.bias for each in maps])
    return precise_product(x, weight, bias).split([len(each.bias) for each in maps], dim=-1)
