"""The counted sizes of states are those that the papers state."""

import pytest
import torch
from numeric import stream

from lab.audit.state_size import state_bytes
from lab.memories import CosFormer, DeltaRule, LinearAttention, SoftmaxAttention
from lab.mixers import Mamba, MultiHead, StateSpace
from lab.model import SequenceModel
from lab.transitions import PolarDiagonal

D, H, K, M = 6, 2, 3, 4
MIXERS = {  # and the numbers that they hold after 10 steps
    "softmax attention": (
        lambda: MultiHead(D, SoftmaxAttention(D, heads=H, d_key=K, d_value=M)),
        10 * H * (K + M),
    ),
    "linear attention": (
        lambda: MultiHead(D, LinearAttention(D, heads=H, d_key=K, d_value=M)),
        H * K * (M + 1),
    ),
    "cosFormer": (
        lambda: MultiHead(D, CosFormer(D, heads=H, d_key=K, d_value=M, horizon=16)),
        2 * H * K * (M + 1),
    ),
    "delta rule": (lambda: MultiHead(D, DeltaRule(D, heads=H, d_key=K, d_value=M)), H * K * M),
    "window": (
        lambda: MultiHead(D, DeltaRule(D, heads=H, d_key=K, d_value=M), convolution=4, shift=True),
        H * K * M + 3 * H * (2 * K + M) + D,
    ),
    "selective diagonal": (lambda: Mamba(D, d_state=5, convolution=3), D * 5 + 2 * D),
    "complex modes": (lambda: StateSpace(D, PolarDiagonal(D, d_state=8)), 8),
}


@pytest.mark.parametrize("name", MIXERS)
def test_it_is_the_number_of_the_papers(name):
    build, numbers = MIXERS[name]
    x = torch.randn(3, 10, D, generator=stream(0))
    assert state_bytes(build(), x) == 4 * numbers
    assert state_bytes(build().double(), x.double()) == 8 * numbers


def test_that_of_a_model_is_that_of_its_layers():
    mixers = [MIXERS[name][0]() for name in ("delta rule", "complex modes")]
    model = SequenceModel(5, 5, D, mixers, positions=12)
    tokens = torch.zeros(1, 10, dtype=torch.int64)
    assert state_bytes(model, tokens) == 4 * (H * K * M + 8)
