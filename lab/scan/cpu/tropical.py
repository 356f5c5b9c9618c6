"""h[t] = max(a[t] + h[t-1], b[t]), who won, and the gradients, each in one pass over memory.

A loop over a row writes to few arrays, since LLVM gives up SIMD where it would have to make sure
that many do not overlap. Rows are cached from one loop to the next.
"""

import numpy as np
from torch import Tensor

from lab.scan.cpu.exponential import select
from lab.scan.cpu.precision import accumulators
from lab.scan.cpu.threads import column_width, kernel, run


def forward(a: Tensor, b: Tensor, initial: Tensor, h: Tensor, winner: Tensor) -> None:
    """Fill h and winner ["B T N"] for a, b ["B T N"] and initial ["B N"]."""
    B, T, N = b.shape
    width = column_width(B, N, b.itemsize)
    run(_forward, B * -(-N // width), width, a, b, initial, h, winner, work=b.numel())


def backward(
    grad: Tensor, b: Tensor, h: Tensor, _: Tensor, ga: Tensor, gb: Tensor, gi: Tensor
) -> None:
    """Fill the gradients ga, gb ["B T N"] and gi ["B N"], given that of h ["B T N"].

    They do not depend on the initial state.
    """
    B, T, N = h.shape
    width = column_width(B, N, h.itemsize)
    run(_backward, B * -(-N // width), width, grad, b, h, ga, gb, gi, work=h.numel())


@kernel
def _forward(first, last, width, a, b, initial, h, winner):  # type: ignore[no-untyped-def]
    B, T, N = h.shape
    pieces = (N + width - 1) // width
    state, step = accumulators(width, h), np.empty(width, np.int64)
    one = state.dtype.type(1)
    for item in range(first, last):
        batch, low = item // pieces, item % pieces * width
        high = min(N, low + width)
        size = high - low
        state[:size] = initial[batch, low:high]
        step[:size] = -1
        for t in range(T):
            now = np.int64(t)
            decay, arriving = a[batch, t, low:high], b[batch, t, low:high]
            for n in range(size):
                x, y = decay[n] + state[n], one * arriving[n]
                # The later one also wins ties and, being no number, everything. Ties are those of
                # the numbers that are stored, by which `_backward` knows who won.
                later = (arriving[n] >= h.dtype.type(x)) | (y != y)
                state[n] = select(later, y, x)
                step[n] = select(later, now, step[n])
            row, index = h[batch, t, low:high], winner[batch, t, low:high]
            for n in range(size):
                row[n] = state[n]
                index[n] = step[n]


@kernel
def _backward(first, last, width, grad, b, h, ga, gb, gi):  # type: ignore[no-untyped-def]
    B, T, N = h.shape
    pieces = (N + width - 1) // width
    # What later steps send back to the state of this one.
    carry = accumulators(width, h)
    zero = carry.dtype.type(0)
    for item in range(first, last):
        batch, low = item // pieces, item % pieces * width
        high = min(N, low + width)
        size = high - low
        carry[:size] = 0
        for back in range(1, T + 1):
            t = T - back
            arriving, drive = grad[batch, t, low:high], b[batch, t, low:high]
            row = h[batch, t, low:high]
            to_gain, to_drive = ga[batch, t, low:high], gb[batch, t, low:high]
            for n in range(size):
                x = arriving[n] + carry[n]
                won = (drive[n] == row[n]) | (drive[n] != drive[n])
                to_drive[n] = select(won, x, zero)
                carry[n] = select(won, zero, x)
            for n in range(size):
                to_gain[n] = carry[n]
        gi[batch, low:high] = carry[:size]
