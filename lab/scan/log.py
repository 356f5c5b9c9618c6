"""The scan in the log semiring: h[t] = logaddexp(a[t] + h[t-1], b[t])."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lab.scan import gpu
from lab.scan.arguments import checked, rounded_once
from lab.scan.associative import Elements, associative_scan
from lab.scan.cpu import log as cpu
from lab.scan.linear import before, reversed_scan
from lab.scan.operators import Scan


def log_scan(
    a: Float[Tensor, "B T N"],
    b: Float[Tensor, "B T N"],
    initial: Float[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T N"]:
    """States of h[t] = log(exp(a[t] + h[t-1]) + exp(b[t])).

    It is `linear_scan` of exp(a) and exp(b) in the log domain, where no state overflows. Unrolled,
    h[t] = logsumexp over j <= t of (b[j] + a[j+1] + ... + a[t]).

    Args:
        a: logarithm of the gain per step, dimensionless; -inf forgets all before.
        b: logarithm of the input per step, dimensionless; -inf is no input.
        initial: the state before step 0, a logarithm too; -inf, no state, if None.
        reset: Bool["B T"]: before these steps h is set to -inf, no state, where another sequence
            begins that shares a row with those before; none if None.

    Returns:
        h[0] to h[T-1], dimensionless; -inf as long as nothing has come in.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, dtypes or devices differ, or one is complex.

    Cost: one exp, one log1p and one division per state forwards, an exp and a division backwards;
    one array more is read backwards than by `linear_scan`. With the share of the step itself
    w[t] = exp(b[t] - h[t]) and that of the past p[t] = exp(a[t] + h[t-1] - h[t]), gradients are
    g[t] = grad[t] + p[t+1] g[t+1], grad_a = p g, grad_b = w g. The shares are computed from
    b[t] - a[t] - h[t-1], sum to one within rounding, and never exceed one: gradients do not grow.
    Where h is -inf both shares are zero, and so are the gradients. A state that meets +inf is +inf;
    two of it have no gradient, and +inf plus -inf is NaN. Where there is no kernel, as
    `log_scan_associative`.
    Precision: kernels on the CPU carry along what rounding takes from a float32 state. After a
    million steps of zeros h is off by 5e-7, and exp(h) by as large a part; by
    `log_scan_associative` 6e-6. Half precision is computed in float32 and rounded once.
    Source: Heinsen 2023, Efficient parallelization of a ubiquitous sequential computation, which
    takes linear scans to the log domain.
    """
    return rounded_once(_compute, *_checked(a, b, initial, reset=reset))


def _compute(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    inputs = a, b, initial
    return _fused(*inputs) if _fused.runs_on(*inputs) else _associative(*inputs)


def log_scan_sequential(
    a: Float[Tensor, "B T N"],
    b: Float[Tensor, "B T N"],
    initial: Float[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T N"]:
    """The definition of `log_scan`, one step after another: what every other form must equal."""
    a, b, h = _checked(a, b, initial, reset=reset)
    states = []
    for t in range(a.shape[1]):
        h = log_add(a[:, t] + h, b[:, t])
        states.append(h)
    return torch.stack(states, dim=1)


def log_scan_associative(
    a: Float[Tensor, "B T N"],
    b: Float[Tensor, "B T N"],
    initial: Float[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T N"]:
    """`log_scan` in torch operations, by the monoid of shifts and sums: for any device."""
    return rounded_once(_associative, *_checked(a, b, initial, reset=reset))


def _associative(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    # Fold `initial` into step 0, so that no monoid has to know of it.
    b = torch.cat([log_add(a[:, :1] + initial[:, None], b[:, :1]), b[:, 1:]], dim=1)
    return associative_scan(_compose, (a, b))[1]


def _checked(
    a: Tensor, b: Tensor, initial: Tensor | None, *, reset: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The one check of everything that comes in; the initial state is -inf if it was None."""
    a, b, initial = checked(a, b, initial, reset=reset, empty=-math.inf)
    real("a", a)
    return a, b, initial


def _compose(earlier: Elements, later: Elements) -> Elements:
    """(a, b) is the map h -> logaddexp(a + h, b): first the earlier one, then the later one."""
    return later[0] + earlier[0], log_add(later[0] + earlier[1], later[1])


def real(name: str, tensor: Tensor) -> None:
    """Raise ValueError if the tensor, called `name`, is complex: complex numbers have no order."""
    if tensor.is_complex():
        raise ValueError(f"{name} must be real, got {tensor.dtype}")


def log_add(x: Float[Tensor, "*S"], y: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """torch.logaddexp, whose first and second derivatives are finite also where it is -inf."""
    twice = _same_infinity(x, y)
    top, low = torch.where(x > y, x, y), torch.where(x > y, y, x)
    # Away from the places where it would be NaN the difference must stay what derivatives see.
    gap = torch.where(twice, 0, top) - torch.where(twice, 0, low)
    return torch.where(twice, top.detach(), top - F.logsigmoid(gap))


def shares(
    x: Float[Tensor, "*S"], y: Float[Tensor, "*S"]
) -> tuple[Float[Tensor, "*S"], Float[Tensor, "*S"]]:
    """exp(x) and exp(y), each divided by their sum; zero where both are the same infinity."""
    twice = _same_infinity(x, y)
    gap = torch.where(twice, 0, x) - torch.where(twice, 0, y)
    return torch.where(twice, 0, gap.sigmoid()), torch.where(twice, 0, (-gap).sigmoid())


def _same_infinity(x: Tensor, y: Tensor) -> Tensor:
    return (x == y) & x.isinf()


def _gradients(
    grad: Tensor, a: Tensor, b: Tensor, h: Tensor, initial: Tensor
) -> tuple[Tensor, ...]:
    """Gradients with respect to a, b and initial, given the gradient of h."""
    of_past, of_step = shares(a + before(h, initial), b)
    g = reversed_scan(of_past, grad)
    to_past = of_past * g
    return to_past, of_step * g, to_past[:, 0]


_fused = Scan(
    "log_scan",
    inputs=["a", "b", "initial"],
    outputs={"h": "b"},
    saved=["a", "b", "h", "initial"],
    gradients={"a": "a", "b": "b", "initial": "initial"},
    kernels={"cpu": cpu, **gpu.kernels("log")},
    formula=_gradients,
)
