"""The scan with one gain per state: h[t] = a[t] * h[t-1] + b[t]."""

import torch
from torch import Tensor


def linear_scan(a: Tensor, b: Tensor, initial: Tensor | None = None) -> Tensor:
    """States of h[t] = a[t] * h[t-1] + b[t], by recursive doubling.

    Args:
        a: Float or Complex["B T N"], gain per step, dimensionless; any size, zero allowed.
        b: Float or Complex["B T N"], input per step, in units of the state.
        initial: ["B N"], the state before step 0, in units of the state; zero if None.

    Returns:
        ["B T N"]: h[0] to h[T-1], in units of the state.

    Raises:
        ValueError: a shape is not as above, T is 0, or the dtypes differ.

    Cost: ceil(log2(T)) passes over the whole array. Never divides by `a`.
    Source: Hillis & Steele 1986 (doubling); Blelloch 1990, section 1.4.1 (affine maps compose).
    """
    initial = _checked_initial(a, b, initial)
    # Fold `initial` into step 0, so that the loop has no special first case.
    h = torch.cat([a[:, :1] * initial[:, None] + b[:, :1], b[:, 1:]], dim=1)
    gain, reach = a, 1
    while reach < a.shape[1]:
        # Entry t covers steps (t - reach, t]; join it to the window that ends at t - reach.
        joined = gain[:, reach:] * h[:, :-reach] + h[:, reach:]
        gain = torch.cat([gain[:, :reach], gain[:, reach:] * gain[:, :-reach]], dim=1)
        h = torch.cat([h[:, :reach], joined], dim=1)
        reach *= 2
    return h


def linear_scan_sequential(a: Tensor, b: Tensor, initial: Tensor | None = None) -> Tensor:
    """The definition of `linear_scan`, one step after another: what every other form must equal."""
    h = _checked_initial(a, b, initial)
    states = []
    for t in range(a.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def _checked_initial(a: Tensor, b: Tensor, initial: Tensor | None) -> Tensor:
    """The state before step 0, after the one check of everything that comes in."""
    if a.ndim != 3 or a.shape != b.shape or a.shape[1] == 0:
        shapes = f"a {tuple(a.shape)} and b {tuple(b.shape)}"
        raise ValueError(f"{shapes} must share one (B, T, N) shape with T > 0")
    B, _, N = a.shape
    initial = b.new_zeros(B, N) if initial is None else initial
    if initial.shape != (B, N):
        raise ValueError(f"initial must be ({B}, {N}), got {tuple(initial.shape)}")
    if not a.dtype == b.dtype == initial.dtype:
        raise ValueError(f"dtypes differ: a {a.dtype}, b {b.dtype}, initial {initial.dtype}")
    return initial
