"""torch's associative scan, over the monoid of each recurrence."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lab.scan.torch_private import torch_associative_scan

Elements = tuple[Tensor, ...]


def prefixes(combine: Callable[[Elements, Elements], Elements], *elements: Tensor) -> Elements:
    """All prefixes over time (axis 1), by torch's implementation for any device."""
    scanned: Any = torch_associative_scan()(combine, elements, dim=1, combine_mode="generic")
    return tuple(scanned)
