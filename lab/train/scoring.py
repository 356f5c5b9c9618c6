"""Scores of a trained model on fresh examples, the same for the same seed."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lab.arguments import whole
from lab.seeding import stream
from lab.tasks import Task
from lab.train.side_by_side import device_of, to_device

_CHUNK = 1000  # examples drawn at once for a score; another number would draw others


@torch.no_grad()
def accuracy(
    model: Callable[[Tensor], Tensor],
    task: Task,
    *,
    length: int,
    samples: int,
    seed: int,
    chunk: int = _CHUNK,
) -> Tensor:
    """Float["T"]: the share of right answers of a classifier at every step, NaN where none counts.

    The examples are those of `evaluate`, drawn and shown in chunks that fit into memory, on the
    device of the model if it is a module. Other chunks draw other examples.

    Raises:
        ValueError: length, samples or chunk is no whole number of at least 1, or the seed is none.
    """
    right, scored = _counts(model, task, length, samples, seed, chunk)
    return right / scored


@torch.no_grad()
def scored_accuracy(
    model: Callable[[Tensor], Tensor],
    task: Task,
    *,
    length: int,
    samples: int,
    seed: int,
    chunk: int = _CHUNK,
) -> float:
    """The share of right answers over all scored steps, wherever they are; else as `accuracy`."""
    right, scored = _counts(model, task, length, samples, seed, chunk)
    return (right.sum() / scored.sum()).item()


@torch.no_grad()
def evaluate(
    model: nn.Module, task: Task, *, length: int, samples: int, seed: int
) -> dict[str, float]:
    """Score a model on fresh examples, drawn and shown in chunks that fit into memory.

    Returns:
        loss: the mean over `samples` examples of `length` steps; floor and chance: the task's own.

    Raises:
        ValueError: length or samples is no whole number of at least 1, the seed is none, or the
            model has no parameters.
    """
    _check_scoring("evaluate", length, samples)
    device = device_of(model, "evaluate")
    generator, scored, total = stream(seed, "scoring"), 0, 0.0
    for begin in range(0, samples, _CHUNK):
        size = min(_CHUNK, samples - begin)
        examples = to_device(task.sample(size, length, generator), device)
        steps = int(examples.mask.sum())
        scored, total = scored + steps, total + task.loss(model, examples).item() * steps
    return {"loss": total / scored, "floor": task.floor(length), "chance": task.chance(length)}


def mean_loss(model: nn.Module, task: Task, *, length: int, samples: int, seed: int) -> float:
    """The loss of `evaluate` alone, as arms of an experiment are scored by it."""
    return evaluate(model, task, length=length, samples=samples, seed=seed)["loss"]


def _counts(
    model: Callable[[Tensor], Tensor], task: Task, length: int, samples: int, seed: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """["T"] each: right answers of a classifier, and how many counted."""
    _check_scoring("accuracy", length, samples)
    whole("accuracy", "chunk", chunk, least=1)
    device = torch.device("cpu")
    if isinstance(model, nn.Module):
        device = device_of(model, "accuracy")
    generator, right, scored = stream(seed, "scoring"), torch.zeros(()), torch.zeros(())
    for begin in range(0, samples, chunk):
        examples = task.sample(min(chunk, samples - begin), length, generator)
        inputs, targets, mask = to_device(examples, device)
        found = model(inputs).argmax(-1) == targets
        right, scored = right + (found & mask).sum(0).cpu(), scored + mask.sum(0).cpu()
    return right, scored


def _check_scoring(where: str, length: int, samples: int) -> None:
    whole(where, "length", length, least=1)
    whole(where, "samples", samples, least=1)
