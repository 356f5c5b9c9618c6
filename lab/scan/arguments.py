"""Checks of what comes into a scan: shapes, types, devices, initial states, indices."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lab.scan.torch_private import is_batched


def checked(
    a: Tensor, b: Tensor, initial: Tensor | None, *, empty: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """a, b ["B T N"] and initial ["B N"], which is `empty` everywhere if it was None.

    Raises:
        ValueError: a shape is not as above, T is 0, or dtypes or devices differ.
    """
    if a.ndim != 3 or a.shape != b.shape or a.shape[1] == 0:
        shapes = f"a {tuple(a.shape)} and b {tuple(b.shape)}"
        raise ValueError(f"{shapes} must share one (B, T, N) shape with T > 0")
    a, b, initial = alike(["a", "b", "initial"], a, b, initial_state(b, initial, empty=empty))
    return a, b, initial


def alike(names: Sequence[str], *tensors: Tensor) -> Sequence[Tensor]:
    """The tensors, of one dtype and on one device; nothing is cast but by torch.autocast.

    Inside torch.autocast half-precision numbers become float32, as in torch's own cumulative sums:
    a scan adds up as many numbers as there are steps.

    Raises:
        ValueError: dtypes or devices differ, or numbers are whole ones.
    """
    for name, tensor in zip(names, tensors, strict=True):
        if not (tensor.is_floating_point() or tensor.is_complex()):
            raise ValueError(f"{name} must be floating-point or complex, got {tensor.dtype}")
    device = tensors[0].device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        halves = (torch.float16, torch.bfloat16)
        tensors = tuple(t.float() if t.dtype in halves else t for t in tensors)
    for kind in ("dtype", "device"):
        if len({getattr(tensor, kind) for tensor in tensors}) > 1:
            each = [f"{n} {getattr(t, kind)}" for n, t in zip(names, tensors, strict=True)]
            raise ValueError(f"{kind}s differ: {', '.join(each)}")
    return tensors


def full_precision(tensor: Tensor) -> torch.amp.autocast:
    """Inside, torch.autocast lets matrix products keep the type of what they multiply."""
    return torch.autocast(tensor.device.type, enabled=False)


def initial_state(b: Tensor, initial: Tensor | None, *, empty: float = 0.0) -> Tensor:
    """["B ..."]: the state before step 0 of a scan over b ["B T ..."], `empty` if it was None.

    Raises:
        ValueError: the shape of `initial` is not that of one step of b.
    """
    shape = (b.shape[0], *b.shape[2:])
    initial = b.new_full(shape, empty) if initial is None else initial
    if initial.shape != shape:
        raise ValueError(f"initial must be {shape}, got {tuple(initial.shape)}")
    return initial


def within(source: Tensor, size: int) -> None:
    """Check that all indices are in [0, size), if their values can be looked at here.

    Under torch.compile and torch.vmap they cannot; there the kernel checks them, or the gather.

    Raises:
        ValueError: an index is outside.
    """
    if torch.compiler.is_compiling() or is_batched(source):
        return
    outside = (source < 0) | (source >= size)
    if outside.any():
        place = tuple(outside.nonzero()[0].tolist())
        wrong = source[place].item()
        raise ValueError(f"source must be in [0, {size}), got {wrong} at {place}")
