"""The shortest chunked or cumulative forms in plain torch, as one writes them without a library.

q, k, v and read-outs are ["B H T ..."].
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from lab.linalg.chunks import cut, joined, segment_sums
from lab.memories import LogSSM

CHUNK = 64  # steps


def ssd(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One gain a head: the state-space dual form, in four blocks of products.

    Source: Dao & Gu 2024, Transformers are SSMs, listing 1.
    """
    T = q.shape[2]
    t = torch.arange(T, device=q.device)
    parts = (memory.features(q, t), memory.features(k, t), v, memory.log_decay(x).transpose(1, 2))
    q, k, v, a = (cut(part, min(CHUNK, T)) for part in parts)
    a = a[..., 0]  # ["B H C c"]
    so_far = a.cumsum(-1)
    within = ((q @ k.mT) * segment_sums(a).exp()) @ v
    written = (k * (so_far[..., -1:] - so_far).exp()[..., None]).mT @ v
    after = torch.einsum("bhzc,bhckm->bhzkm", segment_sums(so_far[..., -1]).exp(), written)
    before = pad(after[:, :, :-1], (0, 0, 0, 0, 1, 0))
    return joined(within + (q * so_far.exp()[..., None]) @ before, T)


def gated(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A gain for each entry of a key, divided by in each chunk: for gains near 1 only.

    Source: Yang et al. 2024, Gated linear attention transformers, section 4.1.
    """
    T = q.shape[2]
    parts = (q * q.shape[-1] ** -0.5, k, v, memory.log_decay(x).transpose(1, 2))
    q, k, v, a = (cut(part, min(CHUNK, T)) for part in parts)
    so_far = a.cumsum(-2)
    q, end = q * so_far.exp(), so_far[..., -1:, :]
    within = (q @ (k * (-so_far).exp()).mT).tril() @ v
    written, kept = (k * (end - so_far).exp()).mT @ v, end.exp().mT
    state, read = torch.zeros_like(written[:, :, 0]), []
    for c in range(q.shape[2]):
        read.append(q[:, :, c] @ state)
        state = kept[:, :, c] * state + written[:, :, c]
    return joined(within + torch.stack(read, dim=2), T)


def average_pairs(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Averages whose weights are fixed when they are written, from all pairs of steps."""
    return _merged(memory.weights(q, k, x), _shared(memory, v), v)


def average_sums(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same by cumulative sums; the past is lost once all decays add up to 88 or more."""
    logit = (memory.logits(q, k) - memory.log_decay(x).cumsum(1)).mT  # ["B N T"]
    weight = (logit - logit.amax(-1, keepdim=True)).exp()[..., None]
    values = _shared(memory, v)
    averages = (weight * values).cumsum(2) / weight.cumsum(2)
    return averages if averages.shape == v.shape else _heads(averages.mean(1), v)


def slots_scan(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Slots by a scan over time, whose states are all in memory: our other form."""
    read: Tensor = memory.scanned(q, k, v, x)
    return read


def hard_slots(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Slots of max-plus algebra by `cummax`, after which all decays are taken away again."""
    if hasattr(memory, "logits"):  # one slot a head
        q, k = memory.logits(q, k)
    decays = memory.decay_per_step(x).cumsum(-1)[..., None]
    level, holder = (k - decays).cummax(2)
    slot = (q + level).argmax(-1, keepdim=True)
    steps = holder.gather(-1, slot)
    return v.gather(2, steps.expand_as(v))


def _shared(memory: Any, v: Tensor) -> Tensor:
    """["B H T M"], or ["B 1 T HM"] where all averages share one value."""
    return v.movedim(1, 2).flatten(2)[:, None] if isinstance(memory, LogSSM) else v


def _merged(weights: Tensor, values: Tensor, v: Tensor) -> Tensor:
    if values.shape == v.shape:
        return weights @ v
    return _heads(weights.mean(1) @ values[:, 0], v)


def _heads(flat: Tensor, v: Tensor) -> Tensor:
    """["B H T M"] of ["B T HM"]."""
    return flat.unflatten(-1, (v.shape[1], -1)).movedim(2, 1)
