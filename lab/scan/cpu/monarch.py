"""h[t] = P^T L[t] P R[t] h[t-1] + b[t] on grids of n by n states, and its gradients.

Between the factors the grid lies transposed, so that both read along memory. All of it stays in the
cache; only the blocks come from memory, once forwards and once backwards.
"""

import numpy as np
from torch import Tensor

from lab.scan.cpu.precision import accumulators
from lab.scan.cpu.threads import kernel, reduction, run


def forward(L: Tensor, R: Tensor, b: Tensor, initial: Tensor, h: Tensor) -> None:
    """Fill h ["B T n²"] for L and R ["B T n n n"], b ["B T n²"] and initial ["B n²"]."""
    grids = (grid(each, R) for each in (b, initial, h))
    run(_forward, len(h), L, R, *grids, work=2 * R.numel())


def backward(
    grad: Tensor,
    L: Tensor,
    R: Tensor,
    h: Tensor,
    initial: Tensor,
    gL: Tensor,
    gR: Tensor,
    gb: Tensor,
    gi: Tensor,
) -> None:
    """Fill the gradients of all inputs, each of its shape, given that of h ["B T n²"]."""
    grad, h, initial, gb, gi = (grid(each, R) for each in (grad, h, initial, gb, gi))
    run(_backward, len(h), grad, L, R, h, initial, gL, gR, gb, gi, work=5 * R.numel())


def grid(h: Tensor, R: Tensor) -> Tensor:
    """["... n n"] for h ["... n²"] and blocks R ["... n n n"]."""
    return h.view(*h.shape[:-1], R.shape[2], R.shape[4])


@reduction
def rows(R, before, turned):  # type: ignore[no-untyped-def]
    """Fill turned ["column row"] with what the blocks R ["row out in"] make of a grid."""
    n = R.shape[0]
    for r in range(n):
        for i in range(n):
            x = turned.dtype.type(0)
            for j in range(n):
                x += R[r, i, j] * before[r, j]
            turned[i, r] = x


@reduction
def step(L, R, b, state, turned, h):  # type: ignore[no-untyped-def]
    """Fill h with P^T L P R state + b, all as grids, and `state` with the same."""
    n = R.shape[0]
    rows(R, state, turned)
    for c in range(n):
        for i in range(n):
            x = turned.dtype.type(0)
            for j in range(n):
                x += L[c, i, j] * turned[c, j]
            x += b[i, c]
            state[i, c] = x
            h[i, c] = x


@reduction
def _forward(first, last, L, R, b, initial, h):  # type: ignore[no-untyped-def]
    B, T, n, _ = b.shape
    state, turned = accumulators((n, n), h), accumulators((n, n), h)
    for s in range(first, last):
        state[:] = initial[s]
        for t in range(T):
            step(L[s, t], R[s, t], b[s, t], state, turned, h[s, t])


@kernel
def _backward(  # type: ignore[no-untyped-def]
    first, last, grad, L, R, h, initial, gL, gR, gb, gi
):
    B, T, n, _ = h.shape
    turned, arrived = np.empty((n, n), h.dtype), accumulators((n, n), h)
    carry, total = accumulators((n, n), h), accumulators((n, n), h)
    for s in range(first, last):
        carry[:] = 0  # what later steps send back to the state of this one
        for back in range(1, T + 1):
            t = T - back
            before = h[s, t - 1] if t > 0 else initial[s]
            for r in range(n):
                for c in range(n):
                    x = grad[s, t, r, c] + carry[r, c]
                    total[r, c] = x
                    gb[s, t, r, c] = x
            rows(R[s, t], before, turned)
            arrived[:] = 0
            carry[:] = 0
            for c in range(n):
                for i in range(n):
                    x, gain, to_gain = total[i, c], L[s, t, c, i], gL[s, t, c, i]
                    for j in range(n):
                        arrived[c, j] += np.conj(gain[j]) * x
                    y = gb[s, t, i, c]
                    for j in range(n):
                        to_gain[j] = y * np.conj(turned[c, j])
            for r in range(n):
                for i in range(n):
                    x, gain, to_gain = arrived[i, r], R[s, t, r, i], gR[s, t, r, i]
                    for j in range(n):
                        carry[r, j] += np.conj(gain[j]) * x
                    y = h.dtype.type(x)
                    for j in range(n):
                        to_gain[j] = y * np.conj(before[r, j])
        gi[s] = carry
