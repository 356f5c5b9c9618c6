"""h[t] = a[t] * h[t-1] + b[t] and its gradients on a GPU, each in one pass over memory.

Where sequences and columns are few, time is cut into chunks (see `launch.py`), and the inputs are
read twice. A chunk is summed up by two numbers, since it takes h to gain * h + end; where a gain
has grown, time is not cut (see `lab.scan.growth`).
"""

# In a kernel a tuple may grow, which those of Python's type system cannot.
# mypy: disable-error-code="assignment,var-annotated"

import torch
import triton
import triton.language as tl
from torch import Tensor

from lab.scan.gpu.launch import SIZES, Cut, grown, place
from lab.scan.gpu.pairs import conjugate, load, plus, real_views, store, times


def forward(a: Tensor, b: Tensor, initial: Tensor, h: Tensor, chunks: int | None = None) -> None:
    """Fill h ["B T N"] for a, b ["B T N"] and initial ["B N"], in `chunks` if they are given."""
    cut = Cut.of(h, chunks)
    starts, is_complex = initial[:, None], h.is_complex()
    if cut.chunks > 1:
        gains, ends = (h.new_empty(cut.B, cut.chunks - 1, cut.columns) for _ in range(2))
        views = real_views(a, b, starts, ends, gains)
        cut.run(_forward, *views, summary=True, COMPLEX=is_complex)
        if grown(gains):
            cut = Cut.of(h, 1)
        else:
            starts = starts_of_chunks(gains, ends, initial)
    # The last argument is for summaries alone.
    cut.run(_forward, *real_views(a, b, starts, h, h), COMPLEX=is_complex)


def backward(
    grad: Tensor, a: Tensor, h: Tensor, initial: Tensor, ga: Tensor, gb: Tensor, gi: Tensor,
    chunks: int | None = None,
) -> None:  # fmt: skip
    """Fill the gradients ga, gb ["B T N"] and gi ["B N"], given that of h ["B T N"]."""
    cut = Cut.of(h, chunks)
    nothing, is_complex = torch.zeros_like(initial), h.is_complex()
    starts = nothing[:, None]
    if cut.chunks > 1:
        gains, ends = (h.new_empty(cut.B, cut.chunks - 1, cut.columns) for _ in range(2))
        views = real_views(grad, a, h, initial, starts, gains, ends, gi)
        cut.run(_backward, *views, summary=True, COMPLEX=is_complex)
        if grown(gains):
            cut = Cut.of(h, 1)
        else:
            starts = starts_of_chunks(gains, ends, nothing)
    views = real_views(grad, a, h, initial, starts, ga, gb, gi)
    cut.run(_backward, *views, COMPLEX=is_complex)


def starts_of_chunks(gains: Tensor, ends: Tensor, initial: Tensor) -> Tensor:
    """["B C N"]: the state before each chunk, of which all but the last one take h to gain h + end.

    Args:
        gains: ["B C-1 N"].
        ends: ["B C-1 N"], in units of the state.
        initial: ["B N"], the state before the first chunk, in units of the state.
    """
    states = torch.empty_like(ends)
    forward(gains, ends, initial, states)
    return torch.cat([initial[:, None], states], dim=1)


@triton.jit(do_not_specialize=SIZES)
def _forward(  # type: ignore[no-untyped-def]
    a, b, starts, h, gains, lanes, T, columns, chunks, span,
    SUMMARY: tl.constexpr, COMPLEX: tl.constexpr, LANES: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    lane, batch, chunk, column, steps = place(lanes, T, columns, chunks, span, LANES)
    at = (batch * T + chunk * span) * columns + column
    if SUMMARY:
        x = tl.zeros([LANES], h.dtype.element_ty), tl.zeros([LANES], h.dtype.element_ty)
        gain = tl.full([LANES], 1, h.dtype.element_ty), tl.zeros([LANES], h.dtype.element_ty)
    else:
        x = load(starts, lane, steps > 0, 0.0, COMPLEX)
    for start in range(0, span, GROUP):
        # All loads of the group come first, so that they are under way together.
        inputs = ()
        for k in tl.static_range(GROUP):
            here = start + k < steps
            to_state = load(a, at + k * columns, here, 1.0, COMPLEX)
            inputs += ((to_state, load(b, at + k * columns, here, 0.0, COMPLEX)),)
        for k in tl.static_range(GROUP):
            x = plus(times(inputs[k][0], x, COMPLEX), inputs[k][1])
            if SUMMARY:
                gain = times(inputs[k][0], gain, COMPLEX)
            else:
                store(h, at + k * columns, x, start + k < steps, COMPLEX)
        at += GROUP * columns
    if SUMMARY:
        store(gains, lane, gain, steps > 0, COMPLEX)
        store(h, lane, x, steps > 0, COMPLEX)


@triton.jit(do_not_specialize=SIZES)
def _backward(  # type: ignore[no-untyped-def]
    grad, a, h, initial, starts, ga, gb, gi, lanes, T, columns, chunks, span,
    SUMMARY: tl.constexpr, COMPLEX: tl.constexpr, LANES: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Walks from the last step down; chunk 0 is the one at the end of the sequence."""
    lane, batch, chunk, column, steps = place(lanes, T, columns, chunks, span, LANES)
    t = T - 1 - chunk * span
    at = (batch * T + t) * columns + column
    # What later steps send back to the state of this one.
    if SUMMARY:
        x = tl.zeros([LANES], ga.dtype.element_ty), tl.zeros([LANES], ga.dtype.element_ty)
        gain = tl.full([LANES], 1, ga.dtype.element_ty), tl.zeros([LANES], ga.dtype.element_ty)
    else:
        x = load(starts, lane, steps > 0, 0.0, COMPLEX)
        first = load(initial, batch * columns + column, steps > 0, 0.0, COMPLEX)
    for start in range(0, span, GROUP):
        inputs = ()
        for k in tl.static_range(GROUP):
            here = start + k < steps
            to_state = conjugate(load(a, at - k * columns, here, 1.0, COMPLEX))
            arriving = load(grad, at - k * columns, here, 0.0, COMPLEX)
            if SUMMARY:
                inputs += ((to_state, arriving),)
            else:
                has_before = here & (t > start + k)
                before = load(h, at - (k + 1) * columns, has_before, 0.0, COMPLEX)
                inputs += ((to_state, arriving, before),)
        for k in tl.static_range(GROUP):
            here = start + k < steps
            x = plus(inputs[k][1], x)
            if SUMMARY:
                gain = times(inputs[k][0], gain, COMPLEX)
            else:
                before = inputs[k][2]
                zero = t == start + k
                before = tl.where(zero, first[0], before[0]), tl.where(zero, first[1], before[1])
                store(gb, at - k * columns, x, here, COMPLEX)
                store(ga, at - k * columns, times(conjugate(before), x, COMPLEX), here, COMPLEX)
            x = times(inputs[k][0], x, COMPLEX)
        at -= GROUP * columns
    if SUMMARY:
        store(ga, lane, gain, steps > 0, COMPLEX)
        store(gb, lane, x, steps > 0, COMPLEX)
    else:
        # Where the walk ends at step 0.
        store(gi, batch * columns + column, x, (steps > 0) & (chunk == chunks - 1), COMPLEX)
