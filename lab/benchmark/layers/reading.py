"""A memory as a function of the input of its layer, and of queries, keys and values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# (memory, x, q, k, v) -> read-outs
Form = Callable[[Any, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Way:
    """A form, and what has to be known to call it.

    Attributes:
        form: the form.
        heads_first: whether its axes are ["B H T ..."] instead of ["B T H ..."].
        pairs: whether it has arrays with a number for every pair of steps.
    """

    form: Form
    heads_first: bool = False
    pairs: bool = False


class Reading(nn.Module):
    """(x, q, k, v) -> read-outs, by a form that is given the memory, too.

    All forms of one memory share its parameters, such as the map from x to its gains. How the axes
    of q, k, v and the read-outs are ordered is the form's own affair.
    """

    def __init__(self, memory: nn.Module, form: Form) -> None:
        super().__init__()
        self.memory, self.form = memory, form

    def forward(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Read-outs, in the layout of v."""
        return self.form(self.memory, x, q, k, v)


def ours(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The parallel form of the memory; q, k, v and read-outs are ["B H T ..."]."""
    read: Tensor = memory(q, k, v, x)
    return read


def by_steps(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The step form from the first step to the last; q, k, v and read-outs are ["B T H ..."]."""
    state, reads = None, []
    for x_t, *parts in zip(x.unbind(1), q.unbind(1), k.unbind(1), v.unbind(1), strict=True):
        read, state = memory.step(*parts, x_t, state)
        reads.append(read)
    return torch.stack(reads, dim=1)


def turned(part: Tensor) -> Tensor:
    """["B T H ..."] to ["B H T ..."] or back; x ["B T D"] stays as it is."""
    return part.transpose(1, 2) if part.ndim == 4 else part
