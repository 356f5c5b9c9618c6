"""h[t, n] = a[t, n] * h[t-1, source[t, n]] + b[t, n] and its gradients, one pass over memory each.

Every state may need every other, so that a sequence is never cut; it stays in the cache.
"""

import numpy as np
from torch import Tensor

from lab.scan.arguments import within
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
    for s in range(first, last):
        for t in range(T):
            before = h[s, t - 1] if t > 0 else initial[s]
            gain, drive, origin, row = a[s, t], b[s, t], source[s, t], h[s, t]
            for n in range(N):
                # Unsigned, so that numba need not allow for negative indices.
                row[n] = gain[n] * before[np.uint64(origin[n])] + drive[n]


@kernel
def _backward(first, last, grad, a, h, initial, source, ga, gb, gi):  # type: ignore[no-untyped-def]
    B, T, N = h.shape
    for s in range(first, last):
        # What later steps send back to the state of this one.
        carry = gi[s]
        carry[:] = 0
        for back in range(1, T + 1):
            t = T - back
            before = h[s, t - 1] if t > 0 else initial[s]
            arriving, gain, origin = grad[s, t], a[s, t], source[s, t]
            to_gain, to_drive = ga[s, t], gb[s, t]
            for n in range(N):
                to_drive[n] = arriving[n] + carry[n]
                carry[n] = 0
            for n in range(N):
                x, place = to_drive[n], np.uint64(origin[n])
                to_gain[n] = x * np.conj(before[place])
                carry[place] += np.conj(gain[n]) * x
