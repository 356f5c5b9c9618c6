"""What comes into mixers, memories, transitions and models is checked here, before all else."""

from collections.abc import Callable, Mapping
from functools import wraps
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
    layer: nn.Module, name: str, x: Tensor, axes: str, **sizes: int | None
) -> None:
    """Is x what a layer takes?

    Args:
        layer: named in the error.
        name: of x, for the error.
        x: what came in.
        axes: of x, such as "B T D"; "..." at the front for any. There must be a step on T.
        sizes: of some of the axes, by their letter; None where any will do.

    Raises:
        TypeError: x is no tensor.
        ValueError: its shape is another one, T is 0, or its dtype is not that of the parameters.
            Inside torch.autocast float16, bfloat16 and float32 go together.
    """
    _check_shape(layer, name, x, axes, **sizes)
    first = next(layer.parameters(), None)
    if first is None:
        if not x.is_floating_point():
            raise ValueError(f"{_who(layer)}: {name} is {x.dtype}; it must be floating-point")
    elif x.dtype != first.dtype and not (autocasts(x) and {x.dtype, first.dtype} <= _CASTABLE):
        raise ValueError(
            f"{_who(layer)}: {name} is {x.dtype} and the parameters are {first.dtype}; "
            f"give it {name}.to({first.dtype}), or convert the layer"
        )


_CASTABLE = {torch.float32, *WIDER}


def check_tokens(layer: nn.Module, tokens: Tensor, axes: str) -> None:
    """Are tokens Int64 with these axes, such as "B T"?

    Raises:
        TypeError: they are no tensor.
        ValueError: their shape is another one, T is 0, or the dtype is not int64.
    """
    _check_shape(layer, "tokens", tokens, axes)
    if tokens.dtype != torch.int64:
        raise ValueError(
            f"{_who(layer)}: tokens are {tokens.dtype}; they must be torch.int64, the numbers of "
            "tokens in the vocabulary: give it tokens.long()"
        )


def _check_shape(
    layer: nn.Module, name: str, x: Any, axes: str, **sizes: int | None
) -> None:
    letters = axes.split()
    if not isinstance(x, Tensor):
        shape = f"({', '.join(letters)})"
        raise TypeError(f"{_who(layer)}: {name} must be a tensor {shape}, got {x!r:.60}")
    if letters[0] == "...":
        fits = x.ndim >= len(letters) - 1
        letters = letters[1:]
    else:
        fits = x.ndim == len(letters)
    shape = x.shape[x.ndim - len(letters) :] if fits else ()
    for letter, size in zip(letters, shape, strict=False):
        wanted = sizes.get(letter)
        fits = fits and (size > 0 if letter == "T" else wanted is None or wanted == size)
    if not fits:
        expected = ", ".join(str(sizes.get(each) or each) for each in axes.split())
        steps = " with at least one step T" if "T" in letters else ""
        raise ValueError(
            f"{_who(layer)}: {name} has shape {tuple(x.shape)}; it must be ({expected}){steps}"
        )


def _who(layer: nn.Module) -> str:
    return type(layer).__name__
