"""The settings of a training by name and type, for those who keep them: recipes, and their arms."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, TypedDict

from torch import Tensor, nn, optim

from lab.train.optimiser import Rates, Schedule

Length = int | Sequence[int] | Callable[[int], int]
Watcher = Callable[[nn.Module], Tensor]
Decay = Literal["unmarked", "all"]

REQUIRED = ("steps", "batch", "length", "lr")


class Settings(TypedDict, total=False):
    """What `fit` and `fit_together` take by name, and several trainings may share.

    `fit_together` says what each of them means. Steps, batch, length and lr are required in the
    end, and may come from different places: a recipe, an arm, a grid.
    """

    steps: int
    batch: int
    length: Length
    lr: Rates
    schedule: Schedule
    optimizer: Callable[..., optim.Optimizer]
    clip: float | None
    skip_nonfinite: bool
    device: str
    watch: Mapping[str, Watcher] | None
    watch_every: int
    decay: Decay
    compiled: bool
    checkpoint_seconds: float
    label: str


def check_settings(settings: Mapping[str, Any], where: str) -> None:
    """Stop before anything trains if settings are misspelt or left out.

    Raises:
        ValueError: names them.
    """
    known = Settings.__annotations__
    for name in settings.keys() - known.keys():
        close = get_close_matches(str(name), known, n=1)
        meant = f"did you mean {close[0]!r}?" if close else f"there are {sorted(known)}"
        raise ValueError(f"{where}: there is no setting {name!r}; {meant}")
    if missing := [name for name in REQUIRED if name not in settings]:
        raise ValueError(f"{where}: the settings {missing} are missing, in the recipe or the arm")
