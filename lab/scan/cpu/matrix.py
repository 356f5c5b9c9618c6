"""h[t] = A[t] @ h[t-1] + b[t] and its gradients, one pass over memory each; also in blocks.

Here every scan has K blocks: A ["B T K out in"], b ["B T K in"], with K = 1 for a full matrix. What
the batch or all steps share has an axis of 1, and stays that small.

A matrix of its own at every step is read once forwards and once backwards: its rows make dot
products forwards, and run along the gradient backwards. A matrix of all steps stays in the cache.
"""

import numpy as np
import torch
from torch import Tensor

from lab.scan.arguments import full_precision
from lab.scan.cpu.precision import DOUBLES, accumulators
from lab.scan.cpu.threads import kernel, reduction, run

TERMS = 256  # outer products that are added up in the type of the tensors
TOGETHER = 4  # sequences that go through time together, where they share their matrices


def forward(A: Tensor, b: Tensor, initial: Tensor, h: Tensor) -> None:
    """Fill h ["B T N"] for A ["B T N N"] or ["B T K N/K N/K"], b ["B T N"], initial ["B N"]."""
    A = _in_blocks(A)
    b, initial, h = (_split(tensor, A) for tensor in (b, initial, h))
    if A.shape[1] < b.shape[1]:
        _with_one_matrix(A[:, 0].mT, b, initial, h, backwards=False)
    else:
        groups, pieces = _work(A, b)
        work = b.numel() * A.shape[-1]
        run(_forward, groups * pieces, groups, pieces, A, b, initial, h, work=work)


def backward(
    grad: Tensor, A: Tensor, h: Tensor, initial: Tensor, gA: Tensor, gb: Tensor, gi: Tensor
) -> None:
    """Fill gA (as A), gb ["B T N"] and gi ["B N"], given the gradient of h ["B T N"]."""
    A, gA = _in_blocks(A), _in_blocks(gA)
    grad, h, initial, gb, gi = (_split(tensor, A) for tensor in (grad, h, initial, gb, gi))
    shared = A.shape[:2] != h.shape[:2]
    if A.shape[1] < h.shape[1]:
        W = A[:, 0].conj().resolve_conj()
        _with_one_matrix(W, grad, torch.zeros_like(initial), gb, backwards=True)
        with full_precision(A):
            gi.copy_((gb[:, 0, :, None] @ W)[..., 0, :])
    else:
        groups, pieces = _work(A, h)
        work = 2 * h.numel() * A.shape[-1]
        arrays = (grad, A, h, initial, gA, gb, gi)
        run(_backward, groups * pieces, groups, pieces, shared, *arrays, work=work)
    if shared:
        with full_precision(A):
            _outer_products(gb, h, initial, gA)


def _in_blocks(A: Tensor) -> Tensor:
    return A if A.ndim == 5 else A[:, :, None]


def _split(h: Tensor, A: Tensor) -> Tensor:
    """["... K in"] for h ["... N"]."""
    return h.view(*h.shape[:-1], A.shape[2], A.shape[4])


def _work(A: Tensor, b: Tensor) -> tuple[int, int]:
    """Groups of sequences, and pieces of the K blocks, to go through time apart from each other."""
    B, T, K, _ = b.shape
    threads = torch.get_num_threads()
    groups = B if A.shape[0] == B else max(min(threads, B), -(-B // TOGETHER))
    return groups, 1 if groups >= threads else max(1, min(threads, K))


@reduction
def _forward(first, last, groups, pieces, A, b, initial, h):  # type: ignore[no-untyped-def]
    B, T, K, M = b.shape
    for item in range(first, last):
        group, piece = item // pieces, item % pieces
        sequences = range(B * group // groups, B * (group + 1) // groups)
        blocks = range(K * piece // pieces, K * (piece + 1) // pieces)
        # The states before and after a step take turns.
        states = accumulators((2, len(sequences), len(blocks), M), h)
        for s in sequences:
            for k in blocks:
                states[1, s - sequences.start, k - blocks.start] = initial[s, k]
        for t in range(T):
            for k in blocks:
                for s in sequences:
                    matrix, drive = A[s if A.shape[0] > 1 else 0, t, k], b[s, t, k]
                    before = states[1 - t % 2, s - sequences.start, k - blocks.start]
                    state, row = states[t % 2, s - sequences.start, k - blocks.start], h[s, t, k]
                    for i in range(M):
                        gain = matrix[i]
                        x = before.dtype.type(0)
                        for j in range(M):
                            x += gain[j] * before[j]
                        x += drive[i]
                        state[i] = x
                        row[i] = x


@kernel
def send_back(matrix, g, carry):  # type: ignore[no-untyped-def]
    """Add matrix^H g to `carry`, what a step sends back to the state before it."""
    M = len(g)
    # Four rows at a time, so that `carry` makes fewer ways to the cache and back.
    for quarter in range(M // 4):
        i = 4 * quarter
        x0, x1, x2, x3 = g[i], g[i + 1], g[i + 2], g[i + 3]
        r0, r1, r2, r3 = matrix[i], matrix[i + 1], matrix[i + 2], matrix[i + 3]
        for j in range(M):
            carry[j] += (
                np.conj(r0[j]) * x0
                + np.conj(r1[j]) * x1
                + np.conj(r2[j]) * x2
                + np.conj(r3[j]) * x3
            )
    for i in range(M // 4 * 4, M):
        x, gain = g[i], matrix[i]
        for j in range(M):
            carry[j] += np.conj(gain[j]) * x


@kernel
def _backward(  # type: ignore[no-untyped-def]
    first, last, groups, pieces, shared, grad, A, h, initial, gA, gb, gi
):
    B, T, K, M = h.shape
    for item in range(first, last):
        group, piece = item // pieces, item % pieces
        sequences = range(B * group // groups, B * (group + 1) // groups)
        blocks = range(K * piece // pieces, K * (piece + 1) // pieces)
        # What later steps send back to the state of this one.
        carries = accumulators((len(sequences), len(blocks), M), h)
        carries[:] = 0
        g = accumulators(M, h)
        for back in range(1, T + 1):
            t = T - back
            for k in blocks:
                for s in sequences:
                    matrix = A[s if A.shape[0] > 1 else 0, t, k]
                    arriving, to_drive = grad[s, t, k], gb[s, t, k]
                    carry = carries[s - sequences.start, k - blocks.start]
                    before = h[s, t - 1, k] if t > 0 else initial[s, k]
                    for i in range(M):
                        g[i] = arriving[i] + carry[i]
                        carry[i] = 0
                    for i in range(M):
                        to_drive[i] = g[i]
                    send_back(matrix, g, carry)
                    if not shared:
                        for i in range(M):
                            x, to_gain = to_drive[i], gA[s, t, k, i]
                            for j in range(M):
                                to_gain[j] = x * np.conj(before[j])
        for s in sequences:
            for k in blocks:
                gi[s, k] = carries[s - sequences.start, k - blocks.start]


def _with_one_matrix(W: Tensor, b: Tensor, initial: Tensor, h: Tensor, *, backwards: bool) -> None:
    """Fill h ["B T K M"] with h[t] = h[t-1] @ W + b[t], W ["B K in out"], or from T - 1 down."""
    if b.is_complex():
        # x + iy as the row (x, y), which W turns by real numbers alone.
        a = torch.view_as_real(W.resolve_conj().contiguous())
        turned = torch.stack([-a[..., 1], a[..., 0]], dim=-1)
        W = torch.stack([a, turned], dim=-3).flatten(-4, -3).flatten(-2)
        b, initial, h = (torch.view_as_real(tensor).flatten(-2) for tensor in (b, initial, h))
    B, T, K, M = b.shape
    groups, _ = _work(W, b)
    work = b.numel() * M
    W = W.to(DOUBLES[W.dtype]).contiguous()
    run(_constant, groups * K, groups, backwards, W, b, initial, h, work=work)


@kernel
def _constant(first, last, groups, backwards, W, b, initial, h):  # type: ignore[no-untyped-def]
    B, T, K, M = b.shape
    states = accumulators((2, M), h)
    for item in range(first, last):
        group, k = item // K, item % K
        start, stop = B * group // groups, B * (group + 1) // groups
        for s in range(start, stop):
            matrix = W[s if W.shape[0] > 1 else 0, k]
            states[1] = initial[s, k]
            for step in range(T):
                t = T - 1 - step if backwards else step
                before, state = states[1 - step % 2], states[step % 2]
                row, drive = h[s, t, k], b[s, t, k]
                for i in range(M):
                    state[i] = drive[i]
                # Four rows at a time, so that `state` makes fewer ways to the cache.
                for quarter in range(M // 4):
                    j = 4 * quarter
                    x0, x1, x2, x3 = before[j], before[j + 1], before[j + 2], before[j + 3]
                    w0, w1, w2, w3 = matrix[j], matrix[j + 1], matrix[j + 2], matrix[j + 3]
                    for i in range(M):
                        state[i] += (w0[i] * x0 + w1[i] * x1) + (w2[i] * x2 + w3[i] * x3)
                for j in range(M // 4 * 4, M):
                    x, gain = before[j], matrix[j]
                    for i in range(M):
                        state[i] += gain[i] * x
                for i in range(M):
                    row[i] = state[i]


def _outer_products(g: Tensor, h: Tensor, initial: Tensor, gA: Tensor) -> None:
    """Fill gA, which the batch or all steps share, with the sums of g[t] h[t-1]^H."""
    if gA.shape[1] > 1:
        # One matrix product per step and block, over the batch.
        gA[:, 0] = torch.einsum("bki,bkj->kij", g[:, 0], initial.conj())
        gA[0, 1:] = torch.einsum("btki,btkj->tkij", g[:, 1:], h[:, :-1].conj())
        return
    is_complex = g.is_complex()
    if is_complex:
        g, h, initial = (torch.view_as_real(tensor).flatten(-2) for tensor in (g, h, initial))
    B, T, K, M = g.shape
    groups = B if gA.shape[0] == B else min(B, torch.get_num_threads())
    sums = g.new_zeros(groups, K, M, M, dtype=DOUBLES[g.dtype])
    run(_outer, groups * K, g, h, initial, sums, work=g.numel() * M)
    if is_complex:
        # Of (x, y) (u, v)^T keep what makes (x + iy) (u - iv).
        (xu, xv), (yu, yv) = (
            sums[..., part::2, :].unflatten(-1, (-1, 2)).unbind(-1) for part in (0, 1)
        )
        sums = torch.complex(xu + yv, yu - xv)
    gA[:, 0] = sums if gA.shape[0] == B else sums.sum(0)


@kernel
def _outer(first, last, g, h, initial, sums):  # type: ignore[no-untyped-def]
    B, T, K, M = g.shape
    groups = len(sums)
    for item in range(first, last):
        group, k = item // K, item % K
        total = np.zeros((M, M), g.dtype)
        for s in range(B * group // groups, B * (group + 1) // groups):
            before = initial[s, k]
            for i in range(M):
                x, row = g[s, 0, k, i], total[i]
                for j in range(M):
                    row[j] += x * before[j]
            for start in range(0, T - 1, TERMS):
                steps = min(TERMS, T - 1 - start)
                # Four steps at a time, so that `row` makes fewer ways to the cache and back.
                for quarter in range(steps // 4):
                    t = start + 4 * quarter
                    h0, h1, h2, h3 = h[s, t, k], h[s, t + 1, k], h[s, t + 2, k], h[s, t + 3, k]
                    g0, g1 = g[s, t + 1, k], g[s, t + 2, k]
                    g2, g3 = g[s, t + 3, k], g[s, t + 4, k]
                    for i in range(M):
                        x0, x1, x2, x3, row = g0[i], g1[i], g2[i], g3[i], total[i]
                        for j in range(M):
                            row[j] += (x0 * h0[j] + x1 * h1[j]) + (x2 * h2[j] + x3 * h3[j])
                for t in range(start + 1 + steps // 4 * 4, start + 1 + steps):
                    before = h[s, t - 1, k]
                    for i in range(M):
                        x, row = g[s, t, k, i], total[i]
                        for j in range(M):
                            row[j] += x * before[j]
                _move(total, sums[group, k])
            _move(total, sums[group, k])


@kernel
def _move(total, sums):  # type: ignore[no-untyped-def]
    """Add to sums, in double precision, what few terms have added up to, and begin anew."""
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            sums[i, j] += total[i, j]
            total[i, j] = 0
