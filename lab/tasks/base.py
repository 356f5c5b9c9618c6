"""The interface of all tasks, and a fixed data set drawn from a task."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from lab.arguments import refuse, whole


class Batch(NamedTuple):
    """Examples of one length.

    inputs: ["B S ..."]; if S is below the length T of the targets, the input is zero afterwards.
    targets: ["B T ..."].
    mask: Bool["B T"], the steps that are scored.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor


class Task(Protocol):
    """A source of examples with known limits. All random draws come from the given generator."""

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """`batch` examples of `length` steps."""

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """[]: the mean loss of `model` over the scored steps of `batch`, differentiable."""

    def chance(self, length: int) -> float:
        """The loss of predicting zero at every step, or of guessing if zero is no valid answer."""

    def floor(self, length: int) -> float:
        """The lowest loss that any model can reach."""

    def distinct_inputs(self, length: int) -> float:
        """Number of different inputs, possibly inf."""


def check_request(task: object, batch: int, length: int, generator: torch.Generator) -> None:
    """Check the arguments of a task's `sample`.

    Raises:
        ValueError: batch is not a whole number of at least 0, length is not a whole number of at
            least 1, or the generator is missing.
    """
    where = f"{type(task).__name__}.sample"
    whole(where, "batch", batch, least=0)
    whole(where, "length", length, least=1)
    if not isinstance(generator, torch.Generator):
        refuse(where, "generator", generator, "a torch.Generator, such as lab.seeding.stream gives")


def check_length(task: object, length: int) -> None:
    """Check that a length is a whole number of at least 1.

    Raises:
        ValueError: it is not.
    """
    whole(type(task).__name__, "length", length, least=1)


def masked_cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """[]: mean cross-entropy over the scored steps, of logits ["B T classes"]."""
    losses = functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), reduction="none"
    )
    # A product instead of an index, because torch.vmap does not support data-dependent shapes.
    return (losses * batch.mask.flatten()).sum() / batch.mask.sum()


class Stored:
    """A fixed set of examples of a task, drawn once, such as 'a training set of 8,000'.

    Batches are drawn from the set with replacement.

    Args:
        task: the task that provides the examples, the loss and the limits.
        size: number of examples.
        length: length of all examples; `sample` accepts no other.
        generator: random stream of the examples.

    Raises:
        ValueError: the size or the length is not a whole number of at least 1.
    """

    def __init__(self, task: Task, size: int, length: int, generator: torch.Generator) -> None:
        self.size = whole("Stored", "size", size, least=1)
        self.task, self.length = task, whole("Stored", "length", length, least=1)
        self.examples = task.sample(size, length, generator)
        self.loss, self.chance, self.floor = task.loss, task.chance, task.floor

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """`batch` of the stored examples, drawn with replacement."""
        check_request(self, batch, length, generator)
        if length != self.length:
            raise ValueError(f"the stored examples have {self.length} steps, not {length}")
        chosen = torch.randint(self.size, (batch,), generator=generator)
        return Batch(*(part[chosen] for part in self.examples))

    def distinct_inputs(self, length: int) -> float:
        """The number of stored examples, or that of the task if it is smaller."""
        return min(self.size, self.task.distinct_inputs(length))
