"""The scan of damped oscillators that pull one another to their mean phase (Kuramoto's model)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lab.scan.arguments import alike, are_numbers, forgetting, initial_state, rounded_once
from lab.scan.cpu import kuramoto as cpu
from lab.scan.log import real
from lab.scan.operators import Scan


def kuramoto_scan(
    gain: Float[Tensor, "B T N"],
    turn: Float[Tensor, "B T N"],
    coupling: Float[Tensor, "B T"],
    b: Float[Tensor, "B T 2 N"],
    initial: Float[Tensor, "B 2 N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T 2 N"]:
    """States of z[t] = gain[t] e^{i phi[t]} z[t-1] + b[t], whose angles depend on all phases.

    With u = z[t-1] / sqrt(|z[t-1]|^2 + 1e-6) and its mean M = R e^{i psi} over the N oscillators,

        phi[t, n] = turn[t, n] + coupling[t] Im(M conj(u[n]))

    where Im(M conj(u)) is R sin(psi - theta) for an oscillator of phase theta whose size is well
    above 1e-3. Without coupling it is `linear_scan` with the gains gain e^{i turn}.

    Args:
        gain: what sizes are multiplied by per step, dimensionless; any number.
        turn: what each oscillator turns by per step without the others, in radians.
        coupling: K, in radians per step; oscillators approach one another where it is positive.
        b: input per step, real parts before imaginary ones, in units of the state.
        initial: the state before step 0, likewise; zero if None.
        reset: Bool["B T"]: before these steps z is set to zero, where another sequence begins that
            shares a row with those before; none if None.

    Returns:
        z[0] to z[T-1], real parts before imaginary ones, in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, numbers are complex, or dtypes or devices
            differ.

    Cost: T steps one after another. No parallel form is known here: the step is not linear in the
    state, so that steps cannot be composed beforehand. About 40 operations per oscillator and step
    forwards and 90 backwards. Where there is no kernel, as the plain loop.
    Precision: that of the dtype; half precision is computed in float32 and rounded once.
    Source: Kuramoto 1984, Chemical oscillations, waves, and turbulence, section 5.4 (the mean
    field); the discrete step and the damping are those of experiment 100.
    """
    return rounded_once(_compute, *_checked(gain, turn, coupling, b, initial, reset=reset))


def _compute(*inputs: Tensor) -> Tensor:
    found: Tensor = _fused(*inputs) if _fused.runs_on(*inputs) else _sequential(*inputs)
    return found


def kuramoto_scan_sequential(
    gain: Float[Tensor, "B T N"],
    turn: Float[Tensor, "B T N"],
    coupling: Float[Tensor, "B T"],
    b: Float[Tensor, "B T 2 N"],
    initial: Float[Tensor, "B 2 N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T 2 N"]:
    """The definition of `kuramoto_scan`, step by step: what every other form must equal."""
    return rounded_once(_sequential, *_checked(gain, turn, coupling, b, initial, reset=reset))


def _sequential(gain: Tensor, turn: Tensor, coupling: Tensor, b: Tensor, z: Tensor) -> Tensor:
    states = []
    for t in range(b.shape[1]):
        z = kuramoto_step(gain[:, t], turn[:, t], coupling[:, t], b[:, t], z)
        states.append(z)
    return torch.stack(states, dim=1)


def kuramoto_step(
    gain: Float[Tensor, "B N"],
    turn: Float[Tensor, "B N"],
    coupling: Float[Tensor, "B"],
    b: Float[Tensor, "B 2 N"],
    z: Float[Tensor, "B 2 N"],
) -> Float[Tensor, "B 2 N"]:
    """One step of `kuramoto_scan`."""
    u, mean, _ = _phases(z)
    angle = turn + coupling[:, None] * _pull(u, mean)
    return gain[:, None] * _turned(z, angle) + b


def mean_phase(z: Float[Tensor, "... 2 N"]) -> Float[Tensor, "... 2"]:
    """M of `kuramoto_scan`, real part before imaginary part; R is its length."""
    return _phases(z)[1]


def _phases(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u ["... 2 N"], their mean M ["... 2"], and what z was multiplied by ["... 1 N"]."""
    per_size = (z.square().sum(-2, keepdim=True) + cpu.FLOOR).rsqrt()
    u = z * per_size
    return u, u.mean(-1), per_size


def _pull(u: Tensor, mean: Tensor) -> Tensor:
    """Im(M conj(u)) ["... N"]."""
    return mean[..., 1, None] * u[..., 0, :] - mean[..., 0, None] * u[..., 1, :]


def _turned(z: Tensor, angle: Tensor) -> Tensor:
    """z e^{i angle}, for z ["... 2 N"] and angle ["... N"]."""
    x, y = z.unbind(-2)
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine * x - sine * y, cosine * y + sine * x], dim=-2)


def _gradients(
    grad: Tensor, gain: Tensor, turn: Tensor, coupling: Tensor, z: Tensor, initial: Tensor
) -> tuple[Tensor, ...]:
    """Gradients with respect to all inputs, given that of z; the kernel's loop in torch."""
    carry = torch.zeros_like(initial)
    found = []
    for t in reversed(range(z.shape[1])):
        state = z[:, t - 1] if t else initial
        u, mean, per_size = _phases(state)
        pull, strength = _pull(u, mean), coupling[:, t, None]
        angle = turn[:, t] + strength * pull
        turned, carry = _turned(state, angle), carry + grad[:, t]
        of_gain = (turned * carry).sum(-2)
        p = gain[:, t] * (turned[:, 0] * carry[:, 1] - turned[:, 1] * carry[:, 0])
        found.append((of_gain, p, (p * pull).sum(-1), carry))
        # Of a phase by itself, and as a part of the mean.
        of_u = torch.stack([p * mean[:, 1:], -p * mean[:, :1]], dim=1)
        of_mean = torch.stack([-(p * u[:, 1]).sum(-1), (p * u[:, 0]).sum(-1)], dim=-1)
        of_u = strength[..., None] * (of_u + of_mean[..., None] / u.shape[-1])
        along = (of_u * u).sum(-2, keepdim=True)
        carry = _turned(gain[:, None, t] * carry, -angle) + per_size * (of_u - u * along)
    steps = [torch.stack(each[::-1], dim=1) for each in zip(*found, strict=True)]
    return *steps, carry


def _checked(
    gain: Tensor, turn: Tensor, coupling: Tensor, b: Tensor, initial: Tensor | None,
    *, reset: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The one check of everything that comes in; the initial state is zero if it was None."""
    named = {"gain": gain, "turn": turn, "coupling": coupling, "b": b, "initial": initial}
    are_numbers(**named)
    for name, tensor in named.items():
        if tensor is not None:
            real(name, tensor)
    if b.ndim != 4 or b.shape[2] != 2 or b.shape[1] == 0:
        raise ValueError(f"b {tuple(b.shape)} must have a shape (B, T, 2, N) with T > 0")
    B, T, _, N = b.shape
    for name, shape in {"gain": (B, T, N), "turn": (B, T, N), "coupling": (B, T)}.items():
        tensor = named[name]
        if tensor is None or tensor.shape != shape:
            got = None if tensor is None else tuple(tensor.shape)
            raise ValueError(f"{name} must be {shape} beside b {tuple(b.shape)}, got {got}")
    gain, *others = alike(list(named), gain, turn, coupling, b, initial_state(b, initial))
    return forgetting(gain, b, reset), *others


_fused = Scan(
    "kuramoto_scan",
    inputs=["gain", "turn", "coupling", "b", "initial"],
    outputs={"z": "b"},
    saved=["gain", "turn", "coupling", "z", "initial"],
    gradients={
        "gain": "gain", "turn": "turn", "coupling": "coupling", "b": "z", "initial": "initial",
    },
    kernels={"cpu": cpu},
    formula=_gradients,
)  # fmt: skip
