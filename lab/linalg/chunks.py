"""What recurrences in chunks share: cutting time into chunks, and sums of decays between steps."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import pad

from lab.linalg.precision import widened


def cut(part: Shaped[Tensor, "... T X"], size: int) -> Shaped[Tensor, "... C c X"]:
    """["... T X"] to ["... chunks size X"], filled up with steps of zeros."""
    return pad(part, (0, 0, 0, -part.shape[-2] % size)).unflatten(-2, (-1, size))


def joined(chunks: Float[Tensor, "... C c X"], T: int) -> Float[Tensor, "... T X"]:
    """["... T X"] of ["... chunks size X"]."""
    return chunks.flatten(-3, -2)[..., :T, :]


@widened
def segment_sums(a: Float[Tensor, "... T"]) -> Float[Tensor, "... T T"]:
    """["... T T"], axes (t, s), of a ["... T"]: a[s+1] + ... + a[t], and -inf for s > t.

    Each entry is summed separately. A difference of two cumulative sums would have the rounding
    error of the larger sum: after log-decays of thousands, no digits would be left for later steps.
    """
    T = a.shape[-1]
    later = torch.ones(T, T, dtype=torch.bool, device=a.device).triu(1)
    each = a[..., :, None].expand(*a.shape, T).masked_fill(~later.mT, 0)
    return each.cumsum(-2).masked_fill(later, -torch.inf)
