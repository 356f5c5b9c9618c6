"""A learned vector in place of a layer, and the model of 260,544 parameters that has it."""

import pytest
import torch
from numeric import stream

from lab.model import FeedForward, SequenceModel
from lab.nn import Constant
from lab.nn.weight_decay import undecayed


def without_oscillators(D, layers, positions):
    generator = stream(0)
    channels = [FeedForward(D, 4 * D, generator=generator) for _ in range(layers)]
    made = SequenceModel(
        256, 256, D, [Constant(D) for _ in channels], channels=channels, positions=positions,
        norm="layer", tied=True, generator=generator,
    )  # fmt: skip
    made.mixer_norms = torch.nn.ModuleList(torch.nn.Identity() for _ in channels)
    return made


def test_the_vector_is_the_same_at_every_position_whatever_the_input():
    layer = Constant(3)
    layer.vector.data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = torch.randn(2, 5, 3, generator=stream(0))
    assert torch.equal(layer(x), torch.tensor([1.0, 2.0, 3.0]).expand(2, 5, 3))
    y, state = layer.step(x[:, 0])
    assert torch.equal(y, layer(x)[:, 0])
    assert state is None


def test_its_gradient_is_the_sum_over_positions():
    layer = Constant(2)
    layer(torch.zeros(3, 4, 2)).sum().backward()
    assert layer.vector.grad.tolist() == [12.0, 12.0]


def test_a_model_with_it_has_its_parameters_to_the_integer_and_a_step_form():
    built = without_oscillators(96, 3, 128)
    assert sum(each.numel() for each in built.parameters()) == 260_544
    assert "mixers.0.vector" in undecayed(built)
    tokens = torch.randint(256, (2, 4), generator=stream(1))
    state, steps = None, []
    for token in tokens.unbind(1):
        logits, state = built.step(token, state)
        steps.append(logits)
    torch.testing.assert_close(torch.stack(steps, dim=1), built(tokens), rtol=0, atol=1e-5)


def test_a_width_of_zero_is_named():
    with pytest.raises(ValueError, match="Constant: d_model is 0; it must be at least 1"):
        Constant(0)
