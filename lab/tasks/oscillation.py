"""Continuing a damped oscillation: an unsolvable task as first posed, and a solvable one.

In the first, the input does not identify the oscillation; in the second, it does. Both draw
y(t) = A exp(-zeta omega t) sin(omega sqrt(1 - zeta^2) t + phi), t = 0, dt, 2 dt, ...
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from lab.arguments import finite, one_of, refuse, whole
from lab.linalg import oscillator_eigenvalues
from lab.tasks.base import Batch, check_length, check_request

OMEGA = (0.01, 0.1)  # rad/s
ZETA = (0.2, 0.8)  # damping ratio
AMPLITUDE = (0.5, 2.0)
MEAN_SQUARE_AMPLITUDE = (AMPLITUDE[1] ** 3 - AMPLITUDE[0] ** 3) / (
    3 * (AMPLITUDE[1] - AMPLITUDE[0])
)
MEAN_AMPLITUDE = sum(AMPLITUDE) / 2

Kind = Literal["damped", "undamped", "decay"]


def oscillation(
    omega: Float[Tensor, "B"],
    zeta: Float[Tensor, "B"],
    amplitude: Float[Tensor, "B"],
    phase: Float[Tensor, "B"],
    dt: float,
    length: int,
) -> Float[Tensor, "B length"]:
    """y at t = 0, dt, ...; arguments Float["B"] in rad/s, 1, unit of y, rad."""
    time = dt * torch.arange(length, dtype=omega.dtype, device=omega.device)
    pole = oscillator_eigenvalues(omega, zeta)[:, None]
    turns = pole.imag * time + phase[:, None]
    return amplitude[:, None] * torch.exp(pole.real * time) * torch.sin(turns)


def uniform(
    bounds: tuple[float, float], size: int, generator: torch.Generator, dtype: torch.dtype
) -> Float[Tensor, "size"]:
    """Float["size"], drawn uniformly between the bounds."""
    draw = torch.rand(size, generator=generator, dtype=dtype)
    return bounds[0] + (bounds[1] - bounds[0]) * draw


class _MeanSquare:
    """The loss of both tasks: mean squared error over the scored steps."""

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Float[Tensor, ""]:
        """Mean squared error.

        Args:
            model: called with the inputs and the number T of target steps. It continues with zero
                input after the inputs have ended (`lab.mixers.Continuing`).
            batch: a batch from `sample`.
        """
        outputs = model(batch.inputs, batch.targets.shape[1])
        errors = (outputs - batch.targets).square().mean(-1)
        return (errors * batch.mask).sum() / batch.mask.sum()


@dataclass(frozen=True)
class AnonymousOscillations(_MeanSquare):
    """The task as first posed: every sequence is a new oscillation, but all inputs are the same.

        input    1   0   0   0   ...      the same in every sequence
        target   y0  y1  y2  y3  ...      omega, zeta, A and phi drawn anew for every sequence

    The input is independent of the target. Therefore the best prediction is the mean of the target,
    and the loss of any model is at least the variance of the target, which is `floor`.

    Args:
        dt: seconds per step, 0.01 as first posed.
        kind: "damped" as first posed; "undamped" has zeta = 0; "decay" is A exp(-zeta omega t),
            without the sine.

    Raises:
        ValueError: dt is not above 0, or the kind is unknown.
    """

    dt: float = 0.01
    kind: Kind = "damped"
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        finite(type(self).__name__, "dt", self.dt, above=0)
        one_of(type(self).__name__, "kind", self.kind, get_args(Kind))

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs ["B 1 1"], all equal to one; targets ["B T 1"]; every step is scored."""
        check_request(self, batch, length, generator)
        omega = uniform(OMEGA, batch, generator, self.dtype)
        zeta = uniform(ZETA, batch, generator, self.dtype)
        amplitude = uniform(AMPLITUDE, batch, generator, self.dtype)
        phase = uniform((0, 2 * math.pi), batch, generator, self.dtype)
        if self.kind == "undamped":
            zeta = torch.zeros_like(zeta)
        if self.kind == "decay":
            time = self.dt * torch.arange(length, dtype=self.dtype)
            targets = amplitude[:, None] * torch.exp(-(zeta * omega)[:, None] * time)
        else:
            targets = oscillation(omega, zeta, amplitude, phase, self.dt, length)
        mask = torch.ones(batch, length, dtype=torch.bool)
        return Batch(torch.ones(batch, 1, 1, dtype=self.dtype), targets[..., None], mask)

    def mean_square(self, length: int) -> Float64[Tensor, "length"]:
        """E[y_t^2], which is the variance wherever the mean over phases is 0.

        E[sin^2(. + phi)] = 1/2 for a uniform phase, so E[y_t^2] = E[A^2] / 2 * E[exp(-2 zeta omega
        t)]. The kind "decay" has no phase, and so no factor of 1/2.
        """
        check_length(self, length)
        decay = torch.ones(length, dtype=torch.float64)
        if self.kind != "undamped":
            decay = mean_decay(2 * self.dt * torch.arange(length, dtype=torch.float64))
        return MEAN_SQUARE_AMPLITUDE * decay * (1.0 if self.kind == "decay" else 0.5)

    def best_prediction(self, length: int) -> Float64[Tensor, "length"]:
        """E[y_t], the best prediction from the input."""
        check_length(self, length)
        if self.kind != "decay":
            return torch.zeros(length, dtype=torch.float64)
        return MEAN_AMPLITUDE * mean_decay(self.dt * torch.arange(length, dtype=torch.float64))

    def chance(self, length: int) -> float:
        """The loss of predicting zero."""
        return self.mean_square(length).mean().item()

    def floor(self, length: int) -> float:
        """The variance of the target given the input, in closed form."""
        variance = self.mean_square(length) - self.best_prediction(length).square()
        return variance.mean().item()

    def distinct_inputs(self, length: int) -> float:
        """One, the impulse."""
        return 1


@dataclass(frozen=True)
class KnownOscillators(_MeanSquare):
    """The corrected task: K fixed oscillators; the input says which one starts, and how.

        input, channel k      A cos(phi)  0   0   0   ...     the sequence excites oscillator k
        input, channel K + k  A sin(phi)  0   0   0   ...     all other channels are zero
        target                y0          y1  y2  y3  ...     y with omega_k, zeta_k, A, phi

    The target is linear in the input, A sin(w t + phi) = A cos(phi) sin(w t) + A sin(phi) cos(w t).
    Therefore the floor is zero.

    Args:
        omega, zeta: Float["K"], rad/s and 1.
        dt: seconds per step; with 1, phases advance by 1 to 13 rad in 128 steps.

    Raises:
        ValueError: omega and zeta do not share one shape (K,) with K > 0, or dt is not above 0.
    """

    omega: Tensor
    zeta: Tensor
    dt: float = 1.0

    def __post_init__(self) -> None:
        shapes = tuple(self.omega.shape), tuple(self.zeta.shape)
        if shapes[0] != shapes[1] or len(shapes[0]) != 1 or not len(self.omega):
            refuse(type(self).__name__, "the shape of omega and zeta", shapes, "one (K,), K > 0")
        finite(type(self).__name__, "dt", self.dt, above=0)

    @classmethod
    def draw(
        cls,
        systems: int,
        generator: torch.Generator,
        dt: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> "KnownOscillators":
        """K oscillators, drawn from the ranges of `AnonymousOscillations`."""
        whole("KnownOscillators.draw", "systems", systems, least=1)
        omega = uniform(OMEGA, systems, generator, dtype)
        return cls(omega, uniform(ZETA, systems, generator, dtype), dt)

    @property
    def systems(self) -> int:
        """K, which is half the number of input channels."""
        return len(self.omega)

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs ["B 1 2K"], the only non-zero step; targets ["B T 1"]; every step is scored."""
        check_request(self, batch, length, generator)
        dtype, K = self.omega.dtype, self.systems
        system = torch.randint(K, (batch,), generator=generator)
        amplitude = uniform(AMPLITUDE, batch, generator, dtype)
        phase = uniform((0, 2 * math.pi), batch, generator, dtype)
        chosen = functional.one_hot(system, K).to(dtype) * amplitude[:, None]
        impulse = torch.cat([chosen * phase.cos()[:, None], chosen * phase.sin()[:, None]], dim=1)
        targets = oscillation(
            self.omega[system], self.zeta[system], amplitude, phase, self.dt, length
        )
        mask = torch.ones(batch, length, dtype=torch.bool)
        return Batch(impulse[:, None], targets[..., None], mask)

    def response(self, length: int) -> Float[Tensor, "length 1 K2"]:
        """The kernel that solves the task, a sine and a cosine per system."""
        check_length(self, length)
        ones, zeros = torch.ones_like(self.omega), torch.zeros_like(self.omega)
        sines = oscillation(self.omega, self.zeta, ones, zeros, self.dt, length)
        cosines = oscillation(self.omega, self.zeta, ones, zeros + math.pi / 2, self.dt, length)
        return torch.cat([sines, cosines]).mT[:, None]

    def chance(self, length: int) -> float:
        """The loss of predicting zero: the mean of A^2 / 2 exp(-2 zeta omega t)."""
        check_length(self, length)
        time = self.dt * torch.arange(length, dtype=torch.float64)
        decay = torch.exp(-2 * (self.zeta * self.omega).double()[:, None] * time)
        return MEAN_SQUARE_AMPLITUDE / 2 * decay.mean().item()

    def floor(self, length: int) -> float:
        """Zero: the input determines the target."""
        return 0.0

    def distinct_inputs(self, length: int) -> float:
        """Infinity, because amplitude and phase are continuous."""
        return math.inf


def mean_decay(time: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
    """E[exp(-zeta omega t)] over the uniform omega and zeta of the task, in closed form.

    Integrating over omega and then zeta,
    E = [E1(x_ac) - E1(x_ad) - E1(x_bc) + E1(x_bd)] / (t (b - a) (d - c)), x_ij = t i j,
    with omega in [a, b], zeta in [c, d] and E1 the exponential integral; 1 at t = 0.
    Accuracy: about 1e-13 / t absolute, from the cancellation of the logarithms in E1.

    Args:
        time: seconds, at least 0.

    Returns:
        Float64["..."].
    """
    # Imported here because training does not need it.
    from scipy.special import exp1

    (a, b), (c, d) = OMEGA, ZETA
    safe = torch.where(time > 0, time, torch.ones_like(time))

    def E1(x: float) -> Tensor:
        return torch.as_tensor(exp1((safe * x).numpy()))

    integral = E1(a * c) - E1(a * d) - E1(b * c) + E1(b * d)
    mean = integral / (safe * (b - a) * (d - c))
    return torch.where(time > 0, mean, torch.ones_like(mean))
