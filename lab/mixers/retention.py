"""Retention: linear attention with a fixed decay per head, and positions as rotations."""

import torch
from torch import Tensor

from lab.mixers.linear_attention import LinearMemory


class Retention(LinearMemory):
    """S[t] = g S[t-1] + R^t k[t] v[t]^T, o[t] = S[t]^T R^t q[t] / sqrt(K), g fixed for every head.

    R turns pairs of key entries by fixed angles, so that weights depend on t - s alone: they are
    q^T R^(s-t) k g^(t-s) / sqrt(K). What heads read is to be normalised behind this (`norm` of
    `MultiHead`), and gated ("silu").

    Args:
        heads: H, with decays g = 1 - 2^-5 to 1 - 2^-(4+H).
        d_key: K, even.
        d_value: M.
        rotate: whether there is an R other than the identity.

    Raises:
        ValueError: K is odd, so that its entries do not pair.

    Source: Sun et al. 2023, Retentive network, equations 3, 5 and 8.
    """

    def __init__(
        self, heads: int, d_key: int, d_value: int | None = None, *, rotate: bool = True
    ) -> None:
        super().__init__(heads, d_key, d_value)
        if rotate and d_key % 2:
            raise ValueError(f"d_key {d_key} must be even: entries of keys are turned in pairs")
        # In double precision, whatever that of the input is: they are rounded where they are used.
        powers = torch.arange(heads, dtype=torch.float64) + 5
        self.log_gain: Tensor
        self.register_buffer("log_gain", torch.log1p(-(2.0**-powers)), persistent=False)
        angles = 10_000.0 ** -torch.linspace(0, 1, max(d_key // 2, 1), dtype=torch.float64)
        self.angles: Tensor
        self.register_buffer("angles", angles if rotate else angles[:0], persistent=False)

    def features(self, x: Tensor, t: Tensor) -> Tensor:
        """["... K"]: x, its pairs (first half, second half) turned by t times their angles."""
        x = x * self.d_key**-0.25
        if not len(self.angles):
            return x
        angle = t.to(x.dtype)[..., None] * self.angles.to(x.dtype)
        one, two = x.chunk(2, dim=-1)
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([one * cos - two * sin, one * sin + two * cos], dim=-1)

    def log_gains(self, x: Tensor) -> Tensor:
        """["... H 1"], the same for every x."""
        gain = self.log_gain.to(x.dtype)[:, None]
        return gain.expand(*x.shape[:-1], *gain.shape)
