"""Half precision and torch.autocast: quantities that accumulate over time are at least float32."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

WIDER = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.complex32: torch.complex64,
}

# Looked up once, because torch.compile in torch 2.9 cannot trace this look-up.
AUTOCAST_DEVICES = frozenset(
    device
    for device in ("cpu", "cuda", "hpu", "mps", "mtia", "xla", "xpu")
    if torch.amp.is_autocast_available(device)
)


def wide(x: Tensor) -> Tensor:
    """x in single precision if it is in half precision; otherwise x itself."""
    return x.to(WIDER[x.dtype]) if x.dtype in WIDER else x


def autocasts(x: Tensor) -> bool:
    """Whether torch.autocast is active on the device of x."""
    device = x.device.type
    return device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device)


def uncast(x: Tensor) -> AbstractContextManager[Any]:
    """A context without torch.autocast on the device of x: products keep the dtype of factors."""
    return torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext()


def widened(function: Callable[P, R]) -> Callable[P, R]:
    """`function` in float32 at least: with half-precision tensors converted, and autocast off.

    Only tensors that are passed directly are converted, not those inside other objects. The first
    tensor determines the device for which autocast is switched off.
    """

    @wraps(function)
    def in_single(*args: P.args, **kwargs: P.kwargs) -> R:
        first = next((each for each in args if isinstance(each, Tensor)), None)
        if first is None:
            return function(*args, **kwargs)
        inputs: Any = [wide(each) if isinstance(each, Tensor) else each for each in args]
        named: Any = {n: wide(p) if isinstance(p, Tensor) else p for n, p in kwargs.items()}
        with uncast(first):
            return function(*inputs, **named)

    return in_single
