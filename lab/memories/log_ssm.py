"""State-space recurrences in the semiring (logsumexp, +).

Averages whose weights are fixed at write time, independent of later queries.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor
from torch.nn.functional import softplus

from lab.memories.base import Memory
from lab.memories.linear_attention import scalar_decay
from lab.memories.softmax_average import shares
from lab.nn.linear import precise
from lab.scan import softmax_scan

State = tuple[Float[Tensor, "B N V"], Float[Tensor, "B N"]]
States = tuple[Float[Tensor, "B T N V"], Float[Tensor, "B T N"]]  # after every step
Logits = Literal["summed", "separate"]


class LogEMA(Memory):
    """Every head stores one softmax average of its values, a normalised moving average.

        l[t] = logsumexp(a[t] + l[t-1], b[t])        b[t] = q[t] . k[t] / sqrt(K)
        o[t] = (1 - z[t]) o[t-1] + z[t] v[t]         z[t] = exp(b[t] - l[t])

    Unrolled, o[t] is the average of v[j] with weights exp(b[j] + a[j+1] + ... + a[t]). A key is
    only combined with the query of the same step. Therefore the ratio of the weights of two past
    steps never changes later, and a query can only choose how much of the whole past is kept. The
    state has M + 1 numbers per head.

    Args:
        d_model: D.
        heads, d_key, d_value: H, K and M.
        decay: the initial a = -softplus(W x + c) is near -decay. It should be below 1 / T, because
            otherwise the past is forgotten.
        generator, dtype: random stream and dtype of the initial parameters.

    Source: Feng et al. 2024, Attention as an RNN (without decay, and with one learned query);
    Beck et al. 2024, xLSTM, equations 13 to 15 (the normaliser).
    """

    resets = True

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        d_value: int | None = None,
        decay: float = 0.018,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, heads=heads, d_key=d_key, d_value=d_value)
        self.decay = scalar_decay(d_model, self.gates, decay, generator, dtype)

    @property
    def gates(self) -> int:
        """Number of input-dependent decays, here H."""
        return self.heads

    def forward(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T M"]:
        """["B H T M"], by the scan; before the steps of `reset`, the averages are emptied."""
        averages, _ = self.scanned(q, k, v, x, reset=reset)
        return self._merged(averages).movedim(1, 2)

    def step(
        self,
        q: Float[Tensor, "B H K"],
        k: Float[Tensor, "B H K"],
        v: Float[Tensor, "B H M"],
        x: Float[Tensor, "B D"],
        state: State | None = None,
    ) -> tuple[Float[Tensor, "B H M"], State]:
        """["B H M"] and the state, averages ["B N V"] and log-normalisers ["B N"]."""
        q, k, v = (part[:, :, None] for part in (q, k, v))
        averages, log_norms = self.scanned(q, k, v, x[:, None], state)
        return self._merged(averages)[:, 0], (averages[:, 0], log_norms[:, 0])

    def scanned(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        initial: State | None = None,
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> States:
        """Averages ["B T N V"] and log-normalisers ["B T N"] after every step."""
        gates = self.log_decay(x), self.logits(q, k)
        return softmax_scan(*gates, self._values(v), initial, reset=reset)

    def weights(
        self, q: Float[Tensor, "B H T K"], k: Float[Tensor, "B H T K"], x: Float[Tensor, "B T D"]
    ) -> Float[Tensor, "B N T T"]:
        """["B N T T"], axes (reading step, writing step): p(j|t), as a softmax over all pairs."""
        return shares(self.log_decay(x).mT, self.logits(q, k).mT)

    def logits(
        self, q: Float[Tensor, "B H T K"], k: Float[Tensor, "B H T K"]
    ) -> Float[Tensor, "B T N"]:
        """b."""
        return self._products(q, k).sum(-1)

    def log_decay(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T N"]:
        """["B T N"], below 0: a."""
        return -softplus(precise(self.decay, x))

    def states(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B T N Z"]:
        """The averages, with the log-normalisers last."""
        averages, log_norms = self.scanned(q, k, v, x)
        return torch.cat([averages, log_norms[..., None]], dim=-1)

    def eigenvalues(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Complex[Tensor, "B T N"]:
        """1 - z."""
        _, log_norms = self.scanned(q, k, v, x)
        keep = -torch.expm1(self.logits(q, k) - log_norms)
        return torch.complex(keep, torch.zeros_like(keep))

    def _products(self, q: Tensor, k: Tensor) -> Tensor:
        """["B T H K"]: products of query and key entries of the same step."""
        return (q * k).movedim(2, 1) / math.sqrt(self.d_key)

    def _values(self, v: Tensor) -> Tensor:
        """["B T N V"], or ["B T 1 V"] if all averages share their values."""
        return v.movedim(2, 1)

    def _merged(self, averages: Tensor) -> Tensor:
        """The read-outs ["B T H M"] from the averages."""
        return averages


class LogSSM(LogEMA):
    """The recurrence as proposed: all heads and all entries of keys average the same values.

    Every entry i of a head has its own logit b_i = q_i k_i / sqrt(K) and its own decay
    a_i = -softplus(W x + c)_i. The read-out is the mean of all averages, each of the same value of
    H M numbers. Since they share the value, this is one average with the mean weights, so heads and
    entries do not increase what can be stored. (As proposed, it is the sum over entries, K times as
    much.)

    Args:
        d_model, heads, d_key, d_value: as for `LogEMA`; values have H M numbers.
        logits: "summed", as in the code of the proposal, adds the logits and decays of a head,
        which
            then stores one average; with "separate" it stores K averages.
        decay: initial decrease of log-weights per step. The code of the proposal started at
            K softplus(1), which is 21 for K = 16: a share of exp(-21) of the past survives a step.
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        ValueError: `logits` is neither of the two.
    """

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        d_value: int | None = None,
        logits: Logits = "summed",
        decay: float = 0.018,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if logits not in get_args(Logits):
            raise ValueError(f"logits are {logits!r}; they must be one of {get_args(Logits)}")
        each = decay / d_key if logits == "summed" else decay
        super().__init__(
            d_model,
            heads=heads,
            d_key=d_key,
            d_value=d_value,
            decay=each,
            generator=generator,
            dtype=dtype,
        )
        self.summed = logits == "summed"

    @property
    def gates(self) -> int:
        """H K."""
        return self.heads * self.d_key

    def logits(
        self, q: Float[Tensor, "B H T K"], k: Float[Tensor, "B H T K"]
    ) -> Float[Tensor, "B T N"]:
        """["B T H"] or ["B T HK"]: b."""
        products = self._products(q, k)
        return products.sum(-1) if self.summed else products.flatten(2)

    def log_decay(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T N"]:
        """["B T H"] or ["B T HK"], below 0: a."""
        decay = super().log_decay(x)
        return decay.unflatten(-1, (self.heads, -1)).sum(-1) if self.summed else decay

    def _values(self, v: Tensor) -> Tensor:
        """["B T 1 HM"]: one value for all averages."""
        return v.movedim(2, 1).flatten(2)[:, :, None]

    def _merged(self, averages: Tensor) -> Tensor:
        return averages.mean(2).unflatten(-1, (self.heads, -1))
