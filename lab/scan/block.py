"""The scan with a block-diagonal matrix per step: h[t] = diag(A[t, 0], ...) h[t-1] + b[t]."""

import torch
from jaxtyping import Bool, Inexact
from torch import Tensor

from lab.scan import gpu
from lab.scan.arguments import (
    alike,
    are_numbers,
    forgetting,
    full_precision,
    initial_state,
    rounded_once,
)
from lab.scan.associative import Elements, associative_scan
from lab.scan.cpu import matrix as cpu
from lab.scan.growth import Growth
from lab.scan.linear import before
from lab.scan.operators import Scan


def block_scan(
    A: Inexact[Tensor, "#B #T K M M"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """States of h[t] = A[t] @ h[t-1] + b[t] for block-diagonal A[t], such as Monarch factors.

    Args:
        A: Float or Complex["B T K out in"] with out = in = N / K, dimensionless: block k acts on
            states k N/K to (k+1) N/K - 1. B and T may be 1: the same blocks for the whole batch,
            the same for all steps.
        b: input per step, in units of the state.
        initial: the state before step 0, in units of the state; zero if None.
        reset: Bool["B T"]: before these steps h is set to zero, where another sequence begins that
            shares a row with those before; none if None.

    Returns:
        h[0] to h[T-1], in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, or dtypes or devices differ.

    Cost: as `matrix_scan` with K matrices of N/K columns, so N^2 / K multiply-adds per step.
    Precision: as `linear_scan`.
    Source: Dao et al. 2022, Monarch: expressive structured matrices for efficient and accurate
    training, section 3 (the factors); the scan itself is that of `matrix_scan`.
    """
    return rounded_once(_compute, *_checked(A, b, initial, reset=reset))


def _compute(A: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    inputs = A, b, initial
    return _fused(*inputs) if _fused.runs_on(*inputs) else associative(*inputs)


def block_scan_sequential(
    A: Inexact[Tensor, "#B #T K M M"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """The definition of `block_scan`, one step after another: what every other form must equal."""
    A, b, h = _checked(A, b, initial, reset=reset)
    steps = A.expand(-1, b.shape[1], -1, -1, -1)
    states = []
    for t in range(b.shape[1]):
        h = (steps[:, t] @ _split(h, A)[..., None]).flatten(1) + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def block_scan_associative(
    A: Inexact[Tensor, "#B #T K M M"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """`block_scan` in torch operations, by the monoid of affine maps: for any device.

    Cost: (N/K)^3 K per step, and the products of matrices in memory; with one matrix for all steps
    ceil(log2(T)) passes, each N^2 / K per step, with the powers of one matrix in memory. Where
    matrices grow when they are multiplied (see `lab.scan.growth`), it is the loop.
    """
    return rounded_once(associative, *_checked(A, b, initial, reset=reset))


def associative(
    A: Inexact[Tensor, "#B #T K M M"], b: Inexact[Tensor, "B T N"], initial: Inexact[Tensor, "B N"]
) -> Inexact[Tensor, "B T N"]:
    """`block_scan_associative` of arguments that have been checked."""
    growth = Growth()
    parts, start = _split(b, A), _split(initial, A)
    with full_precision(b):
        # Fold `initial` into step 0, so that no monoid has to know of it.
        first = _apply(A[:, :1], start[:, None]) + parts[:, :1]
        parts = torch.cat([first, parts[:, 1:]], dim=1)
        if A.shape[1] == 1:
            h = _by_powers(A, parts, growth)
        else:
            h = associative_scan(growth.watched(_compose, gain=0), (A, parts))[1]
        return block_scan_sequential(A, b, initial) if growth.is_harmful else h.flatten(2)


def _compose(earlier: Elements, later: Elements) -> Elements:
    """(A, b) is the map h -> A h + b: first the earlier one, then the later one."""
    return later[0] @ earlier[0], _apply(later[0], earlier[1]) + later[1]


def _by_powers(A: Tensor, h: Tensor, growth: Growth) -> Tensor:
    """The scan with one matrix for all steps, which is squared once a pass, by doubling.

    Source: Hillis & Steele 1986, Data parallel algorithms.
    """
    reach = 1
    while reach < h.shape[1]:
        # Entry t covers steps (t - reach, t]; join it to the window that ends at t - reach. All
        # windows that are still to grow are full ones, and hold the same power of A.
        joined = _apply(A, h[:, :-reach]) + h[:, reach:]
        h = torch.cat([h[:, :reach], joined], dim=1)
        reach *= 2
        if reach < h.shape[1]:
            A = growth.see(A @ A)
    return h


def _apply(A: Tensor, h: Tensor) -> Tensor:
    """A ["B T K out in"] times h ["B T K in"], without repeating what is shared."""
    return torch.einsum("btkij,btkj->btki", A, h)


def _split(h: Tensor, A: Tensor) -> Tensor:
    """["... K in"] for h ["... N"]."""
    return h.unflatten(-1, (A.shape[2], A.shape[4]))


def _checked(
    A: Tensor, b: Tensor, initial: Tensor | None, *, reset: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The one check of everything that comes in; the initial state is zero if it was None."""
    are_numbers(A=A, b=b, initial=initial)
    shapes = f"A {tuple(A.shape)} and b {tuple(b.shape)}"
    if b.ndim != 3 or A.ndim != 5 or b.shape[1] == 0:
        raise ValueError(f"{shapes} must be (B, T, K, N/K, N/K) and (B, T, N) with T > 0")
    B, T, N = b.shape
    K, size = A.shape[2], A.shape[3]
    if A.shape[0] not in (1, B) or A.shape[1] not in (1, T) or A.shape[4] != size or K * size != N:
        raise ValueError(f"{shapes} do not match: A must be (1 or {B}, 1 or {T}, K, {N}/K, {N}/K)")
    A, b, initial = alike(["A", "b", "initial"], A, b, initial_state(b, initial))
    return forgetting(A, b, reset), b, initial


def gradients(grad: Tensor, A: Tensor, h: Tensor, initial: Tensor) -> tuple[Tensor, ...]:
    """Gradients with respect to A, b and initial, given the gradient of h."""
    after, past = A.mH, _split(before(h, initial), A)
    if A.shape[1] > 1:
        after = torch.cat([after[:, 1:], torch.zeros_like(after[:, :1])], dim=1).flip(1)
    g = block_scan(after, grad.flip(1)).flip(1)
    of_blocks = _split(g, A)
    batch, time = ("" if size == 1 else axis for axis, size in zip("bt", A.shape, strict=False))
    of_A = torch.einsum(f"btki,btkj->{batch}{time}kij", of_blocks, past.conj())
    of_initial = _apply(A[:, :1].mH, of_blocks[:, :1])
    return of_A.reshape(A.shape), g, of_initial.flatten(1)


_fused = Scan(
    "block_scan",
    inputs=["A", "b", "initial"],
    outputs={"h": "b"},
    saved=["A", "h", "initial"],
    gradients={"A": "A", "b": "h", "initial": "initial"},
    kernels={"cpu": cpu, **gpu.kernels("matrix")},
    formula=gradients,
)
