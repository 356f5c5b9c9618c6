"""The interface of all tasks, and a fixed data set drawn from a task."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64, Num
from torch import Tensor
from torch.nn import functional

from lab.arguments import refuse, whole


class Batch(NamedTuple):
    """Examples of one length.

    inputs: if S is below the length T of the targets, the input is zero afterwards.
    targets: what a model should output.
    mask: the steps that are scored.
    """

    inputs: Num[Tensor, "B S ..."]
    targets: Num[Tensor, "B T ..."]
    mask: Bool[Tensor, "B T"]


class Task(Protocol):
    """A source of examples with known limits. All random draws come from the given generator."""

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """`batch` examples of `length` steps."""

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Float[Tensor, ""]:
        """The mean loss of `model` over the scored steps of `batch`, differentiable."""

    def chance(self, length: int) -> float:
        """The loss of predicting zero at every step, or of guessing if zero is no valid answer."""

    def floor(self, length: int) -> float:
        """The lowest loss that any model can reach."""

    def distinct_inputs(self, length: int) -> float:
        """Number of different inputs, possibly inf."""


@runtime_checkable
class TokenTask(Task, Protocol):
    """A task whose inputs are tokens ["B T"], and whose targets are classes ["B T"]."""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""

    @property
    def classes(self) -> int:
        """How many classes there are."""

    @property
    def ceilings(self) -> Mapping[str, float]:
        """Best accuracies, at any length, of models that know only a part of the input, by name."""

    def chance_accuracy(self, length: int) -> Float64[Tensor, "T"]:
        """How often the best guess that knows the step and no token is right."""

    def bits(self, length: int) -> float:
        """What the state of a model that is always right must hold at some step, in bits."""


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


def masked_cross_entropy(logits: Float[Tensor, "B T classes"], batch: Batch) -> Float[Tensor, ""]:
    """Mean cross-entropy over the scored steps, of logits ["B T classes"]."""
    losses = functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), reduction="none"
    )
    # A product instead of an index, because torch.vmap does not support data-dependent shapes.
    return (losses * batch.mask.flatten()).sum() / batch.mask.sum()


def of_tokens(task: Task) -> TokenTask | None:
    """The task of tokens that this is, or is a fixed set of; None if there is none."""
    source = task.task if isinstance(task, Stored) else task
    return source if isinstance(source, TokenTask) else None


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
