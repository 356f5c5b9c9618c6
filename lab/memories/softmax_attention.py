"""Causal softmax attention, a memory that stores all keys and values."""

import warnings

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lab.memories.base import Memory, visible

Cache = tuple[Float[Tensor, "B H _ K"], Float[Tensor, "B H _ M"]]


class SoftmaxAttention(Memory):
    """o[t] = sum over s <= t of softmax(q[t] . k[s] / sqrt(K)) v[s].

    The state is the cache of all keys and values, which grows by H (K + M) numbers per step.

    Args:
        d_model: D, on which nothing depends.
        heads, d_key, d_value: H, K and M.

    Half precision is handled by torch's kernel, which accumulates in float32.

    Source: Vaswani et al. 2017, equation 1.
    """

    any_precision = True
    resets = True

    def forward(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T M"]:
        """["B H T M"]; steps of `reset` and later ones do not see what was before.

        With `reset`, torch's kernel is given a mask of T x T for every row.
        """
        mask = None if reset is None else visible(reset)[:, None]
        with warnings.catch_warnings():
            # Models that train side by side call torch's kernel one after another. This is faster
            # than the kernel that could process them at once, so the warning is ignored.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            return scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)

    def step(
        self,
        q: Float[Tensor, "B H K"],
        k: Float[Tensor, "B H K"],
        v: Float[Tensor, "B H M"],
        x: Float[Tensor, "B D"],
        state: Cache | None = None,
    ) -> tuple[Float[Tensor, "B H M"], Cache]:
        """["B H M"] and the cache: keys ["B H T K"] and values ["B H T M"]."""
        k, v = k[:, :, None], v[:, :, None]
        if state is not None:
            k, v = torch.cat([state[0], k], dim=2), torch.cat([state[1], v], dim=2)
        return scaled_dot_product_attention(q[:, :, None], k, v)[:, :, 0], (k, v)

    def states(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B T H K+M"]:
        """The key and value that every step adds to the cache."""
        return torch.cat([k, v], dim=-1).movedim(1, 2)
