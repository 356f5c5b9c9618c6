"""Retention: linear attention with a fixed decay per head, and positions as rotations."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from lab.memories.linear_attention import LinearMemory


class Retention(LinearMemory):
    """S[t] = g S[t-1] + R^t k[t] v[t]^T, o[t] = S[t]^T R^t q[t] / sqrt(K), g fixed for every head.

    R rotates pairs of key entries by fixed angles. The weights q^T R^(s-t) k g^(t-s) / sqrt(K)
    therefore depend on positions only through t - s. The read-outs should be normalised afterwards
    (`norm` of `MultiHead`), and gated (gate "silu").

    Args:
        d_model: D, on which nothing depends.
        heads: H, with decays g = 1 - 2^-5 to 1 - 2^-(4+H).
        d_key: K, even.
        d_value: M.
        rotate: whether R is a rotation instead of the identity.

    Raises:
        ValueError: K is odd, so its entries cannot be paired.

    Source: Sun et al. 2023, Retentive network, equations 3, 5 and 8.
    """

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        d_value: int | None = None,
        rotate: bool = True,
    ) -> None:
        super().__init__(d_model, heads=heads, d_key=d_key, d_value=d_value)
        if rotate and d_key % 2:
            raise ValueError(f"d_key {d_key} must be even: entries of keys are turned in pairs")
        self.rotate = rotate

    def features(
        self, x: Float[Tensor, "... K"], t: Int64[Tensor, "..."]
    ) -> Float[Tensor, "... K"]:
        """x, with pairs (first half, second half) rotated by t times their angles."""
        x = x * self.d_key**-0.25
        if not self.rotate:
            return x
        # Step t is rotated by t times an angle. In single precision, this angle would be off by
        # 0.06 rad at step 1,000,000.
        turn = t.double()[..., None] * self.angles(x.device)
        one, two = x.chunk(2, dim=-1)
        cos, sin = turn.cos().to(x), turn.sin().to(x)
        return torch.cat([one * cos - two * sin, one * sin + two * cos], dim=-1)

    def log_decay(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... H 1"]:
        """["... H 1"], the same for every x."""
        powers = torch.arange(self.heads, dtype=torch.float64, device=x.device) + 5
        decay = torch.log1p(-(2.0**-powers)).to(x)[:, None]
        return decay.expand(*x.shape[:-1], *decay.shape)

    def angles(self, device: torch.device) -> Float64[Tensor, "n"]:
        """Float64["K/2"], in rad per step; not a buffer, which would be rounded with the layer."""
        falling = torch.linspace(0, 1, self.d_key // 2, dtype=torch.float64, device=device)
        return 10_000.0**-falling
