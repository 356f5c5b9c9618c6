"""Time in chunks, and sums of decays between steps."""

import torch
from numeric import gap, stream

from lab.linalg.chunks import cut, joined, segment_sums

DOUBLE = torch.float64


def test_sums_between_steps_are_those_of_the_definition():
    a = torch.randn(2, 9, generator=stream(0), dtype=DOUBLE)
    sums = segment_sums(a)
    for t in range(9):
        for s in range(9):
            expected = a[:, s + 1 : t + 1].sum(-1) if s <= t else torch.full((2,), -torch.inf)
            assert gap(sums[:, t, s], expected.double()) < 1e-14


def test_a_large_sum_costs_no_digit_of_a_later_one():
    a = torch.full((64,), -0.1)
    a[0] = -1e6
    assert gap(segment_sums(a)[-1, 1:].double(), segment_sums(a.double())[-1, 1:]) < 1e-6


def test_chunks_are_filled_up_with_zeros_and_joined_again():
    x = torch.randn(2, 3, 10, 4, generator=stream(0))
    chunks = cut(x, 4)
    assert chunks.shape == (2, 3, 3, 4, 4)
    assert (chunks[..., -1, 2:, :] == 0).all()
    assert torch.equal(joined(chunks, 10), x)
    assert torch.equal(cut(x, 5), x.unflatten(-2, (2, 5)))
