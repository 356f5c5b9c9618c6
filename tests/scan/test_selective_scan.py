"""The selective scan as users of Mamba know it: layouts, options, and what it keeps in memory."""

import itertools
import math
import re

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.scan import selective_scan, selective_scan_associative, selective_scan_sequential
from lab.scan.cpu.selective import CHUNK

OPTIONAL = ["D", "z", "delta_bias", "initial"]
FORMS = [selective_scan, selective_scan_sequential, selective_scan_associative]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
# Worst gaps in 1,800 draws: 1.3e-14 and 4.6e-6. The bounds leave room for other machines' rounding.
BOUND = {torch.float64: 1e-13, torch.float32: 3e-5}


def problem(B, T, D, N, G=None, dtype=torch.float64, seed=0):
    """All that the scan takes, by name, in Mamba's layout."""
    generator = stream(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    groups = () if G is None else (G,)
    return {
        "u": normal(B, D, T), "delta": normal(B, D, T), "A": 0.1 - normal(D, N).abs(),
        "B": normal(B, *groups, N, T), "C": normal(B, *groups, N, T), "D": normal(D),
        "z": normal(B, D, T), "delta_bias": normal(D) - 1, "initial": normal(B, D, N),
    }  # fmt: skip


def turned(arguments):
    """The same with time first."""
    return {
        name: part if name not in ("u", "delta", "z", "B", "C") else part.movedim(-1, 1)
        for name, part in arguments.items()
    }


def with_gradients(form, arguments, seed=0, **flags):
    """y, the last state, and the gradients of a random projection of both."""
    leaves = {name: part.clone().requires_grad_() for name, part in arguments.items()}
    outputs = form(**leaves, return_last_state=True, **flags)
    weights = [
        torch.randn(o.shape, generator=stream(seed), dtype=torch.float64).to(o) for o in outputs
    ]
    found = torch.autograd.grad(outputs, list(leaves.values()), weights)
    return [*(output.detach() for output in outputs), *found]


def number_by_number(u, delta, A, B, C, D, z, delta_bias, initial):
    """From the docstring alone: no tensor operation but on single numbers."""
    y, h = torch.zeros_like(u), initial.clone()
    for s, d, t in itertools.product(*map(range, u.shape)):
        dt = math.log1p(math.exp(delta[s, d, t] + delta_bias[d]))
        read = 0.0
        for n in range(A.shape[1]):
            h[s, d, n] = math.exp(dt * A[d, n]) * h[s, d, n] + dt * u[s, d, t] * B[s, n, t]
            read += C[s, n, t] * h[s, d, n]
        gate = z[s, d, t] / (1 + math.exp(-z[s, d, t]))
        y[s, d, t] = (read + D[d] * u[s, d, t]) * gate
    return y, h


@every_form
def test_it_is_what_its_docstring_says(form):
    arguments = problem(B=2, T=5, D=3, N=2)
    actual = form(**arguments, delta_softplus=True, return_last_state=True)
    for found, right in zip(actual, number_by_number(**arguments), strict=True):
        assert gap(found, right) < 1e-14


@pytest.mark.parametrize("form", FORMS[::2], ids=lambda form: form.__name__)
@pytest.mark.parametrize("dtype", BOUND)
@settings(deadline=None, max_examples=25)
@given(
    B=st.integers(0, 3), T=st.integers(1, 50), D=st.integers(1, 5), N=st.integers(1, 4),
    G=st.sampled_from([None, 1, 2, 4]), omitted=st.sets(st.sampled_from(OPTIONAL)),
    softplus=st.booleans(), resets=st.booleans(), first=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
@example(
    B=2, T=CHUNK + 1, D=5, N=3, G=None, omitted=set(), softplus=True, resets=False, first=False,
    seed=0,
)  # fmt: skip
def test_every_option_equals_the_definition_in_value_and_gradient(
    form, dtype, B, T, D, N, G, omitted, softplus, resets, first, seed
):
    arguments = problem(B, T, D * (G or 1), N, G, dtype, seed)
    arguments = {name: part for name, part in arguments.items() if name not in omitted}
    if not softplus:
        # Steps may be negative, and gains beyond 1.
        scaled = {"delta", "delta_bias"} & arguments.keys()
        arguments |= {name: 0.05 * arguments[name] for name in scaled}
    arguments = turned(arguments) if first else arguments
    reset = torch.rand(B, T, generator=stream(seed)) < 0.2 if resets else None
    flags = {"delta_softplus": softplus, "time_first": first, "reset": reset}
    exact = {name: part.double() for name, part in arguments.items()}
    expected = with_gradients(selective_scan_sequential, exact, **flags)
    actual = with_gradients(form, arguments, **flags)
    assert {each.dtype for each in actual} == {dtype}
    for found, right in zip(actual, expected, strict=True):
        assert gap(found.double(), right) < BOUND[dtype]


@every_form
def test_both_layouts_are_the_same_scan(form):
    arguments = problem(B=2, T=6, D=6, N=6, G=6)
    y, last = form(**arguments, return_last_state=True)
    of_turned, same = form(**turned(arguments), time_first=True, return_last_state=True)
    assert torch.equal(of_turned.mT, y)
    assert torch.equal(same, last)


def test_arguments_have_the_order_of_mamba_ssm():
    given = problem(B=1, T=4, D=3, N=2)
    initial = given.pop("initial")
    by_place = selective_scan(*given.values(), True, True)
    by_name = selective_scan(**given, delta_softplus=True, return_last_state=True)
    assert all(map(torch.equal, by_place, by_name))
    assert gap(selective_scan(**given, initial=0 * initial), selective_scan(**given)) == 0


@pytest.mark.parametrize("T", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
@pytest.mark.parametrize("D", [1, 7, 8, 17])
def test_chunks_and_registers_that_are_not_full(T, D):
    arguments = problem(B=2, T=T, D=D, N=3)
    actual = with_gradients(selective_scan, arguments, delta_softplus=True)
    expected = with_gradients(selective_scan_sequential, arguments, delta_softplus=True)
    for found, right in zip(actual, expected, strict=True):
        assert gap(found, right) < BOUND[torch.float64]


@every_form
def test_second_gradients_and_the_last_state(form):
    arguments = problem(B=1, T=4, D=2, N=2)
    names, leaves = list(arguments), [part.requires_grad_() for part in arguments.values()]

    def both(*parts):
        named = dict(zip(names, parts, strict=True))
        return form(**named, delta_softplus=True, return_last_state=True)

    assert torch.autograd.gradcheck(both, leaves)
    assert torch.autograd.gradgradcheck(both, leaves)


@every_form
def test_a_state_continues_where_another_scan_ended(form):
    arguments = problem(B=2, T=20, D=3, N=4)
    whole, at_end = form(**arguments, return_last_state=True)
    in_time = ("u", "delta", "z", "B", "C")
    parts = [
        {name: part[..., cut] if name in in_time else part for name, part in arguments.items()}
        for cut in (slice(None, 9), slice(9, None))
    ]
    first, state = form(**parts[0], return_last_state=True)
    second, last = form(**{**parts[1], "initial": state}, return_last_state=True)
    assert gap(torch.cat([first, second], -1), whole) < 1e-14
    assert gap(last, at_end) < 1e-14


@every_form
@pytest.mark.parametrize("lengths", [[5, 1, 17, 20], [43]])
def test_packed_sequences_are_separate_sequences(form, lengths):
    arguments = problem(B=1, T=43, D=9, N=3)
    initial = arguments.pop("initial")
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    reset = torch.zeros(1, 43, dtype=torch.bool)
    reset[0, starts] = True
    # What came before a reset does not matter, not even the initial state.
    packed = with_gradients(lambda **kw: form(**kw, initial=initial, reset=reset), arguments)
    weight = torch.randn(1, 9, 43, generator=stream(0), dtype=torch.float64)
    last_weight = torch.randn(1, 9, 3, generator=stream(0), dtype=torch.float64)
    leaves = {name: part.clone().requires_grad_() for name, part in arguments.items()}
    outputs = []
    for start, length in zip(starts, lengths, strict=True):
        cut = {
            name: part[..., start : start + length] if part.ndim == 3 else part
            for name, part in leaves.items()
        }
        y, last = form(**cut, return_last_state=True)
        outputs.append(y)
    y = torch.cat(outputs, -1)
    found = torch.autograd.grad([y, last], list(leaves.values()), [weight, last_weight])
    for actual, right in zip(packed, [y, last, *found], strict=True):
        assert gap(actual, right.detach()) < 1e-13


# In a tree of compositions 0 times infinity is no number.
@pytest.mark.parametrize("form", FORMS[:2], ids=lambda form: form.__name__)
def test_a_sequence_that_diverged_does_not_spoil_the_next(form):
    arguments = problem(B=1, T=30, D=9, N=2)
    reset = torch.arange(30)[None] == 11
    expected = form(**arguments, reset=reset)
    arguments["u"][..., 5] = torch.inf
    y = form(**arguments, reset=reset)
    assert not y[..., 5:11].isfinite().any()
    assert gap(y[..., 11:], expected[..., 11:]) < 1e-14


# Gains from e^-1000 to e^3, each of which the state must survive.
@every_form
@pytest.mark.parametrize("dtype", BOUND)
def test_steps_of_any_length(form, dtype):
    arguments = problem(B=1, T=40, D=8, N=2)
    del arguments["delta_bias"]
    arguments["delta"] = torch.tensor([0.0, 1e-30, 1e-3, 1.0, 50.0, 1e3, 1e30, 3.0])[:, None]
    arguments["delta"] = arguments["delta"].double().expand(1, 8, 40).contiguous()
    arguments["A"] = -torch.ones(8, 2).double()
    arguments["A"][7] = 0.05
    arguments["u"] = arguments["u"] / arguments["delta"].clamp_min(1)
    exact = selective_scan_sequential(**arguments)
    found = form(**{name: part.to(dtype) for name, part in arguments.items()})
    assert gap(found.double(), exact) < BOUND[dtype]


def test_a_rate_that_is_no_number_shows():
    arguments = problem(B=1, T=4, D=9, N=2)
    arguments["A"][3, 1] = torch.nan
    y = selective_scan(**arguments)
    assert y[:, 3].isnan().all()
    assert y[:, [0, 1, 2, 4, 5, 6, 7, 8]].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_and_rounded_once(dtype):
    arguments = {n: p.to(dtype) for n, p in problem(B=2, T=300, D=5, N=4).items()}
    flags = {"delta_softplus": True, "return_last_state": True}
    single = {name: part.float() for name, part in arguments.items()}
    expected, state = selective_scan(**single, **flags)
    for form in FORMS:
        y, last = form(**arguments, **flags)
        assert (y.dtype, last.dtype) == (dtype, torch.float32)
        assert gap(y.float(), expected) <= torch.finfo(dtype).eps / 2 + BOUND[torch.float32]
        assert gap(last, state) < BOUND[torch.float32]
    # As mamba_ssm is called: weights and states in single precision beside what is not.
    mixed = arguments | {n: single[n] for n in ("A", "D", "delta_bias", "initial")}
    assert torch.equal(selective_scan(**mixed, **flags)[0], expected.to(dtype))
    with torch.autocast("cpu", dtype):
        y, last = selective_scan(**arguments, **flags)
    assert y.dtype == torch.float32
    assert torch.equal(y, expected)


def test_no_array_of_all_states_is_kept():
    B, T, D, N = 2, 512, 16, 16
    arguments = problem(B, T, D, N, dtype=torch.float32)
    leaves = {name: part.requires_grad_() for name, part in arguments.items()}
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        selective_scan(**leaves, delta_softplus=True)
    one = 4 * B * T * D
    assert sum(kept.values()) < 12 * one < one * N


@pytest.mark.parametrize("lanes", [1, 3])
def test_models_side_by_side(lanes):
    several = [problem(B=2, T=19, D=5, N=3, seed=seed) for seed in range(lanes)]
    stacked = {name: torch.stack([each[name] for each in several]) for name in several[0]}

    def together(return_last_state, **parts):
        function = lambda named: selective_scan(  # noqa: E731
            **named, delta_softplus=True, return_last_state=return_last_state
        )
        return torch.vmap(function)(parts)

    expected = [with_gradients(selective_scan, each, delta_softplus=True) for each in several]
    leaves = {name: part.clone().requires_grad_() for name, part in stacked.items()}
    outputs = together(True, **leaves)
    weights = [
        torch.randn(o.shape[1:], generator=stream(0), dtype=o.dtype).expand(o.shape)
        for o in outputs
    ]
    found = [*outputs, *torch.autograd.grad(outputs, list(leaves.values()), weights)]
    for actual, right in zip(found, zip(*expected, strict=True), strict=True):
        assert gap(actual.detach(), torch.stack(right)) < 1e-13


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


FITS = {"u": zeros(2, 6, 5), "delta": zeros(2, 6, 5), "A": zeros(6, 3), "B": zeros(2, 3, 5),
        "C": zeros(2, 3, 5)}  # fmt: skip
MISFITS = [
    ({"u": zeros(6, 5)}, "u (6, 5) and A (6, 3) must be (B, D, T) and (D, N) with T > 0; see"),
    ({"u": zeros(2, 6, 0)}, "u (2, 6, 0) and A (6, 3) must be (B, D, T) and (D, N) with T > 0"),
    ({"u": zeros(2, 5, 6)}, "u (2, 5, 6) and A (6, 3) must be (B, D, T) and (D, N) with T > 0"),
    ({"delta": zeros(2, 6, 4)}, "delta must be (2, 6, 5) beside u (2, 6, 5) and A (6, 3), got (2"),
    ({"z": zeros(2, 5, 6)}, "z must be (2, 6, 5) beside u (2, 6, 5) and A (6, 3), got (2, 5, 6)"),
    ({"D": zeros(5)}, "D must be (6,) beside u (2, 6, 5) and A (6, 3), got (5,)"),
    ({"delta_bias": zeros(1)}, "delta_bias must be (6,) beside u"),
    ({"initial": zeros(2, 3, 6)}, "initial must be (2, 6, 3) beside u"),
    ({"B": zeros(6, 3)}, "B must be (B, N, T) or (B, G, N, T) beside u (2, 6, 5) and A (6, 3), G"),
    ({"C": zeros(2, 4, 3, 5)}, "G a divisor of D, got (2, 4, 3, 5)"),
    ({"C": zeros(2, 2, 3, 5)}, "B (2, 3, 5) and C (2, 2, 3, 5) must share one shape"),
    ({"u": zeros(2, 6, 5, dtype=torch.complex64)}, "u must be real, got torch.complex64"),
    ({"u": zeros(2, 6, 5, dtype=torch.int64)}, "u must be floating-point or complex, got torch.in"),
    ({"A": zeros(6, 3, dtype=torch.float64)}, "dtypes differ: u torch.float32, delta torch.float"),
    ({"A": zeros(6, 3, dtype=torch.bfloat16)}, "A torch.bfloat16"),
    ({"reset": zeros(2, 5)}, "reset must be torch.bool (2, 5) on cpu, got torch.float32 (2, 5) on"),
    ({"reset": zeros(2, 6, dtype=torch.bool)}, "reset must be torch.bool (2, 5) on cpu, got tor"),
]  # fmt: skip


@every_form
@pytest.mark.parametrize(("change", "sentence"), MISFITS)
def test_arguments_that_do_not_fit_are_named(form, change, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        form(**(FITS | change))


@pytest.mark.parametrize("name", [*FITS, "D", "z", "delta_bias", "initial", "reset"])
def test_what_is_no_tensor_is_named(name):
    with pytest.raises(TypeError, match=rf"^{name} must be a torch\.Tensor, got a list"):
        selective_scan(**(FITS | {name: [1.0]}))
