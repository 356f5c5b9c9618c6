"""In every form, tropical slots are hard attention, and the limit of soft slots."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.audit.invariance import certify, certify_mixer
from lab.memories import SoftSlots
from lab.memories.annealing import geometric, sharpen, straight
from lab.memories.tropical import TropicalGated, TropicalSlots
from lab.mixers import MultiHead, unroll
from lab.scan import tropical_scan, tropical_scan_associative, tropical_scan_sequential

DOUBLE = torch.float64
FORMS = ["soft", "straight-through", "hard"]


def problem(B, T, m, M, seed=0, H=2):
    generator = stream(seed)
    q, k = 2 * torch.randn(2, B, H, T, m, dtype=DOUBLE, generator=generator)
    v = torch.randn(B, H, T, M, dtype=DOUBLE, generator=generator)
    return q, k, v, torch.randn(B, T, 5, dtype=DOUBLE, generator=generator)


def memory(m, M, kind=TropicalSlots, **settings):
    settings = {"decay": 0.2, "generator": stream(1), **settings}
    return kind(5, heads=2, d_key=m, d_value=M, **settings).double()


def attention(slots, q, k, v, x):
    """The definition: the value with the largest max-plus inner product, less the decays."""
    total = slots.decay_per_step(x).cumsum(-1)
    scores = (q[:, :, :, None] + k[:, :, None]).amax(-1) + total[..., :, None] - total[..., None, :]
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    winner = scores.masked_fill(later, -torch.inf).argmax(-1)
    return v.gather(2, winner[..., None].expand_as(v))


@settings(deadline=None, max_examples=60)
@given(
    B=st.integers(0, 2), T=st.integers(1, 19), m=st.integers(1, 6), M=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_the_hard_form_is_the_attention_that_defines_it(B, T, m, M, seed):
    inputs, slots = problem(B, T, m, M, seed=seed), memory(m, M).eval()
    assert torch.equal(slots(*inputs), attention(slots, *inputs))


@pytest.mark.parametrize("kind", [TropicalSlots, TropicalGated])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("B", "T"), [(2, 1), (2, 13), (0, 3)])
def test_the_parallel_form_is_the_step_form(kind, form, B, T):
    mixer = MultiHead(5, memory(3, 4, kind, training_form=form), shift=True, generator=stream(2))
    mixer, x = mixer.double(), problem(B, T, 3, 4)[-1]
    for mode in (True, False):
        mixer.train(mode)
        assert gap(mixer(x), unroll(mixer, x)) < 1e-12


def test_sharp_slots_come_near_the_hard_ones():
    inputs, slots = problem(2, 20, 4, 3), memory(4, 3)
    hard = slots.eval()(*inputs)
    slots.train()
    gaps = []
    for mu in (1.0, 10.0, 100.0):
        sharpen(slots, mu)
        gaps.append((slots(*inputs) - hard).abs().mean().item())
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]


def test_only_values_learn_in_the_hard_form():
    inputs, slots = problem(2, 9, 4, 3), memory(4, 3, training_form="hard")
    tensors = [tensor.requires_grad_() for tensor in inputs[:3]]
    y = slots(*tensors, inputs[3])
    parameters = list(slots.parameters())
    q, k, v, *rest = torch.autograd.grad(y.square().sum(), tensors + parameters, allow_unused=True)
    assert v.abs().sum() > 0
    assert all(grad is None or not grad.any() for grad in (q, k, *rest))
    of_values = partial(slots.hard, inputs[0].detach(), inputs[1].detach())
    assert torch.autograd.gradcheck(lambda v: of_values(v, inputs[3]), [tensors[2]])


@pytest.mark.parametrize("kind", [TropicalSlots, TropicalGated])
def test_straight_through_is_hard_forwards_and_soft_backwards(kind):
    inputs, slots = problem(2, 9, 4, 3), memory(4, 3, kind, training_form="straight-through", mu=2)
    soft = memory(4, 3, kind, mu=2)
    weights = torch.randn(2, 2, 9, 3, dtype=DOUBLE, generator=stream(5))
    assert gap(slots(*inputs), soft.eval()(*inputs)) < 1e-14
    tensors = [tensor.requires_grad_() for tensor in inputs[:3]]
    for actual, expected in zip(
        *(
            torch.autograd.grad((weights * each(*tensors, inputs[3])).sum(), tensors)
            for each in (slots, soft.train())
        ),
        strict=True,
    ):
        assert gap(actual, expected) < 1e-12


def test_soft_slots_in_training_are_the_soft_slots():
    inputs, slots = problem(2, 9, 4, 3), memory(4, 3, mu=1.5)
    other = SoftSlots(
        5, heads=2, d_key=4, d_value=3, mu=1.5, decay=0.2, generator=stream(1)
    ).double()
    assert gap(slots(*inputs), other(*inputs)) < 1e-12


def test_the_order_of_two_earlier_steps_never_changes_in_the_gated_form():
    q, k, v, x = problem(3, 40, 4, 3)
    slots = memory(4, 3, TropicalGated).eval()
    winner = slots.winners(*slots.logits(q, k), x)
    new = winner.diff(dim=-1) != 0
    assert (winner[..., 1:][new] == torch.arange(1, 40).expand_as(new)[new]).all()


def test_logits_may_be_large_when_sharp():
    q, k, v, x = (tensor.float() for tensor in problem(2, 30, 4, 3))
    slots = memory(4, 3, mu=100.0).float()
    y = slots(30 * q, 30 * k, v, x)
    assert y.isfinite().all()
    assert gap(y, slots.eval()(30 * q, 30 * k, v, x)) < 1e-2


def test_mu_rises_to_its_most():
    for schedule in (geometric, straight):
        assert schedule(0, 100, 20.0) == 1
        assert schedule(80, 100, 20.0) == schedule(100, 100, 20.0) == pytest.approx(20)
        assert 1 < schedule(40, 100, 20.0) < 20
        assert schedule(50, 100, 20.0, begin=0.5, end=0.9) == 1
        assert schedule(90, 100, 20.0, begin=0.5, end=0.9) == pytest.approx(20)
    assert geometric(40, 100, 16.0) == pytest.approx(4)
    assert straight(40, 100, 17.0) == pytest.approx(9)


def test_a_wrong_form_is_refused():
    with pytest.raises(ValueError, match="'sof'"):
        TropicalSlots(5, heads=2, d_key=3, training_form="sof")


# --- the operator --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(T=st.integers(1, 24), values=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_ties_go_to_the_later_step_in_every_form(T, values, seed):
    """Whole numbers: nothing is rounded, and there are many ties."""
    generator = stream(seed)
    a = -torch.randint(values, (1, T, 3), generator=generator).double()
    b = torch.randint(values, (1, T, 3), generator=generator).double()
    total = a.cumsum(1)
    score = total[:, :, None] - total[:, None] + b[:, None]  # ["B t j N"]
    score = score.masked_fill(torch.ones(T, T).triu(1).bool()[..., None], -torch.inf)
    winner = T - 1 - score.flip(2).argmax(2)  # the first of the last
    for form in (tropical_scan, tropical_scan_sequential, tropical_scan_associative):
        h, found = form(a, b)
        assert torch.equal(found, winner)
        assert torch.equal(h, score.amax(2))


# --- the certificate -----------------------------------------------------------------------------


def stretched(seed, written=6, late=4, copies=1, m=3):
    """Bids and gains with a gap whose steps come several times; the query comes last."""
    generator = stream(seed)
    q, k = torch.randn(2, 1, 2, written + late + 1, m, dtype=DOUBLE, generator=generator)
    k[:, :, written:] -= 1.5
    gains = -0.1 * torch.rand(1, 2, written + late + 1, dtype=DOUBLE, generator=generator)
    between = torch.arange(written, written + late).repeat(copies)
    order = torch.cat([torch.arange(written), between, torch.tensor([written + late])])
    return q[:, :, order], k[:, :, order], gains[..., order], torch.tensor([[len(order) - 1]])


def winner_of(q, k, gains):
    level, holder = tropical_scan(gains[..., None].expand_as(k).flatten(0, 1), k.flatten(0, 1))
    level, holder = (each.unflatten(0, q.shape[:2])[:, :, -1] for each in (level, holder))
    return holder.gather(-1, (q[:, :, -1] + level).argmax(-1, keepdim=True))


def test_where_the_certificate_holds_the_winner_is_the_same_after_any_gap():
    held, changed = 0, 0
    for seed in range(60):
        *short, at = stretched(seed)
        certificate = certify(*short, at, written=6)
        itself = certificate.step == at[:, None]
        per_copy = certificate.decay
        for copies in (1, 2, 5, 20):
            *long, now = stretched(seed, copies=copies)
            found = winner_of(*long)
            expected = torch.where(itself, now[:, None], certificate.step)
            longer = certify(*long, now, written=6)
            # Decays of the copies add up; where they stay below the margin, nothing changes.
            certain = longer.holds
            assert torch.equal(longer.step[certain], expected[certain])
            assert (found == expected)[certain].all()
            torch.testing.assert_close(longer.margin, certificate.margin)
            held += int(certain.sum())
            changed += int((found != expected).sum())
        assert (per_copy >= 0).all()
    assert held > 100
    assert changed > 20  # it is no empty promise: elsewhere winners do change


def test_the_certificate_of_a_layer_names_the_winners_of_its_own_run():
    mixer = MultiHead(5, memory(6, 4), shift=True, generator=stream(2)).double()
    x = problem(8, 12, 3, 4)[-1]
    at = torch.tensor([[9, 11]]).expand(8, -1)
    certificate = certify_mixer(mixer, x, at, written=5)
    q, k, _ = mixer.heads(x)
    winner = mixer.memory.winners(q, k, x)[..., [9, 11]]
    assert certificate.holds.any()
    assert torch.equal(certificate.step[certificate.holds], winner[certificate.holds])


def test_a_query_before_the_gap_is_refused():
    *inputs, at = stretched(0)
    with pytest.raises(ValueError, match="6 steps"):
        certify(*inputs, at - 6, written=6)
