"""Routers: who takes which token, which rules look ahead, and how loads are balanced."""

import math

import pytest
import torch
from numeric import stream

from lab.nn.routing import (
    Router,
    balanced,
    expert_choice,
    lagged_thresholds,
    prefix_rank,
    quota,
)

D, H = 5, 4
CAUSAL = ("all", "token choice", "threshold", "prefix rank", "lagged chunks")
DOUBLE = torch.float64


def scores(B=3, T=12, heads=H, seed=0):
    return torch.randn(B, T, heads, dtype=DOUBLE, generator=stream(seed)).softmax(-1)


def router(routing, **settings):
    return Router(D, heads=H, routing=routing, generator=stream(0), dtype=DOUBLE, **settings)


# --- the rules, against plain loops --------------------------------------------------------------


def test_expert_choice_takes_the_largest_of_the_whole_sequence():
    p = scores()
    taken = expert_choice(p, 3)
    assert torch.equal(taken.sum(1), torch.full((3, H), 3))
    for b in range(3):
        for h in range(H):
            column = p[b, :, h]
            assert set(taken[b, :, h].nonzero()[:, 0].tolist()) == set(
                column.topk(3).indices.tolist()
            )


def test_prefix_rank_takes_what_is_among_the_largest_so_far():
    p, limits = scores(), torch.tensor([1, 1, 2, 2, 3, 1, 1, 4, 2, 2, 5, 3])
    taken = prefix_rank(p, limits)
    for t in range(12):
        ahead = (p[:, :t] > p[:, t : t + 1]).sum(1)
        assert torch.equal(taken[:, t], ahead < limits[t])


@pytest.mark.parametrize(
    "rule", [lambda p: expert_choice(p, 2), lambda p: prefix_rank(p, torch.full((6,), 2))]
)
def test_of_equal_scores_the_earlier_is_taken(rule):
    p = torch.full((1, 6, 1), 0.3) + 1e-7 * torch.randn(1, 6, 1, generator=stream(0))
    assert rule(p)[0, :, 0].tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("T", [1, 3, 4, 5, 8, 12])
def test_thresholds_of_a_chunk_are_those_of_the_chunk_before(T):
    p = scores(T=T)
    found = lagged_thresholds(p, chunk=4, taken=2)
    assert found.shape == p.shape
    for t in range(T):
        j = t // 4
        if j == 0:
            assert (found[:, t] == -math.inf).all()
        else:
            before = p[:, 4 * (j - 1) : 4 * j].sort(dim=1, descending=True).values
            assert torch.equal(found[:, t], before[:, 1])


def test_lagged_chunks_begin_as_by_token_and_then_take_what_is_not_below_the_chunk_before():
    one = router("lagged chunks", chunk=4)  # of four tokens each of four heads takes one
    p = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.3, 0.5, 0.4, 0.1, 0.5, 0.6, 0.2, 0.1], dtype=DOUBLE)
    rest = (1 - p) / 3
    taken = one.choose(torch.stack([p, rest, rest, rest], dim=-1)[None])[0]
    assert taken[:4].int().argmax(-1).tolist() == [1, 1, 0, 0]
    assert taken[:, 0].nonzero()[:, 0].tolist() == [2, 3, 5, 6, 8, 9]
    assert (taken[:4].sum(-1) == 1).all()


def test_a_quota_is_a_share_of_the_tokens_to_the_nearest_and_at_least_one():
    found = quota(torch.arange(1, 13), 4, 1).tolist()
    assert found == [1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]
    assert quota(6, 4, 2).item() == 3


def test_token_choice_gives_every_token_to_the_best_heads():
    p = scores()
    taken = router("token choice").choose(p)
    assert torch.equal(taken.int().argmax(-1), p.argmax(-1))
    assert (taken.sum(-1) == 1).all()
    assert torch.equal(
        router("token choice", capacity=2).choose(p).nonzero()[:, 2].view(3, 12, 2),
        p.topk(2).indices.sort(-1).values,
    )


def test_offsets_decide_and_some_heads_take_everything():
    one = router("token choice", always=1)
    one.offset += torch.tensor([0.0, 0.0, 0.0, 1.0])
    taken = one.choose(scores())
    assert taken[..., 0].all()
    assert taken[..., 3].all()
    assert not taken[..., 1:3].any()


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_a_decision_turns_where_the_next_head_gains_more_than_the_margin(capacity):
    x = torch.randn(6, D, dtype=DOUBLE, generator=stream(1))
    one = router("token choice", capacity=capacity)
    one.offset += torch.tensor([0.1, -0.2, 0.05, 0.0])
    margin, ranked = one.margins(x), (one(x) + one.offset).argsort(dim=-1, descending=True)
    assert not margin.requires_grad
    for i in range(len(x)):
        last, following = ranked[i, capacity - 1], ranked[i, capacity]
        for gain, turns in ((margin[i] - 1e-9, False), (margin[i] + 1e-9, True)):
            p = one(x[i]).detach()
            p[following] += gain
            taken = one.taken(p[None, None])[0, 0]
            assert (bool(taken[last]), bool(taken[following])) == (not turns, turns)


@pytest.mark.parametrize("settings", [{"routing": "threshold"}, {"capacity": H}])
def test_there_is_no_margin_without_a_next_head(settings):
    with pytest.raises(ValueError, match="it needs token choice with a head left over"):
        router(**{"routing": "token choice", **settings}).margins(torch.zeros(1, D, dtype=DOUBLE))


def test_acceptance_by_prefix_rank_is_that_of_independent_relative_ranks():
    # Rényi: P(accept at t) = taken / t, and the load has the variance of independent draws.
    T, B = 32, 20_000
    limits = torch.arange(1, T + 1).div(4, rounding_mode="floor")
    taken = prefix_rank(torch.rand(B, T, 1, dtype=DOUBLE, generator=stream(1)), limits)[..., 0]
    expected = limits / torch.arange(1, T + 1)
    error = (expected * (1 - expected) / B).sqrt()
    assert ((taken.double().mean(0) - expected).abs() <= 4.5 * error + 1e-4).all()
    load = taken.sum(1).double()
    assert load.mean().item() == pytest.approx(expected.sum().item(), abs=0.08)
    assert load.var().item() == pytest.approx((expected * (1 - expected)).sum().item(), rel=0.05)


# --- what looks ahead, and what does not ---------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"capacity": 2}, {"always": 1}])
@pytest.mark.parametrize("routing", CAUSAL)
def test_causal_rules_never_change_an_earlier_decision(routing, settings):
    one, p = router(routing, **settings), scores(B=20)
    for t in range(1, 12):
        changed = p.clone()
        changed[:, t:] = scores(B=20, seed=1)[:, t:]
        assert torch.equal(one.choose(changed)[:, :t], one.choose(p)[:, :t])
        assert torch.equal(one.choose(p[:, :t]), one.choose(p)[:, :t])


def test_expert_choice_changes_earlier_decisions():
    one, p = router("expert choice"), scores(B=200)
    changed = p.clone()
    changed[:, -1] = scores(B=200, seed=1)[:, -1]
    moved = (one.choose(changed) != one.choose(p))[:, :-1].flatten(1).any(1)
    assert moved.double().mean() > 0.5


@pytest.mark.parametrize("routing", CAUSAL)
def test_the_step_form_decides_the_same(routing):
    one, p = router(routing, capacity=2), scores()
    past, found = None, []
    for p_t in p.unbind(1):
        taken, past = one.step(p_t, past)
        found.append(taken)
    assert torch.equal(torch.stack(found, dim=1), one.choose(p))


def test_expert_choice_step_by_step_ranks_each_token_once():
    one, p = router("expert choice"), scores()
    past, found = None, []
    for p_t in p.unbind(1):
        taken, past = one.step(p_t, past)
        found.append(taken)
    limits = torch.arange(1, 13).div(H, rounding_mode="floor")
    assert torch.equal(torch.stack(found, dim=1), prefix_rank(p, limits))


# --- gradients and balancing ---------------------------------------------------------------------


def test_gates_are_decisions_with_the_gradient_of_scores():
    one = router("token choice", always=1)
    p = scores().requires_grad_()
    taken = one.choose(p)
    gates = one.gates(p, taken)
    assert torch.allclose(gates, taken.double(), rtol=0, atol=1e-15)
    (slope,) = torch.autograd.grad(gates.sum(), p)
    assert torch.equal(slope, torch.tensor([0.0, 1, 1, 1], dtype=DOUBLE).expand_as(slope))
    assert not router("all").gates(p, router("all").choose(p)).requires_grad


def test_nothing_moves_unless_it_is_balancing():
    one = router("token choice", balance="sign")
    before = one.offset.clone()
    one.choose(scores())
    assert torch.equal(one.offset, before)
    one.balancing = True
    one.choose(scores())
    assert not torch.equal(one.offset, before)


def types(*loads):
    """Tokens of one type for each head, so many of each."""
    rows = torch.eye(len(loads), dtype=DOUBLE).repeat_interleave(torch.tensor(loads), dim=0)
    return (10 * rows).softmax(-1)[None]


@pytest.mark.parametrize(
    ("balance", "loads", "moves"),
    [
        ("sign", (6, 4), [-1, 1]),
        ("sign", (5, 5), [0, 0]),
        ("dead band", (6, 4), [0, 0]),
        ("dead band", (9, 1), [-1, 1]),
        ("none", (10, 0), [0, 0]),
    ],
)
def test_a_dead_band_rests_where_the_sign_rule_does_not(balance, loads, moves):
    one = Router(D, heads=2, balance=balance, rate=0.125, generator=stream(0), dtype=DOUBLE)
    one.balancing = True
    one.choose(types(*loads))
    assert one.load.tolist() == [each / 10 for each in loads]
    assert (one.offset / 0.125).tolist() == moves


def test_the_sign_rule_balances_continuous_scores():
    one = Router(D, heads=H, balance="sign", rate=1e-3, generator=stream(0))
    one.balancing = True
    lean = torch.tensor([1.0, 0.0, 0.0, -1.0])
    for update in range(500):
        noise = torch.randn(64, 16, H, generator=stream(update))
        one.choose((noise + lean).softmax(-1))
    assert one.load.max() * H < 1.15


def test_a_threshold_follows_the_quantile():
    one = Router(D, heads=H, routing="threshold", rate=1.0, generator=stream(0), dtype=DOUBLE)
    one.balancing = True
    p = scores(B=50)
    one.choose(p)
    assert torch.allclose(-one.offset, p.flatten(0, 1).quantile(0.75, dim=0))
    one.balancing = False
    assert torch.allclose(one.choose(p).double().mean((0, 1)), torch.tensor(0.25, dtype=DOUBLE))


def test_an_arm_balances_in_every_update_but_the_last():
    models = [torch.nn.ModuleList([router("token choice")]) for _ in range(2)]
    seen = []
    for update in range(4):
        balanced(models, update, steps=4)
        seen.append([model[0].balancing for model in models])
    assert seen == [[True, True]] * 3 + [[False, False]]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"routing": "best"}, "routing is 'best'; it must be one of"),
        ({"balance": "best"}, "balance is 'best'; it must be one of"),
        ({"capacity": 5}, "capacity 5, always 0 and rate 0.01 must be at most 4, 4 and 1"),
        ({"rate": math.inf}, "rate inf must be at most"),
        ({"rate": 0}, "rate is 0; it must be above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Router(D, heads=H, **settings)
