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
# # 022 · Does displacement rank control what a recurrence can track?
#
# **Idea.** Make the input-dependent transition of a state-space model a Cauchy-like matrix, $A =
# \mathrm{diag}(d) + K \circ (GH^\top)$ with $K_{ij} = 1/(s_i - s_j)$. The width $\alpha$ of $G$ and $H$ is then
# a knob between a diagonal ($\alpha = 0$) and a dense matrix. The task composes permutations of five things.
#
# **Reported before.** ABANDON, "a fundamental optimisation barrier": $\alpha = 4$ tied with $\alpha = 1$ on
# words of 12, everything structured failed on words of 20, a dense matrix did not.
#
# **Answer.** Not shown here. A larger $\alpha$ helps corrected models, and as well with a random antisymmetric
# matrix in the place of the Cauchy kernel, where the displacement rank is full. Words of 20 are solved by 2 of 10
# seeds with $\alpha = 1$ and by 10 with $\alpha = 4$; with the random kernel by 1 and 10. On words of 60, at
# $\alpha = 4$, the Cauchy kernel is 3.7 points behind (8.2 behind to 0.8 ahead; H2 is undecided). Where the rank
# is exact (Cayley: a diagonal times an orthogonal matrix of displacement rank 2, 4 or 8), 10, 9 and 10 seeds
# solve words of 20; with a random kernel 10, 10 and 10.
#
# **Why REFUTED.** In none of seven pairs is the Cauchy kernel shown to be ahead (H1). Three miss H1 because every
# seed of both kernels has 100 %; four are undecided (α = 1: 10.7 points, −17 to 39). Two other misses say little
# of the question: one seed of ten at 66 % (P, Cayley, α = 4, with a step size of its own), and truncated products
# that err by 21 %, not 10 (C3, where the plan expected 35). That displacement does nothing is not shown.
#
# **Cause.** As tested, $\alpha$ is no displacement rank: without a projection $SA - AS$ has full rank. Nor does
# the measured rank order the results: Cayley matrices of rank 2 do what full rank at $\alpha = 1$ does not. The
# failure on words of 20 is not explained: one of two seeds overflowed, after 315 updates with little progress.

# %% tags=["parameters"]
experiment: str = "022"  # the notebook these parameters belong to
seeds: list[int] = [100, 101]  # one model each, alike in every arm, in [0, 2147483647]
tuning_seeds: list[int] = [0]  # for the step sizes, none of those above, in [0, 2147483647]
steps: int = 4  # updates per model, in [2, 1000000]
tuning_steps: int = 2  # updates per model and step size in tuning, in [2, 1000000]
label_steps: int = 4  # updates per model with one label a word, and in its tuning, in [2, 1000000]
proposal_steps: int = 2  # updates per model as proposed, words of 12, in [2, 1000000]
overflow_steps: int = 2  # updates per model as proposed, words of 20, in [2, 1000000]
samples: int = 100  # words that a score is the mean over, in [100, 1000000]
chains: int = 3  # products of 20 matrices that truncation errors are medians of, in [1, 100000]
largest: int = 64  # the largest n at which products with the kernel are timed, in [32, 65536]

# %% jupyter={"source_hidden": true}
import math
from copy import deepcopy
from dataclasses import replace
from functools import partial, reduce

import pandas as pd
import torch
from IPython.display import display
from torch import nn

import lab
from lab import audit, transitions
from lab.audit.relations import relations
from lab.benchmark import displacement as products
from lab.benchmark.forward import training_step
from lab.benchmark.timing import milliseconds
from lab.experiment import MEAN, MEDIAN, NUMBER, Arm, Experiment, Planned, solved, tuning
from lab.linalg import DPLR, displacement
from lab.linalg.displacement import CauchyLike, random_cauchy_like
from lab.mixers import StateSpace
from lab.model import residual_model
from lab.nn import linear
from lab.plots import figures, panels
from lab.seeding import stream

# %% jupyter={"source_hidden": true}
from lab.statistics import share_interval, sign_test
from lab.tasks import Stored, WordProblem, groups, word_problem

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range
torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way
OURS, EXACT = "the plan has no criterion for this.", ["Cayley, alpha 2", "Cayley, alpha 2, two sides", "Cayley, alpha 4", "Cayley, alpha 8"]
WAYS, PAIRS = ["kernel built", "kernel at hand", "assembled once"], [*(f"alpha {a}" for a in (1, 2, 4, 8)), *EXACT[::2], EXACT[3]]
PROPOSAL = [
    Planned("S1a", "alpha 4, words of 12, as proposed", ">", 0.85, arm="proposal", varies=True),
    *(Planned(id_, f"alpha {a}, words of 12, as proposed", "<", limit, arm="proposal", varies=True) for id_, a, limit in (
        ("S1b", 1, 0.7), ("S1c", 0, 0.5))),
    Planned("S2a", "speed of training, alpha 4 / dense, as proposed", ">", 0.6, NUMBER, arm="proposal", varies=True),
    Planned("S2b", "dense - alpha 4, words of 12, as proposed", "<", 0.05, MEAN, arm="proposal", paired=True, varies=True),
    Planned("S3", "throughput of a product / dense, n = 16, {part}", ">", 0.3, NUMBER, arm="proposal", parts=WAYS, varies=True),
    Planned("K1", "alpha 4 - alpha 1, words of 12, as proposed", "<=", 0.0, MEAN, "kill", "proposal", True, varies=True),
    Planned("F1", "error of 20 products, the test as it was", ">", 0.1, NUMBER, "failure", "proposal"),
    Planned("F2", "time of a product / dense, n = 16, {part}", ">", 10.0, NUMBER, "failure", "proposal", parts=WAYS, varies=True),
]

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
exp = Experiment(
    "022", title="Displacement-rank transitions", parameters=p,
    question="Does displacement rank control what a recurrence can track?",
    reported={f"words of {n}, {name}": value for n, name, value in (
        (12, "alpha 0", 0.336), (12, "alpha 1", 0.958), (12, "alpha 2", 0.876), (12, "alpha 4", 0.958), (12, "dense", 0.974),
        (20, "alpha 0", 0.076), (20, "alpha 1", 0.034), (20, "alpha 4", 0.01), (20, "dense", 0.972))},
    criteria=[
        *PROPOSAL,
        Planned("C1", "p of the sign test, alpha 4 ahead of alpha 1: {part}", "<", 0.05, NUMBER, low_is_good=True, varies=True,
                parts=["updates to 95 %", "token 20"]),
        Planned("C2", "dense - alpha 4, same bound, token 20", "<=", 0.05, MEAN, paired=True, guard="G1", varies=True),
        Planned("C3", "error of 20 truncated products, alpha 4, unit kernel", "<=", 0.1, NUMBER, low_is_good=True, varies=True),
        Planned("C4", "alpha 4, words of 12 that training has not seen", ">", 0.7, varies=True),
        Planned("H1", "{part}: Cauchy - random kernel, token 20", ">", 0.0, MEAN, paired=True, parts=PAIRS, varies=True, added=OURS),
        Planned("H2", "alpha 4: Cauchy - random kernel, token 60", "in", (-0.05, 0.05), MEAN, "kill", paired=True, varies=True, added=OURS),
        Planned("P", "{part}, token 20", ">=", 0.95, parts=EXACT, varies=True, added=OURS),
        Planned("L", "{part}, token 60", ">=", 0.9, MEDIAN, parts=["alpha 4", "alpha 8", *EXACT], varies=True, added=OURS),
        Planned("E", "alpha 4, one label a word, token 20", ">", 0.5, solved(0.95), "context", varies=True, added=OURS),
        Planned("C5", "updates left out, all corrected arms", "==", 0.0, NUMBER, "control"),
        Planned("G1", "dense, token 20", ">=", 0.95, kind="control", varies=True, added="C2 asks a difference to stay low."),
        Planned("R1", "rank less alpha, {part}", "<=", 0.0, NUMBER, "control", parts=["projected, alpha 4", *EXACT], added=OURS),
    ])
exp

# %% [markdown]
# S1 to F2 are the proposal's criteria, with its thresholds, on its own task and models; they have a verdict of
# their own. C1 to C5 are the plan's corrected ones. C3 is its corrected F1, the other way round: a failure
# above 10 % there, a success at or below 10 % here. C1 counts seeds on which $\alpha = 4$ is ahead of $\alpha =
# 1$, each with a step size of its own.
#
# H1 and H2 are the headline control: the same models with a random antisymmetric matrix in the place of the
# Cauchy kernel, of the same norm. If displacement is what helps, the Cauchy kernel is ahead (H1). H1 cannot be
# met where both kernels have 100 % on every seed. H2 would end the idea: at $\alpha = 4$ the whole interval of
# the difference lies within five points, on words three times as long as in training. P and L concern the
# matrices whose rank is exact, and L also $\alpha = 4$ and 8 of the Cauchy kernel. Who solves the task is a
# matter of luck in some arms, so that numbers of seeds with Wilson's interval stand beside means.
#
# ## Is the task what we think it is?
#
# Two tokens: the cycle of all five things, and the swap of the first two. After every token, or at the end
# alone, the model names which of the 120 arrangements it has before it. The stored sets of the first run have
# 5,000 words of 12 and 10,000 words of 20.

# %%
N, TRAIN, TESTS = 16, 20, [20, 40, 60, 100]  # states; tokens of words
S5 = groups.symmetric(5)
every = WordProblem(S5, S5.indices([groups.cycle(5, 0, 1, 2, 3, 4), groups.cycle(5, 0, 1)]), side="left")
last = replace(every, scored="last")
words12, test12 = (Stored(last, size, 12, stream(seed, "words of 12")) for size, seed in ((5000, 42), (500, 44)))
words20 = Stored(last, 10_000, TRAIN, stream(42, "words of 20"))
LEVELS = {"count of swaps, 12": last.commuting_ceiling(12), "and last 6 tokens, 12": last.commuting_ceiling(6),
          "memory, 12": last.lookup_ceiling(5000, 12), "count of swaps, 20": last.commuting_ceiling(TRAIN)}
print({name: f"{value:.1%}" for name, value in LEVELS.items()})

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(audit.task(last, length=12), audit.task(every, length=TRAIN))
panels.targets(every, length=TRAIN, rows=("token", "arrangement"), title="A word and its products",
               symbols={"token": ["cycle", "swap"], "arrangement": ["".join(map(str, each)) for each in S5.elements]})

# %% [markdown]
# What commuting transitions can add up is the count of swaps: it names 15.0 % of words of 12 and 7.1 % of words
# of 20, and with the last six tokens 34.4 % of words of 12. The reported 33.6 and 7.6 % of the diagonal are
# close to that. A memory of all training words would reach 70.5 % at 12; the reported 95.8 % is more than
# memory.
#
# ## Are the models what we think they are?
#
# As proposed there are two layers, an input to the state and a head of two layers. For the comparisons below
# there is one layer: with it the transition depends on the token alone, so that a model has two matrices. There
# a learned first state takes the place of an input to the state, so that only transitions act on it.


# %%
def transition(seed, generator, *, rank, **settings):
    """Rank 0 is a diagonal, and "dense" has all entries; a random kernel is another one for every seed."""
    if rank == 0:
        return transitions.RealDiagonal(64, d_state=N, start=2.2, spread=0.0, **{"gate": "tanh", **settings})
    if rank == "dense":
        return transitions.Dense(64, d_state=N, generator=generator, **settings)
    kind = transitions.CayleyCauchy if "scale" in settings else transitions.DisplacementRank
    return kind(64, d_state=N, rank=rank, generator=generator, kernels=stream(seed, "kernel"), **settings)


def mixer(seed, drive, settings, generator):
    given = {"drive": drive, "learn_initial": not drive, "readout_bias": False, "skip": True, "generator": generator}
    return StateSpace(64, transition(seed, generator, **settings), **given)


def build(task, seed, **settings):
    return residual_model(task, seed, d_model=64, mixer=partial(mixer, seed, False, settings), layers=1, norm="layer")


# %%
FIRST = {rank: {"kernel": "cauchy", "gate": "sigmoid", "bound": "frobenius"} for rank in (1, 2, 4)}
FIRST |= {0: {"gate": "sigmoid"}, "dense": {"gate": "sigmoid", "bound": "tanh"}}


def proposed(task, seed, *, rank):
    """B and C begin at a tenth of Xavier's size, as in the first run."""
    first, second = (linear(*sizes, generator=stream(seed, "head")) for sizes in ((64, 128), (128, 120)))
    model = residual_model(task, seed, d_model=64, mixer=partial(mixer, seed, True, {"rank": rank, **FIRST[rank]}), norm="layer",
                           head=nn.Sequential(first, nn.GELU(), second))
    for each in model.mixers:
        nn.init.zeros_(each.B.bias)
        for weight in (each.B.weight, each.C.weight):
            nn.init.xavier_uniform_(weight, gain=0.1, generator=stream(seed, "B and C"))
    return model


counts = {rank: sum(each.numel() for each in proposed(last, 0, rank=rank).parameters()) for rank in (0, 1, 2, 4, "dense")}
assert [*counts.values()] == [30_648, 34_808, 38_968, 47_288, 63_928], "not the models of the first run"
print("parameters as they were reported:", counts)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
for made in (build(every, 0, rank=4), build(every, 0, rank=4, kernel="random"), proposed(every, 0, rank=4)):
    display(audit.model(made.double(), every, length=12))

# %% [markdown]
# ### Which rank do these matrices have?
#
# $SA - AS$ has the entries $(s_i - s_j)A_{ij}$, so its diagonal is zero whatever $A$ is, while that of
# $GH^\top$ is not. As tested, $SA - AS = GH^\top - \mathrm{Diag}(GH^\top)$: full rank for every $\alpha$.
# Projecting each row of $H$ off that of $G$ gives the class that was meant. A diagonal plus rank one has
# displacement rank 2, products add their ranks up, and the Cayley transform of a skew matrix keeps its rank,
# unless the kernel is random.
#
# At $\alpha = 2$ the Cayley family has a catch. The rows of $U$ and $V$, of which its skew matrix is made, have
# length one; with one column they are signs, and nothing is left to learn about them. It is no accident: a
# symmetric matrix of rank 2 with a zero diagonal is $xy^\top + yx^\top$ with $x_iy_i = 0$, so the states fall
# into two sets and each acts on the other. The split is fixed here, every second state; the sizes $\rho$ remain
# to be learned.


# %%
nodes, rank_of = displacement.chebyshev_nodes(N), partial(displacement.displacement_rank, nodes=displacement.chebyshev_nodes(N))


@torch.no_grad()
def matrices(model):
    """Float64["2 N N"]: A of the cycle and of the swap."""
    mixer, x = model.mixers[0], model.mixer_norms[0](model.embedding)
    return mixer.transition.dense(mixer.transition(x)).double()


def drawn(rank, seed, **settings):
    return random_cauchy_like(N, rank, generator=stream(seed, "generators"), **settings)


found = {f"as tested, alpha {a}": drawn(a, 0, proper=False).to_dense() for a in (1, 2, 4)}
found |= {f"projected, alpha {a}": drawn(a, 0).to_dense() for a in (2, 4)}
found |= {f"product of two projected, alpha {a}": drawn(a, 0).to_dense() @ drawn(a, 1).to_dense() for a in (2, 4)}
found["diagonal plus rank one"] = DPLR(nodes, *torch.randn(2, N, 1, generator=stream(0, "vectors"), dtype=torch.float64)).to_dense()
found |= {f"Cayley, {kernel} kernel, alpha {a}": matrices(build(every, 0, rank=a, kernel=kernel, scale=2.0).double())[0]
          for kernel in ("unit", "random") for a in (2, 4, 8)}
ranks = {name: int(rank_of(A, tolerance=1e-5)) for name, A in found.items()}

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
figures.ranges({name: (r, r, r) for name, r in ranks.items()}, title="Displacement rank, measured",
               x_title="rank of SA - AS at n = 16", log=False)

# %% [markdown]
# ## Diagnosis: the kernel is large, and the generators cannot be small
#
# Norms and condition numbers of the kernels at $n = 16$, and then how a state grows at the start of training.
# Frobenius normalisation fixes $\|G\|\|H\| = \alpha$, so the off-diagonal part stays large whatever is learned.


# %%
BOUNDS = {"Frobenius, as proposed": FIRST[4], "unit kernel": {"bound": "none"}, "unit kernel, columns": {},
          "random kernel, columns": {"kernel": "random"}, "Cayley": {"scale": 2.0}}


def at_start(rank, settings):
    """Medians over 20 draws: norm of the off-diagonal part, spectral radius, log10 of the norm of A^t."""
    A = torch.stack([matrices(build(every, seed, rank=rank, **settings))[0] for seed in range(20)])
    off = torch.linalg.matrix_norm(A - torch.diag_embed(A.diagonal(dim1=1, dim2=2)), 2)
    grown = [torch.linalg.matrix_norm(torch.linalg.matrix_power(A, t), 2).log10().median() for t in range(1, TRAIN + 1)]
    return off.median(), torch.linalg.eigvals(A).abs().amax(1).median(), torch.stack(grown)


starts = {(name, a): at_start(a, settings) for name, settings in BOUNDS.items() for a in (1, 2, 4) if (name, a) != ("Cayley", 1)}

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
kernels = {"Chebyshev": nodes, "uniform": displacement.uniform_nodes(N), "roots of unity": displacement.roots_of_unity(N)}
made = {"Stein": displacement.stein_kernel(N), "random": displacement.random_kernel(N, generator=stream(0, "kernel"))}
sigma = {name: torch.linalg.svdvals(K) for name, K in (made | {n: displacement.cauchy_kernel(s) for n, s in kernels.items()}).items()}
display(pd.DataFrame({name: {"norm": each[0], "condition": each[0] / each[-1], "Frobenius norm / norm": each.norm() / each[0]}
                      for name, each in sigma.items()}).T.astype(float).round(2))
display(pd.DataFrame({key: {"off-diagonal norm": off, "spectral radius": radius, "log10 of growth, 12 steps": grown[11], "20": grown[19]}
                      for key, (off, radius, grown) in starts.items()}).T.astype(float).round(2))
figures.lines({name: grown for (name, rank), (_, _, grown) in starts.items() if rank == 4}, x_title="step", y_title="log10 |A...A|",
              title="Growth of the state at the start, alpha 4")

# %% [markdown]
# The plan has 33.1 for the norm of the kernel and 22.5 for its condition number, as here, and a growth of
# $10^{4.0}$ (α = 1) and $10^{9.1}$ (α = 4) in 20 steps; here it is $10^{6.1}$ and $10^{11.7}$. (The table has
# norms of matrix powers, medians over 20 draws, and the plan what becomes of a state.) The kernel is large, and
# not badly conditioned. Divided by its norm, it begins near a diagonal, and powers grow by a factor of 1.5 at
# most in 20 steps. A random kernel divided by its norm is about as large as Cauchy's (a Frobenius norm of 2.09
# against 2.23); its entries are of one size, where Cauchy's are large only beside the diagonal.
#
# ## As proposed
#
# Two layers, the stored words of 12, scored at the end, AdamW at 0.003, batches of 256, no dropout. The step
# size is constant, for the first run's cosine over 80 epochs had hardly begun to fall. All arms have 540
# updates, the 27 epochs after which the reported $\alpha = 4$ had passed 95 %. A model that passed 95 % stopped
# there, after 12 epochs (dense), 27 and 59 ($\alpha$ = 4, 1), which is why K1 could not tell ranks apart; here
# nothing stops. Three seeds, the first of those reported; words of 20 have 400 updates, 10 epochs, and two
# seeds, to see what the 1.0 % was.

# %%
seen = word_problem.in_training(words12.examples, test12.examples)


@torch.no_grad()
def right_at_end(model, batch):
    return (model(batch.inputs)[:, -1].argmax(-1) == batch.targets[:, -1]).double()


def on_test(model, _):
    """Float64["3"]: accuracy on all test words of 12, on those in the training set, on others."""
    right = right_at_end(model, test12.examples)
    return torch.stack([right.mean(), right[seen].mean(), right[~seen].mean()])


models = {f"alpha {a}": partial(proposed, rank=a) for a in (0, 1, 2, 4)} | {"dense": partial(proposed, rank="dense")}
RECIPE = {"schedule": "warmup-cosine", "optimizer": partial(torch.optim.AdamW, weight_decay=1e-4), "decay": "all", "clip": 1.0,
          "skip_nonfinite": True, "device": "cpu"}
PROPOSED = {name: Arm(made, data=words12, length=12, steps=p.proposal_steps) for name, made in models.items()}
LONG = {name: Arm(models[name], data=words20, length=TRAIN, steps=p.overflow_steps) for name in ("alpha 1", "alpha 4", "dense")}
few, AS_IT_WAS = p.seeds[:3], RECIPE | {"batch": 256, "lr": 3e-3, "schedule": "constant"}
short, long = (exp.train(each, last, AS_IT_WAS, seeds=p.seeds[:count]) for each, count in ((PROPOSED, 3), (LONG, 2)))

# %%
tested, at20 = short.measure(on_test), long.scores(length=TRAIN, samples=p.samples, score="accuracy")
at12 = {name: each[:, 0] for name, each in tested.items()}
for id_, name in {"S1a": "alpha 4", "S1b": "alpha 1", "S1c": "alpha 0"}.items():
    exp.judge(id_, at12[name], seeds=few)
exp.judge("S2b", at12["dense"], minus=at12["alpha 4"], seeds=few)
exp.judge("K1", at12["alpha 4"], minus=at12["alpha 1"], seeds=few)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
left_out = {f"words of 20, {name}": [each.skipped for each in histories] for name, histories in long.histories.items()}
rows = {f"words of {n}, {name}{part}": values for n, name, part, values in (
    *((12, name, part, each[:, i]) for name, each in tested.items() for i, part in enumerate(("", ", seen", ", unseen"))),
    *((20, name, "", each) for name, each in at20.items()))}
display(pd.DataFrame({name: {"every seed, %": " ".join(f"{100 * v:.1f}" for v in values), "left out": left_out.get(name, ""),
                             "first run, %": 100 * exp.reported.get(name, math.nan)} for name, values in rows.items()}).T)
long.losses(title="As proposed, words of 20", floors={"chance": last.chance(TRAIN)})

# %% [markdown]
# Updates are left out where a loss or a gradient is not finite. On words of 20 that happens to one of two seeds
# with $\alpha = 4$, from update 315 to the end (85 of 400): it ends at 2.0 %. But until then its loss had only
# come down to 4.6 (ln 120 is 4.8), so overflow ended this training and is not shown to have prevented it. The
# other seed never overflows and reaches 36.4 %, more than the dense matrix. The plan had every update left out
# after the first few and read the reported 1.0 % so; that is not reproduced. $\alpha = 1$ never overflows and
# has 1.0 and 1.2 %, near chance (0.8 %). The dense matrix, which was reported to learn words of 20 in 17
# epochs, has 10.2 and 12.8 % after 10, and had 10 % in a trial after 17. So that row is not reproduced either,
# and two seeds that differ by 34 points cannot tell ranks apart.
#
# On words of 12, after equal updates, $\alpha = 4$ has 47 to 89 % and $\alpha = 1$ 39 to 83 %; $\alpha = 2$ has
# 70 to 94 %, more than $\alpha = 4$ on each of three seeds, so that ranks are not in order. The difference of α =
# 4 and 1 is 10.7 points (−74 to 96), so that K1 is undecided. The worst seed of $\alpha = 4$ is below 85 % (S1a is
# missed), the best of $\alpha = 1$ above 70 % (S1b is missed), and the diagonal is below 50 % (S1c is met).
# Dense is ahead of $\alpha = 4$ by 28 points (−25 to 82; S2b is undecided). On words that are not in the
# training set $\alpha = 4$ has 40 to 84 % and $\alpha = 1$ 39 to 73 %, where a memory would be at chance.

# %% [markdown]
# ## Corrected: one bound, three kernels, every rank
#
# One layer. The diagonal is a tanh that starts at 0.98, and every column of $A$ longer than 1 is scaled to
# length 1. Words of 20, a label after every token (which trains on all lengths up to 20), batches of 32, the
# same updates for every arm, and a step size of its own for each, from one grid on tuning seeds.
#
# - **Cauchy**: the Cauchy kernel of Chebyshev nodes, divided by its spectral norm.
# - **random**: an antisymmetric matrix of normal numbers, divided by its spectral norm; every seed has another
#   one. All else starts alike, parameters and data.
# - **no kernel**: a diagonal plus rank $\alpha$, which has displacement rank $2\alpha$.
# - **projected**: Cauchy, with the zero diagonal of $GH^\top$ that makes $\alpha$ the displacement rank.
# - **Cayley**: $\mathrm{diag}(e)\,Q$ with $Q$ the Cayley transform of a skew matrix of displacement rank
#   $\alpha$. It cannot expand a state, and the rank is exact. *Two sides* is
#   $\mathrm{diag}(e)\,Q\,\mathrm{diag}(f)$. The kernel is multiplied by $c = 2$; with the plan's $c = 8$ seeds
#   got stuck in trials at rank 2. With a *random kernel* $Q$ is as orthogonal, and its rank is not low.
# - Below, **changes of α = 4**: what the division of the kernel, the gate and the bound are worth. Two of them
#   change the kernel and the bound together.
#
# Trials are scored by the share of right answers after 5, 10, 20, 40 and 60 tokens, all with the same weight;
# of several that are always right, the one with the least loss is first.

# %%
KERNELS = {"Cauchy": "unit", "random": "random", "no kernel": "none"}
ARMS = {f"{name}, alpha {a}": partial(build, rank=a, kernel=kernel) for name, kernel in KERNELS.items() for a in (1, 2, 4, 8)}
ARMS |= {f"projected, alpha {a}": partial(build, rank=a, proper=True) for a in (2, 4)}
ARMS |= {"diagonal": partial(build, rank=0), "dense": partial(build, rank="dense")}
for kernel, name in (("unit", "Cayley"), ("random", "Cayley, random kernel")):
    ARMS |= {f"{name}, alpha {a}": partial(build, rank=a, kernel=kernel, scale=2.0) for a in (2, 4, 8)}
ARMS[EXACT[1]] = partial(build, rank=2, scale=2.0, two_sided=True)
CHANGES = {
    "kernel not divided by its norm": {"kernel": "cauchy"}, "sigmoid gate": {"gate": "sigmoid"}, "no bound": {"bound": "none"},
    "Frobenius norm, kernel not divided": {"kernel": "cauchy", "bound": "frobenius"}, "spectral norm": {"bound": "norm"},
    "Newton-Schulz, balanced kernel": {"kernel": "balanced", "bound": "newton-schulz"}}
CHANGED = {f"alpha 4, {name}": partial(build, rank=4, **change) for name, change in CHANGES.items()}

# %%
watched = every.sample(200, TRAIN, stream(1, "watched"))
WATCH = {"right": lambda model: right_at_end(model, watched).mean(), "eigenvalues": panels.by_token}
STEP, LR = RECIPE | {"batch": 32, "length": TRAIN}, [5e-3, 1.5e-2, 4.5e-2]
far = partial(tuning.accuracy_then_loss, length=60, samples=p.samples // 2)
rates = exp.tune(ARMS | CHANGED, every, STEP | {"steps": p.tuning_steps}, lr=LR, seeds=p.tuning_seeds,
                 score=partial(far, at=[5, 10, 20, 40, 60]))
both = exp.train(ARMS | CHANGED, every, STEP | {"steps": p.steps, "watch": WATCH, "watch_every": max(1, p.steps // 25)}, tuned=rates)
arms, scores = both.select([*ARMS]), both.scores(length=TESTS[-1], samples=p.samples)
right20, right60 = scores.at(TRAIN), scores.at(60)
count = {name: int((right20[name] > 0.95).sum()) for name in both}
reached = {name: torch.tensor([each.reached("right", 0.95) for each in histories]) for name, histories in both.histories.items()}

# %%
ahead = {kernel: {"updates to 95 %": sign_test(-reached[f"{kernel}, alpha 4"], -reached[f"{kernel}, alpha 1"]),
                  "token 20": sign_test(right20[f"{kernel}, alpha 4"], right20[f"{kernel}, alpha 1"])} for kernel in KERNELS}
exp.judge("C1", ahead["Cauchy"])
exp.judge("C2", right20["dense"], minus=right20["Cauchy, alpha 4"])
cauchy = {part: part if "Cayley" in part else f"Cauchy, {part}" for part in PAIRS}
control = {part: part.replace("Cayley", "Cayley, random kernel") if "Cayley" in part else f"random, {part}" for part in PAIRS}
exp.judge("H1", {part: right20[cauchy[part]] for part in PAIRS}, minus={part: right20[control[part]] for part in PAIRS})
exp.judge("H2", right60["Cauchy, alpha 4"], minus=right60["random, alpha 4"])
exp.judge("P", {name: right20[name] for name in EXACT})
exp.judge("L", {f"alpha {a}": right60[f"Cauchy, alpha {a}"] for a in (4, 8)} | {name: right60[name] for name in EXACT})
exp.judge("G1", right20["dense"])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
beside = {part: {"Cauchy": right20[cauchy[part]], "random": right20[control[part]]} for part in PAIRS}
beside = {part: each | ({} if "Cayley" in part else {"no kernel": right20[f"no kernel, {part}"]}) for part, each in beside.items()}
exp.key_figure(figures.strips(beside, title="Words of 20, every seed: a random kernel in Cauchy's place", y_title="accuracy at token 20",
                              log=False, solved=0.95, limits={"count": LEVELS["count of swaps, 20"]}))


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def row(name):
    share = share_interval(count[name], len(p.seeds))
    listed = {"token 20, %": 100 * right20[name], "token 60, %": 100 * right60[name], "updates to 95 %": reached[name]}
    return {"solved": f"{count[name]} of {len(p.seeds)} ({share.low:.0%} to {share.high:.0%})"} | {
        what: " ".join(f"{v:.0f}" for v in values) for what, values in listed.items()} | {
        "parameters": scores.budgets[name].parameters, "step size": rates[name], "left out": sum(h.skipped for h in both[name].histories)}


display(pd.DataFrame({name: row(name) for name in both}).T, rates)
display(arms.select([f"{kernel}, alpha {a}" for kernel in ("Cauchy", "random") for a in (1, 4)]).losses(
    title="Loss, mean over all tokens", floors={"ln 120": math.log(120)}))
ends = torch.tensor(both["dense"].histories[0].watched_at)
below = {name: (each[:, None] > ends).double().mean(0) for name, each in reached.items() if name.startswith(("Cauchy", "random", "dense"))}
display(figures.lines(below, x=ends, x_title="update", y_title="share of seeds below 95 %", title="Updates to 95 % at words of 20"))
panels.Panel(lambda group: scores.select([name for name in arms if name.startswith(group)]).curves(
    TESTS, levels={"count": LEVELS["count of swaps, 20"]}, title=f"{group}: trained on 20 tokens, tested on up to 100"),
    group=panels.Choice("arms", ["Cauchy", "random", "no kernel", "projected", "Cayley", "dense"]))

# %% [markdown]
# How to read it. A seed counts as solved above 95 % at token 20; Wilson's interval of that share stands beside
# the count. An earlier run compared ranks by the updates to 95 %, for an early stop at 95 % hides
# everything else, and that is in C1; where a curve of the second figure ends above zero, the budget ended
# first.
#
# **α.** $\alpha = 4$ is ahead of $\alpha = 1$ in updates to 95 % with the Cauchy kernel (p = 0.001), the random
# one (0.001) and none (0.002), and in accuracy (p = 0.004, 0.002, 0.001): C1 is met, and not by Cauchy's kernel
# alone. Of ten seeds, with $\alpha$ = 1, 2, 4 and 8, 2, 9, 10 and 10 solve words of 20 with the Cauchy kernel,
# 1, 10, 10 and 10 with the random one, and 0, 0, 9 and 9 with none. So at $\alpha = 2$, with equal parameters,
# a kernel of either sort is worth having. An earlier run found that $\alpha = 1$ stays below 70 %; that is
# false, for its best two seeds have 100 %. No seed of the diagonal is above 5 %, and all of the dense matrix
# have 100 % (C2, G1).
#
# **Cauchy or random.** At token 20, Cauchy less random is 10.7 points at $\alpha = 1$ (−17 to 39), −0.5 at 2
# (−1.8 to 0.7), 0 at 4, and −0.04 at 8 (−0.13 to 0.05). On words of 60, at $\alpha = 4$, it is −3.7 (−8.2 to
# 0.8): the random kernel has 100 % on every seed, Cauchy 83 to 100 %. The interval reaches beyond five points,
# on the side that speaks for the random kernel, so H2 is undecided; that Cauchy is more than 1 point ahead it
# excludes.

# %% [markdown]
# **Exact rank.** Cayley at α = 2, 2 with two sides, 4 and 8: 10, 10, 9 and 10 of ten seeds solve words of 20,
# and with a random kernel (α = 2, 4, 8) 10, 10 and 10. The tenth seed of α = 4 ends at 66 %, which is why P is
# missed; one seed of ten is no difference between ranks, and this arm took the step size 0.015 where the other
# Cayley arms took 0.045. Medians at 60 tokens are 99.8 to 100 % in all four (L is met, also for α = 4 and 8 of
# the Cauchy kernel); only with two sides is every seed at 100 %. Cayley at α = 2 has 11,368 parameters in all,
# fewer than the 12,408 of α = 1 with a kernel, of which 1 or 2 seeds of ten solve words of 20: parameters alone
# do not decide either. Projected matrices of rank 2 and 4 solve words of 20 on 8 and 10 seeds.
#
# **Changes of α = 4.** All ten seeds solve words of 20 with each change but one: without a bound it is 7. No
# update is left out in any arm, also not without a bound (C5). Words of 60 tell more; as it is, $\alpha = 4$
# has 83 to 100 % there, with a median of 99. With a sigmoid gate it is 99.6 to 100 %, with Newton-Schulz steps
# and a balanced kernel 96 to 100, with a kernel that is not divided 91 to 100; dividing the whole matrix by its
# spectral norm in the place of columns gives 4 to 100 (median 79), no bound 2 to 96 (median 38). Generators of
# fixed Frobenius norm, as proposed, with a kernel that is not divided, give 0.2 to 1.2 %, where columns of
# length 1 gave 91 to 100. So generators that cannot be small do not keep one layer with a label after every
# token from learning words of 20; what they cost is longer words.

# %% [markdown]
# ### One label at the end of a word
#
# The first run had one label a word. An earlier run concluded that this is too little to learn from, after 200
# updates with a step size that was chosen for another task. Here are 1,500 updates with batches of 64, and a
# step size of its own from the same grid.

# %%
one = {"one label a word": Arm(ARMS["Cauchy, alpha 4"], data=last, batch=64)}
one_rates = exp.tune(one, every, STEP | {"steps": p.label_steps}, lr=LR, seeds=p.tuning_seeds, score=partial(far, at=[TRAIN]))
ended = exp.train(one, every, STEP | {"steps": p.label_steps, "watch": WATCH}, tuned=one_rates, split=2)
ended_scores = ended.scores(length=60, samples=p.samples)
exp.judge("E", ended_scores.at(TRAIN)["one label a word"])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(one_rates, ended_scores.frame([TRAIN, 60]), [each.reached("right", 0.95) for each in ended["one label a word"].histories])
ended.losses(title="One label at the end of a word", floors={"chance": last.chance(TRAIN)})

# %% [markdown]
# One label a word is enough for half of the seeds: 5 of 10 solve words of 20 (24 to 76 %), after 360 to 1,200
# updates, and the same five have 99.6 to 100 % on words of 60. All three tuning seeds solve it. The other five end
# at 1 to 41 % on words of 20. With a label after every token all ten solve them, in 800 updates of half the batch.
# So much of the difficulty of the first run can lie in the labels; how many updates it would take all seeds was
# not tried.
#
# ### Words of 12: seen and unseen
#
# The corrected models on the 5,000 stored words, a label after every token of them, with the updates and the
# step sizes from above.

# %%
stored = Stored(every, 5000, 12, stream(42, "words of 12"))
assert torch.equal(stored.examples.inputs, words12.examples.inputs)
small = exp.train({name: Arm(ARMS[name], data=stored, length=12) for name in ("diagonal", "Cauchy, alpha 4", "random, alpha 4")},
                  every, STEP | {"steps": p.steps}, tuned=rates)
parts = small.measure(on_test)
exp.judge("C4", parts["Cauchy, alpha 4"][:, 2])
exp.judge("C5", arms.skipped() + ended.skipped() + small.skipped())

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
figures.strips({name: {part: each[:, i] for i, part in ((1, "seen"), (2, "unseen"))} for name, each in parts.items()}, log=False,
               y_title="accuracy", title="Words of 12, seen and unseen", limits={name: LEVELS[name] for name in [*LEVELS][:3]})

# %% [markdown]
# On words of 12 that are not in the training set, $\alpha = 4$ has 93 to 100 % with the Cauchy kernel (C4 is
# met) and 96 to 100 % with the random one; the diagonal has 6 to 14 %, and 8 to 16 % on words that are in it.
#
# ## What the transitions became
#
# In the faithful representation of four dimensions the cycle has the fifth roots of unity without 1, and the
# swap has $1, 1, 1, -1$. A word that is the identity must not turn a state. It is tried on the states reached
# after 40 to 60 tokens, where what decays is gone; the change of direction is shown, from 0 to 2, because the
# norm before the head divides the size out. Dimensions are those above 5 % of the largest singular value. And
# the rank that was promised must still be there after training (R1); entries are computed in double precision,
# for single precision moves the fifth digit.

# %%
trained = arms.measure(lambda model, _: rank_of(matrices(deepcopy(model).double()), tolerance=1e-5).max())
learned = {name: int(each.max()) for name, each in trained.items()}
exp.judge("R1", {name: learned[name] - int(name.split("alpha ")[1][0]) for name in ("projected, alpha 4", *EXACT)})
print("largest displacement rank of trained matrices:", learned)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
words = {"cycle^5": [0] * 5, "swap^2": [1] * 2, "(cycle swap)^4": [0, 1] * 4}
display(arms.frame(lambda *of: relations(*of, words, length=60)).groupby(level=0, sort=False).median().round(3))
display(figures.strips({f"rank {learned[name]}, {name.replace(', ', ' ')}": right20[name] for name in sorted(arms, key=learned.get)},
                       log=False, solved=0.95, y_title="accuracy", title="Words of 20, in the order of the measured displacement rank"))
display(panels.in_training(arms.histories, symbols={name: ["cycle", "swap"] for name in arms}))
display(panels.eigenvalues(arms.models, panels.examples(every, length=60)))
panels.states(arms.models, panels.examples(every, length=60), title="states along a word of 60")

# %% [markdown]
# The promised ranks are there after training (R1 is met), and the measured rank does not order the results. Of
# rank 2, Cayley matrices solve words of 20 on every seed, projected ones on 8 of 10, and a diagonal plus rank
# one on none; of rank 16, $\alpha = 4$ does on every seed, and $\alpha = 1$ on 1 or 2. The plan shows that rank
# 2 contains an exact machine for the task; whether training finds it depends on the parameterisation.
#
# Arms that solve words of 20 on at least eight seeds use 8 to 16 dimensions, not 4, and turn a state by 0.04 to
# 0.39 (medians) where nothing should turn; the diagonal, which solves none, turns it by 0.01 at most. So this
# residual does not tell who has learned the group.
#
# ## Truncation that truncates
#
# The first run multiplied dense matrices and compared the product with the same matrices applied one by one;
# what it found, 2e-7 (here 6e-7), is rounding, and no generator was ever cut (F1 is not met). Here 20 matrices
# of the projected class are composed by their generators, with the exact diagonal; after every product the
# generators are cut to the width $\alpha$, $2\alpha$ or $3\alpha$ by their singular values, and projected
# again. The matrices are random, or those of a trained model.


# %%
def random_factors(seed, scale):
    return [drawn(4, 1000 * seed + t, scale=scale) for t in range(20)]


def trained_factors(seed):
    """Twenty of the two matrices of a trained model of the projected class, as a word has them."""
    models = arms["projected, alpha 4"].models
    pair = [CauchyLike.from_dense(A, nodes, 4) for A in matrices(models[seed % len(models)])]
    return [pair[token] for token in torch.randint(2, (20,), generator=stream(seed, "word"))]


# %%
unit = torch.linalg.matrix_norm(displacement.cauchy_kernel(nodes), 2).rsqrt().item()  # of generators, for a kernel over its norm
MAKERS = {"as proposed": partial(random_factors, scale=1.0), "unit kernel": partial(random_factors, scale=unit), "trained": trained_factors}
truncation = {f"{name}, width {m} alpha": torch.stack([displacement.truncation_errors(make(seed), 4 * m) for seed in range(p.chains)])
              .median(0).values for name, make in MAKERS.items() for m in (1, 2, 3)}
dense = [each.to_dense().float() for each in random_factors(0, unit)]  # the test as it was: matrices one by one, and their product
one_by_one = reduce(lambda h, A: A @ h, dense, torch.ones(N, 1))
exp.judge("F1", ((torch.linalg.multi_dot(dense[::-1]) @ torch.ones(N, 1) - one_by_one).norm() / one_by_one.norm()).item())
exp.judge("C3", truncation["unit kernel, width 1 alpha"][-1].item())

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(pd.Series({name: f"{each[-1]:.1%}" for name, each in truncation.items()}, name="relative error, 20 products").to_frame())
figures.lines(truncation, x=torch.arange(2, 21), log=True, x_title="matrices composed", y_title="relative error",
              title="Error of truncated products, alpha 4, median chain")

# %% [markdown]
# Cut back to $\alpha = 4$, a product of 20 has an error of 89 % at the scale of the proposal, 21 % with the
# unit kernel (C3 is missed, the limit is 10), and 109 % with trained matrices. With $2\alpha$ it is 14, 13 and
# 54 %, and with $3\alpha$, which is 12 of 16, 1, 5 and 8 %. So trained matrices can be composed only at nearly
# full width.
#
# ## Speed
#
# All of this is one measurement, in one process, in which the contenders take turns; criteria are ratios of
# medians. S2a compares an update of the two proposed models, 256 words of 12. S3 and F2 compare products of a
# matrix with a vector, another matrix for each of 256 vectors: by generators it is $\alpha$ products with the
# kernel, which the first run built inside the timed call, and the assembled matrix is one. The fast product
# with the kernel, two cosine transforms, is measured from $n = 16$ on.

# %%
calls = {f"update as proposed, {name}": training_step(models[name](last, 0), last, batch=256, length=12) for name in ("alpha 4", "dense")}
calls |= {f"update, {name}": training_step(ARMS[name](every, 0), every, batch=32, length=TRAIN) for name in ("Cauchy, alpha 4", "dense")}
ms = milliseconds(calls | products.products(N, 4), rounds=9, budget=2.0 if p.largest > 64 else 0.1)
exp.judge("S2a", ms["update as proposed, dense"] / ms["update as proposed, alpha 4"])
exp.judge("S3", {name: ms["dense"] / ms[name] for name in WAYS})
exp.judge("F2", {name: ms[name] / ms["dense"] for name in WAYS})
times = products.kernel_milliseconds([2**k for k in range(4, p.largest.bit_length())], vectors=(1, 32))

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(pd.Series(ms, name="ms").map("{:.3g}".format).to_frame())
figures.scaling(times, title="Products with the kernel", x_title="n", y_title="ms")

# %% [markdown]
# The proposed model with $\alpha = 4$ trains at 0.89 of the speed of the dense one (S2a is met). Products have
# 0.35 (kernel built), 0.65 (kernel at hand) and 1.11 (assembled once) of the throughput of a dense one, so that
# S3 is met in all parts, and they take 2.9, 1.5 and 0.9 times as long, far from 10 (F2 is not met). *Assembled
# once* is the same operation as the dense product: its 1.11 should be 1, and shows how far such a ratio can be
# off, so that 0.35 is hardly above 0.3. By operations, generators could have a quarter at most; that they have
# more shows that at $n = 16$ operations do not decide.
#
# The fast product with the kernel wins from $n = 2{,}048$ on for one vector and from 1,024 on for 32 vectors.
# At 256 it takes 52 and 10 times as long as the dense one.
#
# ## Verdict
#
# The table with the verdict is at the top. Rows with a star may have another status on another machine; those
# with a dagger were added after a first run.

# %%
for name in both:
    exp.note(f"{name}, token 20", right20[name], statistic=solved(0.95))
noted = {f"p, {kernel}, alpha 4 ahead of 1, {part}": value for kernel in ("random", "no kernel") for part, value in ahead[kernel].items()}
noted |= {f"20 products, {name}": each[-1].item() for name, each in truncation.items()}
for name, value in (noted | {"speed of training, alpha 4 / dense": ms["update, dense"] / ms["update, Cauchy, alpha 4"]}).items():
    exp.note(name, value, statistic=NUMBER)
exp.table("accuracy", scores.rows(TESTS) + ended_scores.rows([TRAIN, 60]))
exp.conclude(
    finding=f"Words of 20 are solved by {count['Cauchy, alpha 1']} of {len(p.seeds)} seeds at alpha 1 and {count['Cauchy, alpha 4']} at "
    f"alpha 4, with a random kernel by {count['random, alpha 1']} and {count['random, alpha 4']}; on words of 60 the kernels differ by "
    f"{100 * exp.value('H2'):.1f} points at alpha 4. Exact rank 2, 4 and 8: {[count[EXACT[i]] for i in (0, 2, 3)]} seeds.",
    settles="Equal parameters and other structure at n = 64 and 256, where a fast product with the kernel could pay.",
    tags=["state tracking", "displacement rank"], impact=4, cost_h=3,
)

# %% [markdown]
# ## What this does not show, and what next
#
# **What α is.** Under one bound a larger $\alpha$ learns sooner and on more seeds, and it does so with a random
# kernel as well. So no effect of displacement is seen; with $\alpha$ the number of parameters of a transition
# grows, from 3,120 to 17,680, and the rank of what is multiplied with the kernel. Which of the two it is was
# not separated, and that Cayley matrices at $\alpha = 2$ need fewer parameters than either speaks for neither.
# From $\alpha = 2$ on nearly all seeds have 100 % on words of 20, so a small advantage of one kernel would not
# be seen there. On words of 60 all seven pairs are undecided: Cauchy is behind by 0.9 to 11 points at every
# $\alpha$ without Cayley, and ahead with Cayley at $\alpha = 2$ (2.9) and 8 (8.6). On words of 100 one interval
# excludes 0, at $\alpha = 2$ (−33.5, −56 to −11), where step sizes differ. Random
# kernels are one draw for each seed, of one distribution; a kernel that is harmful can surely be built.
#
# **The barrier.** What kept the first run's models from words of 20 is not settled. Overflow ended one of two
# seeds with $\alpha = 4$, and $\alpha = 1$ fails without it. Labels after every token, one layer, a learned
# first state and tuned step sizes came together in the corrected models; one label a word costs five of
# ten seeds at $\alpha = 4$, though that arm saw 3.75 times as many words and had a step size of its own. As
# proposed there are 27 epochs and three seeds, without dropout and at a constant step size: after as many epochs
# $\alpha = 4$ has 47 to 89 % on words of 12, where 95.8 % was reported, and dense 96 to 99 %.

# %% [markdown]
# **Where the plan and the numbers differ.** The plan expects that α = 4 as proposed overflows at once on words
# of 20, errors of 51 and 35 % for truncated products (here 89 and 21 %), a throughput of at most a quarter
# (0.35), and a fast product that is useful beyond $n = 256$ (from 1,024). It expects a sigmoid gate to stand in
# the way, because it excludes negative entries of the diagonal; under the column bound it does not, with 99.6
# to 100 % on words of 60. The models here have one layer, $c = 2$ instead of 8, and labels after every token.
#
# **Statistics.** Ten seeds tell 3 from 9, and no less: a difference of two seeds of ten means nothing. Step
# sizes come from three values on three tuning seeds, in trials of half of the updates (one label a word: as
# many); 18 of 29 arms took one at an edge of the grid, and so did the arm with one label a word. Words of 12
# have the step sizes of words of 20. Arms of unequal size are compared where the plan asks for it (C2; the
# dense matrix has more parameters than $\alpha = 4$). H1 and H2 compare arms that are alike in all but the
# numbers in one matrix and, in three of the seven pairs (α = 1, α = 2 and Cayley, α = 4), the step size. At
# $\alpha = 1$ the median loss still falls a little when the updates end, so that "not solved" means in 800
# updates.

# %% [markdown]
# **Not shown.** All of it is at $n = 16$, where the fast product does not pay, in one layer. Two layers were
# run as proposed alone, and learned nodes, a learned split of the states at rank 2, and Stein-type displacement
# as a transition not at all. Generators were not compared with products of reflections of as many parameters.
#
# **Next.** Equal parameters and other structure (low rank, reflections, a random kernel) at a larger $n$, on
# words long enough that not every seed has 100 %. If a random kernel is as good there, the only reason left for
# Cauchy's is speed, and on this machine that begins at about a thousand states. (The log's line "to settle it" was
# written before the times were measured, and names 64 and 256 states.)
