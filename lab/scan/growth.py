"""Gains that grow when they are composed, and what then is no recurrence any more.

A tree of compositions multiplies gains that no state has met. Where such a product is large, what
it is multiplied by is known too badly: 3^400 overflows, and times a state of 0 that is NaN; and the
state 1 = 3 * 1 - 2, carried by 3^20 at once, drowns in what rounding did to 3^20 - 3^20. Step after
step neither happens. So compositions are watched, and above a bound the loop is taken.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lab.scan.associative import Elements
from lab.scan.torch_private import values_of

# The largest entry of a composed gain at which a composition is still trusted. Rounding of what was
# composed grows by as much.
LARGEST = 16.0

_unseen = 0


def unseen() -> int:
    """How many gains were composed in this process whose values could not be looked at."""
    return _unseen


class Growth:
    """The composed gains of one scan, and whether the scan may be composed of them."""

    def __init__(self) -> None:
        self._sizes: list[Tensor | None] = []

    def see(self, gains: Tensor) -> Tensor:
        """The same gains, which are composed ones."""
        self._sizes.append(_size(gains))
        return gains

    def watched(
        self, compose: Callable[[Elements, Elements], Elements], gain: int
    ) -> Callable[[Elements, Elements], Elements]:
        """The same composition, of elements whose part number `gain` is their gain."""

        def watched(earlier: Elements, later: Elements) -> Elements:
            both = compose(earlier, later)
            self.see(both[gain])
            return both

        return watched

    @property
    def is_harmful(self) -> bool:
        """Whether a composed gain is above the bound or NaN, as far as values can be looked at.

        Under torch.compile and in other tracers they cannot.
        """
        sizes = [size for size in self._sizes if size is not None]
        if not sizes:
            return False
        return not bool((torch.stack(sizes) <= LARGEST).all())


def _size(gains: Tensor) -> Tensor | None:
    """The largest absolute value; None without numbers, or where they cannot be looked at."""
    global _unseen
    values = values_of(gains)
    if values is None:
        _unseen += 1
    if values is None or not values.numel():
        return None
    if values.is_complex():
        return values.abs().amax()
    least, most = values.aminmax()
    return torch.maximum(-least, most)
