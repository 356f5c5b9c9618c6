"""Groups against their axioms and known orders; word problems against enumeration and the specs."""

import math
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import permutations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import stream
from sympy.combinatorics import Permutation, PermutationGroup
from torch import nn
from torch.nn import functional

from lab.tasks import Batch, Group, MixedLengths, WordProblem, groups, in_training, overlap
from lab.tasks.groups import compose, cycle, transpositions
from lab.train import fit_together, score
from lab.train.checkpoint import describe

S3, S5, D4 = groups.symmetric(3), groups.symmetric(5), groups.dihedral(4)
FIVE_CYCLE, SWAP = cycle(5, 0, 1, 2, 3, 4), cycle(5, 0, 1)
R, S, SR = 1, 4, 7  # of D4: r, s, and s r = r^3 s

# Order, how many elements of each order, order of the derived subgroup: from textbooks.
KNOWN = {
    "S1": (groups.symmetric(1), {1: 1}, 1),
    "S3": (S3, {1: 1, 2: 3, 3: 2}, 3),
    "S4": (groups.symmetric(4), {1: 1, 2: 9, 3: 8, 4: 6}, 12),
    "S5": (S5, {1: 1, 2: 25, 3: 20, 4: 30, 5: 24, 6: 20}, 60),
    "A4": (groups.alternating(4), {1: 1, 2: 3, 3: 8}, 4),
    "A5": (groups.alternating(5), {1: 1, 2: 15, 3: 20, 5: 24}, 60),
    "D3": (groups.dihedral(3), {1: 1, 2: 3, 3: 2}, 3),
    "D4": (D4, {1: 1, 2: 5, 4: 2}, 2),
    "D8": (groups.dihedral(8), {1: 1, 2: 9, 4: 2, 8: 4}, 4),
    "Z1": (groups.cyclic(1), {1: 1}, 1),
    "Z8": (groups.cyclic(8), {1: 1, 2: 1, 4: 2, 8: 4}, 1),
    "Z2 x Z4": (
        groups.direct_product(groups.cyclic(2), groups.cyclic(4)),
        {1: 1, 2: 3, 4: 4},
        1,
    ),
    "Z2 x S3": (groups.direct_product(groups.cyclic(2), S3), {1: 1, 2: 7, 3: 2, 6: 2}, 3),
    "Z2 wr Z2": (groups.wreath_product(groups.cyclic(2), 2), {1: 1, 2: 5, 4: 2}, 2),
    "Z2 wr Z3": (groups.wreath_product(groups.cyclic(2), 3), {1: 1, 2: 7, 3: 8, 6: 8}, 4),
    "Z3 wr Z1": (groups.wreath_product(groups.cyclic(3), 1), {1: 1, 3: 2}, 1),
    "Q8": (
        Group.generated("Q8", [(1, 2, 3, 0, 5, 6, 7, 4), (4, 7, 6, 5, 2, 1, 0, 3)]),
        {1: 1, 2: 1, 4: 6},
        2,
    ),
}
every_group = pytest.mark.parametrize("name", KNOWN)


def two_generators(side="left", scored="last", **options):
    """The alphabet of S5 that most experiments use: a 5-cycle and a transposition."""
    return WordProblem(S5, S5.indices([FIVE_CYCLE, SWAP]), side, scored, **options)


def ten_swaps(**options):
    return WordProblem(S5, S5.indices(transpositions(5)), **options)


# --- permutations --------------------------------------------------------------------------------


@settings(deadline=None)
@given(p=st.permutations(range(6)), q=st.permutations(range(6)), i=st.integers(0, 5))
def test_composing_is_applying_the_right_one_first(p, q, i):
    assert compose(tuple(p), tuple(q))[i] == p[q[i]]


def test_a_cycle_moves_each_point_to_the_next():
    assert cycle(5, 0, 1, 2, 3, 4) == (1, 2, 3, 4, 0)
    assert cycle(5, 3, 1, 2) == (0, 2, 3, 1, 4)
    assert cycle(3) == cycle(3, 1) == (0, 1, 2)


@pytest.mark.parametrize("moved", [(0, 0), (0, 5), (-1, 2), (0, 1, 0)])
def test_a_cycle_of_repeated_or_unknown_points_is_refused(moved):
    with pytest.raises(ValueError, match="must be different points, 0 to 4"):
        cycle(5, *moved)


def test_transpositions_swap_two_points_in_the_order_of_the_pairs():
    assert transpositions(3) == [(1, 0, 2), (2, 1, 0), (0, 2, 1)]
    swaps = transpositions(5)
    assert [tuple(i for i in range(5) if swap[i] != i) for swap in swaps] == [
        (0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4),
    ]  # fmt: skip


# --- groups --------------------------------------------------------------------------------------


@every_group
def test_the_axioms_hold(name):
    group, _, _ = KNOWN[name]
    n, table, inverse = group.order, group.table, group.inverse
    everyone = torch.arange(n)
    assert table.dtype == torch.int64
    assert table.shape == (n, n)
    assert torch.equal(table[0], everyone)
    assert torch.equal(table[:, 0], everyone)
    assert torch.equal(table[table], table[:, table])  # [i, j, k]: (i j) k and i (j k)
    for line in (table, table.mT):
        assert torch.equal(line.sort(dim=1).values, everyone.expand(n, n))
    assert not table[everyone, inverse].any()
    assert not table[inverse, everyone].any()


@every_group
def test_the_table_is_composition(name):
    group, _, _ = KNOWN[name]
    chosen = torch.randint(group.order, (50, 2), generator=stream(0)).tolist()
    for i, j in chosen:
        p, q = group.elements[i], group.elements[j]
        assert group.index(tuple(p[q[k]] for k in range(group.points))) == group.table[i, j]
        assert group.product(i, j) == group.table[i, j]
        assert group.product(i, j, i) == group.table[group.table[i, j], i]
    assert group.product() == 0


@every_group
def test_sympy_finds_the_same_products_and_subgroups(name):
    group, _, _ = KNOWN[name]
    theirs = [Permutation(list(element)) for element in group.elements]
    whole = PermutationGroup(theirs)
    assert whole.order() == group.order
    assert whole.is_abelian == group.is_abelian
    derived = {tuple(each.array_form) for each in whole.derived_subgroup().elements}
    assert derived == {group.elements[i] for i in group.derived_subgroup.tolist()}
    assert [each.order() for each in theirs] == group.element_orders.tolist()
    for i, j in torch.randint(group.order, (50, 2), generator=stream(1)).tolist():
        # sympy's product applies its left factor first.
        assert theirs[j] * theirs[i] == theirs[group.table[i, j]]


@every_group
def test_matrices_multiply_as_the_elements_do_and_move_the_points(name):
    group, _, _ = KNOWN[name]
    matrices = group.matrices
    i, j = torch.randint(group.order, (2, 50), generator=stream(0))
    assert torch.equal(matrices[i] @ matrices[j], matrices[group.table[i, j]])
    for matrix, permutation in zip(matrices, group.elements, strict=True):
        assert matrix.argmax(dim=0).tolist() == list(permutation)  # column i is e_p[i]


@every_group
def test_orders_and_the_derived_subgroup_are_those_of_the_textbooks(name):
    group, orders, derived = KNOWN[name]
    assert group.order == sum(orders.values())
    assert dict(Counter(group.element_orders.tolist())) == orders
    assert len(group.derived_subgroup) == derived
    assert group.is_abelian == (derived == 1)


@every_group
def test_an_element_has_its_order(name):
    group, _, _ = KNOWN[name]
    for element, order in enumerate(group.element_orders.tolist()):
        powers = [group.product(*[element] * k) for k in range(1, order + 1)]
        assert powers.index(0) == order - 1


@every_group
def test_the_abelian_image_is_the_largest_commutative_one(name):
    group, _, derived = KNOWN[name]
    image, table = group.abelian_image, group.table
    cosets = group.order // derived
    assert torch.bincount(image).tolist() == [derived] * cosets
    # A product's coset depends on the cosets of its factors alone, and on no order.
    for i, j in product(range(cosets), repeat=2):
        values = image[table[image == i][:, image == j]]
        assert values.unique().numel() == 1
        assert image[table[image == j][:, image == i]].flatten()[0] == values.flatten()[0]


def test_elements_come_in_the_order_that_is_documented():
    assert S5.elements == tuple(permutations(range(5)))
    assert all(groups.cyclic(8).table[i, j] == (i + j) % 8 for i in range(8) for j in range(8))
    for (b, a), (d, c) in product(product(range(2), range(4)), repeat=2):
        turned = (a + (-1) ** b * c) % 4
        assert D4.table[a + 4 * b, c + 4 * d] == turned + 4 * ((b + d) % 2)
    assert D4.product(S, R) == SR
    assert D4.product(S, R, S) == D4.inverse[R] == 3
    assert [D4.cycles(element) for element in (0, R, S)] == ["()", "(0 1 2 3)", "(1 3)"]
    pairs = groups.direct_product(S3, D4)
    i, j, k, m = 4, 6, 3, 5
    expected = S3.product(i, k) * D4.order + D4.product(j, m)
    assert pairs.product(i * D4.order + j, k * D4.order + m) == expected


def test_the_closure_is_the_whole_group_whatever_the_generators():
    by_two = Group.generated("S5", [FIVE_CYCLE, SWAP])
    by_ten = Group.generated("S5", reversed(transpositions(5)))
    assert by_two == by_ten == S5
    assert by_two.generated("A5", [cycle(5, 0, 1, 2), FIVE_CYCLE]) == groups.alternating(5)
    assert Group.generated("one", [(0, 1)]).order == 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.permutations(range(5)), min_size=1, max_size=2))
def test_a_closure_is_a_subgroup_that_holds_its_generators(generators):
    closure = Group.generated("closure", map(tuple, generators))
    assert 120 % closure.order == 0
    assert closure.elements[0] == (0, 1, 2, 3, 4)
    assert closure.table.max() < closure.order  # raises if a product is missing
    numbers = closure.indices(generators)
    assert len(closure.subgroup(numbers)) == closure.order
    inside_s5 = S5.subgroup(S5.indices(generators))
    assert [S5.elements[i] for i in inside_s5.tolist()] == list(closure.elements)


def test_cosets_share_the_elements_out_evenly():
    stabiliser = S5.subgroup(S5.indices([cycle(5, 1, 2, 3, 4), cycle(5, 1, 2)]))
    cosets = S5.cosets(stabiliser)
    assert (cosets[stabiliser] == 0).all()
    # Elements of a left coset of the stabiliser of point 0 take 0 to the same point.
    assert cosets.tolist() == [element[0] for element in S5.elements]


def test_a_wreath_product_permutes_copies():
    wreath = groups.wreath_product(S3, 2)
    assert wreath.order == 6**2 * 2
    assert not wreath.is_abelian
    first, move_on = wreath.index(cycle(6, 0, 1)), wreath.index((3, 4, 5, 0, 1, 2))
    second = wreath.product(move_on, first, int(wreath.inverse[move_on]))
    assert wreath.elements[second] == cycle(6, 3, 4)
    assert wreath.product(first, second) == wreath.product(second, first)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Group.generated("G", []), "at least one permutation"),
        (lambda: Group.generated("G", [(0, 0)]), r"\(0, 0\) is no permutation"),
        (lambda: Group.generated("G", [(1, 2)]), r"no permutation of the points 0 to 1"),
        (lambda: Group.generated("G", [(0, 1), (0, 2, 1)]), r"\(0, 2, 1\) is no permutation"),
        (lambda: Group.generated("S8", [cycle(8, *range(8)), cycle(8, 0, 1)]), "more than 5040"),
        (lambda: Group("G", ((1, 0), (0, 1))), "element 0 must be the identity"),
        (lambda: Group("G", ((0, 1), (1, 0), (1, 0))), "3 elements of G are not all different"),
        (
            lambda: Group("G", ((0, 1, 2), (1, 2, 0))).table,
            r"not closed under products: it lacks \(2, 0, 1\)",
        ),
        (lambda: S3.index((0, 1)), r"\(0, 1\) is not in S3"),
        (lambda: groups.alternating(5).index(SWAP), "is not in A5"),
        (lambda: groups.symmetric(8), "more than 5040"),
        (lambda: groups.cyclic(0), "Z_n needs n >= 1, got 0"),
        (lambda: groups.dihedral(2), "D_n needs n >= 3, got 2"),
        (lambda: groups.wreath_product(S3, 0), "needs n >= 1, got 0"),
    ],
)
def test_what_is_no_group_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# --- examples ------------------------------------------------------------------------------------


def by_hand(task, word):
    """The permutations after each token, by composing tuples."""
    current, seen = task.group.elements[0], []
    for token in word:
        factor = task.group.elements[task.alphabet[token]]
        if task.side == "right":
            current = tuple(current[factor[i]] for i in range(len(factor)))
        else:
            current = tuple(factor[current[i]] for i in range(len(factor)))
        seen.append(current)
    return [task.group.elements.index(permutation) for permutation in seen]


@pytest.mark.parametrize("start_token", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["S5", "D4", "Z8", "Z2 x S3", "Q8"])
def test_targets_are_the_products(name, side, start_token):
    group = KNOWN[name][0]
    task = WordProblem(group, [1, 3, 2], side=side, start_token=start_token)
    inputs, targets, mask = task.sample(20, 9, stream(0))
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.shape == targets.shape == mask.shape == (20, 9 + start_token)
    if start_token:
        assert (inputs[:, 0] == 3).all()
        assert not targets[:, 0].any()
        assert not mask[:, 0].any()
    words, expected = inputs[:, int(start_token) :], targets[:, int(start_token) :]
    assert mask[:, int(start_token) :].all()
    assert words.max() < 3
    assert expected.tolist() == [by_hand(task, word) for word in words.tolist()]


def test_the_two_sides_differ():
    words = torch.tensor([[1, 0, 0]])
    right, left = (WordProblem(D4, [R, S], side=side) for side in ("right", "left"))
    assert right.labels(words).tolist() == [[S, SR, D4.product(S, R, R)]]
    assert left.labels(words).tolist() == [[S, D4.product(R, S), D4.product(R, R, S)]]


def test_swapping_entries_of_a_tuple_is_multiplying_on_the_right():
    task = ten_swaps()
    inputs, targets, _ = task.sample(30, 20, stream(0))
    for word, labels in zip(inputs.tolist(), targets.tolist(), strict=True):
        items = list(range(5))
        for token, label in zip(word, labels, strict=True):
            i, j = (point for point in range(5) if transpositions(5)[token][point] != point)
            items[i], items[j] = items[j], items[i]
            assert list(permutations(range(5)))[label] == tuple(items)


def test_running_sums():
    task = WordProblem(groups.cyclic(8), range(8))
    inputs, targets, _ = task.sample(10, 64, stream(0))
    assert torch.equal(targets, inputs.cumsum(1) % 8)


@pytest.mark.parametrize("start_token", [False, True])
def test_the_last_step_alone_can_be_scored(start_token):
    task = two_generators(start_token=start_token)
    every = replace(task, scored="every")
    last, all_steps = (each.sample(5, 7, stream(0)) for each in (task, every))
    assert torch.equal(last.inputs, all_steps.inputs)
    assert torch.equal(last.targets, all_steps.targets)
    assert last.mask.sum(1).tolist() == [1] * 5
    assert last.mask[:, -1].all()


def test_vocabulary_and_classes():
    assert (two_generators().vocabulary, two_generators().classes) == (2, 120)
    assert two_generators(start_token=True).vocabulary == 3
    assert WordProblem(D4, range(8)).vocabulary == 8


def test_a_generator_alone_decides_the_examples():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for task in (ten_swaps(), MixedLengths(ten_swaps(), 2)):
        first, again, other = (task.sample(9, 6, stream(seed)) for seed in (3, 3, 4))
        assert all(map(torch.equal, first, again))
        assert not torch.equal(first.inputs, other.inputs)
    assert torch.equal(torch.get_rng_state(), state)


def test_tokens_are_uniform():
    inputs = ten_swaps().sample(4000, 10, stream(0)).inputs
    counts = torch.bincount(inputs.flatten()).double()
    # 40,000 draws: a standard error of 60 on each count.
    assert (counts - 4000).abs().max() < 240


def test_a_checkpoint_tells_tasks_apart_but_not_what_was_computed_with_them():
    fresh = describe(WordProblem(groups.dihedral(5), [1, 2]))
    used = WordProblem(groups.dihedral(5), (1, 2))
    used.sample(2, 3, stream(0))
    used.group.abelian_image, used.commuting_ceiling(3)
    assert describe(used) == fresh
    assert describe(replace(used, side="left")) != fresh
    assert describe(WordProblem(groups.dihedral(6), [1, 2])) != fresh


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphabet": []}, "must hold different elements"),
        ({"alphabet": [1, 2, 1]}, "must hold different elements"),
        ({"alphabet": [1, 8]}, r"must be elements of D4, 0 to 7"),
        ({"alphabet": [-1]}, r"must be elements of D4, 0 to 7"),
        ({"side": "middle"}, "side is 'middle'"),
        ({"scored": "first"}, "scored is 'first'"),
    ],
)
def test_what_is_no_word_problem_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WordProblem(**{"group": D4, "alphabet": [R, S], **options})


def test_a_word_without_tokens_is_refused():
    with pytest.raises(ValueError, match="at least one token, got a length of 0"):
        two_generators().sample(3, 0, stream(0))


# --- the loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scored", ["every", "last"])
def test_the_loss_is_the_mean_cross_entropy_of_the_scored_steps(scored):
    task = MixedLengths(ten_swaps(scored=scored, start_token=True), 2)
    batch = task.sample(6, 5, stream(0))
    logits = torch.randn(6, 6, 120, generator=stream(1), dtype=torch.float64)
    expected = functional.cross_entropy(logits[batch.mask], batch.targets[batch.mask])
    torch.testing.assert_close(task.loss(lambda _: logits, batch), expected)


class Table(nn.Module):
    """Logits for every step and token: the smallest model there is."""

    def __init__(self, task, seed):
        super().__init__()
        start = torch.randn(task.vocabulary, task.classes, generator=stream(seed))
        self.logits = nn.Parameter(0.1 * start)

    def forward(self, tokens):
        return self.logits[tokens].cumsum(1)


def test_models_train_together_as_they_do_alone():
    task = MixedLengths(WordProblem(D4, [R, S], start_token=True, scored="last"), 2)
    settings = {"steps": 5, "batch": 8, "length": 6, "lr": 0.1}
    together, alone = ([Table(task, seed) for seed in range(3)] for _ in range(2))
    fit_together(together, [task] * 3, seeds=range(3), **settings)
    for seed, model in enumerate(alone):
        fit_together([model], [task], seeds=[seed], **settings)
        torch.testing.assert_close(together[seed].logits, model.logits, rtol=1e-4, atol=1e-5)


def test_the_best_guess_by_step_scores_chance_and_a_solver_the_floor():
    task = WordProblem(D4, [0, R, S])
    shares = task.distribution(6).clamp_min(1e-30).log()

    class Guess(Table):
        def forward(self, tokens):
            return shares.expand(len(tokens), -1, -1)

    class Solver(Table):
        def forward(self, tokens):
            return 1e3 * functional.one_hot(task.labels(tokens), 8).double()

    guessed = score(Guess(task, 0), task, length=6, samples=20_000, seed=0)
    assert guessed.loss == pytest.approx(task.chance(6), rel=0.01)
    solved = score(Solver(task, 0), task, length=6, samples=10, seed=0)
    assert solved.loss == task.floor(6) == 0


# --- limits --------------------------------------------------------------------------------------


def enumerate_words(task, length):
    """Every word, with the elements after each of its tokens."""
    return [(word, by_hand(task, word)) for word in product(range(task.size), repeat=length)]


def best_share(pairs):
    """How often the most frequent second entry, given the first, is right."""
    seen = defaultdict(Counter)
    for known, element in pairs:
        seen[known][element] += 1
    return sum(max(counts.values()) for counts in seen.values()) / len(pairs)


@st.composite
def small_tasks(draw):
    group = KNOWN[draw(st.sampled_from(["S3", "S4", "D4", "Z8", "Q8", "A4"]))][0]
    elements = st.integers(0, group.order - 1)
    alphabet = draw(st.lists(elements, min_size=1, max_size=3, unique=True))
    return WordProblem(group, alphabet, side=draw(st.sampled_from(["right", "left"])))


@settings(deadline=None, max_examples=60)
@given(task=small_tasks(), length=st.integers(1, 5))
def test_every_limit_is_what_enumeration_finds(task, length):
    words = enumerate_words(task, length)
    total = len(words)
    assert task.distinct_inputs(length) == total
    shares = torch.zeros(length, task.classes, dtype=torch.float64)
    for _, elements in words:
        shares[range(length), elements] += 1 / total
    torch.testing.assert_close(task.distribution(length), shares, rtol=0, atol=1e-12)
    image = task.group.abelian_image.tolist()
    for t in range(length):
        guess = best_share([((), elements[t]) for _, elements in words])
        assert task.chance_accuracy(length)[t].item() == pytest.approx(guess)
        abelian = best_share([(image[elements[t]], elements[t]) for _, elements in words])
        assert task.abelian_ceiling(length)[t].item() == pytest.approx(abelian)
    counted = best_share([(tuple(sorted(word)), elements[-1]) for word, elements in words])
    assert task.commuting_ceiling(length) == pytest.approx(counted)
    last_known = best_share(
        [((tuple(sorted(word)), word[-2:]), elements[-1]) for word, elements in words]
    )
    if length > 2:
        assert task.commuting_ceiling(length - 2) == pytest.approx(last_known)


def test_a_start_token_shifts_the_limits_by_one_known_step():
    plain, started = ten_swaps(), ten_swaps(start_token=True)
    for limit in ("distribution", "chance_accuracy", "abelian_ceiling", "entropy"):
        first, *rest = getattr(started, limit)(7)
        torch.testing.assert_close(torch.stack(rest), getattr(plain, limit)(7))
        assert first.max() == (0 if limit == "entropy" else 1)
    assert started.chance(7) == plain.chance(7)
    assert started.commuting_ceiling(3) == plain.commuting_ceiling(3)
    assert replace(started, scored="last").chance(7) == plain.entropy(7)[-1]


def test_all_elements_of_a_commutative_group_can_be_counted():
    task = WordProblem(groups.cyclic(8), [1, 3])
    assert task.commuting_ceiling(16) == 1
    assert task.abelian_ceiling(16).tolist() == [1] * 16


# Half a unit of the last digit that is stated.
@pytest.mark.parametrize(
    ("length", "counts_only", "most_frequent"), [(12, 0.150, 0.034), (20, 0.071, 0.015)]
)
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_floors_of_two_generators_of_s5(side, length, counts_only, most_frequent):
    task = two_generators(side=side)
    assert task.commuting_ceiling(length) == pytest.approx(counts_only, abs=5e-4)
    assert task.chance_accuracy(length)[-1].item() == pytest.approx(most_frequent, abs=5e-4)
    assert task.distinct_inputs(length) == 2**length


def test_counts_and_the_last_tokens_of_two_generators_of_s5():
    assert two_generators().commuting_ceiling(12 - 6) == pytest.approx(0.344, abs=5e-4)
    assert two_generators().commuting_ceiling(12 - 8) == 0.5


def test_a_lookup_table_covers_what_it_has_met():
    task = two_generators()
    assert task.lookup_ceiling(5000, 12) == pytest.approx(0.705, abs=5e-4)
    assert task.lookup_ceiling(10_000, 20) == pytest.approx(0.0095, abs=5e-5)
    assert task.lookup_ceiling(0, 12) == 0
    assert task.lookup_ceiling(10**9, 4) == 1
    assert WordProblem(D4, [R]).lookup_ceiling(1, 5) == 1
    assert WordProblem(D4, [R]).lookup_ceiling(0, 5) == 0
    assert 0 < task.lookup_ceiling(5000, 1000) < 1e-290
    assert ten_swaps().lookup_ceiling(5000, 1000) == 0
    assert ten_swaps().distinct_inputs(1000) == math.inf


def test_chance_in_d4_by_alphabet():
    reported = WordProblem(D4, [R, S])
    assert reported.chance_accuracy(20).tolist() == [0.5] + [0.25] * 19
    assert reported.chance_accuracy(20).mean().item() == pytest.approx(0.2625, abs=1e-12)
    everything = WordProblem(D4, range(8))
    assert everything.chance_accuracy(20).tolist() == [0.125] * 20
    assert everything.abelian_ceiling(20).tolist() == [0.5] * 20
    assert everything.chance(20) == pytest.approx(math.log(8))
    # Who knows the parity of s as well as the step: 52.5 % on average.
    assert reported.abelian_ceiling(20).mean().item() == pytest.approx(0.525, abs=1e-12)


def test_transpositions_leave_half_of_s5():
    task, parity = ten_swaps(), S5.abelian_image
    shares = task.distribution(20)
    for length, stated in ((5, 4.2e-2), (10, 1.6e-3), (20, 1.5e-6)):
        reachable = parity == parity[task.alphabet[0]] * (length % 2)
        distance = (shares[length - 1] - reachable / 60).abs().sum() / 2
        assert distance.item() == pytest.approx(stated, rel=0.04)
    assert task.chance_accuracy(20)[-1].item() == pytest.approx(1 / 60, rel=1e-4)
    assert replace(task, scored="last").chance(20) == pytest.approx(math.log(60), abs=1e-6)
    # At a known step the parity is known, so that it helps no further.
    torch.testing.assert_close(task.abelian_ceiling(20), task.chance_accuracy(20))


@pytest.mark.parametrize("start_token", [False, True])
def test_a_state_holds_the_entropy_of_all_but_the_last_token(start_token):
    task = WordProblem(D4, [R, S], start_token=start_token)
    # After one token one of two elements, and then always one of four.
    assert [task.bits(length) for length in (1, 2, 3, 20)] == pytest.approx([0, 1, 2, 2])
    assert WordProblem(D4, range(8)).bits(2) == pytest.approx(3)
    assert MixedLengths(task, 1).bits(3) == task.bits(3)


def test_too_many_count_vectors_are_named():
    with pytest.raises(ValueError, match="10 tokens over 20 steps have 10,015,005 count vectors"):
        ten_swaps().commuting_ceiling(20)


# --- mixed lengths -------------------------------------------------------------------------------


@pytest.mark.parametrize("start_token", [False, True])
@pytest.mark.parametrize("scored", ["every", "last"])
def test_words_of_mixed_lengths_end_where_the_mask_does(scored, start_token):
    task = MixedLengths(ten_swaps(scored=scored, start_token=start_token), 3)
    inputs, targets, mask = task.sample(3000, 6, stream(0))
    first = int(start_token)
    assert inputs.shape == (3000, 6 + first)
    assert not mask[:, :first].any()
    steps = torch.arange(6 + first)
    last = (mask * steps).amax(1)
    if scored == "every":
        assert torch.equal(mask, (steps >= first) & (steps <= last[:, None]))
    else:
        assert (mask.sum(1) == 1).all()
    assert not inputs[steps > last[:, None]].any()
    assert torch.equal(targets, task.task.labels(inputs))
    counts = torch.bincount(last - first + 1, minlength=7)
    assert counts[:3].tolist() == [0, 0, 0]
    # 3,000 draws of four lengths: 750 each, a standard error of 24.
    assert (counts[3:] - 750).abs().max() < 96
    # Within the words all tokens occur alike.
    inside = inputs[(steps >= first) & (steps <= last[:, None])]
    share = torch.bincount(inside).double() / len(inside)
    assert (share - 0.1).abs().max() < 0.012


def test_a_single_length_is_not_mixed():
    task = ten_swaps(scored="last")
    mixed = MixedLengths(task, 6)
    assert mixed.chance(6) == task.chance(6)
    assert mixed.distinct_inputs(6) == task.distinct_inputs(6)
    batch = mixed.sample(5, 6, stream(0))
    assert batch.mask.sum(1).tolist() == [1] * 5
    assert batch.mask[:, -1].all()
    assert (mixed.vocabulary, mixed.classes, mixed.floor(6)) == (10, 120, 0)


@pytest.mark.parametrize("scored", ["every", "last"])
def test_chance_of_mixed_lengths_is_the_loss_of_the_guess_by_step(scored):
    task = MixedLengths(WordProblem(D4, [0, R], scored=scored), 1)
    logits = task.task.distribution(5).clamp_min(1e-30).log()
    batch = task.sample(40_000, 5, stream(0))
    loss = task.loss(lambda tokens: logits.expand(len(tokens), -1, -1), batch)
    assert loss.item() == pytest.approx(task.chance(5), rel=0.01)
    assert task.distinct_inputs(5) == 2**5  # shorter words look like longer ones


@pytest.mark.parametrize("shortest", [0, 7])
def test_impossible_ranges_of_lengths_are_refused(shortest):
    with pytest.raises(ValueError, match=f"lengths from {shortest} to 6"):
        MixedLengths(ten_swaps(), shortest).sample(2, 6, stream(0))


# --- training and test sets ----------------------------------------------------------------------


def test_overlap_counts_the_test_words_that_were_trained_on():
    task = two_generators()
    words = torch.tensor([[0, 1, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1]])
    whole = torch.full((4,), 3)
    train, test = task.examples(words[:1], whole[:1]), task.examples(words, whole)
    assert in_training(train, test).tolist() == [True, False, True, False]
    assert overlap(train, test) == 0.5
    assert overlap(test, train) == 1
    shorter = task.examples(words, whole - 1)
    assert not in_training(shorter, test).any()


@pytest.mark.parametrize(("draws", "length"), [(5000, 12), (10_000, 20)])
def test_overlap_is_what_the_lookup_ceiling_expects(draws, length):
    task = two_generators()
    train, test = task.sample(draws, length, stream(0)), task.sample(20_000, length, stream(1))
    expected = task.lookup_ceiling(draws, length)
    # Four standard errors, of the test words and of the number of training words that are distinct.
    error = 4 * math.sqrt(expected * (1 - expected) * (1 / 20_000 + 1 / 2**length))
    assert overlap(train, test) == pytest.approx(expected, abs=error)


def test_sets_of_different_lengths_are_not_compared():
    task = two_generators()
    train, test = task.sample(3, 4, stream(0)), task.sample(3, 5, stream(0))
    assert isinstance(train, Batch)
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(3, 5\) must have the same number"):
        overlap(train, test)
