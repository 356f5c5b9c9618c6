"""Cross-entropy and penalty: apart, together, and from one pass of a model of oscillators."""

import pytest
import torch
from numeric import stream

from lab.mixers import KuramotoBank
from lab.model import FeedForward, PenalisedModel
from lab.tasks import Penalised, RandomTokens
from lab.train import fit

TASK = RandomTokens(5)


def model(noise="none"):
    generator = stream(0)
    mixers = [
        KuramotoBank(8, d_state=6, harmonics=3, noise=noise, generator=generator) for _ in range(2)
    ]
    channels = [FeedForward(8, 16, generator=generator) for _ in mixers]
    return PenalisedModel(
        5, 5, 8, mixers, channels=channels, positions=9, norm="layer", tied=True,
        generator=generator,
    )  # fmt: skip


def test_the_barrier_is_the_mean_of_the_layers_and_logits_are_the_same():
    examined, tokens = model(), TASK.sample(3, 7, stream(1)).inputs
    logits, barrier = examined(tokens, True)
    assert torch.equal(logits, examined(tokens))
    expected = [
        mixer.barrier(examined.mixer_inputs(tokens, i)).item()
        for i, mixer in enumerate(examined.mixers)
    ]
    assert expected[0] != pytest.approx(expected[1])
    assert barrier.item() == pytest.approx(sum(expected) / 2)


def test_the_loss_is_the_sum_of_its_parts():
    examined, batch = model(), TASK.sample(3, 7, stream(1))
    task = Penalised(TASK, weight=0.5)
    cross_entropy, penalty = task.parts(examined, batch)
    assert cross_entropy.item() == pytest.approx(TASK.loss(examined, batch).item())
    assert task.loss(examined, batch).item() == pytest.approx(
        (cross_entropy + 0.5 * penalty).item()
    )
    logged = task.logged(batch)(examined)
    assert logged.tolist() == pytest.approx(
        [cross_entropy.item(), penalty.item(), (cross_entropy + 0.5 * penalty).item()]
    )


def test_the_penalty_reaches_the_parameters_with_its_weight():
    def gradients(weight):
        examined, task = model(), Penalised(TASK, weight=weight)
        task.loss(examined, TASK.sample(8, 9, stream(2))).backward()
        found = [each.grad for each in examined.parameters() if each.grad is not None]
        return torch.cat([each.flatten() for each in found])

    free, half, whole = (gradients(weight) for weight in (0.0, 0.5, 1.0))
    assert (whole - free).abs().max() > 1e-2
    torch.testing.assert_close(half - free, 0.5 * (whole - free), rtol=1e-3, atol=1e-6)


def test_a_model_with_fresh_noise_trains_and_its_parts_are_watched():
    examined, task = model("fresh"), Penalised(TASK, weight=0.5)
    watched = task.logged(TASK.sample(20, 9, stream(2)))
    history = fit(
        examined, task, seed=0, steps=4, batch=8, length=9, lr=1e-3, watch={"parts": watched}
    )
    parts = history.watched["parts"]
    assert parts.shape == (5, 3)
    torch.testing.assert_close(parts[:, 2], parts[:, 0] + 0.5 * parts[:, 1])


def test_a_negative_weight_is_named():
    with pytest.raises(ValueError, match="Penalised: weight is -1; it must be at least 0"):
        Penalised(TASK, weight=-1)
