"""Addition in the log domain, and the shares of its terms, in code that becomes SIMD instructions.

Compiled code calls exp and log1p of the C library, one number at a time. Here they are additions,
products, at most one division and selections, without a branch, so that LLVM computes a row of a
scan eight (float32) or four (float64) numbers at a time where the processor has 256-bit registers.

Series are Taylor's, with as many terms as the type has digits for: exp over half a doubling,
|r| <= log(2) / 2, and log1p of float64 over u in (sqrt(1/2), sqrt(2)) - 1. Largest errors found on
200,000 draws, in units of the last place and in both types: exp 0.9, log1p 1.7, the shares 2.7.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload
from numpy.polynomial import Chebyshev, Polynomial

from lab.scan.cpu.precision import fast_two_sum
from lab.scan.cpu.threads import kernel

Function = Callable[..., Any]

# The terms after which the rest of a series is below a tenth of a unit in the last place.
EXP_TERMS = {np.float32: 8, np.float64: 14}
LOG_TERMS = 10


def log_add(x, y):  # type: ignore[no-untyped-def]
    """log(exp(x) + exp(y)), for use in kernels; -inf is the zero, and NaN stays NaN."""
    raise NotImplementedError("log_add runs in compiled kernels only")


def log_step(decay, state, rest, arriving):  # type: ignore[no-untyped-def]
    """log(exp(decay + state + rest) + exp(arriving)) as a number and what rounding took from it.

    For use in kernels. In float32 the second number keeps a long sequence of steps as exact as if
    the first had 48 digits; it is 0 where the first is infinite, and in float64.
    """
    raise NotImplementedError("log_step runs in compiled kernels only")


def shares(x, y):  # type: ignore[no-untyped-def]
    """exp(x) and exp(y), each divided by their sum, for use in kernels.

    Both are zero where x and y are the same infinity, so that nothing flows to what is not there.
    """
    raise NotImplementedError("shares runs in compiled kernels only")


def _select(typing, condition, x, y):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """`x if condition else y` with both computed; of the expression LLVM may make a jump."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
        return builder.select(*arguments)

    return x(types.boolean, x, x), build


select: Any = intrinsic(_select)


def _exp_minus(real: Any) -> Function:
    """exp(-d) for d >= 0, and zero where that is below the smallest normal number.

    -d = k log(2) + r, where adding `shift` leaves the whole number k in the last bits; log(2) is
    the sum of a short `high`, whose product with k is exact, and `low` (Cody & Waite 1980). The
    exponent k is then added to that of exp(r).
    """
    info = np.finfo(real)
    whole: Any = np.dtype(f"i{info.dtype.itemsize}").type
    digits = whole(info.nmant)
    shift = real(1.5 * 2.0**info.nmant)
    per_doubling = real(-1 / math.log(2))
    short = 2.0 ** (info.nmant - info.iexp - 1)
    high = real(math.floor(math.log(2) * short) / short)
    # log(2) minus its nearest double is 2.3190468138462996e-17.
    low = real(math.log(2) - float(high) + 2.3190468138462996e-17)
    series = tuple(real(1 / math.factorial(k)) for k in reversed(range(EXP_TERMS[real])))
    largest, zero = real(math.floor(-math.log(info.tiny))), real(0)

    @kernel
    def exp_minus(d):  # type: ignore[no-untyped-def]
        shifted = d * per_doubling + shift
        k = shifted - shift
        y = _polynomial((-d - k * high) - k * low, series)
        bits = whole(real(y).view(whole) + (real(shifted).view(whole) << digits))
        # What is left of a NaN may look like a number.
        return select(d != d, d, select(d > largest, zero, whole(bits).view(real)))

    return exp_minus


def _log1p(real: Any) -> Function:
    """log(1 + u) for 0 <= u <= 1."""
    return _log1p_of_single() if real is np.float32 else _log1p_of_double()


def _log1p_of_single() -> Function:
    """u times the polynomial that meets log(1 + u) / u in Chebyshev's points; without a division.

    Degree 9 is 5e-9 off, a tenth of a unit in the last place.
    """
    met = Chebyshev.interpolate(lambda u: np.log1p(u) / u, 9, domain=[0, 1])
    series = tuple(np.float32(c) for c in reversed(met.convert(kind=Polynomial).coef))

    @kernel
    def log1p(u):  # type: ignore[no-untyped-def]
        return u * _polynomial(u, series)

    return log1p


def _log1p_of_double() -> Function:
    """By a series whose largest term is exact.

    With s = f / (2 + f), log(1 + f) = 2 artanh(s) = f - f^2/2 + s (f^2/2 + 2 s^2/3 + 2 s^4/5 ...),
    where f, which is exact, is the largest term (as in FreeBSD's msun). From 1 + u = sqrt(2) on the
    result is log(2) + log((1 + u) / 2), which keeps s below 0.18.
    """
    log2, turn = math.log(2), math.sqrt(2) - 1
    series = tuple(2 / (2 * k + 1) for k in reversed(range(1, LOG_TERMS)))

    @kernel
    def log1p(u):  # type: ignore[no-untyped-def]
        large = u > turn
        f = select(large, (u - 1.0) * 0.5, u)
        s = f / (2.0 + f)
        square, bow = s * s, 0.5 * f * f
        log_f = f - (bow - s * (bow + square * _polynomial(square, series)))
        return select(large, log2, 0.0) + log_f

    return log1p


@kernel
def _polynomial(x, coefficients):  # type: ignore[no-untyped-def]
    y = coefficients[0]
    for coefficient in coefficients[1:]:
        y = y * x + coefficient
    return y


def _log_add(real: Any) -> Function:
    exp_minus, log1p = _exp_minus(real), _log1p(real)

    @kernel
    def log_add(x, y):  # type: ignore[no-untyped-def]
        top = select(x > y, x, y)
        # As in `shares`, so that a kernel that needs both computes this and its exp only once.
        gap = abs(x - y)
        total = top + log1p(exp_minus(gap))
        # The same infinity twice has no gap.
        return select((x == y) & (gap != gap), top, total)

    return log_add


def _log_step(real: Any) -> Function:
    if real is np.float64:
        log_add = _log_add(real)

        @kernel
        def plain_step(decay, state, rest, arriving):  # type: ignore[no-untyped-def]
            return log_add(decay + state, arriving), rest

        return plain_step
    exp_minus, log1p, zero = _exp_minus(real), _log1p(real), real(0)

    @kernel
    def log_step(decay, state, rest, arriving):  # type: ignore[no-untyped-def]
        past, lost = fast_two_sum(state, decay)
        rest += select(lost == lost, lost, zero)
        larger = past > arriving
        top = select(larger, past, arriving)
        gap = past - arriving
        more = log1p(exp_minus(abs(gap + rest)))
        total, lost = fast_two_sum(top, more)
        state, rest = fast_two_sum(total, lost + select(larger, rest, zero))
        # What is infinite has lost nothing, and the same infinity twice has no gap.
        finite = rest == rest
        total = select(past == arriving, top, total)
        return select(finite, state, total), select(finite, rest, zero)

    return log_step


def _shares(real: Any) -> Function:
    exp_minus, one, zero = _exp_minus(real), real(1), real(0)

    @kernel
    def shares(x, y):  # type: ignore[no-untyped-def]
        gap = x - y
        e = exp_minus(abs(gap))
        large = one / (one + e)
        small = e * large
        none = (x == y) & (gap != gap)
        of_x = select(gap > zero, large, small)
        of_y = select(gap > zero, small, large)
        return select(none, zero, of_x), select(none, zero, of_y)

    return shares


def _by_type(function: Function, make: Callable[[Any], Function]) -> None:
    """Let kernels call `function`, as compiled for the type of its arguments."""
    compiled = {types.float32: make(np.float32), types.float64: make(np.float64)}

    def choose(x, y):  # type: ignore[no-untyped-def]  # noqa: ARG001
        chosen = compiled[x]
        return lambda x, y: chosen(x, y)

    overload(function)(choose)


_compiled_steps = {types.float32: _log_step(np.float32), types.float64: _log_step(np.float64)}


@overload(log_step)
def _choose_step(decay, state, rest, arriving):  # type: ignore[no-untyped-def]  # noqa: ARG001
    chosen = _compiled_steps[decay]
    return lambda decay, state, rest, arriving: chosen(decay, state, rest, arriving)


_by_type(log_add, _log_add)
_by_type(shares, _shares)
