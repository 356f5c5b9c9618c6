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
# # 009 · Does a sigmoid gate after the read-out help linear attention to recall?
#
# **Idea.** What every head has read, $o_t$, is multiplied by $g_t = \sigma(W_g x_t + b_g)$, one
# number per head and feature, before the output projection: $y_t = (o_t \odot g_t) W_O$. After
# softmax attention this was found useful in large models. Here it stands after cosFormer,
# $o_t = \sum_{s \le t} w_{ts} v_s / \sum_{s \le t} w_{ts}$ with
# $w_{ts} = \mathrm{ReLU}(q_t)^\top \mathrm{ReLU}(k_s) \cos\frac{\pi (t-s)}{2M}$,
# and after four other mixers.
#
# **Reported before.** Recall of four pairs, three seeds: ungated 37.7 ± 5.2 %, gated 33.2 ± 0.7 %,
# time + 5.3 %. Hoped for: gated above 75 %, ungated below 55 %.
#
# **What this notebook shows.** Both reported numbers are a *plateau* that can be computed, 33.7 %:
# to name the commonest of the four values. Softmax attention stays there as well; a convolution
# over three tokens ends it, without any gate. So the gate is measured where the state is really
# full, against controls of equal size, over eight seeds that share data and start, as a mean
# difference with its interval.
#
# **Criteria, written before the run.** S1-S4, F1-F3 of the proposal, C1-C6 of its repair: with
# their thresholds in the last section. What would change our mind: an interval of the gate's effect
# that lies above zero at both loads, and above that of a wider MLP.

# %% tags=["parameters"]
experiment: str = "009"  # the notebook these parameters belong to
seeds: list[int] = [0, 1]  # two or more, paired between arms, in [0, 2147483647]
reported_steps: int = 4  # updates of the first attempt's models on task A, in [2, 1000000]
second_steps: int = 15  # updates of the second attempt's, in [2, 1000000]
softmax_steps: int = 15  # updates of softmax attention on task A, in [2, 1000000]
bound_steps: int = 20  # updates of the models of task A with a convolution, in [2, 1000000]
steps: int = 6  # updates per model on task B with 8 pairs, in [2, 1000000]
full_steps: int = 6  # and with 16 pairs, in [2, 1000000]
filler_steps: int = 6  # updates per model on task C, in [2, 1000000]
curve_steps: int = 3  # updates per model of recall against state size, in [2, 1000000]
batch: int = 16  # sequences per update and model, in [1, 100000]
samples: int = 200  # sequences that a score is the mean over, in [50, 1000000]

# %%
import lab

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %%
import math
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from IPython.display import display
from plotly.subplots import make_subplots
from scipy.special import stdtrit

from lab import audit
from lab.audit.read_out import attention, gated
from lab.benchmark import recall_curve
from lab.benchmark.flops import counted_flops
from lab.benchmark.timing import take_turns
from lab.evidence import Evidence
from lab.memories import (
    CosFormer,
    GatedLinearAttention,
    LinearAttention,
    Retention,
    SoftmaxAttention,
)
from lab.mixers import Mamba, MultiHead
from lab.model import SequenceModel, SwiGLU
from lab.nn import linear
from lab.plots import figures, looks, panels
from lab.plots.panels import Choice, Panel, Slider
from lab.seeding import stream
from lab.statistics import mean_interval
from lab.tasks import Recall, Stored
from lab.tasks.retrieval import COMMONEST, RANDOM
from lab.train import fit_together, score

torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way
REPORTED = {"ungated, task A": 0.377, "gated, task A": 0.332, "time overhead": 0.053}
evidence = Evidence(
    "009", title="Gate after the read-out", reported=REPORTED, parameters=asdict(p), seeds=p.seeds
)

# %% [markdown]
# ## Is the task what we think it is?
#
# Pairs of key and value from one alphabet, a separator, then half of the keys again, each followed
# by a blank where its value is asked for:
#
#     k1 v1 k2 v2 k3 v3 k4 v4 SEP k3 BLANK k1 BLANK
#
# **A**, as reported: 4 pairs of 16 symbols. **B**: 8 and 16 pairs of 32. **C**: a task like these
# with filler at half of all places, at random, from an alphabet of its own. Who has the bag of
# values and ignores the query scores the plateaus below.

# %%
A = Recall(pairs=4, queries=2, symbols=16, blank=True)
B = {n: Recall(pairs=n, queries=n // 2, symbols=32, blank=True) for n in (8, 16)}
C = Recall(pairs=4, queries=2, symbols=16, blank=True, filler="anywhere", noise=16)
LENGTH = {A: A.length, B[8]: B[8].length, B[16]: B[16].length, C: 2 * C.length}
HORIZON = 64  # M of cosFormer: a constant, at least as long as any of these
plateaus = {"A": A.ceilings, "B, 8 pairs": B[8].ceilings, "B, 16 pairs": B[16].ceilings}
assert A.vocabulary == 19
assert list(LENGTH.values()) == [13, 25, 49, 26]
assert [round(A.ceilings[name], 3) for name in (RANDOM, COMMONEST)] == [0.297, 0.337]
assert [round(B[n].ceilings[COMMONEST], 3) for n in B] == [0.208, 0.15]
pd.DataFrame(plateaus).T.map("{:.1%}".format)

# %%
drawn = A.sample(4000, A.length, stream(0, "values that are keys"))
queries, values = drawn.inputs[:, 9::2], drawn.inputs[:, 1:8:2]
shared = (queries[:, :, None] == values[:, None]).any(-1).double().mean()
report = audit.task(A, length=A.length)
print("test inputs also in training:", report["test inputs also in training"])
print("bits that a state must hold:", {name: task.bits(LENGTH[task]) for name, task in
                                       (("A", A), ("B, 8", B[8]), ("B, 16", B[16]))})

# %% tags=["nbval-ignore-output"]
print(f"a queried key is also one of the values of its sequence in {shared:.1%} of queries")
display(report)
NAMES = {"A": A, "B, 8 pairs": B[8], "B, 16 pairs": B[16], "C, with filler": C}


def symbols_of(task):
    return ["·", "SEP", *map(str, range(task.symbols)), "_", *(f"n{i}" for i in range(task.noise))]


panels.targets(
    NAMES, length={name: LENGTH[task] for name, task in NAMES.items()},
    symbols={name: symbols_of(task) for name, task in NAMES.items()},
)

# %% [markdown]
# ## Is the model what we think it is?
#
# Two layers, learned positions, LayerNorm, SwiGLU, head without bias. On task A of the size
# reported (D = 64, four heads of 16); on B and C smaller (D = 32, two heads of 8, a SwiGLU of 2 D
# in place of 4 D), so that eight seeds of every arm can be trained. All are behind a convolution of
# three tokens on q, k and v, unless it says "no convolution".


# %%
class Size(NamedTuple):
    width: int
    heads: int
    d_head: int
    hidden: int


STATES = 16  # numbers that each channel of a selective diagonal layer stores
LARGE, SMALL = Size(64, 4, 16, 256), Size(32, 2, 8, 64)


def memory(kind, D, H, d, generator):
    """H heads of d numbers, for D channels."""
    if kind == "gated linear attention":
        return GatedLinearAttention(D, heads=H, d_key=d, generator=generator)
    if kind.startswith("cosFormer"):
        return CosFormer(D, heads=H, d_key=d, horizon=HORIZON, normalise=kind == "cosFormer")
    memories = {"linear attention": LinearAttention, "softmax attention": SoftmaxAttention}
    return memories[kind](D, heads=H, d_key=d)


NORMED = ("cosFormer, no normaliser", "gated linear attention")  # an RMSNorm where no weights do it


# %%
def mixer(kind, size, generator, *, heads=0, convolution=3, **gate):
    D, H = size.width, heads or size.heads
    if kind == "selective diagonal":
        gate = {"gate": None} | gate  # published with a gate of its own
        return Mamba(D, d_state=STATES, convolution=convolution, generator=generator, **gate)
    inner = memory(kind, D, H, size.d_head, generator)
    return MultiHead(D, inner, convolution=convolution, norm=kind in NORMED, generator=generator,
                     **gate)


# %%
def build(task, seed, *, kind="cosFormer", size=SMALL, positions=0, wider=0, **settings):
    """The model of one arm; `wider` adds to the width of the SwiGLU.

    Its parts have random streams of their own, so that a wider one leaves the start of others alone.
    """
    streams, D = [stream(seed, part) for part in ("mixers", "channels", "init")], size.width
    mixers = [mixer(kind, size, streams[0], **settings) for _ in range(2)]
    channels = [SwiGLU(D, size.hidden + wider, generator=streams[1]) for _ in mixers]
    generator = streams[2]
    head = linear(D, task.classes, bias=False, generator=generator)
    return SequenceModel(
        task.vocabulary, task.classes, D, mixers, channels=channels, head=head, norm="layer",
        positions=positions or max(LENGTH[task], LENGTH[B[16]]), generator=generator,
    )


GATED = {"gate": "elementwise"}  # from the token, first bias 1
FROM_HALF = {"gate": "elementwise", "gate_start": None}  # no bias: from 0.5
as_reported = {"size": LARGE, "convolution": 0, "positions": 21}
for settings, count in (({}, 135_488), (FROM_HALF, 143_680)):
    model = build(A, 0, **as_reported, **settings).double()
    found = audit.model(model, A, length=A.length, parameters=count)
    print("parameters, as reported:", found["real parameters"])

# %%
ARMS = {
    "ungated": {}, "elementwise gate": GATED, "headwise gate": {"gate": "headwise"},
    "constant gate": {"gate": "constant"}, "SiLU gate": {"gate": "silu"},
    "wider MLP": {"wider": 6}, "one more head": {"heads": 3},
}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


plain = count(build(B[8], 0))
extra = {name: count(build(B[8], 0, **arm)) - plain for name, arm in ARMS.items()}
assert [extra[name] for name in list(ARMS)[1:5]] == [1056, 132, 32, 1056]
assert extra["wider MLP"] >= extra["elementwise gate"]
print(f"ungated {plain}, and more by", {name: more for name, more in extra.items() if more})

# %% tags=["nbval-ignore-output"]
audit.model(build(B[8], 0, **GATED).double(), B[8], length=LENGTH[B[8]])

# %% [markdown]
# Two properties that the rest stands on: a gate that is wide open is no gate, and with $M$ fixed
# the answer at a step does not depend on how long the sequence is going to be.

# %%
tokens = B[8].sample(20, LENGTH[B[8]], stream(0, "properties")).inputs
closed, opened = build(B[8], 0).double(), build(B[8], 0, **GATED, gate_start=40.0).double()
with torch.no_grad():
    gate_gap = (opened(tokens) - closed(tokens)).abs().max().item()
    prefix_gap = (closed(tokens[:, :11]) - closed(tokens)[:, :11]).abs().max().item()
assert max(gate_gap, prefix_gap) < 1e-6
print("an open gate is no gate, and a prefix gives a prefix, within 1e-6: True")

# %% [markdown]
# ## As reported: task A
#
# The first attempt had 10,000 fixed sequences, step size 1e-3 and a gate that starts at one half
# (no bias); it ran for about 5,000 updates, we stop much earlier. The second, which was never
# filed, had $b_g = 1$ and a larger step size: here 1e-2, fresh data and the small model, with
# softmax attention beside it. Then the model of the size reported, with the convolution and a step
# size of 5e-3.


# %%
def watcher(task, shown):
    """Accuracy of a model on `shown` sequences, the same every time."""
    return lambda model: torch.tensor(
        score(model, task, length=LENGTH[task], samples=shown, seed=0).accuracy
    )


def train(task, *, steps, seeds=p.seeds, lr=1e-2, batch=p.batch, data=None, watch=None,
          schedule="warmup-cosine", label="training", length=None, start=None, **arm):
    """Models and histories of an arm, seeds side by side, from the models `start` if given."""
    models = start or [build(task, seed, **arm) for seed in seeds]
    return models, fit_together(
        models, [data or task] * len(seeds), seeds=seeds, steps=steps, batch=batch,
        length=length or LENGTH[task], lr=lr, schedule=schedule, clip=1.0, device="cpu",
        watch=watch, watch_every=max(1, steps // 20), skip_nonfinite=True, label=label,
        optimizer=partial(torch.optim.AdamW, weight_decay=0.01), decay="all",
    )


# %%
def scored(models, task, seeds=p.seeds):
    """Float["seeds"]: the share of right answers of every model."""
    found = [score(m, task, length=LENGTH[task], samples=p.samples, seed=s).accuracy
             for m, s in zip(models, seeds, strict=True)]
    return torch.tensor(found).double()


three = p.seeds[:3]
fixed = Stored(A, 10_000, A.length, stream(0, "fixed training set"))
first = as_reported | {"steps": p.reported_steps, "lr": 1e-3, "data": fixed, "schedule": "constant"}
second = {"convolution": 0, "steps": p.second_steps}
bound = {"size": LARGE, "steps": p.bound_steps, "lr": 5e-3}
ON_A = {
    "first attempt, ungated": first, "first attempt, gated": first | FROM_HALF,
    "ungated": second, "gated": second | GATED,
    "softmax attention": second | {"kind": "softmax attention", "steps": p.softmax_steps},
    "ungated, convolution": bound, "gated, convolution": bound | GATED,
}

# %%
watch = {"accuracy": watcher(A, 200)}
on_a = {name: train(A, seeds=three, batch=32, watch=watch, label=name, **arm)
        for name, arm in ON_A.items()}
score_a = {name: scored(models, A, three) for name, (models, _) in on_a.items()}

# %% tags=["nbval-ignore-output"]
LEVELS = {"chance": 1 / 16} | {name.removesuffix(" of the sequence"): level
                               for name, level in A.ceilings.items()}
for names in (list(ON_A)[:2], list(ON_A)[2:]):
    display(figures.accuracy(
        {name: torch.stack([h.watched["accuracy"] for h in on_a[name][1]]) for name in names},
        x=on_a[names[0]][1][0].watched_at, x_title="update", x_log=False, levels=LEVELS,
        title="Task A: right answers",
    ))

# %% [markdown]
# ## Diagnosis: a bag of values
#
# On the plateau nearly every answer is *some* value of the sequence, and right as often as the
# commonest value would be. What is missing is upstream of any read-out: to know which value stood
# beside which key. Below, when each model left the plateau (first above 50 %), and the share of its
# answers that are values of the sequence.


# %%
def says_a_value(model, task=A):
    """How often the answer at a scored step is one of the values of its sequence."""
    shown = task.sample(p.samples, LENGTH[task], stream(0, "values"))
    with torch.no_grad():
        answers = model(shown.inputs).argmax(-1)[shown.mask].unflatten(0, (len(shown.inputs), -1))
    values = shown.inputs[:, 1 : 2 * task.pairs : 2]
    return (answers[:, :, None] == values[:, None]).any(-1).double().mean().item()


def jump(history):
    """The first update after which more than half of the answers are right; inf if never."""
    above = (history.watched["accuracy"] > 0.5).nonzero()
    return history.watched_at[int(above[0])] if len(above) else math.inf


rows = {
    (name, f"seed {seed}"): {
        "accuracy": f"{score_a[name][i]:.3f}", "left the plateau at": jump(history),
        "names some value": f"{says_a_value(models[i]):.3f}",
    }
    for name, (models, histories) in on_a.items()
    for i, (seed, history) in enumerate(zip(three, histories, strict=True))
}

# %% tags=["nbval-ignore-output"]
display(pd.DataFrame(rows).T)
figures.strips({name: torch.tensor([float(jump(h)) for h in histories])
                for name, (_, histories) in on_a.items() if "convolution" in name},
               title="Task A: the update at which a model left the plateau", y_title="update",
               log=False)

# %% [markdown]
# Whom a head reads. At a blank, a model on the plateau spreads its weight over the values; one that
# has the convolution finds the pair whose key was asked for.


# %% tags=["nbval-ignore-output"]
PLACES = [*["key", "value"] * A.pairs, "SEP", *["query", "blank"] * A.queries]
MAPS = [f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2, 3, 4)]


def draw_attention(arm, seed, example):
    model, places = on_a[arm][0][int(seed)], [f"{t}: {name}" for t, name in enumerate(PLACES)]
    shown = A.sample(20, A.length, stream(0, "panel")).inputs[[int(example)]]
    figure = make_subplots(rows=2, cols=4, subplot_titles=MAPS, shared_yaxes=True)
    for layer, inner in enumerate(model.mixers):
        with torch.no_grad():
            maps = attention(inner, model.mixer_inputs(shown, layer))[0]
        for head, weights in enumerate(maps.numpy()):
            figure.add_heatmap(z=weights, x=places, y=places, coloraxis="coloraxis",
                               row=layer + 1, col=head + 1)
    figure.update_yaxes(autorange="reversed").update_xaxes(showticklabels=False)
    return figure.update_layout(height=560, title=f"{arm}: who reads (down) whom (across)",
                                coloraxis={"colorscale": "Viridis", "cmin": 0})


# %% tags=["nbval-ignore-output"]
display(draw_attention("first attempt, ungated", 0, 0))
large = [name for name, arm in ON_A.items() if arm.get("size") == LARGE]
Panel(draw_attention, arm=Choice("model", large[::-1]),
      seed=Slider("seed", 0, 0, len(three) - 1, 1),
      example=Slider("example", 0, 0, 19, 1))

# %% [markdown]
# ## Corrected: where the state is full
#
# Task B, convolution everywhere. Arms share seeds: the same start where shapes agree, and the same
# sequences in the same order. With 16 pairs nothing is learned from scratch in so few updates:
# there, models of 8 pairs are trained on.

# %%
on_b = {name: train(B[8], steps=p.steps, label=name, **arm) for name, arm in ARMS.items()}
score_b = {name: scored(models, B[8]) for name, (models, _) in on_b.items()}


# %%
def task_of(kind):
    """What a mixer is compared on: the smaller task where it learns too slowly for the other."""
    return A if kind in ("gated linear attention", "selective diagonal") else B[8]


# %%
KINDS = {  # and by how much a SwiGLU is wider, to have the parameters of the gate
    "linear attention": 6, "gated linear attention": 6, "selective diagonal": 11,
    "softmax attention": 6,
}
equal = {"cosFormer": (score_b["wider MLP"], score_b["elementwise gate"])}
models_of = {"cosFormer": on_b["elementwise gate"][0]}
skipped = [
    h.skipped for group in (on_a, on_b) for _, histories in group.values() for h in histories
]
for kind, wider in KINDS.items():
    task, pair = task_of(kind), []
    without, with_gate = build(task, 0, kind=kind, wider=wider), build(task, 0, kind=kind, **GATED)
    assert count(without) >= count(with_gate)
    steps = p.steps // 2 if kind == "softmax attention" else p.steps
    for name, arm in (("wider MLP", {"wider": wider}), ("gate", GATED)):
        models, histories = train(task, steps=steps, kind=kind, label=f"{kind}, {name}", **arm)
        pair.append(scored(models, task))
        skipped += [history.skipped for history in histories]
    equal[kind], models_of[kind] = tuple(pair), models

# %%
full = {}
for name in ("ungated", "elementwise gate"):
    start = deepcopy(on_b[name][0])
    models, histories = train(
        B[16], steps=p.full_steps, lr=5e-3, start=start, label=f"16 pairs, {name}"
    )
    full[name] = scored(models, B[16])
    skipped += [history.skipped for history in histories]


# %%
def effect(one, other):
    """Differences other - one of every seed, in points, and the interval of their mean."""
    difference = 100 * (other - one)
    return difference, mean_interval(difference)


def draw_effects(found, title):
    differences = {name: difference for name, (difference, _) in found.items()}
    bounds = {name: interval for name, (_, interval) in found.items()}
    return figures.intervals(differences, bounds, title=title, x_title="points")


effects = {f"8 pairs: {name}": effect(score_b["ungated"], each)
           for name, each in score_b.items() if name != "ungated"}
effects["8 pairs: elementwise gate, against the wider MLP"] = effect(*equal["cosFormer"])
effects["16 pairs: elementwise gate"] = effect(full["ungated"], full["elementwise gate"])


# %% tags=["nbval-ignore-output"]
def by_seed(scores):
    rows = {name: dict(zip(p.seeds, each.tolist(), strict=True)) for name, each in scores.items()}
    return pd.DataFrame(rows).T.assign(mean=lambda table: table.mean(axis=1)).round(3)


display(by_seed(score_b | {f"16 pairs, {name}": each for name, each in full.items()}))
shown = {"8 pairs": (score_b["ungated"], score_b["elementwise gate"]),
         "8 pairs, wider MLP": (score_b["wider MLP"], score_b["elementwise gate"]),
         "16 pairs": (full["ungated"], full["elementwise gate"])}
title = "Task B, cosFormer: every seed, without and with the gate"
display(figures.slopes(shown, ends=("without", "gate"), title=title))
draw_effects(effects, "cosFormer on task B: differences from ungated, mean and 95 % interval")

# %% [markdown]
# **Five mixers, at equal parameters.** The gate against a SwiGLU that is wider by as many
# parameters. Each mixer has its own state; the convolution is the same. No mixer has a gate of its
# own besides. Gated linear attention and the selective diagonal layer learn more slowly; in so few
# updates they hardly leave the plateau of 8 pairs, and are tried on the 4 pairs of task A instead.
# Softmax attention gets half of the updates, so as not to have learned everything.

# %%
by_kind = {kind: effect(*pair) for kind, pair in equal.items()}

# %% tags=["nbval-ignore-output"]
shown = {f"{kind}, {task_of(kind).pairs} pairs": pair for kind, pair in equal.items()}
title = "At equal parameters: every seed"
display(figures.slopes(shown, ends=("wider MLP", "gate"), title=title))
draw_effects(by_kind, "Gate against a wider MLP: every seed, mean and 95 % interval")

# %% tags=["nbval-ignore-output"]
from lab.records import committed  # the full run, for the short one at the defaults

committed.figure("009", "Gate against a wider MLP: every seed, mean and 95 % interval")

# %% [markdown]
# How small an effect could have been seen? Half of the 95 % interval, and what is found four times
# out of five, from the spread of the differences just measured.

# %% tags=["nbval-ignore-output"]
spread = effects["8 pairs: elementwise gate"][0].std().item()
numbers = torch.arange(2, 41)
in_half, in_power = (torch.from_numpy(stdtrit(numbers.numpy() - 1, q)) for q in (0.975, 0.8))
figure = figures.lines(
    {"half of the interval": in_half * spread / numbers.sqrt(),
     "found four times out of five": (in_half + in_power) * spread / numbers.sqrt()},
    x=numbers, x_title="seeds", y_title="points",
    title=f"Paired differences spread by {spread:.1f} points",
)
figure.add_vline(x=len(p.seeds), line={"color": figures.GREY, "dash": "dash"})

# %% [markdown]
# ## Corrected: is the gate a way to read nothing?
#
# With positive weights and a normaliser, $o_t$ is an average of past values and cannot be zero; a
# closed gate makes it zero. Without the normaliser $q_t = 0$ does the same, so that the gate should
# be worth less there. Task C has many steps at which nothing is to be read. The interaction is the
# difference of two differences, seed by seed. Filler comes in little by little: with all of it from
# the start, no arm leaves the plateau in so few updates.


# %%
def growing(update):
    """Steps of a sequence of task C: at first no filler, from 60 % of the updates all of it."""
    grown = (update / p.filler_steps - 0.25) / 0.35
    return C.length + int((LENGTH[C] - C.length) * min(max(grown, 0.0), 1.0))


FOUR = {
    f"{kind}, {what}": {"kind": kind} | arm
    for kind in ("cosFormer", "cosFormer, no normaliser")
    for what, arm in (("ungated", {}), ("gated", GATED))
}
on_c = {name: train(C, steps=p.filler_steps, length=growing, label=name, **arm)
        for name, arm in FOUR.items()}
score_c = {name: scored(models, C) for name, (models, _) in on_c.items()}
skipped += [history.skipped for _, histories in on_c.values() for history in histories]

# %%
one, gate, free, free_gate = score_c.values()
no_op = {
    "with the normaliser": effect(one, gate),
    "without": effect(free, free_gate),
    "difference of the two": effect(free_gate - free, gate - one),
}

# %% tags=["nbval-ignore-output"]
display(by_seed(score_c))
draw_effects(no_op, "Task C: what the gate adds, with and without normaliser")

# %% tags=["nbval-ignore-output"]
committed.figure("009", "Task C: what the gate adds, with and without normaliser")

# %% [markdown]
# Does it close? Gates by what the token is, and the share of the weight that goes to the first
# token. In the first layer all blanks are one token, so that the gate cannot tell them apart.

# %%
NAMES_OF_STEPS = ["key", "value", "SEP", "query", "blank", "filler"]


def kinds_of(inputs):
    """Int64["B T"]: what every step of task C is, as an index into NAMES_OF_STEPS."""
    order = torch.tensor([NAMES_OF_STEPS.index(name) for name in PLACES])
    filler = inputs >= C.first_noise
    place = ((~filler).cumsum(1) - 1).clamp_min(0)
    return torch.where(filler, NAMES_OF_STEPS.index("filler"), order[place])


def looked_at(model):
    """What every step of 100 sequences is, and for every layer what was read, and the gates."""
    inputs = C.sample(100, LENGTH[C], stream(0, "gates")).inputs
    with torch.no_grad():
        layers = [gated(each, model.mixer_inputs(inputs, i)) for i, each in enumerate(model.mixers)]
    return kinds_of(inputs), layers


# %%
def first_token_mass(model):
    """Mean share of the weight that later steps give to the first, by layer."""
    inputs = C.sample(100, LENGTH[C], stream(0, "first token")).inputs
    with torch.no_grad():
        maps = [attention(m, model.mixer_inputs(inputs, i)) for i, m in enumerate(model.mixers)]
    return [weights[:, :, 1:, 0].mean().item() for weights in maps]


mass = {f"{what}, layer {layer + 1}": torch.tensor([first_token_mass(m)[layer] for m in
                                                    on_c[f"cosFormer, {what}"][0]])
        for what in ("ungated", "gated") for layer in (0, 1)}
gates = {seed: looked_at(m) for seed, m in zip(p.seeds, on_c["cosFormer, gated"][0], strict=True)}
closed = {f"seed {seed}": {f"layer {i + 1}": f"{(g < 0.1).double().mean():.1%}"
                           for i, (_, g) in enumerate(layers)}
          for seed, (_, layers) in gates.items()}

# %% tags=["nbval-ignore-output"]
picked = {
    f"layer {layer + 1}, {name}": {
        f"seed {seed}": gates[seed][1][layer][1].mean((-1, -2))[gates[seed][0] == index][:80]
        for seed in three
    }
    for layer in (0, 1) for index, name in enumerate(NAMES_OF_STEPS)
}
title = "Task C: mean gate of a step, by kind of token; three seeds"
display(figures.strips(picked, title=title, y_title="gate", log=False))
display(pd.DataFrame(closed).T.add_suffix(": gates below 0.1"))
figures.strips(mass, title="Task C: weight on the first token, every seed", log=False,
               y_title="weight")

# %% tags=["nbval-ignore-output"]
figure = make_subplots(cols=2, subplot_titles=["layer 1", "layer 2"])
step, layers = gates[p.seeds[0]]
for col, (o, g) in enumerate(layers, start=1):
    for index, name in enumerate(NAMES_OF_STEPS):
        at, marker = step == index, looks.of(NAMES_OF_STEPS)[name].points(5)
        x, y = o.norm(dim=-1).mean(-1)[at][:150].numpy(), g.mean((-1, -2))[at][:150].numpy()
        figure.add_scatter(x=x, y=y, mode="markers", name=name, showlegend=col == 1,
                           marker=marker, row=1, col=col)
figure.update_xaxes(title="norm of what was read").update_yaxes(title="mean gate")
title = "Gate against what there was to let through"
figure.update_layout(height=400, title=title)

# %% [markdown]
# ## What the gate costs
#
# Multiplications and additions of the matrix products, counted, and the time of a forward pass of
# the models of the size reported, 32 sequences, one thread. $D^2$ more weights per layer on $4 D^2
# + 12 D^2$ are 6.25 % more, before attention, head and embedding dilute it.

# %%
HORIZON = 256
COSTS = {"ungated": {}, "elementwise gate": GATED, "headwise gate": {"gate": "headwise"}}


def forwards(T, sequences=32):
    """Calls of a forward pass by arm, on sequences of T steps."""
    shown = torch.randint(A.vocabulary, (sequences, T), generator=stream(0, "speed"))
    large = {"size": LARGE, "positions": T, "convolution": 0}
    models = {name: build(A, 0, **large, **arm) for name, arm in COSTS.items()}
    return {name: torch.no_grad()(partial(model, shown)) for name, model in models.items()}


# %%
flops, times = {}, {}
for T, rounds in ((13, 100), (64, 50), (256, 12)):
    calls = forwards(T)
    flops[T] = pd.Series({name: counted_flops(call) for name, call in calls.items()})
    timed = take_turns(calls, rounds=rounds, budget=0.8, label=f"forward, {T} steps")
    times[T] = pd.Series({name: 1e3 * each.median for name, each in timed.items()})
more = {T: {"FLOPs": flops[T] / flops[T]["ungated"] - 1, "time": times[T] / times[T]["ungated"] - 1}
        for T in flops}
HORIZON = 64
shares = {f"{name}, {T} steps": f"{each['FLOPs'][name]:.2%}"
          for T, each in more.items() for name in list(COSTS)[1:]}
print("FLOPs, more than ungated:", shares)

# %% tags=["nbval-ignore-output"]
display(pd.DataFrame(times).T.rename_axis("steps").add_suffix(", ms").round(3))
pd.concat({T: pd.DataFrame(each).T for T, each in more.items()}).map("{:+.2%}".format)


# %% [markdown]
# ## Panels: states and gains
#
# Everything that a layer stores, over time: heads one after the other, and of softmax attention
# what every step adds to its cache. Gains say what a step leaves of what was stored: 1 throughout
# for cosFormer and linear attention.


# %% tags=["nbval-ignore-output"]
def examples_of(kind):
    """Sequences of the task that a mixer was trained on."""
    return panels.examples(task_of(kind), length=LENGTH[task_of(kind)])


def draw_state(S):
    flat = S.flatten(1)
    titles = ["all of the state, over time", "its size"]
    figure = make_subplots(cols=2, subplot_titles=titles)
    figure.add_heatmap(z=flat.mT.numpy(), colorscale="RdBu", zmid=0, row=1, col=1, showscale=False)
    figure.add_scatter(y=flat.norm(dim=1).numpy(), row=1, col=2, mode="lines+markers")
    figure.update_xaxes(title="step t").update_yaxes(title="norm", row=1, col=2)
    figure.update_yaxes(title="entry of the state", row=1, col=1)
    return figure.update_layout(height=420)


panels.states(models_of, examples_of, draw=draw_state)

# %% tags=["nbval-ignore-output"]
gaining = ["gated linear attention", "selective diagonal", "cosFormer", "linear attention"]
panels.eigenvalues({kind: models_of[kind] for kind in gaining}, examples_of, title="gains")

# %% [markdown]
# ## Recall against the size of the state
#
# Two mixers that come with a gate (SiLU, behind a norm), on the task that all experiments on recall
# share: their rows go into one figure with those of the others.

# %%
own_gate = {"norm": True, "gate": "silu", "convolution": recall_curve.CONVOLUTION}
D = recall_curve.D_MODEL
CURVES = {
    "retention": lambda size, g: MultiHead(
        D, Retention(D, heads=2, d_key=size), generator=g, **own_gate
    ),
    "gated linear attention": lambda size, g: MultiHead(
        D, GatedLinearAttention(D, heads=2, d_key=size, generator=g), generator=g, **own_gate
    ),
}
rows = recall_curve.measure(CURVES, seeds=three, steps=p.curve_steps, samples=p.samples)
evidence.table(recall_curve.TABLE, rows)

# %% tags=["nbval-ignore-output"]
display(pd.DataFrame(rows).drop(columns=["lr", "steps"]).round(3))
levels = {"the commonest value": recall_curve.TASK.ceilings[COMMONEST]}
figures.recall(
    recall_curve.by_state(rows),
    levels=levels,
    needed=rows[0]["bits"] / 8,
    title="Zoology's recall, 8 pairs",
)

# %% tags=["nbval-ignore-output"]
committed.figure("009", "Zoology's recall, 8 pairs")

# %% [markdown]
# ## Criteria and verdict
#
# S1 to S3 and F1 are those of the proposal, on its own setting: they repeat an earlier run and
# decide nothing, and they take the worst seed (S1 the lowest, S2 the highest; F1 the means). With
# the convolution, S1 and S2 are shown as context. S4, F3 and C6 speak of the forward pass at 13
# steps. C3, C4 and C5 ask for the lower end of a 95 % interval; the mean is beside it, with the
# spread of the seeds.

# %%
check = evidence.check


def original(arm, setting, plain, gate):
    """S1 to S3 and F1; with the convolution they are there for the reader."""
    success, failure = ("success", "failure") if arm == "reported" else ("context", "context")
    check("S1", gate.min(), ">", 0.75, arm=arm, kind=success, spread=gate.std(),
          metric=f"gated, {setting}")
    check("S2", plain.max(), "<", 0.55, arm=arm, kind=success, spread=plain.std(),
          metric=f"ungated, {setting}")
    check("S3", (gate - plain).min(), ">", 0.0, arm=arm, kind=success,
          metric=f"gated - ungated, worst seed, {setting}")
    check("F1", (gate.mean() - plain.mean()).abs(), "<", 0.03, arm=arm, kind=failure,
          metric=f"|gated - ungated|, {setting}")


pairs = list(score_a.values())
original("reported", "first attempt", *pairs[:2])
original("reported", "second attempt", *pairs[2:4])
original("corrected", "with convolution", *pairs[5:])

# %%
slower, bad = more[13]["time"]["elementwise gate"], sum(skipped)
plain, softmax = score_a["ungated, convolution"], score_a["softmax attention"]
check("S4", slower, "<", 0.05, metric="time overhead, 13 steps")
check("S4", bad, "==", 0, metric="updates with NaN or Inf, tasks A, B and C")
check("F2", bad, ">", 0, kind="failure", metric="updates with NaN or Inf, tasks A, B and C")
check("F3", slower, ">", 0.1, kind="failure", metric="time overhead, 13 steps")
check("C1", plain.min(), ">", 0.95, metric="ungated with convolution, task A", spread=plain.std())
_ = check("C2", softmax.max(), "<", 0.4, spread=softmax.std(),
          metric="softmax attention without convolution, task A")


# %%
def against_zero(name, found, what, kind="success"):
    """Lower end above 0; mean and upper end are there for the reader. In points."""
    difference, (mean, low, high) = found
    check(name, low, ">", 0.0, kind=kind, metric=f"{what}, lower end, points")
    check(name, mean, ">", 0.0, kind="context", spread=difference.std(), metric=f"{what}, mean")
    check(name, high, ">", 0.0, kind="context", metric=f"{what}, upper end")


wider = "8 pairs: elementwise gate, against the wider MLP"
against_zero("C3", effects["8 pairs: elementwise gate"], "gated - ungated, 8 pairs")
against_zero("C3", effects["16 pairs: elementwise gate"], "gated - ungated, 16 pairs")
against_zero("C4", effects[wider], "gated - wider MLP, 8 pairs")
against_zero("C5", no_op["difference of the two"], "gate with normaliser - without, task C")
for kind, found in list(by_kind.items())[1:]:
    against_zero("E", found, f"gate - wider MLP, {kind}, {task_of(kind).pairs} pairs", "context")

# %%
for T, each in more.items():
    for what, overhead in each.items():
        for name in list(COSTS)[1:]:
            metric = f"{what} of the {name}, more than ungated, {T} steps"
            check("C6", overhead[name], ">", 0.0, kind="context", metric=metric)
levels = {f"{name}, 8 pairs": each for name, each in score_b.items()}
levels |= {f"{name}, 16 pairs": each for name, each in full.items()}
levels |= {f"{name}, task C": each for name, each in score_c.items()}
for name, each in levels.items():
    check("E", each.mean(), ">", 0.5, kind="context", spread=each.std(), metric=f"mean, {name}")

# %%
value, gain = evidence.value, "gated - ungated, 8 pairs"
low, high = value("C3", f"{gain}, lower end, points"), value("C3", f"{gain}, upper end")
told = "above zero" if low > 0 else "below zero" if high < 0 else "not told from zero"
evidence.summary(
    question="Does a sigmoid gate after the read-out help linear attention to recall?",
    finding=(
        f"Without a gate but with a convolution the reported task stands at "
        f"{100 * value('C1', 'ungated with convolution, task A'):.0f} %; on 8 pairs the gate's gain is "
        f"{told} ({value('C3', f'{gain}, mean'):+.1f} points, {low:+.1f} to {high:+.1f})."
    ),
    settles="30 paired seeds on 8 pairs, three learning rates, 1,500 updates, and a learned null slot as the gate's rival.",
    figure="Gate against a wider MLP: every seed, mean and 95 % interval",
    tags=["recall", "linear attention", "gates"], impact=3, cost_h=8,
)

# %% tags=["nbval-ignore-output"]
evidence

# %% tags=["nbval-ignore-output"]
committed.criteria(evidence)

# %% [markdown]
# Statuses that hang on a time, or on a difference that small runs decide at chance level, are left
# out here: another machine may have others.

# %%
ELSEWHERE = (
    "S3 ",
    "S4 (corrected, time",
    "F1 ",
    "F3 ",
    "C3 ",
    "C4 ",
    "C5 ",
    "C6 ",
    "E ",
    "verdict",
)
print("\n".join(s for s in evidence.statuses().splitlines() if not s.startswith(ELSEWHERE)))

# %% [markdown]
# ## What this does not show, and what next
#
# **The answer.** The reported comparison could not have found anything: on its task every model
# without a way to bind neighbouring tokens names the commonest value, softmax attention included,
# and with a convolution there is nothing left for a gate to add. Where there is room, eight pairs
# of runs leave an interval of several points on either side: the criteria C3 to C5 say whether it
# excludes zero. The spread of the seeds is the finding that matters for the next design. Seeds that
# share start and data still part by ten points and more, because the moment at which a model leaves
# the plateau is a matter of luck; the power curve says how many it takes. The control that changes
# the state, one more head, belongs beside every claim for a gate.
#
# **The ceiling of a bag of values.** 33.7 % is for one query. Who remembers the first query when
# the second comes can name the commonest value *not yet asked for*, 36.6 %. That 37.7 ± 5.2 % was
# measured for the ungated model is no sign of recall.
#
# **The mechanism.** Gates do not close by themselves here: in the second layer, where the values
# are read, next to none is below 0.1, and the weight on the first token is small with and without.
# There is no sink to be relieved, because nothing in these tasks asks for a step that reads nothing
# and matters.
#
# **Limits.** Accuracies are after a few hundred updates, so that speed of learning and capacity are
# mixed; with more updates all arms rise. One step size for all arms, where recall is known to be
# learned in a narrow window of them. Task C has four pairs, not eight, and its filler comes by a
# curriculum, and even so its models have only begun to leave the plateau: C5 says little yet. Half
# of the SwiGLU and one alphabet of 32 are shrunk from the proposal. Perplexity, the targets at full
# scale and the sink in a language model need another machine.
#
# **Cost.** The dense gate is 6.1 % of the products at every length, and one gate a head 0.4 %. The clock,
# beside other jobs, says nothing: from 40 % less to 18 % more time for gates of that cost, so that S4 and F3
# have no status to trust in this run.
#
# **Next.** Train to convergence with the same pairing at 30 seeds, with a learned null value as the
# gate's rival, and with a state that varies while the parameters do not.
