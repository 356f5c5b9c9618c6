"""The scan with R reflections per step: h[t] = P[t, R-1] ... P[t, 0] h[t-1] + b[t]."""

import torch
from jaxtyping import Inexact
from torch import Tensor

from lab.scan.arguments import alike, are_numbers, full_precision, initial_state, rounded_once
from lab.scan.cpu import householder as cpu
from lab.scan.linear import before
from lab.scan.matrix import matrix_scan_associative
from lab.scan.operators import Scan


def householder_scan(
    beta: Inexact[Tensor, "B T R"],
    k: Inexact[Tensor, "B T R N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """States of h[t] = P[t, R-1] ... P[t, 0] h[t-1] + b[t], with P[t, r] = I - beta k k^H.

    Args:
        beta: dimensionless. With |k| = 1, the gain along k is 1 - beta:
            0 leaves the state, 1 projects, 2 reflects. Reflection 0 comes first; R may be 0.
        k: dimensionless, of any length: nothing is normalised.
        b: input per step, in units of the state.
        initial: the state before step 0, in units of the state; zero if None.

    Returns:
        h[0] to h[T-1], in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, or dtypes or devices differ.

    Cost: 2 R N multiply-adds per step forwards and 6 R N backwards, where the states between
    reflections are computed again from h[t-1] and never stored for more than one step. Where there
    is no kernel, as `householder_scan_associative`.
    Precision: as `linear_scan`.
    Source: Siems et al. 2025, DeltaProduct: improving state-tracking in linear RNNs via Householder
    products, section 3 (several reflections per step).
    """
    return rounded_once(_compute, *_checked(beta, k, b, initial))


def _compute(*inputs: Tensor) -> Tensor:
    return _fused(*inputs) if _fused.runs_on(*inputs) else _associative(*inputs)


def householder_scan_sequential(
    beta: Inexact[Tensor, "B T R"],
    k: Inexact[Tensor, "B T R N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """The definition of `householder_scan`, one step after another, with dense matrices."""
    beta, k, b, h = _checked(beta, k, b, initial)
    A = householder_matrices(beta, k)
    states = []
    for t in range(b.shape[1]):
        h = (A[:, t] @ h[..., None])[..., 0] + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def householder_scan_associative(
    beta: Inexact[Tensor, "B T R"],
    k: Inexact[Tensor, "B T R N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """`householder_scan` in torch operations, as a scan of dense matrices: for any device.

    Cost: N^2 (N + R) per step, and the matrices in memory. Where these grow when they are
    multiplied (see `lab.scan.growth`), it is the loop.
    """
    return rounded_once(_associative, *_checked(beta, k, b, initial))


def _associative(beta: Tensor, k: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    with full_precision(b):
        return matrix_scan_associative(householder_matrices(beta, k), b, initial)


def householder_matrices(
    beta: Inexact[Tensor, "B T R"], k: Inexact[Tensor, "B T R N"]
) -> Inexact[Tensor, "B T N N"]:
    """P[R-1] ... P[0] with P = I - beta k k^H, for beta ["B T R"], k ["B T R N"]."""
    N = k.shape[-1]
    A = torch.eye(N, dtype=k.dtype, device=k.device).expand(*k.shape[:2], N, N)
    for gain, direction in zip(beta.unbind(2), k.unbind(2), strict=True):
        along = direction[..., None, :].conj() @ A
        A = A - (gain[..., None] * direction)[..., None] * along
    return A


def _checked(
    beta: Tensor, k: Tensor, b: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The one check of everything that comes in; the initial state is zero if it was None."""
    are_numbers(beta=beta, k=k, b=b, initial=initial)
    shapes = f"beta {tuple(beta.shape)}, k {tuple(k.shape)} and b {tuple(b.shape)}"
    if b.ndim != 3 or k.ndim != 4 or b.shape[1] == 0:
        raise ValueError(f"{shapes} must be (B, T, R), (B, T, R, N) and (B, T, N) with T > 0")
    (B, T, N), R = b.shape, k.shape[2]
    if beta.shape != (B, T, R) or k.shape != (B, T, R, N):
        wanted = f"beta must be {(B, T, R)} and k {(B, T, R, N)}"
        raise ValueError(f"{shapes} do not match: {wanted}")
    names = ["beta", "k", "b", "initial"]
    beta, k, b, initial = alike(names, beta, k, b, initial_state(b, initial))
    return beta, k, b, initial


def _dot(k: Tensor, x: Tensor) -> Tensor:
    """["B T 1"]: k^H x, for both ["B T N"]."""
    return (k.conj() * x).sum(-1, keepdim=True)


def _gradients(
    grad: Tensor, beta: Tensor, k: Tensor, h: Tensor, initial: Tensor
) -> tuple[Tensor, ...]:
    """Gradients with respect to beta, k, b and initial, given the gradient of h."""
    # The adjoint of a step has the same reflections, conjugate and the other way round.
    after_beta, after_k = (
        torch.cat([part[:, 1:], torch.zeros_like(part[:, :1])], dim=1).flip(1, 2)
        for part in (beta.conj(), k)
    )
    g = householder_scan(after_beta, after_k, grad.flip(1)).flip(1)
    # Then all steps at once, through the reflections of each: up for the states, down for what
    # arrives at them.
    reflections = list(zip(beta.unsqueeze(-1).unbind(2), k.unbind(2), strict=True))
    state, states = before(h, initial), []
    for gain, direction in reflections:
        states.append(state)
        state = state - gain * _dot(direction, state) * direction
    arriving, of_beta, of_k = g, [], []
    for (gain, direction), state in zip(reversed(reflections), reversed(states), strict=True):
        along, back = _dot(direction, state), _dot(direction, arriving)
        of_beta.append(-along.conj() * back)
        of_k.append(-(gain * along).conj() * arriving - gain * back.conj() * state)
        arriving = arriving - gain.conj() * back * direction
    if not reflections:
        return beta.clone(), k.clone(), g, arriving[:, 0]  # empty, and so are their gradients
    return torch.cat(of_beta[::-1], dim=2), torch.stack(of_k[::-1], dim=2), g, arriving[:, 0]


_fused = Scan(
    "householder_scan",
    inputs=["beta", "k", "b", "initial"],
    outputs={"h": "b"},
    saved=["beta", "k", "h", "initial"],
    gradients={"beta": "beta", "k": "k", "b": "h", "initial": "initial"},
    kernels={"cpu": cpu},
    formula=_gradients,
)
