"""Layers as problems: all contenders compute the same map, in the order of time that they state."""

import math
from copy import deepcopy

import pytest
import torch
from numeric import gap, stream

from lab.benchmark import OURS, compare, layer, layers, machine, memory, peaks
from lab.benchmark.problem import LOOP, Contender

CONTENDERS = [
    (name, who)
    for name in (*layers.CASES, *layers.SELECTIVE)
    for who in layer(name, 16).contenders
    if who != LOOP
]
QUICK = {"rounds": 1, "budget": 0.01, "longest": math.inf}


def with_gradients(contender, values, grad):
    """Outputs, and gradients of the inputs."""
    states, *gradients = contender.run(contender.inputs(values), contender.pack(grad).contiguous())
    return [contender.unpack(states), *contender.gradients(values, gradients)]


# References of flash-linear-attention compute in float32, whatever they are given.
@pytest.mark.parametrize(("name", "who"), CONTENDERS)
@pytest.mark.parametrize("shape", [(2, 64, 16), (1, 128, 32)])
def test_every_contender_computes_the_layer_and_its_gradients(name, who, shape):
    problem = layer(name, shape[2])
    contender = problem.contenders[who]
    if contender.missing():
        pytest.skip(contender.missing())
    single = who.startswith("fla")
    values = problem.draw(shape, stream(1), torch.float64)
    grad = torch.randn(values[-1].shape, dtype=torch.float64, generator=stream(2))
    definition = Contender(deepcopy(problem.loop).double())
    expected = with_gradients(definition, values, grad)
    if single:
        values, grad = [value.float() for value in values], grad.float()
    else:
        contender.scan.double()
    for have, want in zip(with_gradients(contender, values, grad), expected, strict=True):
        assert gap(have.double(), want) < (1e-4 if single else 1e-9)


def test_the_layer_of_mambapy_has_our_weights():
    problem = layer("selective layer", 32)
    theirs = problem.contenders["mambapy"]
    if theirs.missing():
        pytest.skip(theirs.missing())
    (x,) = problem.draw((2, 40, 32), stream(3), torch.float32)
    assert gap(theirs.scan(x), problem.contenders[OURS].scan(x)) < 1e-5
    # Ours has one matrix where theirs is a product of two, of rank 32 / 16.
    assert torch.linalg.matrix_rank(problem.contenders[OURS].scan.dt.weight) == 2


def test_gradients_of_the_parameters_are_computed_and_not_compared():
    problem = layer("scalar decay", 16)
    ours = problem.contenders[OURS]
    asked = []
    for parameter in ours.scan.parameters():
        parameter.register_hook(asked.append)
    values = problem.draw((1, 8, 16), stream(0), torch.float32)
    grad = torch.ones_like(values[-1])
    found = ours.run(ours.inputs(values), ours.pack(grad))
    assert len(found) == 1 + len(values)
    assert {g.shape for g in asked} == {p.shape for p in ours.scan.parameters()}


def test_a_comparison_of_a_layer_has_errors_of_all_inputs():
    found = compare(layer("delta rule", 16), (1, 64, 16), without={LOOP: ""}, **QUICK)
    assert LOOP not in {*found.timings, *found.notes}
    assert 0 < found.errors[OURS].largest < 1e-4
    values = 4 * 64 * 16  # of float32 entries, in each of x, q, k and v
    assert found.moved_bytes == 3 * 4 * values + 2 * values


def test_what_must_be_zero_has_an_absolute_error_and_jumps_are_shares():
    # Queries decide which value is read, and that has no gradient: 0 / 0 is not an error.
    found = compare(layer("tropical slots", 16), (1, 64, 16), without={LOOP: ""}, **QUICK)
    assert found.errors[OURS].largest < 1e-6


@pytest.mark.parametrize(
    ("name", "width", "message"),
    [
        ("Mamba-9", 16, "there is no layer 'Mamba-9'; there are linear attention, cosFormer"),
        ("scalar decay", 12, "the width is 12; it must be a multiple of 8"),
        ("scalar decay", 0, "the width is 0; it must be a multiple of 8"),
    ],
)
def test_a_layer_that_there_is_not_is_named(name, width, message):
    with pytest.raises(ValueError, match=message):
        layer(name, width)


def test_the_core_has_a_state_for_each_entry_of_b_t_d_and_n():
    assert layers.elements((2, 3, 5)) == 2 * 3 * 5 * 16


def test_a_power_is_that_of_the_order_which_a_memory_states():
    lengths = [64, 1024, 4096, 16384]
    linear = {T: 1e-3 + 1e-9 * T for T in lengths[:1]} | {T: 1e-9 * T for T in lengths[1:]}
    assert layers.power("scalar decay", linear) == pytest.approx(1)
    by_levels = {T: 1e-9 * T * math.log2(T) for T in lengths}
    assert layers.power("log-linear attention", by_levels) == pytest.approx(1)
    assert layers.power("scalar decay", by_levels) > 1.08
    assert layers.power("scalar decay", {64: 1.0, 1024: 2.0}) is None


def test_seconds_by_length_are_those_of_our_form():
    found = layers.seconds_by_length("log EMA", [4, 8], **QUICK)
    assert list(found) == [4, 8]
    assert all(0 < seconds < 10 for seconds in found.values())


@pytest.mark.skipif(not machine.Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_peaks_of_several_cases_come_from_one_process(monkeypatch):
    started = []
    run = memory.subprocess.run
    monkeypatch.setattr(
        memory.subprocess, "run", lambda *a, **kw: started.append(a) or run(*a, **kw)
    )
    shapes = [(1, T, 64) for T in (4096, 16384)]
    short, long = peaks([("scalar decay", OURS, shape) for shape in shapes])
    assert len(started) == 1
    # x, q, k, v, the incoming gradient, the output, and the gradients of the four inputs
    assert (short.expected, long.expected) == tuple(10 * 4 * math.prod(shape) for shape in shapes)
    assert 2 < long.measured / short.measured < 8
    assert 1 < long.ratio < 4


@pytest.mark.skipif(not machine.Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_bytes_by_length_are_grouped_by_memory():
    found = layers.bytes_by_length(["soft slots", "log EMA"], [1024, 4096])
    assert {name: list(each) for name, each in found.items()} == {
        "soft slots": [1024, 4096], "log EMA": [1024, 4096]
    }  # fmt: skip
    assert found["log EMA"][4096] > found["log EMA"][1024] > 0


def test_the_speed_of_a_product_is_one_of_this_century():
    assert 1e8 < machine.product_speed(size=128, rounds=3) < 1e14
