"""The scan over any monoid, here affine maps over a finite field: exact, and not commuting."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import stream

from lab.scan import associative_scan, associative_scan_sequential

PRIME = 8191


def then(earlier, later):
    """Pairs of a matrix and a vector, the map h -> A h + b, modulo a prime."""
    (A1, b1), (A2, b2) = earlier, later
    return (A2 @ A1) % PRIME, ((A2 @ b1[..., None])[..., 0] + b2) % PRIME


def maps(B, T, seed):
    generator = stream(seed)
    return tuple(
        torch.randint(PRIME, shape, generator=generator) for shape in [(B, T, 2, 2), (B, T, 2)]
    )


@settings(deadline=None)
@given(B=st.integers(0, 3), T=st.integers(1, 70), seed=st.integers(0, 2**31))
def test_equals_its_definition_exactly(B, T, seed):
    elements = maps(B, T, seed)
    expected = associative_scan_sequential(then, elements)
    assert all(map(torch.equal, associative_scan(then, elements), expected))


@pytest.mark.parametrize("T", [1, 2, 3, 64, 1000, 1023])
def test_combines_fewer_than_two_pairs_per_step_in_few_calls(T):
    calls = []

    def counting(earlier, later):
        calls.append(later[0].shape[1])
        return earlier[0] + later[0], earlier[1]

    total, _ = associative_scan(counting, (torch.ones(1, T), torch.zeros(1, T)))
    assert torch.equal(total, torch.arange(1.0, T + 1)[None])
    assert sum(calls) < 2 * T
    assert len(calls) <= 2 * T.bit_length()


@pytest.mark.parametrize(
    "elements",
    [(), (torch.zeros(2),), (torch.zeros(2, 0),), (torch.zeros(2, 3), torch.zeros(2, 4))],
)
@pytest.mark.parametrize("scan", [associative_scan, associative_scan_sequential])
def test_elements_of_different_or_no_length_are_named(scan, elements):
    with pytest.raises(ValueError, match=r"must be tensors \(B, T, ...\) with the same T > 0"):
        scan(then, elements)
