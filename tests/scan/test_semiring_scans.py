"""What only log_scan and tropical_scan have: a zero at -inf, and a winner."""

import pytest
import torch
from numeric import gap, stream

from lab import scan

INF, NAN = torch.inf, torch.nan


def forms(name):
    names = [name, f"{name}_sequential", f"{name}_associative"]
    return pytest.mark.parametrize("form", [getattr(scan, n) for n in names], ids=names)


def logits(a, b):
    """["B T T N"]: b[j] + a[j+1] + ... + a[t] by t and j, -inf where j > t."""
    T, total = a.shape[1], a.cumsum(1)
    later = ~torch.ones(T, T).tril().bool()[None, :, :, None]
    return (total[:, :, None] - total[:, None] + b[:, None]).masked_fill(later, -INF)


def normal(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=stream(seed))


@forms("log_scan")
def test_states_are_logarithms_of_sums(form):
    a, b = normal(2, 40, 3, seed=0), 5 * normal(2, 40, 3, seed=1)
    assert gap(form(a, b), logits(a, b).logsumexp(2)) < 1e-13
    assert gap(form(a, b).exp(), scan.linear_scan(a.exp(), b.exp())) < 1e-12


@forms("log_scan")
def test_minus_infinity_is_a_zero_with_gradient_zero(form):
    a = torch.tensor([0.0, 1, 2, -INF, -INF, -INF, 1, 3]).double()[None, :, None]
    b = torch.tensor([-INF, -INF, 5, 6, -INF, 2, -INF, 3]).double()[None, :, None]
    initial = torch.tensor([[-INF]]).double()
    inputs = [tensor.requires_grad_() for tensor in (a, b, initial)]
    h = form(*inputs)
    expected = [-INF, -INF, 5, 6, -INF, 2, 3, 6 + torch.log1p(torch.tensor(-3.0).double().exp())]
    assert gap(h.flatten(), torch.tensor(expected).double()) < 1e-15
    gradients = torch.autograd.grad(h.sum(), inputs, create_graph=True)
    p = torch.sigmoid(torch.tensor(3.0)).item()
    assert gradients[0].flatten().tolist() == pytest.approx([0, 0, 0, 0, 0, 0, 1 + p, p])
    assert gradients[1].flatten().tolist() == pytest.approx([0, 0, 1, 1, 0, 2 + p, 0, 1 - p])
    again = torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs)
    assert all(gradient.isfinite().all() for gradient in again)


@forms("log_scan")
def test_plus_infinity_stays_and_has_no_gradient_twice(form):
    b = torch.tensor([0.0, INF, 1, INF]).double()[None, :, None].requires_grad_()
    h = form(torch.zeros_like(b), b)
    assert h.flatten().tolist() == [0, INF, INF, INF]
    assert torch.autograd.grad(h[0, 2], b)[0].flatten().tolist() == [0, 1, 0, 0]


@forms("log_scan")
def test_gradients_do_not_grow_where_logarithms_are_large(form):
    # One input, kept for 2,000 steps: rounding of h near 1e4 must not change its share, which is 1.
    a = normal(1, 2000, 1, seed=2).float()
    b = torch.full_like(a, -INF)
    b[0, 0] = 1e4
    b.requires_grad_()
    assert torch.autograd.grad(form(a, b)[0, -1].sum(), b)[0][0, 0] == 1


@pytest.mark.parametrize("name", ["log_scan", "tropical_scan"])
def test_complex_numbers_are_refused(name):
    z = torch.zeros(1, 2, 3, dtype=torch.complex64)
    for suffix in ("", "_sequential", "_associative"):
        with pytest.raises(ValueError, match=r"a must be real, got torch\.complex64"):
            getattr(scan, name + suffix)(z, z)


@forms("tropical_scan")
def test_the_winner_is_the_last_of_the_largest(form):
    # Whole numbers, so that ties are ties in any order of adding.
    a, b = normal(3, 50, 4, seed=3).round(), (2 * normal(3, 50, 4, seed=4)).round()
    h, winner = form(a, b)
    all_logits = logits(a, b)
    assert torch.equal(h, all_logits.amax(2))
    # argmax over the steps in reverse is the last of the largest.
    ties = all_logits == h[:, :, None]
    assert (ties.sum(2) > 1).any()
    assert torch.equal(winner, 49 - ties.flip(2).long().argmax(2))


@forms("tropical_scan")
def test_the_initial_state_wins_as_minus_one(form):
    b = torch.tensor([0.0, 3, 4, 7]).double()[None, :, None]
    h, winner = form(torch.ones_like(b), b, torch.tensor([[2.0]]).double())
    assert h.flatten().tolist() == [3, 4, 5, 7]
    assert winner.flatten().tolist() == [-1, -1, -1, 3]
    h, winner = form(torch.zeros_like(b), torch.full_like(b, -INF))
    assert (h == -INF).all()
    assert winner.flatten().tolist() == [0, 1, 2, 3]


@forms("tropical_scan")
def test_all_of_the_gradient_goes_to_the_winner(form):
    a, b = normal(2, 30, 3, seed=5).round(), normal(2, 30, 3, seed=6).round()
    a.requires_grad_()
    b.requires_grad_()
    h, winner = form(a, b)
    assert not winner.requires_grad
    weight = normal(2, 30, 3, seed=7)
    to_a, to_b = torch.autograd.grad(h, (a, b), weight)
    expected = torch.zeros_like(b).scatter_add(1, winner, weight)
    assert gap(to_b, expected) < 1e-14
    # h[t] holds a[s] for every s after its winner.
    steps = torch.arange(30)
    holds = (winner[:, :, None] < steps[None, None, :, None]) & (steps[:, None] >= steps)[..., None]
    assert gap(to_a, torch.einsum("btn,btsn->bsn", weight, holds.double())) < 1e-14


@forms("tropical_scan")
def test_a_nan_wins_and_takes_the_gradient(form):
    b = torch.tensor([1.0, NAN, 2, 3]).double()[None, :, None].requires_grad_()
    h, winner = form(torch.zeros_like(b), b)
    assert h.flatten().isnan().tolist() == [False, True, True, True]
    assert winner.flatten().tolist() == [0, 1, 1, 1]
    assert torch.autograd.grad(h.sum(), b)[0].flatten().tolist() == [1, 3, 0, 0]


def every_sequence(T):
    """a and b ["1 T N"]: all sequences of numbers, infinities and NaN, one a column."""
    values = torch.tensor([0.0, 1.5, -INF, INF, NAN], dtype=torch.float64)
    columns = torch.cartesian_prod(*[values] * (2 * T)).T[None]
    return columns[:, :T].contiguous(), columns[:, T:].contiguous()


def sent_back(form, inputs, weights):
    """The outputs, and the gradients of their sums by these weights."""
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    outputs = form(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    smooth = [output for output in outputs if output.requires_grad]
    gradients = torch.autograd.grad(smooth, inputs, weights)
    return [*(output.detach() for output in smooth), *gradients]


def softmax_of(form):
    return lambda decay, score, value, average, norm: form(decay, score, value, (average, norm))


# A NaN shows from its step on, and spoils no gradient of a step that it did not come from: through
# a state that is twice the same infinity nothing flows back.
@pytest.mark.parametrize("T", [1, 2, 3])
@pytest.mark.parametrize("start", [-INF, 0.25, INF, NAN])
@pytest.mark.parametrize("name", ["log_scan", "tropical_scan", "softmax_scan"])
def test_all_infinities_and_nans_have_the_gradients_of_the_definition(name, start, T):
    a, b = every_sequence(T)
    initial = torch.full_like(a[:, 0], start)
    inputs, adapt = [a, b, initial], lambda form: form
    if name == "softmax_scan":
        value, average = normal(*a.shape, 1, seed=8), normal(*initial.shape, 1, seed=9)
        inputs, adapt = [a, b, value, average, initial], softmax_of
    definition, *others = (
        adapt(getattr(scan, name + suffix)) for suffix in ("_sequential", "", "_associative")
    )
    for step in range(T):
        weight = torch.zeros_like(a)
        weight[:, step] = 1
        weights = [weight[..., None], weight] if name == "softmax_scan" else [weight]
        expected = sent_back(definition, inputs, weights)
        for form in others:
            for actual, right in zip(sent_back(form, inputs, weights), expected, strict=True):
                torch.testing.assert_close(actual, right, rtol=0, atol=1e-12, equal_nan=True)
