"""Characters and relations of layers that were built with and without them."""

import math
from types import SimpleNamespace

import pytest
import torch
from numeric import stream
from torch import nn

from lab.audit.representations import (
    nearest_character,
    part_that_knows,
    relation_gap,
    table_error,
)
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


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_regular_representation_has_no_error(side):
    task = WordProblem(S3, TASK.alphabet, side=side)
    A = nn.functional.one_hot(task.transitions.mT, 6).mT.double()  # ["tokens after before"]
    error, images = table_error(A, task)
    assert error == 0
    # Applied to the identity, the image of an element is that element.
    assert images[:, :, 0].argmax(1).tolist() == list(range(6))


def test_an_error_of_one_generator_shows_in_the_table():
    A = nn.functional.one_hot(TASK.transitions.mT, 6).mT.double()
    A[1, 2] += 0.25
    assert table_error(A, TASK)[0] >= 0.25


def test_matrices_of_some_tokens_or_of_a_part_of_the_group_are_refused():
    with pytest.raises(ValueError, match="1 matrices for 2 tokens"):
        table_error(torch.eye(2)[None], TASK)
    with pytest.raises(ValueError, match="generate 3 of the 6 elements of S3"):
        table_error(torch.eye(2)[None], WordProblem(S3, TASK.alphabet[:1]))


def test_the_part_of_a_state_that_knows_is_that_without_noise():
    labels = torch.randint(4, (40_000, 3), generator=stream(2))
    noise = torch.randn(40_000, 3, 5, generator=stream(3), dtype=torch.float64)
    size = torch.tensor([1.0, 0.1, 0.0], dtype=torch.float64)
    corners = torch.eye(5, dtype=torch.float64)[labels]
    found = part_that_knows(size[:, None] * corners + 0.5 * noise, labels)
    # Four corners of a simplex are sqrt(3/4) from their mean. If noise were not taken off, the last
    # would be 0.0097 on average, and its square still varies by half of that.
    expected = size * math.sqrt(3 / 4)
    torch.testing.assert_close(found, expected, atol=0.009, rtol=0.02)
