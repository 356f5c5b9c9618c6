"""Log-semiring state spaces: averages whose odds are frozen when they are written."""

import pytest
import torch
from numeric import gap, stream

from lab.memories import LogEMA, LogSSM
from lab.mixers import MultiHead
from lab.scan import softmax_scan

DOUBLE = torch.float64
D = 6


def memory(logits, decay=0.1):
    settings = {} if logits == "one" else {"logits": logits}
    kind = LogEMA if logits == "one" else LogSSM
    return kind(
        D, heads=2, d_key=3, d_value=4, decay=decay, generator=stream(0), **settings
    ).double()


def problem(T, seed=0):
    generator = stream(seed)
    q, k = torch.randn(2, 2, 2, T, 3, dtype=DOUBLE, generator=generator)
    v = torch.randn(2, 2, T, 4, dtype=DOUBLE, generator=generator)
    return q, k, v, torch.randn(2, T, D, dtype=DOUBLE, generator=generator)


@pytest.mark.parametrize(("logits", "averages"), [("one", 2), ("summed", 2), ("separate", 6)])
def test_the_scan_is_a_masked_softmax(logits, averages):
    inner, (q, k, v, x) = memory(logits), problem(T=15)
    p = inner.weights(q, k, x)
    assert p.shape == (2, averages, 15, 15)
    o = p @ v if logits == "one" else shared(p, v)
    assert gap(inner(q, k, v, x), o) < 1e-13
    assert inner.states(q, k, v, x).shape == (2, 15, averages, 5 if logits == "one" else 9)


def shared(p, v):
    """What one matrix of mean weights makes of values that all heads share."""
    return (p.mean(1) @ v.movedim(1, 2).flatten(2)).unflatten(-1, (2, 4)).movedim(1, 2)


def test_odds_of_two_past_steps_never_change():
    inner, (q, k, _, x) = memory("one"), problem(T=12)
    logs = inner.weights(q, k, x).log()
    odds = logs[..., 3:, 1] - logs[..., 3:, 2]
    assert gap(odds, odds[..., :1].expand_as(odds)) < 1e-12


def test_a_step_multiplies_what_is_stored_by_its_gain():
    inner, (q, k, v, x) = memory("separate"), problem(T=8)
    keep = inner.eigenvalues(q, k, v, x).real
    averages, _ = inner.scanned(q, k, v, x)
    values = v.movedim(2, 1).flatten(2)[:, :, None]
    again = keep[:, 1:, :, None] * averages[:, :-1] + (1 - keep[:, 1:, :, None]) * values[:, 1:]
    assert gap(averages[:, 1:], again) < 1e-12


@pytest.mark.parametrize("logits", ["one", "summed", "separate"])
@pytest.mark.parametrize("decay", [0.018, 21.0])
def test_the_decay_starts_where_it_was_put(logits, decay):
    inner = memory(logits, decay)
    decays = inner.log_decay(torch.zeros(1, 1, D, dtype=DOUBLE))
    torch.testing.assert_close(decays, torch.full_like(decays, -decay), rtol=1e-5, atol=0)


def test_logits_must_be_known():
    with pytest.raises(ValueError, match="must be one of"):
        LogSSM(D, heads=2, d_key=3, logits="product")


def test_single_precision_at_512_steps():
    mixer = MultiHead(
        16, LogSSM(16, heads=2, d_key=8, generator=stream(0)), generator=stream(1)
    ).double()
    x = torch.randn(1, 512, 16, dtype=DOUBLE, generator=stream(2))
    q, k, v = mixer.heads(x)
    expected = shared_scan(mixer.memory, q, k, v, x)
    narrow = mixer.float().memory(*(part.float() for part in (q, k, v, x)))
    assert gap(narrow.double(), expected) < 1e-5


def shared_scan(inner, q, k, v, x):
    values = v.movedim(2, 1).flatten(2)[:, :, None].expand(-1, -1, inner.heads, -1)
    averages, _ = softmax_scan(inner.log_decay(x), inner.logits(q, k), values.contiguous())
    return averages.mean(2).unflatten(-1, (inner.heads, -1)).movedim(1, 2)
