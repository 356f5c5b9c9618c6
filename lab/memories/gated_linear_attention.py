"""Gated linear attention: every entry of a key has its own input-dependent decay."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from lab.memories.linear_attention import LinearMemory
from lab.nn.linear import linear, precise


class GatedLinearAttention(LinearMemory):
    """S[t] = diag(a[t]) S[t-1] + k[t] v[t]^T, o[t] = S[t]^T q[t] / sqrt(K).

    The decay is a = sigmoid(W x + b)^(1/16). The read-outs should be normalised afterwards (`norm`
    of `MultiHead`), and gated (gate "silu").

    Args:
        d_model: D.
        heads, d_key, d_value: H, K and M.
        rank: rank of W, which is a product of two matrices.
        temper: the degree of the root, 16 as published, with which a starts near 1.
        generator, dtype: random stream and dtype of the initial parameters.

    Source: Yang et al. 2024, Gated linear attention transformers with hardware-efficient training,
    equation 3 and section 4.4.
    """

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        d_value: int | None = None,
        rank: int = 16,
        temper: float = 16.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, heads=heads, d_key=d_key, d_value=d_value)
        self.temper = temper
        inner = min(rank, d_model)
        down = linear(d_model, inner, bias=False, generator=generator, dtype=dtype)
        self.decay = nn.Sequential(
            down, linear(inner, heads * d_key, generator=generator, dtype=dtype)
        )

    def features(
        self, x: Float[Tensor, "... K"], t: Int64[Tensor, "..."]
    ) -> Float[Tensor, "... K"]:
        """x, with the scale split equally between queries and keys."""
        return x * self.d_key**-0.25

    def log_decay(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... H K"]:
        """["... H K"], below 0."""
        down, up = (each for each in self.decay if isinstance(each, nn.Linear))
        decay = logsigmoid(precise(up, precise(down, x))) / self.temper
        return decay.unflatten(-1, (self.heads, self.d_key))
