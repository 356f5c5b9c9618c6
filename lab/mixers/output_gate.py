"""A gate on what the heads of a mixer have read."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lab.nn.weight_decay import without_decay

Kind = Literal["elementwise", "headwise", "silu", "constant", "read"]


class OutputGate(nn.Module):
    """o * g, with one g per number, or per head, of what the heads read.

        elementwise   g = sigmoid(W x + b)     from the token
        headwise      the same, one number a head
        silu          g = silu(W x + b)        that of RetNet and gated linear attention
        constant      g = sigmoid(b)           learned, the same at all steps
        read          g = sigmoid(W o + b)     from what was read

    W starts at zero, so that a gate starts as the constant sigmoid(start) or silu(start): one half
    without b, which halves what is read, and never 1, which would leave it as it is.

    Args:
        d_model: D, of x.
        heads, d_value: H and M of o.
        kind: as above.
        start: first value of b; None for no b.
        dtype: of the parameters.

    Raises:
        ValueError: there is no such kind; or there is no b, where the gate would start at zero
            ("silu") or be nothing at all ("constant").

    Source: Qiu et al. 2025, Gated attention for large language models (after softmax attention);
    Sun et al. 2023, Retentive network; Yang et al. 2024, Gated linear attention.
    """

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_value: int,
        kind: Kind = "elementwise",
        start: float | None = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"the gate is {kind!r}; it must be one of {get_args(Kind)}")
        if start is None and kind in ("silu", "constant"):
            raise ValueError(f"the gate {kind!r} needs a bias: give its start as a number")
        self.kind, self.heads = kind, heads
        gates = heads if kind == "headwise" else heads * d_value
        inputs = {"constant": 0, "read": heads * d_value}.get(kind, d_model)
        self.weight = nn.Parameter(torch.zeros(gates, inputs, dtype=dtype)) if inputs else None
        first = None if start is None else torch.full((gates,), start, dtype=dtype)
        self.bias = None if first is None else nn.Parameter(first)
        without_decay(self, "bias")

    def forward(self, o: Tensor, x: Tensor) -> Tensor:
        """o ["... H M"] and x ["... D"] to ["... H M"]."""
        return o * self.gates(o, x)

    def gates(self, o: Tensor, x: Tensor) -> Tensor:
        """g ["... H M"], or ["... H 1"] for one a head."""
        if self.weight is None:
            z: Tensor = self.bias  # type: ignore[assignment]  # a constant gate has one
        else:
            source = o.flatten(-2) if self.kind == "read" else x
            z = nn.functional.linear(source, self.weight, self.bias)
        g = nn.functional.silu(z) if self.kind == "silu" else z.sigmoid()
        return g.unflatten(-1, (self.heads, -1))
