"""The interface of all sequence mixers."""

from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Bool, Complex, Float, Inexact, Num
from torch import Tensor

from lab.nn.guard import Guarded, Method, check_numbers, check_tokens


class Mixer(Protocol):
    """A causal map of sequences with a fixed-size state. B batch, T time, D width, N state size.

    If a layer is used as a whole model, its output may have another width than its input.
    """

    def __call__(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T E"]:
        """["B T D"] to ["B T D"], the parallel form used in training."""

    def step(
        self, x_t: Float[Tensor, "B D"], state: Any = None
    ) -> tuple[Float[Tensor, "B E"], Any]:
        """["B D"] and a state (None before the first step) to ["B D"] and the next state."""

    def states(self, x: Float[Tensor, "B T D"]) -> Inexact[Tensor, "B T ..."]:
        """The state after every step."""

    def eigenvalues(self, x: Float[Tensor, "B T D"]) -> Complex[Tensor, "B T N"]:
        """Eigenvalues of the transition at every step."""


class Continuing(Mixer, Protocol):
    """A mixer that can continue after the end of its input, as if zeros followed.

    It is used to learn oscillations: the input is an impulse, and the target the whole response.
    """

    def __call__(
        self, x: Float[Tensor, "B S D"], length: int | None = None
    ) -> Float[Tensor, "B T E"]:
        """["B S D"] to ["B T D"], with zeros after x; T is `length`, at least S, or S if None."""


class Packing(Mixer, Protocol):
    """A mixer that can forget, so that sequences of different lengths can share a row."""

    def __call__(
        self, x: Float[Tensor, "B T D"], reset: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T E"]:
        """["B T D"] to ["B T D"]; what came before a step of `reset` is forgotten there."""


def _sequence(layer: "Layer", method: Method, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    check_numbers(layer, "x", x, "B T D", D=layer.d_model)
    return method(layer, x, *args, **kwargs)


def _step(layer: "Layer", method: Method, x_t: Tensor, *args: Any, **kwargs: Any) -> Any:
    check_numbers(layer, "x_t", x_t, "B D", D=layer.d_model)
    return method(layer, x_t, *args, **kwargs)


def _of_tokens(layer: "Layer", method: Method, table: Tensor, tokens: Tensor) -> Any:
    check_numbers(layer, "table", table, "V D", D=layer.d_model)
    check_tokens(layer, tokens, "B T")
    return method(layer, table, tokens)


class Layer(Guarded):
    """A layer on sequences that checks its inputs: shape, at least one step, dtype.

    It computes in the dtype of its parameters. Inside torch.autocast, dense layers compute in half
    precision. Quantities that accumulate over time (decays, phases, states) are in float32 there,
    and also in a layer whose parameters are in half precision.
    """

    guards: ClassVar = {
        "forward": _sequence,
        "states": _sequence,
        "eigenvalues": _sequence,
        "step": _step,
        "of_tokens": _of_tokens,
    }

    @property
    def d_model(self) -> int | None:
        """D, the width of the input; None if any width is allowed."""
        return None


def unroll(mixer: Mixer, x: Num[Tensor, "B T ..."]) -> Float[Tensor, "B T E"]:
    """Apply the step form to a sequence ["B T D"]; the parallel form must give the same result."""
    state, outputs = None, []
    for x_t in x.unbind(dim=1):
        y_t, state = mixer.step(x_t, state)
        outputs.append(y_t)
    return torch.stack(outputs, dim=1)
