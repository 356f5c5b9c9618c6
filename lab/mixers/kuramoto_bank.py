"""The Kuramoto phase bank of K-SSM v3, as published: position-wise, without a memory."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from lab.arguments import finite, one_of, refuse, whole
from lab.linalg.precision import wide
from lab.mixers.base import Layer
from lab.mixers.kuramoto import circular_features
from lab.nn.attributes import replaced
from lab.nn.linear import linear, precise
from lab.nn.weight_decay import without_decay

Noise = Literal["fresh", "common", "none"]
LEAST_NOISE, LEAST_DENOMINATOR = 1e-5, 1e-6


class Coefficients(NamedTuple):
    """What the bank computes from each input: see `KuramotoBank`."""

    determinant: Float[Tensor, "B T"]
    unclipped: Float[Tensor, "B T"]
    u: Float[Tensor, "B T"]
    coupling: Float[Tensor, "B T"]


class KuramotoBank(Layer):
    """y = W_r [Re Z_n, Im Z_n, |Z_n|] + c_r, with harmonics of N phases after one coupling step.

    From x at one position, and nothing else:

        (a, b, c, d, e, f, g, k, i, j) = W_p x + c_p         i and j are not used
        u = clip((d g - c k) / (a g - c e + 1e-6))           K = 2 sigmoid(u)
        theta = omega + mean(x),  Z = mean of e^{i theta}    mean(x) over the D channels
        theta <- theta + K Im(Z e^{-i theta}) - delta xi     xi standard normal, delta = |p| + 1e-5
        Z_n = mean of e^{i n theta}                          n = 1 to n_h

    The order parameter R = |Z_1| depends on x through K alone: where u is clipped, it is a constant
    of the parameters. Initially omega is spaced evenly over [-pi, pi], W_p is orthogonal, c_p is
    0.5 and p is 0.2.

    Args:
        d_model: D.
        d_state: N, number of oscillators.
        harmonics: n_h.
        clip: bounds of u; (0.1, 10) as published.
        noise: "fresh", drawn from torch's global generator in training and evaluation, as
            published; "common", the same xi at step t in every sequence and every call; "none".
            The attribute of that name may be changed.
        seed: of common noise.
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        ValueError: a size is not a whole number or is below 1, the bounds are no ascending pair of
            finite numbers, the noise is unknown, or the seed is not a whole number of at
            least 0.

    Parameters: 10 (D + 1) + N + 3 n_h D + D + 1.
    Source: the public record of K-SSM v3, as experiment 100 states it. There all parameters decay,
    as with `decay="all"` in training; otherwise omega and p are spared.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        harmonics: int,
        clip: tuple[float, float] = (0.1, 10.0),
        noise: Noise = "fresh",
        seed: int = 0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        D = whole("KuramotoBank", "d_model", d_model, least=1)
        N = whole("KuramotoBank", "d_state", d_state, least=1)
        n_h = whole("KuramotoBank", "harmonics", harmonics, least=1)
        low, high = (finite("KuramotoBank", "clip", bound) for bound in clip)
        if low >= high:
            refuse("KuramotoBank", "clip", clip, "a lower and an upper bound")
        one_of("KuramotoBank", "noise", noise, get_args(Noise))
        self.clip, self.noise = (low, high), noise
        self.seed, self.harmonics = whole("KuramotoBank", "seed", seed, least=0), n_h
        dense = partial(linear, generator=generator, dtype=dtype)
        self.project, self.out = dense(D, 10), dense(3 * n_h, D)
        with torch.no_grad():
            nn.init.orthogonal_(self.project.weight, generator=generator)
            self.project.bias.fill_(0.5)
        self.omega = nn.Parameter(torch.linspace(-math.pi, math.pi, N, dtype=dtype))
        self.noise_scale = nn.Parameter(torch.tensor(0.2, dtype=dtype))
        without_decay(self, "omega", "noise_scale")

    @property
    def d_model(self) -> int:
        """D."""
        return self.project.in_features

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """["B T D"] to ["B T D"], one position at a time."""
        return self._read(self._moved(x, 0), x)

    def step(
        self, x_t: Float[Tensor, "B D"], state: int | None = None
    ) -> tuple[Float[Tensor, "B D"], int]:
        """`forward` at one position; the state counts steps, on which common noise depends."""
        t = state or 0
        return self._read(self._moved(x_t[:, None], t), x_t[:, None])[:, 0], t + 1

    def states(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T N"]:
        """The phases after the coupling step, in radians. They are not carried on."""
        return self._moved(x, 0)

    def eigenvalues(self, x: Float[Tensor, "B T D"]) -> Complex[Tensor, "B T N"]:
        """Zero: nothing is left of the state of the step before."""
        zeros = torch.zeros_like(self.states(x))
        return torch.complex(zeros, zeros)

    def order(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T"]:
        """R = |Z_1| at every position."""
        theta = self.states(x)
        return torch.hypot(theta.cos().mean(-1), theta.sin().mean(-1))

    def coefficients(self, x: Float[Tensor, "B T D"]) -> Coefficients:
        """The determinant b g - c f, u before and after clipping, and K."""
        a, b, c, d, e, f, g, k, _, _ = precise(self.project, x).unbind(-1)
        unclipped = (d * g - c * k) / (a * g - c * e + LEAST_DENOMINATOR)
        u = unclipped.clamp(*self.clip)
        return Coefficients(b * g - c * f, unclipped, u, 2 * u.sigmoid())

    def barrier(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, ""]:
        """The published regulariser: 0.1 / (mean |det| + 1e-5) - 0.5 log max(mean u, 1e-5).

        It acts on the clipped u, which has no gradient where u is clipped.
        """
        found = self.coefficients(x)
        wall = 0.1 / (found.determinant.abs().mean() + 1e-5)
        return wall - 0.5 * found.u.mean().clamp_min(1e-5).log()

    def _moved(self, x: Tensor, start: int) -> Tensor:
        """Phases ["B T N"] after the coupling step, of positions from `start` on."""
        theta = wide(self.omega) + wide(x).mean(-1, keepdim=True)
        cosine, sine = theta.cos(), theta.sin()
        real, imaginary = cosine.mean(-1, keepdim=True), sine.mean(-1, keepdim=True)
        pull = imaginary * cosine - real * sine
        theta = theta + self.coefficients(x).coupling[..., None] * pull
        if self.noise == "none":
            return theta
        if self.noise == "fresh":
            xi = torch.randn_like(theta)
        else:
            rows = [_row(self.seed, start + t, len(self.omega)) for t in range(x.shape[1])]
            xi = torch.stack(rows).to(theta)
        return theta - (wide(self.noise_scale).abs() + LEAST_NOISE) * xi

    def _read(self, theta: Tensor, x: Tensor) -> Tensor:
        turned = [n * theta for n in range(1, self.harmonics + 1)]
        Z = torch.stack([torch.complex(t.cos().mean(-1), t.sin().mean(-1)) for t in turned], dim=-1)
        y: Tensor = self.out(circular_features(Z).to(x.dtype))
        return y


def _row(seed: int, t: int, N: int) -> Tensor:
    """Float64["N"]: common noise at step t."""
    # NumPy draws it, because torch.vmap lets nothing draw from torch that all lanes share.
    return torch.from_numpy(np.random.default_rng([seed, t]).standard_normal(N))


@contextmanager
def noise_of(model: nn.Module, noise: Noise) -> Iterator[None]:
    """Inside this context, all banks of a model have this kind of noise.

    Raises:
        ValueError: the noise is unknown.
    """
    one_of("noise_of", "noise", noise, get_args(Noise))
    banks = [module for module in model.modules() if isinstance(module, KuramotoBank)]
    with replaced(banks, "noise", noise):
        yield


def predicted_order(
    shrinkage: Float[Tensor, "steps"], *, d_state: int, u: float, noise: float = 0.2
) -> Float[Tensor, "steps"]:
    """R of a `KuramotoBank` whose phases only weight decay has changed, with nothing fitted.

    R^2 = e^{-delta^2} |mean of e^{i (theta - K R_0 sin theta)}|^2 + (1 - e^{-delta^2}) / N, where
    theta = shrinkage * linspace(-pi, pi, N), R_0 = mean of cos theta, delta = noise * shrinkage and
    K = 2 sigmoid(u).

    Args:
        shrinkage: what omega and delta have been multiplied by: `decayed`.
        d_state: N.
        u: the constant that K is computed from; 0.1 where it sits on the published clip.
        noise: delta at the start.
    """
    theta = shrinkage.double()[:, None] * torch.linspace(-math.pi, math.pi, d_state).double()
    coupling = 2 / (1 + math.exp(-u))
    moved = theta - coupling * theta.cos().mean(-1, keepdim=True) * theta.sin()
    kept = torch.exp(-((noise * shrinkage.double()) ** 2))
    coherent = moved.cos().mean(-1).square() + moved.sin().mean(-1).square()
    return (kept * coherent + (1 - kept) / d_state).sqrt()


def decayed(rates: Float[Tensor, "steps"], *, weight_decay: float) -> Float[Tensor, "steps"]:
    """prod of (1 - lr weight_decay) up to each update: what AdamW's decay leaves of a parameter."""
    return torch.cumprod(1 - rates.double() * weight_decay, dim=0)
