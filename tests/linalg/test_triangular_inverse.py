"""Inverses of unit lower triangular matrices against the dense one, and what rounding does."""

import re
from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.linalg.rounding import product_in, rounded
from lab.linalg.triangular_inverse import (
    exact_steps,
    inverse_by_doubling,
    inverse_by_substitution,
    newton_schulz,
    newton_schulz_iterates,
    powers_hump,
    solve_by_substitution,
    solve_in_blocks,
)

REAL = torch.float64
patient = settings(deadline=None, max_examples=30)
seeds = st.integers(0, 2**31)
sizes = st.integers(1, 33)


def strictly_lower(C, seed, batch=(), scale=0.3):
    return scale * torch.randn(*batch, C, C, dtype=REAL, generator=stream(seed)).tril(-1)


def of_keys(C, likeness, seed=0, N=64, reflect=True):
    """L of the delta rule, for keys that are partly one and the same."""
    generator = stream(seed)
    k = torch.randn(C, N, dtype=REAL, generator=generator)
    one = torch.randn(N, dtype=REAL, generator=generator)
    k = (
        torch.nn.functional.normalize(k, dim=-1) * (1 - likeness**2) ** 0.5
        + likeness * one / one.norm()
    )
    k = torch.nn.functional.normalize(k, dim=-1)
    beta = (1 + reflect) * torch.randn(C, 1, dtype=REAL, generator=generator).sigmoid()
    return (beta * (k @ k.mT)).tril(-1)


def dense_inverse(below):
    return torch.linalg.inv(torch.eye(below.shape[-1], dtype=below.dtype) + below)


INVERSES = {
    "substitution": inverse_by_substitution,
    "doubling": inverse_by_doubling,
    "Newton-Schulz": lambda below: newton_schulz(below, exact_steps(below.shape[-1])),
    "blocks of 1": lambda below: in_blocks(below, 1),
    "blocks of 4": lambda below: in_blocks(below, 4),
    "one block": lambda below: in_blocks(below, below.shape[-1]),
}


def in_blocks(below, block):
    eye = torch.eye(below.shape[-1], dtype=below.dtype).expand_as(below)
    return solve_in_blocks(below, eye, block=block)


@pytest.mark.parametrize("name", INVERSES)
@patient
@given(sizes, seeds)
@example(1, 0)
@example(2, 0)
@example(32, 0)
@example(33, 0)
def test_every_form_is_the_dense_inverse(name, C, seed):
    below = strictly_lower(C, seed)
    assert gap(INVERSES[name](below), dense_inverse(below)) < 1e-12


@pytest.mark.parametrize("name", INVERSES)
def test_batches_are_inverted_one_by_one(name):
    below = strictly_lower(5, 1, batch=(2, 3))
    found = INVERSES[name](below)
    alone = torch.stack([torch.stack([INVERSES[name](each) for each in row]) for row in below])
    assert gap(found, alone) < 1e-14


@pytest.mark.parametrize("name", INVERSES)
@pytest.mark.parametrize("C", [1, 2, 5])
def test_gradients_match_finite_differences(name, C):
    below = strictly_lower(C, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: INVERSES[name](x.tril(-1)), [below])


@patient
@given(st.sampled_from([1, 2, 4, 8]), sizes, st.integers(1, 5), seeds)
def test_blocks_solve_what_substitution_solves(block, C, M, seed):
    below = strictly_lower(C, seed, batch=(2,))
    right = torch.randn(2, C, M, dtype=REAL, generator=stream(seed))
    expected = solve_by_substitution(below, right)
    for invert in (inverse_by_substitution, inverse_by_doubling):
        assert gap(solve_in_blocks(below, right, block=block, invert=invert), expected) < 1e-12


def test_the_residual_is_squared_and_newton_schulz_is_doubling_in_exact_arithmetic():
    # Whole numbers below 2^53: nothing is rounded.
    below = torch.randint(-1, 2, (9, 9), generator=stream(3)).to(REAL).tril(-1)
    iterates = newton_schulz_iterates(below)
    for power in (2, 4, 8, 16):
        inverse, residual = next(iterates)
        assert torch.equal(residual, torch.linalg.matrix_power(below, power))
    assert torch.equal(inverse, inverse_by_doubling(below))


@pytest.mark.parametrize(("C", "steps"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (64, 5), (65, 6)])
def test_the_number_of_exact_steps(C, steps):
    assert exact_steps(C) == steps
    shift = torch.ones(C - 1, dtype=REAL).diag(-1)  # of which no power but the C-th is zero
    assert gap(newton_schulz(shift, steps), dense_inverse(shift)) < 1e-12
    if steps:
        assert gap(newton_schulz(shift, steps - 1), dense_inverse(shift)) > 0.5


@pytest.mark.parametrize("product", [torch.matmul, product_in(torch.bfloat16)])
def test_iterates_stay_exactly_unit_lower_triangular(product):
    below = of_keys(32, 0.9).float()
    for _, (inverse, residual) in zip(
        range(8), newton_schulz_iterates(below, product), strict=False
    ):
        assert torch.equal(inverse.triu(), torch.eye(32))
        assert torch.equal(residual.triu(), torch.zeros(32, 32))


# Over three seeds: at most 7e-7 by substitution and 2e-7 by Newton and Schulz, at least 5e6 by
# doubling.
@pytest.mark.parametrize("likeness", [0.9, 1.0])
def test_in_single_precision_newton_schulz_repairs_what_doubling_keeps(likeness):
    below = of_keys(64, likeness)
    exact = inverse_by_substitution(below)
    safe = (inverse_by_substitution, partial(newton_schulz, steps=12))
    for inverse in safe:
        assert gap(inverse(below.float()).double(), exact) < 1e-5
    assert not gap(inverse_by_doubling(below.float()).double(), exact) < 1


# Measured: 1e-2 and 2e-7.
def test_two_steps_in_single_precision_bring_back_the_digits_that_bfloat16_lost():
    below = of_keys(64, 0.99)
    exact, low = inverse_by_substitution(below), product_in(torch.bfloat16)
    found = newton_schulz(below.float(), 20, low)
    assert 1e-4 < gap(found.double(), exact) < 0.2
    assert gap(newton_schulz(below.float(), 2, start=found).double(), exact) < 1e-5


def test_blocks_of_one_row_are_substitution_with_products_that_round():
    below, right = of_keys(32, 0.9).float(), torch.randn(32, 4, generator=stream(5))
    product = product_in(torch.bfloat16)
    found = solve_in_blocks(below, right, block=1, product=product)
    rows = []
    for i in range(32):
        earlier = torch.stack(rows) if rows else torch.zeros(0, 4)
        rest = right[i : i + 1] - product(below[i : i + 1, :i], earlier)
        rows.append(rounded(rest, torch.bfloat16)[0])
    assert torch.equal(found, torch.stack(rows))
    assert torch.equal(found, found.bfloat16().float())


def test_the_hump_is_the_largest_entry_of_any_power():
    below = of_keys(12, 0.9)
    powers = [torch.linalg.matrix_power(below, n).abs().max() for n in range(1, 12)]
    assert powers_hump(below).item() == pytest.approx(max(powers).item())
    assert powers_hump(torch.stack([below, 0 * below])).tolist()[1] == 0


def test_products_round_their_factors_and_their_result():
    one, other = torch.randn(2, 8, 8, generator=stream(4))
    found = product_in(torch.bfloat16)(one, other)
    assert torch.equal(found, found.bfloat16().float())
    expected = one.bfloat16().double() @ other.bfloat16().double()
    # Half a unit in the last of eight places.
    assert ((found - expected).abs() <= 2**-8 * expected.abs() + 1e-6).all()
    z = torch.complex(one, other)
    assert torch.equal(rounded(z, torch.bfloat16).imag, other.bfloat16().float())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inverse_by_substitution(torch.zeros(2, 3)), "L (2, 3) must be square"),
        (lambda: newton_schulz(torch.zeros(2, 2), -1), "steps is -1; it must be at least 0"),
        (
            lambda: solve_in_blocks(torch.zeros(6, 6), torch.zeros(6, 1), block=0),
            "block is 0; it must be at least 1",
        ),
    ],
)
def test_bad_input_stops_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
