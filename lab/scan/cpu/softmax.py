"""Causal softmax averages and their gradients, each in one pass over memory.

The shares of a step's past and of the step itself are computed for a row of N at once, then each
of them mixes V numbers. With one number each (V = 1) a row of N is mixed at once, too. Averages and
values are taken as ["B T N*V"], so that every slice that a loop runs over is contiguous. A loop
writes to few arrays, since LLVM gives up SIMD where it would have to make sure that many do not
overlap; rows are cached from one loop to the next.
"""

import numpy as np
from torch import Tensor

from lab.scan.cpu.exponential import log_step, select, shares
from lab.scan.cpu.precision import accumulators
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
    norm, rest = np.empty(width, decay.dtype), np.empty(width, decay.dtype)
    of_past, of_step = np.empty(width, decay.dtype), np.empty(width, decay.dtype)
    keep, share = accumulators(width, decay), accumulators(width, decay)
    state = accumulators(width * V, decay)
    for item in range(first, last):
        batch, low = item // pieces, item % pieces * width
        high = min(N, low + width)
        size = high - low
        norm[:size] = first_norm[batch, low:high]
        rest[:size] = 0
        state[: size * V] = first_average[batch, low * V : high * V]
        for t in range(T):
            fading, arriving = decay[batch, t, low:high], score[batch, t, low:high]
            for n in range(size):
                of_past[n], of_step[n] = shares((fading[n] + norm[n]) + rest[n], arriving[n])
            _mix(of_past[:size], of_step[:size], keep, share)
            for n in range(size):
                norm[n], rest[n] = log_step(fading[n], norm[n], rest[n], arriving[n])
            row = log_norm[batch, t, low:high]
            for n in range(size):
                row[n] = norm[n]
            new = average[batch, t, low * V : high * V]
            if V == 1 and not shared:
                arriving = value[batch, t, low:high]
                for n in range(size):
                    state[n] = keep[n] * state[n] + share[n] * arriving[n]
                for n in range(size):
                    new[n] = state[n]
                continue
            for n in range(size):
                start = 0 if shared else (low + n) * V
                arriving = value[batch, t, start : start + V]
                mine, total = new[n * V : (n + 1) * V], state[n * V : (n + 1) * V]
                for v in range(V):
                    x = keep[n] * total[v] + share[n] * arriving[v]
                    total[v] = x
                    mine[v] = x


@kernel
def _mix(of_past, of_step, keep, share):  # type: ignore[no-untyped-def]
    """Fill what an average keeps and what it takes in, in double precision, given the shares.

    Of two that sum to one the smaller share has all its digits. Where there is nothing yet, what is
    there stays.
    """
    one, zero = keep.dtype.type(1), keep.dtype.type(0)
    for n in range(of_past.shape[0]):
        past, step = one * of_past[n], one * of_step[n]
        keep[n] = select(past > step, one - step, select(past + step == zero, one, past))
    for n in range(of_past.shape[0]):
        past, step = one * of_past[n], one * of_step[n]
        share[n] = select(step > past, one - past, step)


@kernel
def _backward(  # type: ignore[no-untyped-def]
    first, last, width, grad_average, grad_norm, decay, score, value, average, log_norm,
    first_average, first_norm, to_decay, to_score, to_value, to_first_average, to_first_norm,
):  # fmt: skip
    B, T, N = log_norm.shape
    V = average.shape[2] // N
    shared = value.shape[2] < average.shape[2]
    pieces = (N + width - 1) // width
    of_past, of_step = np.empty(width, decay.dtype), np.empty(width, decay.dtype)
    keep, share = accumulators(width, decay), accumulators(width, decay)
    carry_all, carry_norm = accumulators(width * V, decay), accumulators(width, decay)
    to_share, zero = accumulators(width, decay), keep.dtype.type(0)
    for item in range(first, last):
        batch, low = item // pieces, item % pieces * width
        high = min(N, low + width)
        sums = to_value[item if to_value.shape[0] > B else batch]
        # What later steps send back to the state of this one.
        carry = carry_all[: (high - low) * V]
        carry[:] = 0
        carry_norm[:] = 0
        for back in range(1, T + 1):
            t = T - back
            fading, arriving = decay[batch, t, low:high], score[batch, t, low:high]
            norm = first_norm[batch] if t == 0 else log_norm[batch, t - 1]
            norm = norm[low:high]
            for n in range(high - low):
                of_past[n], of_step[n] = shares(fading[n] + norm[n], arriving[n])
            _mix(of_past[: high - low], of_step[: high - low], keep, share)
            grad = grad_average[batch, t, low * V : high * V]
            old = first_average[batch] if t == 0 else average[batch, t - 1]
            old = old[low * V : high * V]
            if V == 1 and not shared:
                arriving, sent = value[batch, t, low:high], sums[t, low:high]
                for n in range(high - low):
                    carry[n] += grad[n]
                for n in range(high - low):
                    to_share[n] = carry[n] * (old[n] - arriving[n])
                for n in range(high - low):
                    sent[n] = share[n] * carry[n]
                for n in range(high - low):
                    carry[n] *= keep[n]
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
                # Through the same infinity twice nothing goes back, not even a NaN.
                none = of_past[n] + of_step[n] == 0
                keep[n] = select(none, zero, keep[n])
                carry_norm[n] = select(none, zero, arriving[n] + carry_norm[n])
                # The share of the past changes with its logarithm by the product of both shares.
                to_share[n] = select(none, zero, to_share[n] * of_past[n] * share[n])
            for n in range(high - low):
                step[n] = share[n] * carry_norm[n] - to_share[n]
            for n in range(high - low):
                x = keep[n] * carry_norm[n] + to_share[n]
                carry_norm[n] = x
                past[n] = x
        to_first_average[batch, low * V : high * V] = carry
        to_first_norm[batch, low:high] = carry_norm[: high - low]


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
