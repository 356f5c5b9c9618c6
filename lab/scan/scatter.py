"""The scan in which every state says where it goes: h[t, target[t, n]] gets a[t, n] * h[t-1, n]."""

from functools import partial

import torch
from jaxtyping import Bool, Inexact, Int64
from torch import Tensor

from lab.scan import permutation
from lab.scan.arguments import rounded_once, within
from lab.scan.associative import associative_scan
from lab.scan.cpu import scatter as cpu
from lab.scan.growth import Growth
from lab.scan.linear import before
from lab.scan.operators import Scan


def scatter_scan(
    target: Int64[Tensor, "B T N"],
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """States of h[t] = P[t] (a[t] * h[t-1]) + b[t], where every column of P[t] has a single 1.

    In other words h[t, m] = b[t, m] + sum of a[t, n] * h[t-1, n] over all n with target[t, n] = m:
    what collides adds up, and a state to which nothing is sent keeps only its input.

    Args:
        target: in [0, N): the state that state n is sent to, the row of the 1 in column n of P.
        a: gain per step, of the state before it is sent, dimensionless; any size, zero allowed.
        b: input per step, in units of the state.
        initial: the state before step 0, in units of the state; zero if None.
        reset: Bool["B T"]: before these steps h is set to zero, where another sequence begins that
            shares a row with those before; none if None.

    Returns:
        h[0] to h[T-1], in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, an entry of `target` is outside [0, N), or
            dtypes or devices differ.

    Cost: as `permutation_scan`, which is its adjoint: g[t, n] = grad[t, n] + conj(a[t+1, n])
    g[t+1, target[t+1, n]]. Where there is no kernel, as `scatter_scan_associative`.
    Precision: as `linear_scan`. |h| may grow by sqrt(N) in a step in which all states collide,
    while the sum of |h[t, n]| over n grows by at most the largest gain.
    Source: Terzić et al. 2025, Structured sparse transition matrices to enable state tracking in
    state-space models (PD-SSM: column one-hot matrices times diagonals).
    """
    return rounded_once(_compute, *_checked(target, a, b, initial, reset=reset))


def _compute(a: Tensor, b: Tensor, initial: Tensor, target: Tensor) -> Tensor:
    inputs = a, b, initial, target
    return _fused(*inputs) if _fused.runs_on(*inputs) else _associative(*inputs)


def scatter_scan_sequential(
    target: Int64[Tensor, "B T N"],
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """The definition of `scatter_scan`, one step after another, as every form must equal."""
    a, b, h, target = _checked(target, a, b, initial, reset=reset)
    within(target, b.shape[-1], "target")
    states = []
    for t in range(b.shape[1]):
        h = b[:, t].scatter_add(-1, target[:, t], a[:, t] * h)
        states.append(h)
    return torch.stack(states, dim=1)


def scatter_scan_associative(
    target: Int64[Tensor, "B T N"],
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """`scatter_scan` in torch operations, by the monoid of such maps: for any device.

    Composed maps are again a target, a gain and an input per state, so that no matrix is needed.
    Where gains grow when they are composed (see `lab.scan.growth`), it is the loop.
    """
    return rounded_once(_associative, *_checked(target, a, b, initial, reset=reset))


def _associative(a: Tensor, b: Tensor, initial: Tensor, target: Tensor) -> Tensor:
    within(target, b.shape[-1], "target")
    # Fold `initial` into step 0, so that no monoid has to know of it.
    first = b[:, 0].scatter_add(-1, target[:, 0], a[:, 0] * initial)
    elements, growth = (target, a, torch.cat([first[:, None], b[:, 1:]], dim=1)), Growth()
    # The monoid of the maps that permutations have as their adjoints: those send, too.
    h = associative_scan(growth.watched(permutation.compose_adjoint, gain=1), elements)[2]
    return scatter_scan_sequential(target, a, b, initial) if growth.is_harmful else h


_checked = partial(permutation.checked, name="target")


def _gradients(
    grad: Tensor, a: Tensor, h: Tensor, initial: Tensor, target: Tensor
) -> tuple[Tensor, ...]:
    """Gradients with respect to a, b and initial, given the gradient of h."""
    nothing, following = torch.zeros_like(initial), permutation.after
    g = permutation.of_known_source(following(a.conj()), grad.flip(1), nothing, following(target))
    g = g.flip(1)
    arrived = g.gather(-1, target)  # at what every state was sent to
    return arrived * before(h, initial).conj(), g, a[:, 0].conj() * arrived[:, 0]


_fused = Scan(
    "scatter_scan",
    inputs=["a", "b", "initial", "target"],
    outputs={"h": "b"},
    saved=["a", "h", "initial", "target"],
    gradients={"a": "a", "b": "h", "initial": "initial"},
    kernels={"cpu": cpu},
    formula=_gradients,
)
