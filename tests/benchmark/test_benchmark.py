"""The benchmark measures what it says: equal functions, correct bytes, true notes."""

import gc
import math
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from numeric import gap, stream

from lab import scan
from lab.benchmark import (
    EXISTING,
    FRESH,
    LOOP,
    ON_GPU,
    OURS,
    SCANS,
    Comparison,
    Contender,
    Errors,
    Timing,
    compare,
    empty_function,
    growth,
    machine,
    parse,
    peak,
    sweep,
    tables,
    take_turns,
    timing,
    written,
)
from lab.benchmark.problem import bytes_moved
from lab.benchmark.scans import linear

DEFINITIONS = {
    "linear": lambda a, b: scan.linear_scan_sequential(a, b),
    "complex": lambda a, b: scan.linear_scan_sequential(a, b),
    "log": lambda a, b: scan.log_scan_sequential(a, b),
    "max-plus": lambda a, b: scan.tropical_scan_sequential(a, b)[0],
    "softmax": lambda decay, score, value: scan.softmax_scan_sequential(decay, score, value)[0],
    "matrix": lambda A, b: scan.matrix_scan_sequential(A, b),
}
EAGER = [
    (name, who)
    for name, problem in SCANS.items()
    for who, contender in problem.contenders.items()
    if not contender.compiled
]
QUICK = {"rounds": 1, "budget": 0.01, "longest": 1.0}


def double(problem, shape, seed=0):
    dtype = torch.complex128 if problem.dtype.is_complex else torch.float64
    values = problem.draw(shape, stream(seed), dtype)
    return values, torch.randn(values[-1].shape, dtype=dtype, generator=stream(seed + 1))


def value_and_gradients(contender, values, grad):
    inputs = contender.inputs(values)
    states = contender.scan(*inputs)
    gradients = torch.autograd.grad(states, inputs, contender.pack(grad))
    return [contender.unpack(states), *contender.gradients(values, gradients)]


@pytest.mark.parametrize(("name", "who"), EAGER)
@pytest.mark.parametrize("shape", [(2, 16, 4), (1, 13, 9), (3, 2, 130)])
def test_every_contender_computes_the_scan_and_its_gradients(name, who, shape):
    contender = SCANS[name].contenders[who]
    if contender.missing():
        pytest.skip(contender.missing())
    values, grad = double(SCANS[name], shape)
    expected = value_and_gradients(Contender(DEFINITIONS[name]), values, grad)
    for have, want in zip(value_and_gradients(contender, values, grad), expected, strict=True):
        assert gap(have, want) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_loop_with_a_gradient_by_hand_has_the_right_one(dtype):
    a, b = (torch.randn(2, 5, 3, dtype=dtype, generator=stream(i)) for i in range(2))
    inputs = [tensor.requires_grad_() for tensor in (a, b)]
    assert torch.autograd.gradcheck(linear.by_hand, inputs)


def test_a_contender_that_reads_logarithms_has_the_gradient_of_the_gain():
    values, grad = double(ON_GPU, (2, 7, 3))
    plain = value_and_gradients(Contender(linear.loop), values, grad)
    logarithm = Contender(lambda g, x: linear.loop(g.exp(), x), logarithm=True)
    for have, want in zip(value_and_gradients(logarithm, values, grad), plain, strict=True):
        assert gap(have, want) < 1e-12


def test_inputs_are_shared_where_the_layout_is_and_never_changed():
    values, grad = double(SCANS["linear"], (2, 16, 4))
    before = [tensor.clone() for tensor in (*values, grad)]
    for contender in SCANS["linear"].contenders.values():
        if contender.missing():
            continue
        shared = [i.data_ptr() for i in contender.inputs(values)] == [v.data_ptr() for v in values]
        is_plain = torch.equal(contender.pack(values[0]).flatten(), values[0].flatten())
        assert shared == is_plain
        value_and_gradients(contender, values, grad)
    assert all(torch.equal(*pair) for pair in zip((*values, grad), before, strict=True))


def test_draws_keep_a_memory_and_stay_finite():
    (a, _), _ = double(SCANS["linear"], (4, 1000, 8))
    assert a.abs().max() <= 1
    assert 0.3 < (a < 0).double().mean() < 0.7
    assert (a.abs() > 0.9).double().mean() > 0.5
    for name, problem in SCANS.items():
        values = problem.draw((2, 3000, 8), stream(0), problem.dtype)
        assert DEFINITIONS[name](*values).isfinite().all()


def test_eight_arrays_are_moved_and_three_of_them_written():
    a, b = torch.zeros(2, 2, 3, 5)
    assert bytes_moved([a, b]) == (8 * a.nbytes, 3 * a.nbytes)
    A, b = torch.zeros(2, 3, 5, 5), torch.zeros(2, 3, 5)
    assert bytes_moved([A, b]) == (3 * A.nbytes + 5 * b.nbytes, A.nbytes + 2 * b.nbytes)


class Clock:
    """A clock that only `sleep` advances."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_turns_are_taken_in_changing_order(clock):
    order = []
    calls = {name: lambda name=name: order.append(name) or clock.sleep(2**-5) for name in "abc"}
    timings = take_turns(calls, rounds=3, budget=10.0)
    assert order == [*"abc", *"abc", *"bca", *"cab"]  # the first three tell how long a call is
    assert list(timings) == [*"abc"]
    for found in timings.values():
        assert found.turns == 3
        assert found.low == found.median == found.high == 2**-5


def test_the_median_and_the_quartiles_are_those_of_the_turns(clock):
    pauses = iter([0.02, 0.05, 0.02, 0.03, 0.04, 0.06])
    (found,) = take_turns({"a": lambda: clock.sleep(next(pauses))}, rounds=5, budget=9).values()
    assert (found.low, found.median, found.high) == pytest.approx((0.03, 0.04, 0.05))


def test_fast_calls_are_repeated_and_slow_ones_have_fewer_turns(clock):
    counts = {"fast": 0, "slow": 0}

    def call(name, pause):
        counts[name] += 1
        clock.sleep(pause)

    calls = {"fast": lambda: call("fast", 2**-10), "slow": lambda: call("slow", 0.05)}
    timings = take_turns(calls, rounds=5, budget=0.12)
    assert (timings["fast"].turns, timings["slow"].turns) == (5, 2)
    assert counts == {"fast": 2 + 5 * 11, "slow": 1 + 2}
    assert timings["fast"].median == pytest.approx(2**-10)


def test_a_call_beyond_the_budget_still_has_one_turn(clock):
    (found,) = take_turns({"slow": lambda: clock.sleep(0.03)}, rounds=9, budget=0.01).values()
    assert found.turns == 1
    assert found.low == found.median == found.high == pytest.approx(0.03)


def test_an_empty_function_takes_some_time_all_the_same():
    assert 0 < empty_function(rounds=1, budget=0.01) < math.inf


def test_garbage_is_collected_again_whatever_happens():
    seen = []
    take_turns({"a": lambda: seen.append(gc.isenabled())}, rounds=1, budget=0.001)
    assert gc.isenabled()
    assert not any(seen)
    with pytest.raises(ZeroDivisionError):
        take_turns({"a": lambda: 1 / 0}, rounds=1, budget=1.0)
    assert gc.isenabled()
    with pytest.raises(ValueError, match="rounds is 0; it must be at least 1"):
        take_turns({}, rounds=0, budget=1.0)


def test_growth_is_the_power_of_a_power_law():
    sizes = [2**k for k in range(3, 12)]
    assert growth(sizes, [3e-9 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="1 sizes and 1 times do not make a line"):
        growth([1], [1.0])


def with_rivals(**rivals):
    return replace(SCANS["linear"], rivals=rivals)


def test_comparison_of_all_contenders():
    found = compare(
        SCANS["linear"], (2, 9, 3), without={"associative_scan, compiled": "-"}, **QUICK
    )
    assert found.notes == {"associative_scan, compiled": "-"}
    assert {OURS, LOOP} <= set(found.timings) == set(found.errors)
    assert all(0 <= errors.largest < 1e-6 for errors in found.errors.values())
    assert (found.array_bytes, found.moved_bytes) == (2 * 9 * 3 * 4, 8 * 2 * 9 * 3 * 4)
    assert set(found.bounds) == {EXISTING, FRESH}
    assert all(bound > 0 for bound in found.bounds.values())
    name, best = found.best
    assert best == min(t.median for who, t in found.timings.items() if who != OURS)
    assert found.lead == pytest.approx(found.timings[name].median / found.ours)


def test_errors_are_relative_to_the_largest_entry_and_show_what_is_wrong():
    shifted = Contender(lambda a, b: linear.loop(a, b) + 100)  # states wrong, gradients right
    steep = Contender(lambda a, b: linear.loop(a, 1.5 * b) / 1.5)  # so is neither, but for rounding
    broken = Contender(lambda a, b: linear.loop(a, b) * torch.nan)
    doubled = Contender(lambda a, b: 2 * linear.loop(a, b))
    problem = with_rivals(shifted=shifted, steep=steep, broken=broken, doubled=doubled)
    errors = compare(problem, (2, 9, 3), **QUICK).errors
    assert errors["shifted"].states > 10
    assert errors["shifted"].gradients < 1e-6
    assert errors["steep"].largest < 1e-6
    assert math.isnan(errors["broken"].largest)
    assert errors["doubled"].states == pytest.approx(1, rel=1e-5)
    assert errors["doubled"].gradients == pytest.approx(1, rel=1e-5)


def test_gradients_that_jump_are_judged_by_the_share_that_went_elsewhere():
    class Elsewhere(torch.autograd.Function):
        @staticmethod
        def forward(ctx, b):
            return b.clone()

        @staticmethod
        def backward(ctx, grad):
            moved = grad.clone()
            moved[0, 0, 0], moved[0, 0, 1] = grad[0, 0, 1], grad[0, 0, 0]
            return moved

    rival = Contender(lambda a, b: linear.loop(a, Elsewhere.apply(b)))
    found = {
        jumps: compare(replace(with_rivals(rival=rival), jumps=jumps), (2, 99, 3), **QUICK)
        for jumps in (False, True)
    }
    errors = {jumps: comparison.errors["rival"] for jumps, comparison in found.items()}
    assert errors[False].states == errors[True].states < 1e-6
    assert errors[True].gradients < errors[False].gradients / 20
    assert errors[True].gradients > 1e-4


def test_notes_say_why_a_contender_has_no_time():
    def fails(a, b):
        raise RuntimeError("no such kernel\nand more lines")

    def slow(a, b):
        time.sleep(1e-3 * a.shape[1])
        return linear.loop(a, b)

    problem = with_rivals(
        fails=Contender(fails),
        absent=Contender(linear.loop, module="no_such_module.part", package="no-such-package"),
        huge=Contender(linear.loop, largest=lambda B, T, N: 10**15),
        slow=Contender(slow),
    )
    found = compare(problem, (1, 512, 1), rounds=1, budget=0.01, longest=0.2, without={LOOP: "no"})
    assert set(found.timings) == {OURS}
    assert found.notes["fails"] == "fails: RuntimeError no such kernel"
    assert found.notes["absent"] == "not installed: pip install no-such-package"
    assert found.notes["huge"] == "skipped: needs about 24000000 GB"
    assert re.fullmatch(r"skipped: about \d\.\d+ s a call", found.notes["slow"])
    assert found.notes[LOOP] == "no"
    with pytest.raises(ValueError, match=f"only {OURS} ran at 1x512x1"):
        _ = found.best


def test_only_some_contenders_may_run():
    found = compare(SCANS["linear"], (1, 4, 2), only=[OURS], exact=False, **QUICK)
    assert (set(found.timings), found.errors, found.notes) == ({OURS}, {}, {})


def test_a_sweep_drops_what_becomes_too_slow_but_never_ours():
    problem = with_rivals(slow=Contender(lambda a, b: time.sleep(0.4) or linear.loop(a, b)))
    shapes = [(1, T, 1) for T in (2, 4, 8)]
    found = sweep(problem, shapes, longest=0.6, rounds=1, budget=0.01, without={LOOP: "-"})
    assert set(found) == {OURS, "slow", EXISTING, FRESH}
    assert list(found[OURS]) == list(found[EXISTING]) == shapes
    assert list(found["slow"]) == shapes[:1]


@pytest.mark.parametrize(
    "text", ["", "8x16", "8x16x0", "8x-1x2", "8x16xN", "1x2x3x4", "8 x 16 x 2"]
)
def test_a_shape_is_three_numbers(text):
    with pytest.raises(ValueError, match="it must be B x T x N in numbers, as in 8x1024x256"):
        parse(text)
    assert written(parse("8x16x2")) == "8x16x2"


def test_the_machine_describes_itself(tmp_path, monkeypatch):
    for index, (kind, level, size) in enumerate(
        [("Data", "1", "32K"), ("Instruction", "1", "32K"), ("Unified", "3", "16M")]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    (tmp_path / "index9").mkdir()  # says nothing about itself
    monkeypatch.setattr(machine, "_CACHES", tmp_path)
    assert machine.caches() == {"L1": 32 << 10, "L3": 16 << 20}
    described = machine.describe()
    assert described["caches"] == "L1 32 KiB, L3 16,384 KiB"
    assert all(described.values())
    monkeypatch.setattr(machine, "_CACHES", tmp_path / "none")
    assert machine.describe()["caches"] == "unknown"


def comparison(shape, **medians):
    return Comparison(
        problem="linear",
        shape=shape,
        timings={name: Timing(t, 0.9 * t, 1.1 * t, 3) for name, t in medians.items()},
        errors={name: Errors(2e-7, 1e-7) for name in medians},
        notes={"absent": "not installed"},
        bounds={EXISTING: 1e-3, FRESH: 2e-3},
        array_bytes=1,
        moved_bytes=8,
    )


FOUND = [
    comparison((1, 2, 3), **{OURS: 2e-3, "other": 9e-3}),
    comparison((4, 5, 6), **{OURS: 2.0, "other": 1.5}),
]


def test_tables_show_times_errors_notes_and_bounds():
    shown = tables.times(FOUND)
    table = shown.data
    assert list(table.columns) == ["1x2x3", "4x5x6"]
    assert list(table.index) == [OURS, "other", "absent", EXISTING, FRESH]
    assert table.loc[OURS].tolist() == ["2 [1.8, 2.2] · 2e-7", "2000 [1800, 2200] · 2e-7"]
    assert table.loc["absent"].tolist() == ["not installed"] * 2
    assert table.loc[EXISTING].tolist() == ["1", "1"]
    # The fastest of each shape is bold, and nothing else.
    weights = shown.export()["apply"][0][1]
    bold = np.array([["bold" in cell for cell in weights[0](table[c])] for c in table.columns])
    assert bold.tolist() == [[True, False, False, False, False], [False, True, False, False, False]]
    assert "bold" in shown.to_html()


def test_a_lead_may_count_those_alone_whose_numbers_are_right():
    errors = {"quick": Errors(math.nan, 0.0), "near": Errors(1e-2, 1e-9)}
    found = comparison((1, 2, 3), **{OURS: 2.0, "quick": 1.0, "near": 3.0, "right": 8.0})
    found = replace(found, errors={**found.errors, **errors})
    assert found.lead == 0.5
    assert [found.lead_of(limit) for limit in (1e-1, 1e-3, 1e-9)] == [1.5, 4.0, math.inf]


def test_tables_compare_with_the_best_and_with_what_was_reported():
    leads = tables.leads(FOUND)
    assert leads["best other / ours"].tolist() == [4.5, 0.75]
    assert leads[f"ours / {EXISTING}"].tolist() == [2.0, 2000.0]
    reported = {OURS: {"1x2x3": 1.5, "7x8x9": 3.0}, "gone": {"1x2x3": 4.0}}
    beside = tables.beside(FOUND, reported)
    assert beside.loc[(OURS, "1x2x3")].tolist() == [1.5, 2.0]
    assert math.isnan(beside.loc[("gone", "1x2x3"), "now, ms"])
    assert len(beside) == 2
    assert tables.beside(FOUND, {}).empty


def test_time_is_divided_into_the_call_moving_memory_and_work():
    found = tables.what_bounds(FOUND, {"linear": 1.5e-3})
    assert [row["shape"] for row in found] == ["1x2x3", "4x5x6"]
    shares = [f"share of {what}" for what in ("the call", "moving memory", "work")]
    # 2 ms: of 1.5 a call, and of at most 0.5 moving memory, though that takes 1 ms by itself.
    assert [found[0][share] for share in shares] == [0.75, 0.25, 0.0]
    assert [row["bound by"] for row in found] == ["the call", "work"]
    assert [row["best other / ours"] for row in found] == [4.5, 0.75]


@pytest.mark.skipif(not machine.Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_peak_memory_counts_every_array_that_is_there_at_once():
    shape = (2, 2048, 512)  # 8 MiB an array
    array = 4 * math.prod(shape)
    ours = peak(SCANS["linear"], OURS, shape)
    assert ours.expected == 6 * array
    assert 0.95 < ours.ratio < 1.1
    # A tree keeps what autograd needs of every level.
    assert peak(SCANS["linear"], "torch associative_scan", shape).ratio > 1.5


def test_a_failed_measurement_of_memory_says_what_happened():
    with pytest.raises(RuntimeError, match="memory of nobody at 1x2x3 failed: KeyError: 'nobody'"):
        peak(SCANS["linear"], "nobody", (1, 2, 3))
