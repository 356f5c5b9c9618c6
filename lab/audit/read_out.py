"""What the heads of a mixer read: how much of which step, and how far a gate lets it through."""

import torch
from torch import Tensor

from lab.mixers import Mamba, MultiHead


def attention(mixer: MultiHead, x: Tensor) -> Tensor:
    """["B H T T"], axes (reading step, writing step): the weight of every value in what is read.

    Found by storing, in place of the values, which step it is: what is then read is the row of
    weights. So it is exact for every memory that is linear in the values, whatever its form, and
    written by no second formula that could differ from the first.

    Args:
        mixer: with a memory that is linear in the values.
        x: ["B T D"], what the mixer reads.
    """
    q, k, _ = mixer.heads(x)
    B, H, T, _ = q.shape
    steps = torch.eye(T, dtype=x.dtype, device=x.device).expand(B, H, T, T)
    weights: Tensor = mixer.memory(q, k, steps, x)
    return weights


def gated(mixer: MultiHead | Mamba, x: Tensor) -> tuple[Tensor, Tensor]:
    """What the heads have read, before the gate, and the gates: ["B T H M"] both.

    Args:
        mixer: with a gate.
        x: ["B T D"], what the mixer reads.

    Raises:
        ValueError: there is no gate.
    """
    if mixer.gate is None:
        raise ValueError("this mixer has no gate")
    seen: list[tuple[Tensor, Tensor]] = []
    hook = mixer.gate.register_forward_pre_hook(lambda _, given: seen.append(given))
    try:
        mixer(x)
    finally:
        hook.remove()
    o, source = seen[0]
    return o, mixer.gate.gates(o, source).expand_as(o)
