"""exp and log1p of the kernels against arithmetic with 50 digits or more."""

import re
from decimal import Decimal, localcontext

import numba
import numpy as np
import pytest

from lab.scan.cpu.exponential import log_add, shares

INF, NAN = np.inf, np.nan
types = pytest.mark.parametrize("real", [np.float32, np.float64])


@numba.njit
def add_all(x, y, total):
    for n in range(x.shape[0]):
        total[n] = log_add(x[n], y[n])


@numba.njit
def share_all(x, y, of_x, of_y):
    for n in range(x.shape[0]):
        of_x[n], of_y[n] = shares(x[n], y[n])


def added(x, y):
    total = np.empty_like(x)
    add_all(x, y, total)
    return total


def shared(x, y):
    both = np.empty_like(x), np.empty_like(x)
    share_all(x, y, *both)
    return both


def draws(real):
    """Differences of all sizes, up to where exp is below the smallest normal number."""
    random, largest = np.random.default_rng(0), -np.log(np.finfo(real).tiny)
    size = np.concatenate([random.uniform(0, 2, 2000), random.uniform(0, largest - 1, 2000)])
    return (size * random.choice([-1, 1], size.size)).astype(real)


def units(actual, exact, of):
    """The largest error in units of the last place of `of`."""
    pairs = zip(actual, exact, np.spacing(np.abs(of)), strict=True)
    with localcontext(prec=50):
        return max(abs((Decimal(float(a)) - e) / Decimal(float(unit))) for a, e, unit in pairs)


def log1p(u):
    """log1p of a Decimal; a small one would lose its digits if 1 were added."""
    return (1 + u).ln() if u > Decimal("1e-20") else u - u * u / 2 + u * u * u / 3


# Found: 2.6 for the shares and 2.4 for sums, in both types. They are two roundings each (of 1 + e,
# and of a quotient or a product) on top of an exp that is good to 0.9.
@types
def test_shares_are_exact_to_three_units(real):
    d = draws(real)
    with localcontext(prec=50):
        exact = [1 / (1 + Decimal(float(-x)).exp()) for x in d]
    of_x, of_y = shared(d, np.zeros_like(d))
    assert units(of_x, exact, of_x) < 3
    assert all(map(np.array_equal, shared(np.zeros_like(d), d), (of_y, of_x)))
    np.testing.assert_allclose(of_x + of_y, 1, rtol=0, atol=np.finfo(real).eps)


@types
def test_sums_of_logarithms_are_exact_to_three_units(real):
    d = -np.abs(draws(real))
    with localcontext(prec=50):
        exact = [log1p(Decimal(float(x)).exp()) for x in d]
    zero = np.zeros_like(d)
    total = added(d, zero)  # log1p(exp(d)), with all its digits however small it is
    assert units(total, exact, total) < 3
    assert np.array_equal(added(zero, d), total)
    offset = np.random.default_rng(1).standard_normal(d.size).astype(real)
    x = d + offset
    with localcontext(prec=50):
        pairs = [(Decimal(float(a)), Decimal(float(b))) for a, b in zip(x, offset, strict=True)]
        exact = [b + log1p((a - b).exp()) for a, b in pairs]
    total = added(x, offset)
    # What is added may cancel: the error is one of the larger of the two terms.
    largest = np.maximum.reduce([np.abs(total), np.abs(offset), np.abs(total - offset)])
    assert units(total, exact, largest) < 3


@types
def test_infinities_and_nan(real):
    x, y, total, of_x, of_y = np.array(
        [
            (-INF, -INF, -INF, 0, 0),
            (INF, INF, INF, 0, 0),
            (-INF, 1, 1, 0, 1),
            (INF, 1, INF, 1, 0),
            (INF, -INF, INF, 1, 0),
            (NAN, 1, NAN, NAN, NAN),
            (NAN, -INF, NAN, NAN, NAN),
            (NAN, INF, NAN, NAN, NAN),
            (NAN, NAN, NAN, NAN, NAN),
            (1e30, -1e30, 1e30, 1, 0),
        ],
        dtype=real,
    ).T.copy()
    np.testing.assert_array_equal(added(x, y), total)
    np.testing.assert_array_equal(added(y, x), total)
    np.testing.assert_array_equal(shared(x, y), (of_x, of_y))
    np.testing.assert_array_equal(shared(y, x), (of_y, of_x))


@pytest.mark.parametrize("function", [add_all, share_all])
@types
def test_a_row_takes_several_numbers_at_a_time(function, real):
    arrays = [np.ones(64, real)] * len(function.py_func.__code__.co_varnames[:-1])
    function(*arrays)
    signature = next(s for s in function.signatures if s[0].dtype.name == real.__name__)
    code = function.inspect_llvm(signature)
    name = {np.float32: "float", np.float64: "double"}[real]
    assert re.search(rf"fmul .*<\d+ x {name}>", code)


@types
def test_the_python_names_say_that_they_are_for_kernels(real):
    for function in (log_add, shares):
        with pytest.raises(NotImplementedError, match=f"{function.__name__} runs in compiled"):
            function(real(0), real(0))
