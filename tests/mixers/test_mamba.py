"""Mamba's selective layer against its recurrence, channel by channel and step by step."""

import math

import pytest
import torch
from numeric import gap, stream
from torch.nn.functional import linear, silu, softplus

from lab.mixers import Mamba

D, N = 4, 3
every_width = pytest.mark.parametrize("expand", [1, 2])


def layer(expand, **settings):
    built = Mamba(D, d_state=N, expand=expand, generator=stream(0), **settings).double()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=stream(1)).double()
    return built


def definition(mamba, x):
    """The layer from its parameters and its docstring alone, for the gate "silu"."""
    E, width = mamba.out.in_features, len(mamba.convolution.kernel)
    A, outputs = -mamba.log_A.exp(), []
    h = torch.zeros(len(x), E, N, dtype=x.dtype)
    drawn = [torch.zeros(len(x), E, dtype=x.dtype) for _ in range(width - 1)]
    for x_t in x.unbind(1):
        drawn.append(linear(x_t, mamba.u.weight))
        latest = drawn[: -width - 1 : -1]
        u = sum(k * each for k, each in zip(mamba.convolution.kernel, latest, strict=True))
        u = silu(u + mamba.convolution.bias)
        dt = softplus(linear(u, mamba.dt.weight, mamba.dt.bias))
        B, C = linear(u, mamba.B.weight), linear(u, mamba.C.weight)
        h = (dt[..., None] * A).exp() * h + (dt * u)[..., None] * B[:, None]
        y = (h @ C[..., None])[..., 0] + mamba.D * u
        gate = silu(linear(x_t, mamba.gate.weight, mamba.gate.bias))
        outputs.append(linear(gate * y, mamba.out.weight))
    return torch.stack(outputs, dim=1)


@every_width
def test_it_is_its_definition(expand):
    mamba, x = layer(expand, convolution=4), torch.randn(2, 9, D, generator=stream(2)).double()
    assert gap(mamba(x), definition(mamba, x)) < 1e-12
    assert mamba.states(x).shape == (2, 9, expand * D, N)


@every_width
def test_it_has_as_many_parameters_as_its_maps(expand):
    E = expand * D
    found = sum(each.numel() for each in Mamba(D, d_state=N, expand=expand).parameters())
    maps = 2 * D * E + 2 * E * N + (E + 1) * E  # in and out, B and C, dt
    assert found == maps + E * N + E + (D + 1) * E  # A, D, gate


@every_width
def test_steps_start_between_a_thousandth_and_a_tenth(expand):
    start = softplus(Mamba(D, d_state=N, expand=expand, generator=stream(3)).dt.bias)
    assert len(start) == expand * D
    assert (start >= 1e-3 * (1 - 1e-4)).all()
    assert (start <= 0.1 * (1 + 1e-4)).all()


def test_expansion_one_draws_what_it_drew_before_there_was_one():
    """Maps in, out, B, C and dt, then the first steps: all square, in this order."""
    generator = stream(4)

    def uniform(*shape):
        return 1 / math.sqrt(D) * (2 * torch.rand(shape, generator=generator) - 1)

    mamba = Mamba(D, d_state=N, generator=stream(4))
    for map_, rows in ((mamba.u, D), (mamba.out, D), (mamba.B, N), (mamba.C, N), (mamba.dt, D)):
        assert torch.equal(map_.weight, uniform(rows, D))
    uniform(D)  # the bias of dt, which the first steps replace
    first = torch.rand(D, generator=generator) * math.log(100) + math.log(1e-3)
    assert torch.equal(mamba.dt.bias, first.exp().expm1().log())


@pytest.mark.parametrize("sizes", [{"d_state": 0}, {"d_state": 2, "expand": 1.5}])
def test_sizes_are_checked(sizes):
    with pytest.raises(ValueError, match=r"Mamba: .* must be"):
        Mamba(D, **sizes)
