"""cosFormer: linear attention whose weights decrease with distance as a cosine."""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lab.memories.linear_attention import FEATURES, Feature, LinearMemory


class CosFormer(LinearMemory):
    """Averages with weights f(q[t])^T f(k[s]) cos(pi (t - s) / (2 M)), in recurrent form.

    Since cos(a - b) = cos a cos b + sin a sin b, features (f cos, f sin) of twice the width give
    these weights, and the state doubles. M is a constant. In the code of the paper it is the length
    of the sequence; the angle of a token then depends on later steps, and there is no recurrence.

    Args:
        d_model: D, on which nothing depends.
        heads, d_key, d_value: H, K and M of the memory.
        horizon: M of the formula, in steps: at least the length of the longest sequence, because
            weights become negative beyond it.
        feature: f, "relu" as published, or "elu" for elu + 1.
        normalise: whether o is divided by the sum of the weights, as published. Otherwise o grows
            with the number of steps and should be normalised afterwards (`norm` of `MultiHead`).

    Raises:
        ValueError: the feature is unknown, or a sequence is longer than the horizon.

    Source: Qin et al. 2022, cosFormer: rethinking softmax in attention, equations 9 to 11.
    """

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        d_value: int | None = None,
        horizon: int,
        feature: Feature = "relu",
        normalise: bool = True,
    ) -> None:
        super().__init__(d_model, heads=heads, d_key=d_key, d_value=d_value)
        if feature not in ("relu", "elu"):
            raise ValueError(f"feature is {feature!r}; it must be relu or elu, to be positive")
        if horizon < 1:
            raise ValueError(f"the horizon is {horizon}; it must be at least 1 step")
        self.horizon, self.feature, self.normalise = horizon, feature, normalise

    def forward(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T M"]:
        """["B H T M"]; the horizon holds for all steps of a row together."""
        self._check(x.shape[1])
        return super().forward(q, k, v, x, reset)

    def step(
        self,
        q: Float[Tensor, "B H K"],
        k: Float[Tensor, "B H K"],
        v: Float[Tensor, "B H M"],
        x: Float[Tensor, "B D"],
        state: tuple[int, Float[Tensor, "B H 2*K Z"]] | None = None,
    ) -> tuple[Float[Tensor, "B H M"], tuple[int, Float[Tensor, "B H 2*K Z"]]]:
        """As `LinearMemory.step`, with twice as many features."""
        self._check(1 if state is None else state[0] + 1)
        return super().step(q, k, v, x, state)

    def features(
        self, x: Float[Tensor, "... K"], t: Int64[Tensor, "..."]
    ) -> Float[Tensor, "... 2*K"]:
        """f(x) times the cosine, then the sine, of the angle of the step."""
        # Steps are counted in double precision, for any dtype of the input.
        angle = (math.pi / 2 / self.horizon * t.double())[..., None]
        f = FEATURES[self.feature](x)
        return torch.cat([f * angle.cos().to(f), f * angle.sin().to(f)], dim=-1)

    def _check(self, T: int) -> None:
        if self.horizon < T:
            raise ValueError(
                f"{T} steps, and a horizon of {self.horizon}: make it at least as long"
            )
