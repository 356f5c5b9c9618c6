"""Shuffling the past, and losses of windows under interventions, against models that are known."""

import pytest
import torch
from numeric import gap, stream
from torch.nn.functional import one_hot

from lab.audit.past import past_dependence
from lab.audit.windows import losses_by_window
from lab.mixers import KuramotoSSM, SetOrder, Shuffle
from lab.model import SequenceModel
from lab.tasks import RandomTokens

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


def oscillators():
    generator = stream(0)
    mixers = [KuramotoSSM(8, d_state=9, generator=generator) for _ in range(2)]
    return SequenceModel(7, 7, 8, mixers, generator=generator).double()


def test_the_mean_over_windows_is_the_loss_of_the_task():
    model, task = oscillators(), RandomTokens(7)
    batch = task.sample(5, 9, stream(1))
    each = losses_by_window(model, batch)
    assert each.mean().item() == pytest.approx(task.loss(model, batch).item())
    alone = losses_by_window(model, type(batch)(*(part[:1] for part in batch)))
    assert gap(alone, each[:1]) < 1e-12


def test_an_intervention_acts_in_the_layers_named_and_ends():
    model, batch = oscillators(), RandomTokens(7).sample(5, 9, stream(1))
    undisturbed = losses_by_window(model, batch)
    found = {
        layers: losses_by_window(
            model, batch, layers=[model.mixers[i] for i in layers], intervention=SetOrder(0.9)
        )
        for layers in ((0,), (1,), (0, 1))
    }
    gaps = [gap(each, undisturbed) for each in found.values()]
    assert min(gaps) > 1e-6
    assert gap(found[0,], found[1,]) > 1e-6
    assert torch.equal(losses_by_window(model, batch), undisturbed)
    with pytest.raises(ValueError, match="intervening: layers"):
        losses_by_window(model, batch, intervention=Shuffle())
