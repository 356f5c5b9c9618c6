"""What a step size is chosen by."""

import pytest
import torch
from torch.nn.functional import one_hot

from lab.experiment import accuracy_then_loss
from lab.tasks import WordProblem, groups

TASK = WordProblem(groups.cyclic(3), range(3))


def answering(logit, wrong_after=None):
    """A model with this logit for the right answer, which errs from some step on."""

    def model(tokens):
        right = tokens.cumsum(1) % 3
        if wrong_after is not None:
            right[:, wrong_after:] = (right[:, wrong_after:] + 1) % 3
        return logit * one_hot(right, 3).float()

    return model


def value(model):
    return accuracy_then_loss(model, TASK, length=10, samples=50, seed=0)


def test_accuracy_comes_first_and_loss_tells_models_that_are_always_right_apart():
    sure, unsure = value(answering(20.0)), value(answering(2.0))
    wrong_once = value(answering(20.0, wrong_after=9))
    assert 1 >= sure > unsure > 0.998
    assert wrong_once < unsure


def test_answers_may_count_after_some_tokens_alone():
    lost = answering(50.0, wrong_after=5)
    found = accuracy_then_loss(lost, TASK, length=10, samples=50, seed=0, at=[1, 5, 6, 10])
    assert found == pytest.approx(0.5 - 1e-3)
    found = accuracy_then_loss(lost, TASK, length=10, samples=50, seed=0, at=[2, 4, 8])
    assert found == pytest.approx(2 / 3 - 1e-3)


def test_it_is_the_accuracy_less_a_thousandth_of_a_loss_of_at_most_one():
    loss = torch.nn.functional.cross_entropy(torch.tensor([[1.0, 0, 0]]), torch.tensor([0]))
    assert value(answering(1.0)) == pytest.approx(1 - 1e-3 * loss.item(), abs=1e-7)
    assert value(answering(50.0, wrong_after=5)) == pytest.approx(0.5 - 1e-3)
