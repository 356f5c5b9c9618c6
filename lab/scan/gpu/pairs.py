"""Numbers that may be complex, which Triton does not know, as pairs of real ones.

A complex tensor is passed as its real view: real and imaginary parts alternate in memory. Of a real
number the second of the pair is never used, and the compiler drops it.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


def real_views(*tensors: Tensor) -> list[Tensor]:
    """The tensors, complex ones with a last axis of real and imaginary part."""
    return [torch.view_as_real(t) if t.is_complex() else t for t in tensors]


@triton.jit
def load(pointer, at, mask, other, COMPLEX: tl.constexpr):  # type: ignore[no-untyped-def]
    """Numbers `at` these places; `other`, which is real, where the mask is not set."""
    if COMPLEX:
        real = tl.load(pointer + 2 * at, mask, other=other)
        return real, tl.load(pointer + 2 * at + 1, mask, other=0.0)
    else:
        real = tl.load(pointer + at, mask, other=other)
        return real, real


@triton.jit
def store(pointer, at, x, mask, COMPLEX: tl.constexpr):  # type: ignore[no-untyped-def]
    """Put numbers `at` these places where the mask is set."""
    if COMPLEX:
        tl.store(pointer + 2 * at, x[0], mask)
        tl.store(pointer + 2 * at + 1, x[1], mask)
    else:
        tl.store(pointer + at, x[0], mask)


@triton.jit
def times(a, x, COMPLEX: tl.constexpr):  # type: ignore[no-untyped-def]
    """a x, entry by entry."""
    if COMPLEX:
        return a[0] * x[0] - a[1] * x[1], a[0] * x[1] + a[1] * x[0]
    else:
        real = a[0] * x[0]
        return real, real


@triton.jit
def plus(x, y):  # type: ignore[no-untyped-def]
    """x + y."""
    return x[0] + y[0], x[1] + y[1]


@triton.jit
def conjugate(x):  # type: ignore[no-untyped-def]
    """The complex conjugate of x."""
    return x[0], -x[1]
