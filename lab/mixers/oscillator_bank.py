"""A state-space layer in which the input is a force on oscillators."""

import torch
from jaxtyping import Float
from torch import Tensor

from lab.mixers.state_space import StateSpace
from lab.nn.guard import check_kind
from lab.nn.linear import linear
from lab.transitions.linoss import Oscillation, Oscillators


class OscillatorBank(StateSpace):
    """A state-space layer with forces as inputs: h[t] = A(x[t]) h[t-1] + (dt s, dt^2 s) B x[t].

    B computes one force per oscillator, so it has half as many rows as in `StateSpace`.

    Args:
        d_model: D.
        transition: the oscillators.
        learn_initial, readout_bias, skip, generator, dtype: as for `StateSpace`; a drive is always
            present.

    Raises:
        TypeError: the transition is not one of oscillators.
        ValueError: the transition is for inputs of another width.
    """

    def __init__(
        self,
        d_model: int,
        transition: Oscillators,
        *,
        learn_initial: bool = False,
        readout_bias: bool = True,
        skip: bool = False,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_kind(self, "transition", transition, Oscillators)
        super().__init__(
            d_model, transition, learn_initial=learn_initial, readout_bias=readout_bias, skip=skip,
            generator=generator, dtype=dtype,
        )  # fmt: skip
        self.B = linear(d_model, transition.d_state // 2, generator=generator, dtype=dtype)

    def step(
        self, x_t: Float[Tensor, "B D"], state: Float[Tensor, "B N"] | None = None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B N"]]:
        """`forward` as a recurrence: ["B D"] and ["B N"] to ["B D"] and the next state."""
        state = self._initial(x_t) if state is None else state
        parameters = self.transition(x_t)
        state = self.transition.product(parameters, state) + self._force(parameters, x_t)
        return self._read(state, x_t), state

    def _scan(self, parameters: Oscillation, x: Tensor) -> Tensor:
        force = self._force(parameters, x)
        return self.transition.scan(parameters, force, self._initial(x))

    def _force(self, parameters: Oscillation, x: Tensor) -> Tensor:
        assert isinstance(self.transition, Oscillators)
        assert self.B is not None
        return self.transition.force(parameters, self.B(x))
