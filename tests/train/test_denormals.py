"""Denormal numbers count as zero while a model trains, and only then."""

from contextlib import nullcontext

import pytest
import torch

from lab.mixers import StateSpace
from lab.model import residual_model
from lab.tasks import WordProblem, groups
from lab.train import fit, loop
from lab.train.denormals import are_zero, denormals_are_zero
from lab.transitions import RealDiagonal


@pytest.fixture(params=[False, True], ids=["kept before", "zero before"], autouse=True)
def _mode_is_left_as_it_was(request):
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    torch.set_flush_denormal(request.param)
    yield
    assert are_zero() == request.param
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_zero_inside(dtype):
    small = torch.tensor(torch.finfo(dtype).tiny, dtype=dtype)
    with denormals_are_zero():
        assert small * 0.5 == 0
        assert small * 1.0 == small
        assert are_zero()


def test_mode_survives_an_error():
    with pytest.raises(RuntimeError, match="broken"), denormals_are_zero():
        raise RuntimeError("broken")


def trained(seen):
    task = WordProblem(groups.cyclic(2), range(2))

    def mixer(generator):
        inner = RealDiagonal(8, d_state=4, generator=generator)
        return StateSpace(8, inner, learn_initial=True, generator=generator)

    model = residual_model(task, 0, d_model=8, mixer=mixer, layers=1)
    history = fit(
        model, task, seed=0, steps=30, batch=8, length=6, lr=0.05, device="cpu",
        before_update=lambda update: seen.append(are_zero()),
    )  # fmt: skip
    return history.loss, [parameter.detach() for parameter in model.parameters()]


def test_training_has_no_denormals_and_the_same_numbers(monkeypatch):
    inside, outside = [], []
    loss, weights = trained(inside)
    before = are_zero()
    monkeypatch.setattr(loop, "denormals_are_zero", nullcontext)
    other_loss, other_weights = trained(outside)
    assert inside == 30 * [True]
    assert set(outside) == {before}
    assert torch.equal(loss, other_loss)
    assert all(map(torch.equal, weights, other_weights))


def test_sure_answers_have_gradients_without_denormals():
    """The case that makes training slow: probabilities of logits 90 below the largest."""
    logits = torch.tensor([[0.0, -90.0, -20.0]], requires_grad=True)
    with denormals_are_zero():
        torch.nn.functional.cross_entropy(logits, torch.tensor([0])).backward()
        assert logits.grad[0, 1] == 0
    assert logits.grad[0, 2] > 0
