"""Slots: several softmax averages over the past, and a query that chooses among them."""

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor
from torch.nn.functional import pad, softplus

from lab.linalg.chunks import cut, joined, segment_sums
from lab.memories.base import Memory, causal
from lab.memories.linear_attention import scalar_decay
from lab.nn.linear import precise
from lab.scan import softmax_scan

PAIRS = 64  # steps: longer sequences are cut into chunks
CHUNK = 32  # steps of a chunk; measured best of 16, 32 and 64

State = tuple[Float[Tensor, "B H m M"], Float[Tensor, "B H m"]]


class SoftSlots(Memory):
    """Slot i stores a weighted average Y_i of the values, and its log-normaliser l_i.

        l_i[t] = (a[t] + l_i[t-1]) (+) k_i[t]        x (+) y = log(exp(mu x) + exp(mu y)) / mu
        z_i[t] = exp(mu (k_i[t] - l_i[t]))           the share of the new value, in (0, 1]
        Y_i[t] = (1 - z_i[t]) Y_i[t-1] + z_i[t] v[t]
        o[t] = sum over i of softmax over i of mu (q_i[t] + l_i[t]) Y_i[t]

    Keys are logits over m = K slots for writing; queries are logits over them for reading. The
    result equals causal attention with the logits

        mu s(t, j) = log(sum over i of exp(mu (q_i[t] + k_i[j]))) + mu (a[j+1] + ... + a[t]),

    which is normalised linear attention with features exp(mu k) of width m and with decay, computed
    in logarithms so that no feature overflows. The state has m (M + 1) numbers per head.

    Equal slots are a saddle point of the loss. W_q and W_k must therefore start with a spread of
    about one half, as in `MultiHead`. For large mu, (+) approaches the maximum.

    Args:
        d_model: D.
        heads, d_key, d_value: H, the number of slots m of a head, and M.
        mu: the sharpness, an inverse temperature, above 0. It is a plain attribute and may be
            changed between updates, in all models that train side by side.
        decay: None for a = 0. A number above 0 enables the decay a = -softplus(W x + b), one per
            head, and is the initial softplus(b).
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        ValueError: mu or decay is not above 0.

    Source: Milakov & Gimelshein 2018, Online normalizer calculation for softmax (the average);
    Katharopoulos et al. 2020, Transformers are RNNs (the same in exponentials of logits).
    """

    resets = True

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        d_value: int | None = None,
        mu: float = 1.0,
        decay: float | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, heads=heads, d_key=d_key, d_value=d_value)
        if not (mu > 0 and (decay is None or decay > 0)):
            raise ValueError(f"mu is {mu} and decay {decay}; both must be above 0")
        self.mu = mu
        self.decay = (
            None if decay is None else scalar_decay(d_model, heads, decay, generator, dtype)
        )

    def forward(
        self,
        q: Float[Tensor, "B H T m"],
        k: Float[Tensor, "B H T m"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T M"]:
        """["B H T M"], for mu times logits that span at most 60; else see `scanned`.

        Up to 64 steps are computed from all pairs of them (`weights`). Longer sequences are cut
        into chunks of 32 steps: a step reads the pairs within its chunk, and the slots as they were
        before it. Time and memory are linear in T. Weights below 1e-28 of the largest possible
        weight of a chunk are replaced by this bound. Before the steps of `reset`, the slots are
        emptied.
        """
        T = q.shape[2]
        if T <= PAIRS:
            return self.weights(q, k, x, reset) @ v
        q, k, v = (cut(part, CHUNK) for part in (q, k, v))
        a = cut(self.log_decay(x, reset)[..., None], CHUNK)[..., 0]
        average, log_norm = self._before_chunks(k, v, a)
        within = self._logits(q, k, None if self.decay is None and reset is None else a)
        # The largest read logit was left out within the chunk, and so it is left out here.
        earlier = (
            self.mu * q - _most(self.mu * q) + log_norm[..., None, :] + a.cumsum(-1)[..., None]
        )
        weights = torch.cat([within, earlier], dim=-1).softmax(-1)
        return joined(weights[..., :CHUNK] @ v + weights[..., CHUNK:] @ average, T)

    def _before_chunks(self, k: Tensor, v: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Averages ["B H C m M"] and log-normalisers ["B H C m"] before every chunk."""
        # The decay between every step and the end of its chunk.
        left = pad(a[..., 1:], (0, 1)).flip(-1).cumsum(-1).flip(-1)
        ends = self.mu * k + left[..., None]
        log_norm, average = ends.logsumexp(-2), ends.softmax(-2).mT @ v
        decay = a.sum(-1, keepdim=True).expand_as(log_norm)
        shape = decay.shape[:2]
        decay, log_norm, average = (each.flatten(0, 1) for each in (decay, log_norm, average))
        average, log_norm = softmax_scan(decay, log_norm, average)
        average = pad(average[:, :-1], (0, 0, 0, 0, 1, 0))
        log_norm = pad(log_norm[:, :-1], (0, 0, 1, 0), value=-torch.inf)  # empty slots
        return average.unflatten(0, shape), log_norm.unflatten(0, shape)

    def weights(
        self,
        q: Float[Tensor, "B H T m"],
        k: Float[Tensor, "B H T m"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T T"]:
        """["B H T T"], axes (reading step, writing step): the weights of all values in o."""
        a = None if self.decay is None and reset is None else self.log_decay(x, reset)
        return self._logits(q, k, a).softmax(-1)

    def _logits(self, q: Tensor, k: Tensor, a: Tensor | None) -> Tensor:
        """["... T T"]: the logits of `weights`, but for what all writes of a step share.

        The sum over slots is a matrix product, so no array of T x T x m is allocated.
        """
        q, k = self.mu * q, self.mu * k
        most_k = _most(k)
        matches = (q - _most(q)).exp() @ (k - most_k).exp().mT
        floor = torch.finfo(q.dtype).tiny ** 0.75  # the gradient contains its finite reciprocal
        logits = matches.clamp_min(floor).log() + most_k.mT
        if a is not None:
            return logits + segment_sums(a)
        return logits.masked_fill(~causal(q.shape[-2], q.device), -torch.inf)

    def scanned(
        self,
        q: Float[Tensor, "B H T m"],
        k: Float[Tensor, "B H T m"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T M"]:
        """`forward` by the scan over time, for logits of any size."""
        return self.read(q, *self.slots(k, v, x, reset=reset))

    def slots(
        self,
        k: Float[Tensor, "B H T m"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        initial: State | None = None,
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "B H T m M"], Float[Tensor, "B H T m"]]:
        """Averages ["B H T m M"] and mu times the log-normalisers ["B H T m"], after every step.

        Args:
            k: write logits.
            v: ["B H T M"].
            x: ["B T D"].
            initial: both before step 0, ["B H m M"] and ["B H m"]; empty slots if None.
            reset: the steps before which all slots are emptied.
        """
        k = self.mu * k
        decay = self.log_decay(x, reset)[..., None].expand_as(k)
        a, b, values = (part.flatten(0, 1) for part in (decay, k, v[..., None, :]))
        before = None if initial is None else (initial[0].flatten(0, 1), initial[1].flatten(0, 1))
        average, log_norm = softmax_scan(a, b, values, before)
        shape = (-1, self.heads)
        return average.unflatten(0, shape), log_norm.unflatten(0, shape)

    def read(
        self,
        q: Float[Tensor, "... m"],
        average: Float[Tensor, "... m M"],
        log_norm: Float[Tensor, "... m"],
    ) -> Float[Tensor, "... M"]:
        """Read-outs for queries q ["... m"], from averages and log-normalisers."""
        return (self.choice(q, log_norm)[..., None] * average).sum(-2)

    def choice(
        self, q: Float[Tensor, "... m"], log_norm: Float[Tensor, "... m"]
    ) -> Float[Tensor, "... m"]:
        """The weight of every slot in the read-out."""
        return (self.mu * q + log_norm).softmax(-1)

    def log_decay(
        self, x: Float[Tensor, "B T D"], reset: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B H T"]:
        """["B H T"], at most 0: mu a, and -inf at the steps of `reset`."""
        if self.decay is None:
            a = x.new_zeros(x.shape[0], self.heads, x.shape[1])
        else:
            a = -self.mu * softplus(precise(self.decay, x)).mT
        return a if reset is None else torch.where(reset[:, None], -torch.inf, a)

    def step(
        self,
        q: Float[Tensor, "B H m"],
        k: Float[Tensor, "B H m"],
        v: Float[Tensor, "B H M"],
        x: Float[Tensor, "B D"],
        state: State | None = None,
    ) -> tuple[Float[Tensor, "B H M"], State]:
        """["B H M"] and the state: averages ["B H m M"], mu times log-normalisers ["B H m"]."""
        average, log_norm = self.slots(k[:, :, None], v[:, :, None], x[:, None], state)
        after = average[:, :, 0], log_norm[:, :, 0]
        return self.read(q, *after), after

    def states(
        self,
        q: Float[Tensor, "B H T m"],
        k: Float[Tensor, "B H T m"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B T H m M+1"]:
        """The averages, with mu times the log-normalisers last."""
        average, log_norm = self.slots(k, v, x)
        return torch.cat([average, log_norm[..., None]], dim=-1).movedim(1, 2)

    def eigenvalues(
        self,
        q: Float[Tensor, "B H T m"],
        k: Float[Tensor, "B H T m"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Complex[Tensor, "B T H*m"]:
        """1 - z, the share of the past that remains in every slot."""
        _, log_norm = self.slots(k, v, x)
        share = -torch.expm1(self.mu * k - log_norm).movedim(1, 2).flatten(-2)
        return torch.complex(share, torch.zeros_like(share))


def _most(logits: Tensor) -> Tensor:
    """["... 1"]: the largest of every row, as a constant."""
    return logits.amax(-1, keepdim=True).detach()
