"""Times of forward passes and training steps: every mixer runs, and more work takes longer."""

import torch
from torch import nn

from lab.benchmark.forward import forward_milliseconds, training_milliseconds, training_step
from lab.mixers import StateSpace
from lab.model import residual_model
from lab.tasks import WordProblem, groups
from lab.transitions import RealDiagonal


class Repeats(nn.Module):
    """A matrix product, repeated."""

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


def test_a_training_step_trains_on_the_same_examples():
    task = WordProblem(groups.cyclic(2), [0, 1])

    def mixer(generator):
        return StateSpace(8, RealDiagonal(8, d_state=4, generator=generator), generator=generator)

    model = residual_model(task, 0, d_model=8, mixer=mixer)
    step = training_step(model, task, batch=4, length=3)
    examples = task.sample(100, 3, torch.Generator().manual_seed(0))
    before = task.loss(model, examples).item()
    for _ in range(50):
        step()
    assert task.loss(model, examples).item() < before
