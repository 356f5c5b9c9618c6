"""Products over all earlier steps weighted by decays, in chunks."""

from torch import Tensor

from lab.linalg.chunks import before, cut, joined, segment_sums
from lab.linalg.precision import widened
from lab.scan import linear_scan

CHUNK = 32  # measured on CPUs, where 64 and 128 take longer at any length


@widened
def decayed_product(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None = None, *, chunk: int = CHUNK
) -> Tensor:
    """o[t] = sum over s <= t of exp(a[s+1] + ... + a[t]) (q[t] . k[s]) v[s], in chunks.

    Pairs of steps within a chunk are weighed one by one; what earlier chunks have written is
    carried along as one matrix, S = exp(sum of a over a chunk) S + what the chunk writes.

    Args:
        q, k: Float["... T F"].
        v: Float["... T M"], in units of the output.
        log_decay: Float["... T"], a; all zero if None.
        chunk: steps, at least 1.

    Returns:
        Float["... T M"].

    Raises:
        ValueError: the chunk is below 1.

    Cost: T (chunk (F + M) + 2 F M) multiply-adds. Sums of a are those within one chunk, and nothing
    is divided by a decay: decays of any size up to 1 are exact, as small as they may be.
    Source: Dao & Gu 2024, Transformers are SSMs, section 6 (the block decomposition).
    """
    if chunk < 1:
        raise ValueError(f"the chunk is {chunk} steps; it must be at least 1")
    T = q.shape[-2]
    size = min(chunk, T)
    q, k, v = (cut(part, size) for part in (q, k, v))
    if log_decay is None:
        o = (q @ k.mT).tril() @ v
        return joined(o if size >= T else o + q @ before((k.mT @ v).cumsum(-3)), T)
    a = cut(log_decay[..., None], size)[..., 0]
    decay = segment_sums(a).exp()
    o = ((q @ k.mT) * decay) @ v
    if size >= T:
        return joined(o, T)
    written = (k * decay[..., -1, :, None]).mT @ v
    S = before(_carried(a.sum(-1).exp(), written))
    return joined(o + (q * a.cumsum(-1).exp()[..., None]) @ S, T)


def _carried(decay: Tensor, written: Tensor) -> Tensor:
    """S[c] = decay[c] S[c-1] + written[c] ["... C F M"], for decay ["... C"]."""
    a = decay[..., None, None].expand_as(written).flatten(-2)
    batch = a.shape[:-2]
    S = linear_scan(a.reshape(-1, *a.shape[-2:]), written.reshape(-1, *a.shape[-2:]))
    return S.reshape(*batch, *written.shape[-3:])
