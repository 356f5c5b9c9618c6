"""How long forward passes take, side by side."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from lab.benchmark.timing import take_turns


def forward_milliseconds(
    modules: Mapping[str, nn.Module], x: Tensor, *, rounds: int = 15, budget: float = 2.0
) -> dict[str, float]:
    """Milliseconds of a forward pass without gradients by name, the median over turns.

    Every module runs once before it is timed.

    Args:
        modules: by name.
        x: what all of them are given.
        rounds, budget: as for `take_turns`.
    """
    calls = {name: torch.no_grad()(partial(module, x)) for name, module in modules.items()}
    for call in calls.values():
        call()
    timings = take_turns(calls, rounds=rounds, budget=budget, label="forward")
    return {name: 1e3 * timing.median for name, timing in timings.items()}
