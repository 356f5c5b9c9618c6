"""Levels of the past, merges and products against the plain definition."""

import math
from itertools import pairwise

import pytest
import torch
from compilers import needs_compiler
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.audit.state_size import state_bytes
from lab.linalg.fenwick import (
    advance,
    fenwick_product,
    fenwick_product_chunked,
    fenwick_product_sequential,
    level_count,
    level_map,
    lowest_digit,
    split,
)
from lab.linalg.packed_fenwick import packed_fenwick_product
from lab.memories import CosFormer, LinearAttention, LogLinearAttention, Retention
from lab.mixers import MultiHead, unroll
from lab.scan.torch_private import compile_graph, trace

LONGEST = 300
DOUBLE = torch.float64
conventions = pytest.mark.parametrize("inclusive", [False, True])
lengths = st.one_of(st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33]), st.integers(1, 70))


class Steps(list):
    """A list of the steps in a sum; adding joins two lists."""

    def __add__(self, other):
        return Steps(list(self) + list(other))


@conventions
def test_the_levels_of_every_step_split_its_past(inclusive):
    for t in range(LONGEST):
        found = split(t, inclusive=inclusive)
        assert sorted(s for steps in found.values() for s in steps) == list(range(t + 1))
        for level, steps in found.items():
            size = 2**level if inclusive else 2 ** max(level - 1, 0)
            assert len(steps) == size
            assert steps[0] % size == 0


def test_the_published_levels_are_those_of_the_example():
    assert split(13) == {4: range(8), 3: range(8, 12), 1: range(12, 13), 0: range(13, 14)}


@conventions
def test_the_map_is_the_split(inclusive):
    levels = level_map(LONGEST, inclusive=inclusive)
    expected = torch.full((LONGEST, LONGEST), -1)
    for t in range(LONGEST):
        for level, steps in split(t, inclusive=inclusive).items():
            expected[t, steps.start : steps.stop] = level
    assert torch.equal(levels, expected)


@needs_compiler
def test_weights_by_level_compile(tmp_path):
    # Inductor emits C++ that does not compile where whole numbers come from frexp.
    def weights(x):
        return [2 * x.gather(1, level_map(40)[:9].clamp(min=0))]

    x = torch.randn(9, 40, generator=stream(0))
    compiled = compile_graph(trace(weights, [x]), [x], tmp_path)
    assert torch.equal(compiled(x)[0], weights(x)[0])


@conventions
def test_merges_keep_exactly_the_levels_of_the_split(inclusive):
    states = {}
    for t in range(LONGEST):
        states = advance(states, Steps([t]), t, inclusive=inclusive)
        expected = {i: list(steps) for i, steps in split(t, inclusive=inclusive).items()}
        assert {i: sorted(steps) for i, steps in states.items()} == expected
        assert len(states) <= level_count(t + 1, inclusive=inclusive)
        assert max(states) < level_count(t + 1, inclusive=inclusive)


def test_an_odd_step_sees_the_step_before_it_alone():
    assert all(split(t)[1] == range(t - 1, t) for t in range(1, LONGEST, 2))


def test_the_lowest_digit():
    assert [lowest_digit(n) for n in range(9)] == [-1, 0, 1, 0, 2, 0, 1, 0, 3]


# --- products ------------------------------------------------------------------------------------


def problem(T, inclusive=False, seed=0, batch=(2,), extra=0):
    generator = stream(seed)
    L = level_count(T, inclusive=inclusive) + extra
    shapes = [(*batch, T, width) for width in (3, 3, 2, L)]
    return [torch.randn(shape, generator=generator, dtype=DOUBLE) for shape in shapes]


@conventions
@settings(deadline=None, max_examples=60)
@given(
    T=lengths, seed=st.integers(0, 2**31), chunk=st.sampled_from([1, 2, 8, 32]),
    extra=st.integers(0, 2), batch=st.sampled_from([(), (2,), (0,), (2, 3)]),
)  # fmt: skip
def test_both_fast_forms_are_the_recurrence(T, seed, chunk, extra, batch, inclusive):
    inputs = problem(T, inclusive, seed, batch, extra)
    expected = fenwick_product_sequential(*inputs, inclusive=inclusive)
    assert gap(fenwick_product(*inputs, inclusive=inclusive), expected) < 1e-12
    found = fenwick_product_chunked(*inputs, inclusive=inclusive, chunk=chunk)
    assert gap(found, expected) < 1e-12


@conventions
@settings(deadline=None, max_examples=60)
@given(
    T=lengths, seed=st.integers(0, 2**31), chunk=st.sampled_from([1, 2, 8, 32, 128]),
    ends=st.floats(0, 1), sizes=st.sampled_from([(1, 1), (2, 3), (0, 2)]),
)  # fmt: skip
def test_the_packed_form_is_the_recurrence_of_every_sequence(
    T, seed, chunk, ends, sizes, inclusive
):
    inputs = problem(T, inclusive, seed, sizes)
    reset = torch.rand(sizes[0], T, generator=stream(seed)) < ends / 8
    found = packed_fenwick_product(*inputs, reset, inclusive=inclusive, chunk=chunk)
    for row, marks in enumerate(reset):
        starts = sorted({0, T, *marks.nonzero().flatten().tolist()})
        for a, b in pairwise(starts):
            own = [part[row, :, a:b] for part in inputs]
            expected = fenwick_product_sequential(*own, inclusive=inclusive)
            assert gap(found[row, :, a:b], expected) < 1e-12


@conventions
@pytest.mark.parametrize("chunk", [1, 4, 32])
def test_gradients_of_the_packed_form_match_finite_differences(chunk, inclusive):
    inputs = [part.requires_grad_() for part in problem(11, inclusive, batch=(1, 1))]
    reset = torch.zeros(1, 11, dtype=torch.bool)
    reset[0, [3, 4]] = True

    def form(*inputs):
        return packed_fenwick_product(*inputs, reset, inclusive=inclusive, chunk=chunk)

    assert torch.autograd.gradcheck(form, inputs)


@conventions
def test_single_precision_is_as_good_as_it_can_be(inclusive):
    inputs = problem(1000, inclusive)
    expected = fenwick_product_sequential(*inputs, inclusive=inclusive)
    single = [part.float() for part in inputs]
    for form in (fenwick_product, fenwick_product_chunked, fenwick_product_sequential):
        # Measured: below 1e-6 of the largest output, for all three.
        assert gap(form(*single, inclusive=inclusive).double(), expected) < 1e-5


@conventions
@pytest.mark.parametrize("T", [1, 2, 5, 8])
def test_gradients_match_finite_differences(T, inclusive):
    inputs = [part.requires_grad_() for part in problem(T, inclusive)]
    for settings_of in ({"chunk": 2}, {"chunk": 8}):
        assert torch.autograd.gradcheck(
            lambda *parts, given=settings_of: fenwick_product_chunked(
                *parts, inclusive=inclusive, **given
            ),
            inputs,
        )


@conventions
def test_equal_weights_are_no_levels_at_all(inclusive):
    q, k, v, weights = problem(37, inclusive)
    found = fenwick_product_chunked(q, k, v, torch.ones_like(weights), inclusive=inclusive, chunk=8)
    assert gap(found, (q @ k.mT).tril() @ v) < 1e-12


@pytest.mark.parametrize("form", [fenwick_product, fenwick_product_chunked])
def test_shapes_are_checked(form):
    q, k, v, weights = problem(9)
    with pytest.raises(ValueError, match="4 levels, and 9 steps need 5"):
        form(q, k, v, weights[..., :4])
    with pytest.raises(ValueError, match="must share"):
        form(q, k[..., :2], v, weights)
    with pytest.raises(ValueError, match="at least one step"):
        form(*(part[..., :0, :] for part in (q, k, v, weights)))


def test_a_chunk_is_a_power_of_two():
    with pytest.raises(ValueError, match="power of two"):
        fenwick_product_chunked(*problem(9), chunk=6)
    with pytest.raises(ValueError, match="power of two"):
        packed_fenwick_product(*problem(9, batch=(1, 1)), torch.zeros(1, 9).bool(), chunk=0)


# --- the mixer -----------------------------------------------------------------------------------


def mixer(*, cosine=False, inclusive=False, **settings):
    inner = (
        CosFormer(6, heads=2, d_key=4, horizon=200)
        if cosine
        else LinearAttention(6, heads=2, d_key=4)
    )
    memory = LogLinearAttention(
        6, inner, levels=9, inclusive=inclusive, generator=stream(0), **settings
    )
    return MultiHead(6, memory, generator=stream(1)).double()


@conventions
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("T", [1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 65, 127, 129])
def test_the_parallel_form_is_the_step_form(T, cosine, inclusive):
    layer = mixer(cosine=cosine, inclusive=inclusive)
    x = torch.randn(2, T, 6, generator=stream(2), dtype=DOUBLE)
    assert gap(layer(x), unroll(layer, x)) < 1e-10


@conventions
def test_there_are_never_more_states_than_levels(inclusive):
    layer, state = mixer(inclusive=inclusive), None
    for t in range(200):
        _, state = layer.step(torch.zeros(1, 6, dtype=DOUBLE), state)
        live = state[-1][1]
        assert live.keys() == split(t, inclusive=inclusive).keys()
        assert len(live) <= math.ceil(math.log2(t + 1)) + 1


def test_the_state_in_bytes_is_that_of_the_live_levels():
    x = torch.zeros(1, 101, 6, dtype=DOUBLE)
    one_state = 2 * 4 * (4 + 1) * 8  # H K (M + 1) numbers
    for T in (1, 64, 100, 101):
        assert state_bytes(mixer(), x[:, :T]) == len(split(T - 1)) * one_state


def test_without_a_preference_it_is_linear_attention():
    layer, x = mixer(), torch.randn(2, 40, 6, generator=stream(2), dtype=DOUBLE)
    with torch.no_grad():
        layer.memory.weigh.weight.zero_()
        layer.memory.weigh.bias.zero_()
    plain = MultiHead(6, LinearAttention(6, heads=2, d_key=4), generator=stream(1)).double()
    plain.load_state_dict(
        {n: p for n, p in layer.state_dict().items() if not n.startswith("memory")}
    )
    assert gap(layer(x), plain(x)) < 1e-12  # all weights are 1/9 of what they were


def test_the_softmax_over_levels_cancels():
    memory, x = mixer().memory, torch.randn(2, 20, 6, generator=stream(2), dtype=DOUBLE)
    q, k, v = (torch.randn(2, 2, 20, 4, generator=stream(i), dtype=DOUBLE) for i in range(3))
    before = memory(q, k, v, x)
    with torch.no_grad():
        memory.weigh.bias += 0.5  # all levels alike
    assert gap(memory(q, k, v, x), before) < 1e-12


def test_states_and_gains_follow_the_split():
    layer, x = mixer(), torch.randn(1, 20, 6, generator=stream(2), dtype=DOUBLE)
    filled = layer.states(x).abs().sum((-1, -2, -3))[0] > 0
    for t in range(20):
        assert filled[t].nonzero()[:, 0].tolist() == sorted(split(t))
    kept = layer.eigenvalues(x)[0].real
    assert kept[4].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]  # step 4 merges levels 0 to 2 into 3


def test_a_favoured_level_starts_larger():
    plain, biased = mixer().memory.weigh.bias, mixer(favoured=1).memory.weigh.bias
    assert torch.equal(
        (biased - plain).view(2, 9).round(decimals=6),
        4 * torch.eye(9, dtype=DOUBLE)[1].expand(2, -1),
    )


def test_limits_are_checked():
    with pytest.raises(ValueError, match="decays"):
        LogLinearAttention(6, Retention(6, heads=2, d_key=4, d_value=4), levels=9)
    with pytest.raises(ValueError, match="favoured"):
        mixer(favoured=9)
    inner = CosFormer(6, heads=1, d_key=2, horizon=4)
    layer = MultiHead(6, LogLinearAttention(6, inner, levels=5))
    with pytest.raises(ValueError, match="horizon of 4"):
        layer(torch.zeros(1, 5, 6))
    with pytest.raises(ValueError, match="need 6 levels"):
        layer(torch.zeros(1, 17, 6))
