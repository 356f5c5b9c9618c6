"""How near a layer is to a representation of the group whose words it reads."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lab.seeding import stream
from lab.tasks import WordProblem

_WORDS, _BEFORE, _AFTER = 200, 12, 4  # random words, and tokens of them around a relation


def nearest_character(gains: Tensor) -> tuple[Tensor, Tensor]:
    """The character of the cyclic group Z_n that is nearest to each mode of a diagonal transition.

    Character m turns token k by 2 pi m k / n; the nearest one leaves the least sum of squares.

    Args:
        gains: Complex["n modes"], for each of the n tokens, which are the elements 0 to n - 1.

    Returns:
        m Int64["modes"], and what is left of the phases, Float["n modes"], -180 to 180 degrees.
    """
    n = len(gains)
    turns = gains.angle() / (2 * math.pi) * n  # in units of 1/n of a turn
    k, m = torch.arange(n)[:, None, None], torch.arange(n)[:, None]
    residual = turns[:, None] - k * m
    residual = residual - n * (residual / n).round()
    best = residual.square().mean(0).argmin(0)
    return best, 360 / n * residual.gather(1, best.expand(n, 1, -1))[:, 0]


@torch.no_grad()
def relation_gap(model: Any, task: WordProblem, relations: Sequence[Sequence[int]]) -> Tensor:
    """[]: how far the worst relation moves what the first layer says, relative to its spread.

    A relation, a word that is the identity, is put into the middle of random words: 0 where it
    holds, 1 where it moves the answer as far as another word would. A layer that holds only a
    commutative image of the group has small values, too: there, its relations hold.

    Args:
        model: a `SequenceModel` whose first mixer has `of_tokens`.
        task: whose tokens the relations are words of.
        relations: numbers of tokens.
    """
    table, mixer = model.mixer_norms[0](model.embedding), model.mixers[0]
    before, after = (task.words(_WORDS, n, stream(n, "relations")) for n in (_BEFORE, _AFTER))

    def said(*parts: Tensor) -> Tensor:
        last: Tensor = mixer.of_tokens(table, torch.cat(parts, dim=1))[:, -1]
        return last

    plain, moved = said(before, after), []
    for word in relations:
        inside = torch.tensor(word).expand(len(before), -1)
        moved.append((said(before, inside, after) - plain).square().sum(1).mean())
    return (torch.stack(moved).max() / (2 * plain.var(0).sum())).sqrt()
