"""Every structured matrix against its definition: products, inverses, compositions and costs."""

import re
from dataclasses import fields, is_dataclass
from math import prod

import pytest
import torch
from numeric import gap
from scan_cases import SINGLE
from structure_cases import CASES, COLLIDING, Case, draw_hodlr, stream_of, tree
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lab.linalg import (
    DPLR,
    BlockCirculantMatrix,
    CauchyLike,
    CirculantMatrix,
    MonarchMatrix,
    Routed,
    Structured,
)
from lab.linalg.displacement import uniform_nodes

DOUBLE, WIDE = torch.float64, torch.complex128
BATCHES = [(), (2,), (2, 3)]

ALL = [*CASES, COLLIDING]
PROBLEMS = [(case, size, dtype) for case in ALL for size in case.sizes for dtype in case.dtypes]


def named(problem):
    case, size, dtype = problem
    return f"{case.name} {'x'.join(map(str, size))} {str(dtype).removeprefix('torch.')}"


def of(*members):
    """The problems of structures that have these members, over three layouts of a batch."""
    chosen = [problem for problem in PROBLEMS if set(members) <= problem[0].has]

    def decorate(test):
        each = pytest.mark.parametrize("problem", chosen, ids=map(named, chosen))
        return pytest.mark.parametrize("batch", BATCHES, ids=str)(each(test))

    return decorate


def drawn(problem, batch, seed=0, *, invertible=False):
    """A structure and its dense matrix by definition."""
    case, size, dtype = problem
    parts = case.draw(stream_of(seed, dtype), batch, *size)
    parts = case.invertible(*parts) if invertible else parts
    return case.build(*parts), case.define(*parts)


def vectors(A, batch, dtype, columns=2):
    return stream_of(7, dtype).normal(*batch, A.shape[-1], columns)


def away(actual, expected):
    """The gap of two tensors, of which one may be complex by its dtype alone."""
    return gap(actual.to(WIDE), expected.to(WIDE))


# --- against the dense matrix --------------------------------------------------------------------


@of()
def test_the_dense_matrix_is_the_definition(problem, batch):
    A, dense = drawn(problem, batch)
    assert away(A.to_dense(), dense) < 1e-13


@of()
def test_products_are_those_of_the_dense_matrix(problem, batch):
    A, dense = drawn(problem, batch)
    for x in (vectors(dense, batch, problem[2]), vectors(dense, (), problem[2], 3)):
        assert away(A @ x, dense.to(WIDE) @ x.to(WIDE)) < 1e-13
    one, dense = drawn(problem, ())
    x = vectors(dense, batch, problem[2], 1)
    assert away(one @ x, dense.to(WIDE) @ x.to(WIDE)) < 1e-13


@of("mT")
def test_transposes_are_those_of_the_dense_matrix(problem, batch):
    A, dense = drawn(problem, batch)
    assert away(A.mT.to_dense(), dense.mT) < 1e-13


@of("solve")
def test_solves_are_those_of_the_dense_matrix(problem, batch):
    A, dense = drawn(problem, batch, invertible=True)
    one, single = drawn(problem, (), invertible=True)
    x, alone = vectors(dense, batch, problem[2]), vectors(dense, (), problem[2], 3)
    for structure, matrix, right in ((A, dense, x), (A, dense, alone), (one, single, x)):
        expected = torch.linalg.inv(matrix.to(WIDE)) @ right.to(WIDE)
        assert away(structure.solve(right), expected) < 1e-12


@of("after")
def test_compositions_are_products_of_the_dense_matrices(problem, batch):
    (later, second), (earlier, first) = drawn(problem, batch), drawn(problem, batch, seed=1)
    alone, third = drawn(problem, (), seed=2)
    assert away(later.after(earlier).to_dense(), second @ first) < 1e-12
    assert away(later.after(alone).to_dense(), second @ third) < 1e-12
    assert away(alone.after(earlier).to_dense(), third @ first) < 1e-12
    assert type(later.after(earlier)) is type(later)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_gradients_match_finite_differences(case: Case):
    for dtype in case.dtypes:
        parts = case.draw(stream_of(0, dtype), (2,), *case.sizes[-1])
        parts = [p if p.dtype == torch.int64 else p.requires_grad_()
                 for p in case.invertible(*parts)]  # fmt: skip
        x = vectors(drawn((case, case.sizes[-1], dtype), ())[1], (2,), dtype, 1).requires_grad_()

        def all_of_it(x, *parts):
            A = case.build(*parts)
            yield A.to_dense()
            yield A @ x
            if "solve" in case.has:
                yield A.solve(x)
            if "after" in case.has:
                yield A.after(A) @ x

        # In random directions, because all of them would take a minute for HODLR.
        arguments = (x, *parts)
        assert torch.autograd.gradcheck(
            lambda *args: tuple(all_of_it(*args)), arguments, fast_mode=True
        )


# Rounding in float32: entries are of size 1 to 100, and the gap is relative to the largest.
@pytest.mark.parametrize("problem", PROBLEMS, ids=map(named, PROBLEMS))
def test_single_and_half_precision(problem):
    (case, size, dtype), batch = problem, (2,)
    A, dense = drawn(problem, batch, invertible=True)
    parts = case.invertible(*case.draw(stream_of(0, dtype), batch, *size))
    single = case.build(*(part.to(SINGLE.get(part.dtype, part.dtype)) for part in parts))
    x = vectors(dense, batch, dtype)
    found = single @ x.to(SINGLE[dtype])
    assert found.dtype in (torch.float32, torch.complex64)
    assert away(found, A @ x) < 1e-5
    if "solve" in case.has:
        assert away(single.solve(x.to(SINGLE[dtype])), A.solve(x)) < 1e-5
    if not any(part.is_complex() for part in parts):
        half = case.build(*(p.bfloat16() if p.is_floating_point() else p for p in parts))
        assert half.to_dense().dtype == (half @ x.bfloat16()).dtype == torch.float32


# --- what a structure has, and what it costs -----------------------------------------------------


def test_every_structure_has_a_case():
    built = {type(case.build(*case.draw(stream_of(0), (), *case.sizes[0]))) for case in CASES}
    assert built == set(Structured.__subclasses__())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_there_is_none_of_is_not_there(case):
    A = case.build(*case.draw(stream_of(0), (), *case.sizes[-1]))
    assert case.has == {name for name in ("mT", "solve", "after") if hasattr(A, name)}


def stored(part):
    """How many numbers the tensors of a structure hold."""
    if isinstance(part, Tensor):
        return part.numel()
    if is_dataclass(part):
        return sum(stored(getattr(part, each.name)) for each in fields(part))
    return sum(map(stored, part))


class Counting(TorchDispatchMode):
    """Counts multiplications and Fourier transforms of everything that torch computes."""

    # All other operations that products consist of; any that is not here stops the test.
    FREE = frozenset({
        "_local_scalar_dense", "_to_copy", "_unsafe_view", "add", "any", "clone", "eq", "expand",
        "eye", "flip", "permute", "promote_types", "reciprocal", "scatter_add", "sub", "sum",
        "transpose", "unsqueeze", "view", "zeros_like",
    })  # fmt: skip

    def __init__(self):
        super().__init__()
        self.multiplications = self.transforms = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "mul":  # by a constant, such as that of 1 / x, is none
            numbers = all(isinstance(each, Tensor) and each.ndim for each in args)
            self.multiplications += numbers * result.numel()
        elif name in ("mm", "bmm"):
            self.multiplications += result.numel() * args[0].shape[-1]
        elif name in ("_fft_r2c", "_fft_c2r"):
            signal = args[0] if name == "_fft_r2c" else result
            self.transforms += signal.numel() // prod(signal.shape[dim] for dim in args[1])
        else:
            assert name in self.FREE, name
        return result


@pytest.mark.parametrize("problem", PROBLEMS, ids=map(named, PROBLEMS))
def test_costs_are_what_is_stored_and_what_is_computed(problem):
    A, dense = drawn(problem, ())
    x = vectors(dense, (), problem[2], 1)
    with Counting() as counted:
        A @ x
    assert (counted.multiplications, counted.transforms) == (A.multiplications, A.transforms)
    assert A.numbers == stored(A)
    # Of one matrix, whatever the batch.
    B, _ = drawn(problem, (2, 3))
    assert (B.numbers, B.multiplications, B.transforms) == (
        A.numbers, A.multiplications, A.transforms
    )  # fmt: skip


def test_costs_at_64_states():
    random = stream_of(0)
    counts = {
        "DPLR of rank 2": DPLR(random.normal(64), *random.normal(2, 64, 2)),
        "Cauchy-like of rank 2": CauchyLike(
            uniform_nodes(64), random.normal(64), *random.normal(2, 64, 2)
        ),
        "HODLR of rank 4": tree(*draw_hodlr(random, (), 4, 4, 4, 4)),
        "permutation": Routed(torch.randperm(64), torch.ones(64)),
        "circulant": CirculantMatrix(random.normal(64)),
        "block-circulant, blocks of 4": BlockCirculantMatrix(random.normal(16, 4, 4)),
        "Monarch": MonarchMatrix(*random.normal(2, 8, 8, 8)),
    }
    assert {name: (A.numbers, A.multiplications, A.transforms) for name, A in counts.items()} == {
        "DPLR of rank 2": (320, 320, 0),
        "Cauchy-like of rank 2": (384, 8512, 0),
        "HODLR of rank 4": (2784, 2784, 0),  # 256 + 2048 + 480
        "permutation": (128, 64, 0),
        "circulant": (64, 33, 3),
        "block-circulant, blocks of 4": (256, 144, 24),
        "Monarch": (1024, 1024, 0),
    }


@pytest.mark.parametrize("name", ["DPLR", "Cauchy-like"])
def test_ranks_add_up_in_a_product(name):
    case = next(each for each in CASES if each.name == name)
    later, earlier = (case.build(*case.draw(stream_of(r), (2,), 6, r)) for r in (2, 3))
    assert later.after(earlier).rank == 5


@pytest.mark.parametrize("name", ["permuted", "circulant", "block-circulant"])
def test_products_without_a_rank_have_the_size_of_their_factors(name):
    case = next(each for each in CASES if each.name == name)
    later, earlier = (case.build(*case.draw(stream_of(i), (), *case.sizes[-1])) for i in (0, 1))
    assert later.after(earlier).numbers == later.numbers


# --- what has no answer --------------------------------------------------------------------------

ONES, NONE = torch.ones(2), torch.zeros(2, 0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: DPLR(torch.tensor([[1.0, 2], [3, 0]]), NONE, NONE).solve(torch.ones(2, 1)),
            "entry [1, 1] of the diagonal is 0, and Woodbury's formula divides by it; use torch.",
        ),
        (
            lambda: CirculantMatrix(ONES).solve(torch.ones(2, 1)),
            "frequency [1] is 0, and there is no inverse; a larger column[0]",
        ),
        (
            lambda: Routed(torch.tensor([0, 0]), ONES).solve(torch.ones(2, 1)),
            "columns collide, and there is no inverse; targets must differ: [0, 0]",
        ),
        (
            lambda: Routed(torch.tensor([1, 0]), torch.tensor([0.0, 1])).solve(torch.ones(2, 1)),
            "gain [0] is 0, and there is no inverse",
        ),
        (lambda: Routed(torch.tensor([0, 0]), ONES).mT, "columns collide, which those of a transp"),
        (
            lambda: Routed(torch.tensor([[1, 0]]), ONES).cycles(),
            "target (1, 2) is a batch; pass one of it, (N,)",
        ),
        (lambda: CirculantMatrix(torch.ones(())), "column () must be (..., n), and none of these"),
        (lambda: CirculantMatrix(torch.ones(3, 0)), "column (3, 0) must be (..., n)"),
        (lambda: CirculantMatrix(ONES.cfloat()), "column is torch.complex64; only real numbers"),
        (lambda: BlockCirculantMatrix(torch.ones(2, 2)), "blocks (2, 2) must be (..., k, p, p)"),
        (lambda: BlockCirculantMatrix(torch.ones(2, 2, 3)), "blocks (2, 2, 3) must be"),
        (
            lambda: MonarchMatrix(torch.ones(2, 3, 3), torch.ones(3, 3, 3)),
            "L (2, 3, 3) and R (3, 3, 3) must both end in (b, b, b)",
        ),
        (
            lambda: MonarchMatrix(torch.ones(2, 2, 2, 2), torch.ones(3, 2, 2, 2)),
            "the axes of a batch in (2, 2, 2, 2), (3, 2, 2, 2) cannot be broadcast",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        call()


def test_singular_systems_are_refused():
    for A in (BlockCirculantMatrix(torch.zeros(1, 2, 2)), MonarchMatrix(*torch.zeros(2, 1, 1, 1))):
        with pytest.raises(torch.linalg.LinAlgError, match="singular"):
            A.solve(torch.ones(A.to_dense().shape[-1], 1))
