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
# # 006 · Can a Monarch transition follow the permutations of five things?
#
# **Idea.** A diagonal state-space model never mixes the coordinates of its state. A Monarch matrix does: two
# block-diagonal factors with a transposition of the grid between them. The proposal fills them with *fixed* rotations
# and lets the input scale whole blocks by gains in (0, 1). Is that enough to follow 20 swaps of five things?
#
# **Reported before.** 106,136 and 110,328 parameters, 97.8 % in training and about 2 % in testing on 10,000 stored
# words, a forward time of 2.23 times that of the diagonal model; then fresh words, and a curriculum, without a result.
#
# **Answer.** Fixed blocks cannot, and a proof says why: gains let a layer count tokens, and no more. They are right
# on 1.0 to 1.8 % of words of 20 swaps (chance is 1.7 %); reflections, with as many updates, on 100 %. Blocks that the
# input turns can: MonarchID has 100 % after 20, 40 and 80 swaps on every seed, and 88 to 95 % after 160. One
# factor is enough: after 160 swaps, eight times the training length, exponential blocks have 100 % on all five seeds
# and plain reflections 99.4 to 100 (not told apart: 0.3 points, 0.0 to 0.6); MonarchID is 7.6 points behind reflections
# (95 % interval 4.4 to 10.7), with 45 % more parameters.
#
# **Why REFUTED.** Five of six corrected success criteria are met and every control holds; R2, that MonarchID beats
# plain reflections after 160 swaps, is missed after these 1,200 updates (with 1,500, in trials, MonarchID had 97 and
# 99 %). As proposed, O1 is missed (1.2 % in the worst seed, asked were 85). That verdict reads DEBUG only because O6 is
# also asked of MonarchID in two layers (23 times the time), which the proposal did not have; its own model takes 1.5.
#
# **Cause.** For fixed blocks, the proof. For MonarchID it is learning, not what it can represent: started at an exact
# representation, with the first state that comes with it, the model has 100 % after 160 swaps and as many updates.

# %% tags=["parameters"]
experiment: str = "006"  # the notebook these parameters belong to
seeds: list[int] = [100, 101]  # one model each, alike in every arm, in [0, 2147483647]
tuning_seeds: list[int] = [0]  # for the step sizes, none of those above, in [0, 2147483647]
steps: int = 8  # updates per model with a label at every step, in [2, 1000000]
tuning_steps: int = 3  # updates per model and step size in tuning, in [2, 1000000]
curriculum_steps: int = 5  # updates per model of the curriculum as reported, in [5, 1000000]
samples: int = 200  # words that a score is the mean over, in [100, 1000000]

# %% jupyter={"source_hidden": true}
import itertools
import math
from copy import deepcopy
from functools import partial

import pandas as pd
import torch
from IPython.display import display
from torch.nn.functional import pad

import lab
from lab import audit
from lab.audit.representations import part_that_knows, relation_gap, table_error
from lab.benchmark.forward import forward_milliseconds
from lab.linalg import monarch, spin
from lab.mixers import StateSpace
from lab.model import residual_model
from lab.plots import figures, panels
from lab.scan import table_scan
from lab.seeding import stream
from lab.tasks import Batch, WordProblem, groups
from lab.train import score

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range
torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way

# %% jupyter={"source_hidden": true}
from lab.experiment import MEAN, NUMBER, Arm, Experiment, Planned, tuning
from lab.transitions import BlockCay, BlockExp, BlockHH, GatedMonarch, MonarchID, RealDiagonal

FIXED = ["fixed blocks", "fixed blocks, signed gains", "diagonal"]  # arms whose input chooses gains alone
TIMED = ["as proposed, 2 layers", "MonarchID, 1 layer", "MonarchID, 2 layers"]
TURNED = ["BlockHH, 1 layer", "BlockHH, 2 layers", "BlockExp, 1 layer", "BlockExp, 2 layers"]
ALGEBRA = ["products of fixed blocks commute", "those of signed gains", "fixed blocks flip no sign"]
REPORTED = {  # by the authors of the first run
    "parameters, Monarch": 106136, "parameters, diagonal": 110328, "train accuracy, stored": 0.978,
    "test accuracy, stored": 0.02, "forward time ratio": 2.23}
PROPOSAL = [
    Planned("O1", "Monarch as proposed, curriculum, token 20", ">", 0.85, arm="proposal"),
    Planned("O2", "diagonal, curriculum, token 20", "<", 0.5, arm="proposal"),
    Planned("O3", "forward time / diagonal, {part}", "<", 3.0, NUMBER, arm="proposal", parts=TIMED, varies=True),
    Planned("O4", "updates that were not finite", "==", 0, NUMBER, "control", "proposal"),
    Planned("O5", "Monarch as proposed - diagonal, best stage, means", "<=", 0.0, NUMBER, "failure", "proposal", varies=True),
    Planned("O6", "forward time / diagonal, {part}", ">", 5.0, NUMBER, "failure", "proposal", parts=TIMED, varies=True),
    Planned("O7", "BlockHH, curriculum, token 20", ">", 0.85, kind="control", arm="proposal", varies=True,
            added="low accuracies of O1 and O2 say something only of a protocol in which another model succeeds."),
]

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
exp = Experiment(
    "006", title="Monarch-gated state transition", parameters=p, reported=REPORTED,
    question="Can a Monarch transition follow the permutations of five things, and better than plain reflections?",
    criteria=[
        *PROPOSAL,
        Planned("N2a", "MonarchID, token 20", ">=", 0.99, varies=True),
        Planned("N2b", "MonarchID, token 40", ">=", 0.95, varies=True),
        Planned("N3", "{part}, token 20", "<=", 0.05, parts=FIXED, guard="G2", varies=True),
        Planned("N4", "BlockExp - BlockCay, token 80", ">=", 0.1, MEAN, paired=True, varies=True),
        Planned("R1", "BlockExp, token 160", ">=", 0.95, varies=True, added="an earlier run had 100 % on five other seeds."),
        Planned("R2", "MonarchID - BlockHH, token 160", ">", 0.0, MEAN, paired=True, varies=True,
                added="plain reflections had too few updates in an earlier run to be a rival."),
        Planned("N1", "error of the group's table, exact {part}", "<", 1e-6, NUMBER, "control", parts=["MonarchID", "BlockExp"]),
        Planned("A1", "error: {part}", "<=", 1e-6, kind="control", parts=ALGEBRA),
        Planned("G1", "BlockHH, token 20", ">=", 0.99, kind="control", varies=True),
        Planned("G2", "{part}, token 2", ">=", 0.9, kind="control", parts=FIXED, varies=True),
        Planned("G3", "BlockCay, token 20", ">=", 0.9, kind="control", varies=True),
        Planned("S1", "MonarchID, started at the spin cover, token 160", ">=", 0.95, kind="context", varies=True),
        Planned("S2", "the same: error of the group's table after training", "<=", 0.1, kind="context", varies=True),
        Planned("T1", "forward time / diagonal, {part}", "<", 3.0, NUMBER, "context", parts=TURNED, varies=True),
    ])
exp

# %% [markdown]
# O1 to O6 are the proposal's criteria, with its thresholds, for the curriculum that it describes; they have a verdict
# of their own. O7 is their positive control. O3 and O6 are shown for the model as proposed and for MonarchID, which
# needs the time of a diagonal model once or several times as its transitions depend on a token or on a position.
#
# N2 to N4 are the plan's corrected criteria. Accuracies are those at the last token, counted without the start token.
# N3 asks accuracies to stay low, which a model that has learned nothing does as well: G2 is to show that these have
# learned the first two swaps, and G1 that the updates were enough for a model that can follow the rest. N4 compares
# how two models extrapolate, which has no meaning unless BlockCay is right at the training length (G3). N1 was a
# success criterion in the plan; it is an identity, and a control here, as are the algebraic ones (A1).
#
# What would change our mind: fixed blocks above 5 % after 20 swaps (N3), or rivals without Monarch factors that
# forget sooner than MonarchID (R2).
#
# ## Is the task what we think it is?
#
# A token swaps two of five things; after each the model names which of the 120 arrangements it has before it. The
# label is checked against swapping the entries of a list.

# %%
TRAIN, TESTS = 20, [20, 40, 80, 160]  # swaps
S5 = groups.symmetric(5)
task = WordProblem(S5, S5.indices(groups.transpositions(5)), start_token=True)
SWAPS = list(itertools.combinations(range(5), 2))
inputs, targets, _ = task.sample(1, TRAIN, stream(0, "example"))
things, orders = list(range(5)), list(itertools.permutations(range(5)))
for token, label in zip(inputs[0, 1:].tolist(), targets[0, 1:].tolist(), strict=True):
    i, j = SWAPS[token]
    things[i], things[j] = things[j], things[i]
    assert orders[label] == tuple(things), "the task does not swap entries"
print(f"words of 20 swaps: {task.distinct_inputs(TRAIN):.0e}; met by 8,000 stored ones: {task.lookup_ceiling(8000, TRAIN):.0e}")
print("chance after 20 swaps:", f"{task.abelian_ceiling(TRAIN)[-1]:.4f}")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(audit.task(task, length=TRAIN))
arrangements = ["".join(map(str, order)) for order in S5.elements]
panels.targets(task, length=TRAIN, rows=("swap", "arrangement"), title="A word and its arrangements",
               symbols={"swap": [*(f"{i}{j}" for i, j in SWAPS), "start"], "arrangement": arrangements})

# %% [markdown]
# Every swap is odd, so that the number of swaps gives away the parity: chance is 1/60, not 1/120, and a loss of
# $\ln 60 = 4.09$ in place of $\ln 120 = 4.79$ shows no more than that. The reported 2 % are this. And 8,000 stored
# words are nothing of all words there are: what 97.8 % in training measured was memory.
#
# ## Are the models what we think they are?
#
# A layer is a state-space layer of 64 states, a grid of 8 by 8, and a feed-forward part. The models:
#
# - **diagonal**: the baseline, $h \mapsto \sigma(Wx + b) \odot h$, which never mixes states; two layers.
# - **fixed blocks**: $M(x) = P^\top L(x) P R(x)$ as proposed, with fixed rotations, and a gain in (0, 1) for every
#   block that the input chooses; two layers. With **signed gains** they are in (-1, 1), open at the start, and the
#   blocks begin as rotations far apart: the family at its best, in one layer.
# - **BlockHH**: a reflection $I - \beta vv^\top$ in every block of *one* factor, $0 < \beta < 2$. It is the positive
#   control, and the rival: plain reflections, without a second factor.
# - **BlockCay** and **BlockExp**: a rotation in every block of one factor, by Cayley's transform or the exponential of
#   a skew matrix that is linear in the token.
# - **MonarchID**: rotations by Cayley's transform in both factors.
#
# Without positions, a first layer computes its transitions once for each of the 11 tokens. Experiment 010 has the
# same task and the same MonarchID ("dense, orthogonal" there), without a feed-forward part and with a learned first
# state, where the start token writes it here.


# %%
def build(transition, task, seed, *, layers=1, positions=0, **settings):
    def mixer(generator):
        inner = transition(64, d_state=64, generator=generator, **settings)
        return StateSpace(64, inner, generator=generator)

    return residual_model(task, seed, d_model=64, mixer=mixer, layers=layers, d_hidden=170, positions=positions)


Diagonal = partial(RealDiagonal, start="dense")
last = WordProblem(S5, task.alphabet, scored="last")


class Framed:
    """A word between a begin token (130) and an end token (131), read there alone, as proposed."""

    classes, vocabulary, loss = 120, 133, staticmethod(task.loss)

    def sample(self, batch, length, generator):
        words, labels, _ = last.sample(batch, length, generator)
        framed = pad(pad(words, (1, 0), value=130), (0, 1), value=131)
        at_end = (torch.arange(length + 2) == length + 1).expand(batch, -1)
        return Batch(framed, pad(labels[:, -1:], (length + 1, 0)), at_end)


# %%
def count(transition, problem, **settings):
    return sum(each.numel() for each in build(transition, problem, 0, **settings).parameters())


as_reported = [count(kind, Framed(), layers=2, positions=n) for n in (54, 24) for kind in (GatedMonarch, Diagonal)]
assert as_reported == [106_136, 110_328, 104_216, 108_408], "not the models that were reported"
corrected = [count(kind, task) for kind in (MonarchID, BlockCay, BlockExp, BlockHH)]
assert corrected == [78_776, 64_216, 64_216, 54_336], "not the models that were planned"
print("parameters as reported, and as planned:", as_reported, corrected)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
words_alone = WordProblem(S5, task.alphabet)
display(audit.model(build(GatedMonarch, words_alone, 0, layers=2).double(), words_alone, length=TRAIN))
audit.model(build(MonarchID, words_alone, 0).double(), words_alone, length=TRAIN)

# %% [markdown]
# The reported counts belong to the first format, padded to 54 positions; later runs had 24. Of the 133 rows of the
# embedding 120 never occur.
#
# ### Exactly representable?
#
# A swap is a reflection. With one more coordinate that every swap negates it becomes a rotation by $\pi$ of six
# dimensions, and `BlockExp` has that exactly; `BlockCay` reaches an angle of $\pi$ only with infinite entries. Its
# image in the half-spin representation is a rotation $U_g$ of four complex dimensions with all eigenvalues $\pm i$,
# determined up to sign; in $H \mapsto L_g H R_g^\top$ with $L_g = \rho(U_g)$ and $R_g = \rho(\bar U_g)$ the sign
# cancels. That is a Monarch matrix of two factors, whose skew matrices have no entry above 0.71. N1 is the largest
# error of any of the 1,200 products of an element and a swap.
#
# `at_the_cover` is a model of the usual kind whose recurrence begins there: swaps have these rotations and write
# nothing, and the start token writes a random state. Training may move all of it.

# %%
pairs = [spin.swap_factors(i, j) for i, j in SWAPS]
COVER = monarch.cayley(torch.stack([torch.stack([L] * 8 + [R] * 8) for L, R in pairs]))  # skew, "10 16 8 8"
turns = monarch.expm(torch.stack([spin.swap_generator(i, j, 5, 8) for i, j in SWAPS]))  # "10 8 8"
exp.judge("N1", {"MonarchID": table_error(monarch.monarch_dense(*monarch.cayley(COVER).chunk(2, dim=1)), task)[0].item(),
                 "BlockExp": table_error(monarch.row_factor(turns[:, None].expand(10, 8, 8, 8)), task)[0].item()})


def at_the_cover(task, seed):
    """MonarchID whose recurrence is an exact representation before the first update."""
    model = build(MonarchID, task, seed)
    x, layer = model.mixer_norms[0](model.embedding).detach(), model.mixers[0]
    skews = pad(monarch.skew_entries(COVER).flatten(1), (0, 0, 0, 1)).float()  # the start token turns nothing
    drives = torch.zeros(11, 64).index_copy(0, torch.tensor([10]), torch.randn(1, 64, generator=stream(seed, "first")))
    with torch.no_grad():
        for dense, wanted in ((layer.transition.entries, skews), (layer.B, drives)):
            dense.weight.copy_((torch.linalg.pinv(x) @ wanted).mT)
            dense.bias.zero_()
    return model


print("both represent the group:", max(exp.value("N1", part) for part in ("MonarchID", "BlockExp")) < 1e-6)

# %% [markdown]
# ## As reported: a curriculum with one label
#
# The last setting of the proposal, whose result was never filed: two layers, positions, begin and end tokens, one
# label at the end, words of 2, 5, 10, 15 and 20 swaps one after the other, AdamW with 0.003. In the proposal a stage
# ends at 80 % accuracy, or after 9,000 updates; here every stage has a fifth of 600, 1.3 % of that, so that O1
# could hardly be met and O2 hardly missed. There is no dropout, so that this is the original task and not the
# original run. The third model, BlockHH, is the positive control: it differs from the first in its transition
# alone. A low accuracy of the others says something only if BlockHH gets through all stages with as many updates
# (O7), which it did on tuning seeds, where the number of updates was settled.

# %%
STAGES = (2, 5, 10, 15, 20)
RECIPE = {"batch": 64, "length": TRAIN, "schedule": "warmup-cosine", "optimizer": torch.optim.AdamW, "decay": "all",
          "clip": 1.0, "skip_nonfinite": True, "device": "cpu"}


def staged(model):
    """Float["5"]: the accuracy at the end of words of every stage."""
    return torch.tensor([score(model, Framed(), length=n, samples=p.samples, seed=1).accuracy for n in STAGES])


CURRICULUM = RECIPE | {"steps": p.curriculum_steps, "lr": 3e-3, "schedule": "constant", "watch": {"stages": staged},
                       "length": lambda update: STAGES[5 * update // p.curriculum_steps], "watch_every": p.curriculum_steps // 5}
PROPOSED = {"Monarch as proposed": GatedMonarch, "diagonal": Diagonal, "BlockHH": BlockHH}
curriculum = exp.train({name: partial(build, kind, layers=2, positions=24) for name, kind in PROPOSED.items()}, Framed(), CURRICULUM)
ends = curriculum.scores(length=TRAIN, samples=p.samples, score="accuracy")
passed = {name: torch.stack([h.watched["stages"][1:6].diagonal() for h in each]) for name, each in curriculum.histories.items()}
exp.judge("O1", ends["Monarch as proposed"])
exp.judge("O2", ends["diagonal"])
exp.judge("O5", (passed["Monarch as proposed"] - passed["diagonal"]).mean(0).max().item())
exp.judge("O7", ends["BlockHH"])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(ends.frame(), curriculum.losses(title="One label after words that grow", floors={"ln 60: the parity": math.log(60)}))
figures.accuracy(passed, x=STAGES, x_title="swaps in the stage", levels={"1/60": 1 / 60}, x_log=False,
                 title="Accuracy at the end of each stage of the curriculum")

# %% [markdown]
# The positive control has 99.8 to 100 % after 20 swaps, the model as proposed 1.2 to 3.0 %, and so has the diagonal
# one. These two know every word of two swaps at the end of its stage, and have 2.2 to 4.6 % at the end of that of
# five, where naming the likeliest arrangement gives 2.1 %: with 120 updates a stage they learn only the first. The
# difference between them that spares the proposal its failure criterion O5, after ten swaps, is 0.08 points, or two
# words of 2,500, and means nothing.
#
# Accuracies of different stages are not comparable. After 5 and 15 swaps the parity is odd, after 2, 10 and 20 it is
# even, so that these stages have no label in common. In trials the positive control, right on every word of 20 at the
# end, had by then unlearned words of 5 and 15, and still knew those of 2 and 10. Chance is also higher in short words:
# two swaps leave 36 arrangements, and one of them, the identity, has a tenth of all words.

# %% [markdown]
# ## Diagnosis: fixed blocks with gains can only count
#
# A gain commutes with the rotation of its own block. So the proposed transition is $M(x) = U\,D(x)\,V$: a fixed
# rotation, a diagonal $D(x)$ with $\alpha_c\beta_r$ at place $(r, c)$ of the grid, a fixed rotation. And then
# $$M(x)\,M(y)^{-1} = U\,D(x)D(y)^{-1}\,U^\top$$
# is symmetric, for any two inputs, and all of these commute. Suppose that the layer follows a group on some part of
# its state (on a subspace, or modulo one), at whatever scale. There this product is a positive multiple of
# $\rho(g_x g_y^{-1})$, whose eigenvalues are roots of unity. **Positive gains** leave only the eigenvalue 1: $g_x =
# g_y$, and the layer counts tokens, no more. **Gains of both signs** leave 1 and -1: every $g_xg_y^{-1}$ has order
# two at most, and all of them commute. For swaps neither is so: $(0\,1)(1\,2)$ has order three. Gates near 1 forget
# nothing, and do not help; nor does a drive, which adds an eigenvalue 1 to these products and changes nothing else.
#
# **How much is lost by being a little more general?** Let two inputs act on some $w$ as $\pm c$ times the same
# rotation, as disjoint swaps do: $(M(x)w)\cdot(M(y)w) = -c^2$. For fixed blocks with positive gains this is
# $\sum_i D_i(x)D_i(y)(Vw)_i^2 > 0$: there is no such $w$. With a positive gain for every *coordinate* on both sides
# $c \le 1/2$ (proof: `lab.linalg.monarch.sign_flip`), so that half of the state is lost at every step. Gains of both
# signs reach 1. Below are random pairs; the slider makes gains more extreme.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def flips(contrast, draws):
    """Sign flips of random pairs of matrices with nine states, by what their gains may be."""
    draw = partial(torch.randn, generator=stream(0, "flips"), dtype=torch.float64)
    n, found = int(draws), {}
    L, R = monarch.cayley(monarch.skew(draw(2, n, 1, 3, 3), 3))
    U, V = monarch.cayley(monarch.skew(draw(2, n, 1, 36), 9))
    blocks, coordinates = contrast * draw(2, n, 2, 3, 1, 1), contrast * draw(2, n, 2, 9, 1)
    for name, gate in {"positive": torch.sigmoid, "any sign": torch.tanh}.items():
        a, b = gate(blocks)
        found[f"a gain per block, {name}"] = monarch.sign_flip(*monarch.monarch_dense(a * L, b * R).unbind(1))
    a, b = coordinates.sigmoid()
    found["a gain per coordinate, positive"] = monarch.sign_flip(*((a * U) @ (b * V)).unbind(1))
    return figures.strips(found, title="Sign flips of random pairs", y_title="sign flip c", limits={"1/2": 0.5}, log=False)


panels.Panel(flips, contrast=panels.Slider("contrast of the gains", 4.0, 0.0, 10.0, 0.1), draws=panels.Slider("draws", 60, 10, 200, 10))

# %% [markdown]
# ## Corrected: equal updates, a label at every step
#
# No positions, 11 tokens, batches of 64 words of 20 swaps, the arrangement asked for after each. All arms have equally
# many updates, and each the step size that does best for it on tuning seeds, from one grid, over all tokens of words of
# 160. Arms differ in parameters, which the figure below says. Fixed blocks and the diagonal have both of their layers.
#
# Trials are as long as the report, except for the three arms whose input chooses gains alone: theirs have a third of
# the updates, for no step size has brought them beyond the first swaps. MonarchID that starts at the cover has the
# step size of the other one. Grid and budget were settled on seeds 0 and 1. There 0.001 was too slow for MonarchID
# and BlockHH in 1,000 updates, and with 0.006 or more MonarchID forgot sooner on long words. BlockCay, which an earlier
# run left at 6 % after 400 updates, was right on nearly every word of 20 after 1,000.

# %%
ARMS = {
    "fixed blocks": partial(build, GatedMonarch, layers=2),
    "diagonal": partial(build, Diagonal, layers=2),
    "fixed blocks, signed gains": partial(build, GatedMonarch, gate="tanh", spread=1.0, opening=2.0),
    "BlockHH": partial(build, BlockHH),
    "BlockCay": partial(build, BlockCay),
    "BlockExp": partial(build, BlockExp),
    "MonarchID": partial(build, MonarchID),
    "MonarchID from the cover": at_the_cover,
}


def tuned(names, steps):
    return exp.tune({name: ARMS[name] for name in names}, task, RECIPE | {"steps": steps}, lr=[2e-3, 4e-3, 8e-3], seeds=p.tuning_seeds,
                    score=partial(tuning.accuracy_then_loss, length=TESTS[-1], samples=p.samples // 2))


turning = tuned(["BlockHH", "BlockCay", "BlockExp", "MonarchID"], p.tuning_steps)
gaining = tuned(FIXED, max(2, p.tuning_steps // 3))
rates = {**turning, **gaining, "MonarchID from the cover": turning["MonarchID"]}


# %%
@torch.no_grad()
def transitions_of(model):
    """Transitions ["11 N N"] and drives ["11 N"] of all tokens in the first layer, in float64."""
    mixer, x = deepcopy(model.mixers[0]).double(), model.mixer_norms[0](model.embedding).double()
    return mixer.transition.dense(mixer.transition(x)), mixer.B(x)


def by_position(model):
    """Float["20"]: the accuracy after every swap."""
    return score(model, task, length=TRAIN, samples=200, seed=1).by_step[1:]


WATCH = {"accuracy": by_position, "error": lambda model: table_error(transitions_of(model)[0][:10], task)[0]}
arms = exp.train({name: Arm(each, lr=rates[name], watch=WATCH, watch_every=max(3, p.steps // 15)) for name, each in ARMS.items()},
                 task, RECIPE | {"steps": p.steps})
scores = arms.scores(length=TESTS[-1], samples=p.samples)
at2, at20, at40, at80, at160 = (scores.at(n + 1) for n in (2, *TESTS))  # the start token comes first

# %%
exp.judge("N2a", at20["MonarchID"])
exp.judge("N2b", at40["MonarchID"])
exp.judge("N3", {name: at20[name] for name in FIXED})
exp.judge("N4", at80["BlockExp"], minus=at80["BlockCay"])
exp.judge("R1", at160["BlockExp"])
exp.judge("R2", at160["MonarchID"], minus=at160["BlockHH"])
exp.judge("G1", at20["BlockHH"])
exp.judge("G2", {name: at2[name] for name in FIXED})
exp.judge("G3", at20["BlockCay"])
exp.judge("O4", arms.skipped() + curriculum.skipped())

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(turning, gaining, scores.frame([n + 1 for n in TESTS]).groupby(level=0, sort=False).median())
display(arms.losses(title="Training loss, words of 20 swaps", floors={"ln 60: the parity": math.log(60)}))
exp.key_figure(scores.curves([n + 1 for n in TESTS], x_title="tokens, with the start token", levels={"chance": 1 / 60},
                             title="Trained on 20 swaps, tested on up to 160"))

# %% [markdown]
# **What came out.** After 20 swaps, gains alone leave 0.8 to 2.6 %, which is chance, although every model knows the
# first two (G2). BlockHH, BlockExp and MonarchID are right on every word of 20, 40 and 80. After 160 BlockExp still
# has 100 %, BlockHH 99.4 to 100, and MonarchID 88.2 to 95.2 (medians 100, 99.8 and 92.4). MonarchID is behind
# reflections on all five seeds, by 4.6 to 11.6 points, on average 7.6 (95 % interval 4.4 to 10.7; R2). BlockCay has
# 97 to 100 % after 20, 63 to 87 after 40, 5 to 28 after 80 and 3 to 6 after 160; BlockExp is 83 points ahead of it
# after 80 (72 to 93; N4).
#
# Step sizes: 0.004 for BlockHH, which has nearly 100 % with any of the three; 0.008, the largest, for BlockCay and
# the arms of gains; 0.002, the smallest, for BlockExp and MonarchID. Only BlockHH is inside the grid, and a step size
# beyond it may be better for the others. For MonarchID the choice matters: 98.5, 87 and 67 % of all tokens.
#
# BlockCay misses an angle of $\pi$ by a little at every swap, and misses add up; BlockExp and BlockHH (at $\beta =
# 2$) can have a swap exactly. This fits the order of these three, but was not isolated, and it does not explain
# MonarchID, which can be exact as well.
#
# How positions are won in training is in the next figure, one arm at a time; the first shown is MonarchID started at
# the cover, at its last update, with every position right. Arms of gains end with a loss of 2.8 to 3.2 per token,
# below that of parity: they are right after two swaps (G2), and no better than chance after 20 (N3).

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
panels.in_training(dict(reversed(arms.histories.items())), watched="accuracy", draw=lambda seen, at: figures.lines(
    {"accuracy": seen["accuracy"][at]}, x=torch.arange(1, TRAIN + 1), x_title="swaps", y_title="accuracy", levels={"1/60": 1 / 60},
    title="Accuracy by position, in training"))

# %% [markdown]
# ### What the transitions became
#
# Three measurements of the first layer, all seeds. *Sign flips* of the 15 pairs of disjoint swaps: zero for fixed
# blocks with positive gains (A1), and 1 where nothing is lost. *Relations*: how far a swap twice, two disjoint swaps
# and their reverse, and two overlapping ones three times move what the layer says; 0 if the relation holds, 1 if it
# moves the answer as far as another word. *Commutators*: A1 has the largest of products $M(x)M(y)^\top = U D(x) D(y)
# U^\top$ of fixed blocks, which no training can change.
#
# Sign flips are 0 for fixed blocks and the diagonal, up to 0.998 for signed gains, and 0.995 to 1 in all models that
# turn. Flips are then needed and not enough: signed gains have them and stay at chance. The worst relation moves
# what the layer says by 1.06 to 1.15 for signed gains, and by 0.31 to 0.89 in the models that turn. So it does not
# hold there either, nor do its sizes follow accuracy: BlockExp, which has 100 % after 160, has 0.60 to 0.76, and
# MonarchID 0.31 to 0.44. The measure includes what a token adds to the state, and parts that are not read.

# %%
overlapping = [(a, b) for a, b in itertools.combinations(range(10), 2) if {*SWAPS[a]} & {*SWAPS[b]}]
disjoint = [pair for pair in itertools.combinations(range(10), 2) if pair not in overlapping]
RELATIONS = [(a, a) for a in range(10)] + [(a, b) * 2 for a, b in disjoint] + [(a, b) * 3 for a, b in overlapping]


def commutator(model, _):
    """The largest commutator of products M(x) M(y)^T of the swaps x and the last swap y, of size 1 each."""
    A, _ = transitions_of(model)
    X = A[:9] @ A[9].mT
    X = X / torch.linalg.matrix_norm(X, ord=2, keepdim=True)
    return torch.linalg.matrix_norm(X[:, None] @ X - X @ X[:, None], ord=2).max()


def flips_of(model, _):
    """Float["15"]: the sign flips of disjoint swaps."""
    return monarch.sign_flip(*transitions_of(model)[0][torch.tensor(disjoint).mT])


one_layer = arms.select([name for name in arms if name not in ("diagonal", "fixed blocks")])
commutators, learned_flips = arms.measure(commutator), arms.measure(flips_of)
gaps = one_layer.measure(lambda model, _: relation_gap(model, task, RELATIONS))
exp.judge("A1", dict(zip(ALGEBRA, (commutators["fixed blocks"], commutators["fixed blocks, signed gains"],
                                   learned_flips["fixed blocks"].amax(1)), strict=True)))

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(figures.strips(learned_flips, title="Sign flip of disjoint swaps, all seeds", y_title="sign flip c", limits={"1/2": 0.5}, log=False))
figures.strips(gaps, title="Worst relation of the group, models of one layer", y_title="relative change", limits={"as another word": 1.0})

# %% [markdown]
# **The state along the word.** How much of the first layer's state knows the arrangement? The mean state of every
# arrangement, less the mean of all, has a size; what sampling alone would give is taken off. The dashed line halves
# at every swap: so fast would a part of the state fade on which a layer followed the group with a positive gain per
# coordinate. Arms of gains do not follow it, and the line is no bound for them.
#
# First seed, in units of its size after one swap: for arms of gains this part falls to 0.15 to 0.20 after six, and
# from about the eighth on the estimate jumps between 0 and 0.13. BlockHH, BlockExp and both MonarchIDs keep all of it
# to the 20th swap, at 1.1 times the first size, and BlockCay falls slowly from 1.1 to 0.93.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
words, answers, _ = task.sample(3000, TRAIN, stream(0, "state"))
tables = {name: [each[None] for each in transitions_of(trained.models[0])] for name, trained in arms.items()}
sizes = {name: part_that_knows(table_scan(A, b, words)[:, 1:], answers[:, 1:]) for name, (A, b) in tables.items()}
swaps = torch.arange(1, TRAIN + 1)
known = {name: (each / each[0]).clamp_min(1e-5) for name, each in sizes.items()}
figures.lines({**known, "2^-t": 0.5 ** (swaps - 1)}, x=swaps, log=True, dashed=["2^-t"],
              x_title="swaps", y_title="part of the state that knows", title="What the first layer's state knows, first seed")

# %% [markdown]
# ### Does training keep the spin cover?
#
# A model that starts with the exact representation has nothing to learn but to read it. It is no rival, for it was
# given the answer; the question is whether updates leave it there (S1, S2). The error is that of the group's table,
# over all of the state: a model that does not use some part of it may be right with an error of 1.

# %%
drift = {name: torch.stack([h.watched["error"] for h in arms.histories[name]]) for name in ("MonarchID", "MonarchID from the cover")}
exp.judge("S1", at160["MonarchID from the cover"])
exp.judge("S2", drift["MonarchID from the cover"][:, -1])
generators = arms.select(["BlockCay", "BlockExp", *drift]).measure(lambda model, _: torch.linalg.matrix_norm(
    model.mixers[0].transition.generators(model.mixer_norms[0](model.embedding[:10])).detach(), ord=2).amax(1))

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(figures.lines({f"{name}, seed {seed}": each[i] for name, each in drift.items() for i, seed in enumerate(p.seeds)}, log=True,
                      x=torch.tensor(arms.histories["MonarchID"][0].watched_at), x_title="update", y_title="largest entry",
                      title="Error of the group's table, first layer"))
figures.strips(generators, title="Largest skew generator of each swap, all seeds", y_title="spectral norm",
               limits={"π": math.pi, "spin cover": 1.0})

# %% [markdown]
# Training stays. The error of the table starts at 0.000002 at most, jumps to 0.15 to 0.19 by the 80th update, and is
# 0.016 to 0.018 at the end (S2); accuracy after 160 swaps is 100 % on every seed (S1), where the random start has
# 88 to 95. The random start does not find the cover on all of the state: its error begins at 1.35 to 1.42, and ends
# at 1.27 to 1.34. It may follow the group on a part of the state, which this error does not see. The cover also comes
# with a first state that the start token writes, and with swaps that write nothing; what these do was not separated.
#
# Blocks of BlockCay would need infinite generators for a swap; the largest of each swap have grown to norms of 16
# to 26. Those of the cover have a norm of 1, and 1.01 to 1.02 after training; MonarchID from a random start has 4.0
# to 5.6. The generator of an exact exponential is $\pi$; BlockExp has 3.1 to 6.3, with a median of 3.3.
#
# ## Speed
#
# Forward time over that of the diagonal model, which runs on the compiled `linear_scan`: batch 32, 22 tokens, one
# thread. With two layers and positions, each layer builds its transitions for every position; one layer without
# positions builds them once per token. Both are filed, for one alone would hide what the other costs: rotations of
# blocks need a linear system or an exponential each, a reflection only a direction, and gains nothing of the kind.
#
# In one layer all models take 1.2 to 1.7 times as long as the diagonal one. In two, the model as proposed takes 1.5
# times and BlockHH 1.3, and rotations that depend on the position 12 (BlockCay), 13 (BlockExp) and 23 times
# (MonarchID, with twice the blocks). So fixed blocks keep the proposal's limit, and so do reflections that are not
# fixed. These are times of small models on one CPU, measured once, and say nothing of kernels on other hardware.

# %%
tokens = last.sample(32, TRAIN + 2, stream(0, "timing")).inputs
KINDS = {"diagonal": Diagonal, "as proposed": GatedMonarch, "MonarchID": MonarchID, "BlockHH": BlockHH,
         "BlockCay": BlockCay, "BlockExp": BlockExp}
times = {}
for layers, positions in ((1, 0), (2, 24)):
    built = {name: build(kind, task, 0, layers=layers, positions=positions) for name, kind in KINDS.items()}
    times[f"{layers} layer{'s' * (layers > 1)}"] = forward_milliseconds(built, tokens, rounds=9, budget=0.5)
ratios = {f"{name}, {layers}": ms / of["diagonal"] for layers, of in times.items() for name, ms in of.items()}
exp.judge("O3", {name: ratios[name] for name in TIMED})
exp.judge("O6", {name: ratios[name] for name in TIMED})
exp.judge("T1", {name: ratios[name] for name in TURNED})

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(pd.DataFrame(times).T.round(2).add_suffix(", ms"))
pd.Series(ratios, name="forward time / diagonal").round(2).to_frame()

# %% [markdown]
# ## Panels: states and eigenvalues
#
# States along a word, and eigenvalues of the transitions: on the circle nothing is lost.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
words_shown = panels.examples(task, length=TRAIN)
by_arm = dict(reversed(arms.models.items()))
display(panels.states(by_arm, words_shown))
panels.eigenvalues(by_arm, words_shown)

# %% [markdown]
# ## Verdict
#
# The table with the verdict is at the top. Rows with a star may have another status on another machine.

# %%
for name in arms:
    exp.note(f"{name}, token 80", at80[name])
    exp.note(f"{name}, token 160", at160[name])
exp.note("MonarchID - BlockCay, token 80", at80["MonarchID"] - at80["BlockCay"])
exp.note("BlockExp - BlockHH, token 160", at160["BlockExp"] - at160["BlockHH"])
exp.table("accuracy", scores.rows([n + 1 for n in (2, *TESTS)]))
exp.conclude(
    finding=f"After equal updates fixed blocks are right on at most {100 * max(at20[name].max() for name in FIXED):.0f} % of words of "
    f"20 swaps, BlockExp on {100 * at160['BlockExp'].min():.0f} % of 160 (worst seed), MonarchID on "
    f"{100 * at160['MonarchID'].median():.0f} % and plain reflections on {100 * at160['BlockHH'].median():.0f} % (medians).",
    settles="Ten seeds of BlockExp, MonarchID and BlockHH at 40 times the training length, with as many parameters each.",
    tags=["state tracking", "monarch"], impact=4, cost_h=2,
)

# %% [markdown]
# ## What this does not show, and what next
#
# **The proof** is about one linear recurrence; two layers with feed-forward parts between them can look short words
# up, and do. It says nothing of blocks that are not rotations, and nothing of two layers of another kind.
#
# **The curriculum** has 120 updates a stage, where the proposal allows 9,000, and goes on when a stage is not learned;
# its step size is the reported one, for all three models. Stored words, the first format, were not trained on again.
#
# **Cost and size.** Arms have equal updates, and not equal parameters or times; MonarchID has 45 % more parameters
# than BlockHH. Transitions depend on the token alone: a second layer builds them for every position (O3, O6, T1).
#
# **Where the plan differs.** In its pilot MonarchID had 97 and 54 % after 80 and 160 swaps, and BlockCay 45 and 7 %,
# with one seed and more updates at 0.003; here 100 and 92 %, and 18 and 5 % (medians). Its two-layer MonarchID took
# 9.8 times the diagonal model's time, here 23. It bounds sign flips by 1/2 for fixed blocks; they are 0.

# %% [markdown]
# **Budgets.** MonarchID learns more slowly than the others that solve the task: its last training loss is 0.009 to
# 0.011, that of BlockHH 0.0006. R2 compares models after 1,200 updates, not at the end of learning. In trials on the
# tuning seeds, with 0.002, MonarchID had 89 and 96 % after 160 swaps with 1,200 updates, and 97 and 99 % with 1,500;
# BlockHH had 99 and 100 % after 1,000 with 0.003.
#
# **Not shown.** That a reflection is the smallest step that works, as an earlier text had it: neither is it proven,
# nor is the step new. Whether a Monarch matrix of reflections does better than one factor of them (experiment 010 has
# one). What two generators, other groups or more layers do. One group, five seeds, one width. BlockExp and BlockHH
# are both near 100 % after 160 swaps, so that longer words are needed to order them.
#
# What next: MonarchID with longer training and smaller step sizes, until R2 no longer depends on either; and
# which side b suffices for m things, where the spin cover needs blocks of side $2^{(m+1)/2}$.
