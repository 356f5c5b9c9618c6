"""How many multiplications and additions a call makes, counted and not estimated."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def counted_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and attention kernels of a call.

    A multiplication and an addition are two. What is done entry by entry (activations, gates,
    norms, the short convolutions here) is not in the count: that is memory traffic, and the clock
    sees it. So is the work of the scans of `lab.scan`.

    Source: torch.utils.flop_counter.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return int(counter.get_total_flops())
