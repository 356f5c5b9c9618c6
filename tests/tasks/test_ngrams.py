"""Interpolated counts against dictionaries, and what they say of text whose entropy is known."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.mixers import unroll
from lab.tasks import NGrams

letters = st.lists(st.sampled_from(b"ab\x00\xff"), max_size=30).map(bytes)


def defined(data, order, context, byte):
    """Witten and Bell's estimate, from its definition, with slices and dictionaries."""
    if order == 0:
        return 1 / 256
    history = context[len(context) - order + 1 :] if order > 1 else b""
    starts = range(len(data) - order + 1)
    followers = Counter(data[i + order - 1] for i in starts if data[i : i + order - 1] == history)
    shorter = defined(data, order - 1, context, byte)
    if not followers:
        return shorter
    return (followers[byte] + len(followers) * shorter) / (followers.total() + len(followers))


@settings(deadline=None)
@given(data=letters.filter(lambda d: len(d) >= 7), held_out=letters, order=st.integers(1, 7))
def test_losses_are_those_of_the_definition(data, held_out, order):
    found = NGrams(data, order=order).losses(held_out).tolist()
    for t, byte in enumerate(held_out):
        p = defined(data, min(order, t + 1), held_out[:t], byte)
        assert found[t] == pytest.approx(-math.log2(p), abs=1e-9)


@settings(deadline=None)
@given(data=letters.filter(lambda d: len(d) >= 7), context=letters, order=st.integers(1, 7))
def test_probabilities_are_those_of_the_definition_and_sum_to_one(data, context, order):
    p = NGrams(data, order=order).probabilities(context)
    assert p.sum().item() == pytest.approx(1)
    assert (p > 0).all()
    for byte in b"ab\x00\xffz":
        right = defined(data, min(order, len(context) + 1), context, byte)
        assert p[byte].item() == pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_the_step_form_says_what_the_losses_say(order):
    counts, text = NGrams(b"the cat sat on the mat", order=order), b"the hat"
    tokens = torch.tensor([list(text), list(text[::-1])])
    logits = unroll(counts, tokens)
    for row, said in zip(tokens, logits, strict=True):
        steps = said[:-1].gather(1, row[1:, None])[:, 0]
        assert gap(-steps / math.log(2), counts.losses(bytes(row.tolist()))[1:]) < 1e-9


def test_more_context_finds_what_a_chain_of_that_order_repeats():
    """A second-order chain over 8 letters with 1 bit per byte: only trigrams and more see it."""
    generator = stream(0)
    table = torch.stack([torch.randperm(8, generator=generator)[:2] for _ in range(64)])
    coins = torch.randint(2, (30_000,), generator=generator).tolist()
    chain = [0, 1]
    for coin in coins:
        chain.append(table[8 * chain[-2] + chain[-1], coin].item())
    data = bytes(97 + letter for letter in chain)
    train, held_out = data[:25_000], data[25_000:]
    first, second, third, fourth = (
        NGrams(train, order=n).bits_per_byte(held_out) for n in (1, 2, 3, 4)
    )
    assert third == pytest.approx(1, abs=0.02)
    assert fourth == pytest.approx(third, abs=0.02)
    assert first > second > 1.2 * third


def test_every_order_at_once_is_each_counted_by_itself():
    data, held_out = b"abracadabra, abracadabra" * 3, b"cadabra abra"
    found = NGrams(data, order=5).losses_by_order(held_out)
    assert found.shape == (5, 12)
    for order in range(1, 6):
        assert torch.equal(found[order - 1], NGrams(data, order=order).losses(held_out))
    assert NGrams(data, order=5).losses_by_order(b"ab").shape == (5, 2)


@pytest.mark.parametrize(
    ("order", "sentence"),
    [(0, "at least 1"), (2.5, "a whole number"), (8, "order is 8; it must be at most 7"),
     (4, "order is 4; it must be at most 3")],
)  # fmt: skip
def test_an_order_that_cannot_be_counted_is_named(order, sentence):
    with pytest.raises(ValueError, match=sentence):
        NGrams(b"abc" if order == 4 else b"abcdefghij", order=order)


def test_no_bytes_have_no_bits():
    assert NGrams(b"abc", order=2).losses(b"").shape == (0,)
    with pytest.raises(ValueError, match="bits per byte of no bytes"):
        NGrams(b"abc", order=2).bits_per_byte(b"")
