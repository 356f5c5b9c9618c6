"""A million steps in single precision: what the docstrings and README promise, and no more.

Adding one small number after another to a large state loses the same digits every time. Kernels
carry more digits than they store, so that even a million steps cost about one rounding.
"""

import pytest
import torch

from lab import scan

T = 1_000_000
# Relative to the largest result: half a unit in the last place is 6e-8. Found: 3.8e-8 where states
# are carried in double precision; 9e-7 by blocks and trees, and 6.3e-6 by trees of logarithms.
CARRIED, COMPOSED, LOGARITHMS = 1.2e-7, 3e-6, 2e-5
step = torch.arange(1, T + 1, dtype=torch.float64)


def error(actual, expected):
    """The largest error, relative to the largest expected number."""
    return ((actual.double() - expected).abs().max() / expected.abs().max()).item()


def tenths(*shape):
    return torch.full((1, T, *shape), 0.1)


SUMS = step * tenths()[0, 0].double()
ones = torch.ones(1, T, 2)
eye = torch.eye(2)
# A cumulative sum of tenths, as every scan with gains computes it: at 0.1 a step float32 alone
# ends at 100,958.
OF_TENTHS = {
    "linear_scan": (ones, tenths(2)),
    "matrix_scan": (eye.expand(1, T, 2, 2), tenths(2)),
    "matrix_scan of all steps": (eye[None, None], tenths(2)),
    "block_scan": (eye.expand(1, T, 1, 2, 2), tenths(2)),
    "pair_scan": (eye[..., None].expand(1, T, 2, 2, 1), tenths(2, 1)),
    "permutation_scan": (torch.tensor([1, 0]).expand(1, T, 2), ones, tenths(2)),
    "scatter_scan": (torch.tensor([1, 0]).expand(1, T, 2), ones, tenths(2)),
    "householder_scan": (torch.zeros(1, T, 1), torch.ones(1, T, 1, 2), tenths(2)),
    "monarch_scan": (ones[..., :1, None, None], ones[..., :1, None, None], tenths(1)),
    "linear_scan of complex numbers": (ones + 0j, tenths(2) + 0j),
    "linear_scan of many columns": (torch.ones(1, T, 16), tenths(16)),
}


@pytest.mark.parametrize("which", OF_TENTHS)
def test_a_sum_of_a_million_tenths(which):
    h = getattr(scan, which.split()[0])(*OF_TENTHS[which])
    h = h.real if h.is_complex() else h
    assert error(h.flatten(2), SUMS[None, :, None]) < CARRIED


@pytest.mark.parametrize(
    "name", ["linear_scan", "pair_scan", "block_scan", "permutation_scan", "scatter_scan"]
)
def test_a_tree_is_as_good_but_for_the_digits_it_joins(name):
    h = getattr(scan, f"{name}_associative")(*OF_TENTHS[name])
    assert error(h.flatten(2), SUMS[None, :, None]) < COMPOSED


def test_blocks_are_too():
    h = scan.matmul_scan(torch.ones(1, T), tenths(2))
    assert error(h, SUMS[None, :, None]) < COMPOSED


# Error in logarithms is the relative error of what they stand for: log_scan was off by 5.5 %.
@pytest.mark.parametrize("columns", [1, 16])
@pytest.mark.parametrize("form", [scan.log_scan, scan.log_scan_associative])
def test_the_logarithm_of_a_million(form, columns):
    zeros = torch.zeros(1, T, columns)
    gap = (form(zeros, zeros).double() - step.log()[:, None]).abs().max()
    assert gap < (1e-6 if form is scan.log_scan else LOGARITHMS)


def test_logarithms_that_fade_all_the_time():
    # h = log(1 + e^a + e^2a + ...) with a float32 decay that keeps 1e5 steps: nothing builds up.
    decay = torch.full((1, T, 1), -1e-5)
    expected = (-torch.expm1(decay[0, 0, 0].double() * step)).log() - (
        -torch.expm1(decay[0, 0, 0].double())
    ).log()
    gap = (scan.log_scan(decay, torch.zeros(1, T, 1)).double()[0, :, 0] - expected).abs().max()
    assert gap < 1e-6


@pytest.mark.parametrize("form", [scan.softmax_scan, scan.softmax_scan_associative])
def test_the_mean_of_a_ramp(form):
    zeros = torch.zeros(1, T, 1)
    value = torch.linspace(0, 1, T)[None, :, None, None]
    average, log_norm = form(zeros, zeros, value)
    expected = value.double().cumsum(1) / step[:, None, None]
    assert error(average, expected) < (CARRIED if form is scan.softmax_scan else COMPOSED)
    assert (log_norm.double() - step.log()[:, None]).abs().max() < LOGARITHMS


def test_the_largest_of_sums():
    a, b = tenths(2), torch.full((1, T, 2), -torch.inf)
    b[:, 0] = 0.1
    h, winner = scan.tropical_scan(a, b)
    assert error(h, SUMS[None, :, None]) < CARRIED
    assert (winner == 0).all()


def test_ties_of_rounded_states_are_ties_for_the_gradient_too():
    # After some steps the state lies between two numbers of float32, and next to b.
    a = tenths(1)[:, :1000]
    b = torch.full_like(a, -torch.inf)
    b[:, 0] = 0.1
    with torch.no_grad():
        states, _ = scan.tropical_scan(a, b)
    b[:, 1:] = states[:, 1:]
    b.requires_grad_()
    h, winner = scan.tropical_scan(a, b)
    h.sum().backward()
    came = torch.zeros_like(b).scatter_add(1, winner, torch.ones_like(b))
    assert torch.equal(b.grad, came)


def sent_back(function, *arguments, weight):
    """Gradients of the sum of all states with this weight each."""
    leaves = [
        argument.clone().requires_grad_(argument.dtype != torch.int64) for argument in arguments
    ]
    output = function(*leaves)
    output = output[0] if isinstance(output, tuple) else output
    (weight * output).sum().backward()
    return [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("which", [name for name in OF_TENTHS if "complex" not in name])
def test_gradients_add_up_over_a_million_steps(which):
    function = getattr(scan, which.split()[0])
    of_b = sent_back(function, *OF_TENTHS[which], weight=torch.tensor(0.1))[-1]
    assert error(of_b.flatten(2), SUMS.flip(0)[None, :, None]) < CARRIED


@pytest.mark.parametrize("name", ["matrix_scan", "pair_scan"])
def test_gradients_of_what_all_steps_share(name):
    A = torch.zeros(1, 1, 2, 2) if name == "matrix_scan" else torch.zeros(1, 1, 2, 2, 1)
    b = tenths(2) if name == "matrix_scan" else tenths(2, 1)
    of_A = sent_back(getattr(scan, name), A, b, weight=torch.tensor(0.1))[0]
    tenth = torch.tensor(0.1)
    expected = (T - 1) * (tenth * tenth).double()
    # Matrices add 256 outer products in single precision, then these sums in double. Found: 5.4e-7.
    assert error(of_A, expected.expand(of_A.shape)) < 2e-6


def test_every_input_has_its_share_of_the_last_logarithm():
    zeros = torch.zeros(1, T, 1)
    last = torch.zeros(1, T, 1)
    last[:, -1] = 1
    of_decay, of_score = sent_back(scan.log_scan, zeros, zeros, weight=last)
    assert error(of_score, torch.full((1, T, 1), 1 / T).double()) < 2e-6
    assert error(of_decay, ((step - 1) / T)[None, :, None]) < CARRIED
    value = torch.linspace(0, 1, T)[None, :, None, None]
    _, of_score, of_value = sent_back(
        scan.softmax_scan, zeros, zeros, value, weight=last[..., None]
    )
    assert error(of_value, torch.full((1, T, 1, 1), 1 / T).double()) < 2e-6
    assert error(of_score, ((value.double() - 0.5) / T)[..., 0]) < 2e-6


def test_a_winner_takes_all_that_a_million_steps_send():
    b = torch.full((1, T, 1), -torch.inf)
    b[:, 0] = 0
    of_a, of_b = sent_back(scan.tropical_scan, torch.zeros(1, T, 1), b, weight=torch.tensor(0.1))
    assert error(of_b[:, 0], SUMS[-1:]) < CARRIED
    assert error(of_a[0, 1:, 0], SUMS.flip(0)[1:]) < CARRIED


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    # Beyond 256 a bfloat16 does not count any more.
    a, b = torch.ones(1, 30_000, 2, dtype=dtype), torch.ones(1, 30_000, 2, dtype=dtype)
    expected = torch.arange(1, 30_001).to(dtype)[None, :, None].expand_as(a)
    for form in (scan.linear_scan, scan.linear_scan_associative):
        assert torch.equal(form(a, b), expected)
    assert torch.equal(scan.matmul_scan(a[..., 0], b), expected)
