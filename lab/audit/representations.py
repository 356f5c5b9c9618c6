"""How near a layer is to a representation of the group whose words it reads."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lab.seeding import stream
from lab.tasks import WordProblem

_WORDS, _BEFORE, _AFTER = 200, 12, 4  # random words, and tokens of them around a relation


def table_error(
    A: Float[Tensor, "tokens N N"], task: WordProblem
) -> tuple[Float[Tensor, ""], Float[Tensor, "n N N"]]:
    """How far matrices of the tokens are from a representation of the group, and their images.

    The image of an element is the product along a shortest word. The error is the largest entry of
    the difference between the image of an element times the matrix of a token, in the order of the
    task's side, and the image of what the group's table says, over all elements and tokens.

    Args:
        A: for every token of the alphabet, the matrix that it multiplies a state by. A later token
            stands further left: the state after a word is A[last] ... A[first] h.
        task: whose alphabet generates the group.

    Raises:
        ValueError: there is not one matrix for each token, or the alphabet does not generate the
            group.
    """
    if len(A) != task.size:
        raise ValueError(f"{len(A)} matrices for {task.size} tokens: give one for each")
    steps = task.transitions[:, : task.size]
    image, queue = {0: torch.eye(A.shape[-1], dtype=A.dtype)}, [0]
    for element in queue:
        for token, after in enumerate(steps[element].tolist()):
            if after not in image:
                image[after] = A[token] @ image[element]
                queue.append(after)
    if len(image) < task.classes:
        raise ValueError(
            f"the tokens generate {len(image)} of the {task.classes} elements of {task.group.name}"
        )
    whole = torch.stack([image[element] for element in range(task.classes)])
    return (A @ whole[:, None] - whole[steps]).abs().max(), whole


def part_that_knows(
    states: Float[Tensor, "words T N"], labels: Int64[Tensor, "words T"]
) -> Float[Tensor, "T"]:
    """The size, at every step, of the part of a state that depends on the label alone.

    It is the root mean square distance of the mean states of the labels from the mean of all. What
    the noise of these means adds is estimated from the variance within labels, and taken off.

    Args:
        states: of many words; several of every label.
        labels: at the same steps.
    """
    words, sizes = len(states), []
    for h, label in zip(states.unbind(1), labels.unbind(1), strict=True):
        count = torch.bincount(label)
        met = int((count > 0).sum())
        means = h.new_zeros(len(count), h.shape[1]).index_add(0, label, h)
        means = (means / count.clamp_min(1)[:, None])[label]
        noise = (h - means).square().sum() / max(words - met, 1) * (met - 1)
        found = (means - h.mean(0)).square().sum() - noise
        sizes.append((found / words).clamp_min(0).sqrt())
    return torch.stack(sizes)


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
