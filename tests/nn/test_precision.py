"""Half precision: every mixer and memory inside torch.autocast, and with half-precision weights."""

import copy
import importlib
import inspect
import pkgutil
from functools import partial

import pytest
import torch
from numeric import gap, stream
from torch import nn
from transition_cases import D_MODEL, MEMORIES, MIXERS, TRANSITIONS

import lab.memories
import lab.mixers
import lab.transitions
from lab.linalg import DPLR, bilinear, causal_convolution, delta_rule, kernel_doubling
from lab.linalg.chunks import segment_sums
from lab.linalg.circulant import block_circulant_product, circulant_product
from lab.linalg.displacement import cauchy_product, fast_cauchy_product
from lab.linalg.fenwick import fenwick_product, fenwick_product_chunked
from lab.linalg.monarch import cayley, expm, householder_blocks, monarch_dense, monarch_product
from lab.memories import CosFormer, LinearAttention, Memory, Retention, SoftSlots
from lab.memories.linear_attention import LinearMemory
from lab.memories.softmax_average import attention
from lab.mixers import MultiHead, StateSpace, look_up, unroll
from lab.mixers.base import Layer
from lab.model import SequenceModel
from lab.transitions import PolarDiagonal, Transition

HALVES = [torch.bfloat16, torch.float16]
half = pytest.mark.parametrize("dtype", HALVES, ids=lambda dtype: str(dtype)[6:])
every_mixer = pytest.mark.parametrize("case", MIXERS, ids=lambda case: case.name)


def autocast(dtype):
    return torch.autocast("cpu", dtype=dtype)


def inputs(T, B=2, seed=1):
    return torch.randn(B, T, D_MODEL, generator=stream(seed))


def values_and_gradients(layer, x, dtype=None):
    """The output, and the gradients of its product with random weights; autocast if a dtype."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        y = layer(x)
    weights = torch.randn(y.shape, generator=stream(5))
    leaves = [x, *layer.parameters()]
    slopes = torch.autograd.grad((weights * y.float()).sum(), leaves, materialize_grads=True)
    return y.detach().float(), slopes


def rounded(layer, dtype):
    """A copy in single precision whose parameters are numbers of half precision."""
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(parameter.to(dtype))
    return layer


# --- all of them are in a row --------------------------------------------------------------------

BASES = {LinearMemory}  # not a mixer of its own, but its methods could be called


def public_classes():
    """Every layer, memory and transition of the package that computes something."""
    kinds, abstract = (
        (Layer, Memory, Transition),
        {Layer.forward, Memory.forward, Transition.forward},
    )
    rooms = (lab.memories, lab.mixers, lab.transitions)
    modules = [m.name for r in rooms for m in pkgutil.iter_modules(r.__path__, f"{r.__name__}.")]
    for module in modules:
        for name, found in vars(importlib.import_module(module)).items():
            own = inspect.isclass(found) and found.__module__ == module and name[0] != "_"
            if own and issubclass(found, kinds) and found.forward not in abstract:
                yield found


def test_every_public_class_is_in_a_row_of_the_shared_suites():
    tried = {type(part) for case in MIXERS for part in case.build(stream(0)).modules()}
    missing = {each.__name__ for each in public_classes()} - {each.__name__ for each in tried}
    assert missing == {each.__name__ for each in BASES}


def test_every_mixer_memory_and_transition_is_guarded():
    rooms = (lab.memories, lab.mixers, lab.transitions)
    exported = [getattr(room, name) for room in rooms for name in room.__all__]
    modules = {each for each in exported if inspect.isclass(each) and issubclass(each, nn.Module)}
    gates = {lab.mixers.OutputGate}  # a part of mixers, on numbers of any shape
    assert all(issubclass(each, (Layer, Memory, Transition)) for each in modules - gates)


# --- inside torch.autocast -----------------------------------------------------------------------

# Rounding the weights and the input to half precision, and nothing else, changes values and
# gradients by what a layer makes of such errors: much where it divides by a norm of next to
# nothing, or compares. Autocast rounds a few products more, and so may cost a few times that, plus
# a few units of rounding of what is large. Worst ratio over all rows: 2.4; phases and decays in
# half precision had 45.
WORST = 5
UNBOUNDED = {f"state space, {c.name}" for c in TRANSITIONS if c.bound is None or c.bound > 1}


def tame(mixer, x):
    """Whether states stay where float16 has numbers: an unbounded transition may leave it."""
    if not isinstance(mixer, StateSpace):
        return True
    with torch.no_grad():
        return bool(mixer.states(x).abs().max() < 1e4)


@every_mixer
@half
def test_autocast_costs_what_rounding_costs(case, dtype):
    mixer, eps = case.build(stream(0)).float(), torch.finfo(dtype).eps
    near = rounded(mixer, dtype)
    for T in (1, 7, 300, 1024):
        x = inputs(T)
        if not tame(mixer, x):
            assert case.name in UNBOUNDED
            assert T > 7
            continue
        y, slopes = values_and_gradients(mixer, x)
        y_rounded, slopes_rounded = values_and_gradients(near, x.to(dtype).float())
        found, slopes_found = values_and_gradients(mixer, x, dtype)
        assert found.isfinite().all()
        assert all(slope.isfinite().all() for slope in slopes_found)
        if "straight-through" in case.name:
            # Which of two near logits is larger is a matter of rounding: jumps by a whole value.
            # What is promised is promised for equal logits: see the test of memories below.
            assert (found - y).abs().median() <= WORST * eps * y.abs().max()
            continue
        unavoidable = (y_rounded - y).norm() + eps * y.norm()
        assert (found - y).norm() < WORST * unavoidable, f"T {T}"
        size = torch.stack([slope.norm() for slope in slopes]).norm()
        names = ["x", *(name for name, _ in mixer.named_parameters())]
        each = zip(names, slopes_found, slopes, slopes_rounded, strict=True)
        for name, actual, expected, other in each:
            unavoidable = (other - expected).norm() + eps * (expected.norm() + 0.1 * size)
            assert (actual - expected).norm() < WORST * unavoidable, f"T {T}, gradient of {name}"


@every_mixer
@half
def test_both_forms_agree_inside_autocast(case, dtype):
    mixer, x = case.build(stream(0)).float(), inputs(9)
    near = rounded(mixer, dtype)
    with torch.no_grad():
        y, y_rounded = mixer(x), near(x.to(dtype).float())
        with autocast(dtype):
            found = unroll(mixer, x).float()
    unavoidable = (y_rounded - y).norm() + torch.finfo(dtype).eps * y.norm()
    assert (found - y).norm() < WORST * unavoidable


@pytest.mark.parametrize("T", [1, 7, 300])
@pytest.mark.parametrize("name", MEMORIES)
@half
def test_a_memory_reads_the_same_of_the_same_numbers(name, dtype, T):
    memory = MEMORIES[name][0](stream(0)).float()
    generator = stream(0)
    K, M = memory.d_key, memory.d_value
    shapes = [(2, 2, T, K), (2, 2, T, K), (2, 2, T, M), (2, T, D_MODEL)]
    q, k, v, x = (torch.randn(shape, generator=generator) for shape in shapes)
    q, k, v = (part.to(dtype) for part in (q, k, v))
    with torch.no_grad():
        expected = memory(q.float(), k.float(), v.float(), x)
        with autocast(dtype):
            found = memory(q, k, v, x)
            one, _ = memory.step(q[:, :, 0], k[:, :, 0], v[:, :, 0], x[:, 0])
    assert found.dtype == one.dtype == dtype
    # One rounding at the end; torch's own kernel for softmax attention rounds weights, too.
    eps = torch.finfo(dtype).eps * (4 if memory.any_precision else 0.5)
    assert ((found.float() - expected).abs() <= eps * expected.abs().max() + 1e-30).all()
    assert gap(one.float(), expected[:, :, 0]) < 2 * torch.finfo(dtype).eps


@every_mixer
@half
def test_tokens_are_looked_up_unrounded(case, dtype):
    mixer = case.build(stream(0)).float()
    if not hasattr(mixer, "of_tokens"):
        pytest.skip("this mixer has no shorter way for tokens")
    table = inputs(5)[0]
    tokens = torch.randint(5, (2, 9), generator=stream(2))
    with torch.no_grad(), autocast(dtype):
        assert gap(mixer.of_tokens(table, tokens).float(), mixer(table[tokens]).float()) < 2e-2


@half
def test_a_row_of_a_table_is_that_row(dtype):
    table, tokens = inputs(5)[0], torch.randint(5, (2, 9), generator=stream(2))
    with autocast(dtype):
        assert torch.equal(look_up(table, tokens), table[tokens])
        assert torch.equal(look_up(table.to(dtype), tokens), table.to(dtype)[tokens])


@half
def test_a_whole_model_trains_inside_autocast(dtype):
    mixers = [
        StateSpace(8, PolarDiagonal(8, d_state=6, generator=stream(1)), generator=stream(2)),
        MultiHead(8, Retention(8, heads=2, d_key=4), norm=True, generator=stream(0)),
    ]
    model = SequenceModel(5, 3, 8, mixers, generator=stream(3))
    tokens = torch.randint(5, (4, 200), generator=stream(4))
    expected = model(tokens)
    with autocast(dtype):
        found = model(tokens)
    found.float().square().sum().backward()
    assert (found.float() - expected).norm() < 5 * torch.finfo(dtype).eps * expected.norm()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


# --- half-precision weights, without autocast ----------------------------------------------------


@every_mixer
@half
def test_layers_of_half_precision_weights_compute_as_those_of_single(case, dtype):
    mixer = rounded(case.build(stream(0)).float(), dtype)
    x = inputs(40).to(dtype)
    if "straight-through" in case.name or not tame(mixer, x.float()):
        return
    with torch.no_grad():
        y = mixer(x.float())
        near = rounded(mixer, dtype)
        for parameter in near.parameters():  # what one more unit of rounding does
            parameter *= 1 + torch.finfo(dtype).eps * torch.rand(
                parameter.shape, generator=stream(6)
            ).sub(0.5)
        unavoidable = (near(x.float()) - y).norm() + torch.finfo(dtype).eps * y.norm()
        found = copy.deepcopy(mixer).to(dtype)(x)
    assert found.dtype in (dtype, torch.float32)
    assert (found.float() - y).norm() < 2 * WORST * unavoidable


# --- positions and decays ------------------------------------------------------------------------


@pytest.mark.parametrize("T", [512, 1024])
def test_retention_knows_its_positions_inside_autocast(T):
    mixer = MultiHead(16, Retention(16, heads=2, d_key=8), norm=True, generator=stream(0))
    x = torch.randn(2, T, 16, generator=stream(1))
    expected = mixer.double()(x.double())
    with autocast(torch.bfloat16):
        found = mixer.float()(x)
    # 0.14 and 0.27 with angles in bfloat16.
    assert gap(found.double(), expected) < 0.03


@pytest.mark.parametrize("start", [0, 1_000_000])
def test_a_step_counts_beyond_what_single_precision_can(start):
    """Phases at steps around a million, from the state that a count has reached."""
    memory = Retention(D_MODEL, heads=1, d_key=8)
    t = torch.tensor(start + 3)
    k = torch.randn(1, 8, generator=stream(0))
    exact = memory.double().features(k.double(), t)
    assert gap(memory.float().features(k, t).double(), exact) < 1e-6
    cosine = CosFormer(D_MODEL, heads=1, d_key=8, horizon=2_000_000, feature="elu")
    assert gap(cosine.features(k, t).double(), cosine.features(k.double(), t)) < 1e-6


def strongly_decaying_first(memory, T):
    """x whose decays are large in the first quarter and small in the rest."""
    x = torch.randn(1, T, 4, generator=stream(1), dtype=torch.float64)
    weight = memory.decay.weight[0].double()
    along = weight / weight.square().sum()
    x = x - (x @ weight)[..., None] * along
    x[:, : T // 4] += 30 * along
    x[:, T // 4 :] -= 6 * along
    return x


@pytest.mark.parametrize("kind", ["linear", "slots"])
def test_strong_decays_early_on_cost_no_digits_later(kind):
    T = 2048
    if kind == "linear":
        memory = LinearAttention(4, heads=1, d_key=4, decay=1.0, generator=stream(0))
    else:
        memory = SoftSlots(4, heads=1, d_key=4, decay=1.0, generator=stream(0))
    with torch.no_grad():
        x = strongly_decaying_first(memory, T)
        q, k, v = torch.randn(3, 1, 1, T, 4, generator=stream(2), dtype=torch.float64)
        single = memory(q.float(), k.float(), v.float(), x.float())
        exact = memory.double()(q, k, v, x)
    # 7e-4 with differences of sums from step 0 on.
    assert gap(single.double(), exact) < 2e-5


def test_decays_of_linear_attention_inside_autocast():
    T = 1024
    memory = LinearAttention(8, heads=2, d_key=4, decay=1.0, generator=stream(0))
    mixer = MultiHead(8, memory, generator=stream(1))
    x = torch.randn(2, T, 8, generator=stream(2))
    expected = mixer.double()(x.double())
    with autocast(torch.bfloat16):
        found = mixer.float()(x)
    assert gap(found.double(), expected) < 0.02  # 0.44 with sums of decays in bfloat16


# --- lab.linalg ----------------------------------------------------------------------------------


def normal(*shape, seed=0):
    return torch.randn(shape, generator=stream(seed))


LINALG = {
    "delta rule": (lambda *parts: delta_rule(*parts)[0], [(2, 9, 4)] * 3 + [(2, 9)]),
    "segment sums": (segment_sums, [(2, 9)]),
    "circulant": (circulant_product, [(6,), (2, 6)]),
    "block circulant": (block_circulant_product, [(3, 2, 2), (2, 6)]),
    "convolution": (causal_convolution, [(2, 20, 3), (20, 2, 3)]),
    "short convolution": (causal_convolution, [(2, 4, 3), (20, 2, 3)]),
    "kernel": (partial(kernel_doubling, length=9), [(4, 4), (4, 2), (3, 4)]),
    "bilinear": (lambda d, P, B: bilinear(DPLR(d, P, P), B, 0.5)[0], [(4,), (4, 2), (4, 1)]),
    "Cauchy product": (cauchy_product, [(2, 8)]),
    "fast Cauchy product": (fast_cauchy_product, [(2, 8)]),
    "Fenwick product": (fenwick_product, [(2, 9, 4)] * 3 + [(2, 9, 5)]),
    "Fenwick product, chunks": (
        partial(fenwick_product_chunked, chunk=2), [(2, 9, 4)] * 3 + [(2, 9, 5)]
    ),
    "Cayley": (cayley, [(2, 4, 4)]),
    "exponential": (expm, [(2, 4, 4)]),
    "reflections": (householder_blocks, [(2, 4), (2,)]),
    "Monarch": (monarch_product, [(3, 3, 3), (3, 3, 3), (2, 9)]),
    "dense Monarch": (monarch_dense, [(3, 3, 3), (3, 3, 3)]),
    "softmax average": (lambda *parts: attention(*parts)[0], [(2, 9, 3), (2, 9, 3), (2, 9, 3, 2)]),
}  # fmt: skip


@pytest.mark.parametrize("name", LINALG)
@half
def test_structured_products_round_nothing_inside_autocast(name, dtype):
    function, shapes = LINALG[name]
    parts = [0.5 * normal(*shape, seed=i).to(dtype).float() for i, shape in enumerate(shapes)]
    expected = function(*parts)
    with autocast(dtype):
        assert gap(function(*parts), expected) < 1e-6
        assert gap(function(*(part.to(dtype) for part in parts)), expected) < 1e-6
    # Without autocast, half-precision numbers are taken for what they are, too.
    assert gap(function(*(part.to(dtype) for part in parts)), expected) < 1e-6
