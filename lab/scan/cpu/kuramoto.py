"""Oscillators that turn one another by their mean phase, and the gradients of such a recurrence.

All oscillators of a sequence meet in the mean at every step, so that a sequence is never cut. The
loops over a row are those that LLVM turns into SIMD instructions: real and imaginary parts are rows
of their own. Backwards everything about a step is computed again from the state before it.
"""

import numpy as np
from torch import Tensor

from lab.scan.cpu.threads import reduction, run
from lab.scan.cpu.trigonometric import turns

WORK = 40  # multiply-adds that an oscillator takes per step forwards, about
FLOOR = 1e-6  # added to |z|^2 where z is divided by its size


def forward(
    gain: Tensor, turn: Tensor, coupling: Tensor, b: Tensor, initial: Tensor, z: Tensor
) -> None:
    """Fill z ["B T 2 N"] for gain, turn ["B T N"], coupling ["B T"], b and initial ["B 2 N"]."""
    arrays = (gain, turn, coupling, b, initial, z)
    run(_forward, len(z), *arrays, work=WORK * gain.numel())


def backward(
    grad: Tensor, gain: Tensor, turn: Tensor, coupling: Tensor, z: Tensor, initial: Tensor,
    to_gain: Tensor, to_turn: Tensor, to_coupling: Tensor, to_b: Tensor, to_initial: Tensor,
) -> None:  # fmt: skip
    """Fill the gradients of all inputs, each of its shape, given that of z ["B T 2 N"]."""
    arrays = (
        grad, gain, turn, coupling, z, initial, to_gain, to_turn, to_coupling, to_b, to_initial,
    )  # fmt: skip
    run(_backward, len(z), *arrays, work=2 * WORK * gain.numel())


@reduction
def _mean_phase(x, y, per_size, u, v):  # type: ignore[no-untyped-def]
    """The mean of z / |z| for z = x + iy; fills 1 / |z| and z / |z| = u + iv."""
    floor, one = x.dtype.type(FLOOR), x.dtype.type(1)
    for n in range(len(x)):
        scale = one / np.sqrt(x[n] * x[n] + y[n] * y[n] + floor)
        per_size[n] = scale
        u[n] = x[n] * scale
        v[n] = y[n] * scale
    real, imaginary = x.dtype.type(0), x.dtype.type(0)
    for n in range(len(x)):
        real += u[n]
        imaginary += v[n]
    share = one / x.dtype.type(len(x))
    return real * share, imaginary * share


@reduction
def _forward(first, last, gain, turn, coupling, b, initial, z):  # type: ignore[no-untyped-def]
    B, T, N = gain.shape
    # Unpacked by assignment, rows would not be known to lie close in memory, and loops not be SIMD.
    rows = np.empty((6, N), z.dtype)
    per_size, u, v, angle, cosine, sine = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    for s in range(first, last):
        for t in range(T):
            before = z[s, t - 1] if t > 0 else initial[s]
            x, y = before[0], before[1]
            mean_u, mean_v = _mean_phase(x, y, per_size, u, v)
            strength, own_turn = coupling[s, t], turn[s, t]
            for n in range(N):
                angle[n] = own_turn[n] + strength * (mean_v * u[n] - mean_u * v[n])
            turns(angle, cosine, sine)
            size, drive_x, drive_y = gain[s, t], b[s, t, 0], b[s, t, 1]
            to_x, to_y = z[s, t, 0], z[s, t, 1]
            for n in range(N):
                to_x[n] = size[n] * (cosine[n] * x[n] - sine[n] * y[n]) + drive_x[n]
            for n in range(N):
                to_y[n] = size[n] * (cosine[n] * y[n] + sine[n] * x[n]) + drive_y[n]


@reduction
def _backward(  # type: ignore[no-untyped-def]
    first, last, grad, gain, turn, coupling, z, initial,
    to_gain, to_turn, to_coupling, to_b, to_initial,
):  # fmt: skip
    B, T, N = gain.shape
    zero, share = z.dtype.type(0), z.dtype.type(1) / z.dtype.type(N)
    rows = np.empty((11, N), z.dtype)
    per_size, u, v, angle, cosine, sine = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    of_u, of_v, p, carry_x, carry_y = rows[6], rows[7], rows[8], rows[9], rows[10]
    for s in range(first, last):
        carry_x[:] = zero
        carry_y[:] = zero
        for back in range(1, T + 1):
            t = T - back
            before = z[s, t - 1] if t > 0 else initial[s]
            x, y = before[0], before[1]
            mean_u, mean_v = _mean_phase(x, y, per_size, u, v)
            strength, own_turn, size = coupling[s, t], turn[s, t], gain[s, t]
            for n in range(N):
                angle[n] = own_turn[n] + strength * (mean_v * u[n] - mean_u * v[n])
            turns(angle, cosine, sine)
            # The gradient of this state, which is that of the input, too.
            arriving, drive = grad[s, t], to_b[s, t]
            for n in range(N):
                carry_x[n] += arriving[0, n]
                drive[0, n] = carry_x[n]
            for n in range(N):
                carry_y[n] += arriving[1, n]
                drive[1, n] = carry_y[n]
            # Of the gain, of the angle, and of the state that is turned.
            of_gain, of_turn = to_gain[s, t], to_turn[s, t]
            for n in range(N):
                turned_x = cosine[n] * x[n] - sine[n] * y[n]
                turned_y = cosine[n] * y[n] + sine[n] * x[n]
                of_gain[n] = turned_x * carry_x[n] + turned_y * carry_y[n]
                p[n] = size[n] * (turned_x * carry_y[n] - turned_y * carry_x[n])
            for n in range(N):
                of_turn[n] = p[n]
            for n in range(N):
                g_x, g_y = size[n] * carry_x[n], size[n] * carry_y[n]
                carry_x[n] = cosine[n] * g_x + sine[n] * g_y
                carry_y[n] = cosine[n] * g_y - sine[n] * g_x
            # Of the coupling, of the mean, and of each phase, by itself and as part of the mean.
            of_strength, of_mean_u, of_mean_v = zero, zero, zero
            for n in range(N):
                of_strength += p[n] * (mean_v * u[n] - mean_u * v[n])
                of_mean_u -= p[n] * v[n]
                of_mean_v += p[n] * u[n]
            to_coupling[s, t] = of_strength
            of_mean_u *= strength * share
            of_mean_v *= strength * share
            for n in range(N):
                of_u[n] = strength * p[n] * mean_v + of_mean_u
                of_v[n] = of_mean_v - strength * p[n] * mean_u
            for n in range(N):
                along = of_u[n] * u[n] + of_v[n] * v[n]
                carry_x[n] += per_size[n] * (of_u[n] - u[n] * along)
                carry_y[n] += per_size[n] * (of_v[n] - v[n] * along)
        for n in range(N):
            to_initial[s, 0, n] = carry_x[n]
            to_initial[s, 1, n] = carry_y[n]
