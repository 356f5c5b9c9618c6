"""The linear scan on a GPU, compared with specialised kernels of other libraries.

Gains are positive, because flash-linear-attention's kernel reads their logarithms.
"""

from functools import partial

import torch
from torch import Tensor

from lab import scan
from lab.benchmark.problem import Contender, Problem, Shape
from lab.benchmark.scans import draws, linear

_accelerated = partial(
    Contender, pack=lambda x: x.mT, unpack=lambda x: x.mT,
    module="accelerated_scan", package="accelerated-scan",
)  # fmt: skip
_fla = partial(Contender, logarithm=True, module="fla", package="fla-core")


def draw(shape: Shape, generator: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    """a, which is positive, and b ["B T N"]."""
    a, b = draws.gain_and_input(shape, generator, dtype)
    return [a.abs(), b]


def warp(gates: Tensor, tokens: Tensor) -> Tensor:
    """accelerated-scan's CUDA kernel, for lengths that are powers of two."""
    from accelerated_scan.warp import scan as kernel

    return kernel(gates, tokens)


def scalar(gates: Tensor, tokens: Tensor) -> Tensor:
    """accelerated-scan's Triton kernel, step by step."""
    from accelerated_scan.scalar import scan as kernel

    return kernel(gates, tokens)


def chunk(g: Tensor, x: Tensor) -> Tensor:
    """flash-linear-attention's HGRN kernel, in chunks of time; g is the logarithm of the gain."""
    from fla.ops.hgrn import chunk_hgrn

    return chunk_hgrn(x, g)[0]


def recurrent(g: Tensor, x: Tensor) -> Tensor:
    """flash-linear-attention's HGRN kernel, step by step."""
    from fla.ops.hgrn import fused_recurrent_hgrn

    return fused_recurrent_hgrn(x, g)[0]


ON_GPU = Problem(
    name="linear, GPU",
    draw=draw,
    ours=lambda a, b: scan.linear_scan(a, b),
    loop=linear.loop,
    rivals={
        "torch associative_scan": Contender(linear.associative),
        "accelerated-scan warp": _accelerated(warp),
        "accelerated-scan scalar": _accelerated(scalar),
        "fla chunk_hgrn": _fla(chunk),
        "fla fused_recurrent_hgrn": _fla(recurrent),
    },
)
