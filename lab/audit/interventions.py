"""What interventions on oscillators do to the loss of each window of text by itself."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import cross_entropy

from lab.mixers.interventions import (
    InCoupling,
    Intervention,
    Placebo,
    SetOrder,
    Turn,
    intervening,
)
from lab.tasks import Batch

# What sets R to a level, what moves oscillators as far and leaves R, and R in the coupling alone.
DOSES: dict[str, Callable[[float, int], Intervention]] = {
    "do(R = r)": lambda r, _: SetOrder(r),
    "placebo": Placebo,
    "all turned alike": Turn,
    "R in the coupling alone": lambda r, _: InCoupling(r),
}


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


def changes(
    model: Any, batch: Batch, interventions: Sequence[Intervention], *, blocks: Sequence[int]
) -> Float64[Tensor, "interventions B"]:
    """By how much each intervention changes the loss of each window, in nats.

    Args:
        model: whose `mixers` take interventions.
        batch: the windows, the same for all.
        interventions: one at a time.
        blocks: numbers of the mixers that run under them, from 0.

    Raises:
        ValueError: there is no block.
    """
    layers, undisturbed = [model.mixers[i] for i in blocks], losses_by_window(model, batch)
    each = [losses_by_window(model, batch, layers=layers, intervention=i) for i in interventions]
    return torch.stack(each) - undisturbed


def doses(
    model: Any, batch: Batch, levels: Sequence[float], *, blocks: Sequence[int], seed: int
) -> Float64[Tensor, "kinds levels B"]:
    """`changes` under each kind of `DOSES`, in their order, at each level.

    Args:
        model, batch, blocks: as for `changes`.
        levels: r, in [0, 1].
        seed: of the placebos.
    """
    each = [kind(r, seed) for kind in DOSES.values() for r in levels]
    return changes(model, batch, each, blocks=blocks).unflatten(0, (len(DOSES), -1))
