"""LinOSS: oscillators of fixed frequency, discretised by an implicit step."""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from lab.linalg.precision import wide
from lab.nn.weight_decay import without_decay
from lab.scan import linear_scan, pair_scan
from lab.transitions.base import Transition

# For every oscillator: frequency omega in rad per unit of time, and the factor `keep` of damping.
Oscillation = tuple[Float[Tensor, "... m"], Float[Tensor, "... m"]]


class Oscillators(Transition):
    r"""m oscillators y'' = -omega^2 y, z = y', with step dt; the state holds all z, then all y.

    With a = omega^2 and s = 1 / (1 + dt^2 a), the two forms of a step of (z, y) are

        implicit  keep M,  M = s [[1, -dt a], [dt, 1]]
        polar     keep R,  R = sqrt(s) [[1, -dt omega], [dt omega, 1]], a rotation by
                           theta = atan(dt omega)

    The eigenvalues of M are sqrt(s) exp(+-i theta), and sqrt(s) = cos(theta): the more the implicit
    step rotates, the more it damps. R has the same phases without damping.

    The following holds for norms, with 0 <= keep <= 1:

    - Polar. |keep R| = keep <= 1, so the norm of every product of such steps, with any omega and
      keep at each step, is at most the product of the keeps.
    - Implicit, one omega at all steps. In the energy norm |(z, y)|_a^2 = z^2 + a y^2, M is sqrt(s)
      times a rotation, because diag(1, omega) M diag(1, 1/omega) = sqrt(s) R. It never grows.
    - Implicit, one step, Euclidean. With singular values p >= q, p q = det M = s, and p^2 + q^2 =
      s^2 (2 + dt^2 + dt^2 a^2), so (p - q)^2 = s^2 dt^2 (1 - a)^2 and (p + q)^2 = s^2 (4 + dt^2
      (1 + a)^2), hence |M| = p = (dt |1 - a| + sqrt(4 + dt^2 (1 + a)^2)) s / 2. For a <= 1 this
      falls with a, from (dt + sqrt(4 + dt^2)) / 2 at a = 0; for a >= 1 it is below 1/dt, as
      (2/dt + dt (1 + a))^2 >= 4 + dt^2 (1 + a)^2. So |M| is below the larger of these two: for
      dt = 1 the golden ratio, 1.618, and not 1. It is at most 1 exactly where p^2 + q^2 <= 1 + s^2,
      which is (1 - dt^2) a^2 - 2 a + 1 <= 0: for a >= 1/(1 + dt), and where dt < 1 also
      a <= 1/(1 - dt).
    - Implicit, omega changing. |h[t]| in the energy norm of a[t] is at most keep[t] sqrt(s[t])
      max(1, omega[t] / omega[t-1]) times |h[t-1]| in that of a[t-1], since |.|_a <= max(1, omega /
      omega') |.|_a'. Increases of omega add energy, and no constant bounds the product: k steps
      with a -> 0 and one with a -> infinity have an eigenvalue -> -k, for any dt.

    Args:
        d_model: D, which only subclasses use.
        d_state: N = 2 m, even.
        polar: whether to use the polar form instead of the implicit one.
        dt: the step, in units of time, above 0. It scales z relative to y, and omega.

    Raises:
        ValueError: d_state is odd, or dt is not above 0.
    """

    def __init__(self, d_model: int, *, d_state: int, polar: bool, dt: float = 1.0) -> None:
        super().__init__(d_model, d_state=d_state)
        if d_state % 2:
            raise ValueError(f"d_state {d_state} must be even: an oscillator is two real numbers")
        if not dt > 0:
            raise ValueError(f"dt is {dt}; it must be above 0")
        self.polar, self.dt = polar, dt

    @property
    def norm_bound(self) -> float:
        """An upper bound on the spectral norm of every step, derived in the class docstring."""
        return 1.0 if self.polar else implicit_norm_bound(self.dt)

    def dense(self, parameters: Oscillation) -> Float[Tensor, "... N N"]:
        """["... N N"], a 2 x 2 matrix of diagonal blocks."""
        rows = torch.diag_embed(self._blocks(parameters)).unbind(-4)
        return torch.cat([torch.cat(row.unbind(-3), dim=-1) for row in rows], dim=-2)

    def product(self, parameters: Oscillation, h: Float[Tensor, "... N"]) -> Float[Tensor, "... N"]:
        """A h ["... N"], by the blocks."""
        pairs = h.unflatten(-1, (2, -1))
        return (self._blocks(parameters) * pairs[..., None, :, :]).sum(-2).flatten(-2)

    def scan(
        self, parameters: Oscillation, b: Float[Tensor, "B T N"], initial: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B T N"]:
        """`pair_scan`; for the polar form `linear_scan`, with a complex number per oscillator."""
        if not self.polar:
            pairs = b.unflatten(-1, (2, -1)), initial.unflatten(-1, (2, -1))
            return pair_scan(self._blocks(parameters), *pairs).flatten(-2)
        keep_cos, keep_sin = self._turns(parameters)
        numbers = torch.complex(*b.chunk(2, dim=-1)), torch.complex(*initial.chunk(2, dim=-1))
        h = linear_scan(torch.complex(keep_cos, keep_sin), *numbers)
        return torch.cat([h.real, h.imag], dim=-1)

    def eigenvalues(self, parameters: Oscillation) -> Complex[Tensor, "... N"]:
        """A conjugate pair per oscillator."""
        omega, keep = parameters
        size = keep * _cosine(omega, self.dt) ** (1 if self.polar else 2)
        one = torch.complex(size, size * self.dt * omega)
        return torch.cat([one, one.conj()], dim=-1)

    def force(self, parameters: Oscillation, u: Float[Tensor, "... m"]) -> Float[Tensor, "... 2*m"]:
        """The change of the state by a force u ["... m"] in a step, (dt s, dt^2 s) u."""
        to_speed = self.dt * _cosine(parameters[0], self.dt).square() * u
        return torch.cat([to_speed, self.dt * to_speed], dim=-1)

    def _turns(self, parameters: Oscillation) -> Oscillation:
        """keep cos(theta) and keep sin(theta), ["... m"]."""
        omega, keep = parameters
        keep_cos = keep * _cosine(omega, self.dt)
        return keep_cos, self.dt * omega * keep_cos

    def _blocks(self, parameters: Oscillation) -> Tensor:
        """["... 2 2 m"], axes (out, in, oscillator)."""
        omega, keep = parameters
        if self.polar:
            along, across = self._turns(parameters)
            entries = [along, -across, across, along]
        else:
            along = keep * _cosine(omega, self.dt).square()
            entries = [along, -self.dt * omega.square() * along, self.dt * along, along]
        return torch.stack(entries, dim=-2).unflatten(-2, (2, 2))


class LinOSS(Oscillators):
    """Oscillators with fixed frequencies, no damping and the implicit step (LinOSS-IM).

    Args:
        d_model: D, on which nothing depends.
        d_state: N = 2 m, two for each of m oscillators.
        dt: the step. The source learns one per oscillator, which only changes scales: eigenvalues
            depend only on dt omega.
        generator, dtype: random stream and dtype of the initial parameters; a = omega^2 is uniform
            in (0, 1) as in the source.

    Source: Rusch & Rus 2025, Oscillatory state-space models, section 2; softplus instead of their
    ReLU keeps omega above 0.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        dt: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, d_state=d_state, polar=False, dt=dt)
        omega = torch.rand(d_state // 2, generator=generator, dtype=dtype).sqrt()
        self.frequency = nn.Parameter(inverse_softplus(omega))
        without_decay(self, "frequency")

    def forward(self, x: Float[Tensor, "... D"]) -> Oscillation:
        """The same for every x ["... D"]."""
        return self._oscillation(*x.shape[:-1])

    def scan(
        self, parameters: Oscillation, b: Float[Tensor, "B T N"], initial: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B T N"]:
        """`pair_scan` with one matrix for all steps, which does not use `parameters`."""
        return super().scan(self._oscillation(1, 1), b, initial)

    def _oscillation(self, *shape: int) -> Oscillation:
        omega = softplus(wide(self.frequency)).expand(*shape, -1)
        return omega, torch.ones_like(omega)


def implicit_norm(omega: Float[Tensor, "..."], dt: float = 1.0) -> Float[Tensor, "..."]:
    """Euclidean norm of an undamped implicit step, as derived in `Oscillators`."""
    a = omega.square()
    difference, total = dt * (1 - a).abs(), (4 + (dt * (1 + a)).square()).sqrt()
    return (difference + total) / (2 * (1 + dt**2 * a))


def implicit_norm_bound(dt: float = 1.0) -> float:
    """The supremum of `implicit_norm` over all frequencies."""
    return max((dt + math.sqrt(4 + dt**2)) / 2, 1 / dt)


def inverse_softplus(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The x for which softplus(x) = y, for y above 0."""
    return y + torch.log(-torch.expm1(-y))


def _cosine(omega: Tensor, dt: float) -> Tensor:
    """cos(theta) = sqrt(s)."""
    return torch.rsqrt(1 + (dt * omega).square())
