"""How sharp slots are, and schedules for it."""

from torch import nn

from lab.memories.slots import SoftSlots


def sharpen(model: nn.Module, mu: float) -> None:
    """Set mu of all slots in a model; several that train side by side need it each."""
    for module in model.modules():
        if isinstance(module, SoftSlots):
            module.mu = mu


def geometric(step: int, steps: int, most: float, begin: float = 0.0, end: float = 0.8) -> float:
    """mu from 1 to `most` by equal factors, between two shares of the steps."""
    return float(most ** _done(step / steps, begin, end))


def straight(step: int, steps: int, most: float, begin: float = 0.0, end: float = 0.8) -> float:
    """mu from 1 to `most` by equal amounts, between two shares of the steps."""
    return 1.0 + (most - 1.0) * _done(step / steps, begin, end)


def _done(share: float, begin: float, end: float) -> float:
    """How far between `begin` and `end`, 0 before and 1 after."""
    return min(1.0, max(0.0, (share - begin) / (end - begin)))
