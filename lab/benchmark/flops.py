"""Number of multiplications and additions in a call, counted rather than estimated."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def counted_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and attention kernels of a call.

    A multiplication and an addition count as two. Elementwise operations (activations, gates,
    norms, the short convolutions here) and the scans of `lab.scan` are not counted: they are
    limited by memory traffic, which a measurement of time includes.

    Source: torch.utils.flop_counter.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return int(counter.get_total_flops())
