"""The scan with a full matrix per step: h[t] = A[t] @ h[t-1] + b[t]."""

import torch
from torch import Tensor


def matrix_scan(A: Tensor, b: Tensor, initial: Tensor | None = None) -> Tensor:
    """States of h[t] = A[t] @ h[t-1] + b[t], by recursive doubling.

    Args:
        A: Float or Complex["B T out in"] with out = in = N, dimensionless. B and T may be 1: one
            matrix for the whole batch, one for all steps. A matrix that is constant in time is
            squared once a pass rather than multiplied T times.
        b: Float or Complex["B T N"], input per step, in units of the state.
        initial: ["B N"], the state before step 0, in units of the state; zero if None.

    Returns:
        ["B T N"]: h[0] to h[T-1], in units of the state.

    Raises:
        ValueError: a shape is not as above, T is 0, or the dtypes differ.

    Cost: ceil(log2(T)) passes, each N^2 work per step (N^3 where A varies in time).
    Source: Blelloch 1990, section 1.4.1 (affine maps compose); Hillis & Steele 1986 (doubling).
    """
    initial = _checked_initial(A, b, initial)
    # Fold `initial` into step 0, so that the loop has no special first case.
    first = _apply(A[:, :1], initial[:, None]) + b[:, :1]
    h = torch.cat([first, b[:, 1:]], dim=1)
    gain, reach, constant = A, 1, A.shape[1] == 1
    while reach < b.shape[1]:
        # Entry t covers steps (t - reach, t]; join it to the window that ends at t - reach.
        if constant:
            # All windows that are still to grow are full ones, and hold the same power of A.
            joined, gain = _apply(gain, h[:, :-reach]) + h[:, reach:], gain @ gain
        else:
            joined = _apply(gain[:, reach:], h[:, :-reach]) + h[:, reach:]
            gain = torch.cat([gain[:, :reach], gain[:, reach:] @ gain[:, :-reach]], dim=1)
        h = torch.cat([h[:, :reach], joined], dim=1)
        reach *= 2
    return h


def matrix_scan_sequential(A: Tensor, b: Tensor, initial: Tensor | None = None) -> Tensor:
    """The definition of `matrix_scan`, one step after another: what every other form must equal."""
    h = _checked_initial(A, b, initial)
    steps = A.expand(-1, b.shape[1], -1, -1)
    states = []
    for t in range(b.shape[1]):
        h = (steps[:, t] @ h[..., None])[..., 0] + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def _apply(A: Tensor, h: Tensor) -> Tensor:
    """A ["B T out in"] times h ["B T in"]; one matrix for all steps is one large product."""
    return h @ A[:, 0].mT if A.shape[1] == 1 else (A @ h[..., None])[..., 0]


def _checked_initial(A: Tensor, b: Tensor, initial: Tensor | None) -> Tensor:
    """The state before step 0, after the one check of everything that comes in."""
    shapes = f"A {tuple(A.shape)} and b {tuple(b.shape)}"
    if b.ndim != 3 or A.ndim != 4 or b.shape[1] == 0:
        raise ValueError(f"{shapes} must be (B, T, N, N) and (B, T, N) with T > 0")
    B, T, N = b.shape
    if A.shape[0] not in (1, B) or A.shape[1] not in (1, T) or A.shape[2:] != (N, N):
        raise ValueError(f"{shapes} do not match: A must be (1 or {B}, 1 or {T}, {N}, {N})")
    initial = b.new_zeros(B, N) if initial is None else initial
    if initial.shape != (B, N):
        raise ValueError(f"initial must be ({B}, {N}), got {tuple(initial.shape)}")
    if not A.dtype == b.dtype == initial.dtype:
        raise ValueError(f"dtypes differ: A {A.dtype}, b {b.dtype}, initial {initial.dtype}")
    return initial
