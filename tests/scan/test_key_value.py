"""The scan of keys and values: every form equals the loop, with any gains and corrections."""

import re
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from torch.nn.functional import normalize

from lab.scan.cpu import threads
from lab.scan.key_value import (
    key_value_scan,
    key_value_scan_chunked,
    key_value_scan_sequential,
)

DOUBLE = torch.float64
NAMES = ("q", "k", "v", "log_gain", "beta", "initial")
GAINS = ("none", "one", "many")
kinds = pytest.mark.parametrize("corrects", [False, True], ids=["writes", "corrects"])
gains = pytest.mark.parametrize("gain", GAINS)
FORMS = {
    "fast": key_value_scan,
    **{f"chunk {c}": partial(key_value_scan_chunked, chunk=c) for c in (1, 2, 7, 16, 64)},
}


def problem(B, T, K, M, gain, corrects, seed=0, scale=0.3):
    """Keys, of length 1 where they correct; gains spread over orders of magnitude; beta up to 2."""
    generator = stream(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=DOUBLE)

    q, k, v, initial = normal(B, T, K), normal(B, T, K), normal(B, T, M), normal(B, K, M)
    log_gain = -scale * normal(B, T, K).exp()
    log_gain = {"none": None, "one": log_gain[..., :1], "many": log_gain}[gain]
    beta = (1 + 2 * normal(B, T)).clamp(0, 2) if corrects else None
    return [q, normalize(k, dim=-1) if corrects else k, v, log_gain, beta, initial]


def tensors(arguments):
    return [part for part in arguments if part is not None]


def with_tensors(arguments, parts):
    parts = iter(parts)
    return [None if part is None else next(parts) for part in arguments]


def changed(arguments, change):
    return with_tensors(arguments, map(change, tensors(arguments)))


def gaps(actual, expected):
    return max(gap(a.double(), e.double()) for a, e in zip(actual, expected, strict=True))


def gradients(form, arguments, seed=0):
    leaves = [part.detach().clone().requires_grad_() for part in tensors(arguments)]
    outputs = form(*with_tensors(arguments, leaves))
    generator = stream(seed)
    weights = [torch.randn(o.shape, generator=generator, dtype=DOUBLE).to(o) for o in outputs]
    projected = sum((w * o).sum() for w, o in zip(weights, outputs, strict=True))
    return torch.autograd.grad(projected, leaves, materialize_grads=True)


problems = st.builds(
    problem, st.integers(0, 3), st.integers(1, 40), st.integers(1, 18), st.integers(1, 18),
    st.sampled_from(GAINS), st.booleans(), st.integers(0, 2**31),
    st.sampled_from([1e-3, 0.3, 30, 1e4]),
)  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
@settings(deadline=None, max_examples=60)
@given(problems)
def test_every_form_is_the_loop_in_value_and_gradient(name, arguments):
    expected = key_value_scan_sequential(*arguments)
    assert gaps(FORMS[name](*arguments), expected) < 1e-10
    slopes = gradients(key_value_scan_sequential, arguments)
    assert gaps(gradients(FORMS[name], arguments), slopes) < 1e-10


@gains
@kinds
@pytest.mark.parametrize("name", FORMS)
def test_packed_sequences_are_separate_ones(name, gain, corrects):
    *arguments, initial = problem(1, 70, 5, 3, gain, corrects)
    reset = torch.zeros(1, 70, dtype=torch.bool)
    reset[0, [9, 10, 64]] = True

    def apart(*arguments):
        reads = []
        for a, b in pairwise([0, 9, 10, 64, 70]):
            given = [None if part is None else part[:, a:b] for part in arguments[:5]]
            o, last = key_value_scan_sequential(*given, initial=None if a else arguments[5])
            reads.append(o)
        return torch.cat(reads, dim=1), last

    packed = partial(FORMS[name], reset=reset)
    expected, arguments = apart(*arguments, initial), [*arguments, initial]
    assert gaps(packed(*arguments), expected) < 1e-12
    assert gaps(gradients(packed, arguments), gradients(apart, arguments)) < 1e-12
    assert gaps(FORMS[name](*arguments), expected) > 1e-3
    # What is before a mark at step 0 is forgotten, too.
    reset[0, 0] = True
    *empty, _ = arguments
    assert gaps(packed(*arguments), packed(*empty)) == 0


@gains
@kinds
@pytest.mark.parametrize("T", [1, 9])
def test_gradients_of_any_order_match_finite_differences(gain, corrects, T):
    arguments = problem(2, T, 3, 2, gain, corrects)
    leaves = [part.requires_grad_() for part in tensors(arguments)]

    def function(*parts):
        return key_value_scan(*with_tensors(arguments, parts))

    assert torch.autograd.gradcheck(function, leaves)
    if T == 1:
        assert torch.autograd.gradgradcheck(function, leaves)


# Rounded inputs, and results that are rounded once: half a unit of the largest value.
@gains
@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision_loses_a_unit_of_its_own(gain, corrects, dtype):
    arguments = changed(problem(3, 300, 16, 17, gain, corrects), lambda part: part.to(dtype))
    expected = key_value_scan_sequential(*changed(arguments, torch.Tensor.double))
    for form in (key_value_scan, key_value_scan_chunked):
        actual = form(*arguments)
        assert all(part.dtype == dtype for part in actual)
        assert gaps(actual, expected) < (3e-6 if dtype == torch.float32 else torch.finfo(dtype).eps)


@gains
@kinds
def test_a_long_sequence_loses_no_digits(gain, corrects):
    arguments = problem(1, 4096, 8, 4, gain, corrects, scale=1e-4)
    expected = key_value_scan_sequential(*arguments)
    assert gaps(key_value_scan(*arguments), expected) < 1e-10
    single = changed(arguments, torch.Tensor.float)
    assert gaps(key_value_scan(*single), expected) < 1e-4


@gains
@kinds
def test_a_sequence_in_two_parts_is_the_whole(gain, corrects):
    arguments = problem(2, 30, 4, 3, gain, corrects)
    whole, last = key_value_scan(*arguments)
    first, between = key_value_scan(
        *changed(arguments[:5], lambda part: part[:, :11]), arguments[5]
    )
    second, end = key_value_scan(*changed(arguments[:5], lambda part: part[:, 11:]), between)
    assert gaps([torch.cat([first, second], dim=1), end], [whole, last]) < 1e-12


def test_without_an_initial_state_it_starts_from_zero():
    *arguments, initial = problem(2, 9, 3, 2, "one", True)
    expected = key_value_scan(*arguments, torch.zeros_like(initial))
    assert gaps(key_value_scan(*arguments), expected) == 0


@pytest.mark.parametrize("gain", GAINS[1:])
def test_a_gain_of_zero_forgets_and_has_no_gradient(gain):
    arguments = problem(2, 20, 3, 2, gain, False)
    arguments[3][:, 10] = -torch.inf
    assert gaps(key_value_scan(*arguments), key_value_scan_sequential(*arguments)) < 1e-12
    for form in (key_value_scan, key_value_scan_chunked):
        slopes = gradients(form, arguments)
        assert all(slope.isfinite().all() for slope in slopes)
        assert (slopes[3][:, 10] == 0).all()

        def last(*parts, form=form):
            return (form(*parts)[1],)

        for slope in gradients(last, arguments)[1:3]:
            assert (slope[:, :10] == 0).all()
            assert (slope[:, 10:] != 0).any()


@gains
@kinds
def test_several_models_at_once_under_vmap_and_func(gain, corrects):
    lanes = [problem(2, 11, 3, 2, gain, corrects, seed) for seed in range(3)]
    stacked = [torch.stack(parts) for parts in zip(*map(tensors, lanes), strict=True)]

    def one(*parts):
        return key_value_scan(*with_tensors(lanes[0], parts))

    together = torch.vmap(one)(*stacked)
    alone = [torch.stack(parts) for parts in zip(*(key_value_scan(*p) for p in lanes), strict=True)]
    assert gaps(together, alone) < 1e-12

    def energy(*parts):
        return sum(output.square().sum() for output in torch.vmap(one)(*parts))

    leaves = [part.clone().requires_grad_() for part in stacked]
    expected = torch.autograd.grad(energy(*leaves), leaves)
    found = torch.func.grad(energy, argnums=tuple(range(len(stacked))))(*stacked)
    assert gaps(found, expected) < 1e-11


@kinds
def test_torch_accepts_its_operator_and_compiles_it(corrects):
    arguments = problem(2, 9, 3, 2, "one", corrects)
    beta = arguments[4][..., None] if corrects else torch.zeros(2, 9, 0, dtype=DOUBLE)
    given_ = [*arguments[:4], beta, arguments[5]]
    torch.library.opcheck(
        torch.ops.lab.key_value_scan.default, [p.clone().requires_grad_() for p in given_]
    )
    compiled = torch.compile(key_value_scan, backend="aot_eager", fullgraph=True)
    assert gaps(compiled(*arguments), key_value_scan(*arguments)) == 0


@kinds
def test_threads_and_memory_layout_do_not_change_the_answer(corrects, monkeypatch):
    monkeypatch.setattr(threads, "WORTH_SHARING", 0)
    arguments = problem(5, 13, 3, 2, "many", corrects)
    expected = key_value_scan(*arguments), gradients(key_value_scan, arguments)
    turned = changed(arguments, lambda part: part.transpose(0, 1).contiguous().transpose(0, 1))
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        actual = key_value_scan(*turned), gradients(key_value_scan, turned)
    finally:
        torch.set_num_threads(usual)
    assert gaps(actual[0], expected[0]) == 0
    assert gaps(actual[1], expected[1]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": torch.zeros(2, 9, 4)}, "q (2, 9, 4), k (2, 9, 3) and v (2, 9, 2) must be"),
        ({"log_gain": torch.zeros(2, 9, 2)}, "log_gain must be (2, 9, 1 or 3), got (2, 9, 2)"),
        ({"beta": torch.zeros(2, 8)}, "beta must be (2, 9), got (2, 8)"),
        ({"initial": torch.zeros(2, 2, 3)}, "initial must be (2, 3, 2), got (2, 2, 3)"),
        ({"v": torch.zeros(2, 9, 2)}, "dtypes differ"),
    ],
)
def test_bad_input_stops_with_what_was_expected(changes, message):
    arguments = dict(zip(NAMES, problem(2, 9, 3, 2, "one", True), strict=True))
    for form in (key_value_scan, key_value_scan_sequential, key_value_scan_chunked):
        with pytest.raises(ValueError, match=re.escape(message)):
            form(**{**arguments, **changes})


def test_no_steps_no_chunk_and_complex_numbers_are_refused():
    q = torch.zeros(2, 0, 3)
    with pytest.raises(ValueError, match="at least one step, and T is 0"):
        key_value_scan(q, q, q)
    x = torch.zeros(2, 3, 3)
    with pytest.raises(ValueError, match="chunk must be at least 1 step, got 0"):
        key_value_scan_chunked(x, x, x, chunk=0)
    with pytest.raises(ValueError, match="real floating-point"):
        key_value_scan(*[x.to(torch.complex128)] * 3)


# Worst of 20 seeds: 2e-6. Sums from step 0 on, as far as 2e6, would leave no digit at all.
@pytest.mark.parametrize("form", [key_value_scan, key_value_scan_chunked])
@pytest.mark.parametrize("gain", GAINS[1:])
def test_single_precision_keeps_its_digits_after_strong_decays(gain, form):
    for seed in range(3):
        arguments = problem(2, 2000, 3, 2, gain, False, seed, scale=0.01)
        arguments[3][:, :500] *= 1e5
        single = form(*changed(arguments, torch.Tensor.float))
        assert gaps(single, key_value_scan_sequential(*arguments)) < 2e-5


def test_gradients_survive_gains_that_underflow():
    arguments = changed(problem(2, 100, 3, 2, "many", False, scale=1e4), torch.Tensor.float)
    for form in (key_value_scan, key_value_scan_chunked):
        assert all(slope.isfinite().all() for slope in gradients(form, arguments))
