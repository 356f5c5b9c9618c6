"""Conversion of layers to equivalent layers with another transition."""

from copy import deepcopy

import torch

from lab.linalg.circulant import real_fourier
from lab.mixers.state_space import StateSpace
from lab.transitions.circulant import Circulant
from lab.transitions.diagonal import PolarDiagonal


def as_diagonal(layer: StateSpace) -> StateSpace:
    """The complex diagonal layer that is equivalent to a circulant one: F B, C F^T, F h[-1].

    Its transition is `PolarDiagonal` with real ends and the same parameters; F is the orthogonal
    matrix of `lab.linalg.circulant.real_fourier`.

    Raises:
        TypeError: the transition of the layer is not a `Circulant`.
    """
    if not isinstance(layer.transition, Circulant):
        raise TypeError(f"the transition must be Circulant, got {type(layer.transition).__name__}")
    twin = deepcopy(layer)
    F = real_fourier(layer.transition.d_state).to(layer.C.weight)
    old = layer.transition
    inner = PolarDiagonal(
        old.d_model, d_state=old.d_state, real_ends=True, generator=torch.Generator()
    )
    inner.decay, inner.phase = deepcopy(old.decay), deepcopy(old.phase)
    twin.transition = inner
    with torch.no_grad():
        twin.C.weight.copy_(layer.C.weight @ F.mT)
        for name, parameter in twin.named_parameters():
            if name in ("B.weight", "B.bias", "initial"):
                parameter.copy_(F @ parameter)
    return twin
