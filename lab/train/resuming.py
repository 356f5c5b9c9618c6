"""What a training is known by, so that its checkpoint is loaded by no other one."""

import random
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lab.train.identity import canonical, describe, digest
from lab.train.side_by_side import Named


@dataclass(frozen=True)
class Origin:
    """What a model was when its training began.

    Attributes:
        make: its description.
        initial: a digest of every parameter and buffer, by name.
        evaluating: names of the modules that were in evaluation mode.
    """

    make: Any
    initial: dict[str, str]
    evaluating: list[str]


@dataclass(frozen=True)
class _Left:
    """How a training with a checkpoint left a model behind, finished or not."""

    path: Path
    origin: Origin
    weights: dict[str, str]


# A cell that was interrupted can be run again with the same objects, whose weights have moved on.
_LEFT: weakref.WeakKeyDictionary[nn.Module, _Left] = weakref.WeakKeyDictionary()


def origin(model: nn.Module, path: Path) -> Origin:
    """What the model was when the training that is saved at `path` began: what it is now.

    Unless that very training left it as it is; then it is what that training started from, and its
    modules go back to the modes that they had.
    """
    left = _LEFT.get(model)
    if left is not None and path.exists() and (left.path, left.weights) == (path, _weights(model)):
        for name, module in model.named_modules():
            module.training = name not in left.origin.evaluating
        return left.origin
    evaluating = [name for name, module in model.named_modules() if not module.training]
    return Origin(describe(model, "the model"), _weights(model), evaluating)


def leave(models: Sequence[nn.Module], path: Path, origins: Sequence[Origin]) -> None:
    """Remember how a training leaves its models behind; see `origin`."""
    for model, begun in zip(models, origins, strict=True):
        _LEFT[model] = _Left(path, begun, _weights(model))


def circumstances(device: torch.device) -> dict[str, Any]:
    """What changes numbers from outside of the arguments: versions, device and global settings."""
    kind = device.type
    return {
        "device": kind,
        "torch": torch.__version__.partition("+")[0],
        "python": ".".join(map(str, sys.version_info[:2])),  # bytecode differs between versions
        "default dtype": str(torch.get_default_dtype()),
        "autocast": str(torch.get_autocast_dtype(kind))
        if torch.is_autocast_enabled(kind)
        else None,
        "matmul precision": torch.get_float32_matmul_precision(),
    }


def functions(models: Sequence[nn.Module], **named: Any) -> dict[str, Any]:
    """Descriptions of functions and tasks, by name; they may hold the models.

    Raises:
        ValueError: one of them cannot be told from another; says which, and the remedy.
    """
    known = {id(model): f"model {i}" for i, model in enumerate(models)}
    return {n: describe(each, n, trained=models, known=known) for n, each in named.items()}


def attributes(models: Sequence[nn.Module]) -> dict[str, Any]:
    """Descriptions of models, by name."""
    return {f"model {i}": describe(model) for i, model in enumerate(models)}


class Watchman:
    """Sees whether a training depends on anything that changes and is in no checkpoint.

    Args:
        models: that are trained.
        others: gives what else takes part in an update, by name.
    """

    def __init__(self, models: Sequence[nn.Module], others: Callable[[], dict[str, Any]]) -> None:
        self.models, self.others = models, others
        self.changes: list[str] = []
        self.left = 2  # what changes once is a cache, what changes twice in a row is a state

    def look(self) -> Any:
        """What can be seen now; None once there has been enough to see."""
        if not self.left:
            return None
        found = attributes(self.models)
        hidden = {
            "numpy's global random numbers": describe(np.random.get_state()),  # noqa: NPY002
            "Python's global random numbers": describe(random.getstate()),
        }
        return found | functions(self.models, **self.others()) | hidden

    def compare(self, before: Any) -> None:
        """Look again after an update.

        Raises:
            ValueError: the same thing has changed in two updates; says what, and the remedy.
        """
        if where := self.again(before):
            raise ValueError(
                f"{where} changes with every update, and a checkpoint does not hold it: keep it in "
                "a buffer of the model, let a task draw from the generator that it is given, or "
                "train without a checkpoint"
            )

    def again(self, before: Any) -> str:
        """The name of what has changed now and in the update before; empty if there is nothing."""
        if before is None:
            return ""
        after = self.look()
        changed = [name for name in after if canonical(after[name]) != canonical(before[name])]
        again = [name for name in changed if name in self.changes]
        self.left, self.changes = self.left - 1, changed
        return _changed(again[0], before[again[0]], after[again[0]]) if again else ""


def check_attributes(before: Any, after: Any, path: Path | None) -> None:
    """Stop unless models have the attributes again that they had when a checkpoint was written.

    Args:
        before: descriptions of the models by name, then.
        after: the same, once `before_update` was called with the number of the last update.
        path: of the checkpoint, for the error.

    Raises:
        ValueError: they have not, so that `before_update` depends on more than that number.
    """
    for name in after:
        if canonical(before[name]) != canonical(after[name]):
            where = _changed(name, before[name], after[name])
            raise ValueError(
                f"before_update gives {where} another value than it had when {path} was written: "
                "let it set attributes by the number of the update alone, or keep them in buffers"
            )


def check_content(
    state: Named, names: Iterable[str], like: Mapping[str, Tensor], path: Path | None
) -> None:
    """Stop before anything is restored unless a state holds all that it should.

    Args:
        state: what is about to be restored.
        names: of tensors that must be there.
        like: tensors that must be there with the same shapes and types.
        path: where the state comes from, for the error.

    Raises:
        ValueError: a tensor is missing, or has another shape or type.
    """
    problems = [f"{name} is missing" for name in (*names, *like) if name not in state]
    for name, tensor in like.items():
        found = state.get(name, tensor)
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            kinds = [f"{each.dtype} {tuple(each.shape)}" for each in (found, tensor)]
            problems.append(f"{name} is {kinds[0]}, and must be {kinds[1]}")
    if problems:
        raise ValueError(f"{path} is damaged ({problems[0]}): delete it to start afresh")


def _weights(model: nn.Module) -> dict[str, str]:
    every = (*model.named_parameters(), *model.named_buffers())
    return {name: digest(tensor) for name, tensor in every}


def _changed(name: str, before: Any, after: Any) -> str:
    """The dotted name of the innermost part that differs."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return name
    for key in after:
        if canonical(before.get(key)) != canonical(after[key]):
            return _changed(f"{name}.{key}", before.get(key), after[key])
    return name
