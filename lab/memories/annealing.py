"""Setting the sharpness mu of slots, and schedules for mu."""

from torch import nn

from lab.memories.slots import SoftSlots


def sharpen(model: nn.Module, mu: float) -> None:
    """Set mu of all slots in a model. For models that train side by side, call it for each."""
    for module in model.modules():
        if isinstance(module, SoftSlots):
            module.mu = mu


def geometric(step: int, steps: int, most: float, begin: float = 0.0, end: float = 0.8) -> float:
    """mu from 1 to `most` by equal factors, from the share `begin` to the share `end` of steps."""
    return float(most ** _done(step / steps, begin, end))


def straight(step: int, steps: int, most: float, begin: float = 0.0, end: float = 0.8) -> float:
    """mu from 1 to `most` by equal amounts, from the share `begin` to the share `end` of steps."""
    return 1.0 + (most - 1.0) * _done(step / steps, begin, end)


def _done(share: float, begin: float, end: float) -> float:
    """The fraction of the way from `begin` to `end`; 0 before and 1 after."""
    return min(1.0, max(0.0, (share - begin) / (end - begin)))
