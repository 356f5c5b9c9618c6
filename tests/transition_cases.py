"""The transitions and mixers of the shared suites. A new one adds a row."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from numeric import stream
from torch import Tensor, nn

from lab.mixers import StateSpace, Transition, linear

D_MODEL = 6


class Dense(Transition):
    """Any matrix at all: what the suites are tried on, with nothing overridden."""

    def __init__(self, d_model: int, d_state: int, generator: torch.Generator) -> None:
        super().__init__()
        self.d_state = d_state
        self.weights = linear(d_model, d_state**2, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * self.weights(x).unflatten(-1, (self.d_state, self.d_state))

    def dense(self, parameters: Tensor) -> Tensor:
        return parameters


@dataclass(frozen=True)
class TransitionCase:
    """A family of transitions, and what its matrices promise.

    Args:
        build: (generator) -> transition for inputs of D_MODEL numbers.
        bound: the largest spectral norm that its proof allows; None where there is no proof.
        orthogonal: whether all its matrices are (unitary where complex).
    """

    name: str
    build: Callable[[torch.Generator], Transition]
    bound: float | None = None
    orthogonal: bool = False

    def transition(self, seed: int = 0) -> Transition:
        """In double precision, every parameter moved away from its initial value."""
        return _moved(self.build(stream(seed)), seed)


@dataclass(frozen=True)
class MixerCase:
    """A mixer ["B T D_MODEL"] to the same, with `step`; build: (generator) -> mixer."""

    name: str
    build: Callable[[torch.Generator], nn.Module]

    def mixer(self, seed: int = 0) -> nn.Module:
        """In double precision, every parameter moved away from its initial value."""
        return _moved(self.build(stream(seed)), seed)


def _moved(module, seed):
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, dtype=parameter.dtype, generator=stream(seed + 1))
            parameter += 0.3 * noise
    return module


TRANSITIONS = [
    TransitionCase("dense", lambda generator: Dense(D_MODEL, 5, generator)),
]

MIXERS = [
    *(
        MixerCase(
            f"state space, {case.name}",
            lambda generator, case=case: StateSpace(
                D_MODEL, case.build(generator), learn_initial=True, skip=True, generator=generator
            ),
        )
        for case in TRANSITIONS
    ),
    MixerCase(
        "state space, no drive",
        lambda generator: StateSpace(
            D_MODEL, Dense(D_MODEL, 3, generator), drive=False, learn_initial=True,
            readout_bias=False, generator=generator,
        ),
    ),
]  # fmt: skip
