"""The WY form of a chunk against the product of its steps, and the delta rule by any solve."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.linalg.delta_rule import delta_rule_sequential
from lab.linalg.triangular_inverse import (
    inverse_by_doubling,
    newton_schulz,
    solve_by_substitution,
    solve_in_blocks,
)
from lab.linalg.wy_form import delta_rule_by, wy_form

REAL = torch.float64
patient = settings(deadline=None, max_examples=30)
sizes = (st.integers(1, 3), st.integers(1, 40), st.integers(1, 5), st.integers(1, 4))
seeds = st.integers(0, 2**31)


def problem(B, T, N, M, seed):
    generator = stream(seed)

    def normal(*shape):
        return torch.randn(shape, dtype=REAL, generator=generator)

    unit = torch.nn.functional.normalize(normal(B, T, N), dim=-1)
    return normal(B, T, N), unit, normal(B, T, M), 2 * normal(B, T).sigmoid(), normal(B, N, M)


def by_inverse(invert):
    return lambda below, right: invert(below) @ right


SOLVES = {
    "substitution": solve_by_substitution,
    # In whole chunks doubling is no solve: where keys repeat it loses every digit.
    "doubling in blocks": partial(solve_in_blocks, block=4, invert=inverse_by_doubling),
    "Newton-Schulz": by_inverse(partial(newton_schulz, steps=6)),
    "blocks": partial(solve_in_blocks, block=4),
}


@patient
@given(st.builds(problem, *sizes, seeds))
def test_the_product_of_all_steps_and_the_state_after_them(inputs):
    _, k, v, beta, S = inputs
    W, U = wy_form(k, v, beta)
    product = torch.eye(k.shape[-1], dtype=REAL).expand(len(k), -1, -1)
    state = S
    for t in range(k.shape[1]):
        key, gain = k[:, t, :, None], beta[:, t, None, None]
        A = torch.eye(k.shape[-1], dtype=REAL) - gain * key @ key.mT
        product, state = A @ product, A @ state + gain * key @ v[:, t, None]
    assert gap(torch.eye(k.shape[-1], dtype=REAL) - k.mT @ W, product) < 1e-12
    assert gap(S + k.mT @ (U - W @ S), state) < 1e-12


# Worst in 400 draws: 2e-14 and 6e-6.
@pytest.mark.parametrize(("dtype", "most"), [(REAL, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", SOLVES)
@patient
@given(st.builds(problem, *sizes, seeds), st.sampled_from([4, 8, 16]))
def test_every_solve_gives_the_loop(dtype, most, name, inputs, chunk):
    found = delta_rule_by(SOLVES[name], *(x.to(dtype) for x in inputs), chunk=chunk)
    exact = delta_rule_sequential(*inputs)
    assert max(gap(a.double(), e) for a, e in zip(found, exact, strict=True)) < most


@pytest.mark.parametrize("name", SOLVES)
def test_gradients_match_finite_differences(name):
    inputs = [x.requires_grad_() for x in problem(2, 5, 3, 2, seed=1)]
    call = partial(delta_rule_by, SOLVES[name], chunk=4)
    assert torch.autograd.gradcheck(call, inputs)


def test_without_an_initial_state_it_starts_from_zero_and_chunks_have_a_step():
    *inputs, initial = problem(2, 9, 3, 2, seed=3)
    alone, given_zero = (
        delta_rule_by(solve_by_substitution, *inputs, *state, chunk=4)
        for state in ((), (torch.zeros_like(initial),))
    )
    assert all(map(torch.equal, alone, given_zero))
    with pytest.raises(ValueError, match="chunk must be at least 1 step, got 0"):
        delta_rule_by(solve_by_substitution, *inputs, chunk=0)
