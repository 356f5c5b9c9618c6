"""What each factor of a full factorial experiment does, alone and beside another."""

import itertools
from collections.abc import Sequence

from torch import Tensor


def contrast(values: Tensor, axes: Sequence[int]) -> Tensor:
    """Differences along some factors, one for each setting of the others and each seed.

    Along one factor: on minus off. Along two: how much more the one adds where the other is on.

    Args:
        values: Float["2 2 ... seeds"], one axis a factor, off before on.
        axes: of the factors.

    Returns:
        Float["n"].

    Raises:
        ValueError: such an axis is not a factor with two settings.
    """
    for axis in axes:
        if not 0 <= axis < values.ndim - 1 or values.shape[axis] != 2:
            raise ValueError(f"axis {axis} of {tuple(values.shape)} is no factor, off and on")
        values = values.diff(dim=axis)
    return values.flatten()


def contrasts(values: Tensor, factors: Sequence[str]) -> dict[str, Tensor]:
    """Main effects, and the interactions of any two factors, as `contrast` makes them, by name.

    Args:
        values: Float["2 2 ... seeds"].
        factors: a name for each axis but the last.

    Raises:
        ValueError: there is not one name for each factor.
    """
    if len(factors) != values.ndim - 1:
        raise ValueError(f"{len(factors)} names for the factors of {tuple(values.shape)}")
    chosen = [axes for size in (1, 2) for axes in itertools.combinations(range(len(factors)), size)]
    return {" x ".join(factors[axis] for axis in axes): contrast(values, axes) for axes in chosen}
