"""Losses and gradients of an update by autograd: the reference of `lab.train.traced`."""

from torch import Tensor

from lab.train.side_by_side import SideBySide


class Eager:
    """Losses and gradients by autograd, one operation after another.

    Args:
        run: the models.
    """

    def __init__(self, run: SideBySide) -> None:
        self.run = run

    def losses(self, batch: int, length: int, step: int) -> Tensor:  # noqa: ARG002
        """Float["models"]: of update number `step`; errors as `SideBySide.evaluate`."""
        return self.run.losses(batch, length)

    def backward(self, losses: Tensor) -> None:
        """Give the parameters the gradients of what `losses` has returned."""
        losses.sum().backward()
