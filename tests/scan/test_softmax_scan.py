"""softmax_scan is causal attention with decaying logits, also where no logit is finite."""

import re

import pytest
import torch
from numeric import gap, stream

from lab.scan import softmax_scan, softmax_scan_associative, softmax_scan_sequential
from lab.scan.cpu import softmax as kernels

FORMS = [softmax_scan, softmax_scan_sequential, softmax_scan_associative]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
INF = torch.inf


def attention(decay, score, value):
    """The definition: a T x T matrix of logits, per batch and n."""
    T = decay.shape[1]
    total = decay.cumsum(1)
    logits = total[:, :, None] - total[:, None] + score[:, None]  # ["B T T N"], by t and j
    logits = logits.masked_fill(~torch.ones(T, T).tril().bool()[None, :, :, None], -INF)
    return torch.einsum("btjn,bjnv->btnv", logits.softmax(2), value), logits.logsumexp(2)


def problem(B, T, N, V, span, seed=0):
    """Scores from -span to span; decays that add up to a few units over all steps."""
    generator = stream(seed)
    decay, score = torch.rand(2, B, T, N, dtype=torch.float64, generator=generator)
    value = torch.randn(B, T, N, V, dtype=torch.float64, generator=generator)
    return -8 / T * decay, (2 * score - 1) * span, value


@every_form
def test_it_is_causal_softmax_attention(form):
    inputs = [tensor.requires_grad_() for tensor in problem(B=2, T=64, N=3, V=5, span=6)]
    actual, expected = form(*inputs), attention(*inputs)
    weights = [torch.randn(o.shape, dtype=o.dtype, generator=stream(2)) for o in expected]
    for a, e in zip(actual, expected, strict=True):
        assert gap(a, e) < 1e-13
    actual_gradients = torch.autograd.grad(actual, inputs, weights)
    for a, e in zip(actual_gradients, torch.autograd.grad(expected, inputs, weights), strict=True):
        assert gap(a, e) < 1e-12


# A share is exact to about a unit in the last place of log_norm, 8e-6 at 80. Decays round log_norm
# at every step, which adds up as a random walk. Worst of six seeds: 1.8e-5 and 5.3e-5.
@pytest.mark.parametrize(("fades", "bound"), [(False, 4e-5), (True, 1.5e-4)])
@every_form
def test_single_precision_holds_where_scores_span_80_to_either_side(form, fades, bound):
    decay, score, value = (t.float() for t in problem(B=4, T=512, N=4, V=16, span=80))
    decay = decay if fades else torch.zeros_like(decay)
    expected, _ = attention(decay.double(), score.double(), value.double())
    assert (form(decay, score, value)[0] - expected).abs().max() < bound


@every_form
def test_averages_stay_among_the_values(form):
    decay, score, value = problem(B=2, T=300, N=3, V=4, span=50)
    average, _ = form(decay * 0, score, value)
    low, high = value.cummin(1).values, value.cummax(1).values
    assert (average >= low - 1e-14).all()
    assert (average <= high + 1e-14).all()


@every_form
def test_an_average_stays_while_there_is_nothing_to_average(form):
    decay, score, value = problem(B=1, T=6, N=1, V=2, span=1)
    score[0, [0, 1, 4, 5]] = -INF  # nothing comes in
    decay[0, 4] = -INF  # all is forgotten
    initial = torch.ones(1, 1, 2, dtype=torch.float64), torch.full((1, 1), -INF).double()
    inputs = [t.requires_grad_() for t in (decay, score, value, *initial)]
    average, log_norm = form(*inputs[:3], tuple(inputs[3:]))
    assert (log_norm[0, :, 0] == -INF).tolist() == [True, True, False, False, True, True]
    assert (average[0, :2] == 1).all()
    assert (average[0, 4:] == average[0, 3]).all()
    gradients = torch.autograd.grad(average[0, 1].sum() + average[0, 5].sum(), inputs)
    to_decay, to_score, to_value, to_average, to_norm = gradients
    assert (to_average == 1).all()  # from step 1; steps 2 and 3 know nothing of it
    assert to_norm == 0
    assert (to_value[0, [0, 1, 4, 5]] == 0).all()
    torch.testing.assert_close(to_value[0, 2:4].sum(0), torch.ones(1, 2).double())
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (to_score[0, [0, 1, 4, 5]] == 0).all()
    assert (to_decay[0, [0, 1, 4, 5]] == 0).all()


@every_form
def test_a_state_continues_where_another_scan_ended(form):
    decay, score, value = problem(B=2, T=20, N=3, V=4, span=5)
    whole = form(decay, score, value)
    first = form(decay[:, :7], score[:, :7], value[:, :7])
    state = tuple(part[:, -1] for part in first)
    second = form(decay[:, 7:], score[:, 7:], value[:, 7:], state)
    for a, b, both in zip(first, second, whole, strict=True):
        assert gap(torch.cat([a, b], dim=1), both) < 1e-14


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("V", [1, 5, 40])
def test_kernels_take_shared_values_as_they_are(V, threads, monkeypatch):
    monkeypatch.setattr("lab.scan.cpu.threads.WORTH_SHARING", 0)
    decay, score, value = problem(B=1, T=9, N=33, V=V, span=3)
    value, average, log_norm = value[:, :, :1].contiguous(), *softmax_scan(decay, score, value)
    state = torch.zeros_like(average[:, 0]), torch.zeros_like(log_norm[:, 0])
    inputs = [tensor.requires_grad_() for tensor in (decay, score, value, *state)]
    expected = softmax_scan_sequential(*inputs[:3], tuple(inputs[3:]))
    grads = [torch.randn(o.shape, dtype=o.dtype, generator=stream(3)) for o in expected]
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        kernels.forward(*inputs, average, log_norm)
        gradients = [torch.full_like(tensor, torch.nan) for tensor in inputs]
        kernels.backward(*grads, *inputs[:3], average, log_norm, *inputs[3:], *gradients)
    finally:
        torch.set_num_threads(usual)
    expected_gradients = torch.autograd.grad(expected, inputs, grads)
    pairs = zip([average, log_norm, *gradients], [*expected, *expected_gradients], strict=True)
    assert all(gap(actual.detach(), wanted.detach()) < 1e-13 for actual, wanted in pairs)


def zeros(*shape, dtype=torch.float64):
    return torch.zeros(shape, dtype=dtype)


GATES = zeros(2, 3, 4), zeros(2, 3, 4)
COMPLEX = (zeros(2, 3, 4, dtype=torch.complex128),) * 2


@every_form
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((zeros(2, 3, 4), zeros(2, 3, 5), zeros(2, 3, 4, 6)), "score (2, 3, 5) must share one"),
        ((zeros(2, 0, 4), zeros(2, 0, 4), zeros(2, 0, 4, 6)), "(B, T, N) shape with T > 0"),
        ((*GATES, zeros(2, 3, 6)), "value must be (2, 3, 4, V) or (2, 3, 1, V), got (2, 3, 6)"),
        ((*GATES, zeros(2, 3, 2, 6)), "or (2, 3, 1, V), got (2, 3, 2, 6)"),
        ((*GATES, zeros(1, 3, 4, 6)), "or (2, 3, 1, V), got (1, 3, 4, 6)"),
        (
            (*GATES, zeros(2, 3, 1, 6), (zeros(2, 1, 6), zeros(2, 4))),
            "initial must be (2, 4, 6) and (2, 4), got average (2, 1, 6) and log_norm (2, 4)",
        ),
        ((*GATES, zeros(2, 3, 4, 6, dtype=torch.float32)), "dtypes differ: decay torch.float64"),
        ((*COMPLEX, zeros(2, 3, 4, 6)), "dtypes differ: decay torch.complex128"),
        ((*COMPLEX, zeros(2, 3, 4, 6).cfloat().cdouble()), "decay must be real, got torch.complex"),
    ],
)
def test_arguments_that_do_not_fit_are_named(form, arguments, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        form(*arguments)
