"""The scan with a Monarch matrix per step: h[t] = P^T L[t] P R[t] h[t-1] + b[t].

The state is a grid of n by n numbers. R[t, r] mixes row r of it, then L[t, c] column c.
"""

import torch
from jaxtyping import Bool, Inexact
from torch import Tensor

from lab.scan.arguments import (
    alike,
    are_numbers,
    forgetting,
    full_precision,
    initial_state,
    rounded_once,
)
from lab.scan.cpu import monarch as cpu
from lab.scan.linear import before
from lab.scan.operators import Scan


def monarch_scan(
    L: Inexact[Tensor, "B T n n n"],
    R: Inexact[Tensor, "B T n n n"],
    b: Inexact[Tensor, "B T n*n"],
    initial: Inexact[Tensor, "B n*n"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T n*n"]:
    """States of h[t] = P^T L[t] P R[t] h[t-1] + b[t], P the transpose of the grid.

    Args:
        L: dimensionless. [c, row out, row in] acts on column c.
        R: dimensionless. [r, column out, column in] acts on row r.
        b: input per step, in units of the state; entry n r + c of it is
            (r, c) of the grid.
        initial: the state before step 0, in units of the state; zero if None.
        reset: Bool["B T"]: before these steps h is set to zero, where another sequence begins that
            shares a row with those before; none if None.

    Returns:
        h[0] to h[T-1], in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, or dtypes or devices differ.

    Cost: 2 n³ multiply-adds per step forwards and 5 n³ backwards, one step after another: the
    product of two Monarch matrices is no Monarch matrix, so no scan can combine steps. Where
    there is no kernel, as `monarch_scan_sequential`.
    Precision: as `linear_scan`.
    Source: Dao et al. 2022, Monarch: expressive structured matrices for efficient and accurate
    training, section 3 (the matrices).
    """
    return rounded_once(_compute, *_checked(L, R, b, initial, reset=reset))


def _compute(*inputs: Tensor) -> Tensor:
    return _fused(*inputs) if _fused.runs_on(*inputs) else monarch_scan_sequential(*inputs)


def monarch_scan_sequential(
    L: Inexact[Tensor, "B T n n n"],
    R: Inexact[Tensor, "B T n n n"],
    b: Inexact[Tensor, "B T n*n"],
    initial: Inexact[Tensor, "B n*n"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T n*n"]:
    """The definition of `monarch_scan`, one step after another: what all other forms must equal."""
    L, R, b, h = _checked(L, R, b, initial, reset=reset)
    states = []
    with full_precision(b):
        for left, right, drive in zip(L.unbind(1), R.unbind(1), b.unbind(1), strict=True):
            h = _columns(left, _rows(right, h)) + drive
            states.append(h)
    return torch.stack(states, dim=1)


def _rows(R: Tensor, h: Tensor) -> Tensor:
    """R h for R ["... n n n"] and h ["... n²"]."""
    n = R.shape[-1]
    return torch.einsum("...rij,...rj->...ri", R, h.unflatten(-1, (n, n))).flatten(-2)


def _columns(L: Tensor, h: Tensor) -> Tensor:
    """P^T L P h for L ["... n n n"] and h ["... n²"]."""
    n = L.shape[-1]
    return torch.einsum("...cij,...jc->...ic", L, h.unflatten(-1, (n, n))).flatten(-2)


def gradients(
    grad: Inexact[Tensor, "B T N"],
    L: Inexact[Tensor, "B T n n n"],
    R: Inexact[Tensor, "B T n n n"],
    h: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"],
) -> tuple[Inexact[Tensor, "..."], ...]:
    """Gradients with respect to L, R, b and initial, given the gradient of h."""
    n = R.shape[-1]
    after_L, after_R = L.mH, R.mH
    g, back = grad[:, -1], []
    for t in range(grad.shape[1] - 1, -1, -1):
        back.append(g)
        g = _rows(after_R[:, t], _columns(after_L[:, t], g))
        g = g + grad[:, t - 1] if t else g
    of_b, past = torch.stack(back[::-1], dim=1), before(h, initial)
    mixed, arrived = (_grid(each, n) for each in (_rows(R, past), _columns(after_L, of_b)))
    # Outer products of what leaves a block with what went in; columns are the rows of .mT.
    of_L = _grid(of_b, n).mT[..., :, None] * mixed.mT.conj()[..., None, :]
    of_R = arrived[..., :, None] * _grid(past, n).conj()[..., None, :]
    return of_L, of_R, of_b, g


def _grid(h: Tensor, n: int) -> Tensor:
    return h.unflatten(-1, (n, n))


def _checked(
    L: Tensor, R: Tensor, b: Tensor, initial: Tensor | None, *, reset: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The one check of everything that comes in; the initial state is zero if it was None."""
    are_numbers(L=L, R=R, b=b, initial=initial)
    shapes = f"L {tuple(L.shape)}, R {tuple(R.shape)} and b {tuple(b.shape)}"
    if b.ndim != 3 or R.ndim != 5 or b.shape[1] == 0:
        raise ValueError(f"{shapes} must be (B, T, n, n, n) twice and (B, T, n²) with T > 0")
    n = R.shape[-1]
    wanted = (*b.shape[:2], n, n, n)
    if L.shape != wanted or R.shape != wanted or b.shape[2] != n * n:
        raise ValueError(f"{shapes} do not match: L and R must be {wanted}, b end in {n * n}")
    L, R, b, initial = alike(["L", "R", "b", "initial"], L, R, b, initial_state(b, initial))
    return L, forgetting(R, b, reset), b, initial


_fused = Scan(
    "monarch_scan",
    inputs=["L", "R", "b", "initial"],
    outputs={"h": "b"},
    saved=["L", "R", "h", "initial"],
    gradients={"L": "L", "R": "R", "b": "h", "initial": "initial"},
    kernels={"cpu": cpu},
    formula=gradients,
)
