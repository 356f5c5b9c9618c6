"""A task with a penalty in its loss, which the model computes; cross-entropy and penalty apart."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lab.arguments import finite
from lab.tasks.base import Batch, TokenTask


class Penalised:
    """The examples of a task; the loss is cross-entropy + weight * penalty.

    A comparison of such losses compares penalties, too: scores should be those of the task itself,
    `task.loss`.

    Args:
        task: where examples and cross-entropy come from.
        weight: of the penalty, at least 0.

    Raises:
        ValueError: the weight is not such a number.
    """

    def __init__(self, task: TokenTask, *, weight: float) -> None:
        self.task, self.weight = task, finite("Penalised", "weight", weight, least=0)
        self.vocabulary, self.classes = task.vocabulary, task.classes
        self.sample, self.chance, self.floor = task.sample, task.chance, task.floor
        self.chance_accuracy, self.bits = task.chance_accuracy, task.bits
        self.ceilings, self.distinct_inputs = task.ceilings, task.distinct_inputs

    def loss(self, model: Callable[..., Any], batch: Batch) -> Float[Tensor, ""]:
        """The sum, in nats; `model(tokens, True)` gives logits and a penalty."""
        cross_entropy, penalty = self.parts(model, batch)
        return cross_entropy + self.weight * penalty

    def parts(
        self, model: Callable[..., Any], batch: Batch
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Cross-entropy, in nats, and the penalty before it is weighted."""
        logits, penalty = model(batch.inputs, True)
        return self.task.loss(lambda _: logits, batch), penalty

    def logged(self, batch: Batch) -> Callable[[Any], Float[Tensor, "3"]]:
        """For `watch` of a training: cross-entropy, penalty and loss on these examples."""

        def look(model: Any) -> Tensor:
            cross_entropy, penalty = self.parts(model, batch)
            return torch.stack([cross_entropy, penalty, cross_entropy + self.weight * penalty])

        return look
