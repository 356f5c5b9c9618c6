"""Memories against their definitions: attention weights written out for every pair of steps."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from torch.nn.functional import conv1d, elu, pad

from lab.memories import (
    CosFormer,
    DeltaRule,
    GatedDeltaRule,
    GatedLinearAttention,
    LinearAttention,
    LogLinearAttention,
    Memory,
    Retention,
    SoftmaxAttention,
)
from lab.memories.base import EPSILON, normalised
from lab.mixers import MultiHead, ShortConvolution

D, H, K, M = 5, 2, 4, 3
DOUBLE = torch.float64


def problem(B, T, seed, dtype=DOUBLE):
    """q, k, v and x."""
    generator = stream(seed)
    shapes = [(B, H, T, K), (B, H, T, K), (B, H, T, M), (B, T, D)]
    return [torch.randn(shape, generator=generator, dtype=DOUBLE).to(dtype) for shape in shapes]


def distances(T):
    """["T T"]: how much earlier a step was written than it is read; negative if later."""
    return torch.arange(T)[:, None] - torch.arange(T)


def averages(weights, v):
    """Of the values, with weights ["B H T T"] that are masked here."""
    weights = weights * (distances(v.shape[2]) >= 0)
    return weights @ v / weights.sum(-1, keepdim=True).clamp(min=EPSILON)


def softmax(memory, q, k, v, x):
    logits = q @ k.mT / math.sqrt(K)
    return logits.masked_fill(distances(v.shape[2]) < 0, -math.inf).softmax(-1) @ v


def linear(memory, q, k, v, x):
    return averages((elu(q) + 1) @ (elu(k) + 1).mT, v)


def decayed(memory, q, k, v, x):
    rates = torch.nn.functional.softplus(memory.decay(x)).mT  # B H T
    weights = torch.zeros(*q.shape[:3], q.shape[2], dtype=q.dtype)
    for t in range(q.shape[2]):
        for s in range(t + 1):
            between = rates[:, :, s + 1 : t + 1].sum(-1)
            weights[:, :, t, s] = ((elu(q[:, :, t]) + 1) * (elu(k[:, :, s]) + 1)).sum(-1) * (
                -between
            ).exp()
    return averages(weights, v)


def cosformer(memory, q, k, v, x):
    angle = math.pi / 2 / memory.horizon * distances(v.shape[2]).double()
    return averages(torch.relu(q) @ torch.relu(k).mT * angle.cos(), v)


def retention(memory, q, k, v, x):
    """Pairs of entries as complex numbers, which a step multiplies by exp(i angle)."""
    gap_ = distances(v.shape[2])
    decay = (1 - 2.0 ** -(5 + torch.arange(H, dtype=DOUBLE)))[:, None, None] ** gap_.clamp(min=0)
    one, two = (torch.complex(*part.chunk(2, -1)) for part in (q, k))
    turned = torch.exp(-1j * memory.angles(q.device) * gap_[..., None])  # T T K/2
    scores = torch.einsum("bhtk,tsk,bhsk->bhts", one.conj(), turned, two).real
    return (scores * decay * (gap_ >= 0) / math.sqrt(K)) @ v


def gated(memory, q, k, v, x):
    gains = (memory.decay(x).sigmoid() ** (1 / 16)).unflatten(-1, (H, K)).movedim(1, 2)
    S, reads = torch.zeros(*k.shape[:2], K, M, dtype=k.dtype), []
    for t in range(k.shape[2]):
        S = gains[:, :, t, :, None] * S + k[:, :, t, :, None] * v[:, :, t, None]
        reads.append((q[:, :, t, None] @ S)[:, :, 0] / math.sqrt(K))
    return torch.stack(reads, dim=2)


def delta(memory, q, k, v, x):
    q, k = (part / part.norm(dim=-1, keepdim=True) for part in (q, k))
    beta = memory.beta(x).sigmoid().mT
    S, reads = torch.zeros(*k.shape[:2], K, M, dtype=k.dtype), []
    for t in range(k.shape[2]):
        key, gate = k[:, :, t, :, None], beta[:, :, t, None, None]
        S = (torch.eye(K) - gate * key * key.mT).to(S) @ S + gate * key * v[:, :, t, None]
        reads.append((q[:, :, t, None] @ S)[:, :, 0])
    return torch.stack(reads, dim=2)


def gated_delta(memory, q, k, v, x):
    """S as the published rule has it, S (a (I - beta k k^T)) + beta v k^T, transposed."""
    q, k = (part / part.norm(dim=-1, keepdim=True) for part in (q, k))
    beta = memory.beta(x).sigmoid().mT
    a = (-memory.log_A.exp() * torch.nn.functional.softplus(memory.decay(x))).exp().mT
    S, reads = torch.zeros(*k.shape[:2], M, K, dtype=k.dtype), []
    for t in range(k.shape[2]):
        key, gate, gain = k[:, :, t, :, None], beta[:, :, t, None, None], a[:, :, t, None, None]
        turned = gain * (torch.eye(K) - gate * key * key.mT).to(S)
        S = S @ turned + gate * v[:, :, t, :, None] * key.mT
        reads.append((S @ q[:, :, t, :, None])[..., 0])
    return torch.stack(reads, dim=2)


MEMORIES = {
    "softmax": (lambda: SoftmaxAttention(D, heads=H, d_key=K, d_value=M), softmax),
    "linear": (lambda: LinearAttention(D, heads=H, d_key=K, d_value=M), linear),
    "decay": (lambda: LinearAttention(D, heads=H, d_key=K, d_value=M, decay=0.3), decayed),
    "cosFormer": (lambda: CosFormer(D, heads=H, d_key=K, d_value=M, horizon=40), cosformer),
    "retention": (lambda: Retention(D, heads=H, d_key=K, d_value=M), retention),
    "gated": (lambda: GatedLinearAttention(D, heads=H, d_key=K, d_value=M, temper=16), gated),
    "delta": (lambda: DeltaRule(D, heads=H, d_key=K, d_value=M), delta),
    "gated delta": (lambda: GatedDeltaRule(D, heads=H, d_key=K, d_value=M), gated_delta),
}
every_memory = pytest.mark.parametrize("name", MEMORIES)
sizes = st.builds(problem, st.integers(0, 3), st.integers(1, 33), st.integers(0, 2**31))


# Worst gap in 300 draws, relative to 1 or the largest value: 1e-15.
@every_memory
@settings(deadline=None, max_examples=25)
@given(inputs=sizes)
def test_it_is_its_definition(name, inputs):
    build, definition = MEMORIES[name]
    memory = build().double()
    assert gap(memory(*inputs), definition(memory, *inputs)) < 1e-12


# Worst gap in 300 draws: 5e-7. The bound leaves room for weights of cosFormer that are all but
# zero, whose average is divided by little.
@every_memory
@settings(deadline=None, max_examples=25)
@given(inputs=sizes)
def test_single_precision_gives_the_same(name, inputs):
    memory = MEMORIES[name][0]()
    single = memory(*(part.float() for part in inputs))
    assert gap(single.double(), memory.double()(*inputs)) < 1e-4


@every_memory
@pytest.mark.parametrize("T", [1, 2, 5])
def test_gradients_match_finite_differences(name, T):
    memory = MEMORIES[name][0]().double()
    inputs = [part.requires_grad_() for part in problem(2, T, seed=3)]
    assert torch.autograd.gradcheck(memory, inputs)


@every_memory
def test_what_is_stored_is_what_the_step_form_hands_on(name):
    memory = MEMORIES[name][0]().double()
    q, k, v, x = problem(2, 7, seed=0)
    state = None
    for t in range(7):
        _, state = memory.step(q[:, :, t], k[:, :, t], v[:, :, t], x[:, t], state)
    last = memory.states(q, k, v, x)[:, -1]
    if name == "softmax":
        assert gap(last, torch.cat([part[:, :, -1] for part in state], dim=-1)) == 0
    else:
        assert gap(last, state[1] if isinstance(state, tuple) else state) < 1e-12


def test_a_closed_memory_reads_zero_and_not_nan():
    memory = LinearAttention(D, heads=H, d_key=K, d_value=M, feature="relu")
    q, k, v, x = problem(1, 4, seed=0, dtype=torch.float32)
    assert torch.equal(memory(-q.abs(), k, v, x), torch.zeros(1, H, 4, M))


def exactly_averaged(memory, q, k, v):
    """The definition of what is read, from weights in double precision; 0 where all are zero."""
    T = v.shape[2]
    angle = math.pi / 2 / getattr(memory, "horizon", math.inf) * distances(T).double()
    weights = torch.relu(q) @ torch.relu(k).mT * angle.cos() * (distances(T) >= 0)
    sums = weights.sum(-1, keepdim=True)
    return weights @ v / torch.where(sums == 0, 1, sums)


RELU = {
    "linear": lambda: LinearAttention(D, heads=H, d_key=K, d_value=M, feature="relu"),
    "cosFormer": lambda: CosFormer(D, heads=H, d_key=K, d_value=M, horizon=1000),
    "log-linear": lambda: LogLinearAttention(
        D,
        LinearAttention(D, heads=H, d_key=K, d_value=M, feature="relu"),
        levels=6,
        generator=stream(0),
    ),
}


def few_weights(seed):
    """q, k, v and x of which many weights are zero, and many early sums small."""
    q, k, v, x = problem(3, 12, seed)
    return q - 0.5, k - 0.5, v, x


# Averages are exact, to rounding, whatever their weights add up to: with 1e-6 added to the sums
# they were off by up to 6e-4 here, and gradients by 7e-2.
@pytest.mark.parametrize("name", RELU)
@pytest.mark.parametrize("seed", range(8))
def test_averages_are_normalised_exactly(name, seed):
    memory, inputs = RELU[name](), few_weights(seed)
    if name == "log-linear":  # all levels alike
        torch.nn.init.zeros_(memory.weigh.weight)
        torch.nn.init.zeros_(memory.weigh.bias)
    leaves = [part.requires_grad_() for part in inputs[:3]]
    expected = exactly_averaged(memory, *leaves)
    weights = torch.randn(expected.shape, dtype=DOUBLE, generator=stream(9))
    slopes = torch.autograd.grad((weights * expected).sum(), leaves)
    narrow = [part.detach().float().requires_grad_() for part in inputs]
    for form in (memory, lambda *parts: unrolled(memory, *parts)):
        actual = form(*narrow)
        found = torch.autograd.grad((weights.float() * actual).sum(), narrow[:3])
        assert gap(actual.double(), expected) < 1e-5
        for slope, exact in zip(found, slopes, strict=True):
            assert gap(slope.double(), exact) < 1e-5


def unrolled(memory, q, k, v, x):
    """The step form over a sequence."""
    state, reads = None, []
    for t in range(v.shape[2]):
        read, state = memory.step(q[:, :, t], k[:, :, t], v[:, :, t], x[:, t], state)
        reads.append(read)
    return torch.stack(reads, dim=2)


@pytest.mark.parametrize("name", RELU)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12, 1e-9, 1e-3])
def test_sums_that_are_next_to_nothing_give_finite_numbers(name, size):
    memory = RELU[name]()
    q, k, v, x = problem(2, 9, seed=0, dtype=torch.float32)
    parts = [part.requires_grad_() for part in (q.abs(), size * k.abs(), v, x)]
    for form in (memory, lambda *parts: unrolled(memory, *parts)):
        read = form(*parts)
        read.sum().backward()
        assert all(part.grad is None or part.grad.isfinite().all() for part in parts)
        assert (read.abs() <= v.abs().max() * (1 + 1e-5)).all()
        if size == 0:
            assert (read == 0).all()
        elif size >= 1e-9:  # the sums are above what is divided by at least
            expected = memory.double()(*(part.double() for part in (parts[0], k.abs(), v, x)))
            assert gap(read.double(), expected) < 1e-4
            memory.float()


def test_the_smallest_sum_is_where_averages_begin_to_fall():
    sums = torch.tensor([[0.0], [EPSILON / 4], [EPSILON], [4 * EPSILON], [1.0]], dtype=DOUBLE)
    expected = torch.tensor([[0.0], [0.25], [1.0], [1.0], [1.0]], dtype=DOUBLE)
    assert gap(normalised(3 * sums, sums), 3 * expected) < 1e-15


def test_cosformer_does_not_depend_on_how_long_the_sequence_will_be():
    memory = CosFormer(D, heads=H, d_key=K, d_value=M, horizon=64).double()
    inputs = problem(1, 64, seed=0)
    prefix = [part[..., :32, :] for part in inputs]
    assert gap(memory(*inputs)[:, :, :32], memory(*prefix)) < 1e-13


# --- what must not be asked for ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SoftmaxAttention(D, heads=0, d_key=4), "heads is 0; it must be at least 1"),
        (lambda: LinearAttention(D, heads=1, d_key=4, feature="cos"), "feature is 'cos'"),
        (lambda: LinearAttention(D, heads=1, d_key=4, feature="none"), "cannot be normalised"),
        (lambda: LinearAttention(3, heads=1, d_key=4, decay=0.0), "decay is 0.0"),
        (lambda: CosFormer(D, heads=1, d_key=4, horizon=0), "the horizon is 0"),
        (lambda: CosFormer(D, heads=1, d_key=4, horizon=9, feature="none"), "feature is 'none'"),
        (lambda: Retention(D, heads=1, d_key=3), "d_key 3 must be even"),
        (lambda: ShortConvolution(4, width=0), "a width of 0"),
        (lambda: ShortConvolution(4, width=2, start=(1.0,)), "a width of 2 with start"),
        (
            lambda: MultiHead(4, SoftmaxAttention(4, heads=1, d_key=4), gate="hard"),
            "the gate is 'hard'",
        ),
    ],
)
def test_a_setting_that_makes_no_sense_stops(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_cosformer_stops_at_its_horizon():
    mixer = MultiHead(D, CosFormer(D, heads=H, d_key=K, horizon=3))
    with pytest.raises(ValueError, match="4 steps, and a horizon of 3"):
        mixer(torch.randn(1, 4, D))
    state = None
    for _ in range(3):
        _, state = mixer.step(torch.randn(1, D), state)
    with pytest.raises(ValueError, match="4 steps, and a horizon of 3"):
        mixer.step(torch.randn(1, D), state)


def test_an_unfinished_memory_says_so():
    with pytest.raises(NotImplementedError):
        Memory(D, heads=H, d_key=K)(*problem(1, 2, seed=0))


# --- the short convolution -----------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 3), st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**31))
def test_a_short_convolution_is_that_of_torch(B, T, width, seed):
    layer = ShortConvolution(D, width=width, generator=stream(seed), dtype=DOUBLE)
    torch.nn.init.normal_(layer.bias, generator=stream(seed))
    x = torch.randn(B, T, D, generator=stream(seed), dtype=DOUBLE)
    kernel = layer.kernel.flip(0).mT[:, None]  # torch's comes oldest step first
    expected = conv1d(pad(x.mT, (width - 1, 0)), kernel, layer.bias, groups=D).mT
    assert gap(layer(x), expected) < 1e-12


def test_a_shift_starts_as_half_of_the_token_before():
    mixer = MultiHead(D, SoftmaxAttention(D, heads=1, d_key=4), shift=True)
    x = torch.randn(1, 3, D, generator=stream(0))
    before = torch.cat([torch.zeros(1, 1, D), x[:, :-1]], dim=1)
    _, k, _ = mixer.heads(x)
    assert gap(k[:, 0], mixer.k(x + 0.5 * before)) < 1e-6
