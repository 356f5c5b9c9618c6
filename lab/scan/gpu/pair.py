"""The scan with 2 x 2 matrices of diagonals and its gradients on a GPU.

One thread walks through time for the two states of a column, with both in registers. Where columns
are few, time is cut into chunks (see `launch.py`), and the inputs are read twice. A chunk is summed
up by the product of its matrices, whose two columns are walked like states, and the state it
reaches from zero; where a product has grown, time is not cut (see `lab.scan.growth`).
"""

# In a kernel a tuple may grow, which those of Python's type system cannot.
# mypy: disable-error-code="assignment,var-annotated"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lab.scan.gpu.launch import GROUP, SIZES, Cut, grown, place
from lab.scan.gpu.pairs import conjugate, load, plus, real_views, store, times


def forward(A: Tensor, b: Tensor, initial: Tensor, h: Tensor, chunks: int | None = None) -> None:
    """Fill h ["B T 2 N"] for A ["B T 2 2 N"], b ["B T 2 N"] and initial ["B 2 N"]."""
    _scan(A, b, initial, h, chunks=chunks, backwards=False)


def backward(
    grad: Tensor, A: Tensor, h: Tensor, initial: Tensor, gA: Tensor, gb: Tensor, gi: Tensor,
    chunks: int | None = None,
) -> None:  # fmt: skip
    """Fill gA (as A), gb ["B T 2 N"] and gi ["B 2 N"], given the gradient of h ["B T 2 N"].

    The gradients of A have no order in time, and are left to torch, which sums in a fixed order.
    """
    _scan(A, grad, torch.zeros_like(initial), gb, chunks=chunks, backwards=True)
    gi.copy_((A[:, 0].conj() * gb[:, 0, :, None]).sum(1))
    before = torch.cat([initial[:, None], h[:, :-1]], dim=1).conj()
    if gA.shape[:2] == h.shape[:2]:
        torch.mul(gb[:, :, :, None], before[:, :, None], out=gA)
        return
    shared = [axis for axis in (0, 1) if gA.shape[axis] != h.shape[axis]]
    for i in range(2):
        for j in range(2):
            torch.sum(gb[:, :, i] * before[:, :, j], shared, keepdim=True, out=gA[:, :, i, j])


def _scan(
    A: Tensor, b: Tensor, initial: Tensor, h: Tensor, *, chunks: int | None, backwards: bool
) -> None:
    """Fill h ["B T 2 N"]; `backwards` with h[t] = A[t+1]^H h[t+1] + b[t], from `initial` down."""
    cut = Cut.of(h[:, :, 0], chunks)
    starts, N = initial[:, None], h.shape[3]
    # Six numbers are loaded per step, complex ones twice.
    group = GROUP // 4 if h.is_complex() else GROUP // 2
    flags: dict[str, Any] = {
        "BACKWARDS": backwards,
        "COMPLEX": h.is_complex(),
        "GROUP": max(1, group),
    }
    # How far from one sequence, and from one step, to the next.
    by_sequence = 4 * N * A.shape[1] * (A.shape[0] > 1)
    by_step = 4 * N * (A.shape[1] > 1)
    if cut.chunks > 1:
        ends = h.new_empty(cut.B, cut.chunks - 1, 2, N)
        gains = h.new_empty(cut.B, cut.chunks - 1, 2, 2, N)
        views = real_views(A, b, starts, ends, gains)
        cut.run(_walk, *views, by_sequence, by_step, summary=True, **flags)
        if grown(gains):
            cut = Cut.of(h[:, :, 0], 1)
        else:
            states = torch.empty_like(ends)
            _scan(gains, ends, initial, states, chunks=None, backwards=False)
            starts = torch.cat([starts, states], dim=1)
    # The last tensor is for summaries alone.
    cut.run(_walk, *real_views(A, b, starts, h, h), by_sequence, by_step, **flags)


@triton.jit
def _apply(matrix, x, y, COMPLEX: tl.constexpr):  # type: ignore[no-untyped-def]
    """The 2 x 2 matrix, given row by row, times the states x and y."""
    return (
        plus(times(matrix[0], x, COMPLEX), times(matrix[1], y, COMPLEX)),
        plus(times(matrix[2], x, COMPLEX), times(matrix[3], y, COMPLEX)),
    )


@triton.jit(do_not_specialize=[*SIZES, "by_sequence", "by_step"])
def _walk(  # type: ignore[no-untyped-def]
    A, b, starts, h, gains, by_sequence, by_step, lanes, T, columns, chunks, span,
    BACKWARDS: tl.constexpr, SUMMARY: tl.constexpr, COMPLEX: tl.constexpr,
    LANES: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """BACKWARDS from the last step down, chunk 0 being the last."""
    lane, batch, chunk, n, steps = place(lanes, T, columns, chunks, span, LANES)
    # Of states and of matrices per chunk.
    state_at, matrix_at = lane // columns * 2 * columns + n, lane // columns * 4 * columns + n
    zero = tl.zeros([LANES], h.dtype.element_ty)
    if SUMMARY:
        x, y = (zero, zero), (zero, zero)
        # The two columns of the product so far.
        left, right = ((zero + 1, zero), (zero, zero)), ((zero, zero), (zero + 1, zero))
    else:
        x = load(starts, state_at, steps > 0, 0.0, COMPLEX)
        y = load(starts, state_at + columns, steps > 0, 0.0, COMPLEX)
    for start in range(0, span, GROUP):
        # All loads of the group come first, so that they are under way together.
        inputs = ()
        for k in tl.static_range(GROUP):
            here = start + k < steps
            step = chunk * span + (start + k)
            t = T - 1 - step if BACKWARDS else step
            at = batch * by_sequence + (t + 1 if BACKWARDS else t) * by_step + n
            # Backwards the first step has no matrix: it starts from zero.
            known = here & (step > 0) if BACKWARDS else here
            upper = load(A, at, known, 1.0, COMPLEX), load(A, at + columns, known, 0.0, COMPLEX)
            lower = (
                load(A, at + 2 * columns, known, 0.0, COMPLEX),
                load(A, at + 3 * columns, known, 1.0, COMPLEX),
            )
            if BACKWARDS:
                matrix = (
                    conjugate(upper[0]), conjugate(lower[0]),
                    conjugate(upper[1]), conjugate(lower[1]),
                )  # fmt: skip
            else:
                matrix = upper[0], upper[1], lower[0], lower[1]
            drive_at = (batch * T + t) * 2 * columns + n
            first = load(b, drive_at, here, 0.0, COMPLEX)
            inputs += ((matrix, first, load(b, drive_at + columns, here, 0.0, COMPLEX)),)
        for k in tl.static_range(GROUP):
            here = start + k < steps
            step = chunk * span + (start + k)
            t = T - 1 - step if BACKWARDS else step
            matrix, first, second = inputs[k]
            u, v = _apply(matrix, x, y, COMPLEX)
            x, y = plus(u, first), plus(v, second)
            if SUMMARY:
                left = _apply(matrix, left[0], left[1], COMPLEX)
                right = _apply(matrix, right[0], right[1], COMPLEX)
            else:
                drive_at = (batch * T + t) * 2 * columns + n
                store(h, drive_at, x, here, COMPLEX)
                store(h, drive_at + columns, y, here, COMPLEX)
    if SUMMARY:
        store(h, state_at, x, steps > 0, COMPLEX)
        store(h, state_at + columns, y, steps > 0, COMPLEX)
        store(gains, matrix_at, left[0], steps > 0, COMPLEX)
        store(gains, matrix_at + columns, right[0], steps > 0, COMPLEX)
        store(gains, matrix_at + 2 * columns, left[1], steps > 0, COMPLEX)
        store(gains, matrix_at + 3 * columns, right[1], steps > 0, COMPLEX)
