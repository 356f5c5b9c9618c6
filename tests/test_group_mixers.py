"""One suite for the mixers of word problems: every form of one must be the same map."""

import pytest
import torch
from numeric import gap, stream
from transition_cases import D_MODEL, MIXERS

from lab.mixers import unroll

every_mixer = pytest.mark.parametrize("case", MIXERS, ids=lambda case: case.name)
DOUBLE = torch.float64


def sequence(B, T, seed=0):
    return torch.randn(B, T, D_MODEL, dtype=DOUBLE, generator=stream(seed))


@pytest.mark.parametrize(("B", "T"), [(2, 1), (2, 13), (1, 40), (0, 3)])
@every_mixer
def test_the_parallel_form_is_the_step_form(case, B, T):
    mixer, x = case.mixer(), sequence(B, T)
    y = mixer(x)
    assert y.shape == x.shape
    assert gap(y, unroll(mixer, x)) < 1e-10


@every_mixer
def test_gradients_of_both_forms_agree_and_none_is_dead(case):
    mixer, x = case.mixer(), sequence(3, 11)
    weights = sequence(3, 11, seed=1)
    names, parameters = zip(*mixer.named_parameters(), strict=True)

    def gradients(form):
        return torch.autograd.grad((weights * form(x)).sum(), parameters)

    pairs = zip(gradients(mixer), gradients(lambda x: unroll(mixer, x)), strict=True)
    for name, (actual, expected) in zip(names, pairs, strict=True):
        assert gap(actual, expected) < 1e-9, name
        assert actual.abs().max() > 0, name


@every_mixer
def test_the_future_does_not_reach_back(case):
    mixer, x = case.mixer(), sequence(2, 13)
    changed = x.clone()
    changed[:, 6] += 1
    difference = (mixer(changed) - mixer(x)).abs().amax((0, 2))
    assert difference[:6].max() < 1e-12
    assert difference[6] > 0


@every_mixer
def test_a_table_of_tokens_gives_the_same(case):
    mixer = case.mixer()
    if not hasattr(mixer, "of_tokens"):
        pytest.skip("this mixer has no shorter way for tokens")
    table = sequence(1, 4)[0]
    tokens = torch.randint(4, (3, 9), generator=stream(0))
    assert gap(mixer.of_tokens(table, tokens), mixer(table[tokens])) < 1e-10


@every_mixer
def test_states_and_eigenvalues_have_a_place_for_every_step(case):
    mixer, x = case.mixer(), sequence(2, 5)
    states, eigenvalues = mixer.states(x), mixer.eigenvalues(x)
    assert states.shape[:2] == eigenvalues.shape[:2] == x.shape[:2]
    assert eigenvalues.is_complex()
    assert states.isfinite().all()


@every_mixer
def test_several_seeds_train_side_by_side(case):
    mixers = [case.mixer(seed) for seed in (0, 1)]
    x = torch.stack([sequence(2, 7, seed) for seed in (0, 1)])
    parameters, buffers = torch.func.stack_module_state(mixers)

    def one(parameters, buffers, x):
        return torch.func.functional_call(mixers[0], (parameters, buffers), (x,))

    together = torch.vmap(one)(parameters, buffers, x)
    alone = torch.stack([mixer(each) for mixer, each in zip(mixers, x, strict=True)])
    assert gap(together, alone) < 1e-10
    together.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in parameters.values())
