"""The scan with one gain per state: h[t] = a[t] * h[t-1] + b[t]."""

import torch
from jaxtyping import Bool, Inexact
from torch import Tensor

from lab.scan import gpu
from lab.scan.arguments import checked, rounded_once
from lab.scan.associative import Elements, associative_scan
from lab.scan.cpu import linear as cpu
from lab.scan.growth import Growth
from lab.scan.operators import Scan


def linear_scan(
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """States of h[t] = a[t] * h[t-1] + b[t].

    Args:
        a: gain per step, dimensionless; any size, zero allowed.
        b: input per step, in units of the state.
        initial: the state before step 0, in units of the state; zero if None.
        reset: Bool["B T"]: before these steps h is set to zero, where another sequence begins that
            shares a row with those before; none if None.

    Returns:
        h[0] to h[T-1], in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, or dtypes or devices differ.

    Cost: forwards two arrays are read and one is written; backwards three are read and two
    written, with g[t] the gradient of h[t] summed over all later steps:
    g[t] = grad[t] + conj(a[t+1]) g[t+1], grad_a[t] = conj(h[t-1]) g[t], grad_b = g.
    Never divides by `a`. Where there is no kernel, as `linear_scan_associative`.
    Precision: on the CPU states and gradients are carried in double precision along time, and
    rounded where they are stored. A million steps of 0.1 in float32 are off by 4e-8 of their sum.
    Half precision is computed in float32 and rounded once.
    Source: Martin & Cundy 2018, Parallelizing linear recurrent neural nets over sequence length.
    """
    return rounded_once(_compute, *checked(a, b, initial, reset=reset))


def _compute(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    inputs = a, b, initial
    return _fused(*inputs) if _fused.runs_on(*inputs) else _associative(*inputs)


def linear_scan_sequential(
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """The definition of `linear_scan`, one step after another: what every other form must equal."""
    a, b, h = checked(a, b, initial, reset=reset)
    states = []
    for t in range(a.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def linear_scan_associative(
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """`linear_scan` in torch operations, by the monoid of affine maps: for any device.

    Where gains grow when they are composed (see `lab.scan.growth`), it is the loop.
    """
    return rounded_once(_associative, *checked(a, b, initial, reset=reset))


def _associative(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    # Fold `initial` into step 0, so that no monoid has to know of it.
    first = torch.cat([a[:, :1] * initial[:, None] + b[:, :1], b[:, 1:]], dim=1)
    growth = Growth()
    h = associative_scan(growth.watched(_compose, gain=0), (a, first))[1]
    return linear_scan_sequential(a, b, initial) if growth.is_harmful else h


def _compose(earlier: Elements, later: Elements) -> Elements:
    """(a, b) is the map h -> a h + b: first the earlier one, then the later one."""
    return later[0] * earlier[0], later[0] * earlier[1] + later[1]


def reversed_scan(
    a: Inexact[Tensor, "B T N"], b: Inexact[Tensor, "B T N"]
) -> Inexact[Tensor, "B T N"]:
    """g[t] = b[t] + a[t+1] * g[t+1], from g[T-1] = b[T-1] down: how gradients flow back in time."""
    after = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)
    return linear_scan(after.flip(1), b.flip(1)).flip(1)


def before(
    h: Inexact[Tensor, "B T ..."], initial: Inexact[Tensor, "B ..."]
) -> Inexact[Tensor, "B T ..."]:
    """h[t-1] at step t, and `initial` ["B N"] at step 0."""
    return torch.cat([initial[:, None], h[:, :-1]], dim=1)


def _gradients(grad: Tensor, a: Tensor, h: Tensor, initial: Tensor) -> tuple[Tensor, ...]:
    """Gradients with respect to a, b and initial, given the gradient of h."""
    g = reversed_scan(a.conj(), grad)
    return before(h, initial).conj() * g, g, a[:, 0].conj() * g[:, 0]


_fused = Scan(
    "linear_scan",
    inputs=["a", "b", "initial"],
    outputs={"h": "b"},
    saved=["a", "h", "initial"],
    gradients={"a": "a", "b": "h", "initial": "initial"},
    kernels={"cpu": cpu, **gpu.kernels("linear")},
    formula=_gradients,
)
