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
# # 013 · Does a circulant transition do more than a complex diagonal one of the same size?
#
# **Idea.** A state-space model keeps a state, $h_t = \mathrm{Circ}(a(x_t))\,h_{t-1} + B x_t$. A circulant
# matrix mixes all coordinates of that state at every step. It is cheap all the same: the Fourier
# transform $F$ makes every circulant matrix diagonal, and the scan is elementwise over frequencies.
#
# **Reported before.** Nothing: the layer had been implemented, and no result was kept.
#
# **Answer.** No. The circulant layer *is* a complex diagonal layer whose $B$ and $C$ are multiplied by
# an orthogonal matrix: outputs differ by rounding alone, below $10^{-10}$. Both add up numbers modulo 8
# without an error for 32 steps; a positive real diagonal does not learn that here.
#
# **Cause.** The two are one model, written in two bases. Only an optimiser that treats every
# coordinate by itself, as Adam does, can tell the bases apart.
#
# **Why REFUTED.** The proposal also claimed that circulants follow commutative groups alone (C2a).
# On $S_3$, which does not commute, two layers of them get 18 to 65 points beyond that limit.

# %% tags=["parameters"]
experiment: str = "013"  # the notebook these parameters belong to
seeds: list[int] = [0, 3]  # one model each, alike in every arm, in [0, 2147483647]
steps: int = 150  # updates per model, in [2, 1000000]
s3_steps: int = 10  # updates per model on the smaller group, in [2, 1000000]
a5_steps: int = 10  # updates per model on the largest group, in [2, 1000000]
batch: int = 16  # words per update, in [1, 100000]
samples: int = 200  # words that a score is the mean over, in [50, 1000000]

# %% jupyter={"source_hidden": true}
import math
from copy import deepcopy
from functools import partial

import pandas as pd
import torch
from IPython.display import display

import lab
from lab import audit
from lab.audit.representations import nearest_character, relation_gap
from lab.benchmark.forward import forward_milliseconds
from lab.experiment import MEAN, NUMBER, WORST, Arm, Experiment, Planned
from lab.linalg.circulant import fourier, real_fourier
from lab.mixers import StateSpace
from lab.mixers.equivalence import as_diagonal
from lab.model import residual_model
from lab.plots import figures, panels
from lab.scan import matrix_scan_sequential
from lab.seeding import stream
from lab.tasks import WordProblem, groups
from lab.transitions import BlockCirculant, Circulant, PolarDiagonal, RealDiagonal

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range
torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
exp = Experiment(
    "013", title="Circulant state-space model", parameters=p,
    question="Does a circulant transition do more than a complex diagonal one of the same size?",
    criteria=[
        Planned("S1", "circulant, Z8, token 32", ">", 0.9),
        Planned("S2", "positive diagonal, Z8, token 32", "<", 0.6, guard="K2"),
        Planned("S3", "throughput / positive diagonal, {part}", ">", 0.5, NUMBER, parts=["model", "layer"], varies=True),
        Planned("S4", "recurrence against scan, float32", "<", 1e-4, low_is_good=True, varies=True),
        Planned("F1", "circulant - positive diagonal, token 32", "<=", 0.0, kind="failure", paired=True, varies=True),
        Planned("F2", "time / positive diagonal, {part}", ">", 5, NUMBER, "failure", parts=["model", "layer"], varies=True),
        Planned("C1", "circulant - complex diagonal, Z8, {part}", ">", 0.0, MEAN, "context", paired=True,
                parts=["token 256", "all 256 tokens"]),
        Planned("C2a", "circulant - abelian ceiling, {part}, token 32", "<=", 0.05, guard="K2", parts=["S3", "A5"]),
        Planned("C2b", "block-circulant, {part}, token 32", ">", 0.9, parts=["S3", "A5"]),
        Planned("K1", "circulant against its diagonal twin, float64", "<", 1e-10, NUMBER, "control",
                added="without this identity nothing else here would mean what it says."),
        Planned("K2", "{part}, token 4", ">", 0.9, kind="control",
                parts=["positive diagonal, Z8", "circulant, S3", "circulant, A5"],
                added="S2 and C2a ask a model to stay below a limit, which one that learned nothing does as well."),
    ],
)
exp

# %% [markdown]
# The criteria S1 to C2 are those of the proposal, with its thresholds. Unless a row says otherwise,
# its values are shares of right answers at token 32, the length of training, one for each seed. S3
# and F2 leave open whose speed is meant, and are judged for the whole model and for one layer alone.
# C2 has two halves. Circulants are to stay at the best that is possible for whoever knows the
# commutative image of a group alone (C2a, read as no more than 0.05 above it), and block-circulants,
# which need not commute, are to follow (C2b). What would have changed our mind is a difference C1
# that keeps its sign over the seeds.
#
# The seeds of this notebook were also used while its settings were chosen, so its numbers may
# flatter all arms.
#
# ## Is the task what we think it is?
#
# $\mathbb{Z}_8$: the tokens are the numbers 0 to 7, and the target at every step is their running sum
# modulo 8. A sequence of tokens is called a word; words have at most 32 tokens in training, and up to
# 256 in tests. The model has to keep a number that goes round in a circle, however long the word is,
# so that longer tests tell who has found the circle from who has only learned short words.

# %%
TRAIN, TESTS = 32, [32, 64, 128, 256]  # tokens
z8 = WordProblem(groups.cyclic(8), range(8))
example = z8.sample(100, TRAIN, stream(0, "example"))
assert torch.equal(example.targets, example.inputs.cumsum(1) % 8)
report = audit.task(z8, length=TRAIN)
print("test inputs also in training:", report["test inputs also in training"])
print("chance accuracy:", f"{z8.chance_accuracy(TRAIN)[-1]:.3f}")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(report)
panels.targets(
    z8, length=TRAIN, rows=("token", "sum modulo 8"), title="A word and its target, elements of Z8"
)

# %% [markdown]
# Test words are new: there are $8^{32}$ of them. A guess is right once in eight times, and an error made
# at one step stays in the sum, so that accuracy falls to chance once the count is lost.
#
# ## Is the model what we think it is?
#
# Every model has two layers, each a state-space layer and a SwiGLU. The transitions differ, and all
# else is alike. The complex diagonal has the 31 complex and 2 real modes that the spectrum of 64
# real numbers has, so that it has as many parameters as the circulant, to the last one. The modulus
# of a mode, $r = e^{-z^2}$, starts near 0.999 and reaches 1 at $z = 0$; a sigmoid would never arrive.

# %%
D = N = 64  # width; state, in real numbers
KINDS = {  # transition, width of the SwiGLU, parameters
    "circulant": (Circulant, 192, 100_300),
    "complex diagonal": (partial(PolarDiagonal, real_ends=True), 192, 100_300),
    "signed diagonal": (partial(RealDiagonal, gate="tanh"), 192, 100_040),
    "positive diagonal": (RealDiagonal, 192, 100_040),
    "block-circulant": (partial(BlockCirculant, block=4, factors=2), 160, 100_752),
}


def build(kind, task, seed, layers=2, **settings):
    transition, d_hidden, _ = KINDS[kind]

    def mixer(generator):
        inner = transition(D, d_state=N, generator=generator)
        return StateSpace(D, inner, generator=generator, **settings)

    return residual_model(task, seed, d_model=D, mixer=mixer, layers=layers, d_hidden=d_hidden)


# %%
audits = {
    kind: audit.model(build(kind, z8, 0).double(), z8, length=TRAIN, parameters=count)
    for kind, (_, _, count) in KINDS.items()
}
print({kind: each["real parameters"] for kind, each in audits.items()})

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(audits["circulant"])

# %% [markdown]
# The table is the audit of the circulant model: its output never depends on later tokens, the scan and
# the step-by-step form agree, and its largest eigenvalue, 0.9995, keeps 98 % of a state for 32 steps.
#
# ### One model in two bases
#
# Take the diagonal layer with $FB$ in place of $B$, $CF^\top$ in place of $C$, and the same gains. It
# has the same outputs as the circulant layer, and its state is the Fourier transform of the other
# one's. Nothing is approximate in this: in double precision the two agree to $10^{-10}$ (K1), before
# training and, further below, after it.


# %%
def diagonal_twin(model):
    """The same model with its circulant layers written as complex diagonal ones."""
    twin = deepcopy(model)
    twin.mixers = torch.nn.ModuleList(as_diagonal(mixer) for mixer in model.mixers)
    return twin


@torch.no_grad()
def twin_gap(model):
    """Largest difference of scores, and of states once in the same basis."""
    words = z8.sample(20, TESTS[-1], stream(0, "twins")).inputs
    model = deepcopy(model).double()
    twin, F = diagonal_twin(model), real_fourier(N)
    scores = (twin(words) - model(words)).abs().max()
    states = (twin.states(words) - model.states(words) @ F.mT).abs().max()
    return max(scores.item(), states.item())


start_gap = max(twin_gap(build("circulant", z8, seed)) for seed in p.seeds)
assert start_gap < 1e-10, "the map onto the diagonal layer is wrong"
print("circulant = complex diagonal with F B and C F^T, within 1e-10:", start_gap < 1e-10)

# %% [markdown]
# So what is left to differ? Not the start: if the entries of $B$ and $C$ are drawn independently with
# one variance, an orthogonal matrix changes neither their mean nor their covariance. Not the
# gradient: it turns with the basis, and gradient descent takes the same path in both. Adam divides
# every coordinate by the size of its own gradient, and that size depends on the basis. Here are both
# optimisers from one start, in double precision. Under gradient descent the twins stay equal to 14
# digits; under Adam they are different models after ten updates:


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


apart = {"gradient descent": paths(torch.optim.SGD, 0.1), "Adam": paths(torch.optim.Adam, 3e-3)}
print("after 40 updates, the twins still agree within 1e-8:",
      {name: gaps[-1] < 1e-8 for name, gaps in apart.items()})

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
pd.DataFrame(apart, index=[f"{10 * i} updates" for i in range(5)]).T.map("{:.1e}".format)

# %% [markdown]
# ## Corrected: $\mathbb{Z}_8$, four transitions
#
# Every arm of the comparison has one model for each seed. The models of a seed see the same words in
# all arms, and circulant and complex diagonal draw the same numbers at the start, in their own basis.
#
# Training starts with words of two tokens, and they grow to 32 over half of the updates. The last arm
# has 32 tokens from the start, for comparison: as long as the phases are random, the sum of 32 of
# them says little, and there is hardly a gradient to follow.


# %%
def growing(steps):
    """So many updates, and words that grow with them."""
    return {"steps": steps, "length": lambda update: min(TRAIN, 2 + 60 * update // steps)}


RECIPE = {
    "batch": p.batch, "lr": 1e-2, "schedule": "warmup-cosine", "decay": "all", "clip": 1.0,
    "optimizer": partial(torch.optim.AdamW, weight_decay=0.1), "device": "cpu",
    "watch": {"eigenvalues": panels.by_token},
}
POLAR = ("circulant", "complex diagonal")  # the two to be compared
ARMS = {kind: partial(build, kind) for kind in (*POLAR, "signed diagonal", "positive diagonal")}
ARMS["circulant, no curriculum"] = Arm(partial(build, "circulant"), length=TRAIN)
arms = exp.train(ARMS, z8, RECIPE | growing(p.steps))
scores = arms.scores(length=TESTS[-1], samples=p.samples)
last = scores.at(TRAIN)
exp.judge("S1", last["circulant"])
exp.judge("S2", last["positive diagonal"])
exp.judge("F1", last["circulant"], minus=last["positive diagonal"])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(arms.losses(title="Z8: words grow from 2 tokens to 32 over half of the run"))
display(scores.frame(TESTS))
exp.key_figure(
    scores.curves(TESTS, levels={"chance": 1 / 8}, title="Z8: right answers at the last step")
)

# %% [markdown]
# Circulant and complex diagonal are never wrong at 32 tokens, and both lose count on longer words, some
# seeds sooner than others. The real diagonals learn it in part or not at all: a positive one can only
# forget, and a signed one can tell even from odd. Without the curriculum the circulant fails as well,
# so what is learned depends on how training is done, and not on the transition alone.
#
# Does the basis matter to Adam, then? Seeds share their data, so the difference is taken seed by
# seed: at the end of 256 tokens, and as the mean over all of them.

# %%
ends = {"token 256": scores.at(256), "all 256 tokens": scores.mean()}
one, other = ({where: each[kind] for where, each in ends.items()} for kind in POLAR)
exp.judge("C1", one, minus=other)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
pd.DataFrame({where: each.paired(*POLAR) for where, each in ends.items()}).T.round(3)

# %% [markdown]
# Both intervals hold zero and are wide: with these seeds nobody can say that either basis is better.
# Accuracy at one late token is a poor measure, too: a phase that drifts by a whole turn is right again.
#
# ## Diagnosis: what the phases became
#
# A model is exact if one of its modes turns by $\theta_k = 2\pi m k/8$ for token $k$, with a whole
# number $m$; mathematicians call this a character of the group. If $m$ is odd, the mode is faithful:
# it tells all eight sums apart. For every mode of the first layer, this looks up the nearest
# character and how far the phases are from it, in degrees. The mean of these distances is a drift,
# which adds up step after step; the rest of them only scatters.


# %%
def turning(model):
    """Complex["8 modes"]: gains of the first layer for every token, of the modes that turn."""
    inner = model.mixers[0].transition
    return inner(model.mixer_norms[0](model.embedding))[:, inner.turns].detach()


def best_character(model, _):
    """How near the first layer is to a faithful character."""
    m, residual = nearest_character(gains := turning(model))
    size = residual.square().mean(0).sqrt()
    odd = torch.where(m % 2 == 1, size, math.inf)
    best = odd.argmin()
    return {
        "modes within 5°": int((size < 5).sum()), "of these faithful": int((odd < 5).sum()),
        "best faithful mode: m": int(m[best]), "rms distance, °": f"{size[best]:.2f}",
        "drift, °/token": f"{residual[:, best].mean():+.3f}",
        "its r, smallest": f"{gains[:, best].abs().min():.5f}",
    }


polar = arms.select(POLAR)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
untrained = exp.untrained({kind: ARMS[kind] for kind in POLAR}, z8)
display(pd.concat({"untrained": untrained.frame(best_character), "trained": polar.frame(best_character)}))
m, residual = nearest_character(turning(polar["circulant"].models[0]))
lines = {f"mode {int(i)}, m = {int(m[i])}": (45 * m[i] * torch.arange(8) + residual[:, i]) % 360
         for i in residual.square().mean(0).argsort()[:4]}
figure = figures.lines(lines, x_title="token", y_title="phase, degrees",
                       title="Learned phase of each token, the four modes nearest to a character")
display(figure.update_traces(mode="lines+markers").update_yaxes(tickvals=list(range(0, 361, 45))))
figures.strips(
    polar.measure(lambda model, _: turning(model).abs().amax(0)), log=False, y_title="r",
    title="Modulus of every mode, its largest over tokens; started near 0.999",
    limits={"unit circle": 1.0},
)

# %% [markdown]
# Before training no mode is near a character; afterwards one to three are, in every model of either
# kind, and the best one is within a few degrees. Its drift is what counts: 0.7° a token are 23° after
# 32 tokens, half of what separates two sums, and 186° after 256. The moduli of these modes lie between
# 0.999 and 1, so hardly anything is forgotten on the way.
#
# Training finds the characters, then, though not to the last digit. Is precision all that is missing? That
# can be tried: below, the modes of the first layer that are nearly exact (within 10°) are made exact.
# The smallest change of the weights moves their phases onto the line, their radius becomes 1, and
# nothing else in the model is touched.


# %%
@torch.no_grad()
def sharpened(model, within=10.0):
    """A copy whose nearly exact modes in the first layer turn by whole multiples of 45 degrees."""
    model = deepcopy(model)
    inner, x = model.mixers[0].transition, model.mixer_norms[0](model.embedding)
    _, residual = nearest_character(turning(model))
    near = residual.square().mean(0).sqrt() < within
    rows, wrong = inner.turns.nonzero()[near, 0], torch.deg2rad(residual[:, near])
    inner.phase.weight[rows] -= (torch.linalg.pinv(x) @ wrong).mT
    inner.decay.weight[rows], inner.decay.bias[rows] = 0.0, 0.0
    return model


exact = polar.map(sharpened).scores(length=TESTS[-1], samples=p.samples)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
both = scores.select(POLAR).renamed("{}, as trained") | exact.renamed("{}, made exact")
both.curves(TESTS, levels={"chance": 1 / 8},
            title="Z8: the same models with their nearly exact modes made exact")

# %% [markdown]
# It is: with their modes made exact the same models are right at 256 tokens in 97 to 100 % of all
# words, in either basis. Neither the state nor the rest of the model stood in the way.
#
# ## Groups that do not commute
#
# All circulant matrices commute. If only the transition acts on the state (no drive $Bx_t$), one layer
# can know no more than how often each token came, and the best accuracy on these counts is known
# exactly. The proposal concludes that circulants follow commutative (abelian) groups alone. That
# leaves out two things, which are tried on $S_3$, the six permutations of three objects, generated by
# a rotation and a swap:
#
# - **The drive.** $h \mapsto A h + b$ is affine, and affine maps need not commute where their $A$ do:
#   $h \mapsto -h$ and $h \mapsto -h + b$ generate an infinite dihedral group, of which $S_3$ is a
#   quotient. The state then runs away along a line, and at some length it cannot be read any more.
# - **A second layer.** $S_3$ is solvable: one layer holds the sign of the permutation, and in the next
#   the sign chooses which way a token turns. Two commuting layers do what one cannot.
#
# $A_5$, 60 even permutations generated by a five-cycle and a three-cycle, is the smallest group where
# neither of them helps: it has no commutative image, and no chain of commutative ones. The two
# ceilings below are the best accuracies of a model that knows the commutative image, or the counts.

# %%
S3, A5 = groups.symmetric(3), groups.alternating(5)
tasks = {
    "S3": WordProblem(S3, S3.indices([(1, 2, 0), (1, 0, 2)])),
    "A5": WordProblem(A5, A5.indices([(1, 2, 3, 4, 0), (1, 2, 0, 3, 4)])),
}
abelian = {name: task.abelian_ceiling(TRAIN)[-1].item() for name, task in tasks.items()}
counts = {name: task.commuting_ceiling(TRAIN) for name, task in tasks.items()}
for name in tasks:
    print(f"{name}: abelian ceiling {abelian[name]:.4f}, ceiling of token counts {counts[name]:.4f}")

# %%
single = partial(build, "circulant", layers=1)
on_a5 = {"task": tasks["A5"], **growing(p.a5_steps)}
others = exp.train({
    "S3, circulant, one layer, no drive": partial(single, drive=False, learn_initial=True),
    "S3, circulant, one layer": single,
    "S3, circulant, two layers": partial(build, "circulant"),
    "S3, block-circulant, two layers": partial(build, "block-circulant"),
    "A5, circulant, two layers": Arm(partial(build, "circulant"), **on_a5),
    "A5, block-circulant, two layers": Arm(partial(build, "block-circulant"), **on_a5),
}, tasks["S3"], RECIPE | growing(p.s3_steps))
solved = others.scores(length=TESTS[-1], samples=p.samples)
ended, early = solved.at(TRAIN), solved.at(4)
exp.judge("C2a", {name: ended[f"{name}, circulant, two layers"] - abelian[name] for name in tasks})
exp.judge("C2b", {name: ended[f"{name}, block-circulant, two layers"] for name in tasks})
exp.judge("K2", {
    "positive diagonal, Z8": scores.at(4)["positive diagonal"],
    **{f"circulant, {name}": early[f"{name}, circulant, two layers"] for name in tasks},
})

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
for name in tasks:
    of_group = solved.select([arm for arm in others if arm.startswith(name)])
    display(of_group.curves(TESTS, levels={"abelian ceiling": abelian[name]}, title=name))
solved.frame(TESTS)

# %% [markdown]
# Without the drive, one circulant layer stays at the ceiling of $S_3$, as the theorem says. With the
# drive, or with two layers, it goes far beyond it at 32 tokens, the length of training, and comes back
# to it on longer words: what was learned is no exact solution. On $A_5$ circulants stay low at every
# length, and only block-circulants follow, three of five up to 256 tokens. On $S_3$ block-circulants
# are right at 32 tokens, and all but one seed fail at 128: there, too, it is a matter of precision.
#
# Do the relations of the group hold inside the models? A relation is a word that is the identity,
# such as three rotations. It is put into the middle of random words, and what the first layer says
# at their end is compared: 0 where the relation holds, 1 where it moves the answer as far as another
# word would. A layer that holds only the commutative image has small values, too.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
RELATIONS = {"S3": [(0, 0, 0), (1, 1), (0, 1, 0, 1)], "A5": [(0,) * 5, (1,) * 3]}
figures.strips(
    others.measure(lambda model, task: relation_gap(model, task, RELATIONS[task.group.name])),
    title="How far the group's relations are from holding, first layer",
    y_title="moved by a relation / by another word",
)

# %% [markdown]
# The block-circulants have found the groups: on $A_5$, where they follow longer words, a relation moves
# their answer by 5 % of what another word does; on $S_3$, where they fail on longer words, by 8 to 24 %.
# One circulant layer with a drive is moved as by any other word, though it is right at 32 tokens more
# often than the ceiling allows: it has fitted the words of training, and not the group.
#
# ## Speed, and the two ways to run the recurrence
#
# Forward passes of 32 words of 256 tokens on one thread: whole models, and one state-space layer
# alone. Written as a diagonal layer, with $F$ moved into $B$ and $C$ once and for all, the circulant
# needs no transform at run time.

# %%
models = {kind: build(kind, z8, 0) for kind in KINDS}
models["circulant, as diagonal"] = diagonal_twin(models["circulant"])
layers = {kind: model.mixers[0] for kind, model in models.items()}
tokens = z8.sample(32, TESTS[-1], stream(0, "speed")).inputs
vectors = torch.randn(32, TESTS[-1], D, generator=stream(0, "speed"))
times = {"model": forward_milliseconds(models, tokens), "layer": forward_milliseconds(layers, vectors)}
speed = pd.DataFrame(times)
slower = speed / speed.loc["positive diagonal"]
exp.judge("S3", dict(1 / slower.loc["circulant"]))
exp.judge("F2", dict(slower.loc["circulant"]))

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
pd.concat({"ms": speed, "time / positive diagonal": slower}, axis=1).round(2)

# %% [markdown]
# Polar gates cost sines and cosines: the complex diagonal takes about as long as the circulant, whose
# transforms come to little. Block-circulants build a matrix for every block and step, and are slow.
#
# The recurrence can be run in space, one dense circulant product after another, or as the inverse
# transform of the scan over frequencies. This compares the two for the trained layers, in single
# precision, up to 256 tokens.


# %%
@torch.no_grad()
def spatial_gap(model, task):
    """Largest difference of any state."""
    mixer, tokens = model.mixers[0], task.sample(20, TESTS[-1], stream(0, "S4")).inputs
    inputs = model.mixer_inputs(tokens)
    dense = mixer.transition.dense(mixer.transition(inputs))
    return (mixer.states(inputs) - matrix_scan_sequential(dense, mixer.B(inputs))).abs().max()


circulant = arms.select(["circulant"])
exp.judge("S4", circulant.measure(spatial_gap)["circulant"])
trained_gap = max(map(twin_gap, circulant.models["circulant"]))
exp.judge("K1", max(start_gap, trained_gap))
print("trained circulant = complex diagonal, within 1e-10:", trained_gap < 1e-10)

# %% [markdown]
# ## Panels: states and eigenvalues
#
# The first panel has the state of the first circulant layer in space, where every transition mixes
# all coordinates, and the same state in Fourier, where none does: a pattern there is a few modes here.
# The second has the modes of every arm over time: those that count keep their size, and turn.
#
# The last two go through training with the eigenvalues of two tokens, on $\mathbb{Z}_8$ and on the two
# groups. In JupyterLab their sliders choose the tokens and play the training; exact modes arrive on the
# circle, at multiples of 45° on $\mathbb{Z}_8$. An executed notebook shows where the sliders started.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
words = panels.examples(z8, length=TRAIN)
display(panels.states(circulant.models, words, title="state", draw=lambda h: figures.heatmaps(
    {"h, in space": h, "|F h|, by frequency": fourier(h).abs()})))
display(panels.states(arms.models, words, title="modes", draw=lambda h, model: figures.trajectories(
    fourier(h) if model.startswith("circulant") else h)))
display(panels.in_training(arms.histories))
panels.in_training(others.histories, symbols={
    name: list(map(arm.tasks[0].group.cycles, arm.tasks[0].alphabet)) for name, arm in others.items()
})

# %% [markdown]
# ## Verdict
#
# The table with the verdict is at the top. It keeps some more numbers, folded away, and the scores
# of every seed. Rows with a star depend on a time, on rounding, or on luck in a small run: other
# machines may see other statuses there, and they are not among the lines printed below.

# %%
for arm in list(others)[:2]:
    exp.note(f"mean above the ceiling of counts: {arm}, token 32", ended[arm] - counts["S3"])
for name in tasks:
    above = solved.at(TESTS[2])[arm := f"{name}, circulant, two layers"] - abelian[name]
    exp.note(f"above the abelian ceiling: {arm}, token 128", above.max(), statistic=NUMBER)
for kind in arms:
    for n in (TESTS[0], TESTS[-1]):
        exp.note(f"mean of {kind}, Z8, token {n}", scores.at(n)[kind])
for kind in POLAR:
    exp.note(f"{kind} made exact, Z8, token 256", exact.at(256)[kind], statistic=WORST)
for kind in ("circulant, as diagonal", "complex diagonal"):
    name = f"throughput / positive diagonal, one layer, {kind}"
    exp.note(name, 1 / slower.layer[kind], statistic=NUMBER)
exp.table("accuracy", (scores | exact.renamed("{}, made exact") | solved).rows(TESTS))

# %%
exp.conclude(
    finding=f"Another basis, no more (gap {max(start_gap, trained_gap):.1e}); at token 32 the "
    f"circulant has {100 * last['circulant'].min():.0f} % on Z8 (worst seed), "
    f"{100 * ended['A5, circulant, two layers'].max():.0f} % on A5 (best), a block-circulant "
    f"{100 * ended['A5, block-circulant, two layers'].min():.0f} % on A5 (worst).",
    settles="Compare phase errors in degrees a token over 30 seeds, and score the block-circulant and "
    "the positive diagonal at 128 tokens.",
    tags=["state tracking", "circulant"], impact=2, cost_h=3,
)

# %% [markdown]
# ## What this does not show, and what next
#
# **The answer.** A circulant transition is a complex diagonal one in another basis (K1), and only an
# optimiser that favours the axes can see that. C1 says how much it is worth: over these seeds its
# interval holds zero. One word problem and one width say nothing about real data, where a start in
# which every coordinate mixes might matter more.
#
# **Length.** Both complex arms find the characters of $\mathbb{Z}_8$, but not to the last digit: a
# drift of a fraction of a degree per token is invisible at 32 tokens and fatal at 256. The next thing
# to try is a training rule that keeps pulling phases onto the grid after the loss has vanished.
#
# **C2 as it stands.** Its first half does not follow from commuting. It holds where the theorem
# applies, with one layer and no drive; with a drive or a second layer, circulants pass the ceiling on
# words as long as those in training. Its second half is missed on $A_5$ by one seed of five, which has
# 89 % where 90 % are asked for, and rounding alone can move that seed.

# %% [markdown]
# **Budget.** S2 holds for this number of updates. With three times as many, the positive diagonal has
# passed its limit on some seeds, so S2 says what is learned soon and not what can be learned at all.
# K2 shows only that this arm has learned something: words of four tokens.
#
# **Cost.** Sines, cosines and complex numbers are what a polar gate costs, in the complex diagonal as
# in the circulant. The transforms themselves cost little, and nothing once $F$ is inside $B$ and $C$.
# The block-circulant layer pays for building its blocks at every step.
