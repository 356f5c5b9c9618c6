"""What DeltaNet promises of its transitions, and the word problems that it can solve exactly."""

import math

import pytest
import torch
from numeric import gap, stream
from scipy.optimize import linear_sum_assignment

from lab.audit.by_hand import plane, representation, signs, simplex, word_problem_solver
from lab.linalg import routed_reflection
from lab.mixers import DeltaNet
from lab.mixers.delta_net import prescribe
from lab.tasks import WordProblem, groups
from lab.train import score

DOUBLE = torch.float64


def layer(**settings):
    return DeltaNet(6, heads=3, generator=stream(0), dtype=DOUBLE, **{"d_key": 2, **settings})


def inputs(*shape):
    return 3 * torch.randn(*shape, 6, dtype=DOUBLE, generator=stream(1))


@pytest.mark.parametrize("factors", [1, 2])
@pytest.mark.parametrize("routing", ["none", "columns", "permutations"])
def test_it_has_as_many_parameters_as_it_says(routing, factors):
    D, H, N, M = 6, 3, 2, 4
    count = sum(p.numel() for p in layer(d_value=M, routing=routing, factors=factors).parameters())
    per_head = N + factors * (N + M + 1) + (routing != "none") * N**2
    assert count == (D + 1) * H * per_head + H * N * M + (H * M + 1) * D


def test_gates_reach_both_ends():
    for negative, end in ((False, 1.0), (True, 2.0)):
        *_, beta = layer(negative=negative).corrections(20 * inputs(50))
        assert beta.min() == 0
        assert beta.max() == end


def test_every_column_of_a_routing_holds_one_one():
    P = layer(routing="columns", d_key=4).routes(inputs(50))
    assert ((P == 0) | (P == 1)).all()
    assert (P.sum(-2) == 1).all()
    assert (P.sum(-1) > 1).any(), "nothing keeps two columns from choosing the same row"


def test_permutations_are_the_best_assignment():
    mixer, x = layer(routing="permutations", d_key=4), inputs(20)
    P, logits = mixer.routes(x), mixer.route(x).unflatten(-1, (3, 4, 4))
    assert ((P == 0) | (P == 1)).all()
    assert (P.sum(-2) == 1).all()
    assert (P.sum(-1) == 1).all()
    for chosen, scores in zip(P.flatten(0, 1), logits.flatten(0, 1), strict=True):
        rows, columns = linear_sum_assignment(scores.detach(), maximize=True)
        assert torch.equal(chosen[rows, columns], torch.ones(4, dtype=DOUBLE))


def test_the_gradient_of_a_routing_is_that_of_the_softmax():
    mixer, x = layer(routing="columns"), inputs(5)
    weights = torch.randn(5, 3, 2, 2, dtype=DOUBLE, generator=stream(2))
    soft = mixer.route(x).unflatten(-1, (3, 2, 2)).softmax(-2)
    actual, expected = (
        torch.autograd.grad((weights * P).sum(), mixer.route.weight, retain_graph=True)[0]
        for P in (mixer.routes(x), soft)
    )
    assert gap(actual, expected) < 1e-12


@pytest.mark.parametrize("routing", ["none", "permutations"])
@pytest.mark.parametrize("factors", [1, 3])
def test_with_permutations_or_none_no_step_grows_the_state(factors, routing):
    A, _ = layer(d_key=4, negative=True, factors=factors, routing=routing).maps(inputs(200))
    assert torch.linalg.matrix_norm(A, ord=2).max() < 1 + 1e-12


def test_a_routing_that_is_no_permutation_can_grow_it():
    # Both columns choose row 0, and the reflection takes e_0 to (1, 1) / sqrt 2.
    P = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=DOUBLE)
    k = torch.tensor([math.sqrt(2) - 1, -1.0], dtype=DOUBLE)
    k = k / k.norm()
    A = (torch.eye(2, dtype=DOUBLE) - 2 * torch.outer(k, k)) @ P
    assert torch.linalg.eigvals(A).abs().max().item() == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factors": 0}, "factors must be at least 1, got 0"),
        ({"routing": "rows"}, "routing is 'rows'; it must be one of"),
        ({"routing": "permutations", "d_key": 6}, "at most 5 rows"),
    ],
)
def test_bad_settings_stop_with_what_was_expected(settings, message):
    with pytest.raises(ValueError, match=message):
        layer(**settings)


# --- by hand -------------------------------------------------------------------------------------

D4, S5 = groups.dihedral(4), groups.symmetric(5)
WREATH = groups.wreath_product(groups.cyclic(2), 3)
FLIP, TURN = WREATH.index((1, 0, 2, 3, 4, 5)), WREATH.index((2, 3, 4, 5, 0, 1))
SOLVED = {
    "D4, all elements, 2 rows": (WordProblem(D4, range(8)), plane(4)),
    "S5, all elements, 4 rows": (WordProblem(S5, range(120)), simplex(5)),
    "Z2 wr Z3, generators, 3 rows": (WordProblem(WREATH, (0, FLIP, TURN)), signs(3)),
}
solved = pytest.mark.parametrize(("task", "basis"), SOLVED.values(), ids=SOLVED)


@solved
def test_the_representation_is_orthogonal_faithful_and_multiplies(task, basis):
    rho, N = representation(task, basis), len(basis)
    assert gap(basis @ basis.mT, torch.eye(N, dtype=DOUBLE)) < 1e-12
    assert gap(rho @ rho.mT, torch.eye(N, dtype=DOUBLE).expand_as(rho)) < 1e-12
    assert gap(rho[:, None] @ rho, rho[task.group.table]) < 1e-12
    assert (rho[1:] - rho[0]).abs().amax((1, 2)).min() > 0.1


@solved
def test_weights_set_by_hand_are_right_for_a_thousand_steps(task, basis):
    model = word_problem_solver(task, basis)
    assert score(model, task, length=1000, samples=50, seed=0).by_step.min() == 1.0


@solved
def test_a_routed_reflection_is_what_it_was_made_from(task, basis):
    rho = representation(task, basis)
    for element in task.alphabet:
        P, k, beta = routed_reflection(rho[element])
        made = (torch.eye(len(P), dtype=DOUBLE) - beta * torch.outer(k, k)) @ P
        assert gap(made, rho[element]) < 1e-12


def test_not_every_orthogonal_matrix_is_a_routed_reflection():
    with pytest.raises(ValueError, match="no permutation of 3 rows and one reflection"):
        routed_reflection(-torch.eye(3, dtype=DOUBLE))


@pytest.mark.parametrize("routing", ["none", "columns"])
def test_a_routing_that_does_not_fit_the_mixer_is_refused(routing):
    k, beta = torch.ones(2, 3, 2, dtype=DOUBLE), torch.zeros(2, 3, dtype=DOUBLE)
    given = None if routing == "columns" else torch.eye(2, dtype=DOUBLE).expand(2, 3, 2, 2)
    with pytest.raises(ValueError, match=r"the mixer has (a|no) routing, and (a|no) routing is"):
        prescribe(layer(routing=routing), q=k[0], k=k, beta=beta, routing=given)
