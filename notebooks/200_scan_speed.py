# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 200 · How fast are the scans, beside everybody else's and beside memory itself?
#
# **Question.** A state-space model spends its time in $h_t = a_t h_{t-1} + b_t$ and in the gradient
# of that. Is `lab.scan` the fastest way to compute the two on this machine, and how much faster could
# anything be?
#
# **The yardstick.** Forwards, two arrays are read and one is written; backwards, three are read and
# two written. However clever, a scan whose arrays do not fit into the cache takes at least as long
# as these **eight passes over an array**, and a plain copy (two passes) says what a pass costs.
#
# **Reported before.** A first trial on another machine of two cores, shown beside our numbers below.
#
# **Criteria, written before the run.** S1: faster than every contender at every shape. S2: at least
# 4 times as fast as the best of them from 1,024 steps on. S3: within 1.5 times the eight passes for
# arrays beyond the cache. S4: time linear in the number of steps. S5: peak memory at most inputs,
# outputs and gradients, and 5 %. S6: the other scans, too, faster than their best contender. S7:
# errors in single precision below 3e-5. What would change our mind: one contender ahead anywhere.

# %% tags=["parameters"]
experiment: str = "200"  # the notebook these parameters belong to
other_scans: list[str] = ["complex", "log", "matrix"]  # beside the linear one
shapes: list[str] = ["32x32x64", "1x1024x64"]  # batch x steps x columns
with_compile: bool = False  # whether torch.compile gets its chance, 20 s and more for every shape
longest_power: int = 11  # sequences of 2^8 to 2 to this power steps, in [9, 20]
widest_power: int = 5  # rows of 1 to 2 to this power columns, in [1, 12]
memory_shape: str = "8x512x256"  # where peak memory is measured
memory_of: list[str] = ["lab.scan", "mambapy pscan"]  # the contenders that it is measured of
rounds: int = 3  # turns of every contender at every shape, in [1, 1000]
budget: float = 0.1  # seconds that a contender may take at a shape in all, in (0, 1000]
longest: float = 0.3  # seconds of one call, beyond which a contender is left out, in (0, 1000]

# %%
import lab

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %%
from dataclasses import asdict

import pandas as pd
import torch
from IPython.display import display

from lab import benchmark
from lab.benchmark import ON_GPU, OURS, SCANS, tables
from lab.evidence import Evidence, shown
from lab.plots import figures
from lab.plots.panels import Choice, Panel

# %%
SHAPES = [benchmark.parse(text) for text in p.shapes]
LIMITS = {"rounds": p.rounds, "budget": p.budget, "longest": p.longest}
CACHE = max(benchmark.caches().values(), default=32 << 20)  # bytes
REPORTED = {  # milliseconds, of the first trial
    "lab.scan": {"32x32x64": 0.49, "64x64x256": 1.4, "8x1024x256": 4.5, "1x4096x64": 0.22, "8x4096x512": 70},
    "loop over a[:, t]": {"32x32x64": 2.4, "64x64x256": 17.5, "8x1024x256": 735, "1x4096x64": 369},
    "loop, gradient by hand": {"32x32x64": 0.76, "64x64x256": 2.6, "8x1024x256": 15.9, "1x4096x64": 55.6, "8x4096x512": 170},
    "torch associative_scan": {"32x32x64": 3.2, "64x64x256": 14.9, "8x1024x256": 35.7, "1x4096x64": 9.0},
    "mambapy pscan": {"32x32x64": 1.15, "64x64x256": 7.5, "8x1024x256": 22.8, "1x4096x64": 2.7, "8x4096x512": 305},
}

# %%
evidence = Evidence(
    "200", title="Speed of the scans", parameters=asdict(p), seeds=[0],
    reported={f"{name} {shape}, ms": ms for name, row in REPORTED.items() for shape, ms in row.items()},
)
for name, given, known in (
    ("other_scans", p.other_scans, [name for name in SCANS if name != "linear"]),
    ("memory_of", p.memory_of, SCANS["linear"].contenders),
):
    unknown = [each for each in given if each not in known]
    assert not unknown, f"{name} has {unknown}, which must be among: {'; '.join(known)}"

# %% [markdown]
# ## The machine
#
# As many threads as torch takes by itself, for everybody.

# %% tags=["nbval-ignore-output"]
pd.Series(benchmark.describe(), name="this machine").to_frame()

# %% [markdown]
# ## The linear scan
#
# All contenders read the same random numbers and the same incoming gradient, each in the layout that
# suits it best, which is not timed. They take turns, round by round, so that a busy moment hits all
# of them. A cell shows the **median in milliseconds of value and gradients together, [its quartiles],
# and the largest error** against a loop in double precision, of states and gradients, relative to
# the largest entry. Gains have both signs and sizes crowded below 1. The contenders:
#
# - *loop over time*, left to autograd: over `unbind(1)`, and as most people write it, over `a[:, t]`,
#   where the gradient of every step fills an array of the whole length;
# - *loop, gradient by hand*: an `autograd.Function` whose two loops write into arrays they allocate
#   once, which is as far as one gets in plain torch;
# - torch's own `associative_scan`, as it is and through `torch.compile`;
# - [mamba.py](https://github.com/alxndrTL/mamba.py)'s `pscan`, and the torch reference of
#   [accelerated-scan](https://github.com/proger/accelerated-scan).
#
# The last two rows are the eight passes: copied into memory that exists already, and with fresh
# memory for the three arrays that are written, which is what a function pays that returns new
# tensors. `lab.scan` keeps the blocks of results that were freed and uses them again. The criterion
# takes the first row, which is the stricter one.

# %% tags=["nbval-ignore-output"]
not_compiled = {"associative_scan, compiled": "left out: with_compile is False"}
left_out = {} if p.with_compile else not_compiled
results = {
    "linear": [
        benchmark.compare(SCANS["linear"], shape, without=left_out, **LIMITS) for shape in SHAPES
    ]
}
tables.times(results["linear"])

# %% tags=["nbval-ignore-output"]
display(tables.leads(results["linear"]), tables.beside(results["linear"], REPORTED))

# %% [markdown]
# ### What a call costs, whatever its size
#
# Two passes through autograd in Python, checks of the arguments, two kernels: a scan of two steps
# pays for all of it. The least that anyone pays here whose gradient is written in Python is an
# `autograd.Function` that does nothing. For sequences of 1,024 steps and more, the table shows how
# much of our time is the call, and how long everything together may take if S2 is to hold. Where the
# call alone fills most of what is allowed, no kernel can meet S2.

# %% tags=["nbval-ignore-output"]
nothing = benchmark.empty_function(rounds=p.rounds, budget=p.budget)
two_steps = benchmark.compare(SCANS["linear"], (1, 2, 64), without=not_compiled, **LIMITS).ours
pd.DataFrame(
    {
        benchmark.written(each.shape): {
            "ours, ms": 1e3 * each.ours,
            "a call of ours, ms": 1e3 * two_steps,
            "a Function that does nothing, ms": 1e3 * nothing,
            "allowed by S2, ms": 1e3 * each.best[1] / 4,
        }
        for each in results["linear"]
        if each.shape[1] >= 1024
    }
).T.round(3)

# %% [markdown]
# ## The other scans
#
# The same recurrence in other number systems, each beside what there is for it in torch. Where a
# product of gains becomes a sum of logarithms, `cumsum` with `logcumsumexp` or `cummax` is a scan as
# well, and a fast one. Its error shows why it is not used here: it adds up the gains of the whole
# past and takes them away again. A max-plus state sends its gradient to one step alone; where two are
# nearly equal, rounding decides, and the error of these gradients is the share that went elsewhere.
#
# Softmax averages have heads of 64 values; masked attention computes them from all pairs of steps.
# Matrices are 8 by 8 for 64 columns and 16 by 16 for more, so that arrays are as large as above.

# %% tags=["nbval-ignore-output"]
for name in p.other_scans:
    results[name] = [benchmark.compare(SCANS[name], shape, **LIMITS) for shape in SHAPES]
    display(tables.times(results[name]).set_caption(f"{name} scan"))

# %% tags=["nbval-ignore-output"]
tables.leads([comparison for found in results.values() for comparison in found])


# %% tags=["nbval-ignore-output"]
def draw_bars(scan, shape):
    comparison = next(c for c in results[scan] if benchmark.written(c.shape) == shape)
    times = {
        name: tuple(1e3 * t for t in (timing.low, timing.median, timing.high))
        for name, timing in comparison.timings.items()
    }
    return figures.ranges(
        times, limits={name: 1e3 * bound for name, bound in comparison.bounds.items()},
        title=f"{scan} scan, (B, T, N) = {comparison.shape}", x_title="value and gradients, ms",
    )


Panel(
    draw_bars,
    scan=Choice("scan", list(results)),
    shape=Choice("B x T x N", p.shapes),
)

# %% [markdown]
# Do the errors hold what float32 promises, and who was there? This much is the same on every machine.

# %%
worst_error = {
    name: max(comparison.errors[OURS].largest for comparison in found)
    for name, found in results.items()
}
for name, found in results.items():
    ran = set.intersection(*(set(comparison.timings) for comparison in found))
    print(
        f"{name}: error of {OURS} below 3e-5: {worst_error[name] < 3e-5}; ran: {', '.join(sorted(ran))}"
    )

# %% [markdown]
# ## Time against length and width
#
# One sequence of 64 columns and rising length. There are three stretches: what a call costs whatever
# its size; arrays in the cache; arrays in memory. In the last, all arrays of a scan together (six)
# exceed the largest cache, nothing but the steps counts, and a power other than one would show.
# Contenders stop where a call would take longer than a second, and none is compiled here.

# %% tags=["nbval-ignore-output"]
lengths = [2**power for power in range(8, p.longest_power + 1)]
sweep = {
    "rounds": min(p.rounds, 5),
    "budget": p.budget,
    "longest": min(p.longest, 1.0),
    "without": not_compiled,
}
by_length = benchmark.sweep(SCANS["linear"], [(1, T, 64) for T in lengths], **sweep)
figures.scaling(
    {name: {T: 1e3 * time for (_, T, _), time in times.items()} for name, times in by_length.items()},
    dashed=[benchmark.EXISTING, benchmark.FRESH], title="One sequence of 64 columns",
    x_title="steps T", y_title="value and gradients, ms",
)

# %% tags=["nbval-ignore-output"]
from lab.records import committed  # the full run, for the short one at the defaults

committed.figure("200", "One sequence of 64 columns")

# %% tags=["nbval-ignore-output"]
ours = {T: by_length[OURS][1, T, 64] for T in lengths}
beyond = [T for T in lengths if 6 * 64 * 4 * T > CACHE]
pd.DataFrame({"ns a step": {T: round(1e9 * time / T, 1) for T, time in ours.items()}}).T

# %% tags=["nbval-ignore-output"]
widths = [2**power for power in range(p.widest_power + 1)]
by_width = benchmark.sweep(SCANS["linear"], [(8, 1024, N) for N in widths], **sweep)
figures.scaling(
    {name: {N: 1e3 * time for (_, _, N), time in times.items()} for name, times in by_width.items()},
    dashed=[benchmark.EXISTING, benchmark.FRESH], title="8 sequences of 1,024 steps",
    x_title="columns N", y_title="value and gradients, ms",
)

# %% [markdown]
# ## Memory
#
# Measured, not counted: each contender runs once in a process of its own, and the system says how
# large that process was at most (its resident size, `VmHWM`), above what it was before it drew the
# inputs. To be expected are inputs, incoming gradient, states and gradients: six arrays. Between
# calls `lab.scan` keeps freed blocks, 512 MiB of them at most (`lab.scan.cpu.memory.release()`
# returns them).

# %% tags=["nbval-ignore-output"]
shape = benchmark.parse(p.memory_shape)
present = [name for name in p.memory_of if not SCANS["linear"].contenders[name].missing()]
peaks = {name: benchmark.peak(SCANS["linear"], name, shape) for name in present}
measured = {name: peak for name, peak in peaks.items() if peak is not None}
if not measured:
    print("This system does not say how much memory a process had at most; the part is skipped.")
pd.DataFrame(
    {
        name: {
            "peak, MB": peak.measured / 1e6,
            "expected, MB": peak.expected / 1e6,
            "ratio": peak.ratio,
        }
        for name, peak in measured.items()
    }
).T.round(3)

# %% [markdown]
# ## On a GPU
#
# The same table against the kernels of accelerated-scan and flash-linear-attention, where there is a
# GPU to run them. Gains are positive here, because the latter reads logarithms. The table below it
# has the speed as a share of that of a copy.

# %% tags=["nbval-ignore-output"]
if torch.cuda.is_available():
    on_gpu = [benchmark.compare(ON_GPU, shape, device="cuda", **LIMITS) for shape in SHAPES]
    shares = {
        benchmark.written(each.shape): {
            name: each.bounds[benchmark.EXISTING] / timing.median
            for name, timing in each.timings.items()
        }
        for each in on_gpu
    }
    display(tables.times(on_gpu), pd.DataFrame(shares).round(3))
else:
    print("There is no GPU that torch can use here; this part is skipped.")

# %% [markdown]
# That scans are differentiable twice, compile into one graph with `torch.compile`, keep single
# precision under `autocast` and take batches from `vmap` is tested in `tests/scan/test_scan.py`.
#
# ## Criteria and verdict
#
# Every value is the worst over the shapes. A criterion whose case did not come up, such as arrays
# beyond the cache among small shapes, is not judged.

# %%
linear = results["linear"]
evidence.check("S1", min(c.lead for c in linear), ">", 1, metric="best contender / ours")
if long := [c.lead for c in linear if c.shape[1] >= 1024]:
    evidence.check("S2", min(long), ">=", 4, metric="best contender / ours, T of 1024 and more")
if large := [c.over_bound for c in linear if c.array_bytes > CACHE]:
    evidence.check("S3", max(large), "<=", 1.5, metric="ours / eight passes, beyond the cache")
if len(beyond) > 1:
    power = benchmark.growth(beyond, [ours[T] for T in beyond])
    evidence.check("S4", power, "in", (0.9, 1.1), metric="power of T, beyond the cache")
everywhere = benchmark.growth(lengths, [ours[T] for T in lengths])
evidence.check("S4", everywhere, "in", (0.9, 1.1), kind="context", metric="power of T, all lengths")
if OURS in measured:
    evidence.check("S5", measured[OURS].ratio, "<=", 1.05, metric="peak memory / expected")
for name, found in results.items():
    lead = min(comparison.lead for comparison in found)
    if name != "linear":
        evidence.check("S6", lead, ">", 1, metric=f"best contender / ours, {name}")
    evidence.check("S7", worst_error[name], "<", 3e-5, metric=f"largest error, {name}")

# %%
passes = f", at {max(c.over_bound for c in large):.2f} times the eight passes" if large else ""
evidence.summary(
    question="Are the scans faster than everybody else's, and how far from memory itself?",
    finding=(
        f"The linear scan is {min(c.lead for c in linear):.2g} times as fast as the best contender at its "
        f"worst shape{passes}, with errors up to {shown(max(worst_error.values()), 2)} over all scans."
    ),
    settles="The same table on a GPU against the kernels of accelerated-scan and flash-linear-attention.",
    figure="One sequence of 64 columns",
    tags=["scans", "speed"], impact=3, cost_h=2, blocked_by="a machine with a GPU",
)

# %% tags=["nbval-ignore-output"]
evidence

# %% tags=["nbval-ignore-output"]
committed.criteria(evidence)

# %% tags=["nbval-ignore-output"]
print(evidence.statuses())

# %% [markdown]
# ## What this does not show, and what next
#
# One machine, float32 (and complex64), inputs that lie in memory as a contender likes them, and no
# initial state. A scan inside a model shares the cache with whatever comes before and after it. For
# sequences shorter than a few hundred steps, the table says what a call costs rather than a scan.
