"""The scan with a 2 x 2 matrix per step for every pair of states, such as position and velocity."""

import torch
from jaxtyping import Bool, Inexact
from torch import Tensor

from lab.scan import gpu
from lab.scan.arguments import alike, are_numbers, forgetting, initial_state, rounded_once
from lab.scan.associative import Elements, associative_scan
from lab.scan.cpu import pair as cpu
from lab.scan.growth import Growth
from lab.scan.linear import before
from lab.scan.operators import Scan


def pair_scan(
    A: Inexact[Tensor, "#B #T 2 2 N"],
    b: Inexact[Tensor, "B T 2 N"],
    initial: Inexact[Tensor, "B 2 N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T 2 N"]:
    """States of h[t, i, n] = sum over j of A[t, i, j, n] h[t-1, j, n] + b[t, i, n].

    Args:
        A: Float or Complex["B T out in N"] with out = in = 2, in units of state i per unit of
            state j: N matrices of 2 x 2, entry by entry. B and T may be 1: the same matrices for
            the whole batch, the same for all steps; neither is repeated in memory.
        b: input per step, in units of the state.
        initial: the state before step 0, in units of the state; zero if None.
        reset: Bool["B T"]: before these steps h is set to zero, where another sequence begins that
            shares a row with those before; none if None.

    Returns:
        h[0] to h[T-1], in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, or dtypes or devices differ.

    Cost: 4 N multiply-adds per step forwards, 8 N backwards, with every array read or written
    once each way. Where there is no kernel, as `pair_scan_associative`.
    Precision: as `linear_scan`.
    Source: Rusch & Rus 2025, Oscillatory state-space models, section 2 (the 2 x 2 blocks of
    diagonals); Blelloch 1990, Prefix sums and their applications, section 1.4.1 (the recurrence).
    """
    return rounded_once(_compute, *_checked(A, b, initial, reset=reset))


def _compute(A: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    inputs = A, b, initial
    return _fused(*inputs) if _fused.runs_on(*inputs) else _associative(*inputs)


def pair_scan_sequential(
    A: Inexact[Tensor, "#B #T 2 2 N"],
    b: Inexact[Tensor, "B T 2 N"],
    initial: Inexact[Tensor, "B 2 N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T 2 N"]:
    """The definition of `pair_scan`, one step after another: what every other form must equal."""
    A, b, h = _checked(A, b, initial, reset=reset)
    steps = A.expand(-1, b.shape[1], -1, -1, -1)
    states = []
    for t in range(b.shape[1]):
        h = (steps[:, t] * h[:, None]).sum(2) + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def pair_scan_associative(
    A: Inexact[Tensor, "#B #T 2 2 N"],
    b: Inexact[Tensor, "B T 2 N"],
    initial: Inexact[Tensor, "B 2 N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T 2 N"]:
    """`pair_scan` in torch operations, by the monoid of affine maps: for any device.

    A matrix of all steps is repeated in memory, since its powers differ. Where matrices grow when
    they are multiplied (see `lab.scan.growth`), it is the loop.
    """
    return rounded_once(_associative, *_checked(A, b, initial, reset=reset))


def _associative(A: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    # Fold `initial` into step 0, so that no monoid has to know of it.
    first = torch.cat([_apply(A[:, :1], initial[:, None]) + b[:, :1], b[:, 1:]], dim=1)
    elements, growth = (A.expand(-1, b.shape[1], -1, -1, -1), first), Growth()
    h = associative_scan(growth.watched(_compose, gain=0), elements)[1]
    return pair_scan_sequential(A, b, initial) if growth.is_harmful else h


def _compose(earlier: Elements, later: Elements) -> Elements:
    """(A, b) is the map h -> A h + b: first the earlier one, then the later one."""
    product = later[0][:, :, :, 0, None] * earlier[0][:, :, None, 0]
    product = product + later[0][:, :, :, 1, None] * earlier[0][:, :, None, 1]
    return product, _apply(later[0], earlier[1]) + later[1]


def _apply(A: Tensor, h: Tensor) -> Tensor:
    """A ["B T 2 2 N"] times h ["B T 2 N"]."""
    return A[:, :, :, 0] * h[:, :, None, 0] + A[:, :, :, 1] * h[:, :, None, 1]


def _checked(
    A: Tensor, b: Tensor, initial: Tensor | None, *, reset: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The one check of everything that comes in; the initial state is zero if it was None."""
    are_numbers(A=A, b=b, initial=initial)
    shapes = f"A {tuple(A.shape)} and b {tuple(b.shape)}"
    if b.ndim != 4 or A.ndim != 5 or b.shape[1] == 0 or b.shape[2] != 2:
        raise ValueError(f"{shapes} must be (B, T, 2, 2, N) and (B, T, 2, N) with T > 0")
    B, T, _, N = b.shape
    if A.shape[0] not in (1, B) or A.shape[1] not in (1, T) or A.shape[2:] != (2, 2, N):
        raise ValueError(f"{shapes} do not match: A must be (1 or {B}, 1 or {T}, 2, 2, {N})")
    A, b, initial = alike(["A", "b", "initial"], A, b, initial_state(b, initial))
    return forgetting(A, b, reset), b, initial


def _gradients(grad: Tensor, A: Tensor, h: Tensor, initial: Tensor) -> tuple[Tensor, ...]:
    """Gradients with respect to A, b and initial, given the gradient of h."""
    adjoint = A.transpose(2, 3).conj()
    after = adjoint
    if A.shape[1] > 1:
        after = torch.cat([after[:, 1:], torch.zeros_like(after[:, :1])], dim=1).flip(1)
    g = pair_scan(after, grad.flip(1)).flip(1)
    batch, time = ("" if size == 1 else axis for axis, size in zip("bt", A.shape, strict=False))
    of_A = torch.einsum(f"btin,btjn->{batch}{time}ijn", g, before(h, initial).conj())
    return of_A.reshape(A.shape), g, _apply(adjoint[:, :1], g[:, :1])[:, 0]


_fused = Scan(
    "pair_scan",
    inputs=["A", "b", "initial"],
    outputs={"h": "b"},
    saved=["A", "h", "initial"],
    gradients={"A": "A", "b": "h", "initial": "initial"},
    kernels={"cpu": cpu, **gpu.kernels("pair")},
    formula=_gradients,
)
