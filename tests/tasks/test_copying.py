"""Copying against solvers that read one token after the other; places against enumeration."""

import math
from collections import Counter
from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import stream
from torch import Tensor

from lab.tasks import IndexedCopying, SelectiveCopying
from lab.tasks.retrieval import COMMONEST, RANDOM, UNASKED

LAYOUTS, FILLERS = ["spaced", "packed"], ["end", "between"]


def scored_only(tokens, mask):
    return [token if scored else None for token, scored in zip(tokens, mask, strict=True)]


# --- content at fixed places ---------------------------------------------------------------------


def solve_indexed(task, inputs):
    """What each step asks for, by collecting content and looking up indices; None elsewhere."""
    indices = range(2, 2 + task.content)
    symbols = range(2 + task.content, 2 + task.content + task.symbols)
    content, answers = [], []
    for token in inputs:
        if token in symbols:
            content.append(token)
        answers.append(content[indices.index(token)] if token in indices else None)
    return content, answers


@st.composite
def indexed_copying(draw):
    content = draw(st.integers(1, 9))
    return IndexedCopying(
        content,
        draw(st.integers(1, 5)),
        draw(st.integers(1, content)),
        draw(st.sampled_from(LAYOUTS)),
        draw(st.sampled_from(FILLERS)),
    )


@settings(deadline=None)
@given(task=indexed_copying(), extra=st.integers(0, 20), seed=st.integers(0, 2**31))
def test_the_target_is_the_content_at_the_index(task, extra, seed):
    batch = task.sample(3, task.length + extra, stream(seed))
    for inputs, targets, mask in zip(*map(Tensor.tolist, batch), strict=True):
        content, answers = solve_indexed(task, inputs)
        assert len(content) == task.content
        assert scored_only(targets, mask) == answers
        queries = [token for token in scored_only(inputs, mask) if token is not None]
        assert len(set(queries)) == len(queries) == task.queries


@settings(deadline=None)
@given(task=indexed_copying(), extra=st.integers(0, 20), seed=st.integers(0, 2**31))
def test_every_kind_of_token_is_at_its_place(task, extra, seed):
    M, Q = task.content, task.queries
    kinds = ["PAD", "BLANK or SEP"] + M * ["index"] + task.symbols * ["symbol"]
    shown = M * ["symbol", "BLANK or SEP"]
    if task.layout == "packed":
        shown = M * ["symbol"] + ["BLANK or SEP"]
    filler = extra * ["PAD" if task.layout == "packed" else "BLANK or SEP"]
    asked = Q * ["index"]
    tail = filler + asked if task.filler == "between" else asked + filler
    for inputs in task.sample(3, task.length + extra, stream(seed)).inputs.tolist():
        assert [kinds[token] for token in inputs] == shown + tail


def test_the_layouts_of_the_sheets():
    inputs, targets, mask = (part[0] for part in IndexedCopying().sample(1, 32, stream(0)))
    assert mask.nonzero().tolist() == [[16]]
    assert inputs[1:16:2].tolist() == [1] * 8
    assert inputs[17:].tolist() == [1] * 15
    assert 2 <= inputs[16] <= 9
    assert ((inputs[0:16:2] >= 10) & (inputs[0:16:2] <= 25)).all()
    assert targets[16] == inputs[2 * (inputs[16] - 2)]
    # The first attempt of 007: a gap of 22 PAD tokens before the query, 32 steps in all.
    gap = IndexedCopying(layout="packed", filler="between")
    assert gap.sample(1, 32, stream(0)).inputs[0].tolist().count(0) == 22


def test_a_delay_line_holds_all_that_can_be_asked_for():
    """No selection: the answer is always one of the tokens at M lags that do not depend on them."""
    task = IndexedCopying(content=4, symbols=5)
    inputs, targets, _ = task.sample(300, task.length, stream(0))
    lags = torch.tensor([8, 6, 4, 2])  # of content 0 to 3, at the query
    remembered = inputs[:, 8 - lags]
    answer = remembered.gather(1, inputs[:, 8:9] - 2)
    assert torch.equal(answer, targets[:, 8:9])


def test_content_and_queries_are_uniform():
    task = IndexedCopying(content=3, symbols=2, queries=2, layout="packed")
    inputs = task.sample(48_000, task.length, stream(0)).inputs
    counts = Counter(map(tuple, inputs.tolist()))
    assert len(counts) == 2**3 * 6
    # 1,000 each, with a standard error of 31; the largest of 48 is looked at.
    assert all(abs(n - 1000) < 4.5 * 31.3 for n in counts.values())


def test_ceilings_and_bits():
    one, several = IndexedCopying(), IndexedCopying(queries=8, layout="packed")
    assert [round(100 * one.ceilings[name], 1) for name in (RANDOM, COMMONEST)] == [18.0, 25.8]
    assert set(one.ceilings) == {RANDOM, COMMONEST}
    assert set(several.ceilings) == {RANDOM, COMMONEST, UNASKED}
    assert one.bits(32) == several.bits(17) == 32
    assert IndexedCopying(64).bits(129) == 256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"content": 0}, "content is 0; it must be at least 1"),
        ({"symbols": 0}, "symbols is 0; it must be at least 1"),
        ({"queries": 0}, "queries is 0; it must be at least 1"),
        ({"queries": 9}, "queries is 9; there are only 8 content tokens"),
        ({"layout": "loose"}, "layout is 'loose'; it must be one of"),
        ({"filler": "anywhere"}, "filler is 'anywhere'; it must be one of"),
    ],
)
def test_a_bad_indexed_copying_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        IndexedCopying(**settings)


# --- content at random places --------------------------------------------------------------------


def solve_selective(task, inputs):
    """What each COPY asks for, by a queue of content; None elsewhere."""
    queue, answers = [], []
    for token in inputs:
        if 1 <= token <= task.symbols:
            queue.append(token)
        answers.append(queue.pop(0) if token == 0 else None)
    assert not queue
    return answers


@settings(deadline=None)
@given(
    content=st.integers(1, 9),
    symbols=st.integers(1, 5),
    noise=st.integers(1, 4),
    extra=st.integers(0, 30),
    seed=st.integers(0, 2**31),
)
def test_the_targets_are_the_content_in_order(content, symbols, noise, extra, seed):
    task = SelectiveCopying(content, symbols, noise)
    batch = task.sample(3, task.length + extra, stream(seed))
    for inputs, targets, mask in zip(*map(Tensor.tolist, batch), strict=True):
        answers = solve_selective(task, inputs)
        assert scored_only(targets, mask) == answers
        assert answers[: content + extra] == [None] * (content + extra)
        assert sum(token > symbols for token in inputs) == extra
        assert max(inputs) < task.vocabulary == 1 + symbols + noise


def test_places_content_and_noise_are_uniform():
    task = SelectiveCopying(2, 3, 2)
    inputs = task.sample(60_000, 7, stream(0)).inputs[:, :5]
    where = Counter(map(tuple, (inputs <= 3).tolist()))
    assert len(where) == math.comb(5, 2)
    assert all(abs(n - 6000) < 4.5 * math.sqrt(6000 * 0.9) for n in where.values())
    for tokens, kinds in ((inputs[inputs <= 3], 3), (inputs[inputs > 3], 2)):
        counts = Counter(tokens.tolist())
        expected = len(tokens) / kinds
        assert len(counts) == kinds
        assert all(abs(n - expected) < 4.5 * math.sqrt(expected) for n in counts.values())


def best_of_one_place(content, symbols, noisy):
    """By enumeration of places and content: answer j from what is at one step, as best one can."""
    total = 0.0
    for j in range(content):
        scores = []
        for t in range(noisy):
            seen = Counter()  # (token at t, answer j)
            for where in combinations(range(noisy), content):
                for drawn in product(range(symbols), repeat=content):
                    token = drawn[where.index(t)] if t in where else "noise"
                    seen[token, drawn[j]] += 1
            tokens = {token for token, _ in seen}
            right = sum(max(seen[token, a] for a in range(symbols)) for token in tokens)
            scores.append(right / seen.total())
        total += max(scores)
    return total / content


@pytest.mark.parametrize(
    ("content", "symbols", "noisy"), [(1, 3, 1), (1, 2, 4), (2, 3, 5), (3, 2, 3), (3, 2, 6)]
)
def test_a_fixed_place_knows_no_more_than_stated(content, symbols, noisy):
    task = SelectiveCopying(content, symbols)
    expected = best_of_one_place(content, symbols, noisy)
    found = task.fixed_place_ceiling(noisy + content)
    assert found == pytest.approx(expected, rel=1e-12)


def test_fixed_places_are_worth_less_the_more_noise_there_is():
    task = SelectiveCopying(16)
    ceilings = [task.fixed_place_ceiling(length) for length in (32, 64, 128, 256)]
    assert ceilings[0] == 1
    assert ceilings == sorted(ceilings, reverse=True)
    assert ceilings[-1] > 1 / task.answers


def test_limits_of_selective_copying():
    task = SelectiveCopying(8, 16)
    assert task.bits(256) == 32
    assert [round(100 * share, 1) for share in task.ceilings.values()] == [18.0, 25.8]
    assert set(task.ceilings) == {RANDOM, COMMONEST}


@pytest.mark.parametrize("name", ["content", "symbols", "noise"])
def test_a_bad_selective_copying_is_named(name):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        SelectiveCopying(**{name: 0})
