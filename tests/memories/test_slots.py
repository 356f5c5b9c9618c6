"""In every form, slots are causal attention with logits of low rank."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.memories import LinearAttention, SoftSlots
from lab.memories.base import causal
from lab.memories.slots import PAIRS

DOUBLE = torch.float64


def problem(B, T, m, M, span, seed=0, H=2):
    """Queries and keys up to `span` to either side, values and inputs of variance 1."""
    generator = stream(seed)
    q, k = span * (2 * torch.rand(2, B, H, T, m, dtype=DOUBLE, generator=generator) - 1)
    v = torch.randn(B, H, T, M, dtype=DOUBLE, generator=generator)
    return q, k, v, torch.randn(B, T, 5, dtype=DOUBLE, generator=generator)


def memory(m, M, mu=1.0, H=2, decay=0.1):
    slots = SoftSlots(5, heads=H, d_key=m, d_value=M, mu=mu, decay=decay, generator=stream(1))
    return slots.double()


def attention(slots, q, k, v, x):
    """The definition: logits of all pairs, with one term for every slot."""
    total = slots.log_decay(x).cumsum(-1)
    terms = slots.mu * (q[:, :, :, None] + k[:, :, None])  # ["B H T T m"]
    logits = terms.logsumexp(-1) + total[..., :, None] - total[..., None, :]
    mask = causal(q.shape[2], q.device)
    return logits.masked_fill(~mask, -torch.inf).softmax(-1) @ v


@settings(deadline=None, max_examples=60)
@given(
    B=st.integers(0, 2), T=st.integers(1, 19), m=st.integers(1, 6), M=st.integers(1, 4),
    mu=st.sampled_from([0.3, 1.0, 4.0]), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_both_forms_are_the_attention_that_defines_them(B, T, m, M, mu, seed):
    inputs, slots = problem(B, T, m, M, span=5, seed=seed), memory(m, M, mu)
    expected = attention(slots, *inputs)
    assert gap(slots(*inputs), expected) < 1e-12
    assert gap(slots.scanned(*inputs), expected) < 1e-12


def in_chunks(size):
    """A context in which sequences of two steps and more are cut into chunks of a size."""
    return mock.patch.multiple("lab.memories.slots", PAIRS=1, CHUNK=size)


@settings(deadline=None, max_examples=60)
@given(
    B=st.integers(0, 2), T=st.integers(1, 19), m=st.integers(1, 6), M=st.integers(1, 4),
    chunk=st.integers(1, 7), decay=st.sampled_from([None, 0.1, 2.0]), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_chunks_of_every_size_are_the_attention_that_defines_them(B, T, m, M, chunk, decay, seed):
    inputs, slots = problem(B, T, m, M, span=5, seed=seed), memory(m, M, decay=decay)
    with in_chunks(chunk):
        assert gap(slots(*inputs), attention(slots, *inputs)) < 1e-12


@pytest.mark.parametrize("decay", [None, 0.1])
def test_gradients_of_chunks_match_finite_differences(decay):
    inputs, slots = problem(B=1, T=5, m=3, M=2, span=2), memory(3, 2, decay=decay)
    q, k, v, x = (tensor.requires_grad_() for tensor in inputs)
    with in_chunks(2):
        assert torch.autograd.gradcheck(lambda q, k, v: slots(q, k, v, x), (q, k, v))
        if decay is not None:
            assert torch.autograd.gradcheck(lambda x: slots(q, k, v, x), (x,))


def test_several_models_read_chunks_at_once():
    inputs, slots = problem(B=3, T=PAIRS + 3, m=3, M=2, span=2), memory(3, 2)
    q, k, v, x = (tensor[:, None] for tensor in inputs)
    assert gap(torch.vmap(slots)(q, k, v, x)[:, 0], slots(*inputs)) < 1e-13


def test_chunks_under_autocast():
    inputs, slots = problem(B=2, T=2 * PAIRS + 5, m=4, M=3, span=2), memory(4, 3)
    expected = attention(slots, *inputs)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = slots.float()(*(tensor.float() for tensor in inputs))
    assert gap(narrow.double(), expected) < 2e-2


def test_gradients_of_both_forms_match_finite_differences():
    inputs, slots = problem(B=1, T=5, m=3, M=2, span=2), memory(3, 2)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    for form in (slots, slots.scanned):
        assert torch.autograd.gradcheck(form, inputs)


# Worst of six seeds 3e-6 and 1e-6: an average of 200 values of single precision.
@pytest.mark.parametrize("form", ["forward", "scanned"])
def test_single_precision(form):
    inputs, slots = problem(B=2, T=200, m=8, M=4, span=8), memory(8, 4)
    expected = attention(slots, *inputs)
    narrow = getattr(slots.float(), form)(*(tensor.float() for tensor in inputs))
    assert gap(narrow.double(), expected) < 3e-5


def test_the_scan_takes_logits_of_any_size_and_the_product_stays_finite():
    inputs, slots = problem(B=2, T=50, m=4, M=3, span=400), memory(4, 3)
    assert gap(slots.scanned(*inputs), attention(slots, *inputs)) < 1e-11
    q, k, v, x = (tensor.float().requires_grad_() for tensor in inputs)
    o = slots.float()(q, k, v, x)
    gradients = torch.autograd.grad(o.square().sum(), (q, k, v, x))
    assert all(part.isfinite().all() for part in (o, *gradients))


def test_it_is_normalised_linear_attention_with_exponential_features():
    q, k, v, x = problem(B=2, T=30, m=4, M=3, span=2)
    exponential = LinearAttention(  # what is positive it lets pass
        5, heads=2, d_key=4, d_value=3, feature="relu"
    )
    expected = exponential(q.exp(), k.exp(), v, x)
    assert gap(memory(4, 3, decay=None)(q, k, v, x), expected) < 1e-12


def test_mu_may_change_between_calls_and_grows_into_the_maximum():
    q, k, v, x = problem(B=1, T=12, m=3, M=2, span=3)
    slots = memory(3, 2, decay=None)
    soft = slots(q, k, v, x)
    slots.mu = 1e6
    hard = slots.scanned(q, k, v, x)
    assert gap(hard, soft) > 0.1
    best = (q[:, :, :, None] + k[:, :, None]).amax(-1).masked_fill(~causal(12, q.device), -99)
    chosen = best.argmax(-1, keepdim=True).expand(-1, -1, -1, 2)
    assert gap(hard, v.gather(2, chosen)) < 1e-10


def test_the_share_that_the_past_keeps_is_what_a_step_multiplies_old_content_by():
    q, k, v, x = problem(B=1, T=9, m=3, M=2, span=2)
    slots = memory(3, 2)
    keep = slots.eigenvalues(q, k, v, x).real.unflatten(-1, (2, 3)).movedim(1, 2)
    average, _ = slots.slots(k, v, x)
    again = keep[:, :, 1:, :, None] * average[:, :, :-1]
    again = again + (1 - keep[:, :, 1:, :, None]) * v[:, :, 1:, None]
    assert gap(average[:, :, 1:], again) < 1e-12
    assert keep[:, :, 0].abs().max() < 1e-12


@pytest.mark.parametrize(("mu", "decay"), [(0.0, 0.1), (1.0, 0.0), (float("nan"), 0.1)])
def test_sharpness_and_decay_must_be_above_zero(mu, decay):
    with pytest.raises(ValueError, match="must be above 0"):
        SoftSlots(4, heads=2, d_key=3, mu=mu, decay=decay)
