"""A gated diagonal state-space layer: channels whose memory the token decides on (Mamba-style)."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lab.linalg.precision import wide
from lab.mixers.base import Layer
from lab.mixers.gate import Kind, ReadOutGate
from lab.mixers.short_convolution import ShortConvolution
from lab.nn.linear import linear, precise
from lab.nn.weight_decay import without_decay
from lab.scan import linear_scan

State = tuple[Tensor | None, Tensor]


class SelectiveDiagonal(Layer):
    """h[t] = exp(dt A) h[t-1] + dt u[t] B(u[t])^T, y[t] = W_o gate(h[t] C(u[t]) + D * u[t]).

    u = silu(convolution(W x)) has D channels with N states each; dt = softplus(W' u + b), one a
    channel, is a step in units of 1 / |A|; B and C are read from u and shared by all channels; A is
    diagonal and negative. A is first -1 to -N, and dt between 0.001 and 0.1.

    Args:
        d_model: D.
        d_state: N.
        convolution: its width in steps; 0 for none.
        gate: of the read-out, with every channel a head; "silu" as published, None for none.
        gate_start: first bias of the gate; None for no bias.
        generator, dtype: of the initial draw.

    Source: Gu & Dao 2023, Mamba, algorithm 2; here without the expansion of channels.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int,
        *,
        convolution: int = 0,
        gate: Kind | None = "silu",
        gate_start: float | None = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        D, N = d_model, d_state
        self.d_state = N
        dense = partial(linear, generator=generator, dtype=dtype)
        self.u, self.out = dense(D, D, bias=False), dense(D, D, bias=False)
        self.B, self.C, self.dt = dense(D, N, bias=False), dense(D, N, bias=False), dense(D, D)
        first = torch.rand(D, generator=generator, dtype=dtype) * math.log(100) + math.log(1e-3)
        with torch.no_grad():
            self.dt.bias.copy_(first.exp().expm1().log())
        rates = torch.arange(1, N + 1, dtype=dtype)
        self.log_A = nn.Parameter(rates.log().repeat(D, 1))
        self.D = nn.Parameter(torch.ones(D, dtype=dtype))
        without_decay(self, "log_A", "D")
        width, kernel = convolution, partial(ShortConvolution, generator=generator, dtype=dtype)
        self.convolution = kernel(D, width) if width else None
        gates = partial(ReadOutGate, D, D, 1, start=gate_start, dtype=dtype)
        self.gate = None if gate is None else gates(gate)

    @property
    def d_model(self) -> int:
        """D."""
        return self.u.in_features

    def forward(self, x: Tensor) -> Tensor:
        """["B T D"] to ["B T D"], as a scan."""
        u = self._convolved(self.u(x))
        return self._read(self._states(u), u, x)

    def step(self, x_t: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """`forward` as a recurrence; the state is the convolution's and h ["B D N"]."""
        window, h = (None, None) if state is None else state
        u = self.u(x_t)
        if self.convolution is not None:
            u, window = self.convolution.step(u, window)
        u = nn.functional.silu(u)
        a, b = self._maps(u)
        h = b if h is None else a * h + b
        return self._read(h, u, x_t), (window, h)

    def states(self, x: Tensor) -> Tensor:
        """["B T D N"]: h."""
        return self._states(self._convolved(self.u(x)))

    def eigenvalues(self, x: Tensor) -> Tensor:
        """Complex["B T DN"]: exp(dt A)."""
        a, _ = self._maps(self._convolved(self.u(x)))
        return torch.complex(a, torch.zeros_like(a)).flatten(-2)

    def _convolved(self, u: Tensor) -> Tensor:
        return nn.functional.silu(u if self.convolution is None else self.convolution(u))

    def _maps(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The step as h -> a * h + b, both ["... D N"]."""
        dt = softplus(precise(self.dt, u))
        a = torch.exp(-dt[..., None] * wide(self.log_A).exp())
        return a, (dt * u)[..., None] * self.B(u)[..., None, :]

    def _states(self, u: Tensor) -> Tensor:
        a, b = self._maps(u)
        return linear_scan(a.flatten(2), b.flatten(2)).unflatten(-1, a.shape[2:])

    def _read(self, h: Tensor, u: Tensor, x: Tensor) -> Tensor:
        y = (h * self.C(u)[..., None, :]).sum(-1) + self.D * u
        if self.gate is not None:
            y = self.gate(y[..., None], x)[..., 0]
        out: Tensor = self.out(y.to(self.out.weight.dtype))
        return out
