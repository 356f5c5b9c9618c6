"""Softmax averages over the past, whose weights fade by exp(decay) a step.

For N columns of a plain scan, there are heads of 64 values each here, so the values are as large as
the arrays of the other scans.
"""

import torch
from torch import Tensor

from lab import scan
from lab.benchmark.problem import Contender, Problem, Shape
from lab.benchmark.scans import draws
from lab.benchmark.scans.associative import Elements, prefixes

HEAD = 64  # number of values that share their weights


def heads(N: int) -> int:
    """Number of heads for N columns."""
    return max(1, N // HEAD)


def draw(shape: Shape, generator: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    """decay, score ["B T H"] and value ["B T H V"]."""
    B, T, N = shape
    H = heads(N)
    decay = draws.log_gain((B, T, H), generator, dtype)
    score = draws.normal((B, T, H), generator, dtype)
    return [decay, score, draws.normal((B, T, H, N // H), generator, dtype)]


def loop(decay: Tensor, score: Tensor, value: Tensor) -> Tensor:
    """The recurrence as it is written, left to autograd."""
    steps = zip(decay.unbind(1), score.unbind(1), value.unbind(1), strict=True)
    _, log_norm, average = next(steps)
    averages = [average]
    for fading, arriving, x in steps:
        kept, log_norm = log_norm + fading, torch.logaddexp(log_norm + fading, arriving)
        average = torch.lerp(x, average, (kept - log_norm).exp()[..., None])
        averages.append(average)
    return torch.stack(averages, dim=1)


def associative(decay: Tensor, score: Tensor, value: Tensor) -> Tensor:
    """torch's associative scan over (decay, log of the weight, average)."""
    return prefixes(_merge, decay[..., None], score[..., None], value)[2]


def _merge(earlier: Elements, later: Elements) -> Elements:
    kept = later[0] + earlier[1]
    log_norm = torch.logaddexp(kept, later[1])
    average = (kept - log_norm).exp() * earlier[2] + (later[1] - log_norm).exp() * later[2]
    return later[0] + earlier[0], log_norm, average


def attention(decay: Tensor, score: Tensor, value: Tensor) -> Tensor:
    """Masked attention, with the weights of all steps on all earlier ones, ["B H T T"]."""
    age = decay.cumsum(1).mT  # (B, H, T)
    T = age.shape[-1]
    later = torch.ones(T, T, dtype=torch.bool, device=age.device).triu(1)
    weights = age[..., :, None] - age[..., None, :] + score.mT[..., None, :]
    weights = weights.masked_fill(later, -torch.inf).softmax(-1)
    return (weights @ value.transpose(1, 2)).transpose(1, 2)


SOFTMAX = Problem(
    name="softmax",
    draw=draw,
    ours=lambda decay, score, value: scan.softmax_scan(decay, score, value)[0],
    loop=loop,
    rivals={
        "torch associative_scan": Contender(associative),
        "masked attention": Contender(attention, largest=lambda B, T, N: B * heads(N) * T * T),
    },
)
