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
# # 005 · At equal state, is a hierarchy of blocks better than plain heads?
#
# **Idea.** Linear attention keeps a $d \times d$ matrix, $S_t = S_{t-1} + k_t v_t^\top$. Keep
# it as dense blocks on the diagonal and blocks of rank $r$ off it (hierarchically
# semiseparable, HSS), in a fifth of the memory, and scan packed sequences with flags.
#
# **Reported before.** ABANDON: 25.6 % on a copying task, and 25.5 % for dense attention.
#
# **Answer.** No. After 1,200 updates HSS (4, 4), that is leaves of 4 and rank 4 with 736 numbers, recalls
# 95 % of 16 pairs and 80 % of 32; 11 plain heads of 8, 704 numbers, recall 99 and 88 % (median seeds). Twice the
# updates close nearly three quarters of the gap on the mean, and leave one and six points on the median seed (C7;
# by two points ahead, which is what would have counted, HSS is on one seed of 32 pairs). HSS is sensitive to its
# step size, which one seed chose from a coarse grid. A fifth of the numbers of dense attention is enough for the
# copying task, and so is a sixteenth, without any hierarchy. The reported scores do not recur (R1 is missed).
#
# **Cause.** With fixed bases every block is a head of linear attention of its own, exactly: HSS is
# a set of heads of unequal size, tied through one query, key and value and one denominator. The earlier
# 25 % is the score of a model that knows which tokens occurred but not where: a plateau, on which a model
# stays long that has no norm before the mixer.

# %% tags=["parameters"]
experiment: str = "005"  # the notebook these parameters belong to
seeds: list[int] = [100, 101]  # one model each, alike in every arm, in [0, 2147483647]
tuning_seeds: list[int] = [0]  # for the step sizes, none of those above, in [0, 2147483647]
copy_seeds: list[int] = [100]  # of the models that copy, in [0, 2147483647]
steps: int = 10  # updates per model on recall, in [2, 1000000]
tuning_steps: int = 2  # updates per model and step size in tuning, in [2, 1000000]
copy_steps: int = 6  # updates per model that copies, in [2, 1000000]
samples: int = 50  # sequences that a score is the mean over, in [50, 1000000]
truncated: int = 5  # sequences that are read from truncated states, in [2, 1000000]

# %% jupyter={"source_hidden": true}
from copy import deepcopy
from functools import partial

import pandas as pd
import torch
from IPython.display import display
from torch.nn.functional import elu, one_hot

import lab
from lab import audit
from lab.audit.state_size import state_bytes
from lab.benchmark.forward import forward_milliseconds
from lab.linalg.hss import compress, coupling_numbers
from lab.memories import LinearAttention
from lab.memories.base import normalised
from lab.memories.hierarchical import HierarchicalAttention, hierarchical_attention_sequential
from lab.memories.truncated import TruncatedAttention
from lab.mixers import MultiHead, look_up
from lab.model import SequenceModel, residual_model
from lab.plots import figures, panels
from lab.scan import associative_scan, associative_scan_sequential, linear_scan
from lab.seeding import stream

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %% jupyter={"source_hidden": true}
from lab.experiment import EVERY, MEAN, MEDIAN, NUMBER, Arm, Arms, Experiment, Planned
from lab.tasks import DelayedCopying, JointRecall, Stored
from lab.tasks.by_length import ByLength
from lab.tasks.retrieval import COMMONEST
from lab.train import score

torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way
PROPOSAL = [  # its own criteria, and before them what its earlier code gives here
    Planned("R1", "copying, test accuracy, {part}", "in", (0.24, 0.28), MEDIAN, arm="reported", parts=["dense as run", "HSS as run"], varies=True),
    Planned("S1", "HSS as run, copying, accuracy in training", ">=", 1.0, arm="proposal"),
    Planned("S2", "energy of a stored block in 8 singular values", ">", 0.99, NUMBER, arm="proposal"),
    Planned("S3", "numbers of the state / d², as the proposal counts", "<", 0.2, NUMBER, arm="proposal"),
    Planned("F1", "HSS as run, copying, test accuracy", "<", 0.9, EVERY, "failure", "proposal", varies=True),
    Planned("F2", "energy of a dense state's largest block in 8 singular values", "<", 0.99, MEDIAN, "failure", "proposal", varies=True),
    Planned("F3", "numbers of the state / d², as the proposal counts", ">=", 0.5, NUMBER, "failure", "proposal"),
    Planned("T1", "at full scale, as a share of {part}", ">=", 1.0, NUMBER, arm="proposal", parts=[
        "0.95 of linear attention's quality", "1.5 times its throughput", "a saving of half its memory", "0.9 of FlashAttention's quality"]),
]

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
exp = Experiment(
    "005", title="Segmented HSS linear attention", parameters=p,
    question="At equal state size, is a hierarchy of blocks better than plain heads?",
    reported={"dense, test accuracy": 0.2546, "HSS, test accuracy": 0.2558, "memory ratio": 0.656, "energy in 8 singular values": 1.0},
    criteria=[
        *PROPOSAL,
        Planned("C1", "dense, repaired, copying, test accuracy", ">", 0.99, kind="control", varies=True),
        Planned("C2", "HSS (4, 4), copying, test accuracy", ">", 0.99, varies=True),
        Planned("C3", "HSS (4, 4) - dense, recall of 16 pairs", ">=", -0.05, MEAN, paired=True, varies=True),
        Planned("C4", "HSS (4, 4) - best plain heads with no more numbers, recall of {part}", ">", 0.02, MEDIAN, paired=True, parts=["16 pairs", "32 pairs"], varies=True),
        Planned("C5", "dense - the same with its state truncated to r = 8, recall of 16 pairs", "<", 0.05, MEAN, paired=True, low_is_good=True, varies=True),
        Planned("C6", "packed against one by one, largest difference, {part}", "<", 1e-6, NUMBER, "control", parts=["dense", "8 heads of 8", "HSS (4, 4)"]),
        Planned("C7", "as C4, after twice the updates, {part}", ">", 0.02, MEDIAN, "context", paired=True, parts=["16 pairs", "32 pairs"], varies=True),
        Planned("K1", "error: {part}", "<", 1e-10, NUMBER, "control", parts=["tree against heads, (4, 4)", "tree against heads, (4, 8)", "one leaf against linear attention", "numbers of a state"]),
        Planned("K2a", "flag patterns, of 8, where the corrected operator is not associative", "==", 0, NUMBER, "control"),
        Planned("K2b", "flag patterns, of 8, where the printed operator is not associative", "==", 2, NUMBER, "control"),
        Planned("K3", "{part}, recall of 4 pairs", ">", 0.95, kind="control", parts=["dense", "HSS (4, 4)", "best plain heads"], varies=True),
    ])
exp

# %% [markdown]
# S1 to F3 and the targets at full scale (T1) are the proposal's. They are judged on its own
# model and setting, and have a verdict of their own; the corrected arms decide. C2 to C5 are
# the corrected ones, and C4 is the question: the best plain heads are chosen on a tuning seed,
# among those with no more numbers in their state. C6, K1 and K2 are identities, and controls.
# K3 says that those who are compared have learned the task where it is easy; without it, an
# arm below another might only be slow to train, and C7 trains both twice as long. What would
# change our mind: an HSS state that beats plain heads of its size by two points.
#
# ## Are the tasks what we think they are?
#
# **Copying** is the earlier task: eight tokens of 16 kinds, then blanks, and every token is
# due at a blank of its own. The places are the same in every sequence, so that this is recall
# by position. Whoever knows *which* tokens occurred but not *where* names the commonest, and
# is right on 25.8 %.
#
# **Recall** asks only how much a state can hold: a token is a key with its value, and
# afterwards eight keys alone ask for their values. No order, no position, nothing to bind.
# There are 64 keys, which do not repeat, and 64 values, which may. Whoever ignores the query
# and names the commonest value is right on 27.3, 17.2, 12.4 and 8.5 % for 4, 8, 16 and 32
# pairs (the plan has 17.3 and 12.5 for the middle two; these are exact).

# %%
copying, PAIRS, QUERIES = DelayedCopying(), [4, 8, 16, 32], 8
recall = ByLength({n + QUERIES: JointRecall(n, QUERIES) for n in PAIRS})
pairs_of = recall.at(16 + QUERIES).parts  # key and value of a token
plateau, commonest = copying.ceilings[COMMONEST], {n: recall.at(n + QUERIES).ceilings[COMMONEST] for n in PAIRS}
print(f"the commonest token: {plateau:.3f} of copying, of recall", {f"{n} pairs": f"{share:.3f}" for n, share in commonest.items()})

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(audit.task(copying, length=copying.length, drawn=1000), audit.task(recall.at(24), length=24, drawn=1000))
display(panels.targets(copying, length=copying.length, title="Copying: 16 is BOS, 17 SEP, 18 a blank"))
panels.targets(recall.at(12), length=12, rows=("key:value", "value"), title="Recall of 4 pairs", symbols={
    "key:value": [f"{n // 65}:{'' if n % 65 == 64 else n % 65}" for n in range(64 * 65)], "value": [str(n) for n in range(64)]})

# %% [markdown]
# ## Is the algorithm what we think it is?
#
# ### A tree of blocks
#
# The rows of $S$ are halved down to leaves of $m$. The halves $i$ and $j$ of a node have two
# blocks off the diagonal, $U_i W_i V_j^\top$ and $U_j W_j V_i^\top$, of rank $r$ at most.
# The source ties $W_j = W_i^\top$, which is right for a symmetric $S$ alone. It also calls
# the form HSS; bases that are independent at every level are the larger family HODLR. Below,
# $S_t = \sum_s k_s v_s^\top$ of 64 steps and what is left of it.


# %%
def draw(t, *, positive=True):
    """Keys and values ["5 t 64"] of five sequences, in float64; elu + 1 of keys if positive."""
    k, v = torch.randn(2, 5, 64, 64, generator=stream(0, "keys, values"), dtype=torch.float64)[:, :, :t]
    return elu(k) + 1 if positive else k, v


def nearest(S, rank):
    return compress(S, leaf=4, rank=rank).to_dense()


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def draw_state(t, shown):
    S = draw(t)[0].mT @ draw(t)[1]
    if shown == "singular values":
        blocks = {f"{b} x {b}": torch.linalg.svdvals(S[0, :b, b : 2 * b]).clamp_min(1e-14) for b in (8, 16, 32)}
        return figures.lines(blocks, x_title="number of the singular value", y_title="singular value", log=True, title=f"Blocks off the diagonal after {t} steps")
    cut = {f"rank {rank}": nearest(S, rank)[0] for rank in (4, 8, 16)}
    return figures.matrices({"S": S[0], **cut}, title=f"A state after {t} steps, and its blocks truncated")


display(panels.Panel(draw_state, t=panels.Slider("step t", 24, 1, 64, 1), shown=panels.Choice("shown", ["matrices", "singular values"])))
panels.Panel(draw_state, t=panels.Slider("step t", 24, 1, 64, 1), shown=panels.Choice("shown", ["singular values", "matrices"]))

# %% [markdown]
# After $t$ steps a block has rank $\min(t, b)$, and there is nothing in a sum of outer products
# that would make its tail small. What is visible at $t = 24$ is that rank, and the bright
# columns of the mean that all keys share.
#
# ### Fixed bases make it plain linear attention
#
# If $U$ and $V$ are fixed, whether drawn or learned, the couplings are sums like $S$ itself:
#
# $$W_i(t) = W_i(t-1) + (U_i^\top k_{t,i})(V_j^\top v_{t,j})^\top, \qquad
# o_{t,j} \mathrel{+}= V_j W_i^\top U_i^\top q_{t,i}.$$
#
# This is linear attention once more: every leaf and every $W_i$ is a head, with the projected
# queries $U_i^\top q_i$, keys $U_i^\top k_i$ and values $V_j^\top v_j$. There is no tree to walk,
# nothing to compress, and no loop over time that other heads would not need. The definition in
# `lab.memories.hierarchical` walks the tree all the same, step after step, and reads by
# products with it; the layer computes heads. The code compares the two (K1), and lists the
# heads that each form consists of. What is left of the tree is which entries of one $q$, $k$
# and $v$ a head sees, and that all heads are divided by one sum of weights.

# %%
D, FORMS = 64, {"HSS (4, 4)": (4, 4), "HSS (4, 8)": (4, 8), "HSS (8, 4)": (8, 4), "HSS (2, 4)": (2, 4)}  # leaf, rank
generator = stream(0, "identities")
hss = partial(HierarchicalAttention, D, heads=1, d_key=D)
trees = {name: hss(leaf=m, rank=r, generator=generator).double() for name, (m, r) in FORMS.items()}
(q, k, v), x = torch.randn(3, 2, 1, 24, D, dtype=torch.float64, generator=generator), torch.zeros(2, 24, D, dtype=torch.float64)
errors = {f"tree against heads, {name[4:]}": (hierarchical_attention_sequential(trees[name], q, k, v) - trees[name](q, k, v, x)).abs().max().item()
          for name in ("HSS (4, 4)", "HSS (4, 8)")}
one_leaf, whole = hss(leaf=D, rank=0)(q, k, v, x), LinearAttention(D, heads=1, d_key=D)(q, k, v, x)
errors["one leaf against linear attention"] = (one_leaf - whole).abs().max().item()
assert torch.equal(*(trees["HSS (4, 4)"](q, k, v, x) for _ in range(2))), "bases change between calls"
for name, memory in trees.items():
    print(f"{name} is", " and ".join(f"{sum(counts)} heads of {width}" for width, counts in memory.groups))

# %% [markdown]
# ### What a state costs
#
# Numbers per sequence: $d m$ in the leaves, and $(d/b) \min(r, b)^2$ in the couplings of
# halves of $b$ rows. Fixed bases are parameters; bases that depend on the data belong to the
# state. The sum of all keys, which normalises, has 64 more (88 for 11 heads of 8) and is not counted. The
# proposal's 2688 are the leaves, one $W$ a node in place of two, two bases in place of four,
# and 64 more, perhaps that sum. At $d = 512$ and $r = 32$ its own arithmetic gives a ratio of
# 1.13, and its next section quotes 0.1.


# %%
def numbers(memory):
    """Numbers of a state, counted in what a step hands on; without the sum of the keys."""
    return state_bytes(MultiHead(D, memory), torch.zeros(1, 3, D)) // 4 - memory.heads * memory.d_key


counted = {name: numbers(hss(leaf=m, rank=r)) for name, (m, r) in FORMS.items()}
assert list(counted.values()) == [736, 1408, 736, 736], "not the sizes that were planned"
errors["numbers of a state"] = max(abs(counted[name] - coupling_numbers(D, leaf=m, rank=r)) for name, (m, r) in FORMS.items())
exp.judge("K1", errors)
whole, fixed = compress(torch.eye(D), leaf=4, rank=8).numbers, counted["HSS (4, 8)"]
claimed = 4 * D + (fixed - 4 * D) // 2 + (whole - fixed) // 2 + D
print("as the proposal counts:", claimed, "- with bases that depend on the data:", whole)
exp.judge("S3", claimed / D**2)
exp.judge("F3", claimed / D**2)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
figures.scaling({name: {d: coupling_numbers(d, leaf=m, rank=r) / d**2 for d in (64, 128, 256, 512, 1024)} for name, (m, r) in FORMS.items()},
                x_title="d", y_title="numbers of a state / d²", title="State size with fixed bases")

# %% [markdown]
# ## As reported
#
# The earlier model has one layer, no norm before it, embeddings of size 0.02, 21,076
# parameters, and it reads the wrong side: $S q$ of $S = \sum k v^\top$, so that keys are what
# is read, values address them, and the denominator does not normalise. Its best validation
# came after about 1,100 updates at a learning rate of 1e-3, which is the budget here. Left out
# is dropout, and weights start uniform in place of Xavier's. The earlier HSS redrew its bases
# at random in every forward pass, tied $W_j$ to $W_i$ and filled it from the upper block
# alone, so that a model could use its leaves only; here bases are learned and couplings
# independent, which gives the model more to work with.
#
# The first three models have no norm. The third reads the right side. The other four have one,
# and less than a fifth of the updates; step size and sequences are the same, so that a norm is all
# that they have more. They read the wrong side all the same, are repaired, have an HSS state of
# a fifth of the numbers, and leaves alone. The two that criteria ask about have all seeds, and
# the others the seeds of the models as run.


# %%
class WrongSide(HierarchicalAttention):
    """S q in place of S^T q, and features on values too: the read of the earlier code."""

    def forward(self, q, k, v, _):
        q, k, v = (elu(part) + 1 for part in (q, k, v))
        return normalised(self.sums(q, v, k), (q * k.cumsum(2)).sum(-1, keepdim=True))


def copier(kind, task, seed, *, norm=True, leaf=D, rank=0):
    def mixer(generator):
        memory = kind(D, heads=1, d_key=D, leaf=leaf, rank=rank, generator=generator)
        return MultiHead(D, memory, generator=generator)

    model = residual_model(task, seed, d_model=D, mixer=mixer, layers=1, positions=32)
    with torch.no_grad():
        model.embedding.mul_(0.02)  # as large as the embeddings of positions
    if not norm:
        model.mixer_norms[0] = torch.nn.Identity()
    return model


assert sum(each.numel() for each in copier(WrongSide, copying, 0, norm=False).parameters()) == 21_076

# %%
stored = Stored(copying, 1400, copying.length, stream(0, "stored"))
WITHOUT = {"dense as run": partial(copier, WrongSide, norm=False), "HSS as run": partial(copier, WrongSide, norm=False, leaf=4, rank=8),
           "right side": partial(copier, HierarchicalAttention, norm=False)}
WITH = {"wrong side, norm": partial(copier, WrongSide), "dense, repaired": partial(copier, HierarchicalAttention),
        "HSS (4, 4)": partial(copier, HierarchicalAttention, leaf=4, rank=4), "16 leaves of 4": partial(copier, HierarchicalAttention, leaf=4)}
COPY = {"batch": 64, "length": copying.length, "lr": 1e-3, "clip": 1.0, "device": "cpu",
        "watch": {"accuracy": lambda model: torch.tensor(score(model, copying, length=copying.length, samples=min(p.samples, 200), seed=0).accuracy)}}
LONG = {"steps": p.copy_steps, "watch_every": max(1, p.copy_steps // 12)}
SHORT = {"steps": max(2, 2 * p.copy_steps // 11), "watch_every": max(1, p.copy_steps // 36)}
ASKED = ["dense, repaired", "HSS (4, 4)"]
some = {name: Arm(build, data=stored, **LONG if name in WITHOUT else SHORT) for name, build in (WITHOUT | WITH).items() if name not in ASKED}
as_run = exp.train(some, copying, COPY, seeds=p.copy_seeds, split=len(p.copy_seeds))
repaired = exp.train({name: Arm(WITH[name], data=stored, **SHORT) for name in ASKED}, copying, COPY, split=2)
both = as_run | repaired
copied = {name: each for arms in (as_run, repaired) for name, each in arms.scores(length=copying.length, samples=p.samples, score="accuracy").items()}
trained_on = as_run.select(["HSS as run"]).measure(lambda model, _: score(model, stored, length=copying.length, samples=p.samples, seed=0).accuracy)
asked = {"R1": {name: copied[name] for name in ("dense as run", "HSS as run")}, "S1": trained_on["HSS as run"], "F1": copied["HSS as run"]}
for id_, values in (asked | {"C1": copied["dense, repaired"], "C2": copied["HSS (4, 4)"]}).items():
    exp.judge(id_, values, seeds=p.copy_seeds if id_ in asked else p.seeds)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(pd.DataFrame({name: {"seeds": len(each), "worst": each.min().item(), "best": each.max().item()} for name, each in copied.items()}).T.round(3))
for group, what in ((both.select([*WITHOUT]), "without a norm before the mixer"), (both.select([*WITH]), "with a norm")):
    curves = {name: torch.stack([each.watched["accuracy"] for each in own]).quantile(0.5, dim=0) for name, own in group.histories.items()}
    x = torch.tensor(next(iter(group.histories.values()))[0].watched_at)
    display(figures.lines(curves, x=x, x_title="update", y_title="test accuracy, median seed", title=f"Copying, {what}",
                          levels={"a guess": 1 / 16, "the commonest token": plateau}))

# %% [markdown]
# Here the dense model as run leaves the plateau within 1,100 updates (99 and 100 %), which the
# reported run did not, nor a pilot on other sequences and with dropout (25 to 27 % after 1,464 updates,
# and 74 % after 2,196). HSS as run (36 and 48 %) and the right side alone (56 and 67 %) are on their way:
# reading the right side was slower here than the wrong one. With the norm all have 100 % (two arms on two seeds),
# after 200 updates at the same learning rate, whichever side is read. So 25 % is a moment of training, and it is
# the norm, with all else the same, that makes it short. A likely reason, not tested, is that un-normalised
# embeddings of 0.02 enter elu + 1: all $\phi(q) \cdot \phi(k)$ are nearly equal, and next to no gradient
# says where to look.
# Eight positions are at most 26 nearly orthogonal keys in 64 dimensions: capacity was never in
# question.
#
# The same, seen from inside: how often an answer is one of the commonest tokens of its
# sequence, which is all that a model on the plateau can say, and the weight of every step in
# every answer.


# %%
@torch.no_grad()
def names_the_commonest(model, task):
    """How often an answer is one of the commonest tokens of its sequence."""
    batch = task.sample(min(p.samples, 500), task.length, stream(0, "commonest"))
    counts = one_hot(batch.targets[:, task.due], task.vocabulary).sum(1)
    said = model(batch.inputs).argmax(-1)[:, task.due]
    return (counts.gather(1, said) == counts.amax(1, keepdim=True)).double().mean()


@torch.no_grad()
def weights_of(model, task, wrong_side):
    """["due steps"]: the weight of every step in each answer, of one sequence."""
    x = model.mixer_inputs(task.sample(1, task.length, stream(0, "weights")).inputs)
    q, k, v = (elu(part)[0, 0] + 1 for part in model.mixers[0].heads(x))
    weights = (q @ (v if wrong_side else k).mT).tril()
    return (weights / weights.sum(-1, keepdim=True))[task.due]


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
said = {name: each.quantile(0.5).item() for name, each in both.measure(names_the_commonest).items()}
display(pd.Series(said).round(3).to_frame("answers that are a commonest token"))
figures.matrices({name: weights_of(both[name].models[0], copying, "dense, r" not in name) for name in ("dense as run", "wrong side, norm", "dense, repaired")},
                 title="Weights of all steps (columns) in the eight answers (rows), one sequence")

# %% [markdown]
# Of the right answers 48 % are a commonest token; HSS as run names one in 67 %, as it has not left the
# plateau behind. A repaired model looks, in every answer, at its own place. With the wrong side and a
# norm the table of weights means little, since they weigh keys and are not divided by their own sum.
#
# The task cannot test a hierarchy either. Leaves alone, 16 heads of 4 that share a denominator, with 256
# numbers in all, solve it (two seeds; S1 asks for accuracy in training, which was not measured for them). They
# meet the limit of S3, which the proposal's own model misses, and that proves nothing about blocks off the diagonal.
#
# ## Diagnosis: is a state of low rank off its diagonal?
#
# S2 asks whether a block that is stored as $U W V^\top$ of rank 8 has its energy in eight
# singular values. It does, whatever the data are. The claim has to be tested on a dense
# state. For random keys and values, this is the error of the nearest HODLR matrix, and the
# error if the state is truncated again after every step. The source's bound is the tail of
# one truncation; repeated ones add up.


# %%
def lost(t, positive, rank=8):
    """Relative errors of one truncation at the end, and of one after every step."""
    k, v = draw(t, positive=positive)
    S = again = torch.zeros(5, D, D, dtype=k.dtype)
    for key, value in zip(k.unbind(1), v.unbind(1), strict=True):
        S = S + (written := key[:, :, None] * value[:, None])
        again = nearest(again + written, rank)
    return {what: ((each - S).norm() / S.norm()).item() for what, each in {"once": nearest(S, rank), "every step": again}.items()}


U, V = torch.linalg.qr(torch.randn(2, 200, 32, 8, generator=stream(0, "bases"), dtype=torch.float64)).Q
u, v = torch.randn(2, 200, 32, 1, generator=stream(0, "update"), dtype=torch.float64)
seen = (U.mT @ u).norm(dim=(1, 2)) * (V.mT @ v).norm(dim=(1, 2)) / (u.norm(dim=(1, 2)) * v.norm(dim=(1, 2)))
print(f"a rank-1 update of a block of 32 rows in random bases of rank 8 is off by {(1 - seen.square()).sqrt().mean():.2f}")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
pd.DataFrame({(keys, t): lost(t, keys == "elu + 1") for keys in ("plain", "elu + 1") for t in (8, 16, 64)}).round(2).rename_axis(["keys", "step t"], axis=1)

# %% [markdown]
# The plan has 0, 0.28 and 0.41 for plain keys, and 0, 0.16 and 0.22 for elu + 1, where all keys
# share a large mean direction: one truncation at the end. Truncation at every step costs more.
# An update also has to read all of $k$ and $v$, which are $2d$ numbers, and to compress blocks
# again costs $O(r^2 d)$: the claimed $O(r^2 \log d)$ a step is impossible for fixed $r$ as $d$ grows. The reported
# error of 97 % for updates in random bases needs no experiment: of a block of 32 rows, bases of rank 8
# see $(8/32)^2$ of the energy, and $\sqrt{15/16}$ is 0.97.
#
# ## Corrected: recall against the size of the state
#
# One layer, one norm before it, embeddings of key and value that add up. All arms see the same
# batches, of 16 and 32 pairs in turn, and each has the learning rate that does best for it on a
# tuning seed, after as many updates as in the report: after 250, no HSS arm of 736 numbers
# recalled more than 9 %, which is little to choose by. Besides dense attention and HSS (4, 4) there are plain heads:
# 4 of 16 and 8 of 8, which the plan has, and 11 of 8, whose 704 numbers are as many as heads of 8 can
# have without exceeding the 736 of HSS. The last arm takes HSS apart: leaves alone, whose heads share one
# denominator.
#
# Arms of the plan that are not trained again are smaller plain heads, projections and other forms of
# HSS. In an earlier run of 700 updates 16 heads of 4 and 32 of 2 were 24 and 70 points below 8 of 8 on 16
# pairs; HSS (2, 4), of the same size, differed from HSS (4, 4) by -8 to 13 points by seed, HSS (8, 4) was
# 8 below, and HSS (4, 8), with 1,408 numbers, 18 above; 46 heads of 4, which have the sizes of HSS (4, 4),
# no ties and 2.6 times the weights in the mixer, were 11 above; and dense attention on projections to 27
# dimensions, 729 numbers, was 5 and 12 points above on 16 and 32 pairs. The answer is for HSS (4, 4).


# %%
class PairModel(SequenceModel):
    """A model whose tokens are pairs: the embeddings of key and value add up."""

    def embedded(self, tokens):
        key, value = pairs_of(tokens)
        return look_up(self.embedding, key) + look_up(self.embedding, 64 + value)


def build(kind, task, seed, **sizes):
    generator = stream(seed, "init")
    mixer = MultiHead(D, kind(D, generator=generator, **sizes), generator=generator)
    return PairModel(64 + 65, task.classes, D, [mixer], generator=generator)


def heads(n, width):
    return partial(build, LinearAttention, heads=n, d_key=width)


PLAIN = {f"{n} heads of {width}": heads(n, width) for n, width in ((4, 16), (8, 8), (11, 8))}
ARMS = {"dense": heads(1, D), **PLAIN, "HSS (4, 4)": partial(build, HierarchicalAttention, heads=1, d_key=D, leaf=4, rank=4),
        "8 leaves of 8": partial(build, HierarchicalAttention, heads=1, d_key=D, leaf=8, rank=0)}
SIZES = {name: numbers(make(recall, 0).mixers[0].memory) for name, make in ARMS.items()}
print(SIZES)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(audit.model(ARMS["HSS (4, 4)"](recall, p.seeds[0]).double(), recall.at(24), length=24))

# %%
RECIPE = {"batch": 16, "length": [n + QUERIES for n in (16, 32)], "schedule": "warmup-cosine", "clip": 1.0,
          "optimizer": torch.optim.AdamW, "device": "cpu"}


def on_pairs(model, task, *, seed, pairs=(16, 32)):
    found = [score(model, task, length=n + QUERIES, samples=p.samples, seed=seed).accuracy for n in pairs]
    return sum(found) / len(found)


rates = exp.tune(ARMS, recall, RECIPE | {"steps": p.tuning_steps}, lr=[3e-3, 1e-2, 3e-2], seeds=p.tuning_seeds, score=on_pairs)
arms = exp.train(ARMS, recall, RECIPE | {"steps": p.steps}, tuned=rates, split=2)  # several small jobs share two cores better
scores = {n: arms.scores(length=n + QUERIES, samples=p.samples, score="accuracy") for n in PAIRS}

# %%
H = "HSS (4, 4)"
rivals = [name for name in PLAIN if SIZES[name] <= SIZES[H]]
best = max(rivals, key=lambda name: rates.medians(name).nan_to_num(0.0).max().item())
exp.judge("C3", scores[16][H], minus=scores[16]["dense"])
exp.judge("C4", {f"{n} pairs": scores[n][H] for n in (16, 32)}, minus={f"{n} pairs": scores[n][best] for n in (16, 32)})
longer = exp.train({name: Arm(ARMS[name], steps=2 * p.steps) for name in (H, best)}, recall, RECIPE, tuned=rates, split=2)
later = {n: longer.scores(length=n + QUERIES, samples=p.samples, score="accuracy") for n in (16, 32)}
exp.judge("C7", {f"{n} pairs": each[H] for n, each in later.items()}, minus={f"{n} pairs": each[best] for n, each in later.items()})
exp.judge("K3", {part: scores[4][name] for part, name in {"dense": "dense", H: H, "best plain heads": best}.items()})

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
CURVES = {"plain heads": list(PLAIN), **{name: [name] for name in ARMS if name not in PLAIN}}


def by_size(pairs):
    n = int(pairs)
    shown = {name: {SIZES[arm]: scores[n][arm].tolist() for arm in own} for name, own in CURVES.items()}
    return figures.recall(shown, x_title="numbers of the state", levels={"the commonest value": commonest[n]}, title=f"Recall of {n} pairs against the size of the state")


display(rates, pd.DataFrame({f"{n} pairs": {name: each.median().item() for name, each in scores[n].items()} for n in PAIRS}).round(3))
display(arms.losses(title="Training loss, 16 and 32 pairs in turn"), panels.Panel(by_size, pairs=panels.Choice("pairs", ["16", "8", "4"])))
display(pd.DataFrame({f"{n} pairs": scores[n].paired(H, best) for n in PAIRS}).T.round(3))
exp.key_figure(by_size(32))

# %% [markdown]
# HSS (4, 4) is 5 points below 11 heads of 8 on 16 pairs and 11 below on 32, on the mean, and below
# them on every seed (C4); 4 (0 to 10) and 5 points (-3 to 18) below 8 heads of 8, which have 512 numbers.
# Of the gap to 11 heads twice the updates, at the same step sizes, close nearly three quarters on the mean: HSS gains
# 4 (0 to 8) and 11 points (2 to 19), the heads 0.5 and 3, so that 1.4 and 3.0 points are left, and 3 and 6 on the
# worst seed (C7). By seed it is 27 % to all of it on 32 pairs; on 16 the heads are at 99 % and have little to gain.
# One seed of HSS is far behind the others (87 and 65 %). And a step size from its best HSS loses 45 to 50 points
# in tuning, plain heads up to 6 (one tuning seed), so that a finer grid may favour HSS; 11 heads have a fifth more
# weights in the mixer.

# %% [markdown]
# Arms, budgets and grids were settled on seeds 100 to 104, and these are others; there HSS was 4 and 10 points below
# 11 heads of 8. An earlier run, of 700 updates with step sizes chosen at 250, had HSS 18 and 25 points behind 8
# heads of 8. After 1,400 updates it was level with them on 16 pairs, and 4 points ahead on 32 (median; -1 to 7), with
# 736 numbers against 512. Against 11 heads of 8, nearer in size, HSS leads in neither mean nor median; 8 heads of
# 8 were not trained twice as long here. A comparison after few updates measures how fast a state is learned, and how
# well step sizes were chosen, before it measures what a state can hold.
#
# Dense attention, with 4,096 numbers, is below 4 heads of 16 with 1,024, presumably for want of training
# and not of room (not tested), and makes C3 easy; it is undecided all the same, for the one seed of HSS that is far
# behind (-2 points, -7 to 2). The leaves of 8 are 12 points behind 8 heads of 8 on 16
# pairs (median), and from 26 behind to 9 ahead on 32; their step size lies at the edge of the grid, and after
# 700 updates they were 3 behind and 2 ahead. What a common denominator costs is not settled.
#
# Nothing in a learned space of features orders its coordinates, so that neighbours would
# interact more. A hierarchy suits matrices whose index is space or time.
#
# ### A dense state, truncated as it is written
#
# The proposal as it is written has bases that follow the data: after every step the blocks
# are compressed again. That can be tried on the trained dense models, for whom it is
# inference and no training. The sum of keys stays exact.


# %%
def with_truncation(rank, model):
    model = deepcopy(model)
    model.mixers[0].memory = TruncatedAttention(D, heads=1, d_key=D, leaf=4, rank=rank)
    return model


LOADS, dense = [8, 16, 32], arms.select(["dense"])
cut = Arms({"not truncated": dense["dense"], **{f"rank {rank}": dense.map(partial(with_truncation, rank))["dense"] for rank in (4, 8, 16)}})
kept = {n: cut.scores(length=n + QUERIES, samples=p.truncated, score="accuracy") for n in LOADS}
exp.judge("C5", kept[16]["not truncated"], minus=kept[16]["rank 8"])


# %%
@torch.no_grad()
def energy(model, task, rank=8, pairs=32):
    """Share of the energy of the largest block off the diagonal in its largest singular values."""
    S = model.states(task.sample(20, pairs + QUERIES, stream(0, "energy")).inputs)[:, pairs - 1, 0, : D // 2, D // 2 : D]
    s = torch.linalg.svdvals(S).square()
    return (s[:, :rank].sum(1) / s.sum(1)).mean()


exp.judge("F2", dense.measure(energy)["dense"])
block = nearest(draw(64)[0].mT @ draw(64)[1], 8)[0, : D // 2, D // 2 :]
exp.judge("S2", (torch.linalg.svdvals(block)[:8].square().sum() / block.square().sum()).item())

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
figures.strips({f"{n} pairs": kept[n] for n in LOADS}, log=False, y_title="accuracy", title="Dense models whose state is truncated at every step")

# %% [markdown]
# Truncation to rank 8 costs 0.2 points of recall at 16 pairs (-0.1 to 0.5; C5, which the plan expected to be
# missed) and 0.3 at 32, rank 4 costs 1 and 3, on 100 sequences, although after 32 pairs eight singular
# values hold 93 % of the energy of the largest block and not 99 (F2, median seed). With such bases the state
# has 4,992 numbers, more than the dense one, so that nothing is saved. S2 is met by construction; F2 asks
# the same of the dense state, whose blocks are not of that rank.
#
# ## Segments: what a packed batch needs
#
# Sequences of different length share a row; a flag marks where one begins. The elements of
# the scan are pairs $(S, f)$. The printed operator returns the flag 0 whenever the flag on the
# right is 0, and so forgets that a sequence began: it is not associative, and a parallel scan
# may bracket as it likes. The right one is $(S, f) \oplus (S', f') = (S'', f \lor f')$, where
# $S''$ is $S'$ if $f'$ is set, and $S + S'$ if not.


# %%
def printed(earlier, later):
    (S, _), (added, begins) = earlier, later
    return torch.where(begins, added, S + added), begins


def corrected(earlier, later):
    (S, began), (added, begins) = earlier, later
    return torch.where(begins, added, S + added), began | begins


flags = torch.cartesian_prod(*[torch.tensor([False, True])] * 3)  # all 8 patterns
A, B, C = ((torch.full((8,), 2.0**i), flags[:, i]) for i in range(3))
for id_, combine in {"K2a": corrected, "K2b": printed}.items():
    one, other = combine(combine(A, B), C), combine(A, combine(B, C))
    fails = (one[0] != other[0]) | (one[1] != other[1])
    exp.judge(id_, int(fails.sum()))
    print(combine.__name__, "fails for the flags", flags[fails].int().tolist(), "with", one[0][fails].tolist(), "and", other[0][fails].tolist())

# %%
begins = torch.rand(1, 64, 1, generator=stream(0, "flags")) < 0.2
S = torch.randn(1, 64, 3, generator=stream(0, "elements"), dtype=torch.float64)
gains = 1 - begins.double().expand_as(S)  # a flag is a gain of zero, which every scan here takes
for combine in (printed, corrected):
    tree, loop = (scan(combine, (S, begins.expand_as(S)))[0] for scan in (associative_scan, associative_scan_sequential))
    print(combine.__name__, "- in a tree as in a loop:", torch.allclose(tree, loop),
          "- as a scan with gains of zero:", torch.allclose(tree, linear_scan(gains, S)))


# %% [markdown]
# That is all that segments need, and it has nothing to do with HSS. Sequences of 8 to 40 tokens
# in one row, with the trained models, against one sequence at a time:


# %%
drawn = stream(0, "packed")
sequences = [torch.randint(recall.vocabulary, (1, int(n)), generator=drawn) for n in torch.randint(8, 41, (12,), generator=drawn)]
gain = torch.cat([torch.where(torch.arange(each.shape[1]) == 0, float("-inf"), 0.0) for each in sequences]).double()


@torch.no_grad()
def packing_error(model):
    model = deepcopy(model).double()
    alone, memory = torch.cat([model(each) for each in sequences], dim=1), model.mixers[0].memory
    memory.log_decay = lambda x: gain[None, :, None, None].expand(len(x), -1, memory.heads, 1)
    return (model(torch.cat(sequences, dim=1)) - alone).abs().max().item()


exp.judge("C6", {name: packing_error(arms[name].models[0]) for name in ("dense", "8 heads of 8", H)})

# %% [markdown]
# ## Panels: states and eigenvalues
#
# A state of dense attention and of HSS along a sequence. Nothing fades: all eigenvalues are 1.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
words, shown = panels.examples(recall.at(24), length=24), arms.select(["dense", H])
display(panels.states(shown.models, words, draw=lambda h: figures.matrices({f"after step {t}": h[t - 1, 0] for t in (4, 16)})))
panels.eigenvalues(shown.models, words)

# %% [markdown]
# ## Verdict
#
# The table with the verdict is at the top. The targets at full scale need a corpus, a GPU and
# kernels that are not here.

# %%
exp.not_run("T1", "no WikiText-103, no GPU and no fused kernels here")
tokens = recall.sample(32, 40, stream(0, "speed")).inputs
times = forward_milliseconds({name: arms[name].models[0] for name in ("dense", H)}, tokens, budget=0.5)
exp.note("forward time, HSS (4, 4) / dense", times[H] / times["dense"], statistic=NUMBER)
for n in (16, 32):
    exp.note(f"mean of HSS (4, 4) - {best}, the best plain heads, recall of {n} pairs", scores[n][H] - scores[n][best])
    exp.note(f"mean of HSS (4, 4) - 8 heads of 8, recall of {n} pairs", scores[n][H] - scores[n]["8 heads of 8"])
    for name in (H, best):
        exp.note(f"{name}, gain by twice the updates, recall of {n} pairs", later[n][name] - scores[n][name])
exp.table("accuracy", [{"arm": name, "numbers": SIZES[name], "pairs": n, "seed": seed, "score": value}
                       for n in PAIRS for name, each in scores[n].items() for seed, value in zip(p.seeds, each.tolist(), strict=True)])

# %%
exp.conclude(
    finding=f"HSS (4, 4), {SIZES[H]} numbers, recalls {100 * scores[16][H].median():.1f} % of 16 and {100 * scores[32][H].median():.1f} % of 32 pairs "
    f"(median seed); {best}, {SIZES[best]} numbers, {100 * scores[16][best].median():.1f} and {100 * scores[32][best].median():.1f} %, "
    f"and after twice the updates {100 * later[32][H].median():.1f} and {100 * later[32][best].median():.1f} % of 32; "
    f"dense, 4096 numbers, {100 * scores[32]['dense'].median():.1f} % of 32.",
    settles="The multiset of head sizes that is best at a fixed state, with HSS and equal heads as two points.", tags=["recall", "linear attention", "state size"], impact=2, cost_h=2,
)

# %% [markdown]
# ## What this does not show, and what next
#
# **The answer.** It holds for fixed bases that are learned, one layer, and tasks of recall. By the
# identity above, HSS is one point in the space of multisets of head sizes, with ties that nobody
# asked for.
#
# **Bases that follow the data** were tried for inference alone, on models that were trained
# without truncation. A model that is trained through singular value decompositions may learn
# to write what can be truncated; it would pay $O(r^2 d)$ a step and hold more numbers than a
# dense state at $d = 64$ and $r = 8$.
#
# **What next.** Which block structure should a state of fixed size have? The multiset of head
# sizes can be optimised at a fixed number of floats, with HSS and equal heads as two points.
# And the hierarchy belongs to time: log-linear attention (008) has a HODLR mask over steps.
#
# **Segments** need a flag, which any scan takes as a gain of zero. That is useful, and no
# property of HSS.
#
# **Not shown.** Text, several layers, $d$ above 64, and speed: HSS took 2.6 times as long as
# dense attention here (noted with the verdict), and plain heads were not timed. The
# targets at full scale need a GPU and fused kernels.
