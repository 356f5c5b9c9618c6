"""Random tokens, each to be predicted from those before it: no causal model can."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lab.arguments import whole
from lab.tasks.base import Batch, check_length, check_request, masked_cross_entropy


@dataclass(frozen=True)
class RandomTokens:
    """Independent, uniform tokens; the target is the next one.

        input     a  c  b  b
        target    c  b  b  .

    Chance and floor are both log V: whoever is better has seen the future. The last step is not
    scored, and its target is 0.

    Args:
        vocabulary: V, number of tokens.

    Raises:
        ValueError: it is below 2.
    """

    vocabulary: int = 4

    def __post_init__(self) -> None:
        whole("RandomTokens", "vocabulary", self.vocabulary, least=2)

    @property
    def classes(self) -> int:
        """V: every token is a class."""
        return self.vocabulary

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs Int64["B T"], targets Int64["B T"], mask Bool["B T"], for a length above 1."""
        check_request(self, batch, length, generator)
        whole("RandomTokens.sample", "length", length, least=2)
        inputs = torch.randint(self.vocabulary, (batch, length), generator=generator)
        targets = torch.zeros_like(inputs)
        targets[:, :-1] = inputs[:, 1:]
        scored = torch.arange(length) < length - 1
        return Batch(inputs, targets, scored.expand(batch, length).clone())

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the scored steps; `model` gives logits ["B T V"]."""
        return masked_cross_entropy(model(batch.inputs), batch)

    def chance(self, length: int) -> float:
        """log V."""
        return math.log(self.vocabulary)

    def floor(self, length: int) -> float:
        """log V, for a model that does not see the future."""
        return math.log(self.vocabulary)

    def chance_accuracy(self, length: int) -> Float64[Tensor, "T"]:
        """1/V at every step."""
        check_length(self, length)
        return torch.full((length,), 1 / self.vocabulary, dtype=torch.float64)

    @property
    def ceilings(self) -> dict[str, float]:
        """None."""
        return {}

    def bits(self, length: int) -> float:
        """Nothing that a state holds helps."""
        check_length(self, length)
        return 0.0

    def distinct_inputs(self, length: int) -> float:
        """V to the power of T."""
        check_length(self, length)
        return float(self.vocabulary) ** length
