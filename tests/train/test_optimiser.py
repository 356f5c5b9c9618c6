"""Parameters in few groups, and gradients clipped at once: the same bits as one after another."""

import functools
import math

import pytest
import torch
from torch import nn

from lab.mixers import OscDPLR
from lab.seeding import stream
from lab.tasks import Batch, KnownOscillators
from lab.train import fit_together
from lab.train.optimiser import adamw_of_total_decay, grouped
from lab.train.side_by_side import SideBySide

# Sizes that fill no whole number of vector registers, and every type that models have.
SHAPES = {
    "a": ((3, 7), torch.float32), "b": ((129,), torch.float32), "c": ((2, 5, 9), torch.float64),
    "d": ((33,), torch.complex64), "e": ((1,), torch.complex128), "f": ((64, 31), torch.float32),
}  # fmt: skip
RATES = {"a": 0.1, "b": 0.1, "c": 0.01, "d": 0.1, "e": 0.01, "f": 0.1}
OPTIMIZERS = {
    "Adam": torch.optim.Adam,
    "Adam, weight decay": functools.partial(torch.optim.Adam, weight_decay=0.1),
    "AdamW": functools.partial(torch.optim.AdamW, weight_decay=0.1),
    "AMSGrad": functools.partial(torch.optim.AdamW, amsgrad=True, maximize=True),
    "SGD": functools.partial(torch.optim.SGD, weight_decay=0.1),
    "momentum": functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "RMSprop": torch.optim.RMSprop,
}


def drawn(seed):
    normal = functools.partial(torch.randn, generator=stream(seed, "parameters"))
    return {name: normal(shape, dtype=dtype) for name, (shape, dtype) in SHAPES.items()}


def parameters():
    return {name: nn.Parameter(value) for name, value in drawn(0).items()}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("spared", [set(), {"b", "c"}])
def test_groups_change_no_bit_of_an_update(name, spared):
    ours, theirs = parameters(), parameters()
    updates = grouped(OPTIMIZERS[name], ours, RATES, spared)
    reference = OPTIMIZERS[name](
        [
            {"params": [p], "lr": RATES[n], **({"weight_decay": 0.0} if n in spared else {})}
            for n, p in theirs.items()
        ],
        foreach=False,
    )
    # Two rates, each with and without decay; the complex ones, which all decay, apart.
    assert len(updates.param_groups) == (5 if spared else 4)
    for step in range(15):
        for each, gradient in drawn(1 + step).items():
            ours[each].grad, theirs[each].grad = gradient, gradient.clone()
        updates.step()
        reference.step()
    for each in SHAPES:
        assert torch.equal(ours[each], theirs[each])
        assert not torch.equal(ours[each], parameters()[each])


def test_what_the_caller_has_chosen_stays():
    one_by_one = functools.partial(torch.optim.Adam, foreach=False)
    for group in grouped(one_by_one, parameters(), RATES, set()).param_groups:
        assert group["foreach"] is False
    real = {name: value for name, value in parameters().items() if not value.is_complex()}
    fused = functools.partial(torch.optim.AdamW, fused=True)
    for group in grouped(fused, real, RATES, set()).param_groups:
        assert group["foreach"] is None
        assert group["fused"] is True


def test_parameters_are_grouped_by_step_size_decay_and_kind():
    adam = functools.partial(torch.optim.Adam, weight_decay=0.1)
    groups = grouped(adam, parameters(), RATES, {"a"}).param_groups
    assert [(group["lr"], group["weight_decay"], len(group["params"])) for group in groups] == [
        (0.1, 0.0, 1), (0.1, 0.1, 2), (0.01, 0.1, 1), (0.1, 0.1, 1), (0.01, 0.1, 1)
    ]  # fmt: skip


# --- clipping ------------------------------------------------------------------------------------


class Free(nn.Module):
    """Parameters of every type; one of them has no gradient."""

    def __init__(self):
        super().__init__()
        for name, value in drawn(0).items():
            self.register_parameter(name, nn.Parameter(value))
        self.unused = nn.Parameter(torch.zeros(3))


def with_gradients(count):
    """Models side by side, whose gradients are of very different size."""
    tasks = [KnownOscillators.draw(1, stream(0, "task"))] * count
    run = SideBySide([Free() for _ in range(count)], tasks, range(count), torch.device("cpu"))
    for seed, name in enumerate(SHAPES):
        parameter = run.parameters[name]
        size = torch.logspace(-2, 2, count).view(-1, *[1] * (parameter.ndim - 1))
        normal = torch.randn(parameter.shape, generator=stream(seed, "g"), dtype=parameter.dtype)
        parameter.grad = normal * (size.to(normal.dtype) if count > 1 else 1)
    return run


def gradients(run, model):
    """Copies of the gradients of one model."""
    several = len(run.models) > 1
    return [
        (run.parameters[name].grad[model] if several else run.parameters[name].grad).clone()
        for name in SHAPES
    ]


@pytest.mark.parametrize("count", [1, 4])
def test_each_model_has_the_norm_of_all_of_its_gradients(count):
    run = with_gradients(count)
    norms = run.gradient_norms()
    for model in range(count):
        flat = [torch.view_as_real(g).flatten() if g.is_complex() else g.flatten()
                for g in gradients(run, model)]  # fmt: skip
        expected = torch.cat([each.double() for each in flat]).norm()
        torch.testing.assert_close(norms[model].double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("count", [1, 4])
def test_a_clip_shrinks_each_model_by_its_own_factor(count):
    run = with_gradients(count)
    norms, before = run.gradient_norms(), [gradients(run, model) for model in range(count)]
    longest = norms[-1].item() / 2
    run.shrink_gradients(longest, norms)
    shrunk = 0
    for model in range(count):
        factor = (longest / norms[model]).clamp(max=1.0)
        shrunk += bool(factor < 1)
        for now, old in zip(gradients(run, model), before[model], strict=True):
            assert torch.equal(now, old * factor)
    assert 0 < shrunk <= count
    assert run.parameters["unused"].grad is None
    torch.testing.assert_close(run.gradient_norms()[-1].item(), longest, rtol=1e-6, atol=0)


def test_a_norm_that_is_not_finite_is_not_taken_for_a_short_one():
    run = with_gradients(4)
    run.parameters["a"].grad[2, 0, 0] = torch.nan
    before = gradients(run, 1)
    run.shrink_gradients(1e9, run.gradient_norms())
    assert all(each.isnan().all() for each in gradients(run, 2))
    assert all(map(torch.equal, gradients(run, 1), before))


# --- the whole update ----------------------------------------------------------------------------

STEPS, RATE, CLIP = 20, 0.02, 0.5


def start(seeds):
    """Models and tasks."""
    kind = functools.partial(OscDPLR, 2, d_output=1, d_state=3, dtype=torch.float64)
    models = [kind(generator=stream(seed, "init")) for seed in seeds]
    return models, [KnownOscillators.draw(1, stream(s, "task")) for s in seeds]


def plainly_trained(seeds):
    """Float["models steps"]: losses, of a loop that treats one parameter after another."""
    models, tasks = start(seeds)
    stacked, _ = torch.func.stack_module_state(models)
    updates = torch.optim.AdamW([{"params": [p]} for p in stacked.values()], foreach=False)
    data = [stream(seed, "data") for seed in seeds]

    def loss(parameters, batch):
        call = functools.partial(torch.func.functional_call, models[0], parameters)
        return tasks[0].loss(lambda *inputs: call(inputs), batch)

    losses = []
    for _ in range(STEPS):
        for group in updates.param_groups:
            group["lr"] = RATE
        each = [task.sample(4, 8, g) for task, g in zip(tasks, data, strict=True)]
        batch = Batch(*(torch.stack(parts) for parts in zip(*each, strict=True)))
        losses.append(torch.vmap(loss)(stacked, batch))
        updates.zero_grad()
        losses[-1].sum().backward()
        squares = [p.grad.flatten(1).abs().square().sum(1) for p in stacked.values()]
        factors = (CLIP / torch.stack(squares).sum(0).sqrt()).clamp(max=1.0)
        for parameter in stacked.values():
            parameter.grad *= factors.view(-1, *[1] * (parameter.ndim - 1))
        updates.step()
    return torch.stack(losses, 1).detach()


def trained(seeds, clip):
    models, tasks = start(seeds)
    histories = fit_together(
        models, tasks, seeds=seeds, steps=STEPS, batch=4, length=8, lr=RATE, clip=clip,
        optimizer=torch.optim.AdamW, decay="all", device="cpu",
    )  # fmt: skip
    return torch.stack([history.loss for history in histories])


def test_training_has_the_bits_of_a_loop_over_parameters():
    seeds = [0, 1, 2]
    losses = trained(seeds, CLIP)
    assert torch.equal(losses, plainly_trained(seeds))
    assert not torch.equal(losses, trained(seeds, None))  # the clip is reached


@pytest.mark.parametrize("lr", [1e-3, 3e-2])
@pytest.mark.parametrize("steps", [50, 200])
def test_a_total_decay_is_that_of_any_step_size_and_number_of_updates(lr, steps):
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle, self.spared = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
            self.spared._no_weight_decay = True
            self.used = nn.Linear(1, 1)

        def forward(self, x, *_):
            return self.used(x[..., :1]) + 0 * (self.idle.sum() + self.spared.sum())

    model = Unused().double()
    schedule = "warmup-cosine"
    optimizer = functools.partial(adamw_of_total_decay, total=0.8, schedule=schedule, steps=steps)
    fit_together(
        [model], [KnownOscillators.draw(1, stream(0, "task"))], seeds=[0], steps=steps, batch=2,
        length=4, lr=lr, schedule=schedule, optimizer=optimizer, device="cpu",
    )  # fmt: skip
    assert model.idle.tolist() == pytest.approx([math.exp(-0.8)] * 3, rel=0.02)
    assert model.spared.tolist() == [1.0] * 3


def test_a_total_decay_is_a_number():
    with pytest.raises(ValueError, match="adamw_of_total_decay: total is -1; it must be at least"):
        adamw_of_total_decay([], total=-1, schedule="constant", steps=3)
