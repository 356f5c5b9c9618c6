"""The real diagonal transition: its three initialisations against a few plain lines."""

import math

import pytest
import torch
from numeric import stream

from lab.mixers import StateSpace
from lab.transitions import RealDiagonal

D, N = 5, 7


def ladder(generator, signed):
    """Sizes of gains from 0.5 to 0.999, evenly in logits; then normal weights of norm near 1."""
    logits = torch.linspace(0, math.log(0.999 / (1 - 0.999)), N)
    if signed:
        logits = logits.sigmoid().atanh() * (1 - 2 * (torch.arange(N) % 2))
    return 1.0 / math.sqrt(D) * torch.randn(N, D, generator=generator), logits


def dense(generator, signed):
    """Weights, then biases, uniform in (-1, 1) / sqrt(D)."""
    drawn = [2 * torch.rand(shape, generator=generator) - 1 for shape in ((N, D), (N,))]
    weight, bias = (1 / math.sqrt(D) * each for each in drawn)
    return weight, bias


def constant(generator, signed):
    """Nothing is drawn."""
    return torch.zeros(N, D), torch.full((N,), 2.2)


WAYS = {
    "ladder": (ladder, {}),
    "dense": (dense, {"start": "dense"}),
    "constant": (constant, {"start": 2.2, "spread": 0.0}),
}


@pytest.mark.parametrize("gate", ["sigmoid", "tanh"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_draws_and_computes_what_is_written_out_here(way, gate):
    reference, settings = WAYS[way]
    generator, other, x = stream(3), stream(3), torch.randn(2, 4, D, generator=stream(4))
    layer = RealDiagonal(D, d_state=N, gate=gate, generator=generator, **settings)
    weight, bias = reference(other, signed=gate == "tanh")
    # Bitwise: the numbers of every committed record hang on it.
    assert torch.equal(layer.gain.weight, weight)
    assert torch.equal(layer.gain.bias, bias)
    squashed = torch.tanh if gate == "tanh" else torch.sigmoid
    assert torch.equal(layer(x), squashed(torch.nn.functional.linear(x, weight, bias)))
    # And what is drawn next is what would have been drawn.
    assert torch.equal(generator.get_state(), other.get_state())


@pytest.mark.parametrize("way", WAYS)
def test_gradients_reach_weights_and_bias(way):
    layer = StateSpace(D, RealDiagonal(D, d_state=N, **WAYS[way][1]))
    layer(torch.randn(2, 6, D, generator=stream(0))).square().sum().backward()
    gain = layer.transition.gain
    assert {id(gain.weight), id(gain.bias)} <= {id(each) for each in layer.parameters()}
    assert all((each.grad != 0).any() for each in (gain.weight, gain.bias))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate": "relu"}, r"gate is 'relu'; it must be one of \('sigmoid', 'tanh', 'clipped"),
        ({"start": "ones"}, r"start is 'ones'; it must be one of \('ladder', 'dense', 'a number'"),
        ({"start": math.nan}, "start is nan; it must be a number"),
        ({"start": "dense", "spread": 1.0}, "start 'dense' has a spread of its own, got spread 1"),
        ({"spread": -1.0}, "spread is -1.0; it must be at least 0.0"),
        ({"longest": 1.0}, "longest is 1.0; it must be above 0.5 and below 1"),
        ({"d_state": 0}, "d_state is 0; it must be at least 1"),
    ],
)
def test_a_setting_that_makes_no_sense_stops(settings, message):
    with pytest.raises(ValueError, match=message):
        RealDiagonal(D, **{"d_state": N, **settings})


@pytest.mark.parametrize(("gate", "low"), [("clipped sigmoid", 0), ("clipped tanh", -1)])
def test_clipped_gates_reach_their_limits_and_are_not_stuck_there(gate, low):
    layer = RealDiagonal(D, d_state=N, gate=gate, generator=stream(0))
    sizes = torch.linspace(0, math.log(0.999 / 0.001), N).sigmoid()
    signs = 1 if low == 0 else 1 - 2 * (torch.arange(N) % 2)
    torch.testing.assert_close(layer(torch.zeros(D)), sizes * signs)  # the ladder
    gains = layer(50 * torch.randn(200, D, generator=stream(1)))
    assert (gains.min(), gains.max()) == (low, 1)
    # Not 50: a hyperbolic tangent is flat there.
    layer.gain.bias.data.fill_(2.0)
    layer(torch.zeros(D)).sum().backward()
    assert (layer(torch.zeros(D)) == 1).all() == (gate == "clipped tanh")
    assert (layer.gain.bias.grad > 0.05).all()
