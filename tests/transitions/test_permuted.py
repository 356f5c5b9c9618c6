"""Permutations that the input chooses: what they track, what commutes, and how they are trained."""

import pytest
import torch
from numeric import gap, stream
from torch import nn

from lab.linalg.permutation import as_matrix
from lab.mixers import StateSpace
from lab.model import SequenceModel
from lab.tasks import WordProblem, groups
from lab.train import fit_together
from lab.transitions import ColumnSparse, Conjugated
from lab.transitions.permuted import PermutationOf, scatter_scan_of

D, N = 6, 5
CHOICES = ["columns", "gumbel", "sinkhorn", "orthogonal"]


def inputs(*shape, seed=0):
    return torch.randn(*shape, D, generator=stream(seed))


# --- P(x) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", CHOICES)
def test_without_a_temperature_every_column_has_a_single_one(choice):
    P = PermutationOf(D, N, choice=choice, generator=stream(0))
    assert P.is_hard
    found = P(3 * inputs(200))
    assert ((found == 0) | (found == 1)).all()
    assert torch.equal(found.sum(-2), torch.ones(200, N))
    merged = ~(found.sum(-1) == 1).all(-1)
    assert merged.any() == (choice in ("columns", "gumbel"))
    assert torch.equal(P(3 * inputs(200)), found)
    assert len(found.unique(dim=0)) > 20  # it does depend on the input


@pytest.mark.parametrize(
    ("choice", "rows", "norm"), [("sinkhorn", 1, None), ("orthogonal", None, 1)]
)
def test_with_a_temperature_matrices_are_soft(choice, rows, norm):
    P = PermutationOf(D, N, choice=choice, temperature=0.7, generator=stream(0))
    assert not P.is_hard
    found = P(inputs(50))
    assert (found.frac().abs() > 0.01).any()
    if rows:
        assert gap(found.sum(-1), torch.ones(50, N)) < 1e-3
    if norm:
        assert gap(found.mT @ found, torch.eye(N).expand(50, N, N)) < 1e-4


def test_noise_tries_other_rows_and_ends_with_the_temperature():
    P = PermutationOf(D, N, choice="gumbel", temperature=1.0, generator=stream(0))
    x = inputs(100)
    assert P.is_hard
    assert not torch.equal(P(x), P(x))
    P.temperature = 0.0
    assert torch.equal(P(x), P(x))


# --- what they track -----------------------------------------------------------------------------


def test_one_hot_columns_follow_an_automaton_without_an_error():
    S3 = groups.symmetric(3)
    task = WordProblem(S3, range(6))
    transition = ColumnSparse(6, d_state=6, generator=stream(0))
    with torch.no_grad():  # token g sends state h to h g
        transition.P.scores.bias.zero_()
        transition.P.scores.weight.copy_(9 * as_matrix(S3.table.mT, torch.float32).flatten(1).mT)
    words = task.sample(4, 1000, stream(1))
    parameters = transition(torch.eye(6)[words.inputs])
    start = torch.eye(6)[0].expand(4, -1)
    states = transition.scan(parameters, torch.zeros(4, 1000, 6), start)
    assert torch.equal(states, torch.eye(6)[words.targets])


def test_conjugated_transitions_commute_and_the_others_do_not():
    def commutator(transition):
        A = transition.dense(transition(inputs(20)))
        return (A[:, None] @ A - A @ A[:, None]).abs().max()

    for choice in CHOICES:
        assert commutator(Conjugated(D, d_state=N, choice=choice, generator=stream(0))) == 0
        assert commutator(ColumnSparse(D, d_state=N, choice=choice, generator=stream(0))) == 1
    assert commutator(Conjugated(D, d_state=N, low_rank=True, generator=stream(0))) > 0


def test_conjugation_is_what_its_name_says():
    transition = Conjugated(D, d_state=N, low_rank=True, generator=stream(0))
    x = inputs(20)
    P, core = transition.P(x), torch.diag((1.2 * transition.theta.tanh()).clamp(-1, 1))
    core = core + torch.outer(transition.p, transition.q)
    assert gap(transition.dense(transition(x)), P @ core @ P.mT) < 1e-6


def test_columns_that_collide_add_up_gains_around_a_diagonal_only():
    # All columns choose row 0: around the diagonal a gain of N, in front of it a norm of sqrt(N).
    around = Conjugated(D, d_state=N, choice="columns", generator=stream(0))
    beside = ColumnSparse(D, d_state=N, generator=stream(0))
    for transition in (around, beside):
        with torch.no_grad():
            transition.theta.fill_(2.0)
            transition.P.scores.weight.zero_()
            transition.P.scores.bias.copy_(torch.eye(N)[0].repeat_interleave(N))
    norms = [
        torch.linalg.matrix_norm(each.dense(each(inputs(1))), 2).item() for each in (around, beside)
    ]
    assert norms == [pytest.approx(N), pytest.approx(N**0.5)]


# --- by index ------------------------------------------------------------------------------------


def test_without_a_gradient_the_states_are_the_same():
    transition = ColumnSparse(D, d_state=N, generator=stream(0))
    P, b = transition(inputs(2, 9)), torch.randn(2, 9, N, generator=stream(1))
    gains, initial = torch.full((N,), 0.9), torch.randn(2, N, generator=stream(2))
    expected = scatter_scan_of(P, gains, b, initial)
    assert expected.requires_grad
    with torch.no_grad():
        assert torch.equal(scatter_scan_of(P, gains, b, initial), expected)


def models(seeds):
    built = []
    for seed in seeds:
        transition = ColumnSparse(16, d_state=6, choice="sinkhorn", generator=stream(seed))
        mixer = StateSpace(16, transition, learn_initial=True, generator=stream(seed))
        built.append(SequenceModel(6, 6, 16, [mixer], generator=stream(seed)))
    return built


def test_permutations_learned_side_by_side_are_those_learned_alone():
    task = WordProblem(groups.symmetric(3), range(6))
    settings = {"steps": 5, "batch": 8, "length": 5, "lr": 1e-2, "device": "cpu"}
    together = models([0, 1])
    fit_together(together, [task] * 2, seeds=[0, 1], **settings)
    for seed, expected in zip([0, 1], together, strict=True):
        (alone,) = models([seed])
        first = alone.mixers[0].transition.P.scores.weight.clone()
        fit_together([alone], [task], seeds=[seed], **settings)
        one, other = (each.mixers[0].transition.P.scores.weight for each in (alone, expected))
        assert (one - first).abs().max() > 0.01
        assert gap(one, other) < 1e-4


# --- counts and refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (lambda: ColumnSparse(D, d_state=N), 7 * 25 + 5),
        (lambda: ColumnSparse(D, d_state=N, choice="orthogonal"), 7 * 10 + 5),
        (lambda: ColumnSparse(D, d_state=N, low_rank=True), 7 * 25 + 15),
        (lambda: Conjugated(D, d_state=N), 7 * 25 + 5),
    ],
)
def test_transitions_have_the_parameters_that_are_documented(build, parameters):
    layer: nn.Module = build()
    assert sum(each.numel() for each in layer.parameters()) == parameters


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: ColumnSparse(D, d_state=N, choice="rows"), "choice is 'rows'; it must be one of"),
        (lambda: Conjugated(D, d_state=N, temperature=-1.0), "temperature is -1.0; it must be at"),
        (
            lambda: ColumnSparse(D, d_state=N, choice="orthogonal", temperature=2.0)(inputs(1)),
            r"temperature must be in \[0, 1\], got 2.0",
        ),
    ],
)
def test_what_does_not_fit_is_named(build, said):
    with pytest.raises(ValueError, match=said):
        build()
