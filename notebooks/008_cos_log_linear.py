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
# # 008 · What do a cosine and a hierarchy of states add to linear attention?
#
# **Idea.** Linear attention with two masks multiplied. The weight of a value written at step $s$
# and read at step $t$ is
# $w_{ts} = \phi(q_t)^\top\phi(k_s)\,\cos\frac{\pi (t-s)}{2M}\,\lambda_t^{(\ell(t,s))}$, and
# $o_t = \sum_s w_{ts} v_s / (\sum_s w_{ts} + 10^{-6})$ is read. The cosine is that of cosFormer.
# The levels $\ell$ are those of log-linear attention: a Fenwick tree splits the past into stretches
# of 1, 1, 2, 4, ... steps, each with a state of its own, and $\lambda_t$ says how much each counts.
#
# **Reported before.** On recall of 8 pairs: 91.3 % with both, 25.9 % with the cosine alone, 15.2 %
# with the levels alone, 14.7 % with neither. One seed each. It was read as quality and capacity
# compounding.
#
# **What this notebook shows.** In that task every pair lies in **one** stretch at every query, so
# that the hierarchy cannot add capacity. What it can add is a **token shift**: at every odd step,
# level 1 is the step before and nothing else, which binds each value to its key. A short
# convolution does the same for less. The cosine is nearly constant over the tokens in use. So
# kernel, cosine, hierarchy and binding are taken apart in all 16 combinations, and the hierarchy is
# then tried where it could help: on keys that are written twice.
#
# **Criteria, written before the run.** S1-S4 and F1-F3 of the proposal, C1-C6 of its repair, with
# their thresholds, are in the last section. What would change our mind: an effect of the hierarchy
# or the cosine on recall that stays when something else binds values to keys.

# %% tags=["parameters"]
experiment: str = "008"  # the notebook these parameters belong to
seeds: list[int] = [0, 1]  # one model each, alike in every arm, in [0, 2147483647]
steps: int = 3  # updates per model on 8 pairs, in [2, 1000000]
further_steps: int = 35  # and with other bindings, or softmax attention, in [2, 1000000]
load_steps: int = 3  # updates per model on 4 to 24 pairs, in [2, 1000000]
update_steps: int = 3  # updates per model on keys written twice, in [2, 1000000]
curve_steps: int = 3  # updates per model of the curve over state sizes, in [2, 1000000]
batch: int = 16  # sequences per update on 8 pairs, in [1, 100000]
load_batch: int = 16  # sequences per update on 4 to 24 pairs, in [1, 100000]
update_batch: int = 16  # sequences per update on keys written twice, in [1, 100000]
samples: int = 200  # sequences that a score is the mean over, in [50, 1000000]
longest: int = 128  # steps at which time and memory are measured at most, in [64, 65536]

# %%
import lab

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %%
import itertools
import math
from dataclasses import asdict
from functools import partial

import pandas as pd
import plotly.graph_objects as go
import torch
from IPython.display import display

from lab import audit
from lab.audit import read_out
from lab.audit.state_size import state_bytes
from lab.benchmark import recall_curve
from lab.benchmark.saved_activations import saved_activation_bytes
from lab.benchmark.timing import growth, take_turns
from lab.evidence import Evidence
from lab.linalg.fenwick import fenwick_product, level_count, level_map, split
from lab.memories import CosFormer, LinearAttention, LogLinearAttention, SoftmaxAttention
from lab.mixers import MultiHead
from lab.model import SequenceModel, SwiGLU
from lab.plots import figures, panels
from lab.plots.panels import Choice, Panel, Slider
from lab.seeding import stream
from lab.statistics import contrast, contrasts, mean_interval
from lab.tasks import Recall
from lab.tasks.by_length import ByLength
from lab.tasks.retrieval import COMMONEST
from lab.train import fit_together, score

torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way
D, H, WIDTH, LEVELS, M = 32, 2, 16, 9, 128
evidence = Evidence(
    "008", title="Cosine-reweighted log-linear attention",
    reported={"linear attention": 0.147, "cosFormer": 0.259, "log-linear attention": 0.152,
              "cosine and levels": 0.913},
    parameters=asdict(p), seeds=p.seeds,
)

# %% [markdown]
# ## Is the task what we think it is?
#
# Eight pairs of key and value, a separator, the eight keys in another order; the target at each is
# its value. 62 symbols serve as keys and values. The earlier runs padded all this from 25 tokens to
# 128: the padding follows the last query, and a causal model cannot tell.

# %%
recall = Recall(pairs=8, queries=8, symbols=62)
T = recall.length
report = audit.task(recall, length=T)
print("tokens:", T, "· vocabulary:", recall.vocabulary)
print(f"chance {recall.chance_accuracy(T)[-1]:.1%};", "; ".join(
    f"{name} {level:.1%}" for name, level in recall.ceilings.items()))

# %% tags=["nbval-ignore-output"]
display(report)
panels.targets(
    recall, length=T, symbols=["·", "SEP", *map(str, range(62))],
    title="Pairs, separator, queries",
)

# %% [markdown]
# All guesses of 14 to 17 % are the same knowledge: which values there were, and not whose they are.
# **Three of the four earlier results lie on that plateau or little above it.**
#
# ## The figure that decides: who is in which stretch
#
# Rows read, columns write; a colour is a level. At every query (and for 4, 16 or 32 pairs as for 8)
# all pairs are one block of one colour: for a given $\lambda_t$, reading it is linear attention.
# The white dots are level 1 as the values see it.


# %%
def levels_of_pairs(pairs):
    """The levels that hold the pairs, over all queries."""
    queries = range(2 * pairs + 1, 3 * pairs + 1)
    levels = level_map(3 * pairs + 1)
    return [levels[t, : 2 * pairs].unique().tolist() for t in queries]


for pairs in (4, 8, 16, 24, 32):
    found = levels_of_pairs(pairs)
    print(f"{pairs} pairs: in one stretch at", sum(len(each) == 1 for each in found),
          "of", len(found), "queries")
print("at every odd step, level 1 is the step before alone:",
      all(split(t)[1] == range(t - 1, t) for t in range(1, M, 2)))
with_key_alone = sum(
    split(t, inclusive=True).get(1) == range(t - 1, t + 1) for t in range(1, 2 * recall.pairs, 2)
)
print("in the earlier code's levels, values whose level 1 is their key and they:",
      with_key_alone, "of", recall.pairs)

# %% tags=["nbval-ignore-output"]
SHOWN = 33
levels = level_map(SHOWN).float()
figure = go.Figure(go.Heatmap(z=levels.where(levels >= 0, torch.nan).numpy(), colorscale="Turbo",
                              colorbar={"title": "level"}))
values = list(range(1, 2 * recall.pairs, 2))
figure.add_scatter(x=[t - 1 for t in values], y=values, mode="markers", name="key of a value",
                   marker={"color": "white", "size": 6})
for t, name in ((15.5, "pairs"), (16.5, "SEP"), (24.5, "queries")):
    figure.add_hline(y=t, line={"color": figures.GREY, "dash": "dot"}, annotation_text=name,
                     annotation_position="bottom right")
figure.update_layout(title="Level of the step s that is read at step t", width=620, height=560)
figure.update_xaxes(title="s, written").update_yaxes(
    title="t, read", autorange="reversed", scaleanchor="x"
)

# %% [markdown]
# ## The cosine over the tokens in use
#
# With $M = 128$ it falls to 0.96 over the 24 steps that matter. $M$ must be a constant: the angle
# $\pi s/2M$ goes into a state when token $s$ is written. The earlier code, like the one published
# with cosFormer, sets it to the length of the sequence: what is read from the first 32 tokens then
# depends on whether 32 more will follow.


# %%
def prefix_change(horizons):
    """Relative change of what is read in the first 32 of 64 steps when the rest is left out."""
    draw = partial(torch.randn, generator=stream(0, "prefix"), dtype=torch.float64)
    q, k, v, x = draw(4, H, 64, WIDTH), draw(4, H, 64, WIDTH), draw(4, H, 64, WIDTH), draw(4, 64, D)
    short, whole = (CosFormer(D, heads=H, d_key=WIDTH, horizon=horizon) for horizon in horizons)
    before = short(*(part[:, :, :32] for part in (q, k, v)), x[:, :32])
    after = whole(q, k, v, x)[:, :, :32]
    return ((after - before).norm() / before.norm()).item()


def two_forms_gap():
    """Between cosFormer as two states and its weights with the cosine written out, in float64."""
    draw = partial(torch.randn, generator=stream(0, "cosine"), dtype=torch.float64)
    q, k, v, x = draw(4, H, 64, WIDTH), draw(4, H, 64, WIDTH), draw(4, H, 64, WIDTH), draw(4, 64, D)
    apart = torch.arange(64)[:, None] - torch.arange(64)
    weights = ((q.relu() @ k.relu().mT) * (math.pi / 2 / M * apart).cos()).tril()
    direct = weights @ v / weights.sum(-1, keepdim=True).clamp(min=1e-10)
    memory = CosFormer(D, heads=H, d_key=WIDTH, horizon=M)
    return (memory(q, k, v, x) - direct).abs().max().item()


distance = torch.arange(129)
cosine = (math.pi / 2 * distance / M).cos()
print("cosine at distance 1, 8, 16, 24, 64:",
      [f"{cosine[i]:.4f}" for i in (1, 8, 16, 24, 64)])
print(f"a prefix of 32 in 64, M = T: changes by {prefix_change((32, 64)):.1%};",
      f"M = 128: by {prefix_change((M, M)):.1%}")
print("two states = the cosine written out, within 1e-6:", two_forms_gap() < 1e-6)

# %% tags=["nbval-ignore-output"]
figure = figures.lines({"M = 128": cosine}, x=distance, x_title="distance, tokens",
                       y_title="factor", title="The cosine; shaded: distances in use")
figure.add_vrect(x0=0, x1=T - 1, fillcolor=figures.COLOURS[0], opacity=0.12, line_width=0)

# %% [markdown]
# ## Is the model what we think it is?
#
# Two layers of width 32, two heads of 16, each followed by a SwiGLU of 128. The levels cost a
# linear map from $x_t$ to 9 numbers a head. In the audits: causality, and that the parallel form is
# the step form, which holds one matrix per level that is not empty.


# %%
def mixer(generator, relu=False, cosine=False, hierarchy=False, convolution=False, *, favoured=None,
          shift=False, softmax=False, inclusive=False, d_key=WIDTH):
    """One layer of an arm."""
    feature = "relu" if relu else "elu"
    memory = LinearAttention(D, heads=H, d_key=d_key, d_value=WIDTH, feature=feature)
    if cosine:
        memory = CosFormer(D, heads=H, d_key=d_key, d_value=WIDTH, horizon=M, feature=feature)
    if hierarchy:
        memory = LogLinearAttention(D, memory, levels=LEVELS, favoured=favoured,
                                    inclusive=inclusive, generator=generator)
    if softmax:
        memory = SoftmaxAttention(D, heads=H, d_key=WIDTH)
    return MultiHead(D, memory, bias=True, convolution=3 if convolution else 0, shift=shift,
                     generator=generator)


def build(task, seed, *factors, positions=M, favoured=None, **settings):
    generator = stream(seed, "init")
    mixers = [mixer(generator, *factors, favoured=favoured if layer == 0 else None, **settings)
              for layer in range(2)]
    channels = [SwiGLU(D, 128, generator=generator) for _ in mixers]
    sizes = task.vocabulary, task.classes, D
    return SequenceModel(
        *sizes, mixers, channels=channels, positions=positions, generator=generator
    )


# %%
COUNTS = {  # factors: ReLU, cosine, hierarchy, convolution
    "linear attention": ((0, 0, 0, 0), 41440),
    "cosFormer": ((1, 1, 0, 0), 41440),
    "log-linear": ((0, 0, 1, 0), 42628),
    "cosine and levels": ((1, 1, 1, 0), 42628),
    "linear attention, convolution": ((0, 0, 0, 1), 42208),
}
audits = {
    name: audit.model(build(recall, 0, *factors).double(), recall, length=T, parameters=count)
    for name, (factors, count) in COUNTS.items()
}
print({name: each["real parameters"] for name, each in audits.items()})
tokens = recall.sample(20, M, stream(0, "padding")).inputs
model = build(recall, 0, 1, 1, 1, 0)
padding = (model(tokens)[:, :T] - model(tokens[:, :T])).abs().max().item()
print("padding after the queries moves their scores by less than 1e-4:", padding < 1e-4)

# %% tags=["nbval-ignore-output"]
display(audits["cosine and levels"])
sizes = {name: state_bytes(build(recall, 0, *factors), tokens[:, :T]) // 4
         for name, (factors, _) in COUNTS.items()}
pd.Series(sizes, name="state after 25 tokens, numbers (with the sums of weights)").to_frame()

# %% [markdown]
# Two consequences of the formula, before any training. **The softmax over levels couples nothing**:
# $o_t$ is a ratio, and the denominator of the softmax is in both halves. **One matrix is read**:
# for given $\lambda_t$ it is
# $(\sum_\ell \lambda_t^{(\ell)} S_t^{(\ell)})^\top \phi(q_t)$, with a matrix of rank 16 at most.
# More states help only a query that knows when its key was written.
#
# ## All sixteen combinations, and as reported
#
# The four arms of the earlier runs use that code's levels, which count step $t$ in. They are
# trained for as many updates as all others here, far fewer than the 12,400 of the earlier runs, at
# a higher learning rate. Further arms: the levels with $\lambda$ biased towards level 1 in the
# first layer (one initial value changed); a fixed shift of the keys by a token; softmax attention.

# %%
EACH = tuple(itertools.product((0, 1), repeat=4))
FACTORS = ("ReLU", "cosine", "hierarchy", "convolution")
BIASED, BOTH_BIASED = "elu, levels, biased to level 1", "ReLU, cosine, levels, biased to level 1"
REPORTED = {
    "linear attention": ((0, 0, 0, 0), {}),
    "cosFormer": ((1, 1, 0, 0), {}),
    "log-linear": ((0, 0, 1, 0), {"inclusive": True}),
    "cosine and levels": ((1, 1, 1, 0), {"inclusive": True}),
}
FURTHER = {
    BIASED: ((0, 0, 1, 0), {"favoured": 1}),
    BOTH_BIASED: ((1, 1, 1, 0), {"favoured": 1}),
    "elu, keys shifted by a token": ((0, 0, 0, 0), {"shift": True}),
    "softmax attention": ((0, 0, 0, 0), {"softmax": True}),
}
LR = {BIASED: 1e-2, BOTH_BIASED: 1e-2, "softmax attention": 1e-2}  # others: 2e-2


def name_of(factors):
    """The arm in words."""
    relu, cosine, hierarchy, convolution = factors
    words = ["ReLU" if relu else "elu", "cosine" * cosine, "levels" * hierarchy,
             "convolution" * convolution]
    return ", ".join(word for word in words if word)


# %% [markdown]
# What is watched: accuracy; in the first layer, how much of what a value reads comes from its key
# (the better head); in the second, how much of what a query reads comes from the right value; the
# smallest sum of weights, which is only guaranteed not to be negative.

# %%
watched = recall.sample(60, T, stream(0, "watched"))
KEYS, VALUES, QUERIES = slice(0, 16, 2), slice(1, 16, 2), slice(17, T)
PLACE = (watched.inputs[:, QUERIES, None] == watched.inputs[:, None, KEYS]).int().argmax(-1)


def attention(model, tokens, layer):
    """["B H T T"]: the weights with which values are averaged."""
    return read_out.attention(model.mixers[layer], model.mixer_inputs(tokens, layer))


def binding(model):
    """[3]: accuracy, mass of values on their keys, mass of queries on the right value."""
    tokens, targets, mask = watched
    right = (model(tokens).argmax(-1) == targets)[mask].float().mean()
    first, second = (attention(model, tokens, layer).mean(0) for layer in (0, 1))
    on_keys = first[:, VALUES, KEYS].diagonal(dim1=1, dim2=2).mean(1).max()
    per_query = attention(model, tokens, 1)[:, :, QUERIES, VALUES]
    chosen = PLACE[:, None, :, None].expand(-1, H, -1, 1)
    return torch.stack([right, on_keys, per_query.gather(-1, chosen).mean((0, 2, 3)).max()])


def least_sum(model):
    """[]: the smallest sum of weights in the first layer, before levels and cosine."""
    x, layer = model.mixer_inputs(watched.inputs), model.mixers[0]
    q, k, _ = layer.heads(x)
    inner = getattr(layer.memory, "inner", layer.memory)
    if isinstance(inner, SoftmaxAttention):
        return torch.ones(())
    steps = torch.arange(T)
    return (inner.features(q, steps) @ inner.features(k, steps).mT).tril().sum(-1).min()


# %%
def train(task, factors, settings, *, steps, batch, lr, lengths, watch=None, label=""):
    """Models and histories of one arm."""
    models = [build(task, seed, *factors, **settings) for seed in p.seeds]
    histories = fit_together(
        models, [task] * len(models), seeds=p.seeds, steps=steps, batch=batch, length=lengths,
        lr=lr, schedule="warmup-cosine", optimizer=partial(torch.optim.AdamW, weight_decay=0.01),
        decay="all", clip=1.0, skip_nonfinite=True, device="cpu", watch=watch, label=label,
        watch_every=max(5, steps // 12),
    )
    return models, histories


WATCH = {"binding": binding, "least sum": least_sum}
on_recall = partial(train, recall, steps=p.steps, batch=p.batch, lengths=T, watch=WATCH)
arms = {f: on_recall(f, {}, lr=2e-2, label=name_of(f)) for f in EACH}
reported = {
    name: on_recall(f, settings, lr=2e-2, label=name) if settings else arms[f]
    for name, (f, settings) in REPORTED.items()
}
further = {
    name: on_recall(f, settings, steps=p.further_steps, lr=LR.get(name, 2e-2), label=name)
    for name, (f, settings) in FURTHER.items()
}


# %%
def scores(models, task, length):
    """Float["seeds"]: share of right answers."""
    scored = partial(score, task=task, length=length, samples=p.samples)
    return torch.tensor([scored(m, seed=s).accuracy for m, s in zip(models, p.seeds, strict=True)])


trained = {name_of(f): arm for f, arm in arms.items()} | further
trained |= {f"as reported: {name}": arm for name, arm in reported.items()}
correct = {name: scores(models, recall, T) for name, (models, _) in trained.items()}


def table(values):
    """Percent by arm, a column per seed."""
    rows = {name: {f"seed {s}": f"{100 * x:.1f}" for s, x in zip(p.seeds, each, strict=True)}
            for name, each in values.items()}
    return pd.DataFrame(rows).T


def updates_to(level, histories):
    """The updates after which accuracy first was above a level, of every seed; a dash if never."""
    found = []
    for history in histories:
        above = (history.watched["binding"][:, 0] > level).nonzero()
        found.append(str(history.watched_at[int(above[0])]) if len(above) else "-")
    return " ".join(found)


# %% tags=["nbval-ignore-output"]
shown = table(correct)
shown["updates to 50 %"] = [updates_to(0.5, histories) for _, histories in trained.values()]
display(shown)
plateau = {"chance": 1 / recall.answers, "commonest value": recall.ceilings[COMMONEST]}
figures.strips(correct, log=False, limits=plateau, y_title="accuracy", solved=0.95,
               title="8 pairs: every arm, every seed")

# %% tags=["nbval-ignore-output"]
from lab.records import committed  # the full run, for the short one at the defaults

committed.figure("008", "8 pairs: every arm, every seed")

# %% [markdown]
# The arms fall in two groups. Those in which something binds a value to the key before it (a
# convolution, a shift, $\lambda$ set to level 1 at the start) recall; the others stay on the
# plateau, with or without cosine and levels. The one-state baseline that was reported at 14.7 % is
# on a par with everything else once it has a convolution.

# %%
cells = torch.stack([correct[name_of(f)] for f in EACH]).view(2, 2, 2, 2, -1)


def draw_effects(values, factors, title):
    """Effects and interactions of two, every difference a dot, with 95 % intervals."""
    differences = contrasts(values, factors)
    found = {name: mean_interval(each) for name, each in differences.items()}
    return figures.intervals(differences, found, title=title, x_title="change of accuracy")


# %% tags=["nbval-ignore-output"]
bound = cells[:, :, :, 1]  # with the convolution
for values, what in ((cells, "all 16 arms"), (bound, "the 8 with the convolution")):
    factors = FACTORS[: values.ndim - 1]
    display(draw_effects(values, factors, f"8 pairs, {what}: effects and interactions"))

# %% [markdown]
# ## Diagnosis: binding first, recall after
#
# What a wrong answer is tells what is missing. On the plateau nearly all answers are values of the
# sequence: the bag of values is known. With binding, what is left over is crosstalk between keys.


# %%
def answers(models):
    """Shares, over all seeds: right, another value of the sequence, neither."""
    examples = recall.sample(200, T, stream(1, "answers"))
    with torch.no_grad():
        said = torch.stack([model(examples.inputs).argmax(-1)[:, QUERIES] for model in models])
    right = said == examples.targets[:, QUERIES]
    known = (said[..., None] == examples.inputs[:, None, VALUES]).any(-1)
    shares = [right, known & ~right, ~known]
    names = ("right", "another value of the sequence", "neither")
    return {n: f"{100 * s.float().mean():.1f} %" for n, s in zip(names, shares, strict=True)}


def by_pair(models):
    """Float["seeds 8"]: accuracy on the first to the eighth pair written."""
    place = torch.nn.functional.one_hot(PLACE, recall.pairs).float()
    with torch.no_grad():
        said = torch.stack([model(watched.inputs).argmax(-1)[:, QUERIES] for model in models])
    right = (said == watched.targets[:, QUERIES]).float()
    return torch.einsum("sbq,bqp->sp", right, place) / place.sum((0, 1))


# %% tags=["nbval-ignore-output"]
CHOSEN = ["elu, levels", BIASED, "elu, convolution", "elu, keys shifted by a token",
          "ReLU, cosine, levels", BOTH_BIASED, "ReLU, cosine, levels, convolution"]
display(pd.DataFrame({name: answers(trained[name][0]) for name in CHOSEN}).T)
display(figures.accuracy({name: by_pair(trained[name][0]) for name in CHOSEN[:3]},
                         x_title="place of the pair", title="Accuracy by pair"))
for name in ("elu, levels", BIASED):
    histories = trained[name][1]
    seen = torch.stack([history.watched["binding"] for history in histories])
    parts = ("accuracy", "values on their keys, layer 1", "queries on the right value, layer 2")
    curves = {part: seen[:, :, i] for i, part in enumerate(parts)}
    display(figures.accuracy(curves, x=[1 + at for at in histories[0].watched_at],
                             x_title="updates + 1", title=name))

# %% [markdown]
# The same model, the same weights at the start but for two numbers: with $\lambda$ at level 1,
# values read their keys from the first update on, and the second layer has something to find. The
# learned $\lambda$, at value positions in the first layer and at queries in the second:


# %% tags=["nbval-ignore-output"]
def learned_levels(models, layer, steps, tokens=watched.inputs):
    """["levels"] mean over seeds, heads, sequences and steps of lambda."""
    found = []
    for model in models:
        with torch.no_grad():
            x = model.mixer_inputs(tokens, layer)[:, steps]
            found.append(model.mixers[layer].memory.level_weights(x).mean((0, 1, 2)))
    return torch.stack(found).mean(0)


display(figures.lines(
    {f"{name}: {where}": learned_levels(trained[name][0], layer, steps)
     for name in ("elu, levels", BIASED, "elu, levels, convolution")
     for where, layer, steps in (("values, layer 1", 0, VALUES), ("queries, layer 2", 1, QUERIES))},
    x_title="level", y_title="λ", title="Learned weights of levels, mean over seeds",
).update_traces(mode="lines+markers"))
smallest = {name: torch.stack([h.watched["least sum"].min() for h in histories])
            for name, (_, histories) in trained.items() if name.startswith("ReLU")}
low = {name: {f"seed {s}": f"{x:.1e}" for s, x in zip(p.seeds, each, strict=True)}
       for name, each in smallest.items()}
pd.DataFrame(low).T.rename_axis("smallest sum of weights")

# %% [markdown]
# ## Corrected: more pairs, with something that binds
#
# One model learns 4, 8, 16 and 24 pairs at once, a length an update. All arms have the convolution.

# %%
LOADS = {Recall(n, n, 62).length: n for n in (4, 8, 16, 24)}
loads = ByLength({length: Recall(n, n, 62) for length, n in LOADS.items()})
LOAD_ARMS = {name_of((0, c, h, 1)): ((0, c, h, 1), {}) for c in (0, 1) for h in (0, 1)}
LOAD_ARMS |= {"cosFormer, convolution": ((1, 1, 0, 1), {}),
              "softmax attention, convolution": ((0, 0, 0, 1), {"softmax": True})}
loaded = {
    name: train(loads, f, settings, steps=p.load_steps, batch=p.load_batch, lengths=list(LOADS),
                lr=1e-2 if "softmax" in name else 2e-2, label=name)
    for name, (f, settings) in LOAD_ARMS.items()
}
by_load = {
    name: torch.stack([scores(models, loads.at(length), length) for length in LOADS], dim=1)
    for name, (models, _) in loaded.items()
}

# %% tags=["nbval-ignore-output"]
figures.accuracy(by_load, x=list(LOADS.values()), x_title="pairs",
                 title="Recall against load, all arms with the convolution")

# %% tags=["nbval-ignore-output"]
committed.figure("008", "Recall against load, all arms with the convolution")

# %% [markdown]
# ## Corrected: where the time scale matters
#
# Eight pairs, then four of the keys again with new values; asked for is the latest. Old and new are
# now in different stretches, steps 0 to 15 and 16 to 23, and a query that prefers the shorter one
# gets the new value. No position embeddings, which would serve as time stamps. One thing to know
# beforehand: the last query is step 32, a power of two, at which all 32 steps before are one
# stretch.

# %%
update = Recall(pairs=8, queries=8, symbols=62, rewritten=4)
for t in (25, 31, 32):
    print(f"step {t}: levels of old and new", [
        level_map(update.length)[t, part].unique().tolist() for part in (slice(16), slice(16, 24))
    ])
print({name: f"{level:.1%}" for name, level in update.ceilings.items()})


# %%
def split_scores(models):
    """Float["4 seeds"]: accuracy on updated keys, untouched ones, updated ones asked last, all."""
    rows = []
    for model, seed in zip(models, p.seeds, strict=True):
        examples = update.sample(p.samples, update.length, stream(seed, "scoring"))
        with torch.no_grad():
            right = model(examples.inputs).argmax(-1) == examples.targets
        new = update.rewritten_steps(examples)
        last = new & (torch.arange(update.length) == update.length - 1)
        masks = new, examples.mask & ~new, last, examples.mask
        rows.append(torch.stack([right[mask].float().mean() for mask in masks]))
    return torch.stack(rows, dim=1)


UPDATE_ARMS = {(c, h): name_of((0, c, h, 1)) for c in (0, 1) for h in (0, 1)}
updated = {
    name: train(update, (0, c, h, 1), {"positions": 0}, steps=p.update_steps, lr=1e-2,
                batch=p.update_batch, lengths=update.length, label=name)
    for (c, h), name in UPDATE_ARMS.items()
}
latest = {name: split_scores(models) for name, (models, _) in updated.items()}
both_kinds = torch.stack([latest[name] for name in UPDATE_ARMS.values()], dim=1)
both_kinds = both_kinds.unflatten(1, (2, 2))  # kinds of keys, cosine, hierarchy, seeds

# %% tags=["nbval-ignore-output"]
parts = ("updated keys", "untouched keys", "updated, asked last", "all keys")
display(pd.concat({part: table({name: each[i] for name, each in latest.items()})
                   for i, part in enumerate(parts)}, axis=1))
losses = {
    name: torch.stack([h.loss for h in histories]) for name, (_, histories) in updated.items()
}
display(figures.losses(losses, title="Keys written twice: training loss"))
for i, part in enumerate(parts[:2]):
    display(draw_effects(both_kinds[i], ("cosine", "hierarchy"), part))

# %% tags=["nbval-ignore-output"]
seen = update.sample(60, update.length, stream(0, "watched")).inputs
figures.lines(
    {f"{where}, layer {layer + 1}": learned_levels(
        updated[UPDATE_ARMS[0, 1]][0], layer, steps, seen)
     for layer in (0, 1)
     for where, steps in (("queries but the last", slice(25, 32)), ("the last", slice(32, 33)))},
    x_title="level", y_title="λ", title="Keys written twice: λ at queries, mean over seeds",
).update_traces(mode="lines+markers")

# %% [markdown]
# The hierarchy does here what it can do: in the second layer it prefers the stretch of the new
# values (level 4) to that of the old (level 5), and updated keys gain. Two limits show. $\lambda_t$
# sees the query and not when its key was written, so that the preference is one for all keys: in
# two seeds of three, **untouched keys pay for what updated keys gain**, and all keys together lose (on
# the mean of three seeds they gain 3 points, with a half-width of 14). And the last query, for which all 32 steps are one stretch, does worse than with no
# hierarchy at all.
#
# ## What it costs: time, memory for training, state
#
# Forward and backward of one layer's memory, 4 sequences, on one thread; what autograd keeps in
# between; and the state of the step form. From all pairs of steps, log-linear attention needs
# memory of $T^2$; in chunks of 32 steps and sums of chunks, time and memory are $T \log T$.


# %%
def calls(length):
    """What is timed, by name: forward and backward on random q, k, v."""
    draw = partial(torch.randn, generator=stream(length, "speed"))
    q, k, v = (draw(4, H, length, WIDTH).requires_grad_() for _ in range(3))
    x = draw(4, length, D)
    levels = level_count(length)
    plain = LinearAttention(D, heads=H, d_key=WIDTH)
    cos = CosFormer(D, heads=H, d_key=WIDTH, horizon=length)
    log, both = (LogLinearAttention(D, inner, levels=levels) for inner in (plain, cos))

    def pairs(q, k, v, x):
        steps, weights = torch.arange(length), log.level_weights(x).movedim(-2, 1)
        return fenwick_product(plain.features(q, steps), plain.features(k, steps), v, weights)

    forms = {"softmax attention": SoftmaxAttention(D, heads=H, d_key=WIDTH), "cosFormer": cos,
             "log-linear, all pairs": pairs, "log-linear, chunks": log,
             "cosine and levels, chunks": both}
    return {name: partial(form, q, k, v, x) for name, form in forms.items()}


SIZES = [64 * 2**i for i in range(int(math.log2(p.longest / 64)) + 1)]
seconds, kept = {}, {}
for length in SIZES:
    forwards = calls(length)
    both_ways = {n: lambda f=f: f().square().sum().backward() for n, f in forwards.items()}
    timings = take_turns(both_ways, rounds=5, budget=0.4, label=f"{length} steps")
    for name, forward in forwards.items():
        seconds.setdefault(name, {})[length] = 1e3 * timings[name].median
        kept.setdefault(name, {})[length] = saved_activation_bytes(forward) / 2**20

# %%
STREAMED = {"softmax attention": (0, 0, 0), "cosFormer": (1, 1, 0), "log-linear": (0, 0, 1),
            "cosine and levels": (1, 1, 1)}


def streamed(name, length):
    """The step form of an arm, as one layer for as many levels as it takes."""
    relu, cosine, hierarchy = STREAMED[name]
    feature = "relu" if relu else "elu"
    memory = CosFormer(D, heads=H, d_key=WIDTH, horizon=length) if cosine else LinearAttention(
        D, heads=H, d_key=WIDTH, feature=feature)
    memory = LogLinearAttention(D, memory, levels=level_count(length)) if hierarchy else memory
    memory = SoftmaxAttention(D, heads=H, d_key=WIDTH) if name.startswith("softmax") else memory
    return MultiHead(D, memory, bias=True)


STREAMED_TO = [*SIZES[::2], 4 * SIZES[-1]]
inputs = torch.randn(1, STREAMED_TO[-1], D, generator=stream(0, "state"))
held = {name: {n: state_bytes(streamed(name, n), inputs[:, :n]) for n in STREAMED_TO}
        for name in STREAMED}
live = torch.tensor([len(split(t)) for t in range(STREAMED_TO[-1])])
assert all(live[t] <= math.ceil(math.log2(t + 1)) + 1 for t in range(len(live)))
print(pd.DataFrame(held).rename_axis("steps").to_string())
memory_share = held["log-linear"][STREAMED_TO[-1]] / held["softmax attention"][STREAMED_TO[-1]]

# %% tags=["nbval-ignore-output"]
for values, what in ((seconds, "forward and backward, ms"), (kept, "kept for backward, MiB")):
    display(figures.scaling(values, x_title="steps T", y_title=what, title=what))
display(figures.scaling(held, x_title="steps T", y_title="bytes of state",
                        title="The state of the step form, at its largest"))
display(figures.lines({"live states": live[:256], "ceil(log2(t+1)) + 1":
                       torch.arange(1, 257).log2().ceil()[: len(live)] + 1},
                      dashed=["ceil(log2(t+1)) + 1"], x_title="step t", y_title="states",
                      title="States that the step form holds after step t"))
pd.DataFrame({name: {"time grows with T to the power": growth(SIZES, list(seconds[name].values())),
                     "memory": growth(SIZES, list(kept[name].values()))}
              for name in seconds}).T.round(2)

# %% [markdown]
# ## Recall against state size, by the protocol that all mixers share

# %%
rows = recall_curve.measure(
    {
        "cosFormer": lambda size, g: MultiHead(
            D, CosFormer(D, heads=H, d_key=size, d_value=WIDTH, horizon=M),
            convolution=recall_curve.CONVOLUTION, generator=g),
        "log-linear attention": lambda size, g: MultiHead(
            D, LogLinearAttention(
                D, LinearAttention(D, heads=H, d_key=size, d_value=WIDTH), levels=LEVELS,
                generator=g),
            convolution=recall_curve.CONVOLUTION, generator=g),
    },
    seeds=p.seeds, steps=p.curve_steps, samples=p.samples,
)
evidence.table(recall_curve.TABLE, rows)

# %% tags=["nbval-ignore-output"]
figures.recall(
    recall_curve.by_state(rows), levels=recall_curve.TASK.ceilings,
    needed=recall_curve.TASK.bits(recall_curve.TASK.length) / 8,
    title="Recall of 8 pairs against state, Zoology's layout",
)

# %% tags=["nbval-ignore-output"]
committed.figure("008", "Recall of 8 pairs against state, Zoology's layout")

# %% [markdown]
# ## Panels: states and gains
#
# The norm of the state of every level after every step of a sequence, trained models: what a level
# holds moves up when it is full. And the eigenvalues of the matrix by which a step maps the levels:
# 1 for those it leaves alone, 0 for those it merges.

# %% tags=["nbval-ignore-output"]
PANEL_ARMS = [BIASED, "elu, levels, convolution", "ReLU, cosine, levels, convolution"]
by_arm = {arm: trained[arm][0] for arm in PANEL_ARMS}


def draw_levels(S):
    norms = S.flatten(2).norm(dim=-1)
    figure = go.Figure(go.Heatmap(z=norms.mT.numpy(), colorscale="Viridis"))
    figure.update_xaxes(title="step t").update_yaxes(title="level")
    return figure.update_layout(height=380)


panels.states(
    by_arm, panels.examples(recall, length=T), draw=draw_levels, title="norm of each level's state"
)

# %% tags=["nbval-ignore-output"]
panels.eigenvalues(by_arm, panels.examples(recall, length=T), title="gains of levels")


# %% tags=["nbval-ignore-output"]
def draw_attention(arm, layer, head):
    shown = recall.sample(20, T, stream(0, "panel")).inputs[:1]
    with torch.no_grad():
        weights = attention(trained[arm][0][0], shown, int(layer))[0, int(head)]
    figure = go.Figure(go.Heatmap(z=weights.numpy(), colorscale="Blues"))
    figure.update_xaxes(title="s, written")
    figure.update_yaxes(title="t, read", autorange="reversed")
    return figure.update_layout(title=f"{arm}: what is averaged", width=560, height=520)


Panel(draw_attention, arm=Choice("model", CHOSEN), layer=Slider("layer", 0, 0, 1, 1),
      head=Slider("head", 0, 0, H - 1, 1))

# %% [markdown]
# ## Criteria and verdict
#
# S1 to F3 are applied twice: to the earlier code's levels (`reported`), and to the published ones
# (`corrected`), worst seed. F1 and F2 take the differences of paired seeds. S4 and F3 count updates
# that were left out because something was not finite, and scores that are not at 128 tokens. C1 and
# C2 take the worst seed. C3 and C4 are mean differences over seeds and the cells of the other
# factors; C5 and C6 over seeds (and, for C5, both settings of the cosine), with 95 %
# intervals.


# %%
def not_finite(arms):
    """Updates left out, and scores at 128 tokens that are not finite."""
    left_out = sum(history.skipped for _, histories in arms for history in histories)
    with torch.no_grad():
        bad = sum(int((~m(tokens).isfinite()).sum()) for models, _ in arms for m in models)
    return left_out, bad


def original(arm, both, cosine, log, histories):
    """S1 to F3 for one convention of levels."""
    check = partial(evidence.check, arm=arm)
    check("S1", both.min(), ">", 0.8, metric="cosine and levels", spread=both.std())
    check("S2", cosine.max(), "<", 0.5, metric="cosFormer", spread=cosine.std())
    farthest = log[(log - 0.65).abs().argmax()]
    check("S3", farthest, "in", (0.6, 0.7), metric="log-linear, elu", spread=log.std())
    left_out, bad = not_finite(histories)
    check("S4", left_out + bad, "==", 0, metric="updates or scores not finite")
    check("F1", (both - cosine).min(), "<=", 0.05, kind="failure",
          metric="cosine and levels - cosFormer")
    check("F2", (both - log).min(), "<", 0.0, kind="failure",
          metric="cosine and levels - log-linear")
    check("F3", bad, ">", 0, kind="failure", metric="scores not finite at 128 tokens")


names = [f"as reported: {name}" for name in ("cosine and levels", "cosFormer", "log-linear")]
original("reported", *(correct[name] for name in names), [trained[name] for name in names])
names = [name_of(f) for f in ((1, 1, 1, 0), (1, 1, 0, 0), (0, 0, 1, 0))]
original("corrected", *(correct[name] for name in names), list(arms.values()))

# %%
check = evidence.check
for id_, name in (("C1", "elu, convolution"), ("C2", BIASED)):
    check(id_, correct[name].min(), ">", 0.8, metric=name, spread=correct[name].std())


def effect(id_, differences, op, threshold, metric, part="mean", kind="success"):
    """A criterion on a mean difference, its size, or the lower end of its interval."""
    sure = mean_interval(differences)
    value = {"mean": sure.mean, "size": abs(sure.mean), "low": sure.low}[part]
    half = (sure.high - sure.low) / 2
    check(id_, value, op, threshold, metric=metric, spread=half, kind=kind)


loaded_cells = torch.stack([by_load[name_of((0, c, h, 1))] for c in (0, 1) for h in (0, 1)])
loaded_cells = loaded_cells.view(2, 2, len(p.seeds), -1)  # cosine, hierarchy, seeds, loads
for id_, what, alone, joint in (("C3", "hierarchy", 2, 1), ("C4", "cosine", 1, 0)):
    where = {"8 pairs, alone": contrast(bound, (alone,))}
    for i, n in enumerate(LOADS.values()):
        if n in (8, 16):
            where[f"{n} pairs, among loads"] = contrast(loaded_cells[..., i], (joint,))
    for name, differences in where.items():
        effect(id_, differences, "<", 0.03, f"effect of {what}, {name}", "size")
effect("C5", contrast(both_kinds[0], (1,)), ">", 0.1, "effect of hierarchy, updated keys")
for i in (1, 3):
    effect("E", contrast(both_kinds[i], (1,)), ">", 0.0, f"effect of hierarchy, {parts[i]}",
           kind="context")
effect("C6", contrast(both_kinds[0], (0, 1)), ">", 0.0, "cosine x hierarchy, lower end", "low")

# %%
for name, each in by_load.items():
    for n in (0, 2):
        pairs = list(LOADS.values())[n]
        check("E", each[:, n].mean(), ">", 0.8, kind="context", spread=each[:, n].std(),
              metric=f"mean of {name}, {pairs} pairs")
for name in (BOTH_BIASED, "elu, keys shifted by a token", "softmax attention",
             "ReLU, cosine, convolution", "ReLU, cosine, levels, convolution"):
    check("E", correct[name].min(), ">", 0.8, kind="context", metric=f"{name}, 8 pairs",
          spread=correct[name].std())
for name, each in latest.items():
    for i, part in enumerate(parts):
        check("E", each[i].mean(), ">", 0.8, kind="context", metric=f"mean of {name}, {part}",
              spread=each[i].std())
_ = check("E", memory_share, "<", 0.1, kind="context",
          metric=f"state / cache of attention at {STREAMED_TO[-1]} steps")

# %%
value = evidence.value
evidence.summary(
    question="What do a cosine and a hierarchy of states add to linear attention?",
    finding=(
        f"On 8 pairs a convolution alone gives {100 * value('C1', 'elu, convolution'):.0f} % (worst "
        f"seed), cosine and levels without it {100 * value('S1', 'cosine and levels'):.0f} %; beside it "
        f"levels move it by {100 * value('C3', 'effect of hierarchy, 8 pairs, alone'):.1f} points, on keys "
        f"written twice by {100 * value('C5', 'effect of hierarchy, updated keys'):+.0f}."
    ),
    settles="Repeat the reported arm with its 12,400 updates, four arms and three seeds, and ask for intervals inside the margin.",
    figure="8 pairs, all 16 arms: effects and interactions",
    tags=["recall", "linear attention", "hierarchy"], impact=4, cost_h=2,
)

# %% tags=["nbval-ignore-output"]
evidence

# %% tags=["nbval-ignore-output"]
committed.criteria(evidence)

# %% [markdown]
# Statuses that a small run decides at chance level are left out here: another machine may have
# others.

# %%
ELSEWHERE = ("F1 ", "F2 ", "C1 ", "C2 ", "C3 ", "C4 ", "C5 ", "C6 ", "verdict")
print("\n".join(s for s in evidence.statuses().splitlines() if not s.startswith(ELSEWHERE)))

# %% [markdown]
# ## What this does not show, and what next
#
# **The answer.** On the reported task neither the cosine nor the hierarchy adds recall; binding
# does, and a width-3 convolution, a shift of the keys by one token, or one initial bias of
# $\lambda$ are three ways to it. The reported ranking was one of how soon an arm left the plateau
# by chance: even softmax attention, without a convolution, is still on it after the updates that
# all arms had here. Where new values lie in another stretch than old ones, the hierarchy helps, by
# preferring the recent, and not by holding more; it helps updated keys, and not recall as a whole. The cosine does not add to that (C6).
#
# **S1 to F3.** Without a convolution all arms stay on the plateau in so few updates, so that F1
# and F2 are met trivially, and S2 for no good reason. With it S2 is refuted: cosFormer recalls. The
# reported 91.3 % took 12,400 updates, which were not repeated here: whether that arm leaves the
# plateau within them is open. The denominator is not "guaranteed positive": with ReLU the smallest
# sum of weights was exactly 0, and only the $10^{-6}$ kept S4.
#
# **Cost.** In chunks, time grows as the power 0.7 of $T$, and of all pairs as 1.6; at 1,024
# steps it keeps a tenth of their memory. The step form holds at most $\log_2 T + 1$ matrices, after
# 4,096 steps 3 % of a cache. A cosine doubles that, and buys nothing here.
#
# **Scale.** Three seeds and one learning rate an arm, chosen in trials on these tasks at 8 pairs;
# no sweep. C3 and C4 among loads rest on point estimates, and intervals over three seeds are
# narrower than they should be; for 8 and for 16 pairs that of the hierarchy is wider than the threshold,
# because seeds differ in when they leave the plateau. The targets at full scale (perplexity within
# 1.05 of softmax attention, 85 % on recall over 4,096 tokens) need another machine; only their
# third part, state below a tenth of a cache, is measured here.
#
# **Next.** $\lambda$ that sees the content, such as $\|S^{(\ell)\top}\phi(q_t)\|$, would let a
# query find the stretch of its key; and the gain of log-linear attention on published recall tasks
# should be measured again with levels 0 and 1 merged, which takes the token shift away.
