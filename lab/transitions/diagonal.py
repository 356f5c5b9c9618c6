"""Diagonal transitions: real and positive, real and signed, complex in polar form."""

import math

import torch
from torch import Tensor

from lab.linalg.circulant import from_modes, is_complex_frequency, to_modes
from lab.nn.affine import Affine, affine
from lab.scan import linear_scan
from lab.transitions.base import DiagonalTransition, Transition


class RealDiagonal(DiagonalTransition):
    """A(x) = diag(a(x)) with real gains: a = sigmoid(z) in (0, 1), or a = tanh(z) in (-1, 1).

    z is affine in x. Without any input the sizes |a| are spread over the channels from 0.5 to
    `longest`, evenly in logits, so that there are short and long memories; signed gains take
    turns in sign.

    Args:
        d_model, d_state: widths of x and of the state.
        signed: tanh in place of the sigmoid.
        longest: the largest |a| at the start, below 1.
        generator, dtype: of the initial draw.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int,
        *,
        signed: bool = False,
        longest: float = 0.999,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.d_state, self.signed = d_state, signed
        start = torch.linspace(0, math.log(longest / (1 - longest)), d_state, dtype=dtype)
        if signed:
            start = start.sigmoid().atanh() * (1 - 2 * (torch.arange(d_state) % 2))
        self.gain = Affine(d_model, start, spread=1.0, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Float["... N"], the gains for x ["... D"]."""
        z = self.gain(x)
        return z.tanh() if self.signed else z.sigmoid()


class PolarDiagonal(Transition):
    """A(x) = diag(r(x) exp(i theta(x))) on N / 2 complex modes, which are N real numbers of state.

    The state is stored as real numbers, (Re, Im) after one another, so that B and C are real
    matrices and y = C h is Re(C_complex h_complex): a complex layer in everything but its storage.

    r = exp(-z^2) lies in (0, 1] and reaches 1, where a sigmoid never arrives; z and theta are
    affine in x. At the start r is near `radius`, and every token has phases of its own.

    With `real_ends` the modes are those of a real circulant matrix: N // 2 + 1 of them, the first
    and (for even N) the last real, with gain r cos(theta). The state is as
    `lab.linalg.circulant.to_modes` lists it.

    Args:
        d_model, d_state: widths of x and of the state; the latter even without `real_ends`.
        real_ends: as above.
        radius: r at the start, in (0, 1).
        turn: standard deviation of theta over tokens at the start, in rad.
        generator, dtype: of the initial draw.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int,
        *,
        real_ends: bool = False,
        radius: float = 0.999,
        turn: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if d_state % 2 and not real_ends:
            raise ValueError(f"d_state {d_state} must be even: a complex mode is two real numbers")
        self.d_state, self.real_ends = d_state, real_ends
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

    def forward(self, x: Tensor) -> Tensor:
        """Complex["... modes"], the gains for x ["... D"]."""
        z, theta = affine([self.decay, self.phase], x)
        r = torch.exp(-z.square())
        return torch.complex(r * theta.cos(), r * theta.sin() * self.turns)

    def to_complex(self, h: Tensor) -> Tensor:
        """Complex["... modes"] from the stored Float["... N"]."""
        if self.real_ends:
            return from_modes(h)
        return torch.view_as_complex(h.unflatten(-1, (-1, 2)))

    def to_real(self, modes: Tensor) -> Tensor:
        """Float["... N"], as the state is stored, from Complex["... modes"]."""
        if self.real_ends:
            return to_modes(modes, self.d_state)
        return torch.view_as_real(modes).flatten(-2)

    def dense(self, gain: Tensor) -> Tensor:
        """Float["... N N"], the definition: 2 x 2 blocks r [[cos, -sin], [sin, cos]]."""
        unit = torch.eye(self.d_state, dtype=gain.real.dtype, device=gain.device)
        return self.product(gain[..., None, :], unit).mT

    def product(self, gain: Tensor, h: Tensor) -> Tensor:
        """A h for h Float["... N"]."""
        return self.to_real(gain * self.to_complex(h))

    def scan(self, gain: Tensor, b: Tensor, initial: Tensor) -> Tensor:
        """Float["B T N"]: the states of h[t] = A[t] h[t-1] + b[t]."""
        modes = linear_scan(gain, self.to_complex(b), self.to_complex(initial))
        return self.to_real(modes)

    def eigenvalues(self, gain: Tensor) -> Tensor:
        """Complex["... N"]: the gains, then the conjugates of those of the pairs, last first."""
        return torch.cat([gain, gain[..., self.turns].flip(-1).conj()], dim=-1)
