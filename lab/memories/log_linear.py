"""Log-linear attention: one state for each of a few intervals of the past, short ones if recent."""

from typing import Any

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, softmax
from torch.nn.functional import pad

from lab.linalg.fenwick import States, advance, fenwick_product_chunked, level_count, lowest_digit
from lab.linalg.packed_fenwick import packed_fenwick_product
from lab.linalg.precision import wide
from lab.memories.base import Memory, normalised
from lab.memories.linear_attention import LinearMemory
from lab.nn.guard import check_kind, check_width
from lab.nn.linear import linear, precise


class LogLinearAttention(Memory):
    """A linear attention whose past is split into intervals of 1, 1, 2, 4, ... steps.

    At step t, the weight of what step s wrote is f(q[t])^T f(k[s]) lambda[t, level(t, s)], where
    lambda is a softmax over levels of a linear map of x[t]. The step form stores one matrix per
    non-empty level, at most ceil(log2 T) + 1. All of them are read with the same query. Therefore,
    for a given lambda, a single matrix of rank K (2 K with a cosine) is read, as without levels.

    With normalisation (`inner.normalise`) only ratios of lambda matter, so the softmax denominator
    cancels.

    Args:
        d_model: D.
        inner: the memory that provides features f, width and normalisation: `LinearAttention`
            without decay, or `CosFormer`, for weights that also decrease with distance.
        levels: L; sequences that need more raise an error.
        favoured: a level whose initial lambda is larger, or None.
        start: initial logit of the favoured level relative to the others.
        inclusive: whether to use the other convention of levels, see `lab.linalg.fenwick`.
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        TypeError: `inner` is not a linear memory.
        ValueError: `inner` is for inputs of another width or has a decay, levels is below 1, or the
            favoured level does not exist.

    Source: Guo et al. 2025, Log-linear attention; levels as in its section 3.
    """

    resets = True

    def __init__(
        self,
        d_model: int,
        inner: LinearMemory,
        *,
        levels: int,
        favoured: int | None = None,
        start: float = 4.0,
        inclusive: bool = False,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_kind(self, "inner memory", inner, LinearMemory)
        super().__init__(d_model, heads=inner.heads, d_key=inner.d_key, d_value=inner.d_value)
        check_width(self, d_model, "inner memory", inner)
        if levels < 1 or not 0 <= (favoured or 0) < levels:
            raise ValueError(f"{levels} levels, {favoured} favoured: at least 1, and one of them")
        if inner.log_decay(torch.zeros(1, d_model, dtype=dtype)) is not None:
            raise ValueError("the inner memory decays; levels are for one that keeps what it has")
        self.inner, self.levels, self.inclusive = inner, levels, inclusive
        self.weigh = linear(d_model, self.heads * levels, generator=generator, dtype=dtype)
        if favoured is not None:
            with torch.no_grad():
                self.weigh.bias.view(self.heads, levels)[:, favoured] += start

    def forward(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T M"]:
        """["B H T M"], from pairs of steps within chunks and sums over earlier chunks.

        At the steps of `reset`, all levels are emptied, and intervals are counted anew. The number
        of levels and the horizon hold for all steps of a row together.
        """
        self._check(x.shape[1])
        t = torch.arange(x.shape[1], device=x.device)
        features = self.inner.features(q, t), self.inner.features(k, t)
        parts = *features, self._values(v), self.level_weights(x).movedim(-2, 1)
        if reset is None:
            return self._divided(fenwick_product_chunked(*parts, inclusive=self.inclusive))
        return self._divided(packed_fenwick_product(*parts, reset, inclusive=self.inclusive))

    def step(
        self,
        q: Float[Tensor, "B H K"],
        k: Float[Tensor, "B H K"],
        v: Float[Tensor, "B H M"],
        x: Float[Tensor, "B D"],
        state: tuple[int, States] | None = None,
    ) -> tuple[Float[Tensor, "B H M"], tuple[int, States]]:
        """["B H M"] and the state: a count of steps, and S ["B H F M+1"] per non-empty level."""
        t, states = (0, {}) if state is None else state
        self._check(t + 1)
        states = advance(states, self._written(k, v, t), t, inclusive=self.inclusive)
        weights = self.level_weights(x)[..., None, None]
        S = torch.stack([weights[:, :, level] * S for level, S in states.items()]).sum(0)
        f = self.inner.features(q, torch.tensor(t, device=x.device))
        return self._divided((f[..., None, :] @ S)[..., 0, :]), (t + 1, states)

    def level_weights(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... H L"]:
        """lambda ["... H L"] for x ["... D"]."""
        return softmax(precise(self.weigh, x).unflatten(-1, (self.heads, self.levels)), dim=-1)

    def states(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B T L H F Z"]:
        """["B T L H F M"], or M+1 with the sums of weights last; zero for empty levels."""
        states: States = {}
        seen = []
        for t in range(x.shape[1]):
            new = self._written(k[:, :, t], v[:, :, t], t)
            states = advance(states, new, t, inclusive=self.inclusive)
            empty = torch.zeros_like(new)
            seen.append(torch.stack([states.get(i, empty) for i in range(self.levels)], dim=1))
        return torch.stack(seen, dim=1)

    def eigenvalues(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Complex[Tensor, "B T L"]:
        """1 for levels that a step leaves unchanged, 0 for those it merges.

        These are the eigenvalues of the matrix that maps the states of all levels to the next ones.
        """
        lowest = [lowest_digit(t + self.inclusive) for t in range(x.shape[1])]
        top = torch.tensor(lowest, device=x.device) + (0 if self.inclusive else 1)
        kept = torch.arange(self.levels, device=x.device) > top[:, None]
        return kept.to(wide(x).dtype.to_complex()).expand(x.shape[0], -1, -1)

    def _written(self, k: Tensor, v: Tensor, t: int) -> Tensor:
        """["B H F M"]: what step t adds for k ["B H K"] and v ["B H M"]."""
        f = self.inner.features(k, torch.tensor(t, device=k.device))
        return f[..., None] * self._values(v)[..., None, :]

    def _values(self, v: Tensor) -> Tensor:
        return pad(v, (0, 1), value=1.0) if self.inner.normalise else v

    def _divided(self, o: Tensor) -> Tensor:
        return normalised(o[..., :-1], o[..., -1:]) if self.inner.normalise else o

    def _check(self, T: int) -> None:
        needed, horizon = level_count(T, inclusive=self.inclusive), self._horizon
        if needed > self.levels:
            raise ValueError(f"{T} steps need {needed} levels, there are {self.levels}")
        if horizon is not None and horizon < T:
            raise ValueError(f"{T} steps, and a horizon of {horizon}: make it at least as long")

    @property
    def _horizon(self) -> Any:
        """Number of steps after which weights of the inner memory would be negative, or None."""
        return getattr(self.inner, "horizon", None)
