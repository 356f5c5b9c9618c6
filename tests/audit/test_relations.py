"""Relations of a group hold in a model that follows it, and not in one that was just drawn."""

import pytest
import torch

from lab.audit.relations import relations
from lab.mixers import StateSpace
from lab.model import residual_model
from lab.tasks import WordProblem, groups
from lab.transitions import Dense, Transition

S3 = groups.symmetric(3)
TASK = WordProblem(S3, S3.indices([groups.cycle(3, 0, 1, 2), groups.cycle(3, 0, 1)]), side="left")
WORDS = {"cycle^3": [0] * 3, "swap^2": [1, 1], "cycle": [0], "cycle, swap": [0, 1]}


class Permutations(Transition):
    """The permutation matrices of the two tokens, which it tells apart by the sign of x[0]."""

    def forward(self, x):
        return (x[..., :1, None] > 0).to(x.dtype)

    def dense(self, first):
        cycle, swap = (S3.matrices[each].to(first) for each in TASK.alphabet)
        return first * cycle + (1 - first) * swap


def model(transition, *, drive=False):
    def mixer(generator):
        return StateSpace(4, transition, drive=drive, learn_initial=True, generator=generator)

    made = residual_model(TASK, 0, d_model=4, mixer=mixer, layers=1)
    with torch.no_grad():
        made.embedding.copy_(torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]))
    return made


def test_words_that_are_the_identity_turn_no_state_of_permutation_matrices():
    found = relations(model(Permutations(4, d_state=3)), TASK, WORDS, length=12)
    assert found["dimensions"] in (2, 3)
    assert found["cycle^3"] < 1e-6
    assert found["swap^2"] < 1e-6
    assert found["cycle"] > 0.1
    assert found["cycle, swap"] > 0.1  # in the order of the tokens, a swap


def test_a_fresh_model_does_not_follow_the_group():
    generator = torch.Generator().manual_seed(0)
    found = relations(model(Dense(4, d_state=3, generator=generator)), TASK, WORDS, length=12)
    assert found["swap^2"] > 1e-4


def test_a_drive_is_refused():
    with pytest.raises(ValueError, match="the model has a drive"):
        relations(model(Permutations(4, d_state=3), drive=True), TASK, WORDS, length=12)
