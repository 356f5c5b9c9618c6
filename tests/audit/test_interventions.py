"""Losses of windows under interventions: the undisturbed ones, the layers named, doses."""

import pytest
import torch
from numeric import gap, stream

from lab.audit.interventions import DOSES, changes, doses, losses_by_window
from lab.mixers import Freeze, InCoupling, KuramotoSSM, Placebo, SetOrder, Shuffle, Turn
from lab.model import SequenceModel
from lab.tasks import RandomTokens


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


def test_doses_are_changes_under_each_level_and_its_placebos():
    model, batch = oscillators(), RandomTokens(7).sample(5, 9, stream(1))
    found = doses(model, batch, [0.2, 0.9], blocks=[0, 1], seed=3)
    assert found.shape == (len(DOSES), 2, 5)
    undisturbed = losses_by_window(model, batch)
    alone = losses_by_window(model, batch, layers=model.mixers, intervention=Placebo(0.9, 3))
    assert gap(found[1, 1], alone - undisturbed) < 1e-12
    assert gap(found[0, 0], changes(model, batch, [SetOrder(0.2)], blocks=[0, 1])[0]) < 1e-12
    assert (
        gap(found[2:, 1], changes(model, batch, [Turn(0.9, 3), InCoupling(0.9)], blocks=[0, 1]))
        == 0
    )
    assert gap(doses(model, batch, [0.2, 0.9], blocks=[0, 1], seed=3), found) == 0
    assert gap(doses(model, batch, [0.2, 0.9], blocks=[0, 1], seed=4)[0], found[0]) == 0
    assert gap(doses(model, batch, [0.2, 0.9], blocks=[0, 1], seed=4)[1], found[1]) > 1e-6


def test_without_a_layer_there_is_nothing_to_intervene_in():
    model, batch = oscillators(), RandomTokens(7).sample(5, 9, stream(1))
    with pytest.raises(ValueError, match="intervening: layers"):
        changes(model, batch, [Freeze()], blocks=[])
