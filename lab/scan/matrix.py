"""The scan with a full matrix per step: h[t] = A[t] @ h[t-1] + b[t]."""

import torch
from jaxtyping import Bool, Inexact
from torch import Tensor

from lab.scan import block, gpu
from lab.scan.arguments import alike, are_numbers, forgetting, initial_state, rounded_once
from lab.scan.cpu import matrix as cpu
from lab.scan.operators import Scan


def matrix_scan(
    A: Inexact[Tensor, "#B #T N N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """States of h[t] = A[t] @ h[t-1] + b[t].

    Args:
        A: Float or Complex["B T out in"] with out = in = N, dimensionless. B and T may be 1: one
            matrix for the whole batch, one for all steps, and neither is repeated in memory.
        b: input per step, in units of the state.
        initial: the state before step 0, in units of the state; zero if None.
        reset: Bool["B T"]: before these steps h is set to zero, where another sequence begins that
            shares a row with those before; none if None.

    Returns:
        h[0] to h[T-1], in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, or dtypes or devices differ.

    Cost: N^2 multiply-adds per step forwards, 2 N^2 backwards. Forwards A and b are read once and
    h is written; backwards A, h and the gradient of h are read once and as much is written, with
    g[t] the gradient of h[t] summed over all later steps: g[t] = grad[t] + A[t+1]^H g[t+1],
    grad_A[t] = g[t] h[t-1]^H, grad_b = g. Where there is no kernel, as `matrix_scan_associative`.
    Precision: as `linear_scan`. The gradient of matrices that all steps share is added up in
    float32 over 256 steps, and then in double precision: off by 6e-7 after a million.
    Source: Blelloch 1990, Prefix sums and their applications, section 1.4.1 (the recurrence).
    """
    return rounded_once(_compute, *_checked(A, b, initial, reset=reset))


def _compute(A: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    inputs = A, b, initial
    return _fused(*inputs) if _fused.runs_on(*inputs) else associative(*inputs)


def matrix_scan_sequential(
    A: Inexact[Tensor, "#B #T N N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """The definition of `matrix_scan`, one step after another: what every other form must equal."""
    A, b, h = _checked(A, b, initial, reset=reset)
    steps = A.expand(-1, b.shape[1], -1, -1)
    states = []
    for t in range(b.shape[1]):
        h = (steps[:, t] @ h[..., None])[..., 0] + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def matrix_scan_associative(
    A: Inexact[Tensor, "#B #T N N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """`matrix_scan` in torch operations, by the monoid of affine maps: for any device.

    Cost: N^3 per step, and the products of matrices in memory. A matrix that is constant in time
    is squared once a pass: ceil(log2(T)) passes, each N^2 per step, and N^2 more memory for each.
    Where matrices grow when they are multiplied (see `lab.scan.growth`), it is the loop.
    """
    return rounded_once(associative, *_checked(A, b, initial, reset=reset))


def associative(
    A: Inexact[Tensor, "#B #T N N"], b: Inexact[Tensor, "B T N"], initial: Inexact[Tensor, "B N"]
) -> Inexact[Tensor, "B T N"]:
    """`matrix_scan_associative` of arguments that have been checked: a matrix is one block."""
    return block.associative(A[:, :, None], b, initial)


def _checked(
    A: Tensor, b: Tensor, initial: Tensor | None, *, reset: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The one check of everything that comes in; the initial state is zero if it was None."""
    are_numbers(A=A, b=b, initial=initial)
    shapes = f"A {tuple(A.shape)} and b {tuple(b.shape)}"
    if b.ndim != 3 or A.ndim != 4 or b.shape[1] == 0:
        raise ValueError(f"{shapes} must be (B, T, N, N) and (B, T, N) with T > 0")
    B, T, N = b.shape
    if A.shape[0] not in (1, B) or A.shape[1] not in (1, T) or A.shape[2:] != (N, N):
        raise ValueError(f"{shapes} do not match: A must be (1 or {B}, 1 or {T}, {N}, {N})")
    A, b, initial = alike(["A", "b", "initial"], A, b, initial_state(b, initial))
    return forgetting(A, b, reset), b, initial


def gradients(
    grad: Inexact[Tensor, "B T N"],
    A: Inexact[Tensor, "#B #T N N"],
    h: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"],
) -> tuple[Inexact[Tensor, "..."], ...]:
    """Gradients with respect to A, b and initial; a matrix is treated as one block."""
    of_A, of_b, of_initial = block.gradients(grad, A[:, :, None], h, initial)
    return of_A[:, :, 0], of_b, of_initial


_fused = Scan(
    "matrix_scan",
    inputs=["A", "b", "initial"],
    outputs={"h": "b"},
    saved=["A", "h", "initial"],
    gradients={"A": "A", "b": "h", "initial": "initial"},
    kernels={"cpu": cpu, **gpu.kernels("matrix")},
    formula=gradients,
)
