"""Whether a trained state space follows a group: words that are the identity must turn no state."""

from collections.abc import Mapping, Sequence

import torch
from torch.nn.functional import normalize

from lab.model import SequenceModel
from lab.seeding import stream
from lab.tasks import Task

_IN_USE = 0.05  # of the largest singular value


@torch.no_grad()
def relations(
    model: SequenceModel, task: Task, words: Mapping[str, Sequence[int]], *, length: int
) -> dict[str, float]:
    """How far words turn the states that a model of one layer reaches, and in how many dimensions.

    States are those of 100 sequences in the last third of their steps, where what decays is gone.
    All are divided by their norm, and so is what a word makes of them: only directions are
    compared, because the norm before the head divides sizes out.

    Args:
        model: its first mixer is a real `StateSpace` without a drive, and reads tokens.
        task: where sequences come from.
        words: token numbers by the name of the word, the first token first.
        length: time steps of a sequence, at least 3.

    Returns:
        "dimensions": how many singular values of the states are above 5 % of the largest. For every
        word, the mean distance between the directions of a state before and after it, from 0 to 2.

    Raises:
        ValueError: the model has a drive, which would act beside its transitions.
    """
    mixer, x = model.mixers[0], model.mixer_norms[0](model.embedding)
    if mixer.B is not None:
        raise ValueError("relations: the model has a drive; only transitions may act on its state")
    A = mixer.transition.dense(mixer.transition(x)).double()
    inputs = task.sample(100, length, stream(0, "relations")).inputs
    h = model.states(inputs)[:, length - length // 3 :].double().flatten(0, 1)
    h = normalize(h, dim=-1)
    values = torch.linalg.svdvals(h)
    found = {"dimensions": float((values > _IN_USE * values[0]).sum())}
    for name, word in words.items():
        moved = h
        for token in word:
            moved = moved @ A[token].mT
        found[name] = (normalize(moved, dim=-1) - h).norm(dim=-1).mean().item()
    return found
