"""A delay line: a linear layer that is the same at all times, so that it can select nothing."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from lab.linalg.precision import wide
from lab.mixers.base import Layer
from lab.nn.linear import linear


class DelayLine(Layer):
    """y[t] = sum over i < taps of K_i B x[t - i]: what a few channels held, every step by itself.

    What follows it sees the last steps side by side, as in a shift register of `taps` places.

    Args:
        d_model: D.
        taps: steps that reach the output, the present one included.
        channels: r, numbers kept of every step.
        generator, dtype: of the initial draw.

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

    def forward(self, x: Tensor) -> Tensor:
        """["B T D"] to ["B T D"]."""
        y: Tensor = self.C(self.states(x))
        return y

    def step(self, x_t: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`forward` as a recurrence: ["B D"] and the steps before, ["B r taps-1"], newest last."""
        u = self.B(x_t)[..., None]
        state = u.new_zeros(*u.shape[:2], self.taps - 1) if state is None else state
        window = torch.cat([state, u], dim=-1)
        return self.C(window.flatten(1)), window[..., 1:]

    def states(self, x: Tensor) -> Tensor:
        """["B T r*taps"]: what the line holds, for every channel from the oldest to the newest."""
        return pad(self.B(x), (0, 0, self.taps - 1, 0)).unfold(1, self.taps, 1).flatten(2)

    def eigenvalues(self, x: Tensor) -> Tensor:
        """Complex["B T r*taps"]: zeros, as a shift register forgets all after `taps` steps."""
        shape = *x.shape[:2], self.C.in_features
        return torch.zeros(shape, dtype=wide(x).dtype.to_complex(), device=x.device)
