"""What arms that stand side by side had to learn with; said where it was not the same for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from lab.train import History

_ALIKE = 1.1  # parameter counts within this ratio are called the same


@dataclass(frozen=True)
class Budget:
    """What one arm had.

    Attributes:
        updates: that every model was given.
        parameters: of one model.
    """

    updates: int
    parameters: int


def budget(models: Sequence[nn.Module], histories: Sequence[History]) -> Budget | None:
    """That of an arm; None of one without models.

    Args:
        models, histories: one a seed, all alike.
    """
    if not models or not histories:
        return None
    return Budget(len(histories[0].loss), sum(each.numel() for each in models[0].parameters()))


def mixed(budgets: Mapping[str, Budget]) -> dict[str, dict[str, int]]:
    """What is not the same for all arms: "updates" or "parameters", with the number of each arm.

    Counts of parameters are the same where the largest is at most a tenth above the smallest.
    """
    updates = {name: each.updates for name, each in budgets.items()}
    parameters = {name: each.parameters for name, each in budgets.items()}
    found = {"updates": updates} if len(set(updates.values())) > 1 else {}
    if parameters and max(parameters.values()) > _ALIKE * min(parameters.values()):
        found["parameters"] = parameters
    return found


def sentence(budgets: Mapping[str, Budget]) -> str:
    """What is mixed, for the foot of a figure: "updates: 400 real, polar; 20 short"; or nothing."""
    return ". ".join(_listed(what, numbers) for what, numbers in mixed(budgets).items())


def _listed(what: str, numbers: Mapping[str, int]) -> str:
    arms: dict[int, list[str]] = {}
    for name, number in numbers.items():
        arms.setdefault(number, []).append(name)
    return f"{what}: " + "; ".join(f"{n:,} {', '.join(names)}" for n, names in arms.items())
