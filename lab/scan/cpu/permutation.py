"""h[t, n] = a[t, n] * h[t-1, source[t, n]] + b[t, n] and its gradients, one pass over memory each.

Every state may need every other, so that a sequence is never cut; it stays in the cache.
"""

import numpy as np
from torch import Tensor

from lab.scan.arguments import within
from lab.scan.cpu.precision import accumulators
from lab.scan.cpu.threads import kernel, run


def forward(a: Tensor, b: Tensor, initial: Tensor, source: Tensor, h: Tensor) -> None:
    """Fill h ["B T N"] for a, b, source ["B T N"] and initial ["B N"].

    Raises:
        ValueError: an entry of `source` is not in [0, N).
    """
    within(source, h.shape[-1])  # what lies outside would be read from foreign memory
    run(_forward, len(h), a, b, initial, source, h, work=h.numel())


def backward(
    grad: Tensor,
    a: Tensor,
    h: Tensor,
    initial: Tensor,
    source: Tensor,
    ga: Tensor,
    gb: Tensor,
    gi: Tensor,
) -> None:
    """Fill the gradients ga, gb ["B T N"] and gi ["B N"], given that of h ["B T N"]."""
    within(source, h.shape[-1])
    run(_backward, len(h), grad, a, h, initial, source, ga, gb, gi, work=2 * h.numel())


@kernel
def _forward(first, last, a, b, initial, source, h):  # type: ignore[no-untyped-def]
    B, T, N = h.shape
    states = accumulators((2, N), h)
    for s in range(first, last):
        states[1] = initial[s]
        for t in range(T):
            before, state = states[1 - t % 2], states[t % 2]
            gain, drive, origin, row = a[s, t], b[s, t], source[s, t], h[s, t]
            for n in range(N):
                # Unsigned, so that numba need not allow for negative indices.
                x = gain[n] * before[np.uint64(origin[n])] + drive[n]
                state[n] = x
                row[n] = x


@kernel
def _backward(first, last, grad, a, h, initial, source, ga, gb, gi):  # type: ignore[no-untyped-def]
    B, T, N = h.shape
    # What later steps send back to the state of this one, and what is sent on.
    carry, arrived = accumulators(N, h), accumulators(N, h)
    for s in range(first, last):
        carry[:] = 0
        for back in range(1, T + 1):
            t = T - back
            before = h[s, t - 1] if t > 0 else initial[s]
            arriving, gain, origin = grad[s, t], a[s, t], source[s, t]
            to_gain, to_drive = ga[s, t], gb[s, t]
            for n in range(N):
                x = arriving[n] + carry[n]
                to_drive[n] = x
                arrived[n] = x
                carry[n] = 0
            for n in range(N):
                x, place = arrived[n], np.uint64(origin[n])
                to_gain[n] = x * np.conj(before[place])
                carry[place] += np.conj(gain[n]) * x
        gi[s] = carry
