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

# The largest entry of a composed gain at which a composition is still trusted. Rounding of what was
# composed grows by as much.
LARGEST = 16.0


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
    values = _values(gains)
    if values is None or not values.numel():
        return None
    if values.is_complex():
        return values.abs().amax()
    least, most = values.aminmax()
    return torch.maximum(-least, most)


def _values(tensor: Tensor) -> Tensor | None:
    """The numbers themselves, from inside the transforms of torch.func, of all lanes of a vmap."""
    functorch = torch._C._functorch
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return None
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_meta
    if not plain or functorch.is_legacy_batchedtensor(tensor):
        return None
    return tensor.detach()
