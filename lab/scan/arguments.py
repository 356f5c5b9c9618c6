"""Checks of what comes into a scan: shapes, types, devices, initial states, indices."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Inexact
from torch import Tensor

from lab.linalg.precision import autocasts
from lab.scan.torch_private import is_batched, tree_map

# Dtypes that scans compute in, and the one in place of each in which rounding would add up.
COMPUTED = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.complex32: torch.complex64,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}


def checked(
    a: Inexact[Tensor, "B T N"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
    empty: float = 0.0,
) -> tuple[Inexact[Tensor, "B T N"], Inexact[Tensor, "B T N"], Inexact[Tensor, "B N"]]:
    """a, b ["B T N"] and initial ["B N"], which is `empty` everywhere if it was None.

    a is `empty`, the zero of the semiring, at the steps of `reset`.

    Raises:
        TypeError: one is no tensor.
        ValueError: a shape is not as above, T is 0, numbers are whole ones, or dtypes or devices
            differ.
    """
    are_numbers(a=a, b=b, initial=initial)
    if a.ndim != 3 or a.shape != b.shape or a.shape[1] == 0:
        shapes = f"a {tuple(a.shape)} and b {tuple(b.shape)}"
        raise ValueError(f"{shapes} must share one (B, T, N) shape with T > 0")
    a, b, initial = alike(["a", "b", "initial"], a, b, initial_state(b, initial, empty=empty))
    return forgetting(a, b, reset, zero=empty), b, initial


def are_numbers(**given: Any) -> None:
    """Check arguments by name: tensors of numbers that are not whole; `initial...` may be None.

    Raises:
        TypeError: one is no tensor.
        ValueError: numbers are whole ones, or of a dtype that nothing is computed in.
    """
    are_tensors(**given)
    for name, tensor in given.items():
        if tensor is not None and tensor.dtype not in COMPUTED:
            fits = tensor.is_floating_point() or tensor.is_complex()
            wanted = "have at least 16 bits a number" if fits else "be floating-point or complex"
            raise ValueError(f"{name} must {wanted}, got {tensor.dtype}; .float() makes it so")


def are_tensors(**given: Any) -> None:
    """Check arguments by name: tensors; `initial...` may be None.

    Raises:
        TypeError: one is no tensor.
    """
    for name, value in given.items():
        if isinstance(value, Tensor) or (value is None and name.startswith("initial")):
            continue
        got = "None" if value is None else f"a {type(value).__module__}.{type(value).__name__}"
        got = got.replace("builtins.", "")
        remedy = "" if value is None else "; torch.as_tensor makes one of it"
        raise TypeError(f"{name} must be a torch.Tensor, got {got}{remedy}")


def alike(names: Sequence[str], *tensors: Tensor) -> Sequence[Tensor]:
    """The tensors, of one dtype and on one device; nothing is cast but by torch.autocast.

    Inside torch.autocast half-precision numbers become float32, as in torch's own cumulative sums:
    a scan adds up as many numbers as there are steps.

    Raises:
        ValueError: dtypes or devices differ.
    """
    if autocasts(tensors[0]):
        halves = (torch.float16, torch.bfloat16)
        tensors = tuple(t.float() if t.dtype in halves else t for t in tensors)
    for kind in ("dtype", "device"):
        if len({getattr(tensor, kind) for tensor in tensors}) > 1:
            each = [f"{n} {getattr(t, kind)}" for n, t in zip(names, tensors, strict=True)]
            raise ValueError(f"{kind}s differ: {', '.join(each)}")
    return tensors


def rounded_once(compute: Callable[..., Any], *inputs: Tensor) -> Any:
    """compute(*inputs), in float32 where they are in half precision, and then cast back.

    A state in half precision would round at every step, and overflow above 65,504. Indices stay.
    """
    # No generator, which torch.compile would not take.
    dtype = [tensor.dtype for tensor in inputs if tensor.dtype in COMPUTED][0]  # noqa: RUF015
    if COMPUTED[dtype] == dtype:
        return compute(*inputs)
    results = compute(*[t.to(COMPUTED[dtype]) if t.dtype == dtype else t for t in inputs])
    return tree_map(lambda t: t.to(dtype) if t.dtype == COMPUTED[dtype] else t, results)


def full_precision(tensor: Tensor) -> torch.amp.autocast:
    """Inside, torch.autocast lets matrix products keep the type of what they multiply."""
    return torch.autocast(tensor.device.type, enabled=False)


def initial_state(
    b: Inexact[Tensor, "B T ..."], initial: Inexact[Tensor, "B ..."] | None, *, empty: float = 0.0
) -> Inexact[Tensor, "B ..."]:
    """The state before step 0 of a scan over b ["B T ..."], `empty` if it was None.

    Raises:
        ValueError: the shape of `initial` is not that of one step of b.
    """
    shape = (b.shape[0], *b.shape[2:])
    initial = b.new_full(shape, empty) if initial is None else initial
    if initial.shape != shape:
        raise ValueError(f"initial must be {shape}, got {tuple(initial.shape)}")
    return initial


def forgetting(
    gain: Inexact[Tensor, "#B #T ..."],
    b: Inexact[Tensor, "B T ..."],
    reset: Bool[Tensor, "B T"] | None,
    *,
    zero: float = 0.0,
) -> Inexact[Tensor, "..."]:
    """The gain, which is zero at the steps of `reset`: they forget all before, but no infinity.

    Args:
        gain: what the state is multiplied by; repeated in memory if shared by a batch or by steps.
        b: the input, for its shape.
        reset: the steps; none if None.
        zero: that of the semiring, so -inf for logarithms.

    Raises:
        TypeError: `reset` is no tensor.
        ValueError: it has another shape or dtype, or is on another device.
    """
    if reset is None:
        return gain
    check_marks(reset, b)
    return torch.where(reset.view(*reset.shape, *[1] * (gain.ndim - 2)), zero, gain)


def check_marks(reset: Bool[Tensor, "B T"], b: Inexact[Tensor, "B T ..."]) -> None:
    """Check the marks of steps before which the state of a scan over b ["B T ..."] is empty.

    Raises:
        TypeError: they are no tensor.
        ValueError: the shape, the dtype or the device is another one.
    """
    are_tensors(reset=reset)
    if reset.shape != b.shape[:2] or reset.dtype != torch.bool or reset.device != b.device:
        got = f"{reset.dtype} {tuple(reset.shape)} on {reset.device}"
        raise ValueError(f"reset must be torch.bool {tuple(b.shape[:2])} on {b.device}, got {got}")


def within(source: Tensor, size: int, name: str = "source") -> None:
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
        raise ValueError(f"{name} must be in [0, {size}), got {wrong} at {place}")
