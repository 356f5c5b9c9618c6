"""Gains of any size: every form of every scan equals the definition wherever that is finite.

A product of gains that no state has met may overflow, and times a state of zero it is NaN; or it
is so large that what is left of rounding drowns the state. Neither happens step by step.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from scan_cases import of_floats, to

from lab import scan
from lab.scan.operators import Scan

HALVES = (torch.float16, torch.bfloat16)
SINGLES = (torch.float32, torch.complex64)
DOUBLES = (torch.float64, torch.complex128)
DTYPES = (*HALVES, *SINGLES, *DOUBLES)
# Of rounding the result once, and of the float32 or float64 that it was computed in.
BOUND = {torch.float16: 1e-3, torch.bfloat16: 8e-3} | dict.fromkeys(SINGLES, 1e-5)
BOUND |= dict.fromkeys(DOUBLES, 1e-13)


def gains_of(name, a):
    """Arguments before b whose gains are a ["B T"] for all states, and the shape of a state."""
    B, T = a.shape
    if name == "matmul_scan":
        return (a,), (2,)
    eye = torch.eye(2, dtype=a.dtype)
    if name == "linear_scan":
        return (a[..., None].expand(B, T, 2),), (2,)
    if name in ("permutation_scan", "scatter_scan"):
        return (torch.tensor([1, 0]).expand(B, T, 2), a[..., None].expand(B, T, 2)), (2,)
    if name == "matrix_scan":
        return (a[..., None, None] * eye.flip(0),), (2,)
    if name == "block_scan":
        return (a[..., None, None, None] * eye.flip(0).expand(2, 2, 2),), (4,)
    if name == "pair_scan":
        return (a[..., None, None, None] * eye[..., None].expand(2, 2, 3),), (2, 3)
    if name == "householder_scan":
        # P = I - beta k k^H: a gain of 1 - beta along k = (1, 0), and along (0, 1).
        return (1 - a[..., None].expand(B, T, 2), eye.expand(B, T, 2, 2)), (2,)
    assert name == "monarch_scan"
    return (a[..., None, None, None] * eye.expand(2, 2, 2), eye.expand(B, T, 2, 2, 2)), (4,)


NAMES = [
    "linear_scan", "matmul_scan", "matrix_scan", "block_scan", "pair_scan", "permutation_scan",
    "scatter_scan", "householder_scan", "monarch_scan",
]  # fmt: skip
every_scan = pytest.mark.parametrize("name", NAMES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])


def forms(name):
    found = getattr(scan, name), getattr(scan, f"{name}_associative", None)
    return [form for form in found if form is not None]


def problem(name, gains, inputs, dtype):
    """The scan's arguments for gains ["T"], and for inputs ["T"] to all states alike."""
    before, state = gains_of(name, gains[None].to(dtype))
    shape = (1, len(inputs), *state)
    b = inputs.to(dtype).reshape(1, -1, *[1] * len(state)).expand(shape)
    return tuple(part.contiguous() for part in (*before, b))


def defined(name, arguments, dtype):
    """The plain loop, in double precision, of the same numbers."""
    wide = torch.complex128 if dtype.is_complex else torch.float64
    return getattr(scan, f"{name}_sequential")(*of_floats(to(wide), arguments))


def at(T, **values):
    """["T"] zeros but for the values at these steps, such as t7=1."""
    x = torch.zeros(T, dtype=torch.float64)
    for step, value in values.items():
        x[int(step[1:])] = value
    return x


def constant(T, value):
    return torch.full((T,), value, dtype=torch.float64)


# Gains and inputs; no state of the definition is large.
PROBLEMS = {
    "nothing until the last step": (constant(400, 3.0), at(400, t399=1)),
    "nothing until late, and then shrinking": (
        torch.cat([constant(200, 1e3), constant(100, 0.5)]), at(300, t200=1, t250=-2),
    ),
    "gains of a thousand": (constant(50, 1e3), at(50, t48=1)),
    "huge gains of both signs": (constant(60, -1e4), at(60, t59=3)),
    "zeros in between": (constant(120, 3.0) * (torch.arange(120) % 3 > 0), constant(120, 1.0)),
    "nothing at all": (constant(300, 7.0), at(300)),
    "held where it is unstable": (
        constant(90, 3.0), torch.cat([constant(1, 1.0), constant(89, -2.0)]),
    ),
}  # fmt: skip
every_problem = pytest.mark.parametrize("which", PROBLEMS)


@every_problem
@every_dtype
@every_scan
def test_values_are_those_of_the_definition(name, dtype, which):
    arguments = problem(name, *PROBLEMS[which], dtype)
    expected = defined(name, arguments, dtype)
    assert expected.isfinite().all()
    assert expected.abs().max() < 2e4
    for form in forms(name):
        actual = form(*arguments)
        assert actual.dtype == dtype
        assert gap(actual.to(expected.dtype), expected) < BOUND[dtype]


def ways(form):
    """The scan inside transforms, whose values must stay what they were."""

    def of_vmap(*arguments):
        return torch.vmap(form)(*(part[None] for part in arguments))[0]

    def of_grad(*arguments):
        def loss(b):
            h = form(*arguments[:-1], b)
            return h.real.sum(), h

        return torch.func.grad(loss, has_aux=True)(arguments[-1])[1]

    def of_vmapped_grad(*arguments):
        return torch.vmap(lambda *lane: of_grad(*lane))(*(part[None] for part in arguments))[0]

    def of_jvp(*arguments):
        function = lambda b: form(*arguments[:-1], b)  # noqa: E731
        return torch.func.jvp(function, arguments[-1:], arguments[-1:])[1]  # linear in b

    return of_vmap, of_grad, of_vmapped_grad, of_jvp


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.complex128])
@pytest.mark.parametrize("which", ["gains of a thousand", "held where it is unstable"])
@every_scan
def test_transforms_change_nothing(name, which, dtype):
    arguments = problem(name, *PROBLEMS[which], dtype)
    expected = defined(name, arguments, dtype)
    for form in forms(name):
        for way in ways(form):
            assert gap(way(*arguments).to(expected.dtype), expected) < BOUND[dtype], way.__name__


@every_problem
@every_scan
def test_devices_without_kernels_and_autocast(name, which, monkeypatch):
    arguments = problem(name, *PROBLEMS[which], torch.bfloat16)
    expected = defined(name, arguments, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        actual = getattr(scan, name)(*arguments)
    assert actual.dtype == torch.float32
    assert gap(actual.double(), expected) < 1e-5
    monkeypatch.setattr(Scan, "runs_on", lambda *_: False)
    actual = getattr(scan, name)(*of_floats(to(torch.float32), arguments))
    assert gap(actual.double(), expected) < 1e-5


def pulled_back(form, arguments, weight):
    """The gradients of all but indices, given that of the states."""
    leaves = [part.clone() for part in arguments]
    numbers = [part.requires_grad_() for part in leaves if part.dtype != torch.int64]
    return torch.autograd.grad((weight * form(*leaves)).real.sum(), numbers)


# What flows back is a scan, too: here of gradients that meet large gains at the first step alone,
# or are held at 1 where that is unstable.
@pytest.mark.parametrize("weights", [at(90, t0=1), constant(90, -2.0) + at(90, t89=3)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("kernels", [True, False])
@every_scan
def test_gradients_are_those_of_the_definition(name, dtype, weights, kernels, monkeypatch):
    arguments = problem(name, constant(90, 3.0), at(90), dtype)
    if not kernels:
        monkeypatch.setattr(Scan, "runs_on", lambda *_: False)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    weight = weights.reshape(1, -1, *[1] * (arguments[-1].ndim - 2))
    definition = getattr(scan, f"{name}_sequential")
    expected = pulled_back(definition, of_floats(to(wide), arguments), weight)
    for form in forms(name):
        actual = pulled_back(form, arguments, weight.to(dtype))
        for of_actual, of_expected in zip(actual, expected, strict=True):
            assert gap(of_actual.to(wide), of_expected) < BOUND[dtype]


@pytest.mark.parametrize("name", ["permutation_scan", "scatter_scan"])
def test_second_gradients_are_those_of_the_definition(name):
    # What is sent back goes other ways, and has a tree of its own.
    def second(form):
        arguments = problem(name, constant(400, 3.0), at(400), torch.float64)
        source, a, b = (part.requires_grad_(part.dtype != torch.int64) for part in arguments)
        first = torch.autograd.grad(form(source, a, b)[:, 0].sum(), b, create_graph=True)[0]
        return torch.autograd.grad((first[:, 0] ** 2 + a.sum() * 0).sum(), a)[0]

    actual, expected = (second(getattr(scan, f"{name}{form}")) for form in ("", "_sequential"))
    assert gap(actual, expected) == 0


@every_scan
@settings(deadline=None, max_examples=15)
@given(
    T=st.integers(1, 60), size=st.sampled_from([0.1, 1.0, 3.0, 1e3, 1e30]),
    rare=st.sampled_from([2, 5, 20]), seed=st.integers(0, 2**31),
    single=st.booleans(),
)  # fmt: skip
def test_sparse_inputs_and_gains_of_any_size(name, T, size, rare, seed, single):
    random = stream(seed)
    normal = lambda: torch.randn(T, dtype=torch.float64, generator=random)  # noqa: E731
    chosen = lambda: torch.randint(rare, (T,), generator=random)  # noqa: E731
    # Where something comes in, a gain of zero soon follows, and all in between is nothing.
    inputs = normal() * (chosen() == 0)
    gains = size * normal() * ~((inputs != 0).roll(1))
    dtype = torch.float32 if single else torch.float64
    arguments = problem(name, gains, inputs, dtype)
    expected = defined(name, arguments, dtype)
    for form in forms(name):
        assert gap(form(*arguments).double(), expected) < BOUND[dtype]


@pytest.mark.parametrize(
    "name", ["linear_scan", "matrix_scan", "pair_scan", "permutation_scan", "scatter_scan"]
)
def test_gains_up_to_one_are_composed(name, monkeypatch):
    # The loop is for growing gains alone: it would take long.
    monkeypatch.setattr(f"lab.scan.{name[:-5]}.{name}_sequential", None)
    monkeypatch.setattr("lab.scan.block.block_scan_sequential", None)
    arguments = problem(name, constant(300, 1.0), constant(300, 1.0), torch.float64)
    h = getattr(scan, f"{name}_associative")(*arguments)
    assert torch.equal(h.flatten(2)[0, :, 0], torch.arange(1, 301).double())


def test_no_scan_of_logarithms_meets_a_product():
    decay, b = torch.full((1, 400, 2), 1000.0), torch.full((1, 400, 2), -torch.inf)
    b[:, -1] = 1
    value = torch.ones(1, 400, 2, 1)
    for suffix in ("", "_associative"):
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            a, x = decay.to(dtype), b.to(dtype)
            log, tropical, softmax = (
                getattr(scan, name + suffix)
                for name in ("log_scan", "tropical_scan", "softmax_scan")
            )
            assert torch.equal(log(a, x), x)
            assert torch.equal(tropical(a, x)[0], x)
            average, log_norm = softmax(a, x, value.to(dtype))
            assert torch.equal(log_norm, x)
            assert (average[:, -1] == 1).all()
            assert (average[:, :-1] == 0).all()
