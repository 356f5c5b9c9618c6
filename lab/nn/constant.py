"""A learned vector that is the same at every position, in place of a layer that is taken out."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.arguments import whole
from lab.nn.weight_decay import without_decay


class Constant(nn.Module):
    """y[t] = v, whatever x is: D parameters, zero at the start.

    An ablation that puts it in the place of a layer leaves the mean of that layer's output, and
    takes everything else away.

    Args:
        d_model: D.

    Raises:
        ValueError: D is not a whole number of at least 1.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(whole("Constant", "d_model", d_model, least=1)))
        without_decay(self, "vector")

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """v at every position of x."""
        return self.vector.expand_as(x)

    def step(
        self, x_t: Float[Tensor, "B D"], state: Any = None
    ) -> tuple[Float[Tensor, "B D"], Any]:
        """`forward` at one position; there is no state."""
        return self(x_t), state
