"""Mamba's selective state-space layer (S6), whose step size, B and C depend on the input."""

import math
from functools import partial

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from lab.arguments import whole
from lab.linalg.precision import wide
from lab.mixers.base import Layer
from lab.mixers.output_gate import Kind, OutputGate
from lab.mixers.short_convolution import ShortConvolution
from lab.nn.linear import linear, precise
from lab.nn.weight_decay import without_decay
from lab.scan import linear_scan, selective_scan

State = tuple[Float[Tensor, "B Z E"] | None, Float[Tensor, "B E N"]]


class Mamba(Layer):
    """h[t] = exp(dt A) h[t-1] + dt u[t] B(u[t])^T, y[t] = W_o gate(h[t] C(u[t]) + D * u[t]).

    u = silu(convolution(W x)) has E = expand D channels with N states each; dt = softplus(W' u +
    b), one per channel, is a step in units of 1 / |A|. B and C are linear in u and shared by all
    channels. A is diagonal and negative. Initially, A is -1 to -N and dt is between 0.001 and 0.1.

    With expand 2, d_state 16, convolution 4 and gate "silu" the layer is the published one, except
    that W' is a full matrix, where the published one has rank D / 16, and that the gate
    silu(W_z x + b) starts at the constant silu(gate_start), where the published one has no b and a
    random W_z.

    Args:
        d_model: D.
        d_state: N.
        expand: E / D, the inner width of the layer relative to that of x.
        convolution: width of the convolution in steps; 0 for none.
        gate: kind of the output gate, for which every channel is a head; "silu" as published, None
            for no gate.
        gate_start: initial bias of the gate; None for no bias.
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        ValueError: a size is not a whole number or is below 1, or the gate is unknown.

    Source: Gu & Dao 2023, Mamba, algorithm 2 (S6) and section 3.4 (the layer around it).
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        expand: int = 1,
        convolution: int = 0,
        gate: Kind | None = "silu",
        gate_start: float | None = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        D, N = (
            whole("Mamba", "d_model", d_model, least=1),
            whole("Mamba", "d_state", d_state, least=1),
        )
        E = D * whole("Mamba", "expand", expand, least=1)
        self.d_state = N
        dense = partial(linear, generator=generator, dtype=dtype)
        self.u, self.out = dense(D, E, bias=False), dense(E, D, bias=False)
        self.B, self.C, self.dt = dense(E, N, bias=False), dense(E, N, bias=False), dense(E, E)
        first = torch.rand(E, generator=generator, dtype=dtype) * math.log(100) + math.log(1e-3)
        with torch.no_grad():
            self.dt.bias.copy_(first.exp().expm1().log())
        rates = torch.arange(1, N + 1, dtype=dtype)
        self.log_A = nn.Parameter(rates.log().repeat(E, 1))
        self.D = nn.Parameter(torch.ones(E, dtype=dtype))
        without_decay(self, "log_A", "D")
        kernel = partial(ShortConvolution, E, generator=generator, dtype=dtype)
        self.convolution = kernel(width=convolution) if convolution else None
        gates = partial(OutputGate, D, heads=E, d_value=1, start=gate_start, dtype=dtype)
        self.gate = None if gate is None else gates(kind=gate)

    @property
    def d_model(self) -> int:
        """D."""
        return self.u.in_features

    def forward(
        self, x: Float[Tensor, "B T D"], reset: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """["B T D"] to ["B T D"], as a scan whose states are never all in memory.

        Args:
            x: sequences.
            reset: the steps at which another sequence begins that shares a row with those before;
                none if None.
        """
        u = self._convolved(self.u(x), reset)
        delta, A = precise(self.dt, u), -wide(self.log_A).exp()
        u, B, C, skip = (wide(each) for each in (u, self.B(u), self.C(u), self.D))
        y: Tensor = selective_scan(
            u, delta, A, B, C, skip, delta_softplus=True, reset=reset, time_first=True
        )
        return self._out(y, x)

    def step(
        self, x_t: Float[Tensor, "B D"], state: State | None = None
    ) -> tuple[Float[Tensor, "B D"], State]:
        """`forward` as a recurrence; the state is that of the convolution, and h ["B E N"]."""
        window, h = (None, None) if state is None else state
        u = self.u(x_t)
        if self.convolution is not None:
            u, window = self.convolution.step(u, window)
        u = nn.functional.silu(u)
        a, b = self._maps(u)
        h = b if h is None else a * h + b
        y = (h * self.C(u)[..., None, :]).sum(-1) + self.D * u
        return self._out(y, x_t), (window, h)

    def states(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T E N"]:
        """h."""
        a, b = self._maps(self._convolved(self.u(x)))
        return linear_scan(a.flatten(2), b.flatten(2)).unflatten(-1, a.shape[2:])

    def eigenvalues(self, x: Float[Tensor, "B T D"]) -> Complex[Tensor, "B T EN"]:
        """exp(dt A)."""
        a, _ = self._maps(self._convolved(self.u(x)))
        return torch.complex(a, torch.zeros_like(a)).flatten(-2)

    def _convolved(self, u: Tensor, reset: Tensor | None = None) -> Tensor:
        return nn.functional.silu(u if self.convolution is None else self.convolution(u, reset))

    def _maps(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The step as a map h -> a * h + b: a and b, both ["... E N"]."""
        dt = softplus(precise(self.dt, u))
        a = torch.exp(-dt[..., None] * wide(self.log_A).exp())
        return a, (dt * u)[..., None] * self.B(u)[..., None, :]

    def _out(self, y: Tensor, x: Tensor) -> Tensor:
        """What has been read ["... E"], gated, as output ["... D"]."""
        if self.gate is not None:
            y = self.gate(y[..., None], x)[..., 0]
        out: Tensor = self.out(y.to(self.out.weight.dtype))
        return out
