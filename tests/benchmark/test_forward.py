"""Forward passes side by side: all of them run, without gradients, and the slow one is slower."""

import torch
from torch import nn

from lab.benchmark.forward import forward_milliseconds


class Repeats(nn.Module):
    """A product of matrices, some times over."""

    def __init__(self, times):
        super().__init__()
        self.times, self.saw_gradients = times, False
        self.weight = nn.Parameter(torch.eye(64) / 2)

    def forward(self, x):
        for _ in range(self.times):
            x = x @ self.weight
        self.saw_gradients |= x.requires_grad
        return x


def test_each_module_has_its_milliseconds_and_no_gradients():
    modules = {"once": Repeats(1), "often": Repeats(60)}
    found = forward_milliseconds(modules, torch.ones(64, 64), rounds=5, budget=0.5)
    assert list(found) == ["once", "often"]
    assert 0 < found["once"] < found["often"] < 1000
    assert not any(module.saw_gradients for module in modules.values())
