"""Queries, keys and values of several heads around any memory."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from lab.memories.base import Memory
from lab.mixers.base import Layer
from lab.mixers.output_gate import Kind, OutputGate
from lab.mixers.short_convolution import ShortConvolution
from lab.nn.guard import check_kind, check_reset, check_width
from lab.nn.linear import linear
from lab.nn.weight_decay import without_decay

Heads = tuple[Float[Tensor, "B H T K"], Float[Tensor, "B H T K"], Float[Tensor, "B H T M"]]


class MultiHead(Layer):
    """y = W_o gate(norm(memory(q, k, v))), with q, k and v linear in x.

    Args:
        d_model: D.
        memory: a memory with the same D, with H heads, keys of width K and values of width M.
        bias: whether the four linear maps have a bias.
        convolution: width of a short depthwise convolution of q, k and v; 0 for none.
        shift: whether keys are computed from a[0] * x[t] + a[1] * x[t-1], with a initialised to
            (1, 0.5), so that a value can be stored under the preceding token.
        norm: whether the read-out of each head is normalised to a mean square of 1, with weights.
        gate: kind of the output gate (see `OutputGate`); None for no gate.
        gate_start: initial bias of the gate; None for no bias.
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        TypeError: `memory` is not a Memory.
        ValueError: the memory is for inputs of another width, or the gate is unknown.

    Source: Vaswani et al. 2017 (heads); the convolution as in Yang et al. 2024
    (DeltaNet), but without the SiLU after it.
    """

    def __init__(
        self,
        d_model: int,
        memory: Memory,
        *,
        bias: bool = False,
        convolution: int = 0,
        shift: bool = False,
        norm: bool = False,
        gate: Kind | None = None,
        gate_start: float | None = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        check_kind(self, "memory", memory, Memory)
        check_width(self, d_model, "memory", memory)
        H, K, M = memory.heads, memory.d_key, memory.d_value
        dense = partial(linear, bias=bias, generator=generator, dtype=dtype)
        self.memory = memory
        self.q, self.k = dense(d_model, H * K), dense(d_model, H * K)
        self.v, self.out = dense(d_model, H * M), dense(H * M, d_model)
        convolve = partial(ShortConvolution, generator=generator, dtype=dtype)
        # A single convolution covers q, k and v, because every channel has its own kernel.
        self.convolution = convolve(H * (2 * K + M), width=convolution) if convolution else None
        self.shift = convolve(d_model, width=2, bias=False, start=(1.0, 0.5)) if shift else None
        self.norm = nn.Parameter(torch.ones(H, M, dtype=dtype)) if norm else None
        without_decay(self, "norm")
        gates = partial(OutputGate, d_model, heads=H, d_value=M, start=gate_start, dtype=dtype)
        self.gate = None if gate is None else gates(kind=gate)

    @property
    def d_model(self) -> int:
        """D."""
        return self.q.in_features

    def forward(
        self, x: Float[Tensor, "B T D"], reset: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """["B T D"] to ["B T D"].

        Args:
            x: sequences.
            reset: the steps at which another sequence begins that shares a row with those before,
                for memories that have it (`resets`); none if None.
        """
        packed = () if reset is None else (reset,)
        return self._written(self.memory(*self.heads(x, *packed), x, *packed).movedim(1, 2), x)

    def step(
        self, x_t: Float[Tensor, "B D"], state: Any = None
    ) -> tuple[Float[Tensor, "B D"], Any]:
        """`forward` as a recurrence: ["B D"] and a state to ["B D"] and the next state."""
        shifted, window, memory = (None, None, None) if state is None else state
        seen = x_t
        if self.shift is not None:
            seen, shifted = self.shift.step(x_t, shifted)
        joined = self._projected(x_t, seen)
        if self.convolution is not None:
            joined, window = self.convolution.step(joined, window)
        o, memory = self.memory.step(*self._split(joined), x_t, memory)
        return self._written(o, x_t), (shifted, window, memory)

    def states(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T ..."]:
        """The state of the memory after every step."""
        return self.memory.states(*self.heads(x), x)

    def eigenvalues(self, x: Float[Tensor, "B T D"]) -> Complex[Tensor, "B T n"]:
        """Eigenvalues of the map that a step applies to the stored state."""
        return self.memory.eigenvalues(*self.heads(x), x)

    def heads(self, x: Float[Tensor, "B T D"], reset: Bool[Tensor, "B T"] | None = None) -> Heads:
        """q and k ["B H T K"] and v ["B H T M"] of x ["B T D"]."""
        if reset is not None:
            check_reset(self, reset, x)
        joined = self._projected(x, x if self.shift is None else self.shift(x, reset))
        if self.convolution is not None:
            joined = self.convolution(joined, reset)
        q, k, v = (part.movedim(2, 1) for part in self._split(joined))
        return q, k, v

    def _projected(self, x: Tensor, seen: Tensor) -> Tensor:
        """["... H(2K + M)"]: q, k and v side by side; q and v from x, k from the shifted input."""
        return torch.cat([self.q(x), self.k(seen), self.v(x)], dim=-1)

    def _split(self, joined: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        H, K, M = self.memory.heads, self.memory.d_key, self.memory.d_value
        q, k, v = joined.split([H * K, H * K, H * M], dim=-1)
        return q.unflatten(-1, (H, K)), k.unflatten(-1, (H, K)), v.unflatten(-1, (H, M))

    def _written(self, o: Tensor, x: Tensor) -> Tensor:
        """The output ["... D"] from the read-outs of the heads, ["... H M"]."""
        if self.norm is not None:
            o = self.norm * nn.functional.rms_norm(o, o.shape[-1:], eps=1e-6)
        if self.gate is not None:
            o = self.gate(o, x)
        y: Tensor = self.out(o.flatten(-2))
        return y
