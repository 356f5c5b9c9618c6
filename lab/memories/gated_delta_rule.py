"""The gated delta rule: all that is stored fades, and what is stored under a key is replaced."""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from lab.linalg.precision import wide
from lab.memories.delta_rule import DeltaRule
from lab.nn.linear import linear, precise
from lab.nn.weight_decay import without_decay


class GatedDeltaRule(DeltaRule):
    """S[t] = a S[t-1] + beta k (v - a S[t-1]^T k)^T, o[t] = S[t]^T q[t], from an empty state.

    k and q have length 1 and beta = sigmoid(W x + b). The gain of a head is a = exp(-A softplus(W'
    x + b')), as in Mamba-2: A starts between 1 and 16 and the softplus between 0.001 and 0.1 where
    W' x = 0. With a near 1 this is `DeltaRule`; with a near 0 a token clears the memory.

    As published, heads have a short convolution with SiLU before them (`MultiHead` has one without
    it), and a norm (`norm`) and a gate ("silu") behind.

    Args:
        d_model: D.
        heads, d_key, d_value: H, K and M.
        generator, dtype: of the initial draw.

    Source: Yang, Kautz & Hatamizadeh 2024, Gated delta networks: improving Mamba2 with delta rule
    (arXiv 2412.06464), equation 10; Dao & Gu 2024, Transformers are SSMs (the gain).
    """

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        d_value: int | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            d_model, heads=heads, d_key=d_key, d_value=d_value, generator=generator, dtype=dtype
        )
        self.decay = linear(d_model, heads, generator=generator, dtype=dtype)
        first, rate = torch.rand(2, heads, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            self.decay.bias.copy_((first * math.log(100) + math.log(1e-3)).exp().expm1().log())
        self.log_A = nn.Parameter((1 + 15 * rate).log().to(dtype))
        without_decay(self, "log_A")

    def log_gain(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... H 1"]:
        """log a for x ["... D"]: ["... H 1"], below 0."""
        return (-wide(self.log_A).exp() * softplus(precise(self.decay, x)))[..., None]

    def eigenvalues(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Complex[Tensor, "B T n"]:
        """Complex["B T 2H"]: a (1 - beta), along the key, and a, in all other directions."""
        a = self.log_gain(x)[..., 0].exp()
        along = a * (1 - precise(self.beta, x).sigmoid())
        both = torch.cat([along, a], dim=-1)
        return torch.complex(both, torch.zeros_like(both))
