"""Word problems whose tokens are divided among several readers: what can still be known?

Each reader sees its own tokens in order, and none knows how they were interleaved. All words of
independent, uniform tokens are equally likely, and so are all interleavings of given sub-words.
"""

import math
from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lab.arguments import whole
from lab.tasks.word_problem import WordProblem


def shuffle_posterior(task: WordProblem, subwords: Sequence[Sequence[int]]) -> Float64[Tensor, "n"]:
    """The probability of every product of all tokens, given the sub-words that readers have seen.

    Say P(i) is that probability for the first i_1, ..., i_H tokens of the sub-words. The last of
    these tokens is the one of reader h with probability i_h / (i_1 + ... + i_H), so that P(i) is
    the sum of these shares times P(i - e_h) moved by that token.

    Args:
        task: whose tokens they are; a start token is no part of a word.
        subwords: numbers of tokens, one sequence for each reader.

    Cost: n H multiply-adds for each of the (L_1 + 1) ... (L_H + 1) places in the sub-words.
    """
    moves = task.transitions
    # Where each element comes from, since the element that follows is a permutation.
    back = torch.argsort(moves, dim=0)
    origin = torch.zeros(task.classes, dtype=torch.float64)
    origin[0] = 1.0
    known = {(0,) * len(subwords): origin}
    for place in product(*(range(len(each) + 1) for each in subwords)):
        if place in known:
            continue
        found = torch.zeros_like(origin)
        for h, (at, word) in enumerate(zip(place, subwords, strict=True)):
            if at:
                before = (*place[:h], at - 1, *place[h + 1 :])
                found += at / sum(place) * known[before][back[:, word[at - 1]]]
        known[place] = found
    return known[tuple(map(len, subwords))]


def shuffle_ceiling(
    task: WordProblem, reader: Sequence[int], words: Int64[Tensor, "B length"]
) -> Float64[Tensor, "B"]:
    """For each word, the probability of the best guess from its sub-words; the mean is the ceiling.

    It is 1 for all words exactly where tokens of different readers commute.

    Args:
        task: whose words they are.
        reader: for every token other than the start token, who reads it, from 0.
        words: without start token.

    Raises:
        ValueError: there is not one reader for each token.
    """
    if len(reader) != task.size:
        raise ValueError(f"{len(reader)} readers for {task.size} tokens: give one for each")
    best = []
    for word in words.tolist():
        subwords = [[x for x in word if reader[x] == each] for each in sorted(set(reader))]
        best.append(shuffle_posterior(task, subwords).max())
    return torch.stack(best)


def skipping_ceiling(task: WordProblem, share: float, length: int) -> float:
    """Best accuracy at the last step if each token is skipped with probability `share`.

    It is the sum over m of Binomial(m; length, share) times the largest probability of an element
    after m random tokens. Exact if the tokens are a union of conjugacy classes, as all swaps of S_n
    are, and it is known which steps were skipped: then a skipped token can be moved to the end.

    Raises:
        ValueError: share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of skipped tokens is in [0, 1], got {share}")
    best = _best_guess(task, length)
    return sum(
        math.comb(length, m) * share**m * (1 - share) ** (length - m) * best[m]
        for m in range(length + 1)
    )


def quota_ceiling(first: WordProblem, second: WordProblem, length: int, quota: int) -> float:
    """Best accuracy for a direct product of two groups whose readers take `quota` tokens each.

    Tokens are uniform among those of both, each of which moves one group alone. A reader takes the
    first `quota` of its own tokens and loses the rest, and what was lost is guessed.

    Args:
        first, second: the word problems of the two groups.
        length: tokens of a word.
        quota: tokens that each reader takes.
    """
    whole("quota_ceiling", "quota", quota, least=0)
    share = first.size / (first.size + second.size)
    best = _best_guess(first, length), _best_guess(second, length)
    return sum(
        math.comb(length, n) * share**n * (1 - share) ** (length - n)
        * best[0][max(0, n - quota)] * best[1][max(0, length - n - quota)]
        for n in range(length + 1)
    )  # fmt: skip


def _best_guess(task: WordProblem, length: int) -> list[float]:
    """The largest probability of an element after 0 to `length` random tokens."""
    if length == 0:
        return [1.0]
    return [1.0, *task.chance_accuracy(length)[-length:].tolist()]
