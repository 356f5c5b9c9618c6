"""The scan with a permutation and gains per step: h[t, n] = a[t, n] * h[t-1, source[t, n]] + ..."""

from functools import partial

import torch
from jaxtyping import Bool, Inexact, Int64, Shaped
from torch import Tensor

from lab.scan.arguments import (
    alike,
    are_numbers,
    are_tensors,
    forgetting,
    initial_state,
    rounded_once,
    within,
)
from lab.scan.associative import Elements, associative_scan, associative_scan_sequential
from lab.scan.cpu import permutation as cpu
from lab.scan.growth import Growth
from lab.scan.linear import before
from lab.scan.operators import Scan


def permutation_scan(
    source: Int64[Tensor, "B T N"],
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """States of h[t, n] = a[t, n] * h[t-1, source[t, n]] + b[t, n].

    Args:
        source: in [0, N): the state that state n takes its value from. It need not
            be a permutation: a state may go to several places, or be forgotten.
        a: gain per step, dimensionless; any size, zero allowed.
        b: input per step, in units of the state.
        initial: the state before step 0, in units of the state; zero if None.
        reset: Bool["B T"]: before these steps h is set to zero, where another sequence begins that
            shares a row with those before; none if None.

    Returns:
        h[0] to h[T-1], in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, an entry of `source` is outside [0, N), or
            dtypes or devices differ.

    Cost: N multiply-adds per step forwards, 2 N backwards, with every array read or written once
    each way. Gradients go back the way that values came: g[t] = grad[t] + P[t+1]^T conj(a[t+1])
    g[t+1], where P^T adds up what several places send. Where there is no kernel, as
    `permutation_scan_associative`.
    Precision: as `linear_scan`.
    Source: Terzić et al. 2025, Structured sparse transition matrices to enable state tracking in
    state-space models. There every state says where it goes, and not where it comes from: see
    `scatter_scan`, which is equal where `source` is a permutation.
    """
    return rounded_once(_compute, *_checked(source, a, b, initial, reset=reset))


def _compute(a: Tensor, b: Tensor, initial: Tensor, source: Tensor) -> Tensor:
    inputs = a, b, initial, source
    return _fused(*inputs) if _fused.runs_on(*inputs) else associative(*inputs)


def permutation_scan_sequential(
    source: Int64[Tensor, "B T N"],
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """The definition of `permutation_scan`, one step after another, as every form must equal."""
    a, b, h, source = _checked(source, a, b, initial, reset=reset)
    within(source, b.shape[-1])
    states = []
    for t in range(b.shape[1]):
        h = a[:, t] * h.gather(-1, source[:, t]) + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def permutation_scan_associative(
    source: Int64[Tensor, "B T N"],
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """`permutation_scan` in torch operations, by the monoid of such maps: for any device.

    Composed maps are again a source, a gain and an input per state, so that no matrix is needed.
    Where gains grow when they are composed (see `lab.scan.growth`), it is the loop.
    """
    return rounded_once(associative, *_checked(source, a, b, initial, reset=reset))


def associative(
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"],
    source: Int64[Tensor, "B T N"],
) -> Inexact[Tensor, "B T N"]:
    """`permutation_scan_associative` of arguments that have been checked but for `source`."""
    within(source, b.shape[-1])
    return of_known_source(a, b, initial, source)


def of_known_source(
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"],
    source: Int64[Tensor, "B T N"],
) -> Inexact[Tensor, "B T N"]:
    """`associative`, without a look at the values of `source`, which no traced graph can take."""
    # Fold `initial` into step 0, so that no monoid has to know of it.
    first = a[:, :1] * initial[:, None].gather(-1, source[:, :1]) + b[:, :1]
    elements, growth = (source, a, torch.cat([first, b[:, 1:]], dim=1)), Growth()
    h = associative_scan(growth.watched(_compose, gain=1), elements)[2]
    return permutation_scan_sequential(source, a, b, initial) if growth.is_harmful else h


def _compose(earlier: Elements, later: Elements) -> Elements:
    """(source, a, b) is the map h -> a h[source] + b: first the earlier one, then the later one."""
    source, a, b = later
    from_earlier, gain, drive = (part.gather(-1, source) for part in earlier)
    return from_earlier, a * gain, a * drive + b


def compose_adjoint(earlier: Elements, later: Elements) -> Elements:
    """(source, a, g) is x -> P^T (a x) + g, P^T the transpose of taking from `source`."""
    (source1, a1, g1), (source2, a2, g2) = earlier, later
    # Adjoints swap: the map of both takes from what the later one takes from.
    together = source2.gather(-1, source1), a1 * a2.gather(-1, source1)
    return *together, g2.scatter_add(-1, source2, a2 * g1)


def checked(
    index: Int64[Tensor, "B T N"],
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None,
    *,
    name: str,
    reset: Bool[Tensor, "B T"] | None = None,
) -> tuple[
    Inexact[Tensor, "B T N"],
    Inexact[Tensor, "B T N"],
    Inexact[Tensor, "B N"],
    Int64[Tensor, "B T N"],
]:
    """a, b, initial and the index of that name, after the check of all but the index's values.

    a is zero at the steps of `reset`.
    """
    are_tensors(**{name: index})
    are_numbers(a=a, b=b, initial=initial)
    if a.ndim != 3 or not index.shape == a.shape == b.shape or a.shape[1] == 0:
        shapes = f"{name} {tuple(index.shape)}, a {tuple(a.shape)} and b {tuple(b.shape)}"
        raise ValueError(f"{shapes} must share one (B, T, N) shape with T > 0")
    if index.dtype != torch.int64:
        raise ValueError(f"{name} must be torch.int64, got {index.dtype}")
    if index.device != b.device:
        raise ValueError(f"devices differ: {name} {index.device}, b {b.device}")
    a, b, initial = alike(["a", "b", "initial"], a, b, initial_state(b, initial))
    return forgetting(a, b, reset), b, initial, index


_checked = partial(checked, name="source")


def after(part: Shaped[Tensor, "B T N"]) -> Shaped[Tensor, "B T N"]:
    """What step t + 1 holds, back in time; nothing follows the last step."""
    return torch.cat([part[:, 1:], torch.zeros_like(part[:, :1])], dim=1).flip(1)


def _gradients(
    grad: Tensor, a: Tensor, h: Tensor, initial: Tensor, source: Tensor
) -> tuple[Tensor, ...]:
    """Gradients with respect to a, b and initial, given the gradient of h."""
    elements = after(source), after(a.conj()), grad.flip(1)
    growth = Growth()
    g = associative_scan(growth.watched(compose_adjoint, gain=1), elements)[2]
    if growth.is_harmful:
        g = associative_scan_sequential(compose_adjoint, elements)[2]
    g = g.flip(1)
    of_a = g * before(h, initial).gather(-1, source).conj()
    first = (a[:, 0].conj() * g[:, 0], source[:, 0])
    return of_a, g, torch.zeros_like(initial).scatter_add(-1, first[1], first[0])


_fused = Scan(
    "permutation_scan",
    inputs=["a", "b", "initial", "source"],
    outputs={"h": "b"},
    saved=["a", "h", "initial", "source"],
    gradients={"a": "a", "b": "h", "initial": "initial"},
    kernels={"cpu": cpu},
    formula=_gradients,
)
