"""Arms side by side that had not the same: a figure and a table of them say so."""

import re

import pytest
import torch
from torch import nn

from lab.experiment import Arms, Trained
from lab.experiment.budgets import Budget, mixed, sentence
from lab.experiment.scores import Scores
from lab.tasks import WordProblem, groups
from lab.train import History

Z3 = WordProblem(groups.cyclic(3), [1, 2])


class Model(nn.Module):
    """Some parameters, and always the first class."""

    def __init__(self, size=100):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, tokens):
        return torch.nn.functional.one_hot(torch.zeros_like(tokens), 3).float()


def trained(*, updates=5, size=100, seeds=(100, 101)):
    histories = [History(torch.ones(updates)) for _ in seeds]
    return Trained([Model(size) for _ in seeds], histories, [Z3 for _ in seeds], list(seeds))


def scores(**arms):
    return Arms(arms).scores(length=6, samples=5, workers=1)


def x_title(found):
    return found.curves().layout.xaxis.title.text


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({}, ""),
        ({"size": 110}, ""),
        ({"size": 111}, "parameters: 100 a, b; 111 c"),
        ({"updates": 2000}, "updates: 5 a, b; 2,000 c"),
        ({"updates": 6, "size": 200}, "updates: 5 a, b; 6 c. parameters: 100 a, b; 200 c"),
    ],
)
def test_what_was_not_the_same_stands_below_the_figure_and_in_the_table(other, words):
    found = scores(a=trained(), b=trained(), c=trained(**other))
    assert x_title(found) == ("tokens" if not words else f"tokens<br>{words}")
    columns = ["6 tokens", *(word for word in ("updates", "parameters") if word in words)]
    assert sorted(found.frame([6]).columns) == sorted(columns)


def test_what_is_said_is_about_the_arms_that_are_shown():
    found = scores(a=trained(), b=trained(), c=trained(updates=7))
    assert x_title(found.select(["a", "b"])) == "tokens"
    again = found.select(["a"]).renamed("{}, again") | found.select(["c"])
    assert x_title(again) == "tokens<br>updates: 5 a, again; 7 c"
    assert again.at(6).budgets == again.mean().budgets == again.budgets
    assert again.mean().frame()["updates"].tolist() == [5, 5, 7, 7]


def test_rows_of_a_record_carry_their_budget():
    (first, *_) = scores(a=trained(updates=7)).rows([6])
    assert {**first, "score": 0} == {
        "arm": "a", "seed": 100, "step": 6, "score": 0, "updates": 7, "parameters": 100,
    }  # fmt: skip


def test_arms_of_different_seeds_are_not_scored_into_one_table():
    message = "'b' is of seeds [100, 102], 'a' of [100, 101]: score them apart"
    with pytest.raises(ValueError, match=re.escape(message)):
        scores(a=trained(), b=trained(seeds=(100, 102)))
    one, other = (Scores({name: torch.ones(1, 2)}, [seed]) for name, seed in (("a", 1), ("b", 2)))
    with pytest.raises(ValueError, match="do not go together"):
        one | other


def test_long_sentences_have_room_below_the_axis():
    budgets = {f"an arm with a long name, {i}": Budget(i, 100) for i in range(1, 8)}
    values = {name: torch.rand(2, 4) for name in budgets}
    figure = Scores(values, [0, 1], budgets).curves()
    lines = figure.layout.xaxis.title.text.count("<br>")
    assert lines >= 2
    plain = Scores(values, [0, 1]).curves()
    assert figure.layout.margin.b >= plain.layout.margin.b + 15 * lines
    assert sentence(budgets).count(";") == 6


def test_nothing_is_said_of_nothing():
    assert mixed({}) == {}
    assert Arms({}).budgets() == {}
