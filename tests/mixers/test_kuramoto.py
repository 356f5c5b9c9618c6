"""K-SSM: parameters to the integer, what follows from the formulas, and interventions on R."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream

from lab.mixers import (
    Freeze,
    InCoupling,
    KuramotoBank,
    KuramotoSSM,
    Placebo,
    SetOrder,
    Shuffle,
    Turn,
    decayed,
    intervening,
    noise_of,
    order_parameter,
    placebo,
    predicted_order,
    set_order,
    turned_alike,
    unroll,
)
from lab.mixers.kuramoto import harmonics_of
from lab.model import FeedForward, SequenceModel, generate
from lab.scan.kuramoto import kuramoto_step, mean_phase

DOUBLE = torch.float64
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def model(mixer, *, D, layers, vocabulary=256, positions=0):
    generator = stream(0)
    mixers = [mixer(D, generator=generator) for _ in range(layers)]
    channels = [FeedForward(D, 4 * D, generator=generator) for _ in mixers]
    return SequenceModel(
        vocabulary, vocabulary, D, mixers, channels=channels, positions=positions, norm="layer",
        tied=True, generator=generator,
    )  # fmt: skip


def bank(noise="none", **changed):
    settings = {"d_state": 12, "harmonics": 4} | changed
    return KuramotoBank(8, noise=noise, generator=stream(0), **settings).double()


def layer(**settings):
    made = KuramotoSSM(8, d_state=16, generator=stream(0), **settings).double()
    with torch.no_grad():  # so that R depends on the input, and couplings differ
        made.frequency.weight *= 30
        if made.coupling is not None:
            made.coupling.weight *= 5
    return made


def sequence(B=3, T=9, seed=1, D=8):
    return torch.randn(B, T, D, generator=stream(seed), dtype=DOUBLE)


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((384, 6, 100_277, 1024, 192, 32), 46_246_722),
        ((96, 3, 256, 128, 64, 16), 278_049),
        ((64, 2, 256, 64, 48, 8), 91_894),
    ],
)
def test_the_published_model_has_its_parameters_to_the_integer(sizes, expected):
    D, L, V, positions, N, n_h = sizes
    mixer = partial(KuramotoBank, d_state=N, harmonics=n_h)
    built = model(mixer, D=D, layers=L, vocabulary=V, positions=positions)
    assert count(built) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, 267_330), ({"coupled": False}, 267_330 - 2 * 97), ({"harmonics": 16}, 251_970)],
)
def test_the_recurrent_model_has_its_parameters_to_the_integer(settings, expected):
    assert count(model(partial(KuramotoSSM, d_state=64, **settings), D=96, layers=2)) == expected


def test_with_and_without_coupling_start_alike():
    coupled, uncoupled = (
        model(partial(KuramotoSSM, d_state=5, coupled=c), D=8, layers=2).state_dict()
        for c in (True, False)
    )
    assert len(coupled) - len(uncoupled) == 4
    assert all(torch.equal(coupled[name], value) for name, value in uncoupled.items())


# --- the published bank --------------------------------------------------------------------------


def test_the_bank_is_what_its_docstring_says():
    examined, x = bank(), sequence()
    a, b, c, d, e, f, g, k, _, _ = (x @ examined.project.weight.T + examined.project.bias).unbind(
        -1
    )
    raw = (d * g - c * k) / (a * g - c * e + 1e-6)
    found = examined.coefficients(x)
    assert gap(found.determinant, b * g - c * f) < 1e-12
    assert gap(found.unclipped, raw) < 1e-9
    assert 0.2 < (found.u == 0.1).double().mean() < 0.9  # some are clipped, some are not
    K = 2 / (1 + torch.exp(-raw.clamp(0.1, 10)))
    theta = examined.omega + x.mean(-1, keepdim=True)
    Z = torch.exp(1j * theta).mean(-1, keepdim=True)
    theta = theta + K[..., None] * (Z * torch.exp(-1j * theta)).imag
    assert gap(examined.states(x), theta) < 1e-9
    means = torch.stack([torch.exp(1j * n * theta).mean(-1) for n in range(1, 5)], dim=-1)
    features = torch.cat([means.real, means.imag, means.abs()], dim=-1)
    assert gap(examined(x), features @ examined.out.weight.T + examined.out.bias) < 1e-6
    assert gap(examined.order(x), means[..., 0].abs()) < 1e-9
    wall = 0.1 / (found.determinant.abs().mean() + 1e-5) - 0.5 * found.u.mean().log()
    assert examined.barrier(x).item() == pytest.approx(wall.item())


def test_without_noise_the_past_does_not_change_logits_at_all():
    examined = model(partial(KuramotoBank, d_state=6, harmonics=3, noise="none"), D=8, layers=2)
    tokens = torch.randint(256, (4, 20), generator=stream(0))
    shuffled = tokens[:, [*torch.randperm(19, generator=stream(1)).tolist(), 19]]
    assert not torch.equal(shuffled, tokens)
    assert torch.equal(examined(shuffled)[:, -1], examined(tokens)[:, -1])


def test_order_is_a_constant_where_u_is_clipped():
    clipped, free = bank(clip=(1e5, 1e6)), bank(clip=(-5.0, 5.0))
    for each in (clipped, free):
        each.omega.data *= 0.7  # phases that are not spaced evenly have an order to change
    order = clipped.order(sequence(B=4, T=30))
    assert (order - order[0, 0]).abs().max() < 1e-12
    assert free.order(sequence(B=4, T=30)).std() > 0.01


def test_fresh_noise_differs_between_calls_and_common_noise_does_not():
    x = sequence()
    torch.manual_seed(0)
    fresh, common = bank("fresh"), bank("common")
    assert not torch.equal(fresh(x), fresh(x))
    assert torch.equal(common(x), common(x))
    assert not torch.equal(common(x), bank("common", seed=1)(x))
    spread = (fresh.states(x.expand(3, 9, 8)) - bank().states(x)).std()
    assert spread.item() == pytest.approx(0.2, rel=0.2)
    # The same position has the same noise, whatever its sequence.
    noise = common.states(x) - bank().states(x)
    assert gap(noise[0], noise[2]) < 1e-12


def test_the_noise_of_all_banks_is_changed_inside_a_context_alone():
    mixer = partial(KuramotoBank, d_state=6, harmonics=3)
    examined = model(mixer, D=8, layers=2)
    tokens = torch.randint(256, (2, 5), generator=stream(0))
    with noise_of(examined, "common"):
        assert torch.equal(examined(tokens), examined(tokens))
        assert [each.noise for each in examined.mixers] == ["common", "common"]
    with pytest.raises(RuntimeError, match="stop"), noise_of(examined, "none"):
        raise RuntimeError("stop")
    assert [each.noise for each in examined.mixers] == ["fresh", "fresh"]
    sentence = "noise_of: noise is 'loud'; it must be one of"
    with pytest.raises(ValueError, match=sentence), noise_of(examined, "loud"):
        pass


def published_rates(steps=15_000, warmup=1_000, peak=4e-4):
    step = torch.arange(1, steps + 1, dtype=DOUBLE)
    falling = 0.5 * (1 + torch.cos(math.pi * (step - warmup) / (steps - warmup)))
    return peak * torch.where(step < warmup, step / warmup, falling)


@pytest.mark.parametrize(
    ("u", "expected"),
    [
        (0.1, {2000: 0.0864, 5000: 0.2720, 8000: 0.4086, 15_000: 0.4923}),
        (-1.0, {2000: 0.0718, 5000: 0.2225, 8000: 0.3334, 15_000: 0.4022}),
    ],
)
def test_weight_decay_alone_gives_the_published_curve(u, expected):
    order = predicted_order(decayed(published_rates(), weight_decay=0.1), d_state=192, u=u)
    for step, value in expected.items():
        assert order[step - 1].item() == pytest.approx(value, abs=6e-4)


@pytest.mark.parametrize("shrinkage", [1.0, 0.8, 0.5, 0.1])
def test_the_prediction_is_what_a_bank_with_shrunk_phases_measures(shrinkage):
    examined = bank("fresh", d_state=64, clip=(0.1, 0.1 + 1e-9))
    with torch.no_grad():
        examined.omega *= shrinkage
        examined.noise_scale *= shrinkage
    torch.manual_seed(0)
    measured = examined.order(sequence(B=20, T=100)).square().mean().sqrt()
    expected = predicted_order(torch.tensor([shrinkage]), d_state=64, u=0.1)
    assert measured.item() == pytest.approx(expected.item(), abs=2e-3)


# --- the recurrent layer -------------------------------------------------------------------------


def test_a_coupling_of_zero_is_the_layer_without_it():
    coupled, uncoupled = layer(), layer(coupled=False)
    with torch.no_grad():
        coupled.coupling.weight.zero_()
        coupled.coupling.bias.fill_(-1e4)
    assert gap(coupled(sequence()), uncoupled(sequence())) < 1e-12
    assert gap(layer()(sequence()), uncoupled(sequence())) > 1e-3


@settings(deadline=None, max_examples=20)
@given(N=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_harmonics_are_means_of_powers(N, seed):
    z = torch.randn(3, 2, N, generator=stream(seed), dtype=DOUBLE) + 0.1
    size, theta = z.square().sum(1).sqrt(), torch.atan2(z[:, 1], z[:, 0])
    means = torch.stack([(size * torch.exp(1j * n * theta)).mean(-1) for n in (1, 2, 3)], dim=-1)
    found = harmonics_of(z, 3)
    expected = torch.cat([means.real, means.imag, means.abs()], dim=-1)
    # Sizes are floored at 1e-3.
    assert gap(found, expected) < 1e-3


def test_both_orders_are_recorded_and_agree_where_oscillators_have_a_size():
    of_phases, of_coupling = layer().order(sequence(B=2, T=30))
    assert of_phases.std() > 0.02
    assert (of_coupling <= of_phases + 0.05).all()
    assert (of_coupling - of_phases).abs().mean() < 0.02


def test_a_model_of_oscillators_generates():
    examined = model(partial(KuramotoSSM, d_state=5), D=8, layers=2).double()
    tokens = torch.randint(256, (2, 6), generator=stream(0))
    said = generate(examined, tokens, length=4, temperature=0, seed=0)
    whole = torch.cat([tokens, said], dim=1)
    assert torch.equal(examined(whole)[:, 5:-1].argmax(-1), said)


# --- setting R -----------------------------------------------------------------------------------

states = st.builds(
    lambda B, N, seed, pull: torch.randn(B, 2, N, generator=stream(seed), dtype=DOUBLE)
    + pull * torch.tensor([[1.0], [0.5]]),
    st.integers(1, 4), st.integers(2, 30), st.integers(0, 2**31), st.sampled_from([0, 0.5, 2]),
)  # fmt: skip


def direction(z):
    return torch.atan2(*reversed((z / z.square().sum(-2, keepdim=True).sqrt()).mean(-1).unbind(-1)))


def turned_by(after, before):
    """Angles from one set of states to another, in (-pi, pi]."""
    first, second = (torch.complex(*z.unbind(-2)) for z in (before, after))
    return (second / first).angle()


@settings(deadline=None, max_examples=60)
@given(z=states, target=st.floats(0, 1))
def test_any_order_is_set_and_sizes_and_direction_stay(z, target):
    found = set_order(z, target)
    # Where phases are nearly equal, a bisection in double precision finds no more.
    assert (order_parameter(found) - target).abs().max() < 1e-6
    assert gap(found.square().sum(1), z.square().sum(1)) < 1e-12
    if target > 1e-3:  # below, there is no direction
        shift = torch.remainder(direction(found) - direction(z) + math.pi, 2 * math.pi) - math.pi
        assert shift.abs().max() < 1e-5


@settings(deadline=None, max_examples=30)
@given(z=states)
def test_setting_the_order_that_is_there_moves_nothing(z):
    assert gap(set_order(z, order_parameter(z)), z) < 1e-6


def test_each_row_may_have_its_own_target():
    z = torch.randn(5, 2, 64, generator=stream(0), dtype=DOUBLE)
    targets = torch.tensor(LEVELS, dtype=DOUBLE)
    assert gap(order_parameter(set_order(z, targets)), targets) < 1e-9
    assert set_order(z.float(), 0.5).dtype == torch.float32
    with pytest.raises(ValueError, match=r"set_order: target is 1\.5; it must be in \[0, 1\]"):
        set_order(z, 1.5)


@pytest.mark.parametrize("target", LEVELS)
def test_a_placebo_moves_about_as_much_and_leaves_the_order(target):
    z = torch.randn(200, 2, 64, generator=stream(0), dtype=DOUBLE)
    changed = placebo(z, target, stream(1))
    assert gap(order_parameter(changed), order_parameter(z)) < 1e-9
    assert turned_by(changed, z).abs().max() > 0
    assert gap(changed.square().sum(1), z.square().sum(1)) < 1e-12
    moved, moved_by_target = (
        turned_by(each, z).square().mean().sqrt() for each in (changed, set_order(z, target))
    )
    assert 0.7 < moved / moved_by_target < 1.5
    assert not torch.equal(changed, placebo(z, target, stream(2)))


@pytest.mark.parametrize("target", LEVELS)
def test_turned_alike_all_phases_move_by_one_angle_as_far_as_by_the_target(target):
    z = torch.randn(200, 2, 64, generator=stream(0), dtype=DOUBLE)
    changed = turned_alike(z, target, stream(1))
    angle = turned_by(changed, z)
    assert gap(angle, angle[:, :1].expand(-1, 64)) < 1e-9
    expected = turned_by(set_order(z, target), z).square().mean(1).sqrt()
    assert gap(angle[:, 0].abs(), expected) < 1e-9
    assert 60 < (angle[:, 0] > 0).sum() < 140  # both ways
    assert gap(order_parameter(changed), order_parameter(z)) < 1e-9
    assert gap(changed.square().sum(1), z.square().sum(1)) < 1e-12


# --- interventions on a trajectory ---------------------------------------------------------------


@pytest.mark.parametrize("coupled", [True, False])
def test_an_intervention_acts_after_every_step_and_is_carried_on(coupled):
    examined, x = layer(coupled=coupled), sequence(T=6)
    parts = examined._parts(x)
    z = torch.zeros(3, 2, 16, dtype=DOUBLE)
    for t in range(6):
        z = set_order(kuramoto_step(*(part[:, t] for part in parts), z), 0.4)
    assert gap(examined.states_under(x, SetOrder(0.4))[:, -1], z) < 1e-9


@pytest.mark.parametrize("target", LEVELS)
def test_the_order_of_every_step_is_the_target(target):
    order, _ = layer().order(sequence(), SetOrder(target))
    assert (order - target).abs().max() < 1e-9


def test_a_frozen_order_is_the_mean_and_a_shuffled_one_has_the_same_values():
    examined, x = layer(), sequence(T=20)
    natural, _ = examined.order(x)
    frozen, _ = examined.order(x, Freeze())
    assert gap(frozen, natural.mean(1, keepdim=True).expand(-1, 20)) < 1e-9
    shuffled, _ = examined.order(x, Shuffle(seed=3))
    assert gap(shuffled.sort(1).values, natural.sort(1).values) < 1e-9
    assert gap(shuffled, natural) > 0.01
    assert gap(examined.order(x, Shuffle(seed=3))[0], shuffled) == 0


def test_a_placebo_leaves_each_step_the_order_that_it_came_to():
    examined, x = layer(), sequence(T=4)
    parts = examined._parts(x)
    z = examined.states_under(x, Placebo(0.9))
    came_to = [kuramoto_step(*(part[:, t] for part in parts), z[:, t - 1]) for t in (1, 2, 3)]
    expected = torch.stack([order_parameter(each) for each in came_to], dim=1)
    assert gap(order_parameter(z[:, 1:]), expected) < 1e-9
    assert gap(examined.states_under(x, Placebo(0.9)), z) == 0
    assert gap(examined.states_under(x, Placebo(0.9, seed=1)), z) > 1e-3


def test_a_turn_is_of_the_state_that_a_step_came_to():
    examined, x = layer(), sequence(T=4)
    z = examined.states_under(x, Turn(0.9))
    parts = [part[:, 3] for part in examined._parts(x)]
    came_to = kuramoto_step(*parts, z[:, 2])
    angle = turned_by(z[:, 3], came_to)
    assert gap(angle, angle[:, :1].expand(-1, 16)) < 1e-9
    assert angle.abs().min() > 1e-3
    assert gap(examined.states_under(x, Turn(0.9)), z) == 0
    assert gap(examined.states_under(x, Turn(0.9, seed=1)), z) > 1e-3


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_an_order_set_in_the_coupling_pulls_as_that_order_does_and_moves_no_phase(target):
    examined, x = layer(), sequence(T=5)
    gain, turn, coupling, b = examined._parts(x)
    z = torch.complex(*b[:, 0].unbind(1))  # the first step starts from zero
    for t in range(1, 5):
        u = z / (z.abs().square() + 1e-6).sqrt()
        mean = u.mean(-1, keepdim=True)
        pull = (target * mean / mean.abs() * u.conj()).imag
        z = gain[:, t] * z * torch.exp(1j * (turn[:, t] + coupling[:, t, None] * pull))
        z = z + torch.complex(*b[:, t].unbind(1))
    found = examined.states_under(x, InCoupling(target))
    assert gap(torch.complex(*found[:, -1].unbind(1)), z) < 1e-9


def test_without_an_order_in_the_coupling_there_is_no_coupling():
    examined, x = layer(), sequence()
    uncoupled = layer(coupled=False)
    with torch.no_grad(), intervening([examined], InCoupling(0.0)):
        assert gap(examined(x), uncoupled(x)) < 1e-12
        assert gap(unroll(examined, x), uncoupled(x)) < 1e-9


def test_setting_what_is_there_anyway_changes_no_output():
    examined, x = layer(), sequence()

    class Same:
        def planned(self, order):
            return lambda z, t: set_order(z, order[:, t])

    with torch.no_grad():
        undisturbed = examined(x)
        with intervening([examined], Same()):
            assert gap(examined(x), undisturbed) < 1e-6


def test_a_context_intervenes_in_the_layers_that_it_names_and_ends():
    examined = model(partial(KuramotoSSM, d_state=5), D=8, layers=2).double()
    tokens = torch.randint(256, (2, 6), generator=stream(0))
    undisturbed = examined(tokens)
    with intervening([examined.mixers[1]], SetOrder(0.9)):
        changed = examined(tokens)
        assert examined.mixers[0].intervention is None
    with pytest.raises(RuntimeError, match="stop"), intervening(examined.mixers, Freeze()):
        raise RuntimeError("stop")
    assert gap(changed, undisturbed) > 1e-6
    assert torch.equal(examined(tokens), undisturbed)
    sentence = r"intervening: layers is .* it must be layers that have an attribute"
    with pytest.raises(ValueError, match=sentence), intervening([torch.nn.Identity()], Freeze()):
        pass


def test_a_set_order_is_set_in_the_step_form_and_what_needs_a_sequence_is_refused():
    examined, x = layer(), sequence(T=6)
    with intervening([examined], SetOrder(0.4)), torch.no_grad():
        assert gap(unroll(examined, x), examined(x)) < 1e-9
        assert gap(unroll(examined, x), layer()(x)) > 1e-3
    for other in (Freeze(), Shuffle(), Placebo(0.4), Turn(0.4)):
        with (
            intervening([examined], other),
            pytest.raises(ValueError, match=r"\) is of sequences, and not of a step"),
        ):
            examined.step(x[:, 0])


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: SetOrder(1.2), r"SetOrder: target is 1\.2; it must be in \[0, 1\]"),
        (lambda: Placebo(-0.1), r"Placebo: target is -0\.1; it must be at least 0"),
        (lambda: Turn(1.5), r"Turn: target is 1\.5; it must be in \[0, 1\]"),
        (lambda: InCoupling(-1), "InCoupling: target is -1; it must be at least 0"),
        (lambda: Shuffle(seed=0.5), "seed is 0.5; it must be a whole number"),
        (lambda: bank("loud"), "KuramotoBank: noise is 'loud'; it must be one of"),
        (lambda: bank(clip=(1.0, 1.0)), "it must be a lower and an upper bound"),
        (lambda: bank(harmonics=0), "KuramotoBank: harmonics is 0; it must be at least 1"),
        (lambda: KuramotoSSM(4, d_state=0), "KuramotoSSM: d_state is 0; it must be at least 1"),
    ],
)
def test_what_does_not_fit_is_named(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()


def test_the_mean_phase_is_the_order_of_oscillators_of_some_size():
    z = torch.randn(4, 2, 30, generator=stream(0), dtype=DOUBLE) * 100
    assert gap(mean_phase(z).norm(dim=-1), order_parameter(z)) < 1e-6
