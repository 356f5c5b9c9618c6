"""A task in which a training dies, for tests of what it leaves and how it goes on."""

import math

from lab.tasks import KnownOscillators


class KilledError(Exception):
    """Stands for a kill by the operating system."""


class Fragile(KnownOscillators):
    """The same task; the run that draws from it is killed at its sample number `left`."""

    def __init__(self, task: KnownOscillators, left: float = math.inf) -> None:
        super().__init__(task.omega, task.zeta, task.dt)
        object.__setattr__(self, "_left", left)

    def sample(self, *arguments):
        object.__setattr__(self, "_left", self._left - 1)
        if self._left < 0:
            raise KilledError
        return super().sample(*arguments)
