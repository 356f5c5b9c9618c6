"""The scan with one gain per state, real and complex: h[t] = a[t] * h[t-1] + b[t]."""

from typing import Any

import torch
from torch import Tensor

from lab import scan
from lab.benchmark.problem import Contender, Problem
from lab.benchmark.scans import draws
from lab.benchmark.scans.associative import Elements, prefixes


def loop(a: Tensor, b: Tensor) -> Tensor:
    """The recurrence as it is written, left to autograd.

    Steps come from `unbind`, whose gradient is a single `stack`. With the more common a[:, t], the
    gradient of every step fills an array of the whole length; `by_index` measures this.
    """
    (_, *gains), (h, *inputs) = a.unbind(1), b.unbind(1)
    states = [h]
    for gain, x in zip(gains, inputs, strict=True):
        h = gain * h + x
        states.append(h)
    return torch.stack(states, dim=1)


def by_index(a: Tensor, b: Tensor) -> Tensor:
    """The definition in lab.scan, which indexes a[:, t] and b[:, t]."""
    return scan.linear_scan_sequential(a, b)


class _ByHand(torch.autograd.Function):
    """Two loops over time, one for the states and one for the gradients, without a graph."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        h = torch.empty_like(b)
        gains, inputs, states = a.unbind(1), b.unbind(1), h.unbind(1)
        states[0].copy_(inputs[0])
        for t in range(1, len(states)):
            torch.addcmul(inputs[t], gains[t], states[t - 1], out=states[t])
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,), (a, h) = grads, ctx.saved_tensors
        g = torch.empty_like(grad)
        gains, arriving, flowing = a.conj().unbind(1), grad.unbind(1), g.unbind(1)
        flowing[-1].copy_(arriving[-1])
        for t in range(len(flowing) - 1, 0, -1):
            torch.addcmul(arriving[t - 1], gains[t], flowing[t], out=flowing[t - 1])
        of_a = torch.empty_like(a)
        of_a[:, 0] = 0
        torch.mul(g[:, 1:], h[:, :-1].conj(), out=of_a[:, 1:])
        return of_a, g


def by_hand(a: Tensor, b: Tensor) -> Tensor:
    """A loop with a hand-written gradient: the fastest form with plain torch operations."""
    return _ByHand.apply(a, b)


def associative(a: Tensor, b: Tensor) -> Tensor:
    """torch's associative scan over affine maps."""
    return prefixes(_compose, a, b)[1]


def _compose(earlier: Elements, later: Elements) -> Elements:
    return later[0] * earlier[0], later[0] * earlier[1] + later[1]


def mambapy(A: Tensor, X: Tensor) -> Tensor:
    """The parallel scan of mamba.py."""
    from mambapy.pscan import pscan

    return pscan(A, X)


def accelerated(gates: Tensor, tokens: Tensor) -> Tensor:
    """The torch reference of accelerated-scan."""
    from accelerated_scan.ref import scan as reference

    return reference(gates, tokens)


_LOOPS = {"loop, gradient by hand": Contender(by_hand)}
_ASSOCIATIVE = {"torch associative_scan": Contender(associative)}

LINEAR = Problem(
    name="linear",
    draw=draws.gain_and_input,
    ours=lambda a, b: scan.linear_scan(a, b),
    loop=loop,
    rivals={
        "loop over a[:, t]": Contender(by_index),
        **_LOOPS,
        **_ASSOCIATIVE,
        "associative_scan, compiled": Contender(associative, compiled=True),
        # It takes (B, T, D, N). Using N for the columns is about twice as fast as using D.
        "mambapy pscan": Contender(
            mambapy, lambda x: x.unsqueeze(2), lambda x: x.squeeze(2),
            module="mambapy", package="mambapy",
        ),
        "accelerated-scan ref": Contender(
            accelerated, lambda x: x.mT, lambda x: x.mT,
            module="accelerated_scan", package="accelerated-scan",
        ),
    },
)  # fmt: skip

COMPLEX = Problem(
    name="complex",
    draw=draws.gain_and_input,
    ours=lambda a, b: scan.linear_scan(a, b),
    loop=loop,
    rivals={**_LOOPS, **_ASSOCIATIVE},
    dtype=torch.complex64,
)
