"""A delay line: a time-invariant linear layer, which therefore cannot select by content."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import pad

from lab.linalg.precision import wide
from lab.mixers.base import Layer
from lab.nn.linear import linear


class DelayLine(Layer):
    """y[t] = sum over i < taps of K_i B x[t - i]: a linear map of the last steps of a few channels.

    The last `taps` steps are available side by side, as in a shift register.

    Args:
        d_model: D.
        taps: number of steps that affect the output, including the current one.
        channels: r, number of values that are kept of every step.
        generator, dtype: random stream and dtype of the initial parameters.

    Real parameters: D r (1 + taps) + D.

    Raises:
        ValueError: there are no taps or no channels.
    """

    def __init__(
        self,
        d_model: int,
        *,
        taps: int,
        channels: int = 8,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if min(taps, channels) < 1:
            raise ValueError(f"taps {taps} and channels {channels}: both must be at least 1")
        self.taps = taps
        self.B = linear(d_model, channels, bias=False, generator=generator, dtype=dtype)
        self.C = linear(channels * taps, d_model, generator=generator, dtype=dtype)

    @property
    def d_model(self) -> int:
        """D."""
        return self.B.in_features

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """["B T D"] to ["B T D"]."""
        y: Tensor = self.C(self.states(x))
        return y

    def step(
        self, x_t: Float[Tensor, "B D"], state: Float[Tensor, "B r Z"] | None = None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B r Z"]]:
        """`forward` as a recurrence: ["B D"] and earlier steps ["B r taps-1"], newest last."""
        u = self.B(x_t)[..., None]
        state = u.new_zeros(*u.shape[:2], self.taps - 1) if state is None else state
        window = torch.cat([state, u], dim=-1)
        return self.C(window.flatten(1)), window[..., 1:]

    def states(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T N"]:
        """The contents of the line, per channel from the oldest to the newest."""
        return pad(self.B(x), (0, 0, self.taps - 1, 0)).unfold(1, self.taps, 1).flatten(2)

    def eigenvalues(self, x: Float[Tensor, "B T D"]) -> Complex[Tensor, "B T N"]:
        """Zeros, because everything is forgotten after `taps` steps."""
        shape = *x.shape[:2], self.C.in_features
        return torch.zeros(shape, dtype=wide(x).dtype.to_complex(), device=x.device)
