"""A gate on the read-outs of the heads of a mixer."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.nn.weight_decay import without_decay

Kind = Literal["elementwise", "headwise", "silu", "constant", "read"]


class OutputGate(nn.Module):
    """o * g, with one g per entry, or per head, of the read-outs o.

        elementwise   g = sigmoid(W x + b)     depends on the token
        headwise      the same, with one number per head
        silu          g = silu(W x + b)        as in RetNet and gated linear attention
        constant      g = sigmoid(b)           learned, the same at all steps
        read          g = sigmoid(W o + b)     depends on the read-out

    W starts at zero, so a gate starts as the constant sigmoid(start) or silu(start). Without b, the
    sigmoid starts at one half, which halves the read-outs. It never starts at 1, which would leave
    them unchanged.

    Args:
        d_model: D, the width of x.
        heads, d_value: H and M, the sizes of o.
        kind: one of the kinds above.
        start: initial value of b; None for no b.
        dtype: dtype of the parameters.

    Raises:
        ValueError: the kind is unknown; or b is missing for a gate that would then start at zero
            ("silu") or have no parameters ("constant").

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

    def forward(
        self, o: Float[Tensor, "... H M"], x: Float[Tensor, "... D"]
    ) -> Float[Tensor, "... H M"]:
        """o ["... H M"] and x ["... D"] to ["... H M"]."""
        return o * self.gates(o, x)

    def gates(
        self, o: Float[Tensor, "... H M"], x: Float[Tensor, "... D"]
    ) -> Float[Tensor, "... H _"]:
        """g ["... H M"], or ["... H 1"] for one number per head."""
        if self.weight is None:
            z: Tensor = self.bias  # type: ignore[assignment]  # a constant gate has a bias
        else:
            source = o.flatten(-2) if self.kind == "read" else x
            z = nn.functional.linear(source, self.weight, self.bias)
        g = nn.functional.silu(z) if self.kind == "silu" else z.sigmoid()
        return g.unflatten(-1, (self.heads, -1))
