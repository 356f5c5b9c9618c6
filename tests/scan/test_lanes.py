"""Powers of two in registers, in units of the last place, and at the ends of the range."""

import numpy as np
import pytest

from lab.scan.cpu.lanes import load, power, spread, store, total, width
from lab.scan.cpu.threads import kernel

every_type = pytest.mark.parametrize("real", [np.float32, np.float64])


@kernel
def powers(x, y):
    for at in range(0, len(x), width(x)):
        store(y, at, power(load(x, at)))


@kernel
def weighted_sum(x, y, constant):
    products = load(x, 0) * load(y, 0) + spread(constant)
    return total(products - load(x, 0)), width(x)


def of(x):
    y = np.zeros_like(x)
    powers(x, y)
    return y


# Worst of 1,800,000 draws: 1.2 and 1.3.
@every_type
@pytest.mark.parametrize("reach", [1e-3, 1, 100])
def test_powers_are_exact_but_for_the_last_place(real, reach):
    x = np.random.default_rng(0).uniform(-reach, reach, 8000).astype(real)
    exact = np.exp2(x.astype(np.longdouble))
    units = np.abs(of(x) - exact) / np.spacing(exact.astype(real))
    assert units.max() < 2


@every_type
def test_the_ends_of_the_range(real):
    info = np.finfo(real)
    x = np.array([0, -1, info.maxexp - 1, 1e30, np.inf, -1e30, -np.inf, np.nan], real)
    y = of(x)
    assert y[:3].tolist() == [1, 0.5, 2.0 ** (info.maxexp - 1)]
    assert (y[3:5] > 0.999 * info.max).all()
    assert (y[3:5] <= info.max).all()
    # Not zero, but less than any state would notice.
    assert (y[5:7] > 0).all()
    assert (y[5:7] <= 4 * info.tiny).all()
    assert np.isnan(y[7])


@every_type
def test_arithmetic_of_neighbours(real):
    x, y = np.arange(32).astype(real), np.arange(32, 64).astype(real)
    result, numbers = weighted_sum(x, y, real(2))
    assert numbers == 32 // x.itemsize
    assert result == (x * y + 2 - x)[:numbers].sum()
