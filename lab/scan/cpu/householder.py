"""h[t] = P[t, R-1] ... P[t, 0] h[t-1] + b[t] with P = I - beta k k^H, and its gradients.

Each reflection is one dot product and one sum along k. Every state meets every other there, so that
a sequence is never cut; it stays in the cache.
"""

import numpy as np
from torch import Tensor

from lab.scan.cpu.precision import accumulators
from lab.scan.cpu.threads import reduction, run


def forward(beta: Tensor, k: Tensor, b: Tensor, initial: Tensor, h: Tensor) -> None:
    """Fill h ["B T N"] for beta ["B T R"], k ["B T R N"], b ["B T N"] and initial ["B N"]."""
    run(_forward, len(h), beta, k, b, initial, h, work=2 * k.numel() + h.numel())


def backward(
    grad: Tensor,
    beta: Tensor,
    k: Tensor,
    h: Tensor,
    initial: Tensor,
    g_beta: Tensor,
    gk: Tensor,
    gb: Tensor,
    gi: Tensor,
) -> None:
    """Fill the gradients of all inputs, each of its shape, given that of h ["B T N"]."""
    arrays = (grad, beta, k, h, initial, g_beta, gk, gb, gi)
    run(_backward, len(h), *arrays, work=6 * k.numel() + h.numel())


@reduction
def _forward(first, last, beta, k, b, initial, h):  # type: ignore[no-untyped-def]
    B, T, R, N = k.shape
    x = accumulators(N, h)
    for s in range(first, last):
        x[:] = initial[s]
        for t in range(T):
            drive, row = b[s, t], h[s, t]
            for r in range(R):
                direction = k[s, t, r]
                along = x.dtype.type(0)
                for n in range(N):
                    along += np.conj(direction[n]) * x[n]
                along *= beta[s, t, r]
                for n in range(N):
                    x[n] -= along * direction[n]
            for n in range(N):
                x[n] += drive[n]
            for n in range(N):
                row[n] = x[n]


@reduction
def _backward(  # type: ignore[no-untyped-def]
    first, last, grad, beta, k, h, initial, g_beta, gk, gb, gi
):
    B, T, R, N = k.shape
    # The state before each reflection of one step, and how far it lies along k.
    states, along = np.empty((R + 1, N), h.dtype), np.empty(R, h.dtype)
    # What later steps send back to the state of this one.
    carry = accumulators(N, h)
    for s in range(first, last):
        carry[:] = 0
        for back in range(1, T + 1):
            t = T - back
            states[0] = h[s, t - 1] if t > 0 else initial[s]
            for r in range(R):
                direction, x, y = k[s, t, r], states[r], states[r + 1]
                dot = x.dtype.type(0)
                for n in range(N):
                    dot += np.conj(direction[n]) * x[n]
                along[r] = dot
                dot *= beta[s, t, r]
                for n in range(N):
                    y[n] = x[n] - dot * direction[n]
            arriving, to_drive = grad[s, t], gb[s, t]
            for n in range(N):
                carry[n] += arriving[n]
                to_drive[n] = carry[n]
            for back_r in range(1, R + 1):
                r = R - back_r
                direction, x, to_direction = k[s, t, r], states[r], gk[s, t, r]
                dot = carry.dtype.type(0)
                for n in range(N):
                    dot += np.conj(direction[n]) * carry[n]
                gain = beta[s, t, r]
                g_beta[s, t, r] = -np.conj(along[r]) * dot
                of_carry, of_state = -np.conj(gain * along[r]), -gain * np.conj(dot)
                back_along = np.conj(gain) * dot
                for n in range(N):
                    u = carry[n]
                    to_direction[n] = of_carry * u + of_state * x[n]
                    carry[n] = u - back_along * direction[n]
        gi[s] = carry
