"""h[t] = logaddexp(a[t] + h[t-1], b[t]) and its gradients on a GPU, each in one pass over memory.

Where sequences and columns are few, time is cut into chunks (see `launch.py`), and the inputs are
read twice. A chunk takes h to logaddexp(gain + h, end), and its gradients go back linearly. -inf is
the zero, and exact: two of the same infinity are never subtracted.
"""

# In a kernel a tuple may grow, which those of Python's type system cannot.
# mypy: disable-error-code="assignment,var-annotated"

import torch
import triton
import triton.language as tl
from torch import Tensor

from lab.scan.gpu import linear
from lab.scan.gpu.launch import SIZES, Cut, place


def forward(a: Tensor, b: Tensor, initial: Tensor, h: Tensor, chunks: int | None = None) -> None:
    """Fill h ["B T N"] for a, b ["B T N"] and initial ["B N"], in `chunks` if they are given."""
    cut = Cut.of(h, chunks)
    starts = initial[:, None]
    if cut.chunks > 1:
        gains, ends, states = (h.new_empty(cut.B, cut.chunks - 1, cut.columns) for _ in range(3))
        cut.run(_forward, a, b, starts, ends, gains, summary=True)
        forward(gains, ends, initial, states)
        starts = torch.cat([starts, states], dim=1)
    # The last argument is for summaries alone.
    cut.run(_forward, a, b, starts, h, h)


def backward(
    grad: Tensor, a: Tensor, b: Tensor, h: Tensor, initial: Tensor,
    ga: Tensor, gb: Tensor, gi: Tensor, chunks: int | None = None,
) -> None:  # fmt: skip
    """Fill the gradients ga, gb ["B T N"] and gi ["B N"], given that of h ["B T N"]."""
    cut = Cut.of(h, chunks)
    nothing = torch.zeros_like(initial)
    starts = nothing[:, None]
    if cut.chunks > 1:
        gains, ends = (h.new_empty(cut.B, cut.chunks - 1, cut.columns) for _ in range(2))
        cut.run(_backward, grad, a, b, h, initial, starts, gains, ends, gi, summary=True)
        starts = linear.starts_of_chunks(gains, ends, nothing)
    cut.run(_backward, grad, a, b, h, initial, starts, ga, gb, gi)


@triton.jit
def shares(x, y):  # type: ignore[no-untyped-def]
    """exp(x) and exp(y), each divided by their sum; 0 where both are the same infinity."""
    twice = (x == y) & (tl.abs(x) == float("inf"))
    gap = tl.where(twice, 0.0, x) - tl.where(twice, 0.0, y)
    small = tl.exp(-tl.abs(gap))
    larger = tl.where(twice, 0.0, 1 / (1 + small))
    smaller = small * larger
    return tl.where(gap > 0, larger, smaller), tl.where(gap > 0, smaller, larger)


@triton.jit
def logaddexp(x, y):  # type: ignore[no-untyped-def]
    """log(exp(x) + exp(y)); -inf is the zero."""
    twice = (x == y) & (tl.abs(x) == float("inf"))
    small = tl.exp(-tl.abs(tl.where(twice, 0.0, x) - tl.where(twice, 0.0, y)))
    # log(1 + small), corrected for what 1 + small lost to rounding.
    total = 1 + small
    return tl.where(x > y, x, y) + (tl.log(total) + (small - (total - 1)) / total)


@triton.jit(do_not_specialize=SIZES)
def _forward(  # type: ignore[no-untyped-def]
    a, b, starts, h, gains, lanes, T, columns, chunks, span,
    SUMMARY: tl.constexpr, LANES: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    lane, batch, chunk, column, steps = place(lanes, T, columns, chunks, span, LANES)
    at = (batch * T + chunk * span) * columns + column
    if SUMMARY:
        x = tl.full([LANES], float("-inf"), h.dtype.element_ty)
        gain = tl.zeros([LANES], h.dtype.element_ty)
    else:
        x = tl.load(starts + lane, steps > 0, other=0.0)
    for start in range(0, span, GROUP):
        # All loads of the group come first, so that they are under way together.
        inputs = ()
        for k in tl.static_range(GROUP):
            here = start + k < steps
            to_state = tl.load(a + at + k * columns, here, other=0.0)
            inputs += ((to_state, tl.load(b + at + k * columns, here, other=float("-inf"))),)
        for k in tl.static_range(GROUP):
            x = logaddexp(inputs[k][0] + x, inputs[k][1])
            if SUMMARY:
                gain += inputs[k][0]
            else:
                tl.store(h + at + k * columns, x, start + k < steps)
        at += GROUP * columns
    if SUMMARY:
        tl.store(gains + lane, gain, steps > 0)
        tl.store(h + lane, x, steps > 0)


@triton.jit(do_not_specialize=SIZES)
def _backward(  # type: ignore[no-untyped-def]
    grad, a, b, h, initial, starts, ga, gb, gi, lanes, T, columns, chunks, span,
    SUMMARY: tl.constexpr, LANES: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Walks from the last step down; chunk 0 is the one at the end of the sequence."""
    lane, batch, chunk, column, steps = place(lanes, T, columns, chunks, span, LANES)
    t = T - 1 - chunk * span
    at = (batch * T + t) * columns + column
    # What later steps send back to the state of this one.
    if SUMMARY:
        x = tl.zeros([LANES], ga.dtype.element_ty)
        gain = x + 1
    else:
        x = tl.load(starts + lane, steps > 0, other=0.0)
    first = tl.load(initial + batch * columns + column, steps > 0, other=0.0)
    for start in range(0, span, GROUP):
        inputs = ()
        for k in tl.static_range(GROUP):
            here = start + k < steps
            before = tl.load(h + at - (k + 1) * columns, here & (t > start + k), other=first)
            inputs += ((
                tl.load(grad + at - k * columns, here, other=0.0),
                tl.load(a + at - k * columns, here, other=0.0),
                tl.load(b + at - k * columns, here, other=0.0),
                before,
            ),)  # fmt: skip
        for k in tl.static_range(GROUP):
            here = start + k < steps
            arriving, to_state, drive, before = inputs[k]
            of_past, of_step = shares(to_state + before, drive)
            # Through the same infinity twice nothing goes back, not even a NaN.
            g = tl.where(of_past + of_step == 0, 0.0, arriving + x)
            # Beyond the last step of the chunk nothing changes, whatever was loaded.
            x = tl.where(here, of_past * g, x)
            if SUMMARY:
                gain = tl.where(here, of_past * gain, gain)
            else:
                tl.store(gb + at - k * columns, of_step * g, here)
                tl.store(ga + at - k * columns, x, here)
        at -= GROUP * columns
    if SUMMARY:
        tl.store(ga + lane, gain, steps > 0)
        tl.store(gb + lane, x, steps > 0)
    else:
        # Where the walk ends at step 0.
        tl.store(gi + batch * columns + column, x, (steps > 0) & (chunk == chunks - 1))
