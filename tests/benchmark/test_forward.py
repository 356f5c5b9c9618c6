"""Forward passes and steps of training side by side: all run, and the slow one is slower."""

import torch
from torch import nn

from lab.benchmark.forward import forward_milliseconds, training_milliseconds


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


def test_each_way_to_train_a_module_has_its_milliseconds_and_a_copy_of_it():
    module, seen = Repeats(60), {}

    def often(own, x):
        seen["often"] = own
        return own(x)

    def once(own, x):
        seen["once"] = own
        return x @ own.weight

    before, x = module.weight.clone(), torch.ones(64, 64)
    forms = {"once": once, "often": often}
    found = training_milliseconds(forms, module, x, x, rounds=3, budget=0.5)
    assert list(found) == ["once", "often"]
    assert 0 < found["once"] < found["often"] < 1000
    assert torch.equal(module.weight, before)
    assert not any(torch.equal(own.weight, before) for own in seen.values())  # they were trained
