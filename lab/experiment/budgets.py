"""Updates and parameters of arms that are compared; figures state them if they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from lab.train import History

_ALIKE = 1.1  # numbers of parameters within this ratio count as equal


@dataclass(frozen=True)
class Budget:
    """Updates and parameters of one arm.

    Attributes:
        updates: number of updates per model.
        parameters: number of parameters of one model.
    """

    updates: int
    parameters: int


def budget(models: Sequence[nn.Module], histories: Sequence[History]) -> Budget | None:
    """The budget of an arm; None for an arm without trained models.

    Args:
        models, histories: one per seed; all have the same size.
    """
    if not models or not histories:
        return None
    return Budget(len(histories[0].loss), sum(each.numel() for each in models[0].parameters()))


def mixed(budgets: Mapping[str, Budget]) -> dict[str, dict[str, int]]:
    """What differs between arms, "updates" or "parameters", with the number of each arm.

    Numbers of parameters count as equal if the largest is at most 10 % above the smallest.
    """
    updates = {name: each.updates for name, each in budgets.items()}
    parameters = {name: each.parameters for name, each in budgets.items()}
    found = {"updates": updates} if len(set(updates.values())) > 1 else {}
    if parameters and max(parameters.values()) > _ALIKE * min(parameters.values()):
        found["parameters"] = parameters
    return found


def sentence(budgets: Mapping[str, Budget]) -> str:
    """What differs, as a figure states it: "updates: 400 real, polar; 20 short"; may be empty."""
    return ". ".join(_listed(what, numbers) for what, numbers in mixed(budgets).items())


def _listed(what: str, numbers: Mapping[str, int]) -> str:
    arms: dict[int, list[str]] = {}
    for name, number in numbers.items():
        arms.setdefault(number, []).append(name)
    return f"{what}: " + "; ".join(f"{n:,} {', '.join(names)}" for n, names in arms.items())
