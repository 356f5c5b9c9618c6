"""Checks the inputs of mixers, memories, transitions and models before any computation."""

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lab.linalg.precision import WIDER, autocasts

Method = Callable[..., Any]
# (module, method, *arguments) -> the method's return value, after the arguments have been checked.
Guard = Callable[..., Any]


class Guarded(nn.Module):
    """A module some of whose methods check their arguments first.

    Every method that a subclass defines under a name in `guards` is wrapped when the class is
    created, so no new layer can forget its checks. A call of the parent's method checks again.
    """

    guards: ClassVar[Mapping[str, Guard]] = {}

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for name, guard in cls.guards.items():
            if name in vars(cls):
                setattr(cls, name, _behind(guard, vars(cls)[name]))


def _behind(guard: Guard, method: Method) -> Method:
    @wraps(method)
    def guarded(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return guard(self, method, *args, **kwargs)

    return guarded


def check_numbers(
    layer: nn.Module,
    name: str,
    x: Tensor,
    axes: str,
    *,
    or_wider: bool = False,
    **sizes: int | None,
) -> None:
    """Check that x is a valid input of a layer.

    Args:
        layer: the layer, which the error names.
        name: name of x in the error.
        x: the input.
        axes: axes of x, such as "B T D"; a leading "..." stands for any axes. T must be above 0.
        or_wider: whether float32 is accepted for half-precision parameters, too.
        sizes: required sizes of axes, by letter; None allows any size.

    Raises:
        TypeError: x is not a tensor.
        ValueError: the shape is wrong, T is 0, or the dtype is not that of the parameters. Inside
            torch.autocast, float16, bfloat16 and float32 may be mixed.
    """
    check_shape(layer, name, x, axes, **sizes)
    first = next(layer.parameters(), None)
    if first is None:
        if not x.is_floating_point():
            raise ValueError(f"{_who(layer)}: {name} is {x.dtype}; it must be floating-point")
    elif x.dtype not in _dtypes(first, autocast=autocasts(x), or_wider=or_wider):
        raise ValueError(
            f"{_who(layer)}: {name} is {x.dtype} and the parameters are {first.dtype}; "
            f"give it {name}.to({first.dtype}), or convert the layer"
        )


def _dtypes(parameter: Tensor, *, autocast: bool, or_wider: bool) -> set[torch.dtype]:
    """The dtypes of inputs that are accepted for a parameter."""
    if autocast and parameter.dtype in _CASTABLE:
        return _CASTABLE
    wider = WIDER.get(parameter.dtype, parameter.dtype) if or_wider else parameter.dtype
    return {parameter.dtype, wider}


_CASTABLE = {torch.float16, torch.bfloat16, torch.float32}


def check_reset(layer: nn.Module, reset: Tensor, x: Tensor) -> None:
    """Check the marks of steps before which a state is set to zero.

    Args:
        layer: the layer, which the error names.
        reset: Bool["B T"], on the device of x.
        x: ["B T D"].

    Raises:
        TypeError: they are not a tensor.
        ValueError: the shape, the dtype or the device is another one.
    """
    check_shape(layer, "reset", reset, "B T", B=x.shape[0], T=x.shape[1])
    if reset.dtype != torch.bool or reset.device != x.device:
        given = f"{reset.dtype} on {reset.device}"
        raise ValueError(f"{_who(layer)}: reset is {given}; it must be torch.bool on {x.device}")


def check_tokens(layer: nn.Module, tokens: Tensor, axes: str) -> None:
    """Check that tokens are Int64 with these axes, such as "B T".

    Raises:
        TypeError: they are not a tensor.
        ValueError: the shape is wrong, T is 0, or the dtype is not int64.
    """
    check_shape(layer, "tokens", tokens, axes)
    if tokens.dtype != torch.int64:
        raise ValueError(
            f"{_who(layer)}: tokens are {tokens.dtype}; they must be torch.int64, the numbers of "
            "tokens in the vocabulary: give it tokens.long()"
        )


def check_shape(layer: nn.Module, name: str, x: Any, axes: str, **sizes: int | None) -> None:
    """The checks of `check_numbers` that do not depend on the dtype."""
    if not isinstance(x, Tensor):
        shape = f"({axes.replace(' ', ', ')})"
        raise TypeError(f"{_who(layer)}: {name} must be a tensor {shape}, got {x!r:.60}")
    letters = axes.removeprefix("... ").split()
    missing = x.ndim - len(letters)
    fits = missing == 0 or (missing > 0 and axes.startswith("... "))
    if fits and all(map(partial(_fits, sizes), letters, x.shape[missing:])):
        return
    expected = ", ".join(str(sizes.get(each) or each) for each in axes.split())
    steps = " with at least one step T" if "T" in letters else ""
    raise ValueError(
        f"{_who(layer)}: {name} has shape {tuple(x.shape)}; it must be ({expected}){steps}"
    )


def check_width(layer: nn.Module, d_model: int, part: str, given: nn.Module) -> None:
    """Check that a part of a layer takes inputs of the layer's width.

    Args:
        layer: the layer, which the error names.
        d_model: D of the layer.
        part: the role of `given` in the layer, which the error names.
        given: the part; if its `d_model` is missing or None, it takes inputs of any width.

    Raises:
        ValueError: the two widths differ.
    """
    width = getattr(given, "d_model", None)
    if width is not None and width != d_model:
        raise ValueError(
            f"{_who(layer)}: d_model is {d_model}, and the {part} {_who(given)} has d_model "
            f"{width}; give both the same d_model"
        )


def check_kind(layer: nn.Module, part: str, given: Any, kind: type) -> None:
    """Check that a part of a layer has the right type.

    Raises:
        TypeError: it has another type.
    """
    if not isinstance(given, kind):
        raise TypeError(
            f"{_who(layer)}: the {part} is a {type(given).__name__}; it must be a "
            f"{kind.__module__.rsplit('.', 1)[0]}.{kind.__name__}"
        )


def _fits(sizes: Mapping[str, int | None], letter: str, size: int) -> bool:
    wanted = sizes.get(letter)
    return (size > 0 or letter != "T") and (wanted is None or wanted == size)


def _who(layer: nn.Module) -> str:
    return type(layer).__name__
