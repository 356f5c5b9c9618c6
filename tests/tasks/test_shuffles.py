"""Ceilings of divided word problems against enumeration of all words and all interleavings."""

from collections import defaultdict
from itertools import product

import pytest
import torch
from numeric import stream

from lab.tasks import WordProblem, groups
from lab.tasks.shuffles import (
    quota_ceiling,
    shuffle_ceiling,
    shuffle_posterior,
    skipping_ceiling,
)

S3 = groups.symmetric(3)
SWAPS = WordProblem(S3, S3.indices([(1, 0, 2), (0, 2, 1), (2, 1, 0)]))
MIXED = WordProblem(S3, S3.indices([(1, 0, 2), (0, 2, 1), (1, 2, 0)]))
Z5 = WordProblem(groups.cyclic(5), [1, 2])
READERS = [(0, 0, 1), (0, 1, 0), (0, 1, 2), (0, 0, 0)]


def every_word(task, length):
    return torch.tensor(list(product(range(task.size), repeat=length)))


def by_enumeration(task, seen, length):
    """The best accuracy of whoever sees only `seen` of a word, over all words."""
    words = every_word(task, length)
    ends = task.labels(words)[:, -1].tolist()
    counts = defaultdict(lambda: [0] * task.classes)
    for word, end in zip(words.tolist(), ends, strict=True):
        counts[seen(word)][end] += 1
    return sum(map(max, counts.values())) / len(words)


def subwords(word, reader):
    return tuple(tuple(x for x in word if reader[x] == h) for h in sorted(set(reader)))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("start_token", [False, True])
def test_the_ceiling_is_that_of_all_words(reader, side, start_token):
    task = WordProblem(S3, MIXED.alphabet, side)
    expected = by_enumeration(task, lambda word: subwords(word, reader), 6)
    given = WordProblem(S3, MIXED.alphabet, side, start_token=start_token)
    found = shuffle_ceiling(given, reader, every_word(task, 6))
    assert found.mean().item() == pytest.approx(expected, abs=1e-12)


def test_a_posterior_counts_interleavings():
    parts = (0, 2, 0), (1, 1)
    counts = torch.zeros(6, dtype=torch.float64)
    for word in every_word(MIXED, 5).tolist():
        if subwords(word, (0, 1, 0)) == parts:
            counts[MIXED.labels(torch.tensor([word]))[0, -1]] += 1
    assert torch.allclose(shuffle_posterior(MIXED, parts), counts / counts.sum())
    assert counts.sum() == 10


def test_one_reader_and_commuting_readers_know_everything():
    words = MIXED.words(20, 9, stream(0))
    assert torch.allclose(shuffle_ceiling(MIXED, (0, 0, 0), words), torch.ones(20).double())
    pair = groups.direct_product(S3, groups.cyclic(5))
    task = WordProblem(pair, [5 * x for x in MIXED.alphabet] + [1, 2])
    words = task.words(20, 9, stream(0))
    split = shuffle_ceiling(task, (0, 0, 0, 1, 1), words)
    assert torch.allclose(split, torch.ones(20).double())
    assert shuffle_ceiling(task, (0, 0, 1, 1, 1), words).mean() < 0.9


def test_readers_of_other_tokens_are_refused():
    with pytest.raises(ValueError, match="2 readers for 3 tokens"):
        shuffle_ceiling(MIXED, (0, 1), MIXED.words(1, 3, stream(0)))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_skipping_is_that_of_all_words_and_all_skips(share):
    length, expected = 5, 0.0
    for skips in product((False, True), repeat=length):

        def seen(word, skips=skips):
            return tuple(x for x, skipped in zip(word, skips, strict=True) if not skipped)

        m = sum(skips)
        weight = share**m * (1 - share) ** (length - m)
        expected += weight * by_enumeration(SWAPS, seen, length)
    assert skipping_ceiling(SWAPS, share, length) == pytest.approx(expected, abs=1e-12)


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.5"):
        skipping_ceiling(SWAPS, 1.5, 5)


@pytest.mark.parametrize("quota", [0, 1, 3, 6])
def test_a_quota_is_that_of_all_words(quota):
    pair = groups.direct_product(S3, groups.cyclic(5))
    task = WordProblem(pair, [5 * x for x in MIXED.alphabet] + [1, 2])

    def seen(word):
        first, second = subwords(word, (0, 0, 0, 1, 1))
        return first[:quota], second[:quota], len(first)

    expected = by_enumeration(task, seen, 6)
    assert quota_ceiling(MIXED, Z5, 6, quota) == pytest.approx(expected, abs=1e-12)


def test_the_numbers_of_ten_tokens_each_of_twenty():
    # Twelve of twenty tokens move S3 on average: none is lost in 11.7 % of all words.
    assert quota_ceiling(MIXED, Z5, 20, 20) == pytest.approx(1.0)
    assert 0.117 < quota_ceiling(MIXED, Z5, 20, 10) < 0.6
