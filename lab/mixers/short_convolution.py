"""A short causal convolution of every channel, which relates a token to preceding tokens."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Complex, Float, Inexact
from torch import Tensor, nn
from torch.nn.functional import pad

from lab.mixers.base import Layer
from lab.nn.guard import check_reset, check_width
from lab.nn.weight_decay import without_decay


class ShortConvolution(Layer):
    """y[t] = sum over i < width of kernel[i] * x[t - i] (+ bias), separately for every channel.

    Args:
        d_model: D, number of channels.
        width: number of steps, including the current one.
        bias: whether there is a bias; it starts at zero.
        start: initial kernel of every channel, newest step first; if None, the kernel is drawn
            uniformly in (-1, 1) / sqrt(width).
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        ValueError: the width is below 1, or `start` does not have `width` values.

    Source: Fu et al. 2023, Hungry hungry hippos (the shift); Gu & Dao 2023, Mamba.
    """

    def __init__(
        self,
        d_model: int,
        *,
        width: int,
        bias: bool = True,
        start: tuple[float, ...] | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if width < 1 or (start is not None and len(start) != width):
            raise ValueError(
                f"a width of {width} with start {start}: 1 or more, and as many values"
            )
        drawn = (2 * torch.rand(width, d_model, generator=generator, dtype=dtype) - 1) / math.sqrt(
            width
        )
        given = None if start is None else torch.tensor(start, dtype=dtype)[:, None]
        self.kernel = nn.Parameter(drawn if given is None else given.repeat(1, d_model))
        self.bias = nn.Parameter(torch.zeros(d_model, dtype=dtype)) if bias else None
        without_decay(self, "bias")

    @property
    def d_model(self) -> int:
        """D."""
        return self.kernel.shape[1]

    def forward(
        self, x: Float[Tensor, "B T D"], reset: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """["B T D"] to ["B T D"]; what came before a step of `reset` is zero from there on."""
        T = x.shape[1]
        delayed = [pad(x, (0, 0, i, 0))[:, :T] for i in range(self.width)]
        if reset is not None:
            check_reset(self, reset, x)
            begun = reset.cumsum(1)  # the number of the sequence in its row
            for i in range(1, min(self.width, T)):
                other = begun[:, i:] != begun[:, :-i]
                delayed[i] = delayed[i].masked_fill(pad(other, (i, 0))[..., None], 0)
        return self._weighed(delayed)

    def step(
        self, x_t: Float[Tensor, "B D"], state: Float[Tensor, "B Z D"] | None = None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B Z D"]]:
        """`forward` as a recurrence: ["B D"] and earlier steps ["B width-1 D"], newest first."""
        if state is None:
            state = x_t.new_zeros(x_t.shape[0], self.width - 1, x_t.shape[1])
        window = torch.cat([x_t[:, None], state], dim=1)
        return self._weighed(list(window.unbind(1))), window[:, : self.width - 1]

    @property
    def width(self) -> int:
        """Number of steps that affect the output."""
        return self.kernel.shape[0]

    def _weighed(self, delayed: list[Tensor]) -> Tensor:
        y = delayed[0] * self.kernel[0]
        for i, x in enumerate(delayed[1:], start=1):
            y = y + x * self.kernel[i]
        return y if self.bias is None else y + self.bias


class Convolved(Layer):
    """Any mixer after a short convolution: mixer(silu(convolution(x))).

    Args:
        d_model: D.
        mixer: ["B T D"] to ["B T D"], with a step form.
        width: width of the convolution, in steps.
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        ValueError: the mixer is for inputs of another width, or `width` is below 1.
    """

    def __init__(
        self,
        d_model: int,
        mixer: nn.Module,
        *,
        width: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        check_width(self, d_model, "mixer", mixer)
        self.mixer: Any = mixer
        self.convolution = ShortConvolution(d_model, width=width, generator=generator, dtype=dtype)

    @property
    def d_model(self) -> int:
        """D."""
        return self.convolution.d_model

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """["B T D"] to ["B T D"]."""
        y: Tensor = self.mixer(self._convolved(x))
        return y

    def step(
        self, x_t: Float[Tensor, "B D"], state: Any = None
    ) -> tuple[Float[Tensor, "B D"], Any]:
        """`forward` as a recurrence; the state is that of the convolution and of the mixer."""
        window, inner = (None, None) if state is None else state
        seen, window = self.convolution.step(x_t, window)
        y_t, inner = self.mixer.step(nn.functional.silu(seen), inner)
        return y_t, (window, inner)

    def states(self, x: Float[Tensor, "B T D"]) -> Inexact[Tensor, "B T ..."]:
        """The states of the mixer."""
        found: Tensor = self.mixer.states(self._convolved(x))
        return found

    def eigenvalues(self, x: Float[Tensor, "B T D"]) -> Complex[Tensor, "B T N"]:
        """The eigenvalues of the mixer."""
        found: Tensor = self.mixer.eigenvalues(self._convolved(x))
        return found

    def _convolved(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.convolution(x))
