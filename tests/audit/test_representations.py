"""Characters and relations of layers that were built with and without them."""

import math
from types import SimpleNamespace

import pytest
import torch
from numeric import stream
from torch import nn

from lab.audit.representations import nearest_character, relation_gap
from lab.tasks import WordProblem, groups

S3 = groups.symmetric(3)
TASK = WordProblem(S3, S3.indices([(1, 2, 0), (1, 0, 2)]))
RELATIONS = [(0, 0, 0), (1, 1), (0, 1, 0, 1)]


@pytest.mark.parametrize("n", [2, 5, 8])
def test_the_nearest_character_of_a_disturbed_one_is_itself(n):
    m = torch.arange(n)
    wrong = 10 * (torch.rand(n, n, generator=stream(0), dtype=torch.float64) - 0.5)  # degrees
    phases = 2 * math.pi * torch.arange(n).double()[:, None] * m / n + torch.deg2rad(wrong)
    found, residual = nearest_character(torch.polar(torch.full_like(phases, 0.7), phases))
    assert found.tolist() == m.tolist()
    torch.testing.assert_close(residual, wrong, atol=1e-9, rtol=0)


def layer(of_tokens):
    """A model whose first layer returns a function of the tokens."""
    return SimpleNamespace(
        mixers=[SimpleNamespace(of_tokens=lambda table, tokens: of_tokens(tokens))],
        mixer_norms=[nn.Identity()], embedding=torch.eye(2),
    )  # fmt: skip


def product(tokens):
    """The product of a word so far, one-hot."""
    element = torch.zeros(len(tokens), dtype=torch.int64)
    said = []
    for step in tokens.T:
        element = S3.table[element, torch.tensor(TASK.alphabet)[step]]
        said.append(nn.functional.one_hot(element, 6).float())
    return torch.stack(said, dim=1)


def test_relations_hold_in_a_layer_that_holds_the_group():
    assert relation_gap(layer(product), TASK, RELATIONS) == 0


def test_a_relation_moves_a_layer_that_counts_tokens_without_end():
    count = relation_gap(layer(lambda tokens: tokens.double().cumsum(1)[..., None]), TASK, [(1, 1)])
    # Two more swaps, against words of 16 tokens whose swaps have a variance of about 4.
    assert count.item() == pytest.approx(2 / math.sqrt(2 * 4), rel=0.15)


def test_a_layer_that_forgets_nothing_of_the_order_is_moved_as_by_another_word():
    weights = torch.randn(40, generator=stream(1), dtype=torch.float64)

    def scattered(tokens):  # a new number at every prefix, as a hash gives
        code = (tokens.double() + 1).cumsum(1) * weights[: tokens.shape[1]] * 1e3
        return code.sin()[..., None]

    assert relation_gap(layer(scattered), TASK, RELATIONS).item() == pytest.approx(1, abs=0.25)
