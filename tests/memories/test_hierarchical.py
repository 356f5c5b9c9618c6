"""Attention with a state of blocks, against the tree of blocks and against what it reduces to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.audit.state_size import state_bytes
from lab.linalg.hss import coupling_numbers
from lab.memories import LinearAttention
from lab.memories.hierarchical import HierarchicalAttention, hierarchical_attention_sequential
from lab.memories.truncated import TruncatedAttention
from lab.mixers import MultiHead, unroll

D, H, K = 5, 2, 16
DOUBLE = torch.float64
FORMS = {
    "(4, 4)": (4, 4),
    "(4, 8)": (4, 8),
    "(8, 2)": (8, 2),
    "(2, 4)": (2, 4),
    "leaves": (4, 0),
    "one leaf": (16, 3),
}
every_form = pytest.mark.parametrize("form", FORMS)


def problem(B, T, seed):
    """q, k, v and x."""
    generator = stream(seed)
    shapes = [*[(B, H, T, K)] * 3, (B, T, D)]
    return [torch.randn(shape, generator=generator, dtype=DOUBLE) for shape in shapes]


def build(form):
    leaf, rank = FORMS[form]
    memory = HierarchicalAttention(
        D, heads=H, d_key=K, leaf=leaf, rank=rank, generator=stream(0), dtype=DOUBLE
    )
    for basis in memory.parameters():  # not orthonormal, as once they are trained
        basis.data += 0.3 * torch.randn(basis.shape, dtype=DOUBLE, generator=stream(1))
    return memory


@every_form
@settings(deadline=None, max_examples=15)
@given(B=st.integers(0, 2), T=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_heads_of_unequal_size_are_the_tree(form, B, T, seed):
    memory, (q, k, v, x) = build(form), problem(B, T, seed)
    assert gap(memory(q, k, v, x), hierarchical_attention_sequential(memory, q, k, v)) < 1e-12


@every_form
def test_the_step_form_is_the_parallel_form(form):
    layer = MultiHead(D, build(form), generator=stream(2), dtype=DOUBLE)
    x = problem(3, 9, seed=1)[-1]
    assert gap(unroll(layer, x), layer(x)) < 1e-12


@every_form
def test_what_is_read_is_the_dense_state_times_the_query(form):
    memory, (q, k, v, x) = build(form), problem(2, 7, seed=2)
    S = memory.states(q, k, v, x).movedim(1, 2)
    features = torch.nn.functional.elu(q) + 1
    z = (torch.nn.functional.elu(k) + 1).cumsum(2)
    read = (features[..., None, :] @ S)[..., 0, :] / (features * z).sum(-1, keepdim=True)
    assert gap(memory(q, k, v, x), read) < 1e-12
    state = None
    for t in range(7):
        _, state = memory.step(q[:, :, t], k[:, :, t], v[:, :, t], x[:, t], state)
    assert gap(memory.matrix(state[1]).to_dense(), S[:, :, -1]) < 1e-12


def test_one_leaf_is_linear_attention_and_equal_leaves_share_a_denominator():
    q, k, v, x = problem(2, 11, seed=3)
    dense = LinearAttention(D, heads=H, d_key=K)
    assert gap(build("one leaf")(q, k, v, x), dense(q, k, v, x)) < 1e-12
    # Four heads of four in each head, whose sums are divided by the sum of all weights.
    small = [part.unflatten(-1, (4, 4)).movedim(-2, 2).flatten(1, 2) for part in (q, k, v)]
    alone = LinearAttention(D, heads=4 * H, d_key=4)
    f = [torch.nn.functional.elu(part) + 1 for part in (*small[:2], q, k)]
    own, shared = ((one * two.cumsum(2)).sum(-1, keepdim=True) for one, two in (f[:2], f[2:]))
    sums = (alone(*small, x) * own).unflatten(1, (H, 4)).movedim(2, -2).flatten(-2)
    assert gap(build("leaves")(q, k, v, x), sums / shared) < 1e-12


@every_form
def test_the_state_has_as_many_numbers_as_the_formula_says(form):
    leaf, rank = FORMS[form]
    found = state_bytes(MultiHead(D, build(form), dtype=DOUBLE), torch.zeros(1, 3, D, dtype=DOUBLE))
    assert found == 8 * H * (coupling_numbers(K, leaf=leaf, rank=rank) + K)  # K for z


@pytest.mark.parametrize("form", ["(4, 4)", "(4, 8)"])
def test_gradients_match_finite_differences(form):
    memory, inputs = build(form), [part.requires_grad_() for part in problem(1, 4, seed=4)]
    assert torch.autograd.gradcheck(memory, inputs, check_undefined_grad=False)


def test_the_start_is_orthonormal_and_the_same_for_the_same_stream():
    one, other = (
        HierarchicalAttention(D, heads=H, d_key=K, leaf=4, rank=2, generator=stream(5))
        for _ in range(2)
    )
    for U, V in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(U, V)
        assert gap(U.mT @ U, torch.eye(2).expand(*U.shape[:2], 2, 2)) < 1e-6


def test_gains_act_on_all_blocks_alike_and_zero_begins_anew():
    memory, (q, k, v, x) = build("(4, 4)"), problem(2, 9, seed=6)
    later = [part[..., 4:, :] for part in (q, k, v, x)]
    gain = torch.full((9, H, 1), 0.5, dtype=DOUBLE)
    gain[4] = 0
    memory.log_decay = lambda x: gain.log().expand(len(x), -1, -1, -1)
    whole = memory(q, k, v, x)
    memory.log_decay = lambda x: x.new_full((*x.shape[:-1], H, 1), 0.5).log()
    alone = memory(*later)
    assert gap(whole[:, :, 4:], alone) < 1e-12
    assert gap(whole[:, :, :4], memory(*(part[..., :4, :] for part in (q, k, v, x)))) < 1e-12
    state, reads = None, []
    for t in range(5):
        read, state = memory.step(*(part[..., t, :] for part in later), state)
        reads.append(read)
    assert gap(torch.stack(reads, dim=2), alone) < 1e-12
    assert gap(memory.states(*later)[:, -1], memory.matrix(state[1]).to_dense()) < 1e-12


@pytest.mark.parametrize(
    "sizes",
    [
        {"leaf": 3, "rank": 1},
        {"leaf": 0, "rank": 1},
        {"leaf": 4, "rank": -1},
        {"leaf": 32, "rank": 1},
    ],
)
@pytest.mark.parametrize("kind", [HierarchicalAttention, TruncatedAttention])
def test_sizes_that_make_no_tree_are_refused(kind, sizes):
    with pytest.raises(ValueError, match=r"leaf|rank"):
        kind(D, heads=H, d_key=K, **sizes)


# --- truncated at every step ---------------------------------------------------------------------


def test_with_full_rank_nothing_is_lost():
    q, k, v, x = problem(2, 12, seed=7)
    dense = LinearAttention(D, heads=H, d_key=K)
    for rank in (8, 16):
        memory = TruncatedAttention(D, heads=H, d_key=K, leaf=4, rank=rank)
        assert gap(memory(q, k, v, x), dense(q, k, v, x)) < 1e-12


def test_the_first_steps_are_exact_and_then_energy_is_lost():
    q, k, v, x = problem(2, 12, seed=8)
    memory = TruncatedAttention(D, heads=H, d_key=K, leaf=4, rank=2)
    dense = LinearAttention(D, heads=H, d_key=K)
    exact, kept = dense.states(q, k, v, x)[..., :K], memory.states(q, k, v, x)
    errors = (kept - exact).norm(dim=(-2, -1)).amax((0, 2))
    assert errors[:2].max() < 1e-12  # a sum of two steps has rank two
    assert errors[2:].min() > 0.1
    state = None
    for t in range(12):
        _, state = memory.step(q[:, :, t], k[:, :, t], v[:, :, t], x[:, t], state)
    assert gap(state[1], kept[:, -1]) == 0
