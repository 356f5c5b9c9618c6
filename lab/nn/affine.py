"""Affine maps of the input with a chosen bias at initialisation."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.nn.linear import precise_product
from lab.nn.weight_decay import without_decay


class Affine(nn.Module):
    """x -> weight x + bias in float32 at least, with a given initial bias and a random weight.

    Args:
        d_input: width of x.
        start: Float["d_output"], the initial bias, which is the output for x = 0.
        spread: standard deviation of weight x at initialisation, for x of unit mean square; if it
            is 0, the weight starts at zero and nothing is drawn.
        generator: random stream of the initial weight.
    """

    def __init__(
        self,
        d_input: int,
        start: Float[Tensor, "d_output"],
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

    def forward(self, x: Float[Tensor, "... d_input"]) -> Float[Tensor, "... d_output"]:
        """["... d_input"] to ["... d_output"]."""
        return precise_product(x, self.weight, self.bias)


def affine(
    maps: Sequence[Affine], x: Float[Tensor, "... d_input"]
) -> tuple[Float[Tensor, "... _"], ...]:
    """The output of each map for x ["... d_input"], by one matrix product for all maps."""
    weight = torch.cat([each.weight for each in maps])
    bias = torch.cat([each.bias for each in maps])
    return precise_product(x, weight, bias).split([len(each.bias) for each in maps], dim=-1)
