"""The loss of a model on each window of text by itself, undisturbed or under an intervention."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import cross_entropy

from lab.mixers.order import Intervention, intervening
from lab.tasks import Batch


@torch.no_grad()
def losses_by_window(
    model: Callable[[Tensor], Tensor],
    batch: Batch,
    *,
    layers: Iterable[Any] = (),
    intervention: Intervention | None = None,
) -> Float64[Tensor, "B"]:
    """Mean cross-entropy over the scored steps of each sequence, in nats.

    Args:
        model: tokens ["B T"] to logits ["B T classes"].
        batch: the sequences.
        layers: of the model, which run under the intervention if there is one.
        intervention: what is done there after every step; nothing if None.

    Raises:
        ValueError: there is an intervention and no layer that takes it.
    """
    context = nullcontext() if intervention is None else intervening(layers, intervention)
    with context:
        logits = model(batch.inputs)
    losses = cross_entropy(logits.mT.double(), batch.targets, reduction="none")
    return (losses * batch.mask).sum(1) / batch.mask.sum(1)
