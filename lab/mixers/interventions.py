"""Interventions on the oscillators of a layer while it runs.

States are ["B 2 N"], real parts before imaginary ones.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from lab.arguments import finite, refuse, whole
from lab.mixers.order import placebo, set_order, turned_alike
from lab.nn.attributes import replaced
from lab.scan.kuramoto import mean_phase
from lab.seeding import stream

Change = Callable[[Float[Tensor, "B 2 N"], int], Float[Tensor, "B 2 N"]]


class Intervention(Protocol):
    """What is done to the oscillators after every step; what it leaves is carried forward.

    One that has an attribute `by_step` which is true does the same at every step, whatever R is at
    other steps, so that the step form of a layer can run under it, too. One that has a method
    `coupling` changes the strength of the coupling before a step, given that and the state.
    """

    def planned(self, order: Float[Tensor, "B T"]) -> Change:
        """The change at each step, given R at every step of the undisturbed trajectory."""


@dataclass(frozen=True)
class _AtTarget:
    """What is named after an R = target in [0, 1]."""

    target: float

    def __post_init__(self) -> None:
        name = type(self).__name__
        if finite(name, "target", self.target, least=0) > 1:
            refuse(name, "target", self.target, "in [0, 1]")


@dataclass(frozen=True)
class _PlaceboOf(_AtTarget):
    """What does as much as do(R = target) by numbers drawn from a seed."""

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(type(self).__name__, "seed", self.seed)


@dataclass(frozen=True)
class SetOrder(_AtTarget):
    """do(R = target) after every step.

    Raises:
        ValueError: the target is outside [0, 1].
    """

    by_step: ClassVar[bool] = True

    def planned(self, order: Float[Tensor, "B T"]) -> Change:  # noqa: ARG002
        """`set_order` with the target."""
        return lambda z, _: set_order(z, self.target)


@dataclass(frozen=True)
class Placebo(_PlaceboOf):
    """Displacements as large as those of do(R = target), that leave R as it is.

    Args:
        target: R of the intervention that this is the placebo of.
        seed: of the permutations, one for each row and step.

    Raises:
        ValueError: the target is outside [0, 1], or the seed is not a whole number.
    """

    def planned(self, order: Float[Tensor, "B T"]) -> Change:  # noqa: ARG002
        """`placebo` with permutations of its own at every step."""
        return lambda z, t: placebo(z, self.target, stream(self.seed, f"placebo {t}"))


@dataclass(frozen=True)
class Turn(_PlaceboOf):
    """All oscillators of a row turned by one angle, as far as do(R = target) moves them on average.

    A second placebo: it has what all phases carry together, where `Placebo` has what each carries
    by itself.

    Args:
        target: R of the intervention that this is the placebo of.
        seed: of the signs, one for each row and step.

    Raises:
        ValueError: the target is outside [0, 1], or the seed is not a whole number.
    """

    def planned(self, order: Float[Tensor, "B T"]) -> Change:  # noqa: ARG002
        """`turned_alike` with signs of its own at every step."""
        return lambda z, t: turned_alike(z, self.target, stream(self.seed, f"turn {t}"))


@dataclass(frozen=True)
class InCoupling(_AtTarget):
    """R = target where the coupling takes it, and nowhere else: no phase is moved.

    In K Im(M conj(u)) the mean phase M keeps its direction and has the size that is set. Before the
    first step there is no direction, and the pull stays zero.

    Raises:
        ValueError: the target is outside [0, 1].
    """

    by_step: ClassVar[bool] = True

    def planned(self, order: Float[Tensor, "B T"]) -> Change:  # noqa: ARG002
        """States stay as they are."""
        return lambda z, _: z

    def coupling(
        self, strength: Float[Tensor, "B"], z: Float[Tensor, "B 2 N"]
    ) -> Float[Tensor, "B"]:
        """K times target / |M|."""
        R = mean_phase(z).norm(dim=-1)
        return torch.where(R > 0, strength * self.target / R, 0.0)


@dataclass(frozen=True)
class Freeze:
    """R at every step is the mean over the undisturbed steps of the same sequence."""

    def planned(self, order: Float[Tensor, "B T"]) -> Change:
        """`set_order` with the mean of each row."""
        mean = order.mean(1)
        return lambda z, _: set_order(z, mean)


@dataclass(frozen=True)
class Shuffle:
    """R at every step is that of another step of the undisturbed sequence, each used once.

    Raises:
        ValueError: the seed is not a whole number.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        whole("Shuffle", "seed", self.seed)

    def planned(self, order: Float[Tensor, "B T"]) -> Change:
        """`set_order` with the values of each row in random order."""
        drawn = torch.rand(order.shape, generator=stream(self.seed, "shuffled order"))
        shuffled = order.gather(1, drawn.argsort(1).to(order.device))
        return lambda z, t: set_order(z, shuffled[:, t])


@contextmanager
def intervening(layers: Iterable[Any], intervention: Intervention) -> Iterator[None]:
    """Inside this context, layers with an `intervention` run under this one.

    Raises:
        ValueError: there is no layer, or one has no attribute `intervention`.
    """
    changed = list(layers)
    if not changed or not all(hasattr(layer, "intervention") for layer in changed):
        refuse("intervening", "layers", changed, "layers that have an attribute `intervention`")
    with replaced(changed, "intervention", intervention):
        yield
