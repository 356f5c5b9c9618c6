"""OscDPLR: a state-space layer whose eigenvalues are those of damped oscillators."""

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor, nn

from lab.linalg import (
    DPLR,
    bilinear,
    causal_convolution,
    dissipative,
    kernel_doubling,
    kernel_resolvent,
    oscillator_eigenvalues,
    zero_order_hold,
)
from lab.linalg.precision import wide, widened
from lab.mixers.base import Layer, unroll
from lab.nn.guard import Method, check_shape
from lab.nn.weight_decay import without_decay
from lab.scan import matrix_scan

Form = Literal["plain", "dissipative", "real"]
Discretisation = Literal["bilinear", "zero-order hold"]


def _of_any_numbers(layer: Layer, method: Method, x: Tensor) -> Tensor:
    check_shape(layer, "x", x, "B T D", D=layer.d_model)
    eigenvalues: Tensor = method(layer, x)
    return eigenvalues


class OscDPLR(Layer):
    """h[t] = A_d h[t-1] + B_d u[t], y[t] = Re(C h[t]) + D u[t], from h' = A h + B u.

    `form` determines how A is built from the oscillators' eigenvalues and a low-rank term:

    - plain: A = diag(lambda) + P Q^T. Its eigenvalues may leave the left half plane.
    - dissipative: A = diag(lambda) - P P^T + (P Q^T - Q P^T), which never adds energy (see the
      proof in `lab.linalg.dissipative`).
    - real: the plain form with only the real parts of lambda, so that everything is real.

    The input enters with the square root of dt, B_d = sqrt(dt) (I - dt A / 2)^-1 B in the bilinear
    case, as in the earlier model that this layer reproduces; the usual convention uses dt itself.
    The input at step 0 affects the output at step 0.

    Args:
        d_model: p, number of input channels.
        d_output: q, number of output channels; p if None.
        d_state: N, number of oscillators.
        rank: r, number of columns of P and Q; 0 for a diagonal A.
        heads: number of groups of oscillators with separate inputs: oscillator j belongs to head
            j mod heads and channel c to head c mod heads, and an oscillator receives only channels
            of its head.
        dt: seconds per step.
        form, discretisation: as above.
        complex_io: whether B and C are complex, stored as pairs of real numbers.
        omega_range: bounds, in rad/s, of the log-uniform distribution of initial frequencies.
        generator: random stream of the initial parameters.
        dtype: dtype of the (real) parameters; the state has the complex dtype of the same
            precision, or is real if everything is.

    Real parameters: 2 N + 2 N r + N p / heads + q N + q p, with B and C counted twice if complex.

    Source: Gu et al. 2022 (S4); Rusch & Rus 2024, Oscillatory State-Space Models, for the physics.
    """

    # Eigenvalues depend on x only through its number of steps.
    guards: ClassVar = {**Layer.guards, "eigenvalues": _of_any_numbers}

    def __init__(
        self,
        d_model: int,
        *,
        d_output: int | None = None,
        d_state: int = 16,
        rank: int = 2,
        heads: int = 1,
        dt: float = 1.0,
        form: Form = "plain",
        discretisation: Discretisation = "bilinear",
        complex_io: bool = False,
        omega_range: tuple[float, float] = (0.01, 0.1),
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if d_model % heads or d_state % heads:
            raise ValueError(f"heads {heads} must divide d_model {d_model} and d_state {d_state}")
        d_output = d_model if d_output is None else d_output
        if form not in get_args(Form) or discretisation not in get_args(Discretisation):
            given = f"form {form!r} and discretisation {discretisation!r}"
            raise ValueError(f"{given} must be of {get_args(Form)} and {get_args(Discretisation)}")
        self.heads, self.dt, self.form, self.discretisation = heads, dt, form, discretisation

        def draw(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.1 * torch.randn(shape, generator=generator, dtype=dtype))

        low, high = (math.log(omega) for omega in omega_range)
        uniform = torch.rand(d_state, generator=generator, dtype=dtype)
        self.log_omega = nn.Parameter(low + (high - low) * uniform)
        self.logit_zeta = nn.Parameter(0.5 * torch.randn(d_state, generator=generator, dtype=dtype))
        pair = (2,) if complex_io else ()
        self.P, self.Q = draw(d_state, rank), draw(d_state, rank)
        self.B = draw(d_state, d_model // heads, *pair)
        self.C = draw(d_output, d_state, *pair)
        self.D = nn.Parameter(torch.zeros(d_output, d_model, dtype=dtype))
        # Parameters of A: decay would pull every oscillator to 1 rad/s and half critical damping.
        without_decay(self, "log_omega", "logit_zeta", "P", "Q", "D")
        head_of_oscillator = torch.arange(d_state) % heads
        own = head_of_oscillator[:, None, None] == torch.arange(heads)
        self.own_head: Tensor
        self.register_buffer("own_head", own, persistent=False)

    @property
    def d_model(self) -> int:
        """p, the width of the input."""
        return self.D.shape[1]

    def state_matrix(self) -> DPLR:
        """A, in 1/s, as diagonal plus low rank, in float32 at least because it is discretised."""
        omega, zeta = wide(self.log_omega).exp(), wide(self.logit_zeta).sigmoid()
        diagonal, P, Q = oscillator_eigenvalues(omega, zeta), wide(self.P), wide(self.Q)
        if self.form == "dissipative":
            return dissipative(diagonal, P, Q)
        return DPLR(diagonal.real if self.form == "real" else diagonal, P, Q)

    def input_matrix(self) -> Inexact[Tensor, "N p"]:
        """B ["N p"] with zeros between different heads, divided by sqrt(dt): see the class."""
        B = _maybe_complex(self.B, self.P.ndim)
        return (B[:, :, None] * self.own_head).flatten(1) / math.sqrt(self.dt)

    def readout(self) -> Inexact[Tensor, "q N"]:
        """C ["q N"]."""
        return _maybe_complex(self.C, self.P.ndim)

    def discretised(self) -> tuple[Inexact[Tensor, "N N"], Inexact[Tensor, "N p"]]:
        """A_d ["N N"] and B_d ["N p"] of one step."""
        rule = bilinear if self.discretisation == "bilinear" else zero_order_hold
        return rule(self.state_matrix(), self.input_matrix(), self.dt)

    def kernel(self, length: int) -> Float[Tensor, "length q p"]:
        """The response to a unit input at step 0, including feed-through D.

        It is computed by Woodbury's formula if that is cheaper (see `resolvent_pays`), otherwise by
        doubling.
        """
        A, B, C = self.state_matrix(), self.input_matrix(), self.readout()
        if self.discretisation == "bilinear" and resolvent_pays(A.rank, B.shape, C.shape[0]):
            response = kernel_resolvent(A, B, C, self.dt, length)
        else:
            response = kernel_doubling(*self.discretised(), C, length)
        return response + nn.functional.pad(wide(self.D)[None], (0, 0, 0, 0, 0, length - 1))

    @widened
    def forward(
        self, x: Float[Tensor, "B S p"], length: int | None = None
    ) -> Float[Tensor, "B T q"]:
        """Float["B S p"] to Float["B length q"], as a convolution.

        `length` (S if None) may exceed S. The input is zero after its end, and the output is then
        the free response.
        """
        return causal_convolution(x, self.kernel(length or x.shape[1]))

    @widened
    def forward_scan(
        self, x: Float[Tensor, "B T p"], scan: Callable[..., Tensor] = matrix_scan
    ) -> Float[Tensor, "B T q"]:
        """`forward` computed by a parallel scan over the states, with the same result."""
        states = self.states(x, scan)
        return (states @ self.readout().to(states.dtype).mT).real + x @ wide(self.D).mT

    def forms(self) -> list[Callable[..., Tensor]]:
        """All ways to compute the layer, each a function of Float["B T p"] to Float["B T q"].

        The recurrence is the first; then the parallel scan, the convolution, and with the bilinear
        rule the convolution whose kernel comes from its generating function.
        """

        def through_resolvent(x: Tensor) -> Tensor:
            A, B, C = self.state_matrix(), self.input_matrix(), self.readout()
            kernel = kernel_resolvent(A, B, C, self.dt, x.shape[1])
            return causal_convolution(x, kernel) + x @ wide(self.D).mT

        found: list[Callable[..., Tensor]] = [partial(unroll, self), self.forward_scan, self]
        return [*found, through_resolvent] if self.discretisation == "bilinear" else found

    @widened
    def step(
        self, x_t: Float[Tensor, "B p"], state: Inexact[Tensor, "B N"] | None = None
    ) -> tuple[Float[Tensor, "B q"], Inexact[Tensor, "B N"]]:
        """`forward` as a recurrence: Float["B p"], Complex["B N"] to Float["B q"] and the next."""
        A_d, B_d = self.discretised()
        drive = x_t.to(B_d.dtype) @ B_d.mT
        state = drive if state is None else state @ A_d.mT + drive
        return (state @ self.readout().to(state.dtype).mT).real + x_t @ wide(self.D).mT, state

    @widened
    def states(
        self, x: Float[Tensor, "B T p"], scan: Callable[..., Tensor] = matrix_scan
    ) -> Inexact[Tensor, "B T N"]:
        """h[0] to h[T-1] for x ["B T p"]; `scan` is a form of `matrix_scan`."""
        A_d, B_d = self.discretised()
        return scan(A_d[None, None], x.to(B_d.dtype) @ B_d.mT)

    @widened
    def eigenvalues(self, x: Float[Tensor, "B T p"]) -> Complex[Tensor, "B T N"]:
        """Eigenvalues of A_d, equal at all steps and for all inputs."""
        return torch.linalg.eigvals(self.discretised()[0]).expand(*x.shape[:2], -1)


# Measured in float64 on two cores: one complex reciprocal with its share of a narrow matrix product
# takes as long as this many multiplications in a square product.
_RECIPROCAL_COST = 16


def resolvent_pays(rank: int, B_shape: torch.Size, d_output: int) -> bool:
    """Whether `kernel_resolvent` is cheaper than `kernel_doubling`, by their operation counts."""
    d_state, d_input = B_shape
    per_frequency = d_state * (d_output + rank) * (d_input + rank)
    return _RECIPROCAL_COST * per_frequency < d_output * d_state**2


def _maybe_complex(parameter: Tensor, real_ndim: int) -> Tensor:
    """The parameter; if it has a further last axis of pairs (Re, Im), as complex numbers."""
    parameter = wide(parameter)
    return torch.view_as_complex(parameter) if parameter.ndim > real_ndim else parameter
