"""One suite for the mixers of word problems: all forms of a mixer compute the same function."""

import re

import pytest
import torch
from numeric import gap, stream
from transition_cases import D_MODEL, MEMORIES, MIXERS, TRANSITIONS

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


# --- what must not be asked for ------------------------------------------------------------------

METHODS = ("forward", "states", "eigenvalues")


def sentence(mixer, rest):
    """The start of an error, with the name of the layer."""
    return re.escape(f"{type(mixer).__name__}: {rest}")


@every_mixer
def test_a_sequence_without_steps_is_named(case):
    mixer = case.mixer()
    expected = f"x has shape (2, 0, {D_MODEL}); it must be (B, T, {D_MODEL}) with at least one step"
    for method in METHODS:
        with pytest.raises(ValueError, match=sentence(mixer, expected)):
            getattr(mixer, method)(sequence(2, 0))
    if hasattr(mixer, "of_tokens"):
        with pytest.raises(ValueError, match=sentence(mixer, "tokens has shape (2, 0)")):
            mixer.of_tokens(sequence(1, 4)[0], torch.zeros(2, 0, dtype=torch.int64))


@every_mixer
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bfloat16, torch.complex128])
def test_another_dtype_is_named_with_that_of_the_parameters(case, dtype):
    mixer, x = case.mixer(), sequence(2, 3).to(dtype)
    expected = f"x is {dtype} and the parameters are torch.float64; give it x.to(torch.float64)"
    with pytest.raises(ValueError, match=sentence(mixer, expected)):
        mixer(x)
    with pytest.raises(ValueError, match=sentence(mixer, f"x_t is {dtype} and")):
        mixer.step(x[:, 0])
    with torch.autocast("cpu"), pytest.raises(ValueError, match=sentence(mixer, f"x is {dtype}")):
        mixer(x)


@every_mixer
def test_shapes_and_things_that_are_no_tensors_are_named(case):
    mixer, x = case.mixer(), sequence(2, 3)
    expected = f"x has shape (2, 3, 7); it must be (B, T, {D_MODEL})"
    with pytest.raises(ValueError, match=sentence(mixer, expected)):
        mixer(torch.cat([x, x[..., :1]], dim=-1))
    with pytest.raises(ValueError, match=sentence(mixer, f"x has shape (2, {D_MODEL})")):
        mixer(x[:, 0])
    with pytest.raises(ValueError, match=sentence(mixer, f"x_t has shape (2, 3, {D_MODEL})")):
        mixer.step(x)
    for thing in (None, [[1.0]], x.numpy()):
        with pytest.raises(TypeError, match=sentence(mixer, "x must be a tensor (B, T, D), got")):
            mixer(thing)


def of_memory(name, T=3, dtype=DOUBLE):
    """A memory in double precision and q, k, v and x."""
    memory = MEMORIES[name][0](stream(0)).double()
    K, M = memory.d_key, memory.d_value
    shapes = [(2, 2, T, K), (2, 2, T, K), (2, 2, T, M), (2, T, D_MODEL)]
    return memory, [torch.randn(s, generator=stream(1), dtype=DOUBLE).to(dtype) for s in shapes]


@pytest.mark.parametrize("name", MEMORIES)
def test_memories_name_what_does_not_fit(name):
    memory, parts = of_memory(name, T=0)
    for method in ("forward", "states", "eigenvalues"):
        with pytest.raises(ValueError, match=sentence(memory, f"x has shape (2, 0, {D_MODEL}); ")):
            getattr(memory, method)(*parts)
    memory, parts = of_memory(name)
    with pytest.raises(ValueError, match=f"^{type(memory).__name__}: .*float32"):
        memory(*parts[:3], parts[3].float())
    with pytest.raises(ValueError, match=f"^{type(memory).__name__}: .*float32"):
        memory(parts[0].float(), *parts[1:])
    with pytest.raises(ValueError, match=sentence(memory, "q (2, 2, 3,")):
        memory(*parts[:2], parts[2][:, :, 1:], parts[3])
    with pytest.raises(ValueError, match=sentence(memory, "q has shape (2, 2, 3,")):
        memory.step(*parts[:3], parts[3][:, 0])
    with pytest.raises(TypeError, match=sentence(memory, "v must be a tensor (B, H, T, M), got")):
        memory(*parts[:2], None, parts[3])


@pytest.mark.parametrize("case", TRANSITIONS, ids=lambda case: case.name)
def test_transitions_name_another_dtype(case):
    transition = case.transition()
    with pytest.raises(ValueError, match=sentence(transition, "x is torch.float32 and the")):
        transition(sequence(2, 3).float())
