"""h[t, target[t, n]] gets a[t, n] * h[t-1, n], and its gradients, one pass over memory each.

Every state may reach every other, so that a sequence is never cut; it stays in the cache.
"""

import numpy as np
from torch import Tensor

from lab.scan.arguments import within
from lab.scan.cpu.precision import accumulators
from lab.scan.cpu.threads import kernel, run


def forward(a: Tensor, b: Tensor, initial: Tensor, target: Tensor, h: Tensor) -> None:
    """Fill h ["B T N"] for a, b, target ["B T N"] and initial ["B N"].

    Raises:
        ValueError: an entry of `target` is not in [0, N).
    """
    within(target, h.shape[-1], "target")  # what lies outside would be written to foreign memory
    run(_forward, len(h), a, b, initial, target, h, work=h.numel())


def backward(
    grad: Tensor,
    a: Tensor,
    h: Tensor,
    initial: Tensor,
    target: Tensor,
    ga: Tensor,
    gb: Tensor,
    gi: Tensor,
) -> None:
    """Fill the gradients ga, gb ["B T N"] and gi ["B N"], given that of h ["B T N"]."""
    within(target, h.shape[-1], "target")
    run(_backward, len(h), grad, a, h, initial, target, ga, gb, gi, work=2 * h.numel())


@kernel
def _forward(first, last, a, b, initial, target, h):  # type: ignore[no-untyped-def]
    B, T, N = h.shape
    states = accumulators((2, N), h)
    for s in range(first, last):
        states[1] = initial[s]
        for t in range(T):
            before, state = states[1 - t % 2], states[t % 2]
            gain, drive, place, row = a[s, t], b[s, t], target[s, t], h[s, t]
            for n in range(N):
                state[n] = drive[n]
            for n in range(N):
                # Unsigned, so that numba need not allow for negative indices.
                state[np.uint64(place[n])] += gain[n] * before[n]
            for n in range(N):
                row[n] = state[n]


@kernel
def _backward(first, last, grad, a, h, initial, target, ga, gb, gi):  # type: ignore[no-untyped-def]
    B, T, N = h.shape
    # What later steps send back to the state of this one, and what has arrived there.
    carry, arrived = accumulators(N, h), accumulators(N, h)
    for s in range(first, last):
        carry[:] = 0
        for back in range(1, T + 1):
            t = T - back
            before = h[s, t - 1] if t > 0 else initial[s]
            arriving, gain, place = grad[s, t], a[s, t], target[s, t]
            to_gain, to_drive = ga[s, t], gb[s, t]
            for n in range(N):
                x = arriving[n] + carry[n]
                to_drive[n] = x
                arrived[n] = x
            for n in range(N):
                x = arrived[np.uint64(place[n])]
                to_gain[n] = x * np.conj(before[n])
                carry[n] = np.conj(gain[n]) * x
        gi[s] = carry
