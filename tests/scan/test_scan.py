"""One suite for all scans: each must equal its plain loop. Its cases are in scan_cases.py."""

import inspect
import re
from operator import itemgetter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from scan_cases import CASES, FIELDS, SINGLE, Random, floating, of_floats, to
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from lab import scan
from lab.scan import linear_scan, linear_scan_sequential, matrix_scan, matrix_scan_sequential


def combinations(cases, dtypes=FIELDS):
    """Pairs of case and dtype, without complex numbers where a scan is for real ones."""
    return pytest.mark.parametrize(
        ("case", "dtype"),
        [
            pytest.param(case, dtype, id=f"{case.name}-{case.draw.__name__}-{str(dtype)[6:]}")
            for case in cases
            for dtype in dtypes
            if dtype in case.dtypes
        ],
    )


SMOOTH = [case for case in CASES if case.smooth]
# One draw of every scan, where another would not show more.
SCANS = list({case.name: case for case in reversed(SMOOTH)}.values())[::-1]
every_scan = pytest.mark.parametrize("case", SCANS, ids=lambda case: case.name)
sizes = given(
    B=st.integers(0, 3), T=st.integers(1, 33), N=st.integers(1, 4), seed=st.integers(0, 2**31)
)
some_examples = settings(deadline=None, max_examples=25)


def largest_gap(actual, expected) -> float:
    """Over all tensors; whole numbers must be equal outright."""
    pairs = list(zip(tree_leaves(actual), tree_leaves(expected), strict=True))
    assert all(a.equal(e) for a, e in pairs if not floating(e))
    return max(gap(a, e) for a, e in pairs if floating(e))


def gradients(function, arguments, seed=0):
    """Gradients of a random projection of the outputs, in which an error would show."""
    arguments = of_floats(lambda t: t.clone().requires_grad_(), arguments)
    projections = []
    for output in floating(function(*arguments)):
        random = Random(output.dtype, stream(seed))
        projections.append((random.normal(*output.shape).conj() * output).real.sum())
    return torch.autograd.grad(sum(projections), floating(arguments), allow_unused=True)


# Worst gaps in 2,800 draws: 1e-14 and 1.4e-6. The bounds leave room for other machines' rounding.
DOUBLE, FLOAT = 1e-13, 3e-5


@combinations(CASES)
@some_examples
@sizes
def test_equals_its_definition_in_value_and_gradient(case, dtype, B, T, N, seed):
    arguments = case.arguments(dtype, B, T, N, seed)
    kept = tree_map(torch.clone, arguments)
    expected = case.sequential(*arguments)
    expected_gradients = gradients(case.sequential, arguments, seed)
    for form in case.forms:
        assert largest_gap(form(*arguments), expected) < DOUBLE
        assert largest_gap(gradients(form, arguments, seed), expected_gradients) < DOUBLE
    assert all(map(torch.equal, tree_leaves(arguments), tree_leaves(kept)))  # not overwritten


@combinations(SCANS)
def test_long_rows_and_several_blocks_of_time(case, dtype):
    # 100 columns fill more than 512 bytes, and 200 of their rows more than one block of any kernel.
    arguments = case.arguments(dtype, 1, 200, 100, seed=0)
    assert largest_gap(case.fast(*arguments), case.sequential(*arguments)) < DOUBLE
    actual, expected = (gradients(form, arguments) for form in (case.fast, case.sequential))
    assert largest_gap(actual, expected) < DOUBLE


@combinations(CASES)
@some_examples
@sizes
def test_single_precision_is_close_to_double(case, dtype, B, T, N, seed):
    arguments = of_floats(to(SINGLE[dtype]), case.arguments(dtype, B, T, N, seed))
    expected = floating(case.sequential(*of_floats(to(dtype), arguments)))
    for form in case.forms:
        actual = floating(form(*arguments))
        assert {output.dtype for output in actual} == {SINGLE[dtype]}
        assert largest_gap(of_floats(to(dtype), actual), expected) < FLOAT


def flat(case, arguments):
    """The scan as gradcheck wants it: a function of tensors, here of those with a gradient."""
    leaves, structure = torch.utils._pytree.tree_flatten(arguments)
    places = [place for place, leaf in enumerate(leaves) if floating(leaf)]

    def function(*tensors):
        filled = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        return tuple(floating(case.fast(*torch.utils._pytree.tree_unflatten(filled, structure))))

    return function, [leaves[place].clone().requires_grad_() for place in places]


@pytest.mark.parametrize("T", [1, 2, 3, 7])
@combinations(SMOOTH)
def test_gradients_match_finite_differences(case, dtype, T):
    assert torch.autograd.gradcheck(*flat(case, case.arguments(dtype, 2, T, 2, seed=0)))


@pytest.mark.parametrize("T", [1, 3])
@combinations(SMOOTH)
def test_second_gradients_match_finite_differences(case, dtype, T):
    function, tensors = flat(case, case.arguments(dtype, 2, T, 2, seed=0))
    assert torch.autograd.gradgradcheck(function, tensors)


@combinations(CASES)
def test_the_initial_state_may_be_left_out(case, dtype):
    *elements, _ = case.arguments(dtype, 2, 5, 3, seed=0)
    for form in case.forms:
        assert largest_gap(form(*elements), case.sequential(*elements)) < DOUBLE


def strided(tensor):
    return torch.stack([tensor, torch.zeros_like(tensor)], dim=-1)[..., 0]


def time_first(tensor):
    return tensor if tensor.ndim < 2 else tensor.transpose(0, 1).contiguous().transpose(0, 1)


def expanded(tensor):
    return tensor[:1].expand(tensor.shape)


@pytest.mark.parametrize("layout", [strided, time_first, expanded])
@combinations(CASES)
def test_memory_layout_does_not_matter(case, dtype, layout):
    arguments = tree_map(layout, case.arguments(dtype, 3, 13, 2, seed=0))
    assert not all(argument.is_contiguous() for argument in tree_leaves(arguments))
    expected = case.sequential(*tree_map(torch.Tensor.contiguous, arguments))
    assert largest_gap(case.fast(*arguments), expected) < DOUBLE


@pytest.mark.parametrize("at", [0, 1, 6, 12])
@combinations([case for case in CASES if case.stepwise])
def test_a_nan_spoils_nothing_before_it_and_shows_at_once(case, dtype, at):
    *elements, initial = case.arguments(dtype, 2, 13, 3, seed=0)
    spoilt = tree_map(torch.clone, elements)
    for element in floating(spoilt):
        if element.shape[1:2] == (13,):
            element[:, at] = torch.nan
    expected = case.sequential(*elements, initial)
    for form in case.forms:
        actual = form(*spoilt, initial)
        early = [tree_map(lambda t: t[:, :at], outputs) for outputs in (actual, expected)]
        assert largest_gap(*early) < DOUBLE
        assert all(output[:, at].isnan().all() for output in floating(actual))


@pytest.mark.parametrize("openmp", [True, False], ids=["openmp", "pool"])
@every_scan
def test_threads_do_not_change_the_answer(case, openmp, monkeypatch):
    if not openmp:
        monkeypatch.setattr("lab.scan.cpu.threads._on_openmp", None)
    monkeypatch.setattr("lab.scan.cpu.threads.WORTH_SHARING", 0)
    monkeypatch.setattr("lab.scan.cpu.threads.NARROWEST", 64)
    usual = torch.get_num_threads()
    try:
        for B, N in [(1, 70), (2, 33), (3, 7), (7, 16)]:
            arguments = case.arguments(torch.float64, B, 5, N, seed=0)
            torch.set_num_threads(1)
            expected = case.fast(*arguments), gradients(case.fast, arguments)
            torch.set_num_threads(3)
            actual = case.fast(*arguments), gradients(case.fast, arguments)
            assert largest_gap(actual, expected) < DOUBLE
    finally:
        torch.set_num_threads(usual)


@combinations([case for case in SCANS if case.compiled])
def test_torch_accepts_its_operators(case, dtype):
    seen = {}

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            if operator.namespace == "lab":
                seen[operator] = [value.detach().clone() for value in args]
            return operator(*args, **(kwargs or {}))

    with Recorder():
        gradients(case.fast, of_floats(to(SINGLE[dtype]), case.arguments(dtype, 2, 3, 2, seed=0)))
    assert len(seen) == 2  # states, and gradients
    for operator, arguments in seen.items():
        of_floats(torch.Tensor.requires_grad_, arguments)
        torch.library.opcheck(operator, arguments)


@every_scan
def test_torch_compile_takes_it_whole(case):
    arguments = case.arguments(torch.float64, 2, 7, 3, seed=0)
    compiled = torch.compile(case.fast, backend="aot_eager", fullgraph=True)
    # A graph holds the same operator, but no branch on values, for which `matmul_scan` has one.
    bound = 0 if case.compiled else DOUBLE
    assert largest_gap(compiled(*arguments), case.fast(*arguments)) <= bound
    actual, expected = gradients(compiled, arguments), gradients(case.fast, arguments)
    assert largest_gap(actual, expected) <= bound


@every_scan
def test_torch_compile_takes_vmap_whole(case):
    torch.compiler.reset()  # the graphs of one function have a limit, and vmap's are all of one
    lanes = [case.arguments(torch.float64, 2, 7, 3, seed) for seed in range(2)]
    stacked = tree_map(lambda *tensors: torch.stack(tensors), *lanes)
    together = torch.vmap(case.fast)
    compiled = torch.compile(together, backend="aot_eager", fullgraph=True)
    bound = 0 if case.compiled else DOUBLE
    assert largest_gap(compiled(*stacked), together(*stacked)) <= bound
    actual, expected = gradients(compiled, stacked), gradients(together, stacked)
    assert largest_gap(actual, expected) <= bound


@every_scan
def test_torch_compile_takes_half_precision_too(case):
    arguments = of_floats(to(torch.bfloat16), case.arguments(torch.float64, 2, 7, 3, seed=0))
    compiled = torch.compile(case.fast, backend="aot_eager", fullgraph=True)
    actual, expected = compiled(*arguments), case.fast(*arguments)
    # `matmul_scan` is another form in a graph, and may round to the other side.
    assert largest_gap(actual, expected) <= (0 if case.compiled else 8e-3)


@every_scan
def test_autocast_computes_in_single_precision(case):
    exact = case.arguments(torch.float64, 2, 7, 3, seed=0)
    half = of_floats(to(torch.bfloat16), exact)
    for form in case.forms:
        with torch.autocast("cpu", torch.bfloat16):
            actual = form(*half)
        assert largest_gap(actual, form(*of_floats(to(torch.float32), half))) == 0
    # Elsewhere the type is what it was.
    assert {output.dtype for output in floating(case.fast(*half))} == {torch.bfloat16}


@every_scan
def test_vmap_is_one_scan_after_another(case):
    lanes = [case.arguments(torch.float64, 2, 5, 3, seed) for seed in range(4)]
    stacked = tree_map(lambda *tensors: torch.stack(tensors), *lanes)

    def one_after_another(*arguments):
        each = (case.fast(*tree_map(itemgetter(lane), arguments)) for lane in range(4))
        return tree_map(lambda *tensors: torch.stack(tensors), *each)

    together = torch.vmap(case.fast)
    assert largest_gap(together(*stacked), one_after_another(*stacked)) < DOUBLE
    expected = gradients(one_after_another, stacked)
    assert largest_gap(gradients(together, stacked), expected) < DOUBLE
    # Where all lanes start from the same state.
    together = torch.vmap(case.fast, in_dims=(*[0] * (len(stacked) - 1), None))
    expected = [case.fast(*lane[:-1], lanes[0][-1]) for lane in lanes]
    assert (
        largest_gap(
            together(*stacked[:-1], lanes[0][-1]), tree_map(lambda *t: torch.stack(t), *expected)
        )
        < DOUBLE
    )


# Forward-mode derivatives load torch's own scripts of an older kind, about which torch warns.
@every_scan
def test_torch_func_sees_its_derivatives(case):
    function, tensors = flat(case, case.arguments(torch.float64, 2, 5, 3, seed=0))

    def energy(*tensors):
        return sum(output.square().sum() for output in function(*tensors))

    numbers = tuple(range(len(tensors)))
    actual = torch.func.grad(energy, argnums=numbers)(*(t.detach() for t in tensors))
    assert largest_gap(actual, torch.autograd.grad(energy(*tensors), tensors)) < DOUBLE
    _, tangent = torch.func.jvp(energy, tuple(tensors), tuple(map(torch.ones_like, tensors)))
    assert gap(tangent, sum(gradient.sum() for gradient in actual)) < DOUBLE


@every_scan
def test_gradients_come_in_batches_too(case):
    function, tensors = flat(case, case.arguments(torch.float64, 2, 5, 3, seed=0))
    output = function(*tensors)[0]
    projections = torch.randn(4, *output.shape, dtype=output.dtype, generator=stream(0))
    alone = [torch.autograd.grad(output, tensors, p, retain_graph=True) for p in projections]
    together = torch.autograd.grad(output, tensors, projections, is_grads_batched=True)
    assert largest_gap(together, [torch.stack(each) for each in zip(*alone, strict=True)]) < DOUBLE


# torch.jit is what it was asked for here.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@every_scan
def test_tracers_and_profilers_see_the_operator(case):
    arguments = case.arguments(torch.float64, 2, 5, 3, seed=0)
    if case.name in ("linear_scan", "log_scan"):
        traced = torch.jit.trace(case.fast, arguments)
        others = case.arguments(torch.float64, 2, 5, 3, seed=1)
        assert largest_gap(traced(*others), case.fast(*others)) == 0
    if case.compiled:
        with torch.profiler.profile() as profile:
            case.fast(*arguments)
        assert f"lab::{case.name}" in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("name", ["linear_scan", "log_scan", "tropical_scan"])
def test_no_columns_are_no_states(name):
    a, b = torch.rand(2, 2, 5, 0, requires_grad=True).unbind()
    h = tree_leaves(getattr(scan, name)(a, b))[0]
    h.sum().backward()
    assert h.shape == (2, 5, 0)


@pytest.mark.parametrize("bits", [0x7FC00001, 0x7F800001, -1], ids=hex)
@pytest.mark.parametrize("name", ["linear_scan", "log_scan", "tropical_scan"])
def test_no_kind_of_nan_becomes_a_number(name, bits):
    nan = torch.tensor([bits], dtype=torch.int32).view(torch.float32)
    for place in (0, 1):
        arguments = torch.zeros(2, 1, 3, 16)
        arguments[place, 0, 1] = nan
        h = tree_leaves(getattr(scan, name)(*arguments))[0]
        assert h[0, 0].isfinite().all()
        assert h[0, 1].isnan().all()


MILLION = 1_000_000


@pytest.mark.parametrize(
    "case", [case for case in SCANS if case.states and case.stepwise], ids=lambda case: case.name
)
def test_a_million_steps_each_follow_from_the_one_before(case):
    *elements, initial = case.arguments(torch.float64, 1, MILLION, 2, seed=0)
    for form in case.forms:
        outputs = form(*elements, initial)
        assert all(output.isfinite().all() for output in floating(outputs))
        # Every step anew, all at once: a batch of scans of length 1, from the states before.
        states = floating(outputs)
        start = [i.expand(1, *i.shape[1:]) for i in tree_leaves(initial)]
        before = [torch.cat([i, s[0, :-1]]) for i, s in zip(start, states, strict=True)]
        at_once = tree_map(lambda element: element.transpose(0, 1), elements)
        first = tuple(before) if isinstance(initial, tuple) else before[0]
        again = floating(case.sequential(*at_once, first))
        assert max(gap(s, a.transpose(0, 1)) for s, a in zip(states, again, strict=True)) < DOUBLE


def signed_permutations(*shape):
    """Whole numbers whose products never grow: every rounding error stays away, at any length."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (*shape, 2, 1), generator=generator, dtype=torch.float64) * 2 - 1
    swaps = torch.randint(2, (*shape, 1, 1), generator=generator).bool()
    return signs * torch.where(swaps, torch.eye(2).flip(0), torch.eye(2))


@pytest.mark.parametrize(
    ("scan", "gain"),
    [
        (linear_scan, signed_permutations(1, MILLION).sum(-1)),
        (matrix_scan, signed_permutations(1, MILLION)),
        (matrix_scan, torch.tensor([[[[0.0, -1.0], [1.0, 0.0]]]], dtype=torch.float64)),
    ],
    ids=["linear", "matrix", "matrix of all steps"],
)
def test_a_long_sequence_is_remembered_to_its_end(scan, gain):
    generator = torch.Generator().manual_seed(1)
    b = torch.randint(-3, 4, (1, MILLION, 2), generator=generator, dtype=torch.float64)
    h = scan(gain, b.requires_grad_())
    before = torch.nn.functional.pad(h, (0, 0, 1, 0))[:, :-1]
    after = gain * before if scan is linear_scan else (gain @ before[..., None])[..., 0]
    assert torch.equal(h, after + b)  # the recurrence itself, at all steps at once
    # Through a million steps of size 1 the gradient keeps its size.
    h[0, -1].sum().backward()
    assert (b.grad.abs() == 1).all()


def zeros(*shape, dtype=torch.float64):
    return torch.zeros(shape, dtype=dtype)


LINEAR, MATRIX = (linear_scan, linear_scan_sequential), (matrix_scan, matrix_scan_sequential)
MISFITS = [
    (LINEAR, (zeros(2, 3, 4), zeros(2, 3, 5)), "a (2, 3, 4) and b (2, 3, 5) must share one"),
    (LINEAR, (zeros(1, 3, 4), zeros(2, 3, 4)), "a (1, 3, 4) and b (2, 3, 4) must share one"),
    (LINEAR, (zeros(3, 4), zeros(3, 4)), "a (3, 4) and b (3, 4) must share one (B, T, N) shape"),
    (LINEAR, (zeros(2, 0, 4), zeros(2, 0, 4)), "(2, 0, 4) must share one (B, T, N) shape with T >"),
    (LINEAR, (zeros(2, 3, 4), zeros(2, 3, 4), zeros(4)), "initial must be (2, 4), got (4,)"),
    (
        LINEAR,
        (zeros(2, 3, 4), zeros(2, 3, 4, dtype=torch.complex128)),
        "dtypes differ: a torch.float64, b torch.complex128, initial torch.complex128",
    ),
    (
        LINEAR,
        (zeros(2, 3, 4, dtype=torch.int64), zeros(2, 3, 4)),
        "a must be floating-point or complex, got torch.int64",
    ),
    (MATRIX, (zeros(2, 3, 4), zeros(2, 3, 4)), "A (2, 3, 4) and b (2, 3, 4) must be (B, T, N, N)"),
    (MATRIX, (zeros(2, 1, 4, 4), zeros(2, 0, 4)), "b (2, 0, 4) must be (B, T, N, N) and (B, T, N)"),
    (MATRIX, (zeros(2, 3, 4, 4), zeros(3, 4)), "b (3, 4) must be (B, T, N, N) and (B, T, N) with"),
    (
        MATRIX,
        (zeros(3, 3, 4, 4), zeros(2, 3, 4)),
        "A (3, 3, 4, 4) and b (2, 3, 4) do not match: A must be (1 or 2, 1 or 3, 4, 4)",
    ),
    (MATRIX, (zeros(2, 2, 4, 4), zeros(2, 3, 4)), "A must be (1 or 2, 1 or 3, 4, 4)"),
    (MATRIX, (zeros(2, 3, 4, 5), zeros(2, 3, 4)), "A must be (1 or 2, 1 or 3, 4, 4)"),
    (
        MATRIX,
        (zeros(2, 3, 4, 4), zeros(2, 3, 4), zeros(1, 4)),
        "initial must be (2, 4), got (1, 4)",
    ),
    (
        MATRIX,
        (zeros(2, 3, 4, 4), zeros(2, 3, 4), zeros(2, 4, dtype=torch.float32)),
        "dtypes differ: A torch.float64, b torch.float64, initial torch.float32",
    ),
]


@pytest.mark.parametrize("form", [0, 1], ids=["parallel", "sequential"])
@pytest.mark.parametrize(("scan", "arguments", "sentence"), MISFITS)
def test_arguments_that_do_not_fit_are_named(scan, arguments, sentence, form):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        scan[form](*arguments)


def flat_with_names(case):
    """The arguments of a case as they are passed, and the names that messages give them."""
    parameters = inspect.signature(case.sequential).parameters.values()
    names = [
        each.name
        for each in parameters
        if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD  # `reset` is passed by its name
    ]
    return dict(zip(names, case.arguments(torch.float64, 2, 3, 2, seed=0), strict=True))


NO_TENSORS = {
    "a list": [[1.0]],
    "a numpy.ndarray": np.ones((2, 3, 2)),
    "a float": 2.0,
    "a str": "a",
    "None": None,
}


@pytest.mark.parametrize("what", NO_TENSORS)
@every_scan
def test_what_is_no_tensor_is_named(case, what):
    given = flat_with_names(case)
    for name in given:
        if name == "initial" and (what == "None" or case.name == "softmax_scan"):
            continue
        sentence = rf"^{name} must be a torch\.Tensor, got {re.escape(what)}"
        for form in [*case.forms, case.sequential]:
            with pytest.raises(TypeError, match=sentence):
                form(*(given | {name: NO_TENSORS[what]}).values())


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.float8_e4m3fn])
@every_scan
def test_numbers_that_are_not_computed_with_are_named(case, dtype):
    given = flat_with_names(case)
    for name, value in given.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        for form in [*case.forms, case.sequential]:
            with pytest.raises(ValueError, match=rf"^{name} must .*, got {dtype}; \.float\(\)"):
                form(*(given | {name: torch.ones(value.shape).to(dtype)}).values())


@pytest.mark.parametrize(
    "initial", [3.0, "ab c", torch.ones(2, 2, 3), (torch.ones(2, 2, 3),), np.ones(2)]
)
@pytest.mark.parametrize("suffix", ["", "_sequential", "_associative"])
def test_the_state_of_softmax_is_a_pair(initial, suffix):
    gates, value = torch.zeros(2, 3, 2), torch.zeros(2, 3, 2, 3)
    with pytest.raises(
        TypeError, match="initial must be None or a pair of tensors, average and lo"
    ):
        getattr(scan, f"softmax_scan{suffix}")(gates, gates, value, initial)
    with pytest.raises(TypeError, match=r"log_norm of initial must be a torch\.Tensor, got a list"):
        getattr(scan, f"softmax_scan{suffix}")(gates, gates, value, (value[:, 0], [0.0]))


@pytest.mark.parametrize("block", [1, 0, -3, 2.5, "4", None, True])
def test_a_block_is_a_number_of_steps(block):
    with pytest.raises(ValueError, match=rf"block must be .* at least 2, got {block!r}$"):
        scan.matmul_scan(torch.ones(1, 3), torch.ones(1, 3, 2), block=block)


@pytest.mark.parametrize(
    ("elements", "error", "sentence"),
    [
        (None, TypeError, "elements must be a tuple of tensors, got None"),
        (torch.ones(1, 3), TypeError, "elements must be a tuple of tensors, got a Tensor"),
        ((torch.ones(1, 3), [1.0]), TypeError, "elements[1] must be a torch.Tensor, got a list"),
        ((torch.ones(1, 3), None), TypeError, "elements[1] must be a torch.Tensor, got None"),
        ((), ValueError, "must be tensors (B, T, ...) with the same T > 0"),
        ((torch.ones(3),), ValueError, "elements [(3,)] must be tensors (B, T, ...)"),
        ((torch.ones(2, 0),), ValueError, "elements [(2, 0)] must be tensors (B, T, ...)"),
    ],
)
@pytest.mark.parametrize("suffix", ["", "_sequential"])
def test_elements_that_do_not_fit_are_named(suffix, elements, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        getattr(scan, f"associative_scan{suffix}")(lambda x, y: (x[0] + y[0],), elements)
