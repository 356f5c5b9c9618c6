"""A gated state-space layer whose states are oscillators that pull one another (K-SSM-R)."""

import math
from functools import partial

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from lab.arguments import whole
from lab.linalg.precision import wide
from lab.mixers.base import Layer
from lab.mixers.interventions import Intervention
from lab.mixers.order import order_parameter
from lab.nn.linear import linear, precise
from lab.nn.weight_decay import without_decay
from lab.scan import kuramoto_scan, linear_scan
from lab.scan.kuramoto import kuramoto_step, mean_phase

FLOOR = 1e-6  # added to squares of sizes before their root


class KuramotoSSM(Layer):
    """z[t] = exp(-alpha + i phi) z[t-1] + beta, y[t] = (W_r read(z[t]) + c) * silu(W_g x + c_g).

    alpha = softplus(W_a x + c_a), the drive beta and the coupling K = 2 sigmoid(w_K x + c_K) are
    computed from x[t]. The angle is phi = omega + W_f x + c_f + K Im(M conj(u)), with M the mean of
    u = z[t-1] / sqrt(|z[t-1]|^2 + 1e-6): see `lab.scan.kuramoto_scan`. There is no parallel form.

    Without coupling (K = 0) the layer is a gated diagonal state-space layer with complex states,
    and is computed by `linear_scan`. It then has no w_K and c_K, and the other parameters start as
    those of the coupled layer.

    Initially omega is spaced evenly over (-pi, pi), c_a in random order over (-5, 1), and W_f has
    the standard deviation 0.01.

    Args:
        d_model: D.
        d_state: N, number of oscillators.
        coupled: whether K is computed, and not 0.
        harmonics: n_h; if above 0, what is read are the means over oscillators of |z| e^{i n theta}
            for n = 1 to n_h (real part, imaginary part, size), instead of all real and imaginary
            parts.
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        ValueError: a size is not a whole number or is below 1, harmonics below 0.

    Attributes:
        intervention: what is done to the oscillators after every step of `forward`; None for
            nothing. See `lab.mixers.interventions.intervening`.

    Parameters: N + 4 (D + 1) N + D + 1 + D (D + 1) + D (2 N + 1), without the D + 1 of K if there
    is no coupling, and with 3 n_h in place of the last 2 N if harmonics are read.
    Source: the corrected form of K-SSM v3 in experiment 100.
    """

    intervention: Intervention | None

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        coupled: bool = True,
        harmonics: int = 0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        D = whole("KuramotoSSM", "d_model", d_model, least=1)
        N = whole("KuramotoSSM", "d_state", d_state, least=1)
        self.harmonics = whole("KuramotoSSM", "harmonics", harmonics, least=0)
        self.d_state, self.intervention = N, None
        dense = partial(linear, generator=generator, dtype=dtype)
        self.omega = nn.Parameter(torch.linspace(-math.pi, math.pi, N, dtype=dtype))
        without_decay(self, "omega")
        self.decay, self.frequency, self.drive = dense(D, N), dense(D, N), dense(D, 2 * N)
        self.gate, self.out = dense(D, D), dense(3 * harmonics or 2 * N, D)
        coupling = dense(D, 1)  # drawn either way, so that what is drawn next is the same
        self.coupling = coupling if coupled else None
        with torch.no_grad():
            spread = torch.linspace(-5, 1, N, dtype=dtype)
            self.decay.bias.copy_(spread[torch.randperm(N, generator=generator)])
            drawn = torch.randn(N, D, generator=generator, dtype=dtype)
            self.frequency.weight.copy_(0.01 * drawn)
            self.frequency.bias.zero_()

    @property
    def d_model(self) -> int:
        """D."""
        return self.gate.in_features

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """["B T D"] to ["B T D"], under the intervention if there is one."""
        if self.intervention is None:
            return self._read(self.states(x), x)
        return self._read(self.states_under(x, self.intervention), x)

    def step(
        self, x_t: Float[Tensor, "B D"], state: Float[Tensor, "B 2 N"] | None = None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B 2 N"]]:
        """`forward` as a recurrence; the state is z, real parts before imaginary ones.

        Raises:
            ValueError: there is an intervention that depends on the whole sequence, as all do but
                do(R = r).
        """
        parts = self._parts(x_t)
        z = torch.zeros_like(parts[3]) if state is None else state
        z = _stepped(*parts, z, self.intervention)
        if self.intervention is not None:
            if not getattr(self.intervention, "by_step", False):
                raise ValueError(
                    f"KuramotoSSM: {self.intervention} is of sequences, and not of a step"
                )
            z = self.intervention.planned(z.new_zeros(len(z), 0))(z, 0)
        return self._read(z, x_t), z

    def states(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T 2 N"]:
        """z, undisturbed; real parts before imaginary ones."""
        gain, turn, coupling, b = self._parts(x)
        if self.coupling is not None:
            return kuramoto_scan(gain, turn, coupling, b)
        z = linear_scan(torch.polar(gain, turn), torch.complex(*b.unbind(-2)))
        return torch.stack([z.real, z.imag], dim=-2)

    def states_under(
        self, x: Float[Tensor, "B T D"], intervention: Intervention
    ) -> Float[Tensor, "B T 2 N"]:
        """z under an intervention: each step starts from what the intervention left before it."""
        gain, turn, coupling, b = self._parts(x)
        change = intervention.planned(order_parameter(self.states(x)))
        z, states = torch.zeros_like(b[:, 0]), []
        for t in range(x.shape[1]):
            parts = gain[:, t], turn[:, t], coupling[:, t], b[:, t]
            z = change(_stepped(*parts, z, intervention), t)
            states.append(z)
        return torch.stack(states, dim=1)

    def order(
        self, x: Float[Tensor, "B T D"], intervention: Intervention | None = None
    ) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
        """R after every step: of the phases, and as the coupling takes it (see `mean_phase`).

        The second is smaller where oscillators have next to no size.
        """
        z = self.states(x) if intervention is None else self.states_under(x, intervention)
        return order_parameter(z), mean_phase(z).norm(dim=-1)

    def eigenvalues(self, x: Float[Tensor, "B T D"]) -> Complex[Tensor, "B T N"]:
        """exp(-alpha + i (omega + W_f x + c_f)): those of a step without coupling."""
        gain, turn, _, _ = self._parts(x)
        return torch.polar(gain, turn)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `kuramoto_scan` takes."""
        gain = torch.exp(-softplus(precise(self.decay, x)))
        turn = wide(self.omega) + precise(self.frequency, x)
        b = wide(self.drive(x)).unflatten(-1, (2, self.d_state))
        if self.coupling is None:
            return gain, turn, torch.zeros_like(turn[..., 0]), b
        return gain, turn, 2 * precise(self.coupling, x)[..., 0].sigmoid(), b

    def _read(self, z: Tensor, x: Tensor) -> Tensor:
        read = harmonics_of(z, self.harmonics) if self.harmonics else z.flatten(-2)
        y: Tensor = self.out(read.to(x.dtype)) * silu(self.gate(x))
        return y


def _stepped(
    gain: Tensor, turn: Tensor, coupling: Tensor, b: Tensor, z: Tensor,
    intervention: Intervention | None,
) -> Tensor:  # fmt: skip
    """One step, whose coupling an intervention may change."""
    change = getattr(intervention, "coupling", None)
    strength = coupling if change is None else change(coupling, z)
    return kuramoto_step(gain, turn, strength, b, z)


def harmonics_of(z: Float[Tensor, "... 2 N"], count: int) -> Float[Tensor, "... F"]:
    """F = 3 n_h features: Z_n = mean of |z| e^{i n theta} as Re, Im and size, for n = 1 to n_h."""
    size = (z.square().sum(-2) + FLOOR).sqrt()
    u = torch.complex(*z.unbind(-2)) / size
    power, means = torch.complex(size, torch.zeros_like(size)), []
    for _ in range(count):
        power = power * u
        means.append(power.mean(-1))
    return circular_features(torch.stack(means, dim=-1))


def circular_features(mean: Complex[Tensor, "... n"]) -> Float[Tensor, "... 3*n"]:
    """Real parts, imaginary parts and sizes; the last have a gradient at zero, too."""
    size = (mean.real.square() + mean.imag.square() + FLOOR**2).sqrt()
    return torch.cat([mean.real, mean.imag, size], dim=-1)
