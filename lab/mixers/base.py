"""What every sequence mixer offers."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Mixer(Protocol):
    """A causal map of sequences with a fixed-size state. B batch, T time, D width, N state size.

    A layer that is a whole model may have another width at its output than at its input.
    """

    def __call__(self, x: Tensor, length: int | None = None) -> Tensor:
        """["B S D"] to ["B T D"], the parallel form used in training.

        T is `length`, or S if None; where it exceeds S, the input is silent from there on.
        """

    def step(self, x_t: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """["B D"] and a state (None before the first step) to ["B D"] and the next state."""

    def states(self, x: Tensor) -> Tensor:
        """["B T ..."]: the state after every step."""

    def eigenvalues(self, x: Tensor) -> Tensor:
        """Complex["B T N"]: of the transition applied at every step."""


def unroll(mixer: Mixer, x: Tensor) -> Tensor:
    """The step form over a whole sequence ["B T D"], which the parallel form must equal."""
    state, outputs = None, []
    for x_t in x.unbind(dim=1):
        y_t, state = mixer.step(x_t, state)
        outputs.append(y_t)
    return torch.stack(outputs, dim=1)
