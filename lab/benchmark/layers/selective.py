"""Mamba's layer and the scan inside it as benchmark problems, beside those of mamba.py."""

import importlib.util
import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lab.benchmark.problem import Contender, Problem, Shape, bytes_of_a_layer
from lab.benchmark.scans.draws import normal
from lab.mixers import Mamba, unroll
from lab.scan import selective_scan
from lab.scan.selective import selective_scan_sequential
from lab.seeding import stream

STATES = 16  # N of a channel
CONVOLUTION = 4  # steps


def layer_problem(width: int) -> Problem:
    """The whole layer: dense maps, short convolution, scan, gate.

    Both have the published sizes, with as many channels inside as outside, and compute the same
    map: ours has one matrix W' for the steps where mamba.py has a product of two, of rank D / 16.
    """
    layer, down, up = _layer(width)
    return Problem(
        name="selective layer",
        draw=lambda shape, generator, dtype: [normal(shape, generator, dtype)],
        ours=layer,
        loop=_Unrolled(layer),
        rivals={"mambapy": Contender(_mambapy(layer, down, up), **_OF_MAMBAPY)},
        moved=bytes_of_a_layer,
    )


def core_problem(width: int) -> Problem:
    """The selective scan alone: steps, softplus included, B, C and u to y."""
    core = _Core(width)
    return Problem(
        name="selective core",
        draw=_draw_core,
        ours=core,
        loop=_CoreLoop(core),
        rivals={"mambapy": Contender(_CoreOfMambapy(core), **_OF_MAMBAPY)},
        moved=bytes_of_a_layer,
    )


def elements(shape: Shape) -> int:
    """B T D N of a shape B x T x D: how often the core multiplies a state by a gain."""
    return math.prod(shape) * STATES


_OF_MAMBAPY: dict[str, Any] = {"module": "mambapy", "package": "mambapy"}


def _layer(width: int) -> tuple[Mamba, Tensor, Tensor]:
    """Our layer with weights that mamba.py can have as well, and the factors of W'."""
    g = stream(0, "init")
    layer = Mamba(
        width, d_state=STATES, convolution=CONVOLUTION, gate="silu", gate_start=0.0, generator=g
    )
    rank = math.ceil(width / 16)
    down, up = (normal(shape, g, torch.float32) for shape in ((rank, width), (width, rank)))
    down, up = down / width**0.5, up / rank**0.5
    with torch.no_grad():
        layer.dt.weight.copy_(up @ down)
        assert layer.gate is not None
        assert layer.gate.weight is not None
        layer.gate.weight.copy_(normal((width, width), g, torch.float32) / width**0.5)
    return layer, down, up


def _mambapy(layer: Mamba, down: Tensor, up: Tensor) -> nn.Module:
    """The block of mamba.py with the weights of our layer; nothing where it is not installed."""
    if importlib.util.find_spec("mambapy") is None:
        return nn.Identity()
    from mambapy.mamba import MambaBlock, MambaConfig

    with torch.random.fork_rng():  # it draws weights, which are replaced
        settings = {"d_state": STATES, "expand_factor": 1, "d_conv": CONVOLUTION}
        block: nn.Module = MambaBlock(MambaConfig(layer.d_model, n_layers=1, **settings))
    gate, convolution = layer.gate, layer.convolution
    assert gate is not None
    assert gate.weight is not None
    assert convolution is not None
    assert convolution.bias is not None
    weights = {
        "in_proj.weight": torch.cat([layer.u.weight, gate.weight]),
        "conv1d.weight": convolution.kernel.flip(0).mT[:, None],
        "conv1d.bias": convolution.bias,
        "x_proj.weight": torch.cat([down, layer.B.weight, layer.C.weight]),
        "dt_proj.weight": up,
        "dt_proj.bias": layer.dt.bias,
        "A_log": layer.log_A,
        "D": layer.D,
        "out_proj.weight": layer.out.weight,
    }
    block.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()})
    return block


class _Unrolled(nn.Module):
    """A layer by its step form."""

    def __init__(self, layer: Mamba) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return unroll(self.layer, x)


class _Core(nn.Module):
    """The scan of lab.scan, whose A and D are parameters."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.A = nn.Parameter(-torch.arange(1.0, STATES + 1).repeat(width, 1))
        self.D = nn.Parameter(torch.ones(width))

    def forward(self, delta: Tensor, B: Tensor, C: Tensor, u: Tensor) -> Tensor:
        y: Tensor = selective_scan(
            u, delta, self.A, B, C, self.D, delta_softplus=True, time_first=True
        )
        return y


class _CoreLoop(nn.Module):
    """The same by its definition."""

    def __init__(self, core: _Core) -> None:
        super().__init__()
        self.core = deepcopy(core)

    def forward(self, delta: Tensor, B: Tensor, C: Tensor, u: Tensor) -> Tensor:
        A, D = self.core.A, self.core.D
        y: Tensor = selective_scan_sequential(
            u, delta, A, B, C, D, delta_softplus=True, time_first=True
        )
        return y


class _CoreOfMambapy(nn.Module):
    """The same by the parallel scan of mamba.py, over states that are all in memory."""

    def __init__(self, core: _Core) -> None:
        super().__init__()
        self.core = deepcopy(core)

    def forward(self, delta: Tensor, B: Tensor, C: Tensor, u: Tensor) -> Tensor:
        from mambapy.mamba import MambaBlock

        A, D = self.core.A, self.core.D
        # It uses nothing of the block.
        y: Tensor = MambaBlock.selective_scan(None, u, softplus(delta), A, B, C, D)
        return y


def _draw_core(shape: Shape, generator: torch.Generator, dtype: torch.dtype) -> list[Tensor]:
    """delta, B, C and u: a softplus of delta is between 0.001 and 0.1 in most steps."""
    size, T, D = shape
    low, high = math.log(1e-3), math.log(1e-1)
    step = torch.rand((size, T, D), generator=generator, dtype=dtype) * (high - low) + low
    B, C = (normal((size, T, STATES), generator, dtype) for _ in range(2))
    return [step.exp().expm1().log(), B, C, normal((size, T, D), generator, dtype)]
