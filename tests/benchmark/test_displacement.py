"""What is timed of Cauchy-like matrices is the same product in every way."""

import pytest
import torch

from lab.benchmark import displacement


@pytest.mark.parametrize(("n", "rank"), [(4, 1), (16, 4)])
def test_all_ways_to_multiply_give_the_same_products(n, rank):
    calls = displacement.products(n, rank, vectors=3)
    expected = calls["dense"]()
    assert expected.shape == (3, n)
    for call in calls.values():
        torch.testing.assert_close(call(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("vectors", [1, 5])
def test_the_kernel_products_are_equal_and_a_wrong_one_is_refused(vectors, monkeypatch):
    calls = displacement.kernel_products(32, vectors=vectors)
    torch.testing.assert_close(calls["fast"](), calls["dense"](), rtol=1e-3, atol=1e-2)
    monkeypatch.setattr(displacement, "fast_cauchy_product", lambda v: 1.01 * v)
    with pytest.raises(RuntimeError, match="fast products with the kernel at n = 32 are off by"):
        displacement.kernel_products(32, vectors=vectors)


def test_every_way_has_its_milliseconds_at_every_size():
    found = displacement.kernel_milliseconds([2, 8], vectors=[1, 3], rounds=1, budget=0.01)
    assert set(found) == {f"{name}, {k} vectors" for name in ("dense", "fast") for k in (1, 3)}
    assert all(list(times) == [2, 8] and min(times.values()) > 0 for times in found.values())
