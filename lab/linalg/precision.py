"""Half precision and torch.autocast: whatever accumulates over time is at least float32."""

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

# Asked once: torch.compile of torch 2.9 cannot see into this question.
AUTOCAST_DEVICES = frozenset(
    device
    for device in ("cpu", "cuda", "hpu", "mps", "mtia", "xla", "xpu")
    if torch.amp.is_autocast_available(device)
)


def wide(x: Tensor) -> Tensor:
    """x in single precision if it is of half precision, else x itself."""
    return x.to(WIDER[x.dtype]) if x.dtype in WIDER else x


def autocasts(x: Tensor) -> bool:
    """Whether torch.autocast is at work on the device of x."""
    device = x.device.type
    return device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device)


def uncast(x: Tensor) -> AbstractContextManager[Any]:
    """Inside, products on the device of x keep the type of what they multiply."""
    return torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext()


def widened(function: Callable[P, R]) -> Callable[P, R]:
    """`function` in float32 at least: half-precision tensors become float32, autocast is off.

    Only tensors passed directly are converted, not tensors inside other objects. The first tensor
    decides for which device autocast is switched off.
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
