"""Diagonal transitions: real, and complex in polar form."""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from lab.arguments import one_of, real
from lab.linalg.circulant import from_modes, is_complex_frequency, to_modes
from lab.linalg.permutation import straight_through
from lab.nn.affine import Affine, affine
from lab.nn.linear import linear
from lab.scan import linear_scan
from lab.transitions.base import Transition

Gate = Literal["sigmoid", "tanh"]
GATES = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}
Reaching = Literal["clipped sigmoid", "clipped tanh"]
Start = Literal["ladder", "dense"]


def clipped(free: Float[Tensor, "..."], low: float, high: float) -> Float[Tensor, "..."]:
    """`free` clipped to [low, high], with the gradient of `free`, so that no gain is stuck there.

    A sigmoid or tanh that is stretched first reaches its limits, and a gain of exactly 1 keeps a
    state for any number of steps.
    """
    return straight_through(free.clamp(low, high), free)


_GAINS: dict[str, Callable[[Tensor], Tensor]] = {
    **GATES,
    "clipped sigmoid": lambda z: clipped(1.2 * z.sigmoid() - 0.1, 0.0, 1.0),
    "clipped tanh": lambda z: clipped(1.2 * z.tanh(), -1.0, 1.0),
}


class RealDiagonal(Transition):
    """A(x) = diag(a(x)) with real gains a = gate(W x + b): (D + 1) N parameters.

    With a sigmoid the gains lie in (0, 1) and are decays. With tanh they lie in (-1, 1), so a step
    may also change the sign of a state. Clipped gates are 1.2 times as wide around their middle,
    and clipped (see `clipped`): their gains reach 0, 1 and -1.

    Args:
        d_model: D.
        d_state: N.
        gate: "sigmoid", "tanh", "clipped sigmoid" or "clipped tanh".
        start: initial value of b. "ladder" spreads |a| over the channels from 0.5 to `longest`,
            evenly in logits, so that there are short and long memories; with tanh, signs alternate.
            A number is the b of all channels. "dense" draws W and b as torch does for a dense
            layer, uniform in (-1, 1) / sqrt(D).
        spread: standard deviation of W x at initialisation; 0 draws nothing and starts W at zero.
            It cannot be combined with "dense".
        longest: the largest |a| of the ladder, in (0.5, 1).
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        ValueError: the gate or the start is unknown; `spread` is below 0 or given with "dense"; or
            `longest` is not in (0.5, 1).
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        gate: Gate | Reaching = "sigmoid",
        start: Start | float = "ladder",
        spread: float | None = None,
        longest: float = 0.999,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        one_of("RealDiagonal", "gate", gate, _GAINS)
        self.gate = gate
        if start == "dense":
            if spread is not None:
                raise ValueError(f"start 'dense' has a spread of its own, got spread {spread}")
            self.gain = _as_dense(d_model, d_state, generator, dtype)
        else:
            first = (
                self._ladder(longest, dtype) if start == "ladder" else _alike(start, self.d_state)
            )
            wide = 1.0 if spread is None else real("RealDiagonal", "spread", spread, least=0.0)
            self.gain = Affine(d_model, first.to(dtype), spread=wide, generator=generator)

    def _ladder(self, longest: float, dtype: torch.dtype) -> Tensor:
        """["N"]: the b for which the gains have the magnitudes of the ladder."""
        if not 0.5 < longest < 1:
            raise ValueError(f"longest is {longest}; it must be above 0.5 and below 1")
        start = torch.linspace(0, math.log(longest / (1 - longest)), self.d_state, dtype=dtype)
        if self.gate == "clipped sigmoid":
            return ((start.sigmoid() + 0.1) / 1.2).logit()
        if self.gate == "sigmoid":
            return start
        stretch = 1.2 if self.gate == "clipped tanh" else 1.0
        return (start.sigmoid() / stretch).atanh() * (1 - 2 * (torch.arange(self.d_state) % 2))

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... N"]:
        """Float["... N"], the gains for x ["... D"]."""
        return _GAINS[self.gate](self.gain(x))

    def dense(self, gain: Float[Tensor, "... N"]) -> Float[Tensor, "... N N"]:
        """Float["... N N"]."""
        return torch.diag_embed(gain)

    def product(
        self, gain: Float[Tensor, "... N"], h: Float[Tensor, "... N"]
    ) -> Float[Tensor, "... N"]:
        """A h, computed elementwise."""
        return gain * h

    def scan(
        self, gain: Float[Tensor, "B T N"], b: Float[Tensor, "B T N"], initial: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B T N"]:
        """`linear_scan`."""
        return linear_scan(gain, b, initial)

    def eigenvalues(self, gain: Float[Tensor, "... N"]) -> Complex[Tensor, "... N"]:
        """The gains."""
        return torch.complex(gain, torch.zeros_like(gain))


class PolarDiagonal(Transition):
    """A(x) = diag(r(x) exp(i theta(x))) on N / 2 complex modes, stored as N real numbers.

    The state is stored as real numbers, (Re, Im) of one mode after another. Therefore B and C are
    real matrices, and y = C h is Re(C_complex h_complex): only the storage differs from that of a
    complex layer.

    r = exp(-z^2) lies in (0, 1] and can reach 1, unlike a sigmoid; z and theta are affine in x. At
    initialisation, r is close to `radius`, and phases differ between tokens.

    With `real_ends` the modes are those of a real circulant matrix: there are N // 2 + 1 of them,
    and the first and (for even N) the last are real, with gain r cos(theta). The state is stored in
    the order of `lab.linalg.circulant.to_modes`.

    Args:
        d_model, d_state: widths of x and of the state; d_state must be even without `real_ends`.
        real_ends: as above.
        radius: r at initialisation, in (0, 1).
        turn: standard deviation of theta over tokens at initialisation, in rad.
        generator, dtype: random stream and dtype of the initial parameters.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        real_ends: bool = False,
        radius: float = 0.999,
        turn: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        if d_state % 2 and not real_ends:
            raise ValueError(f"d_state {d_state} must be even: a complex mode is two real numbers")
        self.real_ends = real_ends
        turns = is_complex_frequency(d_state) if real_ends else torch.ones(d_state // 2) > 0
        self.turns: Tensor
        self.register_buffer("turns", turns, persistent=False)
        start = math.sqrt(-math.log(radius))
        self.decay = Affine(
            d_model, torch.full((len(turns),), start, dtype=dtype), spread=0.1 * start,
            generator=generator,
        )  # fmt: skip
        self.phase = Affine(
            d_model, torch.zeros(len(turns), dtype=dtype), spread=turn, generator=generator
        )

    def forward(self, x: Float[Tensor, "... D"]) -> Complex[Tensor, "... modes"]:
        """Complex["... modes"], the gains for x ["... D"]."""
        z, theta = affine([self.decay, self.phase], x)
        r = torch.exp(-z.square())
        return torch.complex(r * theta.cos(), r * theta.sin() * self.turns)

    def to_complex(self, h: Float[Tensor, "... N"]) -> Complex[Tensor, "... modes"]:
        """Complex["... modes"], from the stored state Float["... N"]."""
        if self.real_ends:
            return from_modes(h)
        return torch.view_as_complex(h.unflatten(-1, (-1, 2)))

    def to_real(self, modes: Complex[Tensor, "... modes"]) -> Float[Tensor, "... N"]:
        """Float["... N"], the stored state, from Complex["... modes"]."""
        if self.real_ends:
            return to_modes(modes, self.d_state)
        return torch.view_as_real(modes).flatten(-2)

    def dense(self, gain: Complex[Tensor, "... modes"]) -> Float[Tensor, "... N N"]:
        """Float["... N N"], the definition: 2 x 2 blocks r [[cos, -sin], [sin, cos]]."""
        unit = torch.eye(self.d_state, dtype=gain.real.dtype, device=gain.device)
        return self.product(gain[..., None, :], unit).mT

    def product(
        self, gain: Complex[Tensor, "... modes"], h: Float[Tensor, "... N"]
    ) -> Float[Tensor, "... N"]:
        """A h for h Float["... N"]."""
        return self.to_real(gain * self.to_complex(h))

    def scan(
        self,
        gain: Complex[Tensor, "B T modes"],
        b: Float[Tensor, "B T N"],
        initial: Float[Tensor, "B N"],
    ) -> Float[Tensor, "B T N"]:
        """The states of h[t] = A[t] h[t-1] + b[t]."""
        modes = linear_scan(gain, self.to_complex(b), self.to_complex(initial))
        return self.to_real(modes)

    def eigenvalues(self, gain: Complex[Tensor, "... modes"]) -> Complex[Tensor, "... N"]:
        """The gains, then the conjugates of complex gains in reverse order."""
        return torch.cat([gain, gain[..., self.turns].flip(-1).conj()], dim=-1)


def _alike(start: Start | float, d_state: int) -> Tensor:
    """Float64["N"]: the same number in all channels."""
    if isinstance(start, str):
        one_of("RealDiagonal", "start", start, (*get_args(Start), "a number"))
    return torch.full((d_state,), real("RealDiagonal", "start", start), dtype=torch.float64)


def _as_dense(
    d_model: int, d_state: int, generator: torch.Generator | None, dtype: torch.dtype
) -> Affine:
    """Copy weight and bias from a dense layer, which draws them in that order."""
    drawn = linear(d_model, d_state, generator=generator, dtype=dtype)
    found = Affine(d_model, drawn.bias.detach(), spread=0.0, generator=None)
    found.weight = nn.Parameter(drawn.weight.detach())
    return found
