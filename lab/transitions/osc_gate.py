"""OscGate: oscillators whose frequency and damping depend on the input."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from lab.linalg.precision import wide
from lab.nn.affine import Affine, affine
from lab.nn.weight_decay import without_decay
from lab.transitions.linoss import Oscillation, Oscillators, inverse_softplus


class OscGate(Oscillators):
    """`Oscillators` with omega = softplus(W x + b), zeta = sigmoid(W' x + b'), keep = 1 - zeta.

    `Oscillators` proves that the polar form never increases the norm of the state, for any inputs,
    whereas the implicit form can increase it without bound when omega changes.

    At initialisation and for zero input, theta = atan(dt omega) is spread evenly over (0, pi/2).

    Args:
        d_model: D.
        d_state: N = 2 m, two for each of m oscillators.
        polar: whether to use the polar form instead of the implicit one.
        frequency_gate, damping_gate: whether omega and zeta depend on x; otherwise they are learned
            constants.
        dt: the step, in units of time.
        damping: zeta at initialisation, in (0, 1). It should be near 0, because otherwise the state
            is forgotten within a few steps.
        generator, dtype: random stream and dtype of the initial parameters.

    Real parameters: 2 m, and D m for each gate.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        polar: bool = True,
        frequency_gate: bool = True,
        damping_gate: bool = True,
        dt: float = 1.0,
        damping: float = 0.005,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, d_state=d_state, polar=polar, dt=dt)
        m = d_state // 2
        theta = math.pi / 2 * (torch.arange(m, dtype=dtype) + 0.5) / m
        frequency = inverse_softplus(theta.tan() / dt)
        loss = torch.full((m,), math.log(damping / (1 - damping)), dtype=dtype)

        def gate(start: Tensor, gated: bool) -> nn.Module:
            return (
                Affine(d_model, start, spread=1.0, generator=generator)
                if gated
                else Constant(start)
            )

        self.frequency, self.damping = gate(frequency, frequency_gate), gate(loss, damping_gate)

    def forward(self, x: Float[Tensor, "... D"]) -> Oscillation:
        """omega and keep, ["... m"] each, for x ["... D"]."""
        both = [self.frequency, self.damping]
        if all(isinstance(each, Affine) for each in both):
            frequency, damping = affine(both, x)  # type: ignore[arg-type]
        else:
            frequency, damping = (each(x) for each in both)
        return softplus(frequency), torch.sigmoid(-damping)


class Constant(nn.Module):
    """x -> bias for every x: an `Affine` without its weight."""

    def __init__(self, start: Float[Tensor, "d_output"]) -> None:
        super().__init__()
        self.bias = nn.Parameter(start.clone())
        without_decay(self, "bias")

    def forward(self, x: Float[Tensor, "... d_input"]) -> Float[Tensor, "... d_output"]:
        """["... d_input"] to ["... d_output"]."""
        return wide(self.bias).expand(*x.shape[:-1], -1)
