"""h[t] = max(a[t] + h[t-1], b[t]) with its winner, and its gradients on a GPU, in one pass each.

Where sequences and columns are few, time is cut into chunks (see `launch.py`), and the inputs are
read twice. A chunk takes h to max(gain + h, end). The sum `gain` rounds differently from one step
after another, so between chunks two candidates that differ by rounding alone may change places.
"""

# In a kernel a tuple may grow, which those of Python's type system cannot.
# mypy: disable-error-code="assignment,var-annotated"

import torch
import triton
import triton.language as tl
from torch import Tensor

from lab.scan.gpu import linear
from lab.scan.gpu.launch import SIZES, Cut, place


def forward(
    a: Tensor, b: Tensor, initial: Tensor, h: Tensor, winner: Tensor, chunks: int | None = None
) -> None:
    """Fill h and winner Long["B T N"] for a, b ["B T N"] and initial ["B N"].

    The winner is the step whose b is the maximum, the later one of several, or -1 for `initial`.
    """
    cut = Cut.of(h, chunks)
    starts = initial[:, None]
    winners = torch.full_like(starts, -1, dtype=torch.int64)
    if cut.chunks > 1:
        gains, ends, states = (h.new_empty(cut.B, cut.chunks - 1, cut.columns) for _ in range(3))
        steps, which = (torch.empty_like(ends, dtype=torch.int64) for _ in range(2))
        cut.run(_forward, a, b, starts, winners, ends, steps, gains, summary=True)
        forward(gains, ends, initial, states, which)
        # From the chunk that won to the step that won in it.
        step = torch.where(which < 0, which, steps.gather(1, which.clamp_min(0)))
        starts = torch.cat([starts, states], dim=1)
        winners = torch.cat([winners, step], dim=1)
    # The last argument is for summaries alone.
    cut.run(_forward, a, b, starts, winners, h, winner, h)


def backward(
    grad: Tensor, b: Tensor, h: Tensor, initial: Tensor, ga: Tensor, gb: Tensor, gi: Tensor,
    chunks: int | None = None,
) -> None:  # fmt: skip
    """Fill the gradients ga, gb ["B T N"] and gi ["B N"], given that of h ["B T N"]."""
    cut = Cut.of(h, chunks)
    nothing = torch.zeros_like(initial)
    starts = nothing[:, None]
    if cut.chunks > 1:
        gains, ends = (h.new_empty(cut.B, cut.chunks - 1, cut.columns) for _ in range(2))
        cut.run(_backward, grad, b, h, starts, gains, ends, gi, summary=True)
        starts = linear.starts_of_chunks(gains, ends, nothing)
    cut.run(_backward, grad, b, h, starts, ga, gb, gi)


@triton.jit(do_not_specialize=SIZES)
def _forward(  # type: ignore[no-untyped-def]
    a, b, starts, winners, h, winner, gains, lanes, T, columns, chunks, span,
    SUMMARY: tl.constexpr, LANES: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    lane, batch, chunk, column, steps = place(lanes, T, columns, chunks, span, LANES)
    t = chunk * span
    at = (batch * T + t) * columns + column
    if SUMMARY:
        x = tl.full([LANES], float("-inf"), h.dtype.element_ty)
        gain = tl.zeros([LANES], h.dtype.element_ty)
        step = tl.full([LANES], -1, tl.int64)
    else:
        x = tl.load(starts + lane, steps > 0, other=0.0)
        step = tl.load(winners + lane, steps > 0, other=-1)
    for start in range(0, span, GROUP):
        # All loads of the group come first, so that they are under way together.
        inputs = ()
        for k in tl.static_range(GROUP):
            here = start + k < steps
            to_state = tl.load(a + at + k * columns, here, other=0.0)
            inputs += ((to_state, tl.load(b + at + k * columns, here, other=float("-inf"))),)
        for k in tl.static_range(GROUP):
            here = start + k < steps
            decayed, drive = inputs[k][0] + x, inputs[k][1]
            # NaN on either side stays NaN: it is no larger than anything, and equals nothing.
            won = (drive >= decayed) | (drive != drive)
            x = tl.where(won, drive, decayed)
            step = tl.where(here & won, t + start + k, step)
            if SUMMARY:
                gain += inputs[k][0]
            else:
                tl.store(h + at + k * columns, x, here)
                tl.store(winner + at + k * columns, step, here)
        at += GROUP * columns
    if SUMMARY:
        tl.store(gains + lane, gain, steps > 0)
        tl.store(h + lane, x, steps > 0)
        tl.store(winner + lane, step, steps > 0)


@triton.jit(do_not_specialize=SIZES)
def _backward(  # type: ignore[no-untyped-def]
    grad, b, h, starts, ga, gb, gi, lanes, T, columns, chunks, span,
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
    for start in range(0, span, GROUP):
        inputs = ()
        for k in tl.static_range(GROUP):
            here = start + k < steps
            arriving = tl.load(grad + at - k * columns, here, other=0.0)
            drive = tl.load(b + at - k * columns, here, other=0.0)
            inputs += ((arriving, drive, tl.load(h + at - k * columns, here, other=1.0)),)
        for k in tl.static_range(GROUP):
            here = start + k < steps
            # Never beyond the last step, where 0 and 1 were loaded.
            arriving, drive, state = inputs[k]
            won = (drive == state) | (drive != drive)
            g = arriving + x
            x = tl.where(won, 0.0, g)
            if SUMMARY:
                gain = tl.where(won, 0.0, gain)
            else:
                tl.store(gb + at - k * columns, tl.where(won, g, 0.0), here)
                tl.store(ga + at - k * columns, x, here)
        at -= GROUP * columns
    if SUMMARY:
        tl.store(ga + lane, gain, steps > 0)
        tl.store(gb + lane, x, steps > 0)
    else:
        # Where the walk ends at step 0.
        tl.store(gi + batch * columns + column, x, (steps > 0) & (chunk == chunks - 1))
