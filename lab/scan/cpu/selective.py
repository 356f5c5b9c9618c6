"""The selective scan and its gradients, of whose states one in CHUNK is ever in memory.

Neighbouring channels lie side by side in registers (see `lanes.py`), their states in the
first-level cache. Time is walked in chunks. Forwards the state before each chunk is kept; backwards
the states within a chunk are computed again from there, and then the chunk is walked down.

A gain exp(delta A) is computed as a power of two, by rates A / log(2).
"""

import math

import numpy as np
import torch
from torch import Tensor

from lab.scan.cpu.exponential import log_add, shares
from lab.scan.cpu.lanes import load, power, spread, store, total, width
from lab.scan.cpu.threads import LINE, reduction, run

CHUNK = 32  # steps from one state in memory to the next
# Multiply-adds per state that a step takes as long as, for `run`.
FORWARD, BACKWARD = 8, 24
PER_LOG2, LOG2 = 1 / math.log(2), math.log(2)


def forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor,
    initial: Tensor, reset: Tensor, y: Tensor, last: Tensor, marks: Tensor,
) -> None:  # fmt: skip
    """Fill y ["B T D"], last ["B D N"] and marks ["B chunks N D"], the states before chunks.

    Args:
        u, delta: ["B T D"].
        A: ["1 D N"], or ["B D N"] where each sequence has its own.
        B, C: ["B T G N"], for G groups of neighbouring channels.
        D: ["1 D"] or ["B D"]; with no columns for no skip.
        bias: as D, added to delta before a softplus; with no columns for neither.
        initial: ["B D N"].
        reset: Bool["B T"], with no columns for none.
    """
    items, channels, work = _pieces(u, A, B)
    given = (u, delta, A, B, C, D, bias, initial, reset.view(torch.uint8), y, last, marks)
    run(_forward, items, channels, *given, work=FORWARD * work)


def backward(
    grad: Tensor, grad_last: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor, bias: Tensor, initial: Tensor, reset: Tensor, marks: Tensor,  # noqa: ARG001
    to_u: Tensor, to_delta: Tensor, to_A: Tensor, to_B: Tensor, to_C: Tensor, to_D: Tensor,
    to_bias: Tensor, to_initial: Tensor,
) -> None:  # fmt: skip
    """Fill the gradients of all but `reset`, given those of y and of the last state."""
    items, channels, work = _pieces(u, A, B)
    size = len(u)
    # What several pieces of work add to is summed up afterwards.
    own_A = u.new_empty(size, *A.shape[1:])
    own_D, own_bias = (u.new_empty(size, each.shape[1]) for each in (D, bias))
    pieces = items // max(1, size * B.shape[2])
    own_B, own_C = (u.new_empty(pieces, *B.shape) if pieces > 1 else t[None] for t in (to_B, to_C))
    given = (grad, grad_last, u, delta, A, B, C, D, bias, reset.view(torch.uint8), marks)
    filled = (to_u, to_delta, own_A, own_B, own_C, own_D, own_bias, to_initial)
    run(_backward, items, channels, *given, *filled, work=BACKWARD * work)
    if pieces > 1:
        torch.sum(own_B, 0, out=to_B)
        torch.sum(own_C, 0, out=to_C)
    for own, whole in ((own_A, to_A), (own_D, to_D), (own_bias, to_bias)):
        whole.copy_(own if len(whole) == size else own.sum(0, keepdim=True))


def _pieces(u: Tensor, A: Tensor, B: Tensor) -> tuple[int, int, int]:
    """Pieces of work, how many channels of one group each takes, and states of all steps."""
    size, steps, columns = u.shape
    groups, threads = B.shape[2], torch.get_num_threads()
    each = channels = columns // groups
    if (size * groups) % threads and size * groups < 4 * threads:
        line = LINE // u.itemsize
        channels = -(-each // (threads * line)) * line
    channels = max(1, min(each, channels))
    return size * groups * -(-each // channels), channels, size * steps * A.shape[1:].numel()


@reduction
def _gather(rows, s, start, steps, low, size, out):  # type: ignore[no-untyped-def]
    """out[k, :size] = rows[s, start + k, low : low + size], and zeros beyond."""
    wide = width(out)
    for k in range(steps):
        row, at = rows[s, start + k], k * wide
        if size == wide:
            store(out, at, load(row, low))
        else:
            for d in range(wide):
                out[at + d] = row[low + d] if d < size else 0


@reduction
def _scatter(values, s, start, steps, low, size, rows):  # type: ignore[no-untyped-def]
    """rows[s, start + k, low : low + size] = values[k, :size]."""
    wide = width(values)
    for k in range(steps):
        row, at = rows[s, start + k], k * wide
        if size == wide:
            store(row, low, load(values, at))
        else:
            for d in range(size):
                row[low + d] = values[at + d]


@reduction
def _softplus(step, shift, numbers):  # type: ignore[no-untyped-def]
    """step = softplus(step + shift)."""
    wide, zero = width(step), step.dtype.type(0)
    for at in range(0, numbers, wide):
        store(step, at, load(step, at) + shift)
    for i in range(numbers):
        step[i] = log_add(step[i], zero)


@reduction
def _fill(matrices, s, low, high, part, parts, out):  # type: ignore[no-untyped-def]
    """out[block, n, part] = matrices[s, low + block : low + block + width, n].

    The matrices are ["1 D N"] or ["B D N"]; beyond the last channel there are zeros.
    """
    wide, N = width(out), matrices.shape[2]
    own = s if matrices.shape[0] > 1 else 0
    for d in range((high - low + wide - 1) // wide * wide):
        at = (d // wide * N * parts + part) * wide + d % wide
        for n in range(N):
            out[at + n * parts * wide] = matrices[own, low + d, n] if low + d < high else 0


@reduction
def _fill_row(rows, s, low, high, out):  # type: ignore[no-untyped-def]
    """From rows ["1 D"] or ["B D"]; zeros beyond, and where there are no columns."""
    out[:] = 0
    if rows.shape[1] > 0:
        row = rows[s if rows.shape[0] > 1 else 0]
        for d in range(high - low):
            out[d] = row[low + d]


@reduction
def _empty_out(part, values, s, low, high, parts, matrices):  # type: ignore[no-untyped-def]
    """matrices[s, low : high] = what `_fill` would put into that part of values."""
    wide, N = width(values), matrices.shape[2]
    for d in range(high - low):
        at = (d // wide * N * parts + part) * wide + d % wide
        for n in range(N):
            matrices[s, low + d, n] = values[at + n * parts * wide]


@reduction
def _keep(own, base, s, chunk, low, size, marks):  # type: ignore[no-untyped-def]
    """marks[s, chunk, n, low : low + size] = the states of one block of channels."""
    wide = width(own)
    for n in range(marks.shape[2]):
        at, mark = base + (2 * n + 1) * wide, marks[s, chunk, n]
        if size == wide:
            store(mark, low, load(own, at))
        else:
            for d in range(size):
                mark[low + d] = own[at + d]


@reduction
def _recall(marks, s, chunk, low, size, states):  # type: ignore[no-untyped-def]
    """The states before a chunk, from where `_keep` has put them; zeros beyond the last channel."""
    wide, zero = width(states), states.dtype.type(0)
    for n in range(marks.shape[2]):
        at, mark = 4 * n * wide, marks[s, chunk, n]
        if size == wide:
            store(states, at, load(mark, low))
        else:
            for d in range(wide):
                states[at + d] = mark[low + d] if d < size else zero


@reduction
def _walk(own, base, x, step, skip, B, C, reset, s, g, start, steps):  # type: ignore[no-untyped-def]
    """Through one chunk with one block of channels: its states go on, and x becomes y."""
    wide, N, zero = width(own), B.shape[3], own.dtype.type(0)
    for k in range(steps):
        if reset.shape[1] > 0 and reset[s, start + k]:
            for n in range(N):
                store(own, base + (2 * n + 1) * wide, spread(zero))
        value, dt = load(x, k * wide), load(step, k * wide)
        drive, out = dt * value, skip * value
        to_state, to_output = B[s, start + k, g], C[s, start + k, g]
        for n in range(N):
            at = base + 2 * n * wide
            gain = power(dt * load(own, at))
            h = gain * load(own, at + wide) + drive * spread(to_state[n])
            store(own, at + wide, h)
            out = out + h * spread(to_output[n])
        store(x, k * wide, out)


@reduction
def _walk_again(own, base, x, step, B, reset, s, g, start, steps, chunk):  # type: ignore[no-untyped-def]
    """Fill the states before and the gains of each step, from the state before the first one."""
    wide, N, zero = width(own), B.shape[3], own.dtype.type(0)
    row = 4 * N * wide
    for k in range(steps):
        dt = load(step, k * wide)
        drive, to_state = dt * load(x, k * wide), B[s, start + k, g]
        for n in range(N):
            at = k * row + 4 * n * wide
            gain = power(dt * load(own, base + 3 * n * wide))
            store(chunk, at + wide, gain)
            store(chunk, at + row, gain * load(chunk, at) + drive * spread(to_state[n]))
        if reset.shape[1] > 0 and reset[s, start + k]:
            for n in range(N):
                at = k * row + 4 * n * wide
                store(chunk, at + wide, spread(zero))
                store(chunk, at + row, drive * spread(to_state[n]))


@reduction
def _walk_back(  # type: ignore[no-untyped-def]
    own, base, x, step, slope, arriving, skip, B, C, s, g, start, steps, chunk,
    block, of_skips, of_shifts,
):  # fmt: skip
    """Down through one chunk with one block: x and step become the gradients of u and delta."""
    wide, N, zero = width(own), B.shape[3], own.dtype.type(0)
    row, log2 = 4 * N * wide, spread(own.dtype.type(LOG2))
    of_skip, of_shift = load(of_skips, block), load(of_shifts, block)
    for down in range(1, steps + 1):
        k = steps - down
        value, dt, of_y = load(x, k * wide), load(step, k * wide), load(arriving, k * wide)
        drive = dt * value
        to_state, to_output = B[s, start + k, g], C[s, start + k, g]
        of_drive, of_exponent = spread(zero), spread(zero)
        for n in range(N):
            at, there = k * row + 4 * n * wide, base + 3 * n * wide
            of_h = load(own, there + wide) + of_y * spread(to_output[n])
            store(chunk, at + 2 * wide, load(chunk, at + 2 * wide) + of_h * drive)
            of_output = load(chunk, at + 3 * wide) + of_y * load(chunk, at + row)
            store(chunk, at + 3 * wide, of_output)
            of_drive = of_drive + of_h * spread(to_state[n])
            of_before = of_h * load(chunk, at + wide)
            store(own, there + wide, of_before)
            of_gain = of_before * load(chunk, at)
            store(own, there + 2 * wide, load(own, there + 2 * wide) + of_gain * dt)
            of_exponent = of_exponent + of_gain * load(own, there)
        of_skip = of_skip + of_y * value
        of_dt = (of_drive * value + of_exponent * log2) * load(slope, k * wide)
        of_shift = of_shift + of_dt
        store(x, k * wide, of_drive * dt + skip * of_y)
        store(step, k * wide, of_dt)
    store(of_skips, block, of_skip)
    store(of_shifts, block, of_shift)


@reduction
def _forward(  # type: ignore[no-untyped-def]
    first, last_item, channels, u, delta, A, B, C, D, bias, initial, reset, y, last, marks
):
    T, wide = u.shape[1], width(u)
    groups, N = B.shape[2], B.shape[3]
    each = u.shape[2] // groups
    pieces = (each + channels - 1) // channels
    blocks = (channels + wide - 1) // wide
    per_log2 = u.dtype.type(PER_LOG2)
    # ["blocks N 2 width"]: rates and states.
    own = np.empty(blocks * N * 2 * wide, u.dtype)
    x, step = np.empty(CHUNK * wide, u.dtype), np.empty(CHUNK * wide, u.dtype)
    skips, shifts = np.empty(blocks * wide, u.dtype), np.empty(blocks * wide, u.dtype)
    for item in range(first, last_item):
        s, piece = item // (groups * pieces), item % (groups * pieces)
        g = piece // pieces
        low = g * each + piece % pieces * channels
        high = min((g + 1) * each, low + channels)
        _fill(A, s, low, high, 0, 2, own)
        _fill(initial, s, low, high, 1, 2, own)
        _fill_row(D, s, low, high, skips)
        _fill_row(bias, s, low, high, shifts)
        used = (high - low + wide - 1) // wide
        for at in range(0, used * N * 2 * wide, 2 * wide):
            for d in range(at, at + wide):
                # What a power does not show of a NaN, the state does.
                own[d + wide] = own[d + wide] if own[d] == own[d] else own[d]
                own[d] *= per_log2
        for start in range(0, T, CHUNK):
            steps = min(CHUNK, T - start)
            for block in range(used):
                begin, base = low + block * wide, block * N * 2 * wide
                size = min(wide, high - begin)
                _gather(u, s, start, steps, begin, size, x)
                _gather(delta, s, start, steps, begin, size, step)
                if bias.shape[1] > 0:
                    _softplus(step, load(shifts, block * wide), steps * wide)
                _keep(own, base, s, start // CHUNK, begin, size, marks)
                skip = load(skips, block * wide)
                _walk(own, base, x, step, skip, B, C, reset, s, g, start, steps)
                _scatter(x, s, start, steps, begin, size, y)
        _empty_out(1, own, s, low, high, 2, last)


@reduction
def _backward(  # type: ignore[no-untyped-def]
    first, last_item, channels, grad, grad_last, u, delta, A, B, C, D, bias, reset, marks,
    to_u, to_delta, to_A, to_B, to_C, to_D, to_bias, to_initial,
):  # fmt: skip
    T, wide = u.shape[1], width(u)
    groups, N = B.shape[2], B.shape[3]
    each = u.shape[2] // groups
    pieces = (each + channels - 1) // channels
    blocks = (channels + wide - 1) // wide
    per_log2, zero = u.dtype.type(PER_LOG2), u.dtype.type(0)
    # ["blocks N 3 width"]: rates, what later steps send back to the states, gradients of rates.
    own = np.empty(blocks * N * 3 * wide, u.dtype)
    # ["CHUNK + 1, N 4 width"]: of each step the state before it, the gain, and of all channels
    # the terms of the gradients of B and C.
    row = N * 4 * wide
    chunk = np.empty((CHUNK + 1) * row, u.dtype)
    x, step = np.empty(CHUNK * wide, u.dtype), np.empty(CHUNK * wide, u.dtype)
    arriving, slope = np.empty(CHUNK * wide, u.dtype), np.ones(CHUNK * wide, u.dtype)
    skips, shifts = np.empty(blocks * wide, u.dtype), np.empty(blocks * wide, u.dtype)
    of_skips, of_shifts = np.empty(blocks * wide, u.dtype), np.empty(blocks * wide, u.dtype)
    for item in range(first, last_item):
        s, piece = item // (groups * pieces), item % (groups * pieces)
        g, part = piece // pieces, piece % pieces
        low = g * each + part * channels
        high = min((g + 1) * each, low + channels)
        _fill(A, s, low, high, 0, 3, own)
        _fill(grad_last, s, low, high, 1, 3, own)
        _fill_row(D, s, low, high, skips)
        _fill_row(bias, s, low, high, shifts)
        of_skips[:] = 0
        of_shifts[:] = 0
        used = (high - low + wide - 1) // wide
        for at in range(0, used * N * 3 * wide, 3 * wide):
            store(own, at, load(own, at) * spread(per_log2))
            store(own, at + 2 * wide, spread(zero))
        chunks = (T + CHUNK - 1) // CHUNK
        for back in range(1, chunks + 1):
            start = (chunks - back) * CHUNK
            steps = min(CHUNK, T - start)
            for at in range(0, steps * row, 4 * wide):
                store(chunk, at + 2 * wide, spread(zero))
                store(chunk, at + 3 * wide, spread(zero))
            for block in range(used):
                begin, base = low + block * wide, block * N * 3 * wide
                size = min(wide, high - begin)
                _gather(u, s, start, steps, begin, size, x)
                _gather(delta, s, start, steps, begin, size, step)
                _gather(grad, s, start, steps, begin, size, arriving)
                if bias.shape[1] > 0:
                    shift = load(shifts, block * wide)
                    for k in range(steps):
                        store(slope, k * wide, load(step, k * wide) + shift)
                    for i in range(steps * wide):
                        slope[i] = shares(slope[i], zero)[0]
                    _softplus(step, shift, steps * wide)
                _recall(marks, s, start // CHUNK, begin, size, chunk)
                _walk_again(own, base, x, step, B, reset, s, g, start, steps, chunk)
                skip, at = load(skips, block * wide), block * wide
                _walk_back(
                    own, base, x, step, slope, arriving, skip, B, C, s, g, start, steps, chunk,
                    at, of_skips, of_shifts,
                )  # fmt: skip
                _scatter(x, s, start, steps, begin, size, to_u)
                _scatter(step, s, start, steps, begin, size, to_delta)
            for k in range(steps):
                for n in range(N):
                    at = k * row + 4 * n * wide
                    to_B[part, s, start + k, g, n] = total(load(chunk, at + 2 * wide))
                    to_C[part, s, start + k, g, n] = total(load(chunk, at + 3 * wide))
        _empty_out(1, own, s, low, high, 3, to_initial)
        _empty_out(2, own, s, low, high, 3, to_A)
        if D.shape[1] > 0:
            to_D[s, low:high] = of_skips[: high - low]
        if bias.shape[1] > 0:
            to_bias[s, low:high] = of_shifts[: high - low]
