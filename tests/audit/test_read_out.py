"""The read-outs of heads, against their definition."""

import math
import re

import pytest
import torch
from numeric import gap, stream

from lab.audit.read_out import attention, gated
from lab.memories import CosFormer, GatedLinearAttention, LinearAttention, SoftmaxAttention
from lab.mixers import Mamba, MultiHead

D, T = 6, 9
MEMORIES = {
    "softmax attention": lambda g: SoftmaxAttention(D, heads=2, d_key=3, d_value=4),
    "cosFormer": lambda g: CosFormer(D, heads=2, d_key=3, horizon=20),
    "linear attention": lambda g: LinearAttention(
        D, heads=2, d_key=3, d_value=4, decay=0.0025, generator=g
    ),
    "gated linear attention": lambda g: GatedLinearAttention(
        D, heads=2, d_key=3, d_value=4, generator=g
    ),
}


def mixer(memory, **settings):
    generator = stream(0)
    return MultiHead(
        D, MEMORIES[memory](generator), convolution=3, generator=generator, **settings
    ).double()


def inputs():
    return torch.randn(2, T, D, dtype=torch.float64, generator=stream(1))


@pytest.mark.parametrize("memory", MEMORIES)
def test_weights_of_the_values_are_what_is_read(memory):
    layer, x = mixer(memory), inputs()
    with torch.no_grad():
        q, k, v = layer.heads(x)
        weights = attention(layer, x)
        assert gap(weights @ v, layer.memory(q, k, v, x)) < 1e-12
    assert weights.triu(1).abs().max() == 0


def test_cosformers_weights_are_its_formula():
    layer, x = mixer("cosFormer"), inputs()
    with torch.no_grad():
        q, k, _ = layer.heads(x)
        distance = torch.arange(T).double()[:, None] - torch.arange(T)
        weights = (q.relu() @ k.relu().mT) * (math.pi / 40 * distance).cos() * (distance >= 0)
        expected = weights / weights.sum(-1, keepdim=True).clamp(min=1e-10)
        assert gap(attention(layer, x), expected) < 1e-12


@pytest.mark.parametrize("kind", ["elementwise", "headwise", "constant", "read"])
def test_what_is_read_times_the_gates_goes_on(kind):
    layer, x = mixer("cosFormer", norm=True, gate=kind), inputs()
    with torch.no_grad():
        for parameter in layer.gate.parameters():
            parameter.normal_(generator=stream(2))
        o, g = gated(layer, x)
        assert o.shape == g.shape == (2, T, 2, 3)
        assert gap(layer.out((o * g).flatten(-2)), layer(x)) < 1e-12
    assert not layer.gate._forward_pre_hooks


def test_every_channel_of_a_selective_layer_is_a_head():
    layer, x = Mamba(D, d_state=3, gate="elementwise").double(), inputs()
    with torch.no_grad():
        o, g = gated(layer, x)
        assert gap(layer.out((o * g)[..., 0]), layer(x)) < 1e-12


def test_no_gate_is_said():
    with pytest.raises(ValueError, match=re.escape("this mixer has no gate")):
        gated(mixer("cosFormer"), inputs())
