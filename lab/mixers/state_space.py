"""A state-space layer with any input-dependent transition."""

from functools import partial

import torch
from jaxtyping import Complex, Float, Inexact, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lab.linalg.precision import uncast, wide
from lab.mixers.base import Layer
from lab.nn.guard import check_kind, check_width
from lab.nn.linear import linear
from lab.nn.weight_decay import without_decay
from lab.scan.torch_private import tree_map
from lab.transitions.base import Parameters, Transition

FEW = 1024  # tokens, up to which `look_up` is a product


class StateSpace(Layer):
    """h[t] = A(x[t]) h[t-1] + B x[t], y[t] = Re(C h[t]) + D * x[t].

    Args:
        d_model: D, the width of input and output.
        transition: A(x), with the same D and N states.
        drive: whether there is a B; without B, only the transitions act on the initial state.
        drive_bias: whether B adds a constant.
        learn_initial: whether the state before step 0 is learned; otherwise it is zero.
        readout_bias: whether C adds a constant.
        skip: whether there is a D, which starts at zero.
        generator: random stream of the initial parameters.
        dtype: dtype of the (real) parameters.

    Real parameters in addition to those of the transition, for a real state: (D + 1) N for B, of
    which N are its bias, N for the initial state, D N and D for C and its bias, D for the skip. For
    a complex state, B, C and the initial state have twice as many.

    Raises:
        TypeError: `transition` is not a Transition.
        ValueError: the transition is for inputs of another width; or there is neither a drive nor
            an initial state, so that h would stay zero.
    """

    def __init__(
        self,
        d_model: int,
        transition: Transition,
        *,
        drive: bool = True,
        drive_bias: bool = True,
        learn_initial: bool = False,
        readout_bias: bool = True,
        skip: bool = False,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if not (drive or learn_initial):
            raise ValueError("drive and learn_initial are both False: the state would stay zero")
        check_kind(self, "transition", transition, Transition)
        check_width(self, d_model, "transition", transition)
        self.transition = transition
        # Complex numbers are stored as real numbers, real parts first.
        N = transition.d_state * (2 if transition.is_complex else 1)
        dense = partial(linear, generator=generator, dtype=dtype)
        self.B = dense(d_model, N, bias=drive_bias) if drive else None
        self.C = dense(N, d_model, bias=readout_bias)
        first = torch.randn(N, generator=generator, dtype=dtype)
        self.initial = nn.Parameter(first) if learn_initial else None
        self.D = nn.Parameter(torch.zeros(d_model, dtype=dtype)) if skip else None
        without_decay(self, "initial", "D")

    @property
    def d_model(self) -> int:
        """D."""
        return self.C.out_features

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """["B T D"] to ["B T D"], as a scan."""
        return self._read(self.states(x), x)

    def of_tokens(
        self, table: Float[Tensor, "V D"], tokens: Int64[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """`forward` of x[t] = table[tokens[t]]; transitions are computed once per token.

        Args:
            table: ["V D"].
            tokens: Int64["B T"].
        """
        x = look_up(table, tokens)
        if self.transition.reads_tables:
            given = self.transition(table), self._drive(table), tokens, self._initial(x)
            return self._read(self.transition.table_scan(*given), x)
        parameters = tree_map(lambda each: look_up(each, tokens), self.transition(table))
        return self._read(self._scan(parameters, x), x)

    def step(
        self, x_t: Float[Tensor, "B D"], state: Inexact[Tensor, "B N"] | None = None
    ) -> tuple[Float[Tensor, "B D"], Inexact[Tensor, "B N"]]:
        """`forward` as a recurrence: ["B D"] and ["B N"] to ["B D"] and the next state."""
        state = self._initial(x_t) if state is None else state
        state = self.transition.product(self.transition(x_t), state) + self._drive(x_t)
        return self._read(state, x_t), state

    def states(self, x: Float[Tensor, "B T D"]) -> Inexact[Tensor, "B T N"]:
        """h[0] to h[T-1]."""
        return self._scan(self.transition(x), x)

    def eigenvalues(self, x: Float[Tensor, "B T D"]) -> Complex[Tensor, "B T N"]:
        """Eigenvalues of A(x[t])."""
        return self.transition.eigenvalues(self.transition(x))

    def _scan(self, parameters: Parameters, x: Tensor) -> Tensor:
        return self.transition.scan(parameters, self._drive(x), self._initial(x))

    def _drive(self, x: Tensor) -> Tensor:
        if self.B is None:
            zeros = wide(x).new_zeros(*x.shape[:-1], self.transition.d_state)
            return zeros.to(zeros.dtype.to_complex()) if self.transition.is_complex else zeros
        return self._state(self.B(x))

    def _initial(self, x: Tensor) -> Tensor:
        """["B N"]: the state before step 0."""
        width = self.C.in_features
        first = wide(x).new_zeros(width) if self.initial is None else self.initial
        return self._state(first.expand(x.shape[0], width))

    def _state(self, numbers: Tensor) -> Tensor:
        """The numbers as a state, in single precision at least."""
        numbers = wide(numbers)
        if not self.transition.is_complex:
            return numbers
        return torch.complex(*numbers.chunk(2, dim=-1))

    def _read(self, h: Tensor, x: Tensor) -> Tensor:
        # Re(C h), with real and imaginary parts side by side; the weights contain the sign.
        numbers = torch.cat([h.real, h.imag], -1) if h.is_complex() else h
        y: Tensor = self.C(numbers.to(self.C.weight.dtype))
        return y if self.D is None else y + self.D * x


def look_up(
    table: Inexact[Tensor, "V ..."], tokens: Int64[Tensor, "..."]
) -> Inexact[Tensor, "..."]:
    """The rows of `table` at tokens, whose axes come first, unchanged by torch.autocast.

    For few tokens this is a product with one-hot vectors, whose gradient is a product as well. For
    those of a word problem, it is faster than gathering rows and scattering their gradients; for a
    vocabulary of words, the one-hot vectors would be larger than all else.
    """
    if table.shape[0] > FEW:
        return table[tokens]
    chosen = one_hot(tokens, table.shape[0]).to(table.dtype)
    with uncast(table):  # rows keep their precision; they may be parameters of a transition
        return (chosen @ table.flatten(1)).unflatten(-1, table.shape[1:])
