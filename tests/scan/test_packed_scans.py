"""Sequences packed into one row of a scan give what each of them gives by itself."""

import inspect
import re
from itertools import pairwise

import pytest
import torch
from numeric import gap, stream
from scan_cases import CASES, Case, floating, of_floats
from torch.utils._pytree import tree_leaves, tree_map

from lab import scan

T, N = 43, 3
# One sequence has a single step, and one ends with the row; the second row begins without a mark.
STARTS = [(0, 5, 6, 30), (17, 42)]


def monarch(random, B, T, N):
    L, R = random.turn(B, T, N, N, N), random.turn(B, T, N, N, N)
    return L, R, random.normal(B, T, N * N), random.normal(B, N * N)


PACKED = [
    case
    for case in [*CASES, Case(monarch, "monarch_scan")]
    if "reset" in inspect.signature(getattr(scan, case.name)).parameters
]
every_case = pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, id=f"{case.name}-{case.draw.__name__}-{str(dtype)[6:]}")
        for case in PACKED
        for dtype in case.dtypes
    ],
)
# One draw of every scan, where another would not show more.
every_scan = pytest.mark.parametrize(
    "case", {case.name: case for case in PACKED}.values(), ids=lambda case: case.name
)


def marked():
    reset = torch.zeros(len(STARTS), T, dtype=torch.bool)
    for row, steps in enumerate(STARTS):
        reset[row, list(steps)] = True
    return reset


def row_of(tensor, row):
    return tensor if tensor.shape[0] != len(STARTS) else tensor[row : row + 1]


def cut(tensor, a, b):
    return tensor[:, a:b] if tensor.shape[1:2] == (T,) else tensor


def from_row(step, start):
    """Steps, counted from the beginning of the row; -1 is the initial state."""
    return torch.where(step < 0, step, step + start)


def apart(form, arguments):
    """Every sequence of a row by itself, put beside each other again; the first may go on."""
    rows = []
    for row, steps in enumerate(STARTS):
        *elements, initial = tree_map(lambda t, row=row: row_of(t, row), arguments)
        parts = []
        for a, b in pairwise(sorted({0, *steps, T})):
            given = [cut(element, a, b) for element in elements]
            found = form(*given) if a in steps else form(*given, initial)
            parts.append(tree_map(lambda o, a=a: o if floating(o) else from_row(o, a), found))
        rows.append(tree_map(lambda *each: torch.cat(each, dim=1), *parts))
    return tree_map(lambda *each: torch.cat(each), *rows)


def with_gradients(function, arguments):
    arguments = of_floats(lambda t: t.detach().clone().requires_grad_(), arguments)
    outputs = function(arguments)
    total = torch.zeros(())
    for output in floating(outputs):
        weight = torch.randn(output.shape, generator=stream(1), dtype=output.dtype)
        total = total + (weight.conj() * torch.where(output.isinf(), 0, output)).real.sum()
    used = floating(arguments)
    return [*tree_leaves(outputs), *torch.autograd.grad(total, used, materialize_grads=True)]


def test_every_scan_with_a_gain_takes_marks():
    # A step of reflections has no gain that could be zero; `key_value_scan` has its own tests.
    kinds = (
        "linear", "matmul", "matrix", "block", "pair", "permutation", "scatter", "monarch", "log",
        "tropical", "softmax", "selective", "kuramoto",
    )  # fmt: skip
    assert {case.name for case in PACKED} >= {f"{kind}_scan" for kind in kinds}


@every_case
def test_packed_sequences_are_separate_ones(case, dtype):
    arguments = case.arguments(dtype, len(STARTS), T, N, seed=0)
    expected = with_gradients(lambda given: apart(case.sequential, given), arguments)
    for form in [*case.forms, case.sequential]:
        packed = with_gradients(lambda given, form=form: form(*given, reset=marked()), arguments)
        for actual, separate in zip(packed, expected, strict=True):
            assert gap(actual, separate) < 1e-12
    # Without marks they see each other.
    assert gap(floating(case.fast(*arguments))[0], floating(expected)[0].detach()) > 1e-3


@every_case
def test_marks_are_those_of_one_model_of_several(case, dtype):
    several = [case.arguments(dtype, len(STARTS), 7, N, seed) for seed in range(2)]
    resets = torch.rand(2, len(STARTS), 7, generator=stream(0)) < 0.4
    stacked = tree_map(lambda *tensors: torch.stack(tensors), *several)
    together = torch.vmap(lambda given, reset: case.fast(*given, reset=reset))(stacked, resets)
    for at, (one, reset) in enumerate(zip(several, resets, strict=True)):
        expected = tree_leaves(case.fast(*one, reset=reset))
        for found, right in zip(tree_leaves(together), expected, strict=True):
            assert gap(found[at], right) < 1e-13


@every_scan
def test_torch_compile_takes_marks(case):
    arguments = case.arguments(case.dtypes[0], len(STARTS), 7, N, seed=0)
    reset = torch.rand(len(STARTS), 7, generator=stream(0)) < 0.4
    compiled = torch.compile(case.fast, backend="aot_eager", fullgraph=True)
    expected = tree_leaves(case.fast(*arguments, reset=reset))
    for found, right in zip(tree_leaves(compiled(*arguments, reset=reset)), expected, strict=True):
        assert gap(found, right) < 1e-13


@every_scan
@pytest.mark.parametrize(
    ("reset", "error", "sentence"),
    [
        (torch.zeros(2, T), ValueError, "reset must be torch.bool (2, 43) on cpu, got torch.float"),
        (torch.zeros(1, T, dtype=torch.bool), ValueError, "got torch.bool (1, 43) on cpu"),
        ([True] * T, TypeError, "reset must be a torch.Tensor, got a list"),
    ],
    ids=["float", "row", "list"],
)
def test_marks_that_do_not_fit_are_refused(case, reset, error, sentence):
    arguments = case.arguments(case.dtypes[0], len(STARTS), T, N, seed=0)
    for form in [*case.forms, case.sequential]:
        with pytest.raises(error, match=re.escape(sentence)):
            form(*arguments, reset=reset)
