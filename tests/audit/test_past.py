"""Whether shuffling the past is noticed where it should be, and only there."""

import pytest
import torch
from numeric import stream
from torch.nn.functional import one_hot

from lab.audit.past import past_dependence

TOKENS = torch.randint(7, (6, 12), generator=stream(0))


def position_wise(tokens):
    return one_hot(tokens, 7).double()


def counting(tokens):  # sees which tokens came before, and not in which order
    return position_wise(tokens).cumsum(1)


def previous(tokens):
    return position_wise(tokens).roll(1, dims=1)


@pytest.mark.parametrize(("model", "expected"), [(position_wise, 0), (counting, 0), (previous, 1)])
def test_only_what_depends_on_the_order_of_the_past_moves(model, expected):
    assert past_dependence(model, TOKENS, stream(1)) == expected


def test_the_last_token_stays():
    seen = []

    def watching(tokens):
        seen.append(tokens)
        return position_wise(tokens)

    past_dependence(watching, TOKENS, stream(1))
    shuffled, original = seen
    assert torch.equal(shuffled[:, -1], original[:, -1])
    assert not torch.equal(shuffled, original)
    assert torch.equal(shuffled.sort(1).values, original.sort(1).values)


def test_what_cannot_show_anything_is_refused():
    with pytest.raises(ValueError, match="sequences of 2 tokens"):
        past_dependence(counting, TOKENS[:, :2], stream(0))
    with pytest.raises(ValueError, match="no sequence changes"):
        past_dependence(counting, torch.zeros_like(TOKENS), stream(0))
