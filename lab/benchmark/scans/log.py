"""The scan over logarithms: h[t] = log(exp(a[t] + h[t-1]) + exp(b[t]))."""

import torch
from torch import Tensor

from lab import scan
from lab.benchmark.problem import Contender, Problem
from lab.benchmark.scans import draws
from lab.benchmark.scans.associative import Elements, prefixes


def loop(a: Tensor, b: Tensor) -> Tensor:
    """The recurrence as it is written, left to autograd."""
    (_, *gains), (h, *inputs) = a.unbind(1), b.unbind(1)
    states = [h]
    for gain, x in zip(gains, inputs, strict=True):
        h = torch.logaddexp(gain + h, x)
        states.append(h)
    return torch.stack(states, dim=1)


def associative(a: Tensor, b: Tensor) -> Tensor:
    """torch's associative scan over affine maps of logarithms."""
    return prefixes(_compose, a, b)[1]


def _compose(earlier: Elements, later: Elements) -> Elements:
    return later[0] + earlier[0], torch.logaddexp(later[0] + earlier[1], later[1])


def cumulative(a: Tensor, b: Tensor) -> Tensor:
    """By cumulative sums; digits are lost, because the sum of all gains is added and subtracted."""
    gains = a.cumsum(1)
    return gains + (b - gains).logcumsumexp(1)


LOG = Problem(
    name="log",
    draw=draws.log_gain_and_input,
    ours=lambda a, b: scan.log_scan(a, b),
    loop=loop,
    rivals={
        "torch associative_scan": Contender(associative),
        "torch.logcumsumexp": Contender(cumulative),
    },
)
