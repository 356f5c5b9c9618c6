"""The scan with a full matrix per step: h[t] = A[t] @ h[t-1] + b[t].

For N columns of a plain scan, the matrices here have about N entries, so A is about as large as the
arrays of the other scans.
"""

import torch
from torch import Tensor

from lab import scan
from lab.benchmark.problem import Contender, Problem, Shape
from lab.benchmark.scans import draws
from lab.benchmark.scans.associative import Elements, prefixes


def side(N: int) -> int:
    """The largest power of two whose square is at most N."""
    return 1 << ((N.bit_length() - 1) // 2)


def draw(shape: Shape, generator: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    """A ["B T out in"], which shrinks a state by 5 % on average, and b ["B T in"]."""
    B, T, N = shape
    n = side(N)
    A = draws.normal((B, T, n, n), generator, dtype) * (0.95 / n**0.5)
    return [A, draws.normal((B, T, n), generator, dtype)]


def loop(A: Tensor, b: Tensor) -> Tensor:
    """A loop of batched products, left to autograd."""
    (_, *gains), (h, *inputs) = A.unbind(1), b[..., None].unbind(1)
    states = [h]
    for gain, x in zip(gains, inputs, strict=True):
        h = torch.baddbmm(x, gain, h)
        states.append(h)
    return torch.stack(states, dim=1)[..., 0]


def associative(A: Tensor, b: Tensor) -> Tensor:
    """torch's associative scan over affine maps with matrices."""
    return prefixes(_compose, A, b[..., None])[1][..., 0]


def _compose(earlier: Elements, later: Elements) -> Elements:
    return later[0] @ earlier[0], later[0] @ earlier[1] + later[1]


MATRIX = Problem(
    name="matrix",
    draw=draw,
    ours=lambda A, b: scan.matrix_scan(A, b),
    loop=loop,
    rivals={"torch associative_scan": Contender(associative)},
)
