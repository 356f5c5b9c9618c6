"""Sums of log-decays between steps, and decay-weighted products over earlier steps, in chunks."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from lab.linalg.precision import widened
from lab.scan import linear_scan

CHUNK = 32  # measured on CPUs, where 64 and 128 take longer at any length


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


@widened
def decayed_product(
    q: Float[Tensor, "... T F"],
    k: Float[Tensor, "... T F"],
    v: Float[Tensor, "... T M"],
    log_decay: Float[Tensor, "... T"] | None = None,
    *,
    chunk: int = CHUNK,
) -> Float[Tensor, "... T M"]:
    """o[t] = sum over s <= t of exp(a[s+1] + ... + a[t]) (q[t] . k[s]) v[s], in chunks.

    Pairs of steps within a chunk are weighted individually. The contribution of earlier chunks is
    carried along as one matrix, S = exp(sum of a over a chunk) S + what the chunk writes.

    Args:
        q, k: Float["... T F"].
        v: in units of the output.
        log_decay: a; all zero if None.
        chunk: number of steps in a chunk, at least 1.

    Returns:
        Float["... T M"].

    Raises:
        ValueError: the chunk is below 1.

    Cost: T (chunk (F + M) + 2 F M) multiply-adds. Sums of a extend over at most one chunk, and
    nothing is divided by a decay, so the result is accurate for arbitrarily small decays.
    Source: Dao & Gu 2024, Transformers are SSMs, section 6 (the block decomposition).
    """
    if chunk < 1:
        raise ValueError(f"the chunk is {chunk} steps; it must be at least 1")
    T = q.shape[-2]
    size = min(chunk, T)
    q, k, v = (_chunks(part, size) for part in (q, k, v))
    if log_decay is None:
        o = (q @ k.mT).tril() @ v
        return _joined(o if size >= T else o + q @ _shifted((k.mT @ v).cumsum(-3)), T)
    a = _chunks(log_decay[..., None], size)[..., 0]
    decay = segment_sums(a).exp()
    o = ((q @ k.mT) * decay) @ v
    if size >= T:
        return _joined(o, T)
    written = (k * decay[..., -1, :, None]).mT @ v
    before = _shifted(_carried(a.sum(-1).exp(), written))
    return _joined(o + (q * a.cumsum(-1).exp()[..., None]) @ before, T)


def _carried(decay: Tensor, written: Tensor) -> Tensor:
    """S[c] = decay[c] S[c-1] + written[c] ["... C F M"], for decay ["... C"]."""
    a = decay[..., None, None].expand_as(written).flatten(-2)
    batch = a.shape[:-2]
    S = linear_scan(a.reshape(-1, *a.shape[-2:]), written.reshape(-1, *a.shape[-2:]))
    return S.reshape(*batch, *written.shape[-3:])


def _chunks(part: Tensor, size: int) -> Tensor:
    """["... T X"] to ["... chunks size X"], padded with zeros, which are steps without effect."""
    return pad(part, (0, 0, 0, -part.shape[-2] % size)).unflatten(-2, (-1, size))


def _joined(chunks: Tensor, T: int) -> Tensor:
    """["... chunks size X"] back to ["... T X"]."""
    return chunks.flatten(-3, -2)[..., :T, :]


def _shifted(states: Tensor) -> Tensor:
    """The states before each chunk, from those after each chunk, ["... C F M"]."""
    return pad(states[..., :-1, :, :], (0, 0, 0, 0, 1, 0))
