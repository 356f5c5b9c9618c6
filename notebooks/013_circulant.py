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
# # 013 · What does a circulant transition add to a complex diagonal one?
#
# **Idea.** $h_t = \mathrm{Circ}(a(x_t))\,h_{t-1} + B x_t$ mixes all coordinates at every step, and yet
# a scan over Fourier frequencies is elementwise: $\hat h_t = \hat a(x_t) \odot \hat h_{t-1} + F B x_t$,
# with $\hat a_i = r_i(x)\,e^{i\theta_i(x)}$ given directly and conjugate-symmetric.
#
# **Reported before.** Nothing: implemented, no result.
#
# **What this notebook shows.** The circulant layer *is* a complex diagonal layer with $B$ and $C$
# multiplied by an orthogonal matrix: the same functions, the same start in distribution, the same
# path under plain gradient descent. Adam alone can tell them apart, because it scales every
# coordinate by itself. Both follow $\mathbb{Z}_8$, which a positive real diagonal cannot.
# Commuting transitions are then put to a group that does not commute, against block-circulant ones.
#
# **Criteria, written before the run.** S1-S4, F1, F2, C1 and C2 of the proposal, with their
# thresholds, are in the last section. What would change our mind: a gap between the circulant and
# the complex diagonal that keeps its sign over seeds.

# %% tags=["parameters"]
experiment: str = "013"  # the notebook these parameters belong to
seeds: list[int] = [0, 3]  # one model each, alike in every arm, in [0, 2147483647]
steps: int = 150  # updates per model, in [2, 1000000]
s3_steps: int = 10  # updates per model on the smaller group, in [2, 1000000]
a5_steps: int = 10  # updates per model on the largest group, in [2, 1000000]
batch: int = 16  # words per update, in [1, 100000]
samples: int = 200  # words that a score is the mean over, in [50, 1000000]

# %%
import lab

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %%
import math
from copy import deepcopy
from dataclasses import asdict
from functools import partial

import pandas as pd
import torch
from IPython.display import display
from plotly.subplots import make_subplots

from lab import audit
from lab.benchmark.timing import take_turns
from lab.evidence import Evidence
from lab.linalg.circulant import fourier, real_fourier
from lab.mixers import StateSpace
from lab.mixers.equivalence import as_diagonal
from lab.model import SequenceModel, SwiGLU
from lab.plots import figures, panels
from lab.plots.panels import Slider
from lab.scan import matrix_scan_sequential
from lab.seeding import stream
from lab.statistics import mean_interval
from lab.tasks import WordProblem, groups
from lab.train import fit_together, score
from lab.transitions import BlockCirculant, Circulant, PolarDiagonal, RealDiagonal

torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way
D = N = 64  # width; state, in real numbers
TRAIN, TESTS = 32, [32, 64, 128, 256]  # tokens
evidence = Evidence(
    "013", title="Circulant state-space model", reported={}, parameters=asdict(p), seeds=p.seeds
)

# %% [markdown]
# ## Is the task what we think it is?
#
# $\mathbb{Z}_8$: tokens 0 to 7, the target is their running sum modulo 8, scored at every step.

# %%
z8 = WordProblem(groups.cyclic(8), range(8))
example = z8.sample(100, TRAIN, stream(0, "example"))
assert torch.equal(example.targets, example.inputs.cumsum(1) % 8)
report = audit.task(z8, length=TRAIN)
print("test inputs also in training:", report["test inputs also in training"])
print("chance accuracy:", f"{z8.chance_accuracy(TRAIN)[-1]:.3f}")

# %% tags=["nbval-ignore-output"]
display(report)

panels.targets(
    z8, length=TRAIN, rows=("token", "sum modulo 8"), title="A word and its target, elements of Z8"
)

# %% [markdown]
# ## Is the model what we think it is?
#
# Two layers, each a state-space layer and a SwiGLU; the transitions differ, all else is alike. The
# complex diagonal has the 31 complex and 2 real modes that the spectrum of 64 real numbers has, so
# that the counts are equal to the last parameter. $r = e^{-z^2}$ starts near 0.999 and reaches 1 at
# $z = 0$; a sigmoid would never arrive.

# %%
KINDS = {  # transition, width of the SwiGLU
    "circulant": (Circulant, 192),
    "complex diagonal": (partial(PolarDiagonal, real_ends=True), 192),
    "signed diagonal": (partial(RealDiagonal, gate="tanh"), 192),
    "positive diagonal": (RealDiagonal, 192),
    "block-circulant": (partial(BlockCirculant, block=4, factors=2), 160),
}


def build(kind, task, seed, layers=2, **settings):
    generator = stream(seed, "init")
    transition, hidden = KINDS[kind]
    mixers = [
        StateSpace(
            D, transition(D, d_state=N, generator=generator), generator=generator, **settings
        )
        for _ in range(layers)
    ]
    channels = [SwiGLU(D, hidden, generator=generator) for _ in range(layers)]
    sizes = task.vocabulary, task.classes, D
    return SequenceModel(*sizes, mixers, channels=channels, generator=generator)


COUNTS = {"circulant": 100300, "complex diagonal": 100300, "signed diagonal": 100040,
          "positive diagonal": 100040, "block-circulant": 100752}
audits = {
    kind: audit.model(build(kind, z8, 0).double(), z8, length=TRAIN, parameters=count)
    for kind, count in COUNTS.items()
}
print({kind: each["real parameters"] for kind, each in audits.items()})

# %% tags=["nbval-ignore-output"]
display(audits["circulant"])

# %% [markdown]
# ### The identity, shown exactly
#
# With $F$ the orthogonal matrix of the real Fourier transform, the diagonal layer with $FB$ and
# $CF^\top$ and the same gains has the same outputs, and its state is the Fourier transform of the
# circulant one's. Nothing is approximate in it (float64, bound 1e-10).


# %%
def diagonal_twin(model):
    """The same model with its circulant layers written as complex diagonal ones."""
    twin = deepcopy(model)
    twin.mixers = torch.nn.ModuleList(as_diagonal(mixer) for mixer in model.mixers)
    return twin


def twin_gap(model, tokens):
    """Largest difference of scores, and of states once in the same basis."""
    model = deepcopy(model).double()
    twin, F = diagonal_twin(model), real_fourier(N)
    with torch.no_grad():
        scores = (twin(tokens) - model(tokens)).abs().max()
        states = (twin.states(tokens) - model.states(tokens) @ F.mT).abs().max()
    return scores.item(), states.item()


words = z8.sample(20, TESTS[-1], stream(0, "twins")).inputs
start_gap = max(max(twin_gap(build("circulant", z8, seed), words)) for seed in p.seeds)
assert start_gap < 1e-10, "the map onto the diagonal layer is wrong"
print("circulant = complex diagonal with F B and C F^T, within 1e-10:", start_gap < 1e-10)

# %% [markdown]
# So what is left to differ? Not the start: entries of $B$ and $C$ that are drawn independently with
# one variance keep mean and covariance under an orthogonal matrix. Not the gradient: it turns with
# the basis, so gradient descent on the two is one path. Adam divides every coordinate by the size
# of its own gradient, which depends on the basis. From one start, in float64:


# %%
def paths(optimizer, lr, updates=40):
    """Largest difference between the scores of the twins after every tenth update."""
    model = build("circulant", z8, p.seeds[0]).double()
    pair, data, gaps = [model, diagonal_twin(model)], stream(p.seeds[0], "twins"), []
    optimizers = [optimizer(each.parameters(), lr=lr) for each in pair]
    for update in range(updates + 1):
        examples = z8.sample(16, 8, data)
        if update % 10 == 0:
            gaps.append((pair[0](examples.inputs) - pair[1](examples.inputs)).abs().max().item())
        for each, rule in zip(pair, optimizers, strict=True):
            rule.zero_grad()
            z8.loss(each, examples).backward()
            rule.step()
    return gaps


apart = {
    "gradient descent": paths(torch.optim.SGD, 0.1),
    "Adam": paths(torch.optim.Adam, 3e-3),
}
print("after 40 updates, the twins still agree within 1e-8 under gradient descent:",
      apart["gradient descent"][-1] < 1e-8, "· under Adam:", apart["Adam"][-1] < 1e-8)

# %% tags=["nbval-ignore-output"]
columns = [f"{10 * i} updates" for i in range(5)]
pd.DataFrame(apart, index=columns).T.map("{:.1e}".format)

# %% [markdown]
# ## Corrected: $\mathbb{Z}_8$, four transitions
#
# Words start with two tokens and grow to 32 over half of the updates. The last arm has 32 tokens from
# the start, for comparison: with random phases, the sum of 32 of them says little. Tests go on to
# 256 tokens.


# %%
POLAR = ("circulant", "complex diagonal")  # the two to be compared


def gains(model):
    """Complex["tokens modes"]: of the first layer, for every token."""
    return model.mixers[0].transition(model.mixer_norms[0](model.embedding))


def train(kind, task, *, steps=p.steps, curriculum=True, watch=None, **settings):
    """Models and histories of one arm; words of up to TRAIN tokens."""
    models = [build(kind, task, seed, **settings) for seed in p.seeds]
    histories = fit_together(
        models, [task] * len(models), seeds=p.seeds, steps=steps, batch=p.batch, lr=1e-2,
        length=lambda update: min(TRAIN, 2 + 60 * update // steps) if curriculum else TRAIN,
        optimizer=partial(torch.optim.AdamW, weight_decay=0.1), schedule="warmup-cosine",
        decay="all", clip=1.0, device="cpu", watch=watch, label=kind,
    )
    return models, histories


def by_position(models, task, length=TESTS[-1]):
    """Float["seeds length"]: share of right answers at every step."""
    pairs = zip(models, p.seeds, strict=True)
    return torch.stack(
        [score(m, task, length=length, samples=p.samples, seed=s).by_step for m, s in pairs]
    )


arms = {
    kind: train(kind, z8, watch={"gains": gains} if kind in POLAR else None)
    for kind in (*POLAR, "signed diagonal", "positive diagonal")
}
arms["circulant, no curriculum"] = train("circulant", z8, curriculum=False)
correct = {kind: by_position(models, z8) for kind, (models, _) in arms.items()}

# %% tags=["nbval-ignore-output"]
at = torch.tensor(TESTS) - 1
curves = {kind: torch.stack([h.loss for h in histories]) for kind, (_, histories) in arms.items()}
display(figures.losses(curves, title="Z8: words grow from 2 tokens to 32 over half of the run"))
figures.accuracy(
    {kind: each[:, at] for kind, each in correct.items()}, x=TESTS, x_title="tokens",
    levels={"chance": 1 / 8}, title="Z8: right answers at the last step",
)

# %% tags=["nbval-ignore-output"]
pd.DataFrame({
    (kind, f"seed {seed}"): {f"{n} tokens": f"{each[i, n - 1]:.3f}" for n in TESTS}
    for kind, each in correct.items() for i, seed in enumerate(p.seeds)
}).T

# %% [markdown]
# ## Diagnosis: what the phases became
#
# An exact solution turns one mode by $\theta_k = 2\pi m k/8$ for token $k$, with some whole $m$. For
# every mode of the first layer, the nearest such line and the distance from it, in degrees: the
# mean distance over tokens is a drift, which adds up step after step; what is left scatters.


# %%
def nearest_character(gains):
    """m Int64["modes"], and residual phases Float["tokens modes"] in degrees."""
    turns = gains.angle() / (2 * math.pi) * 8  # in units of 45 degrees
    k, m = torch.arange(8)[:, None, None], torch.arange(8)[:, None]
    residual = turns[:, None] - k * m
    residual = residual - 8 * (residual / 8).round()
    best = residual.square().mean(0).argmin(0)
    chosen = residual.gather(1, best.expand(8, 1, -1))[:, 0]
    return best, 45 * chosen


def turning(model):
    return gains(model)[:, model.mixers[0].transition.turns].detach()


def character_table(models):
    rows = []
    for seed, model in zip(p.seeds, models, strict=True):
        m, residual = nearest_character(turning(model))
        size = residual.square().mean(0).sqrt()
        odd = torch.where(m % 2 == 1, size, math.inf)
        best = odd.argmin()
        rows.append({
            "seed": seed, "modes within 5°": int((size < 5).sum()), "of these faithful": int((odd < 5).sum()),
            "best faithful mode: m": int(m[best]), "rms distance, °": f"{size[best]:.2f}",
            "drift, °/token": f"{residual[:, best].mean():+.3f}",
            "its r, smallest": f"{turning(model)[:, best].abs().min():.5f}",
        })
    return pd.DataFrame(rows)


# %% tags=["nbval-ignore-output"]
for kind in POLAR:
    untrained = [build(kind, z8, seed) for seed in p.seeds]
    display(pd.concat({f"{kind}, {when}": character_table(models) for when, models in
                       (("untrained", untrained), ("trained", arms[kind][0]))}))

# %% tags=["nbval-ignore-output"]
model = arms["circulant"][0][0]
found = turning(model)
m, residual = nearest_character(found)
close = residual.square().mean(0).argsort()[:4]
lines = {f"mode {int(i)}, m = {int(m[i])}": (45 * m[i] * torch.arange(8) + residual[:, i]) % 360
         for i in close}
figure = figures.lines(
    lines, title="Learned phase of each token, the four modes nearest to a character",
    x_title="token", y_title="phase, degrees",
)
display(figure.update_traces(mode="lines+markers").update_yaxes(tickvals=list(range(0, 361, 45))))
radii = {kind: torch.stack([turning(m).abs() for m in arms[kind][0]])
         for kind in POLAR}
figures.strips(
    {kind: r.amax(1).flatten() for kind, r in radii.items()}, log=False,
    title="Modulus of every mode, its largest over tokens; started near 0.999",
    y_title="r", limits={"unit circle": 1.0},
)

# %% [markdown]
# Whether precision is all that is missing can be tried. Below, the first layer's nearly exact modes
# (rms within 10°) are made exact: their phases are moved onto the line by the smallest change of the
# weights, their radius is set to 1, and nothing else in the model is touched.


# %%
def sharpened(model, within=10.0):
    """A copy whose nearly exact modes in the first layer turn by whole multiples of 45 degrees."""
    model = deepcopy(model)
    inner, x = model.mixers[0].transition, model.mixer_norms[0](model.embedding).detach()
    modes = inner.turns.nonzero()[:, 0]
    _, residual = nearest_character(turning(model))
    near = residual.square().mean(0).sqrt() < within
    rows, wrong = modes[near], torch.deg2rad(residual[:, near])
    with torch.no_grad():
        inner.phase.weight[rows] -= (torch.linalg.pinv(x) @ wrong).mT
        inner.decay.weight[rows], inner.decay.bias[rows] = 0.0, 0.0
    return model


exact = {kind: by_position([sharpened(m) for m in arms[kind][0]], z8) for kind in POLAR}

# %% tags=["nbval-ignore-output"]
figures.accuracy(
    {f"{kind}, {how}": each[:, at] for kind in exact
     for how, each in (("as trained", correct[kind]), ("made exact", exact[kind]))},
    x=TESTS, x_title="tokens", levels={"chance": 1 / 8},
    title="Z8: the same models with their nearly exact modes made exact",
)

# %% [markdown]
# ## Groups that do not commute
#
# All circulants commute. With no drive, a layer's state then depends on how often each token came
# and on nothing else, and the exact ceiling for that is known. Two things that the claim "only
# abelian groups" leaves out are tried on $S_3$, generated by a rotation and a swap:
#
# - **The drive.** $h \mapsto A h + b$ is affine, and affine maps with commuting $A$ need not commute:
#   $h \mapsto -h$ and $h \mapsto -h + b$ generate an infinite dihedral group, of which $S_3$ is a
#   quotient. The state then runs away along a line, and reading it off must fail at some length.
# - **A second layer.** $S_3$ is solvable: one layer holds the sign, and in the next the sign chooses
#   which way a token turns. Two commuting layers do what one cannot.
#
# $A_5$ (a five-cycle and a three-cycle) is the smallest group where neither helps: it has no
# commutative image and no chain of commutative ones. Its 60 elements turn three dimensions.

# %%
S3, A5 = groups.symmetric(3), groups.alternating(5)
s3 = WordProblem(S3, S3.indices([(1, 2, 0), (1, 0, 2)]))
a5 = WordProblem(A5, A5.indices([(1, 2, 3, 4, 0), (1, 2, 0, 3, 4)]))
ceilings = {
    name: (task.abelian_ceiling(TRAIN)[-1].item(), task.commuting_ceiling(TRAIN))
    for name, task in (("S3", s3), ("A5", a5))
}
for name, (abelian, counts) in ceilings.items():
    print(f"{name}: abelian ceiling {abelian:.4f}, ceiling of token counts {counts:.4f}")

# %%
no_drive = {"layers": 1, "drive": False, "learn_initial": True}
CASES = {
    "S3, circulant, one layer, no drive": ("circulant", s3, {"steps": p.s3_steps} | no_drive),
    "S3, circulant, one layer": ("circulant", s3, {"steps": p.s3_steps, "layers": 1}),
    "S3, circulant, two layers": ("circulant", s3, {"steps": p.s3_steps}),
    "S3, block-circulant, two layers": ("block-circulant", s3, {"steps": p.s3_steps}),
    "A5, circulant, two layers": ("circulant", a5, {"steps": p.a5_steps}),
    "A5, block-circulant, two layers": ("block-circulant", a5, {"steps": p.a5_steps}),
}
others = {name: train(kind, task, **settings) for name, (kind, task, settings) in CASES.items()}
solved = {name: by_position(others[name][0], CASES[name][1]) for name in CASES}

# %% tags=["nbval-ignore-output"]
for name in ("S3", "A5"):
    shown = {arm[4:]: each[:, at] for arm, each in solved.items() if arm.startswith(name)}
    levels = {"abelian ceiling": ceilings[name][0]}
    display(figures.accuracy(shown, x=TESTS, x_title="tokens", levels=levels, title=f"{name}"))
pd.DataFrame({
    (arm, f"seed {seed}"): {f"{n} tokens": f"{each[i, n - 1]:.3f}" for n in TESTS}
    for arm, each in solved.items() for i, seed in enumerate(p.seeds)
}).T

# %% tags=["nbval-ignore-output"]
from lab.records import committed  # the full run, for the short one at the defaults

committed.figure("013", "A5")

# %% [markdown]
# Do the relations of the group hold? A relation (a word that is the identity, such as three
# rotations) is put into the middle of random words, and what the first layer says at their end is
# compared: 0 where the relation holds, 1 where it moves the answer as far as another word would. A
# layer that holds only the commutative image has small values, too: there, the relations hold.

# %%
RELATIONS = {"S3": [(0, 0, 0), (1, 1), (0, 1, 0, 1)], "A5": [(0,) * 5, (1,) * 3]}


def relation_gap(model, task):
    """How far the worst relation moves the first layer's output, relative to its spread."""
    table, mixer = model.mixer_norms[0](model.embedding), model.mixers[0]
    before, after = (task.words(200, n, stream(n, "relations")) for n in (12, 4))

    def said(*parts):
        return mixer.of_tokens(table, torch.cat(parts, dim=1))[:, -1]

    plain, moved = said(before, after), []
    for word in RELATIONS[task.group.name]:
        inside = torch.tensor(word).expand(len(before), -1)
        moved.append((said(before, inside, after) - plain).square().sum(1).mean())
    return (torch.stack(moved).max() / (2 * plain.var(0).sum())).sqrt().detach()


# %% tags=["nbval-ignore-output"]
figures.strips(
    {name: torch.stack([relation_gap(m, CASES[name][1]) for m in models])
     for name, (models, _) in others.items()},
    title="How far the group's relations are from holding, first layer",
    y_title="moved by a relation / by another word", log=True,
)

# %% [markdown]
# ## Speed, and the two ways to run the recurrence
#
# Forwards, 32 words of 256 tokens, one thread: the whole models, and one state-space layer alone.
# Written as a diagonal layer, with F moved into B and C once and for all, the circulant needs no
# transform at run time.


# %%
def layer(kind):
    generator = stream(0, "speed")
    return StateSpace(D, KINDS[kind][0](D, d_state=N, generator=generator), generator=generator)


def timed(modules, x):
    """Milliseconds of a forward pass by name; the calls take turns."""
    calls = {name: torch.no_grad()(partial(module, x)) for name, module in modules.items()}
    for call in calls.values():
        call()
    timings = take_turns(calls, rounds=15, budget=2.0, label="forward")
    return pd.Series({name: 1e3 * timing.median for name, timing in timings.items()})


models = {kind: build(kind, z8, 0) for kind in KINDS}
layers = {kind: layer(kind) for kind in KINDS}
models["circulant, as diagonal"] = diagonal_twin(models["circulant"])
layers["circulant, as diagonal"] = as_diagonal(layers["circulant"])
tokens = z8.sample(32, TESTS[-1], stream(0, "speed")).inputs
vectors = torch.randn(32, TESTS[-1], D, generator=stream(0, "speed"))
speed = pd.DataFrame({"model": timed(models, tokens), "layer": timed(layers, vectors)})
slower = speed / speed.loc["positive diagonal"]

# %% tags=["nbval-ignore-output"]
pd.concat({"ms": speed, "time / positive diagonal": slower}, axis=1).round(2)

# %% [markdown]
# The recurrence in space, one dense circulant product after another, against the inverse transform
# of the scan over frequencies: the trained layers, in single precision, to 256 tokens.


# %%
def spatial_gap(model, length=TESTS[-1]):
    """Largest difference of any state, and the largest state."""
    mixer, tokens = model.mixers[0], z8.sample(20, length, stream(0, "S4")).inputs
    with torch.no_grad():
        inputs = model.mixer_inputs(tokens)
        dense = mixer.transition.dense(mixer.transition(inputs))
        spatial = matrix_scan_sequential(dense, mixer.B(inputs))
        return (mixer.states(inputs) - spatial).abs().max().item(), spatial.abs().max().item()


gaps = [spatial_gap(model) for model in arms["circulant"][0]]
trained_gap = max(max(twin_gap(model, words)) for model in arms["circulant"][0])
print("trained circulant = complex diagonal, within 1e-10:", trained_gap < 1e-10)

# %% [markdown]
# ## Panels: states and eigenvalues
#
# The state of the first layer in space, where every transition mixes all coordinates, and the same
# state in Fourier, where none does: what is one pattern there is a few modes here.


# %% tags=["nbval-ignore-output"]
def draw_states(h):
    titles = ["h, in space", "|F h|, by frequency"]
    figure = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.24)
    for col, values in enumerate((h, fourier(h).abs()), start=1):
        figure.add_heatmap(z=values.mT.numpy(), coloraxis=f"coloraxis{col}", row=1, col=col)
        figure.update_xaxes(title="step t", row=1, col=col)
        figure.update_yaxes(title=("position", "frequency")[col - 1], row=1, col=col)
    bars = {f"coloraxis{i}": {"colorscale": scale, "colorbar": {"x": x, "thickness": 10}}
            for i, scale, x in ((1, "RdBu", 0.38), (2, "Viridis", 1.01))}
    return figure.update_layout(height=420, title="State of the first circulant layer", **bars)


words = panels.examples(z8, length=TRAIN)
panels.states({"circulant": arms["circulant"][0]}, words, draw=draw_states)


# %% tags=["nbval-ignore-output"]
def draw_modes(h, model):
    return figures.trajectories(fourier(h) if model.startswith("circulant") else h)


panels.states(
    {arm: models for arm, (models, *_) in arms.items()}, words, draw=draw_modes,
    title="modes of the first layer",
)


# %% tags=["nbval-ignore-output"]
def spectra_in_training(_, model, token, snapshot):
    history = arms[model][1][0]
    seen = history.watched["gains"][round(snapshot / 100 * (len(history.watched_at) - 1))]
    return {f"token {k}": seen[k] for k in (0, int(token))}


panels.eigenvalues(
    {arm: arms[arm][0][:1] for arm in POLAR}, spectra=spectra_in_training, title="gains in training",
    token=Slider("token", 1, 0, 7, 1), snapshot=Slider("training, %", 100, 0, 100, 2, play=True),
)


# %% tags=["nbval-ignore-output"]
def spectra_of_generators(chosen, model):
    task, inner = CASES[model][1], chosen.mixers[0].transition
    found = inner.eigenvalues(inner(chosen.mixer_norms[0](chosen.embedding)))
    names = [task.group.cycles(element) for element in task.alphabet]
    return dict(zip(names, found, strict=True))


panels.eigenvalues({arm: others[arm][0] for arm in reversed(CASES)}, spectra=spectra_of_generators)

# %% [markdown]
# ## Criteria and verdict
#
# S1 to F2 take the last of 32 tokens and the worst seed. C1 is the mean of the paired differences
# with its 95 % t interval. C2 is applied as it stands, to two layers of each kind, on $S_3$ and on
# $A_5$: "at the ceiling" is read as no more than 0.05 above it. S3 and F2 leave open whose throughput
# is meant: they are judged for the whole model and for one layer alone. Rows E are for the reader.

# %%
check = evidence.check
last = {kind: each[:, TRAIN - 1] for kind, each in correct.items()}
check(
    "S1",
    last["circulant"].min(),
    ">",
    0.9,
    metric="circulant, Z8, token 32",
    spread=last["circulant"].std(),
)
check("S2", last["positive diagonal"].max(), "<", 0.6, metric="positive diagonal, Z8, token 32",
      spread=last["positive diagonal"].std())
for what in ("model", "layer"):
    ratio = slower[what]["circulant"]
    check("S3", 1 / ratio, ">", 0.5, metric=f"throughput / positive diagonal, {what}")
    check("F2", ratio, ">", 5, kind="failure", metric=f"time / positive diagonal, {what}")
check("S4", max(gap for gap, _ in gaps), "<", 1e-4, metric="recurrence against scan, float32")
beaten = (last["circulant"] - last["positive diagonal"]).min()
check("F1", beaten, "<=", 0.0, kind="failure", metric="circulant - positive diagonal, token 32")
for kind in ("circulant, as diagonal", "complex diagonal"):
    check("E", 1 / slower.layer[kind], ">", 0.5, kind="context",
          metric=f"throughput / positive diagonal, one layer, {kind}")
_ = check("E", max(start_gap, trained_gap), "<", 1e-10, kind="context",
          metric="circulant against its diagonal twin, float64")

# %%
for when, steps in (("C1", slice(-1, None)), ("E", slice(0, None))):
    one, other = (correct[kind][:, steps].mean(1) for kind in POLAR)
    mean, low, high = mean_interval(one - other)
    where = "token 256" if when == "C1" else "all 256 tokens"
    check(when, mean, ">", 0.0, kind="context", spread=high - mean,
          metric=f"circulant - complex diagonal, Z8, {where}")
    for end, value in (("lower", low), ("upper", high)):
        check(when, value, ">", 0.0, kind="context", metric=f"{end} end of the interval, {where}")

for name in ("S3", "A5"):
    circulant, block = (solved[f"{name}, {kind}, two layers"][:, TRAIN - 1]
                        for kind in ("circulant", "block-circulant"))
    check("C2", circulant.max() - ceilings[name][0], "<=", 0.05, spread=circulant.std(),
          metric=f"circulant - abelian ceiling, {name}, token 32")
    check(
        "C2", block.min(), ">", 0.9, spread=block.std(), metric=f"block-circulant, {name}, token 32"
    )

# %%
for arm in list(CASES)[:2]:
    value = solved[arm][:, TRAIN - 1]
    check("E", value.mean() - ceilings["S3"][1], "<=", 0.05, kind="context", spread=value.std(),
          metric=f"mean above the ceiling of counts: {arm}, token 32")
for arm in ("S3, circulant, two layers", "A5, circulant, two layers"):
    value = solved[arm][:, TESTS[2] - 1]
    check("E", value.max() - ceilings[arm[:2]][0], "<=", 0.05, kind="context", spread=value.std(),
          metric=f"above the abelian ceiling: {arm}, token 128")
for kind, each in correct.items():
    for n in (TESTS[0], TESTS[-1]):
        check("E", each[:, n - 1].mean(), ">", 0.9, kind="context", spread=each[:, n - 1].std(),
              metric=f"mean of {kind}, Z8, token {n}")
for kind, each in exact.items():
    check("E", each[:, -1].min(), ">", 0.9, kind="context", spread=each[:, -1].std(),
          metric=f"{kind} made exact, Z8, token 256")

# %%
on_a5 = solved["A5, circulant, two layers"][:, TRAIN - 1].max().item()
evidence.summary(
    question="What does a circulant transition add to a complex diagonal one?",
    finding=(
        f"Another basis, no more (gap {lab.evidence.shown(evidence.value('E', 'circulant against its diagonal twin, float64'), 2)}); "
        f"at token 32 the circulant has {100 * evidence.value('S1', 'circulant, Z8, token 32'):.0f} % on Z8 "
        f"(worst seed), {100 * on_a5:.0f} % on A5 (best), a block-circulant "
        f"{100 * evidence.value('C2', 'block-circulant, A5, token 32'):.0f} % on A5 (worst)."
    ),
    settles="Compare phase errors in degrees a token over 30 seeds, and score the block-circulant and the positive diagonal at 128 tokens.",
    figure="Z8: right answers at the last step",
    tags=["state tracking", "circulant"], impact=2, cost_h=3,
)

# %% tags=["nbval-ignore-output"]
evidence

# %% tags=["nbval-ignore-output"]
committed.criteria(evidence)

# %% [markdown]
# Statuses that hang on a time, and F1, which small runs decide at chance level, are left out here:
# another machine may have others.

# %%
ELSEWHERE = ("S3 ", "F2 ", "F1 ", "verdict")
print("\n".join(s for s in evidence.statuses().splitlines() if not s.startswith(ELSEWHERE)))

# %% [markdown]
# ## What this does not show, and what next
#
# **The answer.** A circulant transition adds a basis to a complex diagonal one and nothing else, and
# only an optimiser that favours the axes can see it. The paired interval C1 says how much that is
# worth over five seeds; one word problem and one width say nothing about real data, where a start in
# which every coordinate mixes might matter more.
#
# **Length.** Both complex arms find the characters of $\mathbb{Z}_8$ but not to the last digit:
# a drift of a fraction of a degree per token is invisible at 32 tokens and fatal at 256. The models
# made exact show that little else is missing. A training rule that keeps pulling phases onto the
# grid after the loss has vanished is the thing to try next.
#
# **C2 as it stands.** Its first half is not a consequence of commuting. It holds where the theorem
# applies, with one layer and no drive; with the drive, or a second layer, circulants pass the
# ceiling on the words they were trained on, and come back to it on longer ones. On $A_5$, where the
# two kinds part at any length, the block-circulant is the only one that follows.
#
# **Cost.** Sines, cosines and complex numbers are what a polar gate costs, in the complex diagonal
# as in the circulant; the transforms themselves come to little, and to nothing with F inside B and C.
# The block-circulant layer pays for building its blocks at every step.
