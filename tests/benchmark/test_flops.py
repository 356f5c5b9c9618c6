"""Counted operations are the arithmetic of the shapes."""

import torch

from lab.benchmark.flops import counted_flops
from lab.memories import SoftmaxAttention
from lab.mixers import MultiHead
from lab.model import SwiGLU


def test_dense_layers_take_two_operations_a_weight_and_step():
    x = torch.zeros(5, 7, 6)
    assert counted_flops(lambda: SwiGLU(6, 10)(x)) == 2 * 35 * 3 * 6 * 10
    assert counted_flops(lambda: x * 2) == 0


def test_a_gate_costs_its_weights():
    x = torch.zeros(2, 5, 8)
    plain, gated = (
        MultiHead(8, SoftmaxAttention(8, heads=2, d_key=3), gate=gate)
        for gate in (None, "elementwise")
    )
    extra = counted_flops(lambda: gated(x)) - counted_flops(lambda: plain(x))
    assert extra == 2 * 10 * 8 * 6
