"""h[t] = logaddexp(a[t] + h[t-1], b[t]) and its gradients, each in one pass over memory.

As in `lab.scan.cpu.linear`, the state of a whole row stays in the first-level cache while time runs
over the arrays. Here the arithmetic takes as long as the memory does.
"""

import numpy as np
from torch import Tensor

from lab.scan.cpu.exponential import log_step, select, shares
from lab.scan.cpu.precision import accumulators
from lab.scan.cpu.threads import column_width, kernel, run

BLOCK = 1 << 15  # bytes of one array that go up and down in time together
WORK = 8  # multiply-adds that one step of one state takes as long as, for `run`


def forward(a: Tensor, b: Tensor, initial: Tensor, h: Tensor) -> None:
    """Fill h ["B T N"] for a, b ["B T N"] and initial ["B N"]."""
    B, T, N = b.shape
    width = column_width(B, N, b.itemsize)
    run(_forward, B * -(-N // width), width, a, b, initial, h, work=WORK * b.numel())


def backward(
    grad: Tensor, a: Tensor, b: Tensor, h: Tensor, initial: Tensor,
    ga: Tensor, gb: Tensor, gi: Tensor,
) -> None:  # fmt: skip
    """Fill the gradients ga, gb ["B T N"] and gi ["B N"], given that of h ["B T N"]."""
    B, T, N = h.shape
    width = column_width(B, N, h.itemsize)
    arguments = (width, grad, a, b, h, initial, ga, gb, gi)
    run(_backward, B * -(-N // width), *arguments, work=WORK * h.numel())


@kernel
def _forward(first, last, width, a, b, initial, h):  # type: ignore[no-untyped-def]
    B, T, N = h.shape
    pieces = (N + width - 1) // width
    state, rest = np.empty(width, h.dtype), np.empty(width, h.dtype)
    for item in range(first, last):
        batch, low = item // pieces, item % pieces * width
        high = min(N, low + width)
        size = high - low
        state[:size] = initial[batch, low:high]
        rest[:size] = 0
        for t in range(T):
            decay, arriving = a[batch, t, low:high], b[batch, t, low:high]
            row = h[batch, t, low:high]
            for n in range(size):
                state[n], rest[n] = log_step(decay[n], state[n], rest[n], arriving[n])
            for n in range(size):
                row[n] = state[n]


@kernel
def _backward(first, last, width, grad, a, b, h, initial, ga, gb, gi):  # type: ignore[no-untyped-def]
    B, T, N = h.shape
    pieces = (N + width - 1) // width
    block = max(1, BLOCK // (min(width, N) * h.itemsize))
    # What later steps send back to the state of this one.
    carry = accumulators(width, h)
    one, zero = carry.dtype.type(1), carry.dtype.type(0)
    for item in range(first, last):
        batch, low = item // pieces, item % pieces * width
        high = min(N, low + width)
        size = high - low
        carry[:size] = 0
        # The shares of the past and of the step itself do not depend on what flows back. So each
        # block of time goes up for these, as memory is read fastest, and down again, while they
        # are cached, to multiply them by what flows.
        for end in range(T, 0, -block):
            start = max(0, end - block)
            for t in range(start, end):
                before = h[batch, t - 1, low:high] if t > 0 else initial[batch, low:high]
                decay, arriving = a[batch, t, low:high], b[batch, t, low:high]
                of_past, of_step = ga[batch, t, low:high], gb[batch, t, low:high]
                for n in range(size):
                    of_past[n], of_step[n] = shares(decay[n] + before[n], arriving[n])
            for back in range(1, end - start + 1):
                t = end - back
                arriving = grad[batch, t, low:high]
                to_past, to_step = ga[batch, t, low:high], gb[batch, t, low:high]
                for n in range(size):
                    share, keep = one * to_step[n], one * to_past[n]
                    # Through the same infinity twice nothing goes back, not even a NaN.
                    x = select(share + keep == zero, zero, arriving[n] + carry[n])
                    # Of two that sum to one the smaller share has all its digits.
                    keep = select(keep > share, one - share, keep)
                    to_step[n] = share * x
                    x *= keep
                    carry[n] = x
                    to_past[n] = x
        gi[batch, low:high] = carry[:size]
