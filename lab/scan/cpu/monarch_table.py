"""The scan of `lab.scan.cpu.monarch` with blocks from tables, as in `lab.scan.cpu.table`."""

import numpy as np
import torch
from torch import Tensor

from lab.scan.arguments import within
from lab.scan.cpu.monarch import grid, rows, step
from lab.scan.cpu.precision import accumulators
from lab.scan.cpu.table import by_token
from lab.scan.cpu.threads import kernel, reduction, run


def forward(L: Tensor, R: Tensor, b: Tensor, initial: Tensor, tokens: Tensor, h: Tensor) -> None:
    """Fill h ["B T n²"] for L, R ["G V n n n"], b ["G V n²"], initial ["B n²"], tokens ["B T"].

    Raises:
        ValueError: a token is not in [0, V).
    """
    within(tokens, R.shape[1], "tokens")  # what lies outside would be read from foreign memory
    b, initial, h = (grid(each, R) for each in (b, initial, h))
    run(_forward, len(h), L, R, b, initial, tokens, h, work=2 * h.numel() * R.shape[-1])


def backward(
    grad: Tensor,
    L: Tensor,
    R: Tensor,
    h: Tensor,
    initial: Tensor,
    tokens: Tensor,
    gL: Tensor,
    gR: Tensor,
    gb: Tensor,
    gi: Tensor,
) -> None:
    """Fill the gradients of all inputs, each of its shape, given that of h ["B T n²"]."""
    within(tokens, R.shape[1], "tokens")
    grad, h, initial, gb, gi = (grid(each, R) for each in (grad, h, initial, gb, gi))
    # The gradients of states before R and behind it, which lies transposed.
    g, between, work = torch.empty_like(h), torch.empty_like(h), h.numel() * R.shape[-1]
    run(_backward, len(h), grad, L, R, tokens, g, between, gi, work=2 * work)
    items = R.shape[0] * R.shape[1]
    known = by_token(tokens, R)
    run(_add_up, items, g, between, R, h, initial, *known, gL, gR, gb, work=3 * work)


@reduction
def _forward(first, last, L, R, b, initial, tokens, h):  # type: ignore[no-untyped-def]
    B, T, n, _ = h.shape
    state, turned = accumulators((n, n), h), accumulators((n, n), h)
    for s in range(first, last):
        table = s * R.shape[0] // B
        state[:] = initial[s]
        for t in range(T):
            token = np.uint64(tokens[s, t])
            step(L[table, token], R[table, token], b[table, token], state, turned, h[s, t])


@kernel
def _backward(first, last, grad, L, R, tokens, g, between, gi):  # type: ignore[no-untyped-def]
    """The gradient g of every state, summed over all later steps, and what L sends back of it."""
    B, T, n, _ = g.shape
    carry, total = accumulators((n, n), g), accumulators((n, n), g)
    arrived = accumulators((n, n), g)
    for s in range(first, last):
        table = s * R.shape[0] // B
        carry[:] = 0  # what later steps send back to the state of this one
        for back in range(1, T + 1):
            t = T - back
            token = np.uint64(tokens[s, t])
            left, right = L[table, token], R[table, token]
            for r in range(n):
                for c in range(n):
                    x = grad[s, t, r, c] + carry[r, c]
                    total[r, c] = x
                    g[s, t, r, c] = x
            arrived[:] = 0
            carry[:] = 0
            for c in range(n):
                for i in range(n):
                    x, gain = total[i, c], left[c, i]
                    for j in range(n):
                        arrived[c, j] += np.conj(gain[j]) * x
            for r in range(n):
                for i in range(n):
                    x, gain = arrived[i, r], right[r, i]
                    for j in range(n):
                        carry[r, j] += np.conj(gain[j]) * x
            between[s, t] = arrived
        gi[s] = carry


@kernel
def _add_up(  # type: ignore[no-untyped-def]
    first, last, g, between, R, h, initial, steps, begin, gL, gR, gb
):
    """Gradients of rows of the tables: sums over all steps at which their token comes."""
    B, T, n, _ = h.shape
    G, V = gb.shape[:2]
    left, right = accumulators((n, n, n), h), accumulators((n, n, n), h)
    drive, turned = accumulators((n, n), h), np.empty((n, n), h.dtype)
    for item in range(first, last):
        table, token = item // V, item % V
        left[:] = 0
        right[:] = 0
        drive[:] = 0
        for k in range(begin[table, token], begin[table, token + 1]):
            s, t = B // G * table + steps[table, k] // T, steps[table, k] % T
            before = h[s, t - 1] if t > 0 else initial[s]
            rows(R[table, token], before, turned)
            for c in range(n):
                for i in range(n):
                    x, sums = g[s, t, i, c], left[c, i]
                    drive[i, c] += x
                    for j in range(n):
                        sums[j] += x * np.conj(turned[c, j])
            for r in range(n):
                for i in range(n):
                    x, sums = between[s, t, i, r], right[r, i]
                    for j in range(n):
                        sums[j] += x * np.conj(before[r, j])
        gL[table, token] = left
        gR[table, token] = right
        gb[table, token] = drive
