"""The interface of input-dependent transitions A(x) for state-space layers."""

from typing import Any, ClassVar

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor

from lab.arguments import whole
from lab.linalg.precision import uncast, wide
from lab.nn.guard import Guarded, Method, check_numbers
from lab.scan import matrix_scan, table_scan

# One tensor, or a tuple of tensors; all begin with the axes of the input except its last.
Parameters = Any


def _of_input(transition: "Transition", method: Method, x: Tensor) -> Any:
    check_numbers(transition, "x", x, "... D", or_wider=True)
    with uncast(x):
        return method(transition, wide(x))


def _of_parameters(
    transition: "Transition", method: Method, parameters: Parameters, *states: Tensor
) -> Any:
    first = parameters[0] if isinstance(parameters, tuple) else parameters
    with uncast(first):
        return method(transition, parameters, *map(wide, states))


def _of_table(
    transition: "Transition",
    method: Method,
    parameters: Parameters,
    b: Tensor,
    tokens: Tensor,
    initial: Tensor,
) -> Any:
    with uncast(b):
        return method(transition, parameters, wide(b), tokens, wide(initial))


class Transition(Guarded):
    """A family of matrices A(x) ["N N"], one for each input x ["D"].

    A subclass defines `forward`, which computes parameters from an input, and `dense`, which turns
    parameters into matrices. It overrides `scan` and `product` if its structure makes them cheaper;
    the shared tests compare both with `dense`.

    All computations are in float32 at least, also for half-precision inputs and inside
    torch.autocast; subclasses call dense layers by `lab.nn.linear.precise`.

    Args:
        d_model: D, the width of x. It is required even if A does not depend on x, because
            `lab.mixers.StateSpace` compares it with its own width.
        d_state: N, number of states.

    Raises:
        ValueError: a size is not a whole number, or is below 1.

    Attributes:
        d_model, d_state: the sizes.
        is_complex: whether A, and therefore the state, is complex.
        is_constant: whether A is the same for every x, so that one x is enough to compute it.
        reads_tables: whether tokens of one kind have one matrix, and `table_scan` is the faster
            way to read it.
    """

    guards: ClassVar = {
        "forward": _of_input,
        "dense": _of_parameters,
        "product": _of_parameters,
        "scan": _of_parameters,
        "table_scan": _of_table,
        "eigenvalues": _of_parameters,
    }
    is_complex: bool = False
    is_constant: bool = False
    reads_tables: bool = False

    def __init__(self, d_model: int, *, d_state: int) -> None:
        super().__init__()
        who = type(self).__name__
        self.d_model = whole(who, "d_model", d_model, least=1)
        self.d_state = whole(who, "d_state", d_state, least=1)

    def forward(self, x: Float[Tensor, "... D"]) -> Parameters:
        """The parameters of A for every x ["... D"]."""
        raise NotImplementedError

    def dense(self, parameters: Parameters) -> Float[Tensor, "... N N"]:
        """A ["... N N"]."""
        raise NotImplementedError

    def product(self, parameters: Parameters, h: Float[Tensor, "... N"]) -> Float[Tensor, "... N"]:
        """A h ["... N"] for h ["... N"]."""
        return (self.dense(parameters) @ h[..., None])[..., 0]

    def scan(
        self, parameters: Parameters, b: Float[Tensor, "B T N"], initial: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B T N"]:
        """States ["B T N"] of h[t] = A[t] h[t-1] + b[t], for b ["B T N"] and initial ["B N"]."""
        return matrix_scan(self.dense(parameters), b, initial)

    def table_scan(
        self,
        parameters: Parameters,
        b: Float[Tensor, "V N"],
        tokens: Int64[Tensor, "B T"],
        initial: Float[Tensor, "B N"],
    ) -> Float[Tensor, "B T N"]:
        """States ["B T N"] of h[t] = A[k] h[t-1] + b[k] for k = tokens[t], from V rows of each."""
        return table_scan(self.dense(parameters)[None], b[None], tokens, initial)

    def eigenvalues(self, parameters: Parameters) -> Complex[Tensor, "... N"]:
        """Eigenvalues of A."""
        return torch.linalg.eigvals(self.dense(parameters))
