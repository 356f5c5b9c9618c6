"""h[t] = a[t] * h[t-1] + b[t] and its gradients, each in one pass over memory.

The state of a whole row stays in the first-level cache while time runs over the arrays. The loops
over a row are those that LLVM turns into SIMD instructions; few columns are taken one by one.
"""

import numpy as np
from torch import Tensor

from lab.scan.cpu.precision import accumulators
from lab.scan.cpu.threads import as_array, column_width, kernel, run

FEW = 8  # columns, below which a row is too short for SIMD
BLOCK = 1 << 16  # bytes of each result in which a block of time is held
# Bytes of a row, below which the processor fetches ahead where addresses fall, too.
NARROW = 512


def forward(a: Tensor, b: Tensor, initial: Tensor, h: Tensor) -> None:
    """Fill h ["B T N"] for a, b ["B T N"] and initial ["B N"]."""
    arrays, items = _in_pieces(a, b, initial, h)
    run(_forward, items, *arrays, work=h.numel())


def backward(
    grad: Tensor, a: Tensor, h: Tensor, initial: Tensor, ga: Tensor, gb: Tensor, gi: Tensor
) -> None:
    """Fill the gradients ga, gb ["B T N"] and gi ["B N"], given that of h ["B T N"]."""
    arrays, items = _in_pieces(grad, a, h, initial, ga, gb, gi)
    run(_backward, items, *arrays, work=h.numel())


def _in_pieces(*tensors: Tensor) -> tuple[list[np.ndarray], int]:
    """["... pieces width"] for each ["... N"], as threads share the work; and how many pieces."""
    B, N = tensors[0].shape[0], tensors[0].shape[-1]
    width = column_width(B, N, tensors[0].itemsize)
    # NumPy changes a shape in a third of the time that torch takes.
    arrays = map(as_array, tensors)
    return [array.reshape(*array.shape[:-1], N // width, width) for array in arrays], B * N // width


@kernel
def _forward(first, last, a, b, initial, h):  # type: ignore[no-untyped-def]
    B, T, pieces, width = h.shape
    state = accumulators(width, h)
    for item in range(first, last):
        batch, piece = item // pieces, item % pieces
        if width < FEW:
            for n in range(width):
                state[n] = initial[batch, piece, n]
                x = state[n]
                for t in range(T):
                    x = a[batch, t, piece, n] * x + b[batch, t, piece, n]
                    h[batch, t, piece, n] = x
            continue
        state[:] = initial[batch, piece]
        for t in range(T):
            gain, drive, row = a[batch, t, piece], b[batch, t, piece], h[batch, t, piece]
            for n in range(width):
                x = gain[n] * state[n] + drive[n]
                state[n] = x
                row[n] = x


@kernel
def _backward(first, last, grad, a, h, initial, ga, gb, gi):  # type: ignore[no-untyped-def]
    B, T, pieces, width = h.shape
    block = max(1, BLOCK // (width * h.itemsize))
    # What later steps send back to the state of this one.
    carry = accumulators(width, h)
    for item in range(first, last):
        batch, piece = item // pieces, item % pieces
        if width < FEW:
            for n in range(width):
                carry[n] = grad[batch, T - 1, piece, n]
                x = carry[n]
                for back in range(1, T):
                    t = T - back
                    gb[batch, t, piece, n] = x
                    ga[batch, t, piece, n] = x * np.conj(h[batch, t - 1, piece, n])
                    x = grad[batch, t - 1, piece, n] + np.conj(a[batch, t, piece, n]) * x
                gb[batch, 0, piece, n] = x
                ga[batch, 0, piece, n] = x * np.conj(initial[batch, piece, n])
                gi[batch, piece, n] = np.conj(a[batch, 0, piece, n]) * x
            continue
        carry[:] = 0
        if width * h.itemsize < NARROW:
            for back in range(1, T + 1):
                t = T - back
                arriving, gain = grad[batch, t, piece], a[batch, t, piece]
                before = h[batch, t - 1, piece] if t > 0 else initial[batch, piece]
                to_gain, to_drive = ga[batch, t, piece], gb[batch, t, piece]
                for n in range(width):
                    x = arriving[n] + carry[n]
                    to_drive[n] = x
                    carry[n] = np.conj(gain[n]) * x
                for n in range(width):
                    to_gain[n] = to_drive[n] * np.conj(before[n])
            gi[batch, piece] = carry
            continue
        # Where rows are long, it fetches ahead only when addresses rise. So each block of time is
        # copied to where the results go, walked down there, in the cache, for the gradient of the
        # state, and up again for that of the gain.
        for end in range(T, 0, -block):
            start = max(0, end - block)
            for t in range(start, end):
                arriving, gain = grad[batch, t, piece], a[batch, t, piece]
                to_gain, to_drive = ga[batch, t, piece], gb[batch, t, piece]
                for n in range(width):
                    to_drive[n] = arriving[n]
                    to_gain[n] = np.conj(gain[n])
            # Counting up keeps numba from allowing for negative indices, which SIMD cannot take.
            for back in range(1, end - start + 1):
                gain, to_drive = ga[batch, end - back, piece], gb[batch, end - back, piece]
                for n in range(width):
                    x = to_drive[n] + carry[n]
                    to_drive[n] = x
                    carry[n] = gain[n] * x
            for t in range(start, end):
                before = h[batch, t - 1, piece] if t > 0 else initial[batch, piece]
                to_gain, to_drive = ga[batch, t, piece], gb[batch, t, piece]
                for n in range(width):
                    to_gain[n] = to_drive[n] * np.conj(before[n])
        gi[batch, piece] = carry
