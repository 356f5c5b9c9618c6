"""Random gains and their logarithms, with which long sequences stay finite and keep a memory."""

import torch
from torch import Tensor

from lab.benchmark.problem import Shape


def normal(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Standard normal numbers; complex ones for a complex dtype."""
    return torch.randn(shape, generator=generator, dtype=dtype)


def gain(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Gains of both signs (or any phase), most of them just below 1 in size.

    Half of them are above 0.97: small gains forget, which hides errors of a scan over a long range.
    """
    drawn = normal(shape, generator, dtype)
    return (3 * drawn.abs()).tanh() * drawn.sgn()


def log_gain(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Logarithm of gains of about the same sizes: negative, most of them near 0."""
    return -0.1 * normal(shape, generator, dtype).square()


def gain_and_input(shape: Shape, generator: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    """a and b ["B T N"] of a linear scan."""
    return [gain(shape, generator, dtype), normal(shape, generator, dtype)]


def log_gain_and_input(
    shape: Shape, generator: torch.Generator, dtype: torch.dtype
) -> list[Tensor]:
    """a and b ["B T N"] of a log or max-plus scan."""
    return [log_gain(shape, generator, dtype), normal(shape, generator, dtype)]
