"""A scan or a layer on random inputs, and the implementations of it that are compared."""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]

# How many arrays of the largest size exist at once: the values, the arrays they were computed from,
# their gradients, and the result of one operation.
KEPT = 6


def bytes_moved(inputs: Sequence[Tensor]) -> tuple[int, int]:
    """Bytes that value and gradient must move at least, and how many of them are written.

    The forward pass reads the inputs and writes the states. The backward pass reads the incoming
    gradient, the states and the first input (the gain), and writes the gradients of the inputs. For
    a and b of equal size these are eight arrays, three of which are written.
    """
    whole, states, gain = sum(x.nbytes for x in inputs), inputs[-1].nbytes, inputs[0].nbytes
    return 2 * whole + 3 * states + gain, whole + states


def bytes_of_a_layer(inputs: Sequence[Tensor]) -> tuple[int, int]:
    """The same for a layer, whose backward pass reads all inputs, and not its outputs."""
    whole, outputs = sum(x.nbytes for x in inputs), inputs[-1].nbytes
    return 3 * whole + 2 * outputs, whole + outputs


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Contender:
    """One way to compute a scan, with the memory layout that suits it best.

    Args:
        scan: (*inputs) -> states, differentiable. Of a module the gradients of its parameters are
            computed, too.
        pack: converts an input ["B T ..."] to the layout that `scan` reads; `unpack` converts
            states and gradients back. Neither is timed.
        logarithm: whether `scan` reads the logarithm of the first input, which is not timed either.
        compiled: whether to hand `scan` to torch.compile first.
        largest: (B, T, N) -> number of entries of the largest intermediate array, for contenders
            that need more memory than the inputs.
        module, package: module that it imports, and the name of its package for pip.
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
        """How to install the module that it needs; empty if it is installed."""
        if not self.module or importlib.util.find_spec(self.module.partition(".")[0]):
            return ""
        return f"not installed: pip install {self.package}"

    def needs(self, shape: Shape, itemsize: int) -> int:
        """Approximate bytes of intermediate arrays larger than inputs and outputs, possibly 0."""
        return 0 if self.largest is None else KEPT * self.largest(*shape) * itemsize

    def inputs(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The values in its layout, with gradients enabled; they share memory where possible."""
        values = [values[0].log(), *values[1:]] if self.logarithm else values
        packed = (self.pack(value.detach()).contiguous() for value in values)
        return [value.detach().requires_grad_() for value in packed]

    def run(
        self, inputs: Sequence[Tensor], grad: Tensor, scan: Callable[..., Tensor] | None = None
    ) -> list[Tensor]:
        """[states, *gradients of the inputs] of its own inputs, as `inputs` returns them.

        Args:
            inputs: in its layout.
            grad: gradient of the states, in its layout.
            scan: another form of the same scan to call, such as the compiled one.
        """
        weights = list(self.scan.parameters()) if isinstance(self.scan, nn.Module) else []
        states = (self.scan if scan is None else scan)(*inputs)
        # What has no influence on the states has a gradient of zeros.
        found = torch.autograd.grad(states, [*inputs, *weights], grad, materialize_grads=True)
        return [states.detach(), *found[: len(inputs)]]

    def gradients(self, values: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of the values, given the gradients of the result of `inputs`."""
        first, *others = (self.unpack(gradient) for gradient in gradients)
        return [first / values[0] if self.logarithm else first, *others]


@dataclass(frozen=True)
class Problem:
    """A scan or a layer on random inputs.

    Args:
        name: its name in tables.
        draw: (shape, generator, dtype) -> inputs ["B T ..."], the last one like the states.
        ours: our fast form; a contender where it has a layout of its own.
        loop: the definition as a plain torch loop over time, which the others must equal.
        rivals: further contenders, by name.
        dtype: dtype of the timed calls.
        jumps: whether gradients depend on which of two nearly equal numbers is larger, so that
            rounding can send them to another input.
        states_jump: whether the states depend on that as well.
        moved: inputs -> bytes that value and gradient move at least, and how many are written.
    """

    name: str
    draw: Callable[[Shape, torch.Generator, torch.dtype], list[Tensor]]
    ours: Callable[..., Tensor] | Contender
    loop: Callable[..., Tensor]
    rivals: Mapping[str, Contender] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    jumps: bool = False
    states_jump: bool = False
    moved: Callable[[Sequence[Tensor]], tuple[int, int]] = bytes_moved

    @property
    def contenders(self) -> dict[str, Contender]:
        """Ours first, then the loop, then the rivals."""
        ours = self.ours if isinstance(self.ours, Contender) else Contender(self.ours)
        return {OURS: ours, LOOP: Contender(self.loop), **self.rivals}


OURS = "lab.scan"
LOOP = "loop over time"


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
    """Bytes available for new arrays; infinity if the system does not report them."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = dict(line.split(":") for line in lines)
        return 1024.0 * int(sizes["MemAvailable"].split()[0])
    except (OSError, KeyError):
        return math.inf
