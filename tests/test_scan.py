"""One suite for all scans: each must equal its plain loop. A new scan adds a draw and a row."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap
from torch import Tensor

from lab.scan import linear_scan, linear_scan_sequential, matrix_scan, matrix_scan_sequential

SINGLE = {torch.float64: torch.float32, torch.complex128: torch.complex64}


@dataclass(frozen=True)
class Random:
    """Random tensors of one type from one stream."""

    dtype: torch.dtype
    generator: torch.Generator

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, dtype=self.dtype, generator=self.generator)

    def gain(self, *shape: int) -> Tensor:
        """Of both signs (any phase), crowded near 1 in size on either side.

        Small gains forget, and hide a lost long range.
        """
        normal = self.normal(*shape)
        return 1.05 * (3 * normal.abs()).tanh() * normal.sgn()

    def turn(self, *shape: int) -> Tensor:
        """Matrices that turn, and stretch by a gain: what commutes would hide a wrong order."""
        return torch.linalg.qr(self.normal(*shape)).Q * self.gain(*shape[:-2], 1, shape[-1])


def linear(random, B, T, N):
    return random.gain(B, T, N), random.normal(B, T, N), random.normal(B, N)


def linear_with_zeros(random, B, T, N):
    a, b, initial = linear(random, B, T, N)
    return a * (random.normal(B, T, N).real > -1), b, initial


def matrix(random, B, T, N):
    return random.turn(B, T, N, N), random.normal(B, T, N), random.normal(B, N)


def matrix_with_zeros(random, B, T, N):
    A, b, initial = matrix(random, B, T, N)
    return A * (random.normal(B, T, N, N).real > -1), b, initial


def matrix_of_all_steps(random, B, T, N):
    return random.turn(B, 1, N, N), random.normal(B, T, N), random.normal(B, N)


def matrix_of_the_batch(random, B, T, N):
    return random.turn(1, T, N, N), random.normal(B, T, N), random.normal(B, N)


def one_matrix(random, B, T, N):
    return random.turn(1, 1, N, N), random.normal(B, T, N), random.normal(B, N)


@dataclass(frozen=True)
class Scan:
    """A scan, its definition, and a draw of its arguments, of which the initial state is last."""

    parallel: Callable[..., Tensor]
    sequential: Callable[..., Tensor]
    draw: Callable[[Random, int, int, int], tuple[Tensor, ...]]

    def arguments(self, dtype: torch.dtype, B: int, T: int, N: int, seed: int) -> list[Tensor]:
        random = Random(dtype, torch.Generator().manual_seed(seed))
        return list(self.draw(random, B, T, N))


LINEAR, MATRIX = (linear_scan, linear_scan_sequential), (matrix_scan, matrix_scan_sequential)
SCANS = [Scan(*LINEAR, draw) for draw in (linear, linear_with_zeros)] + [
    Scan(*MATRIX, draw)
    for draw in (
        matrix,
        matrix_with_zeros,
        matrix_of_all_steps,
        matrix_of_the_batch,
        one_matrix,
    )
]
every_scan = pytest.mark.parametrize("scan", SCANS, ids=lambda scan: scan.draw.__name__)
every_dtype = pytest.mark.parametrize("dtype", SINGLE, ids=["real", "complex"])
sizes = given(
    B=st.integers(0, 3), T=st.integers(1, 33), N=st.integers(1, 4), seed=st.integers(0, 2**31)
)
some_examples = settings(deadline=None, max_examples=25)


def gradients(function, arguments, seed):
    """Of a random projection of the output, which no error can hide in for long."""
    arguments = [argument.clone().requires_grad_() for argument in arguments]
    states = function(*arguments)
    random = Random(states.dtype, torch.Generator().manual_seed(seed))
    projection = (random.normal(*states.shape).conj() * states).real.sum()
    return torch.autograd.grad(projection, arguments)


# Worst gaps in 2,800 draws: 1e-14 and 1.4e-6. The bounds leave room for other machines' rounding.
DOUBLE, FLOAT = 1e-13, 3e-5


@every_dtype
@every_scan
@some_examples
@sizes
def test_equals_its_definition_in_value_and_gradient(scan, dtype, B, T, N, seed):
    arguments = scan.arguments(dtype, B, T, N, seed)
    kept = [argument.clone() for argument in arguments]
    assert gap(scan.parallel(*arguments), scan.sequential(*arguments)) < DOUBLE
    expected = gradients(scan.sequential, arguments, seed)
    for actual, gradient in zip(gradients(scan.parallel, arguments, seed), expected, strict=True):
        assert gap(actual, gradient) < DOUBLE
    assert all(map(torch.equal, arguments, kept))  # nothing is overwritten


@every_dtype
@every_scan
@some_examples
@sizes
def test_single_precision_is_close_to_double(scan, dtype, B, T, N, seed):
    arguments = scan.arguments(dtype, B, T, N, seed)
    actual = scan.parallel(*(argument.to(SINGLE[dtype]) for argument in arguments))
    assert actual.dtype == SINGLE[dtype]
    assert gap(actual.to(dtype), scan.sequential(*arguments)) < FLOAT


@pytest.mark.parametrize("T", [1, 2, 3, 7])
@every_dtype
@every_scan
def test_gradients_match_finite_differences(scan, dtype, T):
    arguments = scan.arguments(dtype, 2, T, 2, seed=0)
    assert torch.autograd.gradcheck(scan.parallel, [a.requires_grad_() for a in arguments])


@every_dtype
@every_scan
def test_without_an_initial_state_it_starts_from_zero(scan, dtype):
    *elements, initial = scan.arguments(dtype, 2, 5, 3, seed=0)
    for function in (scan.parallel, scan.sequential):
        assert torch.equal(function(*elements), function(*elements, torch.zeros_like(initial)))


def strided(tensor):
    return torch.stack([tensor, torch.full_like(tensor, torch.nan)], dim=-1)[..., 0]


def time_first(tensor):
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


@pytest.mark.parametrize("layout", [strided, time_first])
@every_dtype
@every_scan
def test_memory_layout_does_not_matter(scan, dtype, layout):
    arguments = scan.arguments(dtype, 3, 13, 2, seed=0)
    elsewhere = [layout(argument) for argument in arguments]
    assert not all(argument.is_contiguous() for argument in elsewhere)
    assert gap(scan.parallel(*elsewhere), scan.sequential(*arguments)) < DOUBLE


@pytest.mark.parametrize("at", [0, 1, 6, 12])
@every_scan
def test_a_nan_spoils_nothing_before_it(scan, at):
    *elements, initial = scan.arguments(torch.float64, 2, 13, 3, seed=0)
    spoilt = [element.clone() for element in elements]
    for element in spoilt:
        if element.shape[1] == 13:
            element[:, at] = torch.nan
    actual, expected = scan.parallel(*spoilt, initial), scan.sequential(*elements, initial)
    assert gap(actual[:, :at], expected[:, :at]) < DOUBLE
    assert actual[:, at].isnan().all()


LONG = 100_000


def signed_permutations(*shape):
    """Whole numbers whose products never grow: every rounding error stays away, at any length."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (*shape, 2, 1), generator=generator, dtype=torch.float64) * 2 - 1
    swaps = torch.randint(2, (*shape, 1, 1), generator=generator).bool()
    return signs * torch.where(swaps, torch.eye(2).flip(0), torch.eye(2))


@pytest.mark.parametrize(
    ("scan", "gain"),
    [
        (linear_scan, signed_permutations(1, LONG).sum(-1)),
        (matrix_scan, signed_permutations(1, LONG)),
        (matrix_scan, torch.tensor([[[[0.0, -1.0], [1.0, 0.0]]]], dtype=torch.float64)),
    ],
    ids=["linear", "matrix", "matrix of all steps"],
)
def test_a_long_sequence_is_remembered_to_its_end(scan, gain):
    generator = torch.Generator().manual_seed(1)
    b = torch.randint(-3, 4, (1, LONG, 2), generator=generator, dtype=torch.float64)
    h = scan(gain, b.requires_grad_())
    before = torch.nn.functional.pad(h, (0, 0, 1, 0))[:, :-1]
    after = gain * before if scan is linear_scan else (gain @ before[..., None])[..., 0]
    assert torch.equal(h, after + b)  # the recurrence itself, at all steps at once
    # Through 100,000 steps of size 1 the gradient keeps its size.
    h[0, -1].sum().backward()
    assert (b.grad.abs() == 1).all()


def zeros(*shape, dtype=torch.float64):
    return torch.zeros(shape, dtype=dtype)


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
