"""Matrices of tokens: what the shared suite of scans does not know of them."""

import pytest
import torch
from numeric import gap, stream

from lab.scan import table_scan, table_scan_associative, table_scan_sequential
from lab.scan.operators import Operator

FORMS = [table_scan, table_scan_associative, table_scan_sequential]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)


def problem(G=2, V=3, B=4, T=5, N=3):
    generator = stream(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    tokens = torch.randint(V, (B, T), generator=generator)
    return normal(G, V, N, N), normal(G, V, N), tokens, normal(B, N)


@every_form
def test_it_is_what_its_docstring_says(form):
    A, b, tokens, initial = problem()
    found = form(A, b, tokens, initial)
    for s in range(4):
        h, table = initial[s], s // 2  # two sequences share one
        for t in range(5):
            token = tokens[s, t]
            h = A[table, token] @ h + b[table, token]
            assert gap(found[s, t], h) < 1e-12


@every_form
def test_a_nan_of_a_token_shows_where_the_token_comes_and_not_before(form):
    A, b, _, initial = problem(G=1)
    tokens = torch.tensor([[0, 1, 2, 0, 1]] * 4)
    expected = form(A, b, tokens, initial)
    A[0, 2, 1, 1] = torch.nan
    found = form(A, b, tokens, initial)
    assert gap(found[:, :2], expected[:, :2]) == 0
    assert found[:, 2, 1].isnan().all()


def test_a_token_that_never_comes_has_no_gradient():
    A, b, tokens, initial = problem(V=4)
    A.requires_grad_(), b.requires_grad_()
    tokens.clamp_(max=2)
    of_A, of_b = torch.autograd.grad(table_scan(A, b, tokens, initial).sum(), (A, b))
    assert of_A[:, 3].count_nonzero() == of_b[:, 3].count_nonzero() == 0
    assert of_A[:, :3].abs().amax((2, 3)).min() > 0


def test_tables_of_lanes_are_not_repeated(monkeypatch):
    """Under vmap every lane has its tables once, not once for every sequence."""
    seen, compute = [], Operator._compute

    def watched(self, *values):
        seen.append([tuple(value.shape) for value in values])
        return compute(self, *values)

    monkeypatch.setattr(Operator, "_compute", watched)
    lanes = [torch.stack([part] * 5) for part in problem()]
    torch.vmap(table_scan)(*lanes)
    assert seen == [[(10, 3, 3, 3), (10, 3, 3), (20, 3), (20, 5)]]


@every_form
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({0: torch.randn(2, 3, 3, 2)}, r"must be \(G, V, N, N\) and \(G, V, N\)"),
        ({1: torch.randn(2, 4, 3)}, r"must be \(G, V, N, N\)"),
        ({2: torch.zeros(4, 5)}, "tokens must be torch.int64"),
        ({2: torch.zeros(3, 5, dtype=torch.int64)}, "B a multiple of the tables"),
        ({2: torch.zeros(4, 0, dtype=torch.int64)}, "T must be at least 1"),
        ({2: torch.full((4, 5), 3)}, r"tokens must be in \[0, 3\), got 3 at \(0, 0\)"),
        ({2: torch.full((4, 5), -1)}, r"tokens must be in \[0, 3\), got -1"),
        ({3: torch.zeros(4, 2).double()}, r"initial must be \(4, 3\)"),
        ({3: torch.zeros(4, 3)}, "dtypes differ"),
    ],
)
def test_bad_input_is_named(form, change, said):
    arguments = list(problem())
    for place, value in change.items():
        arguments[place] = value
    with pytest.raises(ValueError, match=said):
        form(*arguments)


def test_what_is_no_tensor_is_named():
    A, b, tokens, initial = problem()
    with pytest.raises(TypeError, match=r"tokens must be a torch\.Tensor, got a list"):
        table_scan(A, b, tokens.tolist(), initial)
