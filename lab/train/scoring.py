"""Scores of a trained model on fresh examples, the same for the same seed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lab.arguments import whole
from lab.seeding import own_randomness, stream
from lab.tasks import Task
from lab.train.side_by_side import device_of, to_device


@dataclass(frozen=True)
class Score:
    """What a model made of fresh examples.

    Attributes:
        loss: the mean over all scored steps; `task.floor` and `task.chance` are what to hold it
            against.
        by_step: Float["T"], the share of right answers at every step, NaN where none counts. NaN
            throughout where targets are numbers, and not classes.
        accuracy: the share of right answers over all scored steps, wherever they are; NaN likewise.
    """

    loss: float
    by_step: Tensor
    accuracy: float


@torch.no_grad()
def score(
    model: Callable[..., Tensor],
    task: Task,
    *,
    length: int,
    samples: int,
    seed: int,
    chunk: int = 1000,
) -> Score:
    """Score a model on fresh examples, drawn and shown in chunks that fit into memory.

    Args:
        model: shown the examples on its own device if it is a module, which stays in the mode it
            is in, training or evaluation. What it draws from torch's global generators depends on
            the seed alone.
        task: where the examples and the loss come from; its loss calls the model once.
        length: time steps of an example.
        samples: how many examples.
        seed: of the examples, whose stream is not that of training.
        chunk: examples drawn at once. Other chunks draw other examples.

    Raises:
        ValueError: length, samples or chunk is no whole number of at least 1, the seed is none, or
            the model is a module without parameters.
    """
    whole("score", "length", length, least=1)
    whole("score", "samples", samples, least=1)
    whole("score", "chunk", chunk, least=1)
    device = torch.device("cpu")
    if isinstance(model, nn.Module):
        device = device_of(model, "score")
    generator, steps, loss = stream(seed, "scoring"), 0, 0.0
    right, counted = torch.zeros(()), torch.zeros(())
    with own_randomness(seed, device, "noise of scores"):
        for begin in range(0, samples, chunk):
            drawn = task.sample(min(chunk, samples - begin), length, generator)
            examples, shown = to_device(drawn, device), _Shown(model)
            scored = int(examples.mask.sum())
            steps, loss = steps + scored, loss + task.loss(shown, examples).item() * scored
            right = right + (shown.right(examples.targets) * examples.mask).sum(0).cpu()
            counted = counted + examples.mask.sum(0).cpu()
    return Score(loss / steps, right / counted, (right.sum() / counted.sum()).item())


class _Shown:
    """A model that is asked once, and keeps what it said."""

    def __init__(self, model: Callable[..., Tensor]) -> None:
        self.model = model
        self.said: list[Tensor] = []

    def __call__(self, *inputs: Any) -> Tensor:
        self.said.append(self.model(*inputs))
        return self.said[-1]

    def right(self, targets: Tensor) -> Tensor:
        """Float["B T"]: which of the answers are right; NaN where targets are no classes."""
        if targets.is_floating_point():
            return torch.full(targets.shape[:2], math.nan, device=targets.device)
        (logits,) = self.said
        return (logits.argmax(-1) == targets).float()
