"""Linear attention: a matrix of fixed size instead of a cache, with or without decay."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Complex, Float, Int64
from torch import Tensor
from torch.nn.functional import elu, pad, softplus

from lab.memories.base import Memory, forgotten, normalised
from lab.nn.linear import linear, precise
from lab.scan import linear_scan
from lab.scan.key_value import key_value_scan

State = tuple[int, Float[Tensor, "B H F Z"]]
Feature = Literal["elu", "relu", "none"]
FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": lambda x: elu(x) + 1,
    "relu": torch.relu,
    "none": lambda x: x,
}


class LinearMemory(Memory):
    """S[t] = diag(a[t]) S[t-1] + f(k[t]) v[t]^T, o[t] = S[t]^T f(q[t]), optionally normalised.

    With `normalise`, values get a last entry 1, whose column of S sums the weights. Then o is the
    average of the values with weights f(q[t])^T (a[s+1] * ... * a[t] * f(k[s])).

    A subclass defines f and a. The state consists of S and a count of steps, for features f that
    depend on the step.

    Source: Katharopoulos et al. 2020, Transformers are RNNs, equations 10 and 18 to 20.
    """

    normalise: bool = False
    resets = True

    def features(
        self, x: Float[Tensor, "... K"], t: Int64[Tensor, "..."]
    ) -> Float[Tensor, "... F"]:
        """["... F"] for queries or keys ["... K"] at steps t ["..."]; by default the identity."""
        return x

    def log_decay(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... H F"] | None:
        """log a for x ["... D"]: ["... H 1"] or ["... H F"]; None, the default, for a = 1."""
        return None

    def forward(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T M"]:
        """["B H T M"], in chunks; before the steps of `reset`, S is set to zero.

        Features that depend on the step count it from the first step of the row. Where weights
        depend on distances alone, as here, a packed sequence is read as if it were by itself.
        """
        t = torch.arange(x.shape[1], device=x.device)
        decay = self.log_decay(x)
        if reset is not None:
            decay = forgotten(decay, reset, self.heads, x.dtype)
        parts = [self.features(q, t), self.features(k, t), self._values(v)]
        if decay is not None:
            parts.append(decay.movedim(-2, 1))
        # Heads become part of the batch.
        reads, _ = key_value_scan(*(part.flatten(0, 1) for part in parts))
        return self._divided(reads.unflatten(0, (-1, self.heads)))

    def step(
        self,
        q: Float[Tensor, "B H K"],
        k: Float[Tensor, "B H K"],
        v: Float[Tensor, "B H M"],
        x: Float[Tensor, "B D"],
        state: State | None = None,
    ) -> tuple[Float[Tensor, "B H M"], State]:
        """["B H M"] and the state: a count of steps, and S ["B H F M"] or ["B H F M+1"]."""
        t, S = (0, None) if state is None else state
        now, decay = torch.tensor(t, device=x.device), self.log_decay(x)
        S_t = self.features(k, now)[..., None] * self._values(v)[..., None, :]
        if S is not None:
            S_t = S_t + (S if decay is None else decay.exp()[..., None] * S)
        return self._read(self.features(q, now), S_t), (t + 1, S_t)

    def states(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B T H F Z"]:
        """["B T H F M"], or ["B T H F M+1"] with the sums of the weights last."""
        t = torch.arange(x.shape[1], device=x.device)
        decay = self.log_decay(x)
        decay = x.new_zeros(*x.shape[:2], self.heads, 1) if decay is None else decay
        S = self._scanned(self.features(k, t), self._values(v), decay.movedim(-2, 1))
        return S.movedim(1, 2)

    def eigenvalues(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Complex[Tensor, "B T n"]:
        """a."""
        decay = self.log_decay(x)
        if decay is None:
            return super().eigenvalues(q, k, v, x)
        a = decay.exp().flatten(-2).expand(*x.shape[:2], -1)
        return torch.complex(a, torch.zeros_like(a))

    def _values(self, v: Tensor) -> Tensor:
        return pad(v, (0, 1), value=1.0) if self.normalise else v

    def _scanned(self, k: Tensor, v: Tensor, log_decay: Tensor) -> Tensor:
        """S ["B H T F M"] for k ["B H T F"], v ["B H T M"] and log a ["B H T F or 1"]."""
        b = k[..., None] * v[..., None, :]
        a = log_decay.exp()[..., None].expand_as(b)
        flat = (part.flatten(3).flatten(0, 1) for part in (a, b))
        return linear_scan(*flat).unflatten(0, b.shape[:2]).unflatten(-1, b.shape[3:])

    def _read(self, q: Tensor, S: Tensor) -> Tensor:
        return self._divided((q[..., None] * S).sum(-2))

    def _divided(self, o: Tensor) -> Tensor:
        return normalised(o[..., :-1], o[..., -1:]) if self.normalise else o


class LinearAttention(LinearMemory):
    """Linear attention with f = elu + 1, ReLU or the identity, and an optional decay per head.

    Args:
        d_model: D.
        heads, d_key, d_value: H, K and M.
        feature: f. With ReLU, the features of all keys in a sequence can be zero; o is then 0.
        normalise: whether o is divided by the sum of the weights, which must not be negative.
        decay: None for a = 1. A number above 0 enables the decay a = exp(-softplus(W x + b)), one
            per head, and is the initial softplus(b), which is -log a for W x = 0.
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        ValueError: the feature is unknown, weights to be normalised could be negative, or the decay
            is not above 0.
    """

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        d_value: int | None = None,
        feature: Feature = "elu",
        normalise: bool = True,
        decay: float | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, heads=heads, d_key=d_key, d_value=d_value)
        if feature not in FEATURES:
            raise ValueError(f"feature is {feature!r}; it must be one of {get_args(Feature)}")
        if normalise and feature == "none":
            raise ValueError("weights q . k can be negative: they cannot be normalised")
        if decay is not None and not decay > 0:
            raise ValueError(f"decay is {decay}; it must be above 0")
        self.feature, self.normalise = feature, normalise
        self.decay = (
            None if decay is None else scalar_decay(d_model, heads, decay, generator, dtype)
        )

    def features(
        self, x: Float[Tensor, "... K"], t: Int64[Tensor, "..."]
    ) -> Float[Tensor, "... K"]:
        """f(x), which does not depend on the step."""
        return FEATURES[self.feature](x)

    def log_decay(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... H 1"] | None:
        """["... H 1"], below 0; None without decay."""
        return None if self.decay is None else -softplus(precise(self.decay, x))[..., None]


def scalar_decay(
    d_model: int,
    heads: int,
    decay: float,
    generator: torch.Generator | None,
    dtype: torch.dtype,
) -> torch.nn.Linear:
    """["... D"] to ["... H"], whose softplus is near `decay` at initialisation."""
    layer = linear(d_model, heads, generator=generator, dtype=dtype)
    with torch.no_grad():
        layer.bias.fill_(torch.tensor(decay, dtype=torch.float64).expm1().log().item())
    return layer
