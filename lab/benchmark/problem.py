"""What is compared: a scan on random inputs, and different implementations of it."""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

Shape = tuple[int, int, int]

# Arrays of the size of the largest one that autograd keeps at a time: the values, what they came
# from, their gradients, and room for one operation.
KEPT = 6


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Contender:
    """One way to compute a scan, with the layout of memory that suits it best.

    Args:
        scan: (*inputs) -> states, differentiable.
        pack: takes an input ["B T ..."] to the layout that `scan` reads; `unpack` takes states and
            gradients back. Neither is timed.
        logarithm: whether `scan` reads the logarithm of the first input, which is not timed either.
        compiled: whether to hand `scan` to torch.compile first.
        largest: (B, T, N) -> entries of the largest array in between, for those that need more
            memory than the inputs.
        module, package: what has to be importable, and what pip calls it.
    """

    scan: Callable[..., Tensor]
    pack: Callable[[Tensor], Tensor] = _as_it_is
    unpack: Callable[[Tensor], Tensor] = _as_it_is
    logarithm: bool = False
    compiled: bool = False
    largest: Callable[[int, int, int], int] | None = None
    module: str = ""
    package: str = ""

    def missing(self) -> str:
        """How to install what it needs, empty if that is there."""
        if not self.module or importlib.util.find_spec(self.module.partition(".")[0]):
            return ""
        return f"not installed: pip install {self.package}"

    def needs(self, shape: Shape, itemsize: int) -> int:
        """Bytes for arrays larger than inputs and outputs, roughly; 0 where there are none."""
        return 0 if self.largest is None else KEPT * self.largest(*shape) * itemsize

    def inputs(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The values as it reads them, to be differentiated; shared memory where it can be."""
        values = [values[0].log(), *values[1:]] if self.logarithm else values
        packed = (self.pack(value.detach()).contiguous() for value in values)
        return [value.detach().requires_grad_() for value in packed]

    def gradients(self, values: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of the values, given the gradients of what `inputs` made of them."""
        first, *others = (self.unpack(gradient) for gradient in gradients)
        return [first / values[0] if self.logarithm else first, *others]


@dataclass(frozen=True)
class Problem:
    """A scan on random inputs.

    Args:
        name: in tables.
        draw: (shape, generator, dtype) -> inputs ["B T ..."], the last one like the states.
        ours: the fast form of lab.scan.
        loop: the same in a plain loop over time, in torch: what the others must equal.
        rivals: contenders beside the two, by name.
        dtype: in which it is timed.
        jumps: whether gradients depend on which of two nearly equal numbers is larger, so that
            rounding sends some of them elsewhere.
    """

    name: str
    draw: Callable[[Shape, torch.Generator, torch.dtype], list[Tensor]]
    ours: Callable[..., Tensor]
    loop: Callable[..., Tensor]
    rivals: Mapping[str, Contender] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    jumps: bool = False

    @property
    def contenders(self) -> dict[str, Contender]:
        """Ours first, then the loop, then the rivals."""
        return {OURS: Contender(self.ours), LOOP: Contender(self.loop), **self.rivals}


OURS = "lab.scan"
LOOP = "loop over time"


def bytes_moved(inputs: Sequence[Tensor]) -> tuple[int, int]:
    """Bytes that value and gradient must move at least, and how many of them are written.

    Forwards the inputs are read and the states written. Backwards the incoming gradient, the
    states and the first input (the gain) are read, and the gradients of the inputs are written.
    For a and b of one size these are eight arrays, three of them written.
    """
    whole, states, gain = sum(x.nbytes for x in inputs), inputs[-1].nbytes, inputs[0].nbytes
    return 2 * whole + 3 * states + gain, whole + states


def parse(text: str) -> Shape:
    """(B, T, N) from "8x1024x256".

    Raises:
        ValueError: it is not three whole numbers above 0.
    """
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"shape is {text!r}; it must be B x T x N in numbers, as in 8x1024x256")
    B, T, N = map(int, parts)
    return B, T, N


def written(shape: Shape) -> str:
    """The shape as `parse` reads it."""
    return "x".join(map(str, shape))


def memory_available() -> float:
    """Bytes that new arrays may take, infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = dict(line.split(":") for line in lines)
        return 1024.0 * int(sizes["MemAvailable"].split()[0])
    except (OSError, KeyError):
        return math.inf
