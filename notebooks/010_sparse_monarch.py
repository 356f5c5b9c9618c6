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
# # 010 · What does a 2:4 mask cost a state-tracking recurrence, and does a permutation pay it back?
#
# **Idea.** A Monarch transition $M(x) = P^\top L(x) P R(x)$ consists of small blocks. Keep two of every four
# entries of a row in each (NVIDIA's 2:4 pattern), and let a learned permutation of each block's input undo the
# damage. The proposal promises twice the speed and the same accuracy on $S_5$.
#
# **Reported before.** An implementation, a smoke test and a submitted job; no accuracy was filed.
#
# **Answer.** It depends on what the blocks are. For reflections in one 2:4 mask, the aligned one, no cost is seen:
# after 80 swaps, four times the length of training, they have 87 to 100 %, and without a mask 92 to 99. Free
# blocks and rotations lose the long words: under a mask at most 29 % of words of 80 are right, without one 28 to 92
# (free) and 81 to 98 % (rotations). After 40 swaps free blocks have 100 % without a mask, 100 with unstructured ones
# and 97 in the aligned one; masks per token, magnitude masks and random ones have 60, 56 and 31 (means, and seeds from
# 10 to 100). A permutation does not pay that back: learned groupings have 31 where the natural order has 56 (C3 is
# missed), and random ones 12 (C4 is undecided). A smaller dense model of rotations, with 432 entries for 512, is
# less than 10 points behind reflections after equal updates (C7). A magnitude mask takes 13 % of the energy of an
# orthogonal block, and the best of 35 groupings gives back 2.7 points.
#
# **Cause.** A mask is chosen entry by entry, but whether a block can act as a swap depends on all of its entries
# together. Reflections of side 4 are whole inside the aligned mask; so are rotations, but none of side 4 is a swap,
# which may be why they fail. The smallest singular value does not tell these arms apart: reflections have values down
# to 0.0002, and rotations, which are isometric, 5 to 29 %. A permutation shared by all blocks only renames states.
#
# **Why DEBUG.** Learned groupings have 84 % at 20 swaps on one of five seeds, where K1 asks for 90.

# %% tags=["parameters"]
experiment: str = "010"  # the notebook these parameters belong to
seeds: list[int] = [100, 101]  # one model each, alike in every arm, in [0, 2147483647]
tuning_seeds: list[int] = [0]  # for the step sizes, none of those above, in [0, 2147483647]
steps: int = 15  # updates per model, in [2, 1000000]
tuning_steps: int = 3  # updates per model and step size in tuning, in [2, 1000000]
proposal_steps: int = 10  # updates per model as proposed, in [2, 1000000]
samples: int = 200  # words that a score is the mean over, in [100, 1000000]
draws: int = 1000  # random blocks of the first figure, in [100, 1000000]

# %% jupyter={"source_hidden": true}
from functools import partial

import pandas as pd
import torch
from IPython.display import display

import lab
from lab import audit, transitions
from lab.benchmark import semi_structured
from lab.benchmark.forward import forward_milliseconds
from lab.experiment import EVERY, MEAN, NUMBER, Arm, Experiment, Planned, tuning
from lab.linalg import sparsity
from lab.linalg.monarch import monarch_dense, monarch_product, relabelled
from lab.mixers import StateSpace
from lab.model import residual_model
from lab.plots import figures, panels
from lab.seeding import stream
from lab.tasks import Stored, WordProblem, groups
from lab.transitions import AlignedMonarch, FreeMonarch, MaskedGatedMonarch, MonarchID

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range
torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way
FREE = ["dense, free", "unstructured", "2:4 random", "2:4 magnitude", "random grouping", "learned grouping",
        "2:4 per token", "2:4 aligned, free"]  # arms whose blocks are of norm at most 1, and no more

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
exp = Experiment(
    "010", title="Sparse Monarch transitions on S5", parameters=p,
    question="What does a 2:4 mask cost a recurrence that tracks S5, and does a permutation pay it back?",
    criteria=[
        Planned("S1", "PA-DST, as proposed, token 20", ">", 0.7, arm="proposal"),
        Planned("S2", "dense Monarch, as proposed, token 20", ">", 0.8, arm="proposal"),
        Planned("S3", "2:4 without permutation, as proposed, token 20", "<", 0.55, arm="proposal"),
        Planned("S4", "diagonal, as proposed, token 20", "<", 0.45, arm="proposal"),
        Planned("S5", "forward time, dense / 2:4, as proposed, CPU", ">=", 1.2, NUMBER, arm="proposal", varies=True),
        Planned("F1", "PA-DST - 2:4 without permutation, as proposed", "<", 0.05, MEAN, "failure", "proposal", True, varies=True),
        Planned("F2", "best sparse model, as proposed", "<", 0.5, EVERY, "failure", "proposal"),
        Planned("F3", "dense Monarch, as proposed, token 20", "<", 0.6, EVERY, "failure", "proposal"),
        Planned("C1", "error: {part}", "<", 1e-12, NUMBER, "control", parts=["renamed states", "orthogonal in the aligned mask",
                "S5 in the aligned mask", "rank less matching", "norm above sqrt(b/2)"]),
        Planned("C2", "best 2:4 arm - dense, orthogonal, token 20", ">=", -0.02, MEAN, paired=True, varies=True),
        Planned("C3", "learned grouping - half-way from magnitude to unstructured, token 40", ">", 0.0, MEAN, paired=True, varies=True),
        Planned("C4", "random grouping - learned grouping, token 40", ">=", 0.0, MEAN, "kill", paired=True, varies=True),
        Planned("C5", "2:4 aligned, reflections, token 80", ">=", 0.95, varies=True),
        Planned("C6", "{part}, token 80", "<=", 0.2, guard="K1", parts=FREE, varies=True),
        Planned("C7", "2:4 aligned, reflections - dense, n = 36, token 80", ">=", 0.1, MEAN, paired=True, varies=True),
        Planned("C8", "time, 2:4 / dense, bfloat16, n = 4096, {part}", "<", 1.0, NUMBER, "context", parts=["b = 64", "b = 16"], varies=True),
        Planned("K1", "{part}, token 20", ">=", 0.9, kind="control", parts=["dense, orthogonal", *FREE], varies=True),
        Planned("K2", "dense, n = 36, token 20", ">=", 0.8, kind="control", varies=True),
    ])
exp

# %% [markdown]
# S1 to F3 are the proposal's criteria, with its thresholds, for the models and the data
# that it describes; they have a verdict of their own. The corrected arms decide the record.
# Tokens are counted without the start token, and accuracies are those at the last of them,
# one for each seed. C3 asks whether learned groupings recover more than half of what plain
# 2:4 masks lose against an unstructured half; a difference from the half-way point says so
# even where the loss is near zero. C4 is what would end the idea: random groupings as good
# as learned ones. C1 holds identities, and is a control.
#
# K1 and K2 ask whether the arms have learned the length of training. Without that C6, which
# wants accuracies to be low, would be met by a model that has learned nothing.
# C7 compares two models that have both had twice the updates: the rival learns more slowly, and a
# model that is not trained to its end is no rival.
#
# ## Is the task what we think it is?
#
# A token swaps two of five things, and the model names the arrangement, one of 120, after
# every swap. Training has 20 swaps, tests have up to 160. Every swap is odd, so that the
# number of swaps gives away the parity, and chance is 1/60.

# %%
TRAIN, TESTS = 20, [20, 40, 80, 160]  # swaps
S5 = groups.symmetric(5)
task = WordProblem(S5, S5.indices(groups.transpositions(5)), start_token=True)
print("chance after 20 swaps:", f"{task.abelian_ceiling(TRAIN)[-1]:.4f}")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(audit.task(task, length=TRAIN))
panels.targets(task, length=TRAIN, rows=("swap", "arrangement"), title="A word and its arrangements")

# %% [markdown]
# ## What a mask does to one block
#
# An orthogonal block keeps the length of every vector. Set half of its entries to zero, and
# it does not: it is bounded by $\sqrt{b/2}$ (C1 has the largest excess over that), but not
# by 1, as the proposal says in one place and denies in another. For the aligned mask, rows
# and columns 0, 1, 4, 5 form one dense square, and 2, 3, 6, 7 another, so that $O(4) \times
# O(4)$ fits inside it and every entry is used.


# %%
def haar(count, b, seed):
    """Uniform orthogonal matrices ["count b b"]."""
    drawn = torch.randn(count, b, b, dtype=torch.float64, generator=stream(seed, "blocks"))
    Q, R = torch.linalg.qr(drawn)
    return Q * R.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]


def masked(Q):
    """Blocks ["count b b"] by the name of their mask."""
    size = torch.rand(Q.shape, generator=stream(0, "masks"))
    masks = {"2:4 magnitude": sparsity.magnitude_mask(Q.square()), "2:4 random": sparsity.magnitude_mask(size),
             "unstructured": sparsity.unstructured_mask(Q.square()), "aligned": sparsity.aligned_mask(Q.shape[-1])}
    return {name: Q * mask for name, mask in masks.items()}


Q = haar(p.draws, 8, 0)
blocks = masked(Q)
sigma = {name: torch.linalg.svdvals(each) for name, each in blocks.items()}
ones = (blocks["2:4 random"] != 0).double()
ranks = torch.linalg.matrix_rank(blocks["2:4 random"])
matched = torch.tensor([sparsity.matching(each > 0)[1] for each in ones])
overlaps = (ones @ ones.mT).eq(1).any(-1).any(-1)
excess = max(values.max().item() for values in sigma.values()) - 2

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(pd.DataFrame({
    name: {"largest singular value": s[:, 0].mean(), "above 1": (s[:, 0] > 1).double().mean(),
           "smallest": s[:, -1].mean(), "Frobenius": s.square().sum(1).sqrt().mean(),
           "energy kept": s.square().sum(1).mean() / 8}
    for name, s in sigma.items()
}).T.map("{:.3f}".format))
display(pd.Series({
    "random masks of full rank": (ranks == 8).double().mean().item(),
    "random masks with no two rows that share a single column": 1 - overlaps.double().mean().item(),
}).map("{:.4f}".format).to_frame("share"))
panels.Panel(lambda b: figures.strips(
    {name: torch.linalg.svdvals(each) for name, each in masked(haar(60, int(b), 1)).items()},
    title=f"Singular values of masked orthogonal blocks, b = {b}", y_title="singular value",
    limits={"1": 1.0}, log=False), b=panels.Choice("side of a block", ["8", "4", "16"]))

# %% [markdown]
# Numbers from the plan, for $b = 8$: magnitude masks 1.24 on average, above 1 in 99.9 %,
# smallest 0.52, Frobenius norm 2.63; random masks 1.12, 96 %, 0.07, with full rank in 97 %,
# and 0.4 % of them without two rows that share a single column. All but the last are seen
# here; of that we find somewhat more. Two orthogonal rows that overlap in one column need a
# zero there, which is why an orthogonal matrix inside a random mask leaves entries unused.
# "At most rank 8 of 16" in the proposal is wrong: the rank is that of the largest matching
# of the mask, in every draw (C1).
#
# What should the blocks be divided by? Here a random vector passes 40 masked factors, two a
# step.


# %%
NORMS = {
    "Frobenius norm": lambda A: A / torch.linalg.matrix_norm(A, keepdim=True),
    "spectral norm, if above 1": lambda A: A / torch.linalg.matrix_norm(A, 2, keepdim=True).clamp_min(1),
}


def lengths(blocks, divided, steps=20):
    """Mean length of vectors of length 1 after every step, each with 16 blocks of its own."""
    h = torch.nn.functional.normalize(torch.randn(100, 64, generator=stream(0, "vectors"))).double()
    found = []
    for t in range(steps):
        chosen = divided(blocks[torch.arange(16 * t, 16 * t + 16) % len(blocks)])
        h = monarch_product(chosen[:8], chosen[8:], h)
        found.append(h.norm(dim=1).mean())
    return torch.stack(found)


left = {f"2:4, {name}": lengths(blocks["2:4 magnitude"], rule) for name, rule in NORMS.items()}
left["no mask"] = lengths(Q, lambda A: A)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(pd.Series({name: f"{values[-1]:.1e}" for name, values in left.items()}, name="after 20 steps"))
figures.lines(left, x=torch.arange(1, 21), x_title="step", y_title="length of a state", log=True,
              title="What is left of a state, without gates")

# %% [markdown]
# The plan has 4e-19, 6e-6 and 1; we find twice as much, as means over vectors, which
# changes nothing. The Frobenius norm, which the earlier implementation took "to avoid the
# SVD", leaves nothing; gates that start at $\sigma(-1) = 0.27$ take another
# $2\cdot10^{-23}$. The spectral norm bounds growth, and every singular value below 1 still
# multiplies up.
#
# ## Which permutations matter
#
# A permutation of a block's input matters only through which inputs share a four: of $8!$
# permutations 35 are different. And one that all blocks of a factor share is a renaming of
# the states, which $B$, $C$ and $h_0$ absorb. Only differences between blocks can matter.

# %%
assert (sparsity.grouping_count(8), len(sparsity.groupings(8)), sparsity.grouping_count(16)) == (35, 35, 2_627_625)
shares = sparsity.kept_share(Q.square(), sparsity.groupings(8))
turns = [torch.randperm(8, generator=stream(seed, "renaming")) for seed in (0, 1)]
sparse = blocks["2:4 magnitude"][:16].unflatten(0, (2, 8))
shuffled = sparse[0][..., turns[0]], sparse[1][..., turns[1]]  # one permutation for each factor
back = relabelled(*shuffled, turns[0].argsort(), turns[1].argsort())
states = (8 * turns[0].argsort()[:, None] + turns[1].argsort()).flatten()
renamed = (monarch_dense(*back) - monarch_dense(*shuffled)[states][:, states]).abs().max().item()
print("2:4 with shared permutations, and once states are renamed:",
      [sparsity.is_two_four(torch.stack(each)) for each in (shuffled, back)])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(pd.Series({
    "natural order": shares[:, 0].mean(), "a random grouping": shares.mean(),
    "best of 35": shares.amax(1).mean(),
    "four a row": Q.square().sort(-1).values[..., 4:].sum((1, 2)).mean() / 8,
    "unstructured half": sigma["unstructured"].square().sum(1).mean() / 8,
}).map("{:.3f}".format).to_frame("energy kept"))
display(figures.transitions({name: torch.linalg.eigvals(monarch_dense(*each)) for name, each in
                             {"shared permutations": shuffled, "states renamed": back}.items()}, title="Eigenvalues of M"))
figures.lines({"one block": shares[0].sort().values}, x_title="grouping, by energy kept",
              y_title="energy kept", levels={"natural order": shares[0, 0].item()},
              title="The 35 groupings of one block")

# %% [markdown]
# As planned: 0.867 in natural order, 0.894 for the best grouping, 0.897 for four a row
# and 0.911 for an unstructured half: there are 4.4 points of energy to win, and groupings
# can win 2.7 of them.
#
# ## $S_5$ fits into the aligned mask
#
# In its four-dimensional representation a swap is a reflection. Put on the coordinates 0,
# 1, 4, 5 of one block, with all other blocks the identity, it keeps two of four; on 0, 1,
# 2, 3 it would not. The states of all 120 elements differ, so that a linear readout can
# tell them apart; how well depends on $h_0$. The plan has a largest cosine of 0.96; with
# most random $h_0$ two of the states are closer.

# %%
eye = torch.eye(8, dtype=torch.float64)
basis = torch.linalg.qr(torch.cat([torch.ones(5, 1, dtype=eye.dtype), eye[:5, :4]], 1)).Q[:, 1:]
four = basis.mT @ S5.matrices[list(task.alphabet)] @ basis  # "10 4 4"
R = eye.repeat(10, 8, 1, 1)
R[:, 0] = sparsity.aligned_blocks(torch.stack([four, eye[:4, :4].expand(10, 4, 4)], dim=1))
A = monarch_dense(eye.expand(10, 8, 8, 8), R)
image, queue = {0: torch.eye(64, dtype=eye.dtype)}, [0]
for element in queue:  # every element by a shortest word
    for token, swap in enumerate(task.alphabet):
        if (after := S5.table[element, swap].item()) not in image:
            image[after] = A[token] @ image[element]
            queue.append(after)
whole = torch.stack([image[element] for element in range(120)])
wrong = A @ whole[:, None] - whole[S5.table[:, list(task.alphabet)]]  # all 1,200 products
inside = sparsity.aligned_blocks(haar(200, 4, 2).unflatten(0, (100, 2)))
exp.judge("C1", {
    "renamed states": renamed, "orthogonal in the aligned mask": (inside @ inside.mT - eye).abs().max().item(),
    "S5 in the aligned mask": wrong.abs().max().item(),
    "rank less matching": float((ranks != matched).sum()), "norm above sqrt(b/2)": max(excess, 0.0)})
first = torch.randn(64, dtype=eye.dtype, generator=stream(0, "orbit"))
orbit = torch.nn.functional.normalize((whole @ first)[:, [0, 1, 4, 5]])
print(len(image), "elements, blocks 2:4:", sparsity.is_two_four(R), "- largest cosine of two states:",
      f"{(orbit @ orbit.mT - 2 * torch.eye(120)).max():.2f}")

# %% [markdown]
# ## Are the models what we think they are?
#
# One layer, 64 wide: embedding, state space, norm, head; 16,952 parameters outside of the
# transition. Free blocks are $(I + Wx)/\max(1, \sigma)$. Where masks depend on magnitude
# they follow the mean square of an entry over all tokens. Entries that are not kept have a
# gradient as if they were (straight through). SR-STE adds a decay of these entries; apart
# from Adam, as it should be, it would shrink them by $\lambda\eta \le 1.2\cdot10^{-5}$ an
# update, which is nothing here, and it is left out.

# %% [markdown]
# The arms:
#
# - **dense, orthogonal**: rotations, Cayley transforms of skew matrices that the token
#   gives; 1,024 entries. **dense, n = 36** is the same with 36 states and 432 entries, a
#   smaller dense model. It has twice the updates, because it learns more slowly: after
#   as many as the others two of five seeds had 67 and 89 % at 20 swaps.
# - **dense, reflections**: $I - \beta vv^\top$ in whole blocks, $0 < \beta < 2$; 1,024 entries.
#   With one reflection a block, where the aligned squares have two, it is nearly what the mask costs them.
# - **dense, free**: free blocks without a mask. It shows what is lost without any zero.
# - **unstructured**: the larger half of each block, wherever it lies; 512 entries, as in
#   all that follow.
# - **2:4 random**: a mask drawn once, around a permutation inside it; else a state dies at
#   once.
# - **2:4 magnitude**: the larger two of every four entries, in the natural order of the
#   columns.
# - **random grouping**: the same, with fours of columns drawn once for every block.
# - **learned grouping**: PA-DST as it would have to be, with a permutation that stays: the
#   grouping of the 35 that keeps most, for every block. There are so few that nothing has
#   to be relaxed.
# - **2:4 per token**: every token has a mask of its own.
# - **2:4 aligned, free**: free blocks inside the aligned mask.
# - **2:4 aligned, reflections**: $I - \beta vv^\top$ in both squares of every block, $0 <
#   \beta < 2$; **longer** with twice the updates, for C7.
# - **2:4 aligned, rotations**: Cayley transforms there, which have no reflection among
#   them.

# %% [markdown]
# Masks may change during five sevenths of training and are fixed from then on, so that a
# trained model is causal and its step form agrees. Groupings are chosen anew every 25
# updates: in an earlier pilot during five sevenths as well ("late"), and here also
# during the first seventh alone, because every choice is a jump of the transition.
# Dropped entries keep a gradient. SR-STE also lets them decay, by $2\cdot10^{-4}$ times the
# step size at an update: at the largest step size here that is less than half a percent in
# a whole training, and is left out.


# %%
def build(transition, task, seed, *, d_state=64, **settings):
    if transition is FreeMonarch:  # a stream of their own, so that all else starts alike in every arm
        settings = {"masks": stream(seed, "masks"), **settings}

    def mixer(generator):
        inner = transition(64, d_state=d_state, generator=generator, **settings)
        return StateSpace(64, inner, drive_bias=False, learn_initial=True, generator=generator)

    return residual_model(task, seed, d_model=64, mixer=mixer, layers=1)


def choosing(masks, regrouped, models, update):
    """Masks are chosen before one update, groupings before another and every 25 updates."""
    due = update < regrouped and update % 25 == 0
    now = "groupings and masks" if due else "masks" if update < masks else "nothing"
    for model in models:
        model.mixers[0].transition.choosing = now


def kept(model):
    """Bool["16 8 8"]: the mask of every block."""
    return model.mixers[0].transition.mask.clone()


# %%
def arms_of(steps):
    """All arms, for a training of so many updates."""
    free, last = partial(build, FreeMonarch), 5 * steps // 7

    def pruned(pattern, regrouped=0, **settings):
        through = partial(free, pattern=pattern, straight_through=True, **settings)
        return Arm(through, before_update=partial(choosing, last, regrouped), watch={"mask": kept})

    return {
        "dense, orthogonal": partial(build, MonarchID),
        "dense, reflections": partial(build, transitions.MonarchHH),
        "dense, free": free,
        "unstructured": pruned("unstructured"),
        "2:4 random": partial(free, pattern="random"),
        "2:4 magnitude": pruned("magnitude"),
        "random grouping": pruned("magnitude", grouped=True),
        "learned grouping": pruned("magnitude", steps // 7, grouped=True),
        "learned grouping, late": pruned("magnitude", last, grouped=True),
        "2:4 per token": partial(free, pattern="by input", straight_through=True),
        "2:4 aligned, free": partial(free, pattern="aligned"),
        "2:4 aligned, reflections": partial(build, AlignedMonarch),
        "2:4 aligned, rotations": partial(build, AlignedMonarch, kind="rotations"),
        "2:4 aligned, reflections, longer": Arm(partial(build, AlignedMonarch), steps=2 * steps),
        "dense, n = 36": Arm(partial(build, MonarchID, d_state=36), steps=2 * steps),
    }


# %%
untrained = exp.untrained(arms_of(p.steps), task)
counts = {name: sum(each.numel() for each in models[0].parameters())
          for name, models in untrained.models.items()}
assert list(counts.values()) == [46_072, 26_312, *[83_512] * 9, 27_352, 29_432, 27_352, 25_040], "not the models that were planned"
print("parameters as they were counted beforehand:", sorted(set(counts.values())))

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(audit.model(build(AlignedMonarch, task, p.seeds[0]).double(), task, length=TRAIN))

# %% [markdown]
# ## As proposed
#
# Fixed blocks that the input only scales, divided by their Frobenius norm, gates that start
# at 0.27, two layers; a five-cycle and a swap as tokens, 10,000 stored words of 20, one
# label at the end. The permutation of PA-DST is doubly stochastic (Sinkhorn) and dropped
# after the mask is chosen, as in the source. Experiment 006 shows why such a transition can
# only count: a gain commutes with its block, whatever the block is, so that all
# $M(x)M(y)^{-1}$ are $U D U^{-1}$ with a positive diagonal $D$; they have no root of unity
# but 1 among their eigenvalues. That holds for masked blocks and for both tokens here.


# %%
two = WordProblem(S5, S5.indices([(1, 2, 3, 4, 0), (1, 0, 2, 3, 4)]), start_token=True, scored="last")
stored = Stored(two, 10_000, TRAIN, stream(0, "stored"))


def proposed(transition, task, seed, **settings):
    def mixer(generator):
        inner = transition(64, d_state=64, generator=generator, **settings)
        return StateSpace(64, inner, generator=generator)

    return residual_model(task, seed, d_model=64, mixer=mixer, layers=2, d_hidden=170)


RECIPE = {"batch": 64, "length": TRAIN, "schedule": "warmup-cosine", "optimizer": torch.optim.AdamW,
          "decay": "all", "clip": 1.0, "device": "cpu"}
PRUNE = {"dense": "dense", "2:4": "2:4", "PA-DST": "2:4, shuffled"}
models = {name: partial(proposed, MaskedGatedMonarch, prune=prune) for name, prune in PRUNE.items()}
models["diagonal"] = partial(proposed, transitions.RealDiagonal, start="dense")
as_proposed = exp.train({name: Arm(each, data=stored) for name, each in models.items()}, two,
                        RECIPE | {"steps": p.proposal_steps, "lr": 3e-3})
ends = as_proposed.scores(length=TRAIN, samples=p.samples, score="accuracy")

# %%
for id_, name in {"S1": "PA-DST", "S2": "dense", "S3": "2:4", "S4": "diagonal", "F3": "dense"}.items():
    exp.judge(id_, ends[name])
exp.judge("F1", ends["PA-DST"], minus=ends["2:4"])
exp.judge("F2", torch.maximum(ends["PA-DST"], ends["2:4"]))
words = two.sample(64, TRAIN, stream(0, "speed")).inputs
times = forward_milliseconds({name: as_proposed[name].models[0] for name in ("dense", "2:4")}, words)
exp.judge("S5", times["dense"] / times["2:4"])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(ends.frame(), pd.Series(times, name="forward pass, ms").round(2))
as_proposed.losses(title="As proposed", floors={"chance": two.chance(TRAIN)})

# %% [markdown]
# All four were near chance in every run so far, dense as well as sparse, so that S3 and S4
# are met by models that have learned nothing, and S1 and F1 compare noise. The protocol
# alone would be enough for that: in experiment 006 a model that can track $S_5$ stays at
# chance, too, with one label at the end of 20 swaps. So these rows say that nothing can be
# concluded from the setting, and no more.
#
# Masks win nothing on a CPU, where a zero is multiplied like any other number, and making the mask
# takes time. S5 is judged on that, as it falls, and is no claim about speed elsewhere.

# %% [markdown]
# ## Corrected: the input turns the blocks
#
# Every arm has the step size that does best for it on tuning seeds, after as many updates as
# in the final training. That matters: after 250 updates the largest of three steps looked best for eight
# of the thirteen arms, and with it the dense model of 36 states does not learn in 700 what it
# learns there with a third of it.
#
# Trials are scored over all tokens of words of 80 swaps; of several step sizes that are right on every
# word, the one with the least loss is first. Free blocks have two tuning seeds and four step sizes,
# with a mask or without, because seeds differ there; arms that are right on long words, of which most
# solve words of 80 with both step sizes that they try, have one seed, and so have rotations in the mask. Arms
# that C3, C4, C6 and C7 compare with each other are tuned alike. The best 2:4 arm of C2 is the one with the best trial.

# %% [markdown]
# Free blocks try 0.002, 0.006, 0.02 and 0.06. All others try the lower two, for none of them did best with the third
# in earlier runs, which are not shown. With two every choice is at an edge, and rotations in the mask, 0.30 and 0.73
# in trials, might do better with more; magnitude masks and learned groupings took the largest of four. Groupings
# that are learned late are no trial of their own: they have the step size of those that are learned early. Grids,
# budgets and arms were settled on seeds 100 to 104; the seeds below are others, and nothing was changed after they
# were seen.


# %%
LADDER = [2e-3, 6e-3, 2e-2, 6e-2]


def tuned(names, grid, seeds):
    trials = {name: arm for name, arm in arms_of(p.tuning_steps).items() if name in names}
    return exp.tune(trials, task, RECIPE | {"steps": p.tuning_steps}, lr=grid, seeds=seeds,
                    score=partial(tuning.accuracy_then_loss, length=TESTS[2], samples=p.samples // 2))


others = tuned([name for name in counts if name not in FREE and "late" not in name], LADDER[:2], p.tuning_seeds[:1])
free = tuned(FREE, LADDER, p.tuning_seeds)
rates = {**others, **free, "learned grouping, late": free["learned grouping"]}

# %%
arms = exp.train({name: tuning.with_setting(arm, "lr", rates[name]) for name, arm in arms_of(p.steps).items()},
                 task, RECIPE | {"steps": p.steps})
scores = arms.scores(length=TESTS[-1], samples=p.samples)
at20, at40, at80 = (scores.at(n + 1) for n in TESTS[:3])  # the start token comes first
right = {name: each.medians(name).nan_to_num(0.0).max().item() for each in (others, free) for name in each}
best = max((name for name in right if (name.startswith("2:4") and "longer" not in name) or "grouping" in name), key=right.get)
reflections = "2:4 aligned, reflections"
exp.judge("C2", at20[best], minus=at20["dense, orthogonal"])
exp.judge("C3", at40["learned grouping"], minus=(at40["2:4 magnitude"] + at40["unstructured"]) / 2)
exp.judge("C4", at40["random grouping"], minus=at40["learned grouping"])
exp.judge("C5", at80[reflections])
exp.judge("C6", {name: at80[name] for name in FREE})
exp.judge("C7", at80[f"{reflections}, longer"], minus=at80["dense, n = 36"])
exp.judge("K1", {name: at20[name] for name in ("dense, orthogonal", *FREE)})
exp.judge("K2", at20["dense, n = 36"])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(others, free, scores.frame([n + 1 for n in TESTS]).groupby(level=0, sort=False).median())
display(arms.losses(title="Training loss, words of 20 swaps"))
exp.key_figure(scores.curves([n + 1 for n in TESTS], x_title="tokens, with the start token",
                             levels={"chance": 1 / 60}, title="Trained on 20 swaps, tested on up to 160"))

# %% [markdown]
# How to read it. Accuracy at 20 swaps, the length of training, says who has learned the
# task at all. What happens at 40 and 80 says what a step loses. In the pilot (one
# or two seeds, 700 updates, one learning rate) all free arms had at least 99.8 % at 20
# swaps and at most 2.3 % at 80; at 40 the unstructured half had 99.5 %, magnitude masks 74
# and 76 %, random groupings 43 and 18 %, learned ones (late) 7 and 10 %. Reflections in the
# aligned mask had 99 and 100 % at 80, dense rotations 97.8 %, and the dense model of 36
# states 31 %. Two seeds decide nothing; the figure above has every seed of this run.
#
# **What came out.** For reflections no loss by the mask is seen: 87 to 100 % after 80 swaps, where without one they
# have 92 to 99 (1 point, -9 to 11, by seed). (C5 asks for 95 on the worst seed, and is missed.) In the same mask
# rotations have 5 to 29 for 81 to 98 %, and free blocks 2 to 7 for 28 to 92 %. Free blocks without a mask, and one
# seed of magnitude masks (29 %), keep too much for C6; after 160 all of them are at chance.
# The dense model of 36 states, which looked like the weaker rival, has 92 to 100 % after 80 swaps, and
# reflections in the aligned mask 94 to 100 after as many updates (C7: 2 points, -5 to 9, where 10 were asked). After
# 160 it has 38 to 79 %, and they 29 to 100 %. C2 cannot separate anything, for its two arms are both right on every
# word.

# %% [markdown]
# After 40 swaps learned groupings have 2 to 86 %, and on no seed do they regain half of the loss: they are 46 points
# (10 to 83) below the middle between magnitude masks (11 to 100 %) and unstructured ones (C3), and on four seeds of
# five below magnitude masks. Random groupings have 4 to 30 %; less learned ones that is -19 points, from -71 to 32,
# so that C4 is undecided. Groupings that are learned late have 11 to 93 %, and 56 in the mean, as the natural
# order does; seeds do not tell early from late.
#
# Two earlier runs, on seeds 100 to 104, differ from each other by the order of sums and by the step size of
# magnitude masks: C3 was +14 points (-4 to 32) in one and -23 (-43 to -3) in the other. This run is the only one on
# seeds that nothing was settled on. How much groupings regain or cost is open.

# %% [markdown]
# ### Isometry
#
# What does a transition lose in one step? For the ten swaps, the singular values of $M$;
# and what remains of a reached state that is swapped twice, which should be all of it.


# %%
@torch.no_grad()
def transitions_of(model):
    """Transitions ["10 N N"] and drives ["10 N"] of the swaps."""
    mixer, x = model.mixers[0], model.mixer_norms[0](model.embedding[:10])
    return mixer.transition.dense(mixer.transition(x)), mixer.B(x)


@torch.no_grad()
def swapped_twice(model, task):
    """Float["10"]: relative change of the states that words of 20 reach, for every swap."""
    h = model.states(task.sample(10, TRAIN, stream(0, "reached")).inputs)[:, 10:]
    pairs = zip(*transitions_of(model), strict=True)
    changes = [(h @ A.mT + drive) @ A.mT + drive - h for A, drive in pairs]
    return torch.stack([(each.norm(dim=-1) / h.norm(dim=-1)).mean() for each in changes])


smallest = arms.measure(lambda model, _: torch.linalg.svdvals(transitions_of(model)[0])[:, -1])
twice = arms.measure(swapped_twice)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(figures.strips(smallest, title="Smallest singular value of a swap, all seeds",
                       y_title="singular value", limits={"1": 1.0}))
figures.strips(twice, title="Change of a reached state by one swap, twice", y_title="relative change")

# %% [markdown]
# A value of 1 in the first figure for every swap would be isometry. $\max(1, \sigma)$
# bounds the largest value and leaves the smallest free, so that a free arm that does well
# at 20 swaps may keep just enough. Rotations are at 1 by construction, whatever they have
# learned; the second figure tells them apart. Isometry alone is not enough, either: rotations under
# the aligned mask, which has no reflection among them, have 1 to 3 % after 160 swaps. Nor does it seem to be
# needed: aligned reflections are right on long words with smallest values of 0.0002 to 0.24, and free blocks
# without a mask on 28 to 92 % after 80 swaps with 0.005 and less. Directions that no state takes may shrink, so
# that this value cannot settle it. Nor does the second figure order the arms: unstructured masks have 0.37
# there (median), and dense rotations, with 81 to 98 % after 80 swaps, 0.53.
#
# ### Masks while they are learned
#
# The share of entries whose mask changes between two looks, a fiftieth of training apart,
# with the update at which masks are fixed; what was kept in one block; and, at the end,
# whether each transition has as many entries as it should.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
watched = {name: histories[0] for name, histories in arms.histories.items() if histories[0].watched}
changed = {name: (each.watched["mask"][1:] != each.watched["mask"][:-1]).double().mean((1, 2, 3))
           for name, each in watched.items()}
looked = torch.tensor(next(iter(watched.values())).watched_at[1:])
display(figures.lines(changed, x=looked, x_title="update", y_title="share of entries", title="Mask changes, first seed")
        .add_vline(x=5 * p.steps // 7, line={"color": figures.GREY, "dash": "dash"}))
display(figures.matrices({name: kept(arms[name].models[0])[0] for name in watched}, outline=sparsity.aligned_mask(8),
                         title="First block of L at the end, first seed; the aligned mask is framed"))
arms.frame(lambda model, _: {"entries of all blocks, largest of the seeds": sum(
    int((each != 0).any(0).sum()) for each in model.mixers[0].transition(torch.randn(1, 64)))}).groupby(level=0, sort=False).max()

# %% [markdown]
# ## Where 2:4 could be fast
#
# Sparse tensor cores multiply one compressed *weight* by many columns. Here the blocks
# depend on the input: every token has its own, which would have to be compressed on the fly
# and used for one vector. Only fixed blocks, which cannot track $S_5$, or a table of tokens
# qualify. PyTorch's semi-structured tensors have two axes and a smallest size of 32 by 64
# (16 by 16 with another library), so that blocks of side 8 are refused. Packed into 64 by
# 64 they would fill an eighth: eight times the work for half the time. The backward pass
# multiplies by the transpose, which is 2:4 only if the mask is 2:4 along columns as well;
# the aligned mask is.

# %%
if semi_structured.has_sparse_cores():
    exp.judge("C8", {f"b = {b}": semi_structured.time_ratio(b) for b in (64, 16)})
else:
    exp.not_run("C8", "no GPU with units for 2:4, and a time on a CPU would say nothing of them")

# %% [markdown]
# ## Panels: states and eigenvalues
#
# States along a word, and eigenvalues of the transitions: on the circle nothing is lost.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
words_shown = panels.examples(task, length=TRAIN)
display(panels.states(arms.models, words_shown))
panels.eigenvalues(arms.models, words_shown)

# %% [markdown]
# ## Verdict
#
# The table with the verdict is at the top. Rows with a star may have another status on
# another machine.

# %%
late = at40["learned grouping, late"]
exp.note("random grouping - learned grouping, late, token 40", at40["random grouping"] - late)
for name in arms:
    exp.note(f"{name}, token 40", at40[name])
    exp.note(f"{name}, token 160", scores.at(TESTS[-1] + 1)[name])
exp.table("accuracy", scores.rows([n + 1 for n in TESTS]))
exp.conclude(
    finding=f"After 80 swaps 2:4 blocks made of reflections are right on {100 * at80[reflections].min():.0f} % "
    f"(worst seed), free blocks under a mask on at most {100 * max(at80[name].max() for name in FREE[1:]):.0f} %, "
    f"and free blocks without one on {100 * at80['dense, free'].min():.0f} to {100 * at80['dense, free'].max():.0f} %; "
    f"after 40, learned groupings on {100 * at40['learned grouping'].mean():.0f} % and "
    f"random ones on {100 * at40['random grouping'].mean():.0f} % (means).",
    settles="Twenty seeds of both groupings, with groupings frozen at several updates.",
    tags=["state tracking", "monarch", "sparsity"], impact=3, cost_h=2,
)

# %% [markdown]
# ## What this does not show, and what next
#
# **Which permutations.** At side 8 the proposal's question is small: 35 groupings a block, of which a common one is
# no choice at all. At side 16 there are 2,627,625; how much energy there is to win was not measured.
#
# **What decides.** Masks here are chosen by magnitude, because the proposal's are. The aligned arms suggest that
# what a family can do inside a mask matters, beside the entries it keeps: a reflection can be a swap there, a rotation
# of side 4 cannot. Which masks contain a large orthogonal group, for 1:4, 2:4 and 4:8, is the question to ask next.
#
# **Rotations of side four.** A swap has determinant -1 in both faithful representations of dimension 4, and no
# rotation has. Blocks of side 8 have room for one more coordinate, squares of side 4 have not.
#
# **Not shown.** Least squares over random masks (38 of 40 hold an orthogonal matrix, by the plan) are not repeated.
# One layer, one group, five seeds and one model width; and no statement about the speed of hardware that
# multiplies 2:4, which C8 leaves to a machine that has it.
