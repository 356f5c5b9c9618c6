"""Weights at fixed shares of a training, in files: results to be read, not files to resume from.

    recipe = {"watch": {"weights": weights}, "watch_every": every(steps), ...}
    kept = Snapshots(folder, "an arm")
    kept.keep(model, history, seed=100)
    early = kept.load(model, seed=100, step=at(steps, 0.1))

A training that is killed and resumed holds them in its checkpoint until it has ended, so that it
leaves the same files as one that was not.
"""

import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.arguments import real, refuse, whole
from lab.train.checkpoint import Checkpoint
from lab.train.loop import History

PARTS = 20  # of a training: before the first update, and after every 5 %
BEST = "best"

Module = TypeVar("Module", bound=nn.Module)


def weights(model: nn.Module) -> Float[Tensor, "P"]:
    """All parameters in one row, for `watch`; they must share a dtype."""
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def every(steps: int) -> int:
    """Updates between two snapshots: a twentieth of all, and at least one."""
    return max(1, whole("every", "steps", steps, least=0) // PARTS)


def at(steps: int, share: float) -> int:
    """The last snapshot at or before a share of the training, in updates.

    Raises:
        ValueError: the share is not in [0, 1].
    """
    if real("at", "share", share) < 0 or share > 1:
        refuse("at", "share", share, "in [0, 1]")
    return steps if share == 1 else round(share * steps) // every(steps) * every(steps)


def with_weights(model: Module, row: Float[Tensor, "P"]) -> Module:
    """A copy of a model with other weights, from `weights`.

    Raises:
        ValueError: the model has another number of parameters.
    """
    changed = deepcopy(model)
    sizes = [each.numel() for each in changed.parameters()]
    if row.shape != (sum(sizes),):
        refuse("with_weights", "row", tuple(row.shape), f"({sum(sizes)},), as the model has them")
    with torch.no_grad():
        for each, part in zip(changed.parameters(), row.split(sizes), strict=True):
            each.copy_(part.view_as(each))
    return changed


class Snapshots:
    """The snapshots of one arm: one safetensors file for each seed and step.

    Files are written whole or not at all, and nothing in them is executed when they are read. None
    is ever removed; one of the same seed and step is replaced.

    Args:
        folder: of the files, which is made if it is not there; git should ignore it.
        arm: what was trained. A file of another arm or of another architecture is refused.
    """

    def __init__(self, folder: str | os.PathLike[str], arm: str) -> None:
        self.folder, self.arm = Path(folder), arm
        self.folder.mkdir(parents=True, exist_ok=True)

    def keep(
        self,
        model: nn.Module,
        history: History,
        *,
        seed: int,
        losses: Sequence[float] | Tensor | None = None,
    ) -> None:
        """Write what a training has watched under the name "weights".

        Args:
            model: the trained one.
            history: of its training.
            seed: its seed.
            losses: on held-out examples, at the same snapshots, without any penalty; the snapshot
                with the lowest is also kept as `BEST`.

        Raises:
            ValueError: the training has not watched its weights, or there is not one loss for each
                snapshot.
        """
        if "weights" not in history.watched:
            refuse("keep", "history", sorted(history.watched), 'a training with watch={"weights"}')
        rows = history.watched["weights"]
        for step, row in zip(history.watched_at, rows, strict=True):
            self._file(model, seed, step).save({"weights": row})
        if losses is not None:
            if len(losses) != len(rows):
                refuse("keep", "losses", f"{len(losses)} numbers", f"{len(rows)}, one a snapshot")
            best = int(torch.as_tensor(losses).argmin())
            self._file(model, seed, BEST).save({"weights": rows[best]})

    def keep_each(
        self,
        models: Sequence[nn.Module],
        histories: Sequence[History],
        seeds: Sequence[int],
        *,
        losses: Callable[[History], Tensor] | None = None,
    ) -> "Snapshots":
        """`keep` for every seed of an arm; `losses` gives those of a history. Returns itself."""
        for model, history, seed in zip(models, histories, seeds, strict=True):
            watched = None if losses is None else losses(history)
            self.keep(model, history, seed=seed, losses=watched)
        return self

    def load(self, model: Module, *, seed: int, step: int | str) -> Module:
        """A copy of a model with the weights of a snapshot; `BEST` is a step, too.

        Raises:
            FileNotFoundError: there is no such snapshot.
            ValueError: the file is damaged, or of another arm or architecture.
        """
        file = self._file(model, seed, step)
        found = file.load()
        if not found:
            raise FileNotFoundError(f"there is no snapshot {file.path}: keep it first")
        return with_weights(model, found["weights"])

    def _file(self, model: nn.Module, seed: int, step: int | str) -> Checkpoint:
        words = "".join(c if c.isalnum() else "-" for c in self.arm.lower())
        identity: dict[str, Any] = {
            "arm": self.arm, "seed": seed, "step": step,
            "parameters": {name: list(each.shape) for name, each in model.named_parameters()},
        }  # fmt: skip
        path = self.folder / f"{words}-seed{seed}-{step}.safetensors"
        return Checkpoint(path, identity, every=0)
