"""The delta rule: a new value replaces what is stored under its key, instead of adding to it."""

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor
from torch.nn.functional import normalize

from lab.memories.base import Memory, forgotten
from lab.nn.linear import linear, precise
from lab.scan.key_value import key_value_scan


class DeltaRule(Memory):
    """S[t] = S[t-1] + beta k (v - S[t-1]^T k)^T, o[t] = S[t]^T q[t], from an empty state.

    k and q have norm 1, and beta = sigmoid(W x + b) is in (0, 1). K orthogonal keys can be stored
    without interference. `DeltaNet` is a related mixer for state tracking, with a learned initial
    state, reflections and routings.

    Args:
        d_model: D.
        heads, d_key, d_value: H, K and M.
        generator, dtype: random stream and dtype of the initial parameters.

    Source: Schlag et al. 2021, Linear transformers are secretly fast weight programmers, equation
    24; Yang et al. 2024, Parallelizing linear transformers with the delta rule.
    """

    resets = True

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
        super().__init__(d_model, heads=heads, d_key=d_key, d_value=d_value)
        self.beta = linear(d_model, heads, generator=generator, dtype=dtype)

    def log_gain(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... H 1"] | None:
        """log a for x ["... D"]: ["... H 1"], at most 0; None, as here, for a = 1."""
        return None

    def forward(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T M"]:
        """["B H T M"], in chunks; before the steps of `reset`, S is set to zero."""
        beta, log_gain = precise(self.beta, x).sigmoid().mT, self.log_gain(x)
        if reset is not None:
            log_gain = forgotten(log_gain, reset, self.heads, beta.dtype)
        q, k = normalize(q, dim=-1), normalize(k, dim=-1)
        # Heads become part of the batch.
        gain = None if log_gain is None else log_gain.movedim(-2, 1).flatten(0, 1)
        q, k, v, beta = (part.flatten(0, 1) for part in (q, k, v, beta))
        reads, _ = key_value_scan(q, k, v, gain, beta)
        return reads.unflatten(0, (-1, self.heads))

    def step(
        self,
        q: Float[Tensor, "B H K"],
        k: Float[Tensor, "B H K"],
        v: Float[Tensor, "B H M"],
        x: Float[Tensor, "B D"],
        state: Float[Tensor, "B H K M"] | None = None,
    ) -> tuple[Float[Tensor, "B H M"], Float[Tensor, "B H K M"]]:
        """["B H M"] and the state ["B H K M"]."""
        q, k = normalize(q, dim=-1), normalize(k, dim=-1)
        S = k.new_zeros(*k.shape, self.d_value) if state is None else state
        log_gain = self.log_gain(x)
        S = S if log_gain is None else log_gain.exp()[..., None] * S
        stored = (k[..., None] * S).sum(-2)
        change = precise(self.beta, x).sigmoid()[..., None] * (v - stored)
        S = S + k[..., None] * change[..., None, :]
        return (q[..., None] * S).sum(-2), S

    def states(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B T H K M"]:
        """["B T H K M"]."""
        state, found = None, []
        for t in range(x.shape[1]):
            _, state = self.step(q[:, :, t], k[:, :, t], v[:, :, t], x[:, t], state)
            found.append(state)
        return torch.stack(found, dim=1)

    def eigenvalues(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Complex[Tensor, "B T H"]:
        """1 - beta, for the direction of the key; all others are 1."""
        kept = 1 - precise(self.beta, x).sigmoid()
        return torch.complex(kept, torch.zeros_like(kept))
