"""Automata and random tokens: limits against enumeration."""

import math
from itertools import product

import pytest
import torch
from numeric import stream

from lab.tasks import Automaton, RandomTokens, count_and_reset, groups

S3 = groups.symmetric(3)


def test_targets_are_the_states_of_a_plain_loop():
    task = count_and_reset(5, S3)
    inputs, targets, mask = task.sample(30, 12, stream(0))
    assert mask.all()
    for word, said in zip(inputs.tolist(), targets.tolist(), strict=True):
        count, element, fresh = 0, 0, False
        for token, target in zip(word, said, strict=True):
            if token == 7:
                count, element, fresh = 0, 0, True
            elif token == 0:
                count, fresh = (count + 1) % 5, False
            else:
                element, fresh = S3.product(element, token - 1), False
            assert target == (30 if fresh else 6 * count + element)


def test_tokens_have_their_probabilities():
    task = count_and_reset(5, S3)
    counts = torch.bincount(task.sample(1000, 50, stream(0)).inputs.flatten(), minlength=8) / 50_000
    assert torch.allclose(counts.double(), torch.tensor(task.probabilities).double(), atol=0.01)


def test_limits_are_those_of_all_words():
    task = Automaton([[1, 0, 2], [2, 1, 2], [0, 2, 2]], [0.5, 0.2, 0.3])
    shares = torch.zeros(4, 3, dtype=torch.float64)
    for word in product(range(3), repeat=4):
        weight = math.prod(task.probabilities[x] for x in word)
        for t, state in enumerate(task.labels(torch.tensor([word]))[0]):
            shares[t, state] += weight
    assert torch.allclose(task.distribution(4), shares)
    assert torch.allclose(task.chance_accuracy(4), shares.amax(1))
    entropy = -(shares.clamp_min(1e-300).log() * shares).sum(1)
    assert task.chance(4) == pytest.approx(entropy.mean().item())
    assert task.bits(4) == pytest.approx((entropy[:3].max() / math.log(2)).item())
    assert task.distinct_inputs(4) == 81
    assert task.floor(4) == task.bits(1) == 0


def test_the_state_after_a_reset_is_the_best_constant_guess():
    guess = count_and_reset(5, S3).chance_accuracy(32)
    assert guess[-1].item() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("transitions", "probabilities", "sentence"),
    [
        ([[0, 1], [0]], [0.5, 0.5], "one for each"),
        ([], [0.5, 0.5], "one for each"),
        ([[0, 2], [0, 1]], [0.5, 0.5], "states from 0 to 1"),
        ([[0, 0]], [0.5, 0.4], "must add up to 1"),
        ([[0, 0]], [1.5, -0.5], "must add up to 1"),
    ],
)
def test_no_automaton_is_refused(transitions, probabilities, sentence):
    with pytest.raises(ValueError, match=sentence):
        Automaton(transitions, probabilities)


def test_random_tokens_are_followed_by_the_next_one():
    task = RandomTokens(3)
    inputs, targets, mask = batch = task.sample(40, 9, stream(0))
    assert torch.equal(targets[:, :-1], inputs[:, 1:])
    assert torch.equal(mask, (torch.arange(9) < 8).expand(40, 9))
    loss = task.loss(lambda tokens: torch.zeros(*tokens.shape, 3), batch)
    assert loss.item() == pytest.approx(task.chance(9)) == pytest.approx(task.floor(9))
    assert task.chance_accuracy(9).tolist() == [pytest.approx(1 / 3)] * 9
    assert task.bits(9) == 0
    assert task.distinct_inputs(4) == 81


def test_a_single_token_has_no_next_one():
    with pytest.raises(ValueError, match="length is 1; it must be at least 2"):
        RandomTokens().sample(1, 1, stream(0))
    with pytest.raises(ValueError, match="vocabulary is 1"):
        RandomTokens(1)
