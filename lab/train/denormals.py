"""Numbers too small for a normal float count as zero while a model trains.

Processors compute with denormal numbers (below 1.2e-38 in single precision) in microcode, many
times more slowly than with others. A model that is sure of its answers makes many of them: the
gradient of cross-entropy is the probability of a class, and a logit 88 below the largest one gives
a probability that is denormal. Products with such a gradient then take most of an update.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def denormals_are_zero() -> Iterator[None]:
    """Take denormal numbers as zero inside this context, in this thread, and as before afterwards.

    Threads that torch has started earlier go on as they are; those started inside inherit it. Where
    the processor has no such mode, nothing changes.

    Source: torch.set_flush_denormal, which sets the bits "flush to zero" and "denormals are zero".
    """
    before = are_zero()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def are_zero() -> bool:
    """Whether this thread takes denormal numbers as zero."""
    smallest_normal = torch.tensor(torch.finfo(torch.float64).tiny, dtype=torch.float64)
    return bool(smallest_normal / 2 == 0)
