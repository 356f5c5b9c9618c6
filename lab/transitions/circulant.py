"""Circulant and block-circulant transitions, applied in the Fourier basis."""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from lab.linalg.circulant import (
    block_circulant,
    block_fourier,
    block_space,
    circulant,
    fourier,
    from_block_frequencies,
    from_frequencies,
    from_modes,
    is_complex_frequency,
    space,
)
from lab.nn.affine import Affine, affine
from lab.scan import block_scan
from lab.transitions.base import Transition
from lab.transitions.diagonal import PolarDiagonal


class Circulant(PolarDiagonal):
    """A(x) = Circ(a(x)), a real circulant matrix given by its spectrum r(x) exp(i theta(x)).

    The scan runs elementwise over the N // 2 + 1 frequencies; the state is stored as a real signal.
    Since |A| = max r <= 1, the layer is stable. Bounding the first column a would not ensure this:
    with |a_i| <= c the spectrum may reach N c.

    This is `PolarDiagonal` with real ends in another orthogonal basis. With F the matrix of
    `lab.linalg.circulant.real_fourier`, the layer with B, C and this transition equals the diagonal
    layer with F B, C F^T and the same gains, so both represent the same functions.

    Args: those of `PolarDiagonal`, without `real_ends`.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        radius: float = 0.999,
        turn: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            d_model, d_state=d_state, real_ends=True, radius=radius, turn=turn,
            generator=generator, dtype=dtype,
        )  # fmt: skip

    def to_complex(self, h: Float[Tensor, "... N"]) -> Complex[Tensor, "... N//2+1"]:
        """The spectrum of the state Float["... N"]."""
        return fourier(h)

    def to_real(self, modes: Complex[Tensor, "... f"]) -> Float[Tensor, "... N"]:
        """The state as a real signal."""
        return space(modes, self.d_state)

    def dense(self, gain: Complex[Tensor, "... f"]) -> Float[Tensor, "... N N"]:
        """Float["... N N"], the definition: the circulant matrix with these eigenvalues."""
        return circulant(from_frequencies(gain, self.d_state))


class BlockCirculant(Transition):
    """A(x), a real block-circulant matrix of k = N / p blocks of p x p, given per frequency.

    At each of the k // 2 + 1 frequencies, a p x p matrix acts, which is a product of m factors

        I - (1 - r exp(i theta)) v v^H / |v|^2,

    each of which multiplies the direction v by r exp(i theta) and leaves its complement unchanged.
    Its norm is at most 1 for r in (0, 1], and so is that of A. With p = 1 this is `Circulant` with
    the same r and theta. With m = p the products include every unitary matrix (one factor per
    eigenvector), and with p > 1 they do not commute. At the real frequencies, v is real and
    r cos(theta) replaces r exp(i theta), so that A is real.

    Args:
        d_model, d_state: widths of x and of the state.
        block: p, a divisor of d_state.
        factors: m, number of factors.
        radius: r at initialisation.
        turn: standard deviation of theta over tokens at initialisation, in rad.
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        ValueError: p does not divide d_state.

    Source: for p real and r exp(i theta) = -1, Siems et al. 2025, DeltaProduct.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        block: int = 4,
        factors: int = 2,
        radius: float = 0.999,
        turn: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        if d_state % block:
            raise ValueError(f"blocks of {block} must divide d_state {d_state}")
        self.block, self.factors = block, factors
        self.count = d_state // block
        turns = is_complex_frequency(self.count)
        self.turns: Tensor
        self.register_buffer("turns", turns, persistent=False)
        each = factors * len(turns)
        start = torch.full((each,), math.sqrt(-math.log(radius)), dtype=dtype)
        self.decay = Affine(d_model, start, spread=0.1 * start[0].item(), generator=generator)
        self.phase = Affine(d_model, 0 * start, spread=turn, generator=generator)
        normal = torch.randn(factors * d_state, generator=generator, dtype=dtype)
        self.direction = Affine(d_model, normal, spread=1.0, generator=generator)

    def forward(
        self, x: Float[Tensor, "... D"]
    ) -> tuple[Complex[Tensor, "... m f"], Complex[Tensor, "... m f p"]]:
        """Complex["... m f"], the gains, and Complex["... m f p"], the unit directions."""
        f = (self.factors, len(self.turns))
        z, theta, numbers = affine([self.decay, self.phase, self.direction], x)
        r, theta = torch.exp(-z.square()).unflatten(-1, f), theta.unflatten(-1, f)
        gain = torch.complex(r * theta.cos(), r * theta.sin() * self.turns)
        # There are as many real numbers as in a state, because real frequencies have real
        # directions.
        v = from_modes(numbers.unflatten(-1, (self.factors, self.block, self.count))).mT
        size = torch.view_as_real(v).square().sum((-2, -1), keepdim=True)[..., 0]
        return gain, v * size.clamp_min(1e-24).rsqrt()

    def matrices(
        self, parameters: tuple[Complex[Tensor, "... m f"], Complex[Tensor, "... m f p"]]
    ) -> Complex[Tensor, "... f p p"]:
        """The matrix at each frequency; the first factor is applied first."""
        gain, v = parameters
        A = torch.eye(self.block, dtype=v.dtype, device=v.device)
        for i in range(self.factors):
            u, lost = v[..., i, :, :], 1 - gain[..., i, :]
            seen = (u.conj()[..., None] * A).sum(-2)  # u^H A, too small for BLAS
            A = A - (lost[..., None] * u)[..., None] * seen[..., None, :]
        return A

    def dense(
        self, parameters: tuple[Complex[Tensor, "... m f"], Complex[Tensor, "... m f p"]]
    ) -> Float[Tensor, "... N N"]:
        """Float["... N N"], the definition: the block-circulant matrix with these frequencies."""
        return block_circulant(from_block_frequencies(self.matrices(parameters), self.count))

    def product(
        self,
        parameters: tuple[Complex[Tensor, "... m f"], Complex[Tensor, "... m f p"]],
        h: Float[Tensor, "... N"],
    ) -> Float[Tensor, "... N"]:
        """A h for h Float["... N"]."""
        moved = (self.matrices(parameters) @ block_fourier(h, self.block)[..., None])[..., 0]
        return block_space(moved, self.count)

    def scan(
        self,
        parameters: tuple[Complex[Tensor, "... m f"], Complex[Tensor, "... m f p"]],
        b: Float[Tensor, "B T N"],
        initial: Float[Tensor, "B N"],
    ) -> Float[Tensor, "B T N"]:
        """The states of h[t] = A[t] h[t-1] + b[t], computed per frequency."""
        drive, first = (block_fourier(h, self.block) for h in (b, initial))
        modes = block_scan(self.matrices(parameters), drive.flatten(-2), first.flatten(-2))
        return block_space(modes.unflatten(-1, (-1, self.block)), self.count)

    def eigenvalues(
        self, parameters: tuple[Complex[Tensor, "... m f"], Complex[Tensor, "... m f p"]]
    ) -> Complex[Tensor, "... N"]:
        """Eigenvalues of the matrices at all frequencies, conjugates last."""
        found = torch.linalg.eigvals(self.matrices(parameters))
        return torch.cat([found, found[..., self.turns, :].flip(-2).conj()], dim=-2).flatten(-2)
