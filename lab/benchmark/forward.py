"""How long forward passes and steps of training take, side by side."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

from lab.benchmark.timing import milliseconds
from lab.seeding import stream
from lab.tasks import Task


def forward_milliseconds(
    modules: Mapping[str, nn.Module], x: Tensor, *, rounds: int = 15, budget: float = 2.0
) -> dict[str, float]:
    """Milliseconds of a forward pass without gradients by name, the median over turns.

    Every module runs once before it is timed.

    Args:
        modules: by name.
        x: what all of them are given.
        rounds, budget: as for `take_turns`.
    """
    calls = {name: torch.no_grad()(partial(module, x)) for name, module in modules.items()}
    return milliseconds(calls, rounds=rounds, budget=budget, label="forward")


def training_milliseconds(
    forms: Mapping[str, Callable[[nn.Module, Tensor], Tensor]], module: nn.Module, x: Tensor,
    targets: Tensor, *, rounds: int = 5, budget: float = 2.0,
) -> dict[str, float]:  # fmt: skip
    """Milliseconds of a step of training by name, for several ways to compute one module.

    A step is the outputs, their mean squared error, the gradients and an update by Adam. Each way
    has a copy of the module, and makes one step before it is timed.

    Args:
        forms: called with a copy of the module and `x`, by name.
        module: what is trained; stays as it is.
        x, targets: of every step.
        rounds, budget: as for `take_turns`.
    """
    calls = {
        name: _training_step(form, deepcopy(module), x, targets) for name, form in forms.items()
    }
    return milliseconds(calls, rounds=rounds, budget=budget, label="a step of training")


def training_step(model: nn.Module, task: Task, *, batch: int, length: int) -> Callable[[], None]:
    """A call that makes one update of a model by AdamW, always on the same examples of a task.

    Args:
        model: every call changes it.
        task: of the examples, drawn once, and of the loss.
        batch, length: of the examples.
    """
    optimizer = torch.optim.AdamW(model.parameters())
    examples = task.sample(batch, length, stream(0, "training step"))

    def step() -> None:
        optimizer.zero_grad()
        task.loss(model, examples).backward()
        optimizer.step()

    return step


def _training_step(
    form: Callable[[nn.Module, Tensor], Tensor], module: nn.Module, x: Tensor, targets: Tensor
) -> Callable[[], None]:
    optimizer = torch.optim.Adam(module.parameters())

    def step() -> None:
        optimizer.zero_grad()
        (form(module, x) - targets).square().mean().backward()
        optimizer.step()

    return step
