"""The scan with 2 x 2 matrices of diagonals, and its gradients, each in one pass over memory.

The two rows of a state stay in the first-level cache, and the loops along them become SIMD
instructions. What the batch or all steps share has an axis of 1 in A ["B T 2 2 N"].
"""

import numpy as np
import torch
from torch import Tensor

from lab.scan.cpu.precision import DOUBLES, accumulators
from lab.scan.cpu.threads import column_width, kernel, run


def forward(A: Tensor, b: Tensor, initial: Tensor, h: Tensor) -> None:
    """Fill h ["B T 2 N"] for A ["B T 2 2 N"], b ["B T 2 N"] and initial ["B 2 N"]."""
    B, _, _, N = b.shape
    width = column_width(B, N, b.itemsize)
    run(_forward, B * -(-N // width), width, A, b, initial, h, work=2 * b.numel())


def backward(
    grad: Tensor, A: Tensor, h: Tensor, initial: Tensor, gA: Tensor, gb: Tensor, gi: Tensor
) -> None:
    """Fill gA (as A), gb ["B T 2 N"] and gi ["B 2 N"], given the gradient of h ["B T 2 N"]."""
    B, _, _, N = h.shape
    # Sequences of one group add to the same gradient; groups are added up in the end.
    groups = B if A.shape[0] == B else min(B, torch.get_num_threads())
    width = column_width(groups, N, h.itemsize)
    adds = A.shape[:2] != h.shape[:2]
    sums = gA.new_zeros(groups, *gA.shape[1:], dtype=DOUBLES[gA.dtype]) if adds else gA
    arrays = (grad, A, h, initial, sums, gb, gi)
    run(_backward, groups * -(-N // width), groups, width, adds, *arrays, work=4 * h.numel())
    if adds:
        gA.copy_(sums if A.shape[0] == B else sums.sum(0, keepdim=True))


@kernel
def _forward(first, last, width, A, b, initial, h):  # type: ignore[no-untyped-def]
    B, T, _, N = b.shape
    pieces = (N + width - 1) // width
    # The states before and after a step take turns. A loop writes to one row alone: of more LLVM
    # would have to make sure that they do not overlap, and gives up SIMD.
    states = accumulators((2, 2, width), h)
    for item in range(first, last):
        s, low = item // pieces, item % pieces * width
        high = min(N, low + width)
        size = high - low
        states[1, :, :size] = initial[s, :, low:high]
        for t in range(T):
            before, after = states[1 - t % 2], states[t % 2]
            x, y = before[0], before[1]
            gain = A[s if A.shape[0] > 1 else 0, t if A.shape[1] > 1 else 0]
            for i in range(2):
                of_x, of_y = gain[i, 0, low:high], gain[i, 1, low:high]
                drive, state, row = b[s, t, i, low:high], after[i], h[s, t, i, low:high]
                for n in range(size):
                    state[n] = of_x[n] * x[n] + of_y[n] * y[n] + drive[n]
                for n in range(size):
                    row[n] = state[n]


@kernel
def _backward(  # type: ignore[no-untyped-def]
    first, last, groups, width, adds, grad, A, h, initial, gA, gb, gi
):
    B, T, _, N = h.shape
    pieces = (N + width - 1) // width
    # What later steps send back to the state of this one.
    carry = accumulators((2, width), h)
    x, y = carry[0], carry[1]
    for item in range(first, last):
        group, low = item // pieces, item % pieces * width
        high = min(N, low + width)
        size = high - low
        for s in range(B * group // groups, B * (group + 1) // groups):
            carry[:] = 0
            for back in range(1, T + 1):
                t = T - back
                step = t if A.shape[1] > 1 else 0
                gain, to_gain = A[s if A.shape[0] > 1 else 0, step], gA[group, step]
                a00, a01 = gain[0, 0, low:high], gain[0, 1, low:high]
                a10, a11 = gain[1, 0, low:high], gain[1, 1, low:high]
                arriving0, arriving1 = grad[s, t, 0, low:high], grad[s, t, 1, low:high]
                g0, g1 = gb[s, t, 0, low:high], gb[s, t, 1, low:high]
                for n in range(size):
                    x0 = arriving0[n] + x[n]
                    y0 = arriving1[n] + y[n]
                    g0[n] = x0
                    g1[n] = y0
                    x[n] = np.conj(a00[n]) * x0 + np.conj(a10[n]) * y0
                    y[n] = np.conj(a01[n]) * x0 + np.conj(a11[n]) * y0
                before = h[s, t - 1] if t > 0 else initial[s]
                for i in range(2):
                    g = gb[s, t, i, low:high]
                    for j in range(2):
                        past, entry = before[j, low:high], to_gain[i, j, low:high]
                        if adds:
                            for n in range(size):
                                entry[n] += g[n] * np.conj(past[n])
                        else:
                            for n in range(size):
                                entry[n] = g[n] * np.conj(past[n])
            gi[s, :, low:high] = carry[:, :size]
