"""A task that is another one at every length, and the memory that a call keeps."""

import math

import pytest
import torch
from numeric import stream

from lab.benchmark.saved_activations import saved_activation_bytes
from lab.tasks import Recall
from lab.tasks.by_length import ByLength
from lab.train import fit

TASKS = {13: Recall(4, 4, 20), 25: Recall(8, 8, 30)}


def test_every_length_has_its_own_task():
    joined = ByLength(TASKS)
    assert (joined.vocabulary, joined.classes) == (32, 32)
    for length, task in TASKS.items():
        expected = task.sample(5, length, stream(0))
        found = joined.sample(5, length, stream(0))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert joined.chance(length) == math.log(task.symbols)
        assert joined.floor(length) == 0
        assert joined.bits(length) == task.bits(length)
        assert torch.equal(joined.chance_accuracy(length), task.chance_accuracy(length))
        assert joined.distinct_inputs(length) == task.distinct_inputs(length)


def test_the_loss_is_that_of_the_task_at_hand():
    def model(tokens):
        return torch.nn.functional.one_hot(tokens, 32).double()

    for length, task in TASKS.items():
        batch = task.sample(5, length, stream(1))
        assert torch.equal(ByLength(TASKS).loss(model, batch), task.loss(model, batch))


def test_a_model_can_train_on_all_lengths():
    model = torch.nn.Sequential(torch.nn.Embedding(32, 4), torch.nn.Linear(4, 32))
    history = fit(model, ByLength(TASKS), seed=0, steps=4, batch=2, length=[13, 25], lr=0.01)
    assert history.loss.isfinite().all()


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"no task of 14 steps, only of \[13, 25\]"):
        ByLength(TASKS).sample(1, 14, stream(0))
    with pytest.raises(ValueError, match="at least one length"):
        ByLength({})


def test_bytes_kept_are_those_of_saved_tensors():
    x = torch.ones(100, dtype=torch.float64, requires_grad=True)
    assert saved_activation_bytes(lambda: x + 1) == 0  # nothing to keep
    assert saved_activation_bytes(lambda: x.exp()) == 800  # the result
    assert saved_activation_bytes(lambda: x * x) == 800  # twice the same storage
    assert (
        saved_activation_bytes(lambda: x.exp().sin()) == 1600 - 800
    )  # its input is the result above
    assert saved_activation_bytes(lambda: (2 * x).sin().exp()) == 1600
