"""What comes into mixers, memories, transitions and models is checked here, before all else."""

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lab.linalg.precision import WIDER, autocasts

Method = Callable[..., Any]
# (module, method, *arguments) -> what the method returns for arguments that passed.
Guard = Callable[..., Any]


class Guarded(nn.Module):
    """A module some of whose methods are called by way of a guard.

    Every method that a subclass defines under a name in `guards` is wrapped when the class is made,
    so that no new layer can forget its checks. Where it calls that of its parent, the guard is
    passed again.
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
    """Is x what a layer takes?

    Args:
        layer: named in the error.
        name: of x, for the error.
        x: what came in.
        axes: of x, such as "B T D"; "..." at the front for any. There must be a step on T.
        or_wider: whether float32 is right for half-precision parameters, too.
        sizes: of some of the axes, by their letter; None where any will do.

    Raises:
        TypeError: x is no tensor.
        ValueError: its shape is another one, T is 0, or its dtype is not that of the parameters.
            Inside torch.autocast float16, bfloat16 and float32 go together.
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
    """What goes together with a parameter."""
    if autocast and parameter.dtype in _CASTABLE:
        return _CASTABLE
    wider = WIDER.get(parameter.dtype, parameter.dtype) if or_wider else parameter.dtype
    return {parameter.dtype, wider}


_CASTABLE = {torch.float16, torch.bfloat16, torch.float32}


def check_tokens(layer: nn.Module, tokens: Tensor, axes: str) -> None:
    """Are tokens Int64 with these axes, such as "B T"?

    Raises:
        TypeError: they are no tensor.
        ValueError: their shape is another one, T is 0, or the dtype is not int64.
    """
    check_shape(layer, "tokens", tokens, axes)
    if tokens.dtype != torch.int64:
        raise ValueError(
            f"{_who(layer)}: tokens are {tokens.dtype}; they must be torch.int64, the numbers of "
            "tokens in the vocabulary: give it tokens.long()"
        )


def check_shape(layer: nn.Module, name: str, x: Any, axes: str, **sizes: int | None) -> None:
    """The part of `check_numbers` that any kind of numbers has to pass."""
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
    """Is what a layer is built around made for inputs of the layer's width?

    Args:
        layer: named in the error.
        d_model: D of the layer.
        part: what `given` is to the layer, for the error.
        given: with a `d_model` of its own; one that has none, or None, takes inputs of any width.

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
    """Is what a layer is built around of the right kind?

    Raises:
        TypeError: it is not.
    """
    if not isinstance(given, kind):
        raise TypeError(
            f"{_who(layer)}: the {part} is a {type(given).__name__}; it must be a "
            f"{kind.__module__.rsplit('.', 1)[0]}.{kind.__name__}"
        )


def _fits(sizes: Mapping[str, int | None], letter: str, size: int) -> bool:
    wanted = sizes.get(letter)
    return size > 0 if letter == "T" else wanted is None or wanted == size


def _who(layer: nn.Module) -> str:
    return type(layer).__name__
