"""Causal softmax averages and their gradients, each in one pass over memory.

The shares of a step's past and of the step itself are computed for a row of N at once, then each
of them mixes V numbers. With one number each (V = 1) a row of N is mixed at once, too. Averages and
values are taken as ["B T N*V"], so that every slice that a loop runs over is contiguous. A loop
writes to few arrays, since LLVM gives up SIMD where it would have to make sure that many do not
overlap; rows are cached from one loop to the next.
"""

import numpy as np
from torch import Tensor

from lab.scan.cpu.exponential import log_add, shares
from lab.scan.cpu.threads import column_width, kernel, reduction, run

SHARES = 8  # multiply-adds that the shares of one step take as long as, for `run`


def forward(
    decay: Tensor, score: Tensor, value: Tensor, initial_average: Tensor, initial_norm: Tensor,
    average: Tensor, log_norm: Tensor,
) -> None:  # fmt: skip
    """Fill average ["B T N V"] and log_norm ["B T N"]; value is ["B T N V"] or ["B T 1 V"]."""
    items, width, work = _pieces(average)
    run(
        _forward, items, width, decay, score, value.flatten(2),
        initial_average.flatten(1), initial_norm, average.flatten(2), log_norm, work=work,
    )  # fmt: skip


def backward(
    grad_average: Tensor, grad_norm: Tensor,
    decay: Tensor, score: Tensor, value: Tensor, average: Tensor, log_norm: Tensor,
    initial_average: Tensor, initial_norm: Tensor,
    to_decay: Tensor, to_score: Tensor, to_value: Tensor,
    to_initial_average: Tensor, to_initial_norm: Tensor,
) -> None:  # fmt: skip
    """Fill the gradients of the five inputs, given those of average and log_norm."""
    items, width, work = _pieces(average)
    B, T, N, V = average.shape
    # Pieces of work that share values must not add to the same place: each has sums of its own.
    apart = value.shape[2] == 1 and items > B
    sums = value.new_empty(items, T, V) if apart else to_value.flatten(2)
    run(
        _backward, items, width, grad_average.flatten(2), grad_norm,
        decay, score, value.flatten(2), average.flatten(2), log_norm,
        initial_average.flatten(1), initial_norm,
        to_decay, to_score, sums, to_initial_average.flatten(1), to_initial_norm, work=work,
    )  # fmt: skip
    if apart:
        to_value.copy_(sums.view(B, items // B, T, V).sum(1).unsqueeze(2))


def _pieces(average: Tensor) -> tuple[int, int, int]:
    """How many pieces of work there are, how many of N each takes, and the work in all."""
    B, T, N, V = average.shape
    width = max(1, column_width(B, N * V, average.itemsize) // max(1, V))
    return B * -(-N // width), width, B * T * N * (V + SHARES)


@kernel
def _forward(first, last, width, decay, score, value, first_average, first_norm, average, log_norm):  # type: ignore[no-untyped-def]
    B, T, N = log_norm.shape
    V = average.shape[2] // N
    shared = value.shape[2] < average.shape[2]
    pieces = (N + width - 1) // width
    keep, share = np.empty(width, decay.dtype), np.empty(width, decay.dtype)
    one = np.ones(1, decay.dtype)[0]
    for item in range(first, last):
        batch, low = item // pieces, item % pieces * width
        high = min(N, low + width)
        norm = first_norm[batch, low:high].copy()
        for t in range(T):
            fading, arriving = decay[batch, t, low:high], score[batch, t, low:high]
            for n in range(high - low):
                of_past, share[n] = shares(fading[n] + norm[n], arriving[n])
                # Where there is nothing yet, what is there stays.
                keep[n] = one if of_past + share[n] == 0 else of_past
            row = log_norm[batch, t, low:high]
            for n in range(high - low):
                x = log_add(fading[n] + norm[n], arriving[n])
                norm[n] = x
                row[n] = x
            new = average[batch, t, low * V : high * V]
            old = first_average[batch] if t == 0 else average[batch, t - 1]
            old = old[low * V : high * V]
            if V == 1 and not shared:
                arriving = value[batch, t, low:high]
                for n in range(high - low):
                    new[n] = keep[n] * old[n] + share[n] * arriving[n]
                continue
            for n in range(high - low):
                start = 0 if shared else (low + n) * V
                arriving = value[batch, t, start : start + V]
                mine, before = new[n * V : (n + 1) * V], old[n * V : (n + 1) * V]
                for v in range(V):
                    mine[v] = keep[n] * before[v] + share[n] * arriving[v]


@kernel
def _backward(  # type: ignore[no-untyped-def]
    first, last, width, grad_average, grad_norm, decay, score, value, average, log_norm,
    first_average, first_norm, to_decay, to_score, to_value, to_first_average, to_first_norm,
):  # fmt: skip
    B, T, N = log_norm.shape
    V = average.shape[2] // N
    shared = value.shape[2] < average.shape[2]
    pieces = (N + width - 1) // width
    keep, share = np.empty(width, decay.dtype), np.empty(width, decay.dtype)
    of_past, to_share = np.empty(width, decay.dtype), np.empty(width, decay.dtype)
    one = np.ones(1, decay.dtype)[0]
    for item in range(first, last):
        batch, low = item // pieces, item % pieces * width
        high = min(N, low + width)
        sums = to_value[item if to_value.shape[0] > B else batch]
        # What later steps send back to the state of this one.
        carry = to_first_average[batch, low * V : high * V]
        carry_norm = to_first_norm[batch, low:high]
        carry[:] = 0
        carry_norm[:] = 0
        for back in range(1, T + 1):
            t = T - back
            fading, arriving = decay[batch, t, low:high], score[batch, t, low:high]
            norm = first_norm[batch] if t == 0 else log_norm[batch, t - 1]
            norm = norm[low:high]
            for n in range(high - low):
                of_past[n], share[n] = shares(fading[n] + norm[n], arriving[n])
            for n in range(high - low):
                keep[n] = one if of_past[n] + share[n] == 0 else of_past[n]
            grad = grad_average[batch, t, low * V : high * V]
            old = first_average[batch] if t == 0 else average[batch, t - 1]
            old = old[low * V : high * V]
            if V == 1 and not shared:
                arriving, sent = value[batch, t, low:high], sums[t, low:high]
                for n in range(high - low):
                    sent[n] = grad[n] + carry[n]
                for n in range(high - low):
                    to_share[n] = sent[n] * (old[n] - arriving[n])
                for n in range(high - low):
                    carry[n] = keep[n] * sent[n]
                    sent[n] *= share[n]
            else:
                begin, stop = (0, V) if shared else (low * V, high * V)
                arriving, sent = value[batch, t, begin:stop], sums[t, begin:stop]
                for v in range(stop - begin):
                    sent[v] = 0
                for n in range(high - low):
                    here, end = n * V, (n + 1) * V
                    there, stop = (0, V) if shared else (here, end)
                    to_share[n] = _flow_back(
                        keep[n], share[n], grad[here:end], carry[here:end], old[here:end],
                        arriving[there:stop], sent[there:stop],
                    )  # fmt: skip
            arriving = grad_norm[batch, t, low:high]
            past, step = to_decay[batch, t, low:high], to_score[batch, t, low:high]
            for n in range(high - low):
                # The share of the past changes with its logarithm by the product of both shares.
                to_share[n] *= of_past[n] * share[n]
            for n in range(high - low):
                step[n] = share[n] * (arriving[n] + carry_norm[n]) - to_share[n]
            for n in range(high - low):
                x = of_past[n] * (arriving[n] + carry_norm[n]) + to_share[n]
                carry_norm[n] = x
                past[n] = x


@reduction
def _flow_back(keep, share, grad, carry, old, value, sent):  # type: ignore[no-untyped-def]
    """Through one average: add to what is `sent` to the value, update what is sent to the past.

    Returns the gradient of the share of the past.
    """
    to_share = keep - keep
    for v in range(grad.shape[0]):
        carry[v] += grad[v]
    for v in range(grad.shape[0]):
        to_share += carry[v] * (old[v] - value[v])
    for v in range(grad.shape[0]):
        sent[v] += share * carry[v]
    for v in range(grad.shape[0]):
        carry[v] *= keep
    return to_share
