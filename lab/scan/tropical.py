"""The scan in the max-plus semiring: h[t] = max(a[t] + h[t-1], b[t]), and which step won."""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lab.scan import gpu
from lab.scan.arguments import checked, rounded_once
from lab.scan.associative import Elements, associative_scan
from lab.scan.cpu import tropical as cpu
from lab.scan.linear import reversed_scan
from lab.scan.log import real
from lab.scan.operators import Scan


def tropical_scan(
    a: Float[Tensor, "B T N"],
    b: Float[Tensor, "B T N"],
    initial: Float[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> tuple[Float[Tensor, "B T N"], Int64[Tensor, "B T N"]]:
    """States of h[t] = max(a[t] + h[t-1], b[t]), and the step each comes from.

    It is the limit of `log_scan` for large logarithms. Unrolled, h[t] is the maximum over j <= t
    of b[j] + a[j+1] + ... + a[t], and winner[t] is the j that attains it.

    Args:
        a: what is added to the state per step, in units of the state.
        b: input per step, in units of the state; -inf is no input.
        initial: the state before step 0, in units of the state; -inf, no state, if None.
        reset: Bool["B T"]: before these steps h is set to -inf, no state, where another sequence
            begins that shares a row with those before; none if None.

    Returns:
        h: ["B T N"], h[0] to h[T-1], in units of the state; -inf as long as nothing has come in.
        winner: Long["B T N"], the step whose b is the maximum; -1 for the initial state. Of two
            that are equal the later one wins, also where both are -inf. Rounding decides between
            those that are nearly equal, and then the three forms may differ.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, dtypes or devices differ, or one is complex.

    Cost: forwards two arrays are read and h and winner are written, backwards three are read and
    two written. All of the gradient of h goes to the winner, also at ties: with p[t] = 0 where
    step t won, otherwise 1, g[t] = grad[t] + p[t+1] g[t+1], grad_a = p g, grad_b = (1 - p) g. The
    winner has none. NaN stays NaN, and a state that meets +inf is +inf. Where there is no kernel,
    as `tropical_scan_associative`.
    Precision: as `linear_scan`; ties are those of states as they are stored.
    Source: Baccelli et al. 1992, Synchronization and linearity, chapter 3 (max-plus algebra).
    """
    return rounded_once(_compute, *_checked(a, b, initial, reset=reset))


def _compute(a: Tensor, b: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    inputs = a, b, initial
    return _fused(*inputs) if _fused.runs_on(*inputs) else _associative(*inputs)


def tropical_scan_sequential(
    a: Float[Tensor, "B T N"],
    b: Float[Tensor, "B T N"],
    initial: Float[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> tuple[Float[Tensor, "B T N"], Int64[Tensor, "B T N"]]:
    """The definition of `tropical_scan`, step by step: what every other form must equal."""
    a, b, h = _checked(a, b, initial, reset=reset)
    winner = torch.full_like(h, -1, dtype=torch.int64)
    states, winners = [], []
    for t in range(a.shape[1]):
        h, winner = _later_wins(a[:, t] + h, winner, b[:, t], torch.full_like(winner, t))
        states.append(h)
        winners.append(winner)
    return torch.stack(states, dim=1), torch.stack(winners, dim=1)


def tropical_scan_associative(
    a: Float[Tensor, "B T N"],
    b: Float[Tensor, "B T N"],
    initial: Float[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> tuple[Float[Tensor, "B T N"], Int64[Tensor, "B T N"]]:
    """`tropical_scan` in torch operations, by the monoid of shifts and maxima: for any device."""
    return rounded_once(_associative, *_checked(a, b, initial, reset=reset))


def _associative(a: Tensor, b: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    step = torch.arange(b.shape[1], device=b.device)[None, :, None].expand(b.shape)
    # Fold `initial` into step 0, so that no monoid has to know of it.
    past = a[:, :1] + initial[:, None]
    first, winner = _later_wins(past, torch.full_like(step[:, :1], -1), b[:, :1], step[:, :1])
    h, winner = (torch.cat(p, dim=1) for p in ([first, b[:, 1:]], [winner, step[:, 1:]]))
    _, h, winner = associative_scan(_compose, (a, h, winner))
    return h, winner


def _checked(
    a: Tensor, b: Tensor, initial: Tensor | None, *, reset: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The one check of everything that comes in; the initial state is -inf if it was None."""
    a, b, initial = checked(a, b, initial, reset=reset, empty=-math.inf)
    real("a", a)
    return a, b, initial


def _compose(earlier: Elements, later: Elements) -> Elements:
    """(a, b, j) is the map h -> max(a + h, b), where b is that of step j."""
    a, b, winner = later
    return a + earlier[0], *_later_wins(a + earlier[1], earlier[2], b, winner)


def _later_wins(x: Tensor, i: Tensor, y: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
    """The larger of x and y with its index; y at ties, and NaN if there is one.

    Derivatives of torch.maximum are split at ties; those of torch.where go to the winner.
    """
    later = (y >= x) | y.isnan()
    return torch.where(later, y, x), torch.where(later, j, i)


def _gradients(grad: Tensor, b: Tensor, h: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    """Gradients with respect to a, b and initial, given that of h; independent of `initial`."""
    won = (b == h) | b.isnan()
    g = reversed_scan((~won).to(grad.dtype), grad)
    to_past = torch.where(won, 0, g)
    return to_past, torch.where(won, g, 0), to_past[:, 0]


_fused = Scan(
    "tropical_scan",
    inputs=["a", "b", "initial"],
    outputs={"h": "b", "winner": ("b", torch.int64)},
    saved=["b", "h", "initial"],  # the last for its shape
    gradients={"a": "h", "b": "b", "initial": "initial"},
    kernels={"cpu": cpu, **gpu.kernels("tropical")},
    formula=_gradients,
)
