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
# # 014 · Does a scan in the log semiring give softmax attention?
#
# **Idea.** Run the recurrence of a state-space model with $(\log\text{-}\mathrm{sum}\text{-}\exp, +)$ in
# place of $(+, \times)$: $\ell_t = (a_t + \ell_{t-1}) \oplus b_t$, $x \oplus y = \log(e^x + e^y)$. Then
# $\ell_t$ is the log-normaliser of a softmax over the past, $p(j|t) = e^{A_t - A_j + b_j - \ell_t}$
# with $A_t = \sum_{s \le t} a_s$: "exact softmax attention", it was said, in linear time.
#
# **Reported before.** Nothing: a proposal and code, no accuracy.
#
# **What this notebook shows.** The algebra is right, in single precision too. But query and key meet
# when a token is *written*: $p(j|t)/p(j'|t)$ does not depend on $t$, so that no query can choose.
# Slots repair that: $m$ such averages a head, and a query whose logits choose among them,
# $y_t = \sum_i \mathrm{softmax}_i(r_{t,i} + \ell_{t,i})\, Y_{t,i}$. That is attention with the logit
# $\log\sum_i e^{r_{t,i} + k_{j,i}}$ of rank $m$, or linear attention with features $\exp$ in
# logarithms. So the question is whether it remembers more than linear attention does, at equal state.
#
# **Criteria, written before the run.** S1-S4, F1, F2, M1 and C1-C4 of the proposal and its correction,
# with their thresholds, are in the last section. What would change our mind about slots: under equal
# state, a load that linear attention carries and they do not.

# %% tags=["parameters"]
experiment: str = "014"  # the notebook these parameters belong to
seeds: list[int] = [0, 2]  # one model each, alike in every arm, in [0, 2147483647]
batch: int = 64  # sequences per update, in [1, 100000]
steps: int = 45  # updates per model where a query can choose, in [2, 1000000]
slow_steps: int = 20  # updates where it cannot, in [2, 1000000]
recall_steps: int = 4  # updates per model on key-value pairs, in [2, 1000000]
loads: list[int] = [4]  # content tokens of the capacity curve, in [2, 1000]
capacity_steps: int = 4  # updates per model of the capacity curve, in [2, 1000000]
shared_steps: int = 3  # updates per model of the comparison by state size, in [2, 1000000]
samples: int = 300  # sequences that a score is the mean over, in [50, 1000000]

# %%
import lab

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %%
import math
from copy import deepcopy
from dataclasses import asdict
from functools import partial

import pandas as pd
import plotly.graph_objects as go
import torch
from IPython.display import display
from plotly.subplots import make_subplots
from torch import nn

from lab import audit
from lab.audit.state_size import state_bytes
from lab.benchmark import recall_curve
from lab.evidence import Evidence, shown
from lab.memories import DeltaRule, LinearAttention, LogEMA, LogSSM, SoftmaxAttention, SoftSlots
from lab.memories.softmax_average import (
    attention,
    jacobians,
    odds_spread,
    shares,
    shares_by_autograd,
    signs_apart,
)
from lab.mixers import MultiHead, StateSpace
from lab.model import SequenceModel
from lab.nn import linear
from lab.plots import figures, looks, panels
from lab.plots.panels import Panel, Slider
from lab.scan import softmax_scan, softmax_scan_associative, softmax_scan_sequential
from lab.seeding import stream
from lab.tasks import IndexedCopying, Recall, Stored
from lab.train import fit_together, score
from lab.transitions import RealDiagonal

torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way
TRAIN_SET = 5000  # examples of the proposal's training set
evidence = Evidence(
    "014", title="Log-semiring state-space scan", reported={}, parameters=asdict(p), seeds=p.seeds
)

# %% [markdown]
# ## Is the task what we think it is?
#
# Eight content tokens of 16 symbols, each followed by a blank, then the index of the one to repeat.
# Of the 32 steps of the proposal only 17 can matter to a causal model: the rest comes after the
# answer, and is left out below.

# %%
copying = IndexedCopying(content=8, symbols=16)
example = copying.sample(100, 32, stream(0, "example"))
asked = example.inputs[:, 16] - 2
content = example.inputs[:, :16:2]
assert torch.equal(example.targets[:, 16], content.gather(1, asked[:, None])[:, 0])
assert example.mask.sum() == 100
report = audit.task(copying, length=copying.length)
print("steps that matter:", copying.length, "· test inputs also in training:",
      report["test inputs also in training"])

# %% tags=["nbval-ignore-output"]
display(report)

panels.targets(
    copying, length=32, rows=("token", "target"), title="A sequence and its one target",
    symbols=["·", "_", *(f"?{i}" for i in range(8)), *"abcdefghijklmnop"],
)

# %% [markdown]
# ## Is the model what we think it is?
#
# Two layers, each a mixer and a feed-forward part, before a LayerNorm each; learned positions. The
# counts are those of the proposal. *Source form*: one logit $b = q \cdot k/\sqrt d$ a head, a decay from
# $16$ logits a head, and all heads average the same $v$; the mean of their averages in place of a sum
# of logarithms of $v$. *One bid, value slices*: every head averages values of its own. *Slots*: the
# same tensors, the entries of $k$ and $q$ being logits of 16 slots. Decays start at 0.018 a step.
# Positions are drawn as large as embeddings (with a fiftieth of that, all arms are slower); dropout
# is left out.

# %%
D = 64  # width
DECAY, AS_PROPOSED = 0.018, "source form, decay 21"


def memory_of(kind, D, H, K, M, generator):
    """A memory for width D, of H heads with keys of K numbers and values of M."""
    if kind == "softmax attention":
        return SoftmaxAttention(D, heads=H, d_key=K, d_value=M)
    if kind in ("slots", "linear attention"):
        memory = SoftSlots if kind == "slots" else LinearAttention
        return memory(D, heads=H, d_key=K, d_value=M, decay=DECAY, generator=generator)
    if kind == "delta rule":
        return DeltaRule(D, heads=H, d_key=K, d_value=M, generator=generator)
    memory = LogEMA if kind == "one bid, value slices" else LogSSM
    decay = K * math.log1p(math.e) if kind == AS_PROPOSED else DECAY  # softplus(1) K times, or mild
    return memory(D, heads=H, d_key=K, d_value=M, decay=decay, generator=generator)


# %%
class DiagonalSSM(StateSpace):
    """h[t] = sigmoid(W x + 2.2) h[t-1] + B x, y = C h + E x, with dense B, C and E of no bias."""

    def __init__(self, d_model, generator):
        transition = RealDiagonal(d_model, d_state=d_model, generator=generator)
        nn.init.constant_(transition.gain.bias, 2.2)
        super().__init__(d_model, transition, readout_bias=False, generator=generator)
        self.B.register_parameter("bias", None)
        self.E = linear(d_model, d_model, bias=False, generator=generator)

    def _read(self, h, x):
        return super()._read(h, x) + self.E(x)


# %%
def feed_forward(width, generator):
    widen = linear(width, 2 * width, generator=generator)
    return nn.Sequential(widen, nn.GELU(), linear(2 * width, width, generator=generator))


def build(kind, task, seed, *, width=D, heads=4, key=16, value=16, positions=32, shift=False):
    generator = stream(seed, "init")

    def mixer():
        if kind == "diagonal":
            return DiagonalSSM(width, generator)
        memory = memory_of(kind, width, heads, key, value, generator)
        return MultiHead(width, memory, shift=shift, generator=generator)

    mixers, channels = [mixer(), mixer()], [feed_forward(width, generator) for _ in range(2)]
    model = SequenceModel(
        task.vocabulary, task.classes, width, mixers, channels=channels, positions=positions,
        norm="layer", generator=generator,
    )
    nn.init.normal_(model.positions, generator=generator)
    return model


COUNTS = {"source form": 80282, "one bid, value slices": 72482, "slots": 72482,
          "linear attention": 72482, "diagonal": 72090, "softmax attention": 71962}
audits = {
    kind: audit.model(build(kind, copying, 0).double(), copying, length=32, parameters=count)
    for kind, count in COUNTS.items()
}
print({kind: each["real parameters"] for kind, each in audits.items()})

# %% tags=["nbval-ignore-output"]
sizes = {kind: state_bytes(build(kind, copying, 0), example.inputs[:1, :17]) for kind in COUNTS}
display(pd.DataFrame({"bytes of state, two layers": sizes, "parameters": COUNTS}))
display(audits["source form"])

# %% [markdown]
# ## Is the algebra right?
#
# The triple $(a, \ell, y)$ with the average $y$ already normalised needs no logarithm of a value and
# no sign: two parts merge with shares that add up to one. Step by step, as a tree, compiled, and as a
# masked softmax over all pairs, against the loop in double precision (C1). The recurrence is known:
# RWKV-4 has it with a constant decay per channel, xLSTM's scalar cell with these two gates, and
# "Attention as an RNN" without decay and with one learned query.


# %%
def draws(T, span, fade, N=4, seed=0):
    """decay ["1 T N"], score ["1 T N"] within `span`, values ["1 T N 16"] of variance 1."""
    generator = stream(seed, "algebra")
    uniform = torch.rand(2, 1, T, N, dtype=torch.float64, generator=generator)
    value = torch.randn(1, T, N, 16, dtype=torch.float64, generator=generator)
    return -fade * uniform[0], span * (2 * uniform[1] - 1), value


FORMS = {"loop": softmax_scan_sequential, "tree": softmax_scan_associative,
         "compiled": softmax_scan, "masked softmax": attention}
CASES = {"512 steps": draws(512, 4, 0.018), "512 steps, scores to ±80": draws(512, 80, 0.018),
         "512 steps, decay 21": draws(512, 4, 42), "4,096 steps": draws(4096, 4, 0.018, N=1)}
deviations = {}
for case, inputs in CASES.items():
    expected = softmax_scan_sequential(*inputs)[0]
    for name, form in FORMS.items():
        for dtype in (torch.float64, torch.float32):
            found = form(*(each.to(dtype) for each in inputs))[0]
            deviations[case, name, str(dtype)[6:]] = (found - expected).abs().max().item()

# %% tags=["nbval-ignore-output"]
pd.Series(deviations).unstack([1, 2]).map("{:.0e}".format)


# %% [markdown]
# The three layers themselves, in single precision over 512 steps: their scan, and their masked
# softmax. For slots the scan keeps $m$ averages a head; the masked softmax multiplies two matrices
# of logits, and never makes an array of $T \times T \times m$.


# %%
def scan_gap(kind):
    """The largest difference between both forms of the memory of a layer."""
    mixer = build(kind, copying, 0).mixers[0]
    x = torch.randn(2, 512, D, generator=stream(0, "C1"))
    with torch.no_grad():
        q, k, v = mixer.heads(x)
        weights = mixer.memory.weights(q, k, x)
        if kind == "slots":
            return (mixer.memory.scanned(q, k, v, x) - weights @ v).abs().max().item()
        if kind == "source form":  # one value, and the mean of all weights
            v, weights = v.movedim(1, 2).flatten(2)[:, None], weights.mean(1, keepdim=True)
        o = (weights @ v).movedim(1, 2).flatten(2)
        return (
            (mixer.memory(q, k, mixer.heads(x)[2], x).movedim(1, 2).flatten(2) - o)
            .abs()
            .max()
            .item()
        )


c1 = {kind: scan_gap(kind) for kind in ("source form", "one bid, value slices", "slots")}
print("scan and masked softmax agree within 1e-5:", {kind: gap < 1e-5 for kind, gap in c1.items()})

# %% [markdown]
# **Is it softmax attention?** With one constant query, yes, for every prefix. With slots, where keys
# fall into at most $m$ classes, a slot each. With queries that vary, no: the matrix
# $e^{q_t \cdot k_j}$ has full rank, the matrix of slots has rank $m$ at most. For random queries and keys
# of 16 numbers and 64 steps (before masking and normalising):

# %%
q, k = torch.randn(2, 64, 16, dtype=torch.float64, generator=stream(0, "rank"))
matrices = {"softmax attention": (q @ k.mT / 4).exp(), "16 slots": q.exp() @ k.exp().mT}
print({kind: torch.linalg.matrix_rank(matrix).item() for kind, matrix in matrices.items()})

# %% tags=["nbval-ignore-output"]
figures.lines(
    {kind: torch.linalg.svdvals(matrix).clamp_min(1e-16) for kind, matrix in matrices.items()},
    title="What slots leave out", x_title="number of the singular value", y_title="singular value", log=True,
)

# %% [markdown]
# **Derivatives.** $\partial \ell_t/\partial b_j = p(j|t)$ and $\partial y_t/\partial b_j = p(j|t)(v_j -
# y_t)$; those by $a_s$ are the same, summed over $j < s$. Nothing explodes: no derivative is larger
# than values lie apart. By hand against autograd of the scan, in double precision:

# %%
decay, logit, value = (each[0, :, 0] for each in draws(64, 4, 0.2))


def one_head(decay, logit):
    average, log_norm = softmax_scan(*(each[None, :, None] for each in (decay, logit, value)))
    return log_norm[0, :, 0], average[0, :, 0]


by_autograd = torch.autograd.functional.jacobian(one_head, (decay, logit))
by_hand = jacobians(decay, logit, value)
(norm_by_decay, norm_by_score), (average_by_decay, average_by_score) = by_autograd
pairs = zip(
    by_hand, (norm_by_score, norm_by_decay, average_by_score, average_by_decay), strict=True
)
identity_gap = max((mine - found).abs().max().item() for mine, found in pairs)
print("derivatives by hand are those of autograd within 1e-12:", identity_gap < 1e-12)

# %% tags=["nbval-ignore-output"]
past = torch.ones(64, 64).tril().bool()[:, None].expand(-1, 16, -1)
found = by_hand.average_by_score[past].abs().log10().clamp(-8, 1)
edges = torch.linspace(-8, 1, 46)
counts = torch.histogram(found.float(), edges).hist
figures.lines(
    {"pairs of steps": counts}, x=(edges[1:] + edges[:-1]) / 2, y_title="how many",
    x_title="log10 of the size of d y[t] / d b[j]",
    title="Derivatives by logits: 64 steps, logits within 4, values of variance 1",
)

# %% [markdown]
# **Signs.** With logarithms of values, the positive and the negative part are two sums, and the
# average is the difference of two exponentials. Where it is small, so are the digits left: relative
# error at step 512 as the true average goes to zero.


# %%
def relative_errors(average):
    """Median over heads and entries, in single precision, of both ways, for values that average so."""
    decay, score, value = draws(512, 2, 0.01, seed=1)
    weights = shares(decay.mT, score.mT)[:, :, -1]
    value = value - torch.einsum("bnt,btnv->bnv", weights, value)[:, None] + average
    single = [each.float() for each in (decay, score, value)]
    expected = softmax_scan_sequential(*(each.double() for each in single))[0][:, -1]
    errors = {}
    for name, form in {
        "signs apart": signs_apart,
        "online": lambda *x: softmax_scan(*x)[0],
    }.items():
        error = (form(*single)[:, -1] - expected).abs() / expected.abs()
        errors[name] = error.median().item()
    return errors


cancelled = {10.0**-power: relative_errors(10.0**-power) for power in range(7)}

# %% tags=["nbval-ignore-output"]
figures.scaling(
    {name: {mean: each[name] for mean, each in cancelled.items()} for name in ("signs apart", "online")},
    title="Values around 1 in size whose weighted average is small",
    x_title="the average", y_title="relative error, float32",
)


# %% [markdown]
# **Decay and sharpness.** What a scalar head keeps of 32 steps with random logits. At the decay of the
# code that came with the proposal ($c = 1$, 16 terms: 21 a step) nothing survives a single one.


# %% tags=["nbval-ignore-output"]
def draw_shares(bias, terms, mu):
    logits = torch.randn(32, generator=stream(0, "bids"))
    decay = torch.full((32,), -float(terms) * math.log1p(math.exp(bias)))
    kept = shares(float(mu) * decay, float(mu) * logits)[-1].clamp_min(1e-12)
    survival = (float(mu) * decay * torch.arange(31, -1, -1)).exp().clamp_min(1e-12)
    title = f"Decay {-decay[0]:.3g} a step, entropy of p {-(kept * kept.log()).sum():.2f} nats"
    series = {"p(j|t) at the last step": kept, "survival of step j": survival}
    return figures.lines(series, title=title, x_title="step j", y_title="share", log=True)


Panel(
    draw_shares, bias=Slider("decay bias", -4.0, -8.0, 2.0, 0.5), terms=Slider("terms", 1, 1, 16, 1),
    mu=Slider("mu", 1.0, 0.1, 10.0, 0.1),
)

# %% [markdown]
# ## As proposed: a decay of 21 a step
#
# The source form with the decay it had in the code, on a training set of 5,000: reproduced as far as
# it needs to be, for a fraction of the updates. No accuracy was reported to compare with.


# %%
def validation(task, size=200):
    """A function of a model: its share of right answers on examples of their own."""
    shown = task.sample(size, task.length, stream(99, "validation"))

    def share(model):
        right = model(shown.inputs).argmax(-1) == shown.targets
        return right[shown.mask].double().mean()

    return share


def train(kind, task, steps, *, data=None, lr=3e-3, batch=p.batch, **settings):
    """Models and histories of one arm, the accuracy watched on the way."""
    models = [build(kind, task, seed, **settings) for seed in p.seeds]
    histories = fit_together(
        models, [data or task] * len(models), seeds=p.seeds, steps=steps, batch=batch,
        length=task.length, lr=lr, schedule="warmup-cosine", clip=1.0, skip_nonfinite=True,
        optimizer=partial(torch.optim.AdamW, weight_decay=1e-4, betas=(0.9, 0.999)), decay="all",
        device="cpu", watch={"validation": validation(task)}, watch_every=20, label=f"{kind}, {task.length}",
    )
    return models, histories


def scores(models, task):
    """["seeds"]: the share of right answers of every seed."""
    each = (
        score(m, task, length=task.length, samples=p.samples, seed=s).accuracy
        for m, s in zip(models, p.seeds, strict=True)
    )
    return torch.tensor(list(each), dtype=torch.float64)


stored = Stored(copying, TRAIN_SET, copying.length, stream(42, "training set"))
proposed = train(AS_PROPOSED, copying, p.steps // 2, data=stored)
proposed_score = scores(proposed[0], copying)

# %% tags=["nbval-ignore-output"]
display({"accuracy by seed": proposed_score.tolist(), "chance": 1 / copying.answers})

# %% [markdown]
# ## Corrected: decays that reach back, slots, and every baseline
#
# Fresh examples at every update. Where no query can choose (source form, one bid, diagonal), training
# is longer; it ends with the 500th update of S4.

# %%
FROZEN = ("source form", "one bid, value slices", "diagonal")  # no query can choose
arms = {kind: train(kind, copying, p.slow_steps if kind in FROZEN else p.steps) for kind in COUNTS}
correct = {kind: scores(models, copying) for kind, (models, _) in arms.items()}


# %%
def reached(histories, share=0.9):
    """The first update, by seed, after which the validation accuracy was that high; inf if never."""
    each = [(h.watched_at, h.watched["validation"].tolist()) for h in histories]
    return [min((at for at, a in zip(*pair, strict=True) if a >= share), default=math.inf)
            for pair in each]


first = {kind: reached(histories) for kind, (_, histories) in arms.items()}

# %% tags=["nbval-ignore-output"]
table = {
    kind: [f"{a:.3f}" for a in each] + [str(n) for n in first[kind]]
    for kind, each in correct.items()
}
names = [f"{what}, seed {s}" for what in ("accuracy", "updates to 90 %") for s in p.seeds]
display(pd.DataFrame(table, index=names).T)
levels = {"chance": 1 / 16, "a random value": copying.ceilings["a random value of the sequence"],
          "the commonest value": copying.ceilings["the commonest value of the sequence"]}
for title, kinds in (("a query can choose", set(COUNTS) - set(FROZEN)), ("it cannot", FROZEN)):
    curves = {
        k: torch.stack([h.watched["validation"] for h in arms[k][1]]) for k in COUNTS if k in kinds
    }
    display(figures.accuracy(curves, x=arms[next(iter(curves))][1][0].watched_at, x_title="update",
                             levels=levels, title=f"Selective copying: {title}"))


# %%
def by_index(models, size=p.samples):
    """["seeds 8"]: share of right answers by the index that is asked for."""
    shown = copying.sample(size, copying.length, stream(7, "by index"))
    asked = nn.functional.one_hot(shown.inputs[:, -1] - 2, 8).double()
    with torch.no_grad():
        right = [(m(shown.inputs).argmax(-1) == shown.targets)[:, -1].double() for m in models]
    return torch.stack([each @ asked / asked.sum(0) for each in right])


places = {kind: by_index(models) for kind, (models, _) in arms.items()}

# %% tags=["nbval-ignore-output"]
figures.accuracy(
    places, x=range(1, 9), x_title="which content token is asked for", levels={"chance": 1 / 16},
    title="A slope is a memory of what came last",
)

# %% [markdown]
# ## Diagnosis: the odds are frozen
#
# Of a trained source form, $p(j|t) = \partial \ell_t / \partial b_j$ by autograd of its scan, in double
# precision: how far the log-odds of two steps move while $t$ goes on (C2). Of slots, the same from
# their attention. Then what two different queries make of one sequence.


# %%
def attended(kind, seed, tokens, layer=0):
    """["B N T T"], axes (t, j): the shares in a layer of a trained model, in double precision."""
    model = deepcopy(arms[kind][0][seed]).double()
    with torch.no_grad():
        x, mixer = model.mixer_inputs(tokens, layer), model.mixers[layer]
        q, k, _ = mixer.heads(x)
        if kind == "slots":
            return mixer.memory.weights(q, k, x)
        return shares_by_autograd(mixer.memory.log_decay(x), mixer.memory.logits(q, k))


AVERAGES = ("source form", "one bid, value slices", "slots")
words = copying.sample(20, copying.length, stream(0, "odds")).inputs
spreads = {
    kind: max(odds_spread(attended(kind, i, words)) for i in range(len(p.seeds)))
    for kind in AVERAGES
}
print("no odds move:", {kind: spread < 1e-5 for kind, spread in spreads.items()})

# %% tags=["nbval-ignore-output"]
print("largest move of log-odds:", {kind: f"{spread:.1e}" for kind, spread in spreads.items()})
two = words[:1].repeat(2, 1)
two[:, -1] = torch.tensor([3, 8])  # the same content, and two queries: for index 1 and index 6
seen = {kind: attended(kind, 0, two) for kind in ("source form", "slots")}
figure = make_subplots(cols=2, subplot_titles=[f"{kind}, first head: p(j|t)" for kind in seen])
for col, shares_seen in enumerate(seen.values(), start=1):
    z = shares_seen[0, 0].numpy()
    figure.add_heatmap(z=z, row=1, col=col, colorscale="Viridis", showscale=False)
figure.update_yaxes(title="t", autorange="reversed").update_xaxes(title="step j")
display(figure.update_layout(height=380))
last = {f"{kind}, query {(1, 6)[i]}": shares_seen[i, :, -1].mean(0)
        for kind, shares_seen in seen.items() for i in range(2)}
figures.lines(last, x_title="step j", y_title="share at the query, mean over heads",
              title="One sequence, two queries")

# %% [markdown]
# What can an average do that no query reaches? Keep all eight symbols in superposition, for the next
# feed-forward part to tell apart: flat weights, with an entropy at the query near $\log 8$ or above.
# That was the prediction. Or keep a few items sharply, and be right when one of them is asked for: low
# entropy, and an accuracy that depends on the index. The figure above and the one below say which.


# %%
def entropies(kind, layer):
    """Float["seeds heads"]: mean entropy of the shares at the query, in nats."""
    found = [attended(kind, i, words, layer)[:, :, -1] for i in range(len(p.seeds))]
    return torch.stack([-(w * w.clamp_min(1e-30).log()).sum(-1).mean(0) for w in found])


entropy = {(kind, layer): entropies(kind, layer) for kind in AVERAGES for layer in range(2)}

# %% tags=["nbval-ignore-output"]
figures.strips(
    {f"{kind}, layer {layer + 1}": each for (kind, layer), each in entropy.items()}, log=False,
    y_title="entropy at the query, nats", limits={"log 8": math.log(8), "log 17": math.log(17)},
    title="How flat the shares are, every head and seed",
)

# %% [markdown]
# ## Four key-value pairs
#
# Keys of 64 symbols, each followed by its value; then the four keys in random order, each to be
# answered with its value (M1). Key inputs see the token before them, in all arms.

# %%
recall = Recall(pairs=4, queries=4, symbols=64)
recalled = {
    kind: scores(train(kind, recall, p.recall_steps, lr=6e-3, shift=True)[0], recall)
    for kind in ("source form", "slots", "linear attention")
}

# %% tags=["nbval-ignore-output"]
display(audit.task(recall, length=recall.length))
pd.DataFrame({kind: [f"{a:.3f}" for a in each] for kind, each in recalled.items()},
             index=[f"seed {s}" for s in p.seeds]).T

# %% [markdown]
# ## Capacity at equal state
#
# How many content tokens can be asked for, by their index, before accuracy falls under 90 %? Smaller
# models, so that the limit is in sight: 32 channels, two heads of 4 slots, or 4 features, with values
# of 8 numbers. Four of the indices are asked for in turn, which is four times the signal. Softmax
# attention, whose state grows, is trained at the largest load only: if it solves that, a miss of the
# others is one of memory, not of the task.

# %%
RIVALS = ("slots", "linear attention", "delta rule")
capacity, states = {}, {}
for load in p.loads:
    task = IndexedCopying(content=load, symbols=16, queries=min(4, load))
    for kind in RIVALS + (("softmax attention",) if load == max(p.loads) else ()):
        small = {"width": 32, "heads": 2, "key": 4, "value": 8, "positions": task.length}
        models, _ = train(kind, task, p.capacity_steps, lr=7e-3, batch=32, **small)
        capacity[kind, load] = scores(models, task)
        states[kind, load] = state_bytes(
            models[0], task.sample(1, task.length, stream(0, "state size")).inputs
        )


def carried(kind, pick=min):
    """The largest load at which the worst seed (min), or the best (max), is 90 % right; or 0."""
    return max((m for m in p.loads if pick(capacity[kind, m]) >= 0.9), default=0)


# %% tags=["nbval-ignore-output"]
display(pd.DataFrame({
    kind: {"state, bytes": states[kind, p.loads[0]], "largest load, worst seed": carried(kind),
           "largest load, best seed": carried(kind, max)} for kind in RIVALS
}).T)
curves = {kind: torch.stack([capacity[kind, m] for m in p.loads], 1) for kind in RIVALS}
figure = figures.accuracy(curves, x=p.loads, x_title="content tokens",
                          levels={"90 %": 0.9, "chance": 1 / 16}, title="Capacity at equal state")
top = capacity["softmax attention", max(p.loads)]
figure.add_scatter(
    x=[max(p.loads)] * len(top),
    y=top.numpy(),
    mode="markers",
    name="softmax attention",
    marker=looks.of(["softmax attention"])["softmax attention"].points(8),
)

# %% tags=["nbval-ignore-output"]
from lab.records import committed  # the full run, for the short one at the defaults

committed.figure("014", "Capacity at equal state")

# %% [markdown]
# ## Recall against the size of the state
#
# One protocol for many mixers: eight pairs to recall, two layers of 32 channels with a short
# convolution, three sizes of state. The rows are kept for a figure of all experiments.

# %%
WIDTH, CONVOLUTION = recall_curve.D_MODEL, recall_curve.CONVOLUTION


def around(memory):
    """What `recall_curve` builds a mixer with: two heads of keys of `size`, values of 16."""
    return lambda size, generator: MultiHead(
        WIDTH,
        memory(WIDTH, heads=2, d_key=size, d_value=16),
        convolution=CONVOLUTION,
        generator=generator,
    )


mixers = {
    "linear attention (elu)": around(LinearAttention),
    "soft slots": around(SoftSlots),
    "softmax attention": around(SoftmaxAttention),
}
# Softmax attention learns it at half the rate of the others, and at theirs not with every seed.
rates = {name: 5e-3 if name == "softmax attention" else 1e-2 for name in mixers}
rows = recall_curve.measure(mixers, seeds=p.seeds, steps=p.shared_steps, lr=rates)
evidence.table(recall_curve.TABLE, rows)

# %% tags=["nbval-ignore-output"]
figures.recall(
    recall_curve.by_state(rows), levels={"chance": 1 / recall_curve.TASK.answers},
    needed=recall_curve.TASK.bits(recall_curve.TASK.length) / 8, title="Recall of eight pairs",
)

# %% tags=["nbval-ignore-output"]
committed.figure("014", "Recall of eight pairs")

# %% [markdown]
# ## Panels: what slots hold, and what a step keeps
#
# The averages $Y_i$ of the four heads, 16 slots each, as tokens come in; and the share $1 - z$ of what
# was there before that a step leaves, the eigenvalue of its transition.


# %% tags=["nbval-ignore-output"]
def draw_slots(states, head):
    held = states[:, int(head), :, :-1].norm(dim=-1)
    figure = go.Figure(go.Heatmap(z=held.mT.numpy(), colorscale="Viridis"))
    figure.update_xaxes(title="step t").update_yaxes(title="slot")
    return figure.update_layout(height=420, title="Slots of the first layer: size of the averages")


panels.states(
    {"slots": arms["slots"][0]}, words[:20], draw=draw_slots, head=Slider("head", 0, 0, 3, 1)
)


# %% tags=["nbval-ignore-output"]
panels.eigenvalues(
    {arm: arms[arm][0] for arm in COUNTS}, words[:20], title="what a step keeps of the past"
)

# %% [markdown]
# ## Criteria and verdict
#
# S1 to M1 are those of the proposal, worst seed. S4 as coded could not pass: stopping early took 50
# passes over the data at least, more than 500 updates. It is asked as the best validation accuracy in
# the first 500 updates. M2 (needles in 4,096 steps, throughput and memory beside Mamba-2, a language
# model of 380 million parameters) needs another machine and is not judged. C4 takes the largest load
# that all seeds carry with 90 %.

# %%
check = evidence.check


def best(histories, within=500):
    """["seeds"]: the best validation accuracy in the first updates."""
    at = torch.tensor(histories[0].watched_at) <= within
    return torch.stack([h.watched["validation"][at].max() for h in histories])


def of_proposal(arm, score, histories, name):
    lead = score - correct["linear attention"]
    check("S1", score.min(), ">", 0.9, arm=arm, metric=name, spread=score.std())
    check(
        "S4", best(histories).min(), ">=", 0.9, arm=arm, metric=f"{name}, best within 500 updates"
    )
    check("F1", lead.min(), "<=", 0, arm=arm, kind="failure", metric=f"{name} - linear attention")
    lost = sum(history.skipped for history in histories)
    check("F2", lost, ">", 0, arm=arm, kind="failure", metric=f"{name}, updates not finite")


of_proposal("reported", proposed_score, proposed[1], AS_PROPOSED)
for kind in ("source form", "one bid, value slices"):
    of_proposal("corrected", correct[kind], arms[kind][1], kind)
for name, kind, limit in (("S2", "linear attention", 0.6), ("S3", "diagonal", 0.7)):
    check(name, correct[kind].max(), "<", limit, metric=kind, spread=correct[kind].std())
for kind, op, limit in (
    ("source form", ">", 0.9),
    ("slots", ">", 0.9),
    ("linear attention", "<", 0.7),
):
    value = recalled[kind].max() if op == "<" else recalled[kind].min()
    check("M1", value, op, limit, metric=f"{kind}, four pairs", spread=recalled[kind].std())

# %%
for kind, gap in c1.items():
    check("C1", gap, "<", 1e-5, metric=f"scan - masked softmax, float32, 512 steps, {kind}")
check("C2", spreads["source form"], "<", 1e-5, metric="spread of log-odds over t, source form")
check("C3", correct["slots"].min(), ">=", 0.9, metric="slots", spread=correct["slots"].std())
check("C3", max(first["slots"]), "<=", 500, metric="slots, first update at 90 %")
ratio = carried("slots") / max(carried("linear attention"), 1)
check("C4", ratio, ">=", 2, metric="load of slots / of linear attention")
check("C4", ratio, "<=", 1, kind="failure", metric="load of slots / of linear attention, refuted")
lost = sum(history.skipped for history in arms["slots"][1])
_ = check("F2", lost, ">", 0, kind="failure", metric="slots, updates not finite")

# %%
record = partial(check, "E", kind="context")
record(spreads["slots"], "<", 1e-5, metric="spread of log-odds over t, slots")
record(identity_gap, "<", 1e-12, metric="derivatives by hand against autograd")
for layer in range(2):
    record(entropy["source form", layer].mean(), ">", math.log(8),
           metric=f"entropy at the query, source form, layer {layer + 1}")
record(deviations["4,096 steps", "compiled", "float32"], "<", 1e-5, metric="scan, 4,096 steps")
record(deviations["512 steps, scores to ±80", "compiled", "float32"], "<", 1e-5,
       metric="scan, scores to ±80")
record(cancelled[1e-6]["online"] / cancelled[1e-6]["signs apart"], "<", 1,
       metric="error of the online form / of signs apart, average 1e-6")
for kind, each in correct.items():
    record(each.mean(), ">", 0.9, metric=f"mean of {kind}", spread=each.std())
    record(max(first[kind]), "<=", 500, metric=f"first update at 90 %, {kind}")
for load in p.loads:
    lead = capacity["slots", load] - capacity["linear attention", load]
    record(
        lead.mean(), ">", 0, metric=f"slots - linear attention, {load} tokens", spread=lead.std()
    )
best_seeds = carried("slots", max) / max(carried("linear attention", max), 1)
record(best_seeds, ">=", 2, metric="load of slots / of linear attention, best seeds")
for (kind, load), each in capacity.items():
    _ = record(each.mean(), ">", 0.9, metric=f"{kind}, {load} tokens", spread=each.std())

# %%
value = evidence.value
evidence.summary(
    question="Does a scan in the log semiring give softmax attention?",
    finding=(
        f"As proposed no query can choose (odds vary by "
        f"{shown(value('C2', 'spread of log-odds over t, source form'), 1)}): copying stands at "
        f"{100 * value('S1', 'source form'):.0f} %, with slots at {100 * value('C3', 'slots'):.0f} % (worst "
        f"seeds); at equal state slots carry "
        f"{value('C4', 'load of slots / of linear attention'):.2f} times linear attention's load."
    ),
    settles="Loads 6 to 16 with 1,500 updates, five seeds and a learning rate per arm, the crossing of 90 % interpolated.",
    figure="Selective copying: a query can choose",
    tags=["copying", "recall", "semirings"], impact=2, cost_h=4,
)

# %% tags=["nbval-ignore-output"]
evidence

# %% tags=["nbval-ignore-output"]
committed.criteria(evidence)

# %% [markdown]
# Statuses that small runs decide at chance level are left out here: another machine may have others.

# %%
ELSEWHERE = ("F1 ", "C3 ", "C4 ", "verdict")
print("\n".join(s for s in evidence.statuses().splitlines() if not s.startswith(ELSEWHERE)))

# %% [markdown]
# ## What this does not show, and what next
#
# **The answer.** The algebra holds, in single precision too, and its derivatives cannot explode. What
# it gives is a moving average with one gate a head, and the odds of what is in it are frozen to the
# last digit. So no query can choose. Nor do the trained averages become flat mixtures that a later
# part could take apart, as was predicted: entropies stay under $\log 8$, a few items are kept sharply,
# and the accuracy is that of asking for one of them. Linear attention solves the task in a fraction of
# the updates (F1). With the decay of the code that came with the proposal, all is forgotten at once.
#
# **Slots** put the query back, and retrieve: they need fewer updates than linear attention and more
# than softmax attention. But C4 is neither supported nor refuted by its own measure, and nothing speaks
# for a sharper memory: by the worst seed linear attention carries 6 items and the other forms of equal state
# 8, at 12 the delta rule leads with less state (0.65; linear attention 0.52, slots 0.44), and on key-value
# recall by state size slots stay below the simpler features elu + 1 by the median, some seeds far below.
# Logits of rank $m$ are logits of rank $m$,
# in logarithms or not; what slots bring is numerical, logits of any size.
#
# **The criteria.** S2, and M1 for linear attention, ask a baseline that holds eight items with ease to
# miss them; no honest one does. S3 holds, and says that a query that comes too late is no use to
# diagonal gates either. Scores to $\pm 80$ cost digits that no form has: a share is exact to the last
# place of $\ell$.
#
# **Not shown.** The proposal asked for up to 4,000 updates of 256 sequences; these are up to 500 of
# 64, and with four times the examples the source form may go further. Learning rates were chosen once
# a task, by a few trials, not for every arm. Loads are 6 to 16 on a small model in place of 8 to 64,
# with four queries in place of one, and at the largest load softmax attention is itself not quite
# there with every seed. Dropout is left out. Sharpness $\mu$ stayed at 1: learned, or raised until
# slots are hard, it is the next thing to try.
