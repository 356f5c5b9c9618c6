"""The WY form of a chunk against the product of its steps."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.linalg.triangular_inverse import inverse_by_doubling
from lab.linalg.wy_form import wy_form

REAL = torch.float64
patient = settings(deadline=None, max_examples=30)
sizes = (st.integers(1, 3), st.integers(1, 40), st.integers(1, 5), st.integers(1, 4))
seeds = st.integers(0, 2**31)


def problem(B, C, N, M, seed):
    """Unit keys, values, gains up to 2, and a state."""
    generator = stream(seed)

    def normal(*shape):
        return torch.randn(shape, dtype=REAL, generator=generator)

    unit = torch.nn.functional.normalize(normal(B, C, N), dim=-1)
    return unit, normal(B, C, M), 2 * normal(B, C).sigmoid(), normal(B, N, M)


@patient
@given(st.builds(problem, *sizes, seeds))
def test_the_product_of_all_steps_and_the_state_after_them(inputs):
    k, v, beta, S = inputs
    W, U = wy_form(k, v, beta)
    eye = torch.eye(k.shape[-1], dtype=REAL)
    product, state = eye.expand(len(k), -1, -1), S
    for t in range(k.shape[1]):
        key, gain = k[:, t, :, None], beta[:, t, None, None]
        A = eye - gain * key @ key.mT
        product, state = A @ product, A @ state + gain * key @ v[:, t, None]
    assert gap(eye - k.mT @ W, product) < 1e-12
    assert gap(S + k.mT @ (U - W @ S), state) < 1e-12


def test_the_solve_is_given_nothing_on_or_above_the_diagonal():
    k, v, beta, _ = problem(2, 4, 3, 2, seed=0)
    seen = []

    def solve(below, right):
        seen.append(below)
        return inverse_by_doubling(below) @ right

    found, known = wy_form(k, v, beta, solve), wy_form(k, v, beta)
    assert max(map(gap, found, known)) < 1e-12
    assert torch.equal(seen[0], seen[0].tril(-1))
