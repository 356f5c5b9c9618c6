"""A task that consists of a different task for every length."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lab.arguments import whole
from lab.tasks.base import Batch, TokenTask, check_request


class ByLength:
    """One task per length, such as recall of 4 pairs in 13 steps and of 8 pairs in 25 steps.

    Args:
        tasks: the task for each length. All of them have the same loss; the largest vocabulary is
            used for all.

    Raises:
        ValueError: there are no tasks, or a length is not a whole number of at least 1.
    """

    def __init__(self, tasks: Mapping[int, TokenTask]) -> None:
        if not tasks:
            raise ValueError("there are no tasks: give at least one length")
        self.tasks = {whole("ByLength", "a length", n, least=1): t for n, t in tasks.items()}
        self.vocabulary = max(task.vocabulary for task in self.tasks.values())
        self.classes = max(task.classes for task in self.tasks.values())

    def at(self, length: int) -> TokenTask:
        """The task of that length.

        Raises:
            ValueError: there is no task of that length.
        """
        length = whole("ByLength", "length", length)
        if length not in self.tasks:
            raise ValueError(f"there is no task of {length} steps, only of {sorted(self.tasks)}")
        return self.tasks[length]

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """`batch` examples of the task of that length."""
        check_request(self, batch, length, generator)
        return self.at(length).sample(batch, length, generator)

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Float[Tensor, ""]:
        """The loss that all tasks share."""
        return self.at(batch.targets.shape[1]).loss(model, batch)

    def chance(self, length: int) -> float:
        """The chance level of the task of that length."""
        return self.at(length).chance(length)

    def floor(self, length: int) -> float:
        """The floor of the task of that length."""
        return self.at(length).floor(length)

    def chance_accuracy(self, length: int) -> Float64[Tensor, "T"]:
        """That of the task of that length."""
        return self.at(length).chance_accuracy(length)

    @property
    def ceilings(self) -> dict[str, float]:
        """None that hold at every length: `at(length)` has those of one."""
        return {}

    def bits(self, length: int) -> float:
        """Those of the task of that length."""
        return self.at(length).bits(length)

    def distinct_inputs(self, length: int) -> float:
        """Number of inputs of the task of that length."""
        return self.at(length).distinct_inputs(length)
