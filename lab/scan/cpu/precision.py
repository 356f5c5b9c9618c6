"""What a kernel carries from step to step: states with twice the digits of the numbers in memory.

A float32 state that takes in a million numbers of one size rounds each of them to its own last
digit, and always the same way. Where arithmetic waits for memory, the state is a float64 (or a
complex128), and only what is stored of it is rounded; where arithmetic takes the time, it is a
float32 and what rounding has taken from it so far (see `fast_two_sum`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import overload

from lab.scan.cpu.threads import kernel

DOUBLE = {types.float32: np.float64, types.complex64: np.complex128}
# The same for tensors, of every dtype that has kernels.
DOUBLES = {
    torch.float32: torch.float64,
    torch.float64: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex128: torch.complex128,
}


def accumulators(shape, like):  # type: ignore[no-untyped-def]
    """An uninitialised array, for use in kernels, in double precision whatever `like` has."""
    raise NotImplementedError("accumulators runs in compiled kernels only")


@overload(accumulators)
def _accumulators(shape, like):  # type: ignore[no-untyped-def]  # noqa: ARG001
    dtype = DOUBLE.get(like.dtype)
    if dtype is None:
        build: Callable[..., Any] = lambda shape, like: np.empty(shape, like.dtype)  # noqa: E731
    else:
        build = lambda shape, like: np.empty(shape, dtype)  # noqa: ARG005, E731
    return build


@kernel
def fast_two_sum(x, y):  # type: ignore[no-untyped-def]
    """x + y as it is rounded, and what rounding took from it; NaN where the sum is not finite.

    Exact where |x| >= |y|; otherwise the second number is off by no more than a rounding of y.
    Source: Dekker 1971, A floating-point technique for extending the available precision.
    """
    total = x + y
    return total, y - (total - x)
