"""Products weighted by decays, in chunks, against the loop over steps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.linalg.chunks import segment_sums
from lab.memories.decay import decayed_product

DOUBLE = torch.float64


def problem(T, scale, seed, batch=(2,)):
    """q, k, v and log gains, whose sizes are spread over several orders of magnitude."""
    generator = stream(seed)
    shapes = [(*batch, T, 3), (*batch, T, 3), (*batch, T, 2)]
    parts = [torch.randn(shape, generator=generator, dtype=DOUBLE) for shape in shapes]
    return *parts, -scale * torch.randn(*batch, T, generator=generator, dtype=DOUBLE).exp()


def recurrence(q, k, v, a):
    """S[t] = exp(a[t]) S[t-1] + k[t] v[t]^T, one step after another."""
    S, reads = torch.zeros(*q.shape[:-2], 3, 2, dtype=q.dtype), []
    for t in range(q.shape[-2]):
        S = a[..., t, None, None].exp() * S + k[..., t, :, None] * v[..., t, None, :]
        reads.append((q[..., t, :, None] * S).sum(-2))
    return torch.stack(reads, dim=-2)


@settings(deadline=None, max_examples=150)
@given(
    T=st.integers(1, 70), chunk=st.integers(1, 71), scale=st.sampled_from([1e-3, 0.1, 1, 30, 1e4]),
    seed=st.integers(0, 2**31), batch=st.sampled_from([(), (2,), (0,), (2, 3)]),
)  # fmt: skip
def test_every_chunk_gives_the_recurrence(T, chunk, scale, seed, batch):
    q, k, v, a = problem(T, scale, seed, batch)
    assert gap(decayed_product(q, k, v, a, chunk=chunk), recurrence(q, k, v, a)) < 1e-12
    nothing = torch.zeros_like(a)
    assert gap(decayed_product(q, k, v, chunk=chunk), recurrence(q, k, v, nothing)) < 1e-12


@pytest.mark.parametrize("T", [1, 5, 9])
def test_gradients_match_finite_differences(T):
    inputs = [part.requires_grad_() for part in problem(T, 0.5, seed=0)]
    assert torch.autograd.gradcheck(lambda *parts: decayed_product(*parts, chunk=4), inputs)
    assert torch.autograd.gradcheck(lambda *p: decayed_product(*p, chunk=4), inputs[:3])


def test_gradients_survive_gains_that_underflow():
    inputs = [part.float().requires_grad_() for part in problem(100, 1e4, seed=0)]
    decayed_product(*inputs).square().sum().backward()
    assert all(part.grad.isfinite().all() for part in inputs)


# Worst of 20 seeds: 2e-6. Sums from step 0 on, as far as 2e6, would leave no digit at all.
def test_single_precision_keeps_its_digits_after_strong_decays():
    for seed in range(5):
        q, k, v, a = problem(2000, 0.01, seed)
        a[..., :500] *= 1e5
        single = decayed_product(*(part.float() for part in (q, k, v, a)))
        assert gap(single.double(), recurrence(q, k, v, a)) < 2e-5


def test_sums_between_steps_are_those_of_the_definition():
    a = torch.randn(2, 9, generator=stream(0), dtype=DOUBLE)
    sums = segment_sums(a)
    for t in range(9):
        for s in range(9):
            expected = a[:, s + 1 : t + 1].sum(-1) if s <= t else torch.full((2,), -torch.inf)
            assert gap(sums[:, t, s], expected.double()) < 1e-14


def test_several_problems_at_once_under_vmap():
    q, k, v, a = problem(40, 0.5, seed=0, batch=(3, 2))
    together = torch.vmap(lambda *parts: decayed_product(*parts, chunk=8))(q, k, v, a)
    assert gap(together, decayed_product(q, k, v, a, chunk=8)) < 1e-13


def test_a_chunk_has_a_step():
    with pytest.raises(ValueError, match="the chunk is 0 steps; it must be at least 1"):
        decayed_product(*problem(3, 1, seed=0), chunk=0)
