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
# **Idea.** Make the input-dependent transition of a state-space model a Cauchy-like matrix,
# $A = \mathrm{diag}(d) + K \circ (GH^\top)$ with $K_{ij} = 1/(s_i - s_j)$. The width $\alpha$ of $G$
# and $H$ is then a knob between a diagonal ($\alpha = 0$) and a dense matrix. The task composes
# permutations of five things, which no diagonal can.
#
# **Reported before.** ABANDON, "a fundamental optimisation barrier": $\alpha = 4$ tied with
# $\alpha = 1$ at words of 12, everything structured failed at words of 20, a dense matrix did not.
#
# **What this notebook shows.** The barrier has two parts: generators that cannot be small make the
# state grow by powers of ten, so that most updates of three seeds of five are skipped at words of 20 with
# $\alpha = 4$ (none with $\alpha = 1$); and one
# label at the end of a word is too little to learn from. Bounded matrices with a label at every step
# solve words of 20 within seconds, and a larger $\alpha$ up to 4 learns faster. But $\alpha$ is no
# displacement rank: without a projection the matrices have full rank at every $\alpha$. The last
# family here cannot expand a state, has exactly the rank it is said to have, and solves the task at
# rank 4 in every seed, at rank 2 in most.
#
# **Criteria, written before the run.** Those of the proposal (S1-S3, K1, F1, F2) and of the repair
# (C1-C5), and two of our own (L, P), are in the last section. What would change our mind: $\alpha = 1$
# as good as $\alpha = 4$ under the same bound and the same budget.

# %% tags=["parameters"]
experiment: str = "022"  # the notebook these parameters belong to
seeds: list[int] = [0, 1]  # one model per arm and seed, in [0, 2147483647]
reported_steps: int = 2  # updates of the models as reported, words of 12, in [1, 1000000]
overflow_steps: int = 2  # updates of the models as reported, words of 20, in [1, 1000000]
rank_steps: int = 45  # updates of every model of the comparison of ranks, in [1, 1000000]
cayley_steps: int = 4  # updates of every orthogonal model, in [1, 1000000]
ablation_steps: int = 2  # updates of every row of the ablation, in [1, 1000000]
layer_steps: int = 2  # updates of the models with two layers, in [1, 1000000]
chains: int = 3  # products of 20 matrices that truncation errors are medians of, in [1, 100000]
samples: int = 200  # words that an accuracy is the mean over, in [100, 1000000]
largest: int = 128  # the largest n at which products with the kernel are timed, in [32, 65536]

# %%
import lab

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %%
import math
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial

import pandas as pd
import torch
from IPython.display import display
from torch import nn

from lab import audit
from lab.benchmark.timing import take_turns
from lab.evidence import Evidence
from lab.linalg import DPLR, displacement
from lab.linalg.displacement import (
    CauchyLike,
    cauchy_kernel,
    cauchy_product,
    chebyshev_nodes,
    compose,
    displacement_rank,
    fast_cauchy_product,
    truncate,
    zero_diagonal,
)
from lab.mixers import StateSpace
from lab.model import SequenceModel
from lab.plots import figures, panels
from lab.plots.panels import Choice, Panel, Slider
from lab.seeding import stream
from lab.statistics import sign_test
from lab.tasks import Stored, WordProblem, groups
from lab.tasks.word_problem import in_training
from lab.train import fit_together, score
from lab.transitions import CayleyCauchy, Dense, DisplacementRank, RealDiagonal

torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way
# %%
N, DOUBLE, LENGTHS = 16, torch.float64, (20, 40, 60, 100)
REPORTED = {  # by the authors of the first run: words of 12 in per cent, epochs to 95 %, words of 20
    "test, alpha 0": 33.6, "test, alpha 1": 95.8, "test, alpha 2": 87.6, "test, alpha 4": 95.8,
    "test, dense": 97.4, "epochs, alpha 1": 59, "epochs, alpha 4": 27, "epochs, dense": 12,
    "words of 20, alpha 0": 7.6, "words of 20, alpha 1": 3.4, "words of 20, alpha 4": 1.0,
    "words of 20, dense": 97.2, "speed, alpha 4 / dense": 0.79, "matvec, Cauchy / dense": 0.20,
    "truncation error": 2.05e-7, "parameters, alpha 4": 47288, "parameters, dense": 63928,
}
evidence = Evidence(
    "022", title="Displacement-rank transitions", reported=REPORTED,
    parameters=asdict(p), seeds=p.seeds,
)

# %% [markdown]
# ## Is the task what we think it is?
#
# Two tokens: the cycle of all five things, and the swap of the first two. After every token, or at
# the end alone, the model names which of the 120 arrangements it has before it. The two stored sets
# of the first run have 5,000 words of 12 and 10,000 words of 20.

# %%
S5 = groups.symmetric(5)
GENERATORS = S5.indices([groups.cycle(5, 0, 1, 2, 3, 4), groups.cycle(5, 0, 1)])
every = WordProblem(S5, GENERATORS, side="left")
last = replace(every, scored="last")
E12 = {name: Stored(last, size, 12, stream(seed, "words of 12"))
       for name, size, seed in (("train", 5000, 42), ("test", 500, 44))}
E20 = Stored(last, 10000, 20, stream(42, "words of 20"))
floors = {
    "count of swaps, 12": last.commuting_ceiling(12), "count of swaps, 20": last.commuting_ceiling(20),
    "count and last 6 tokens, 12": last.commuting_ceiling(6),
    "memory of 5,000 draws, 12": last.lookup_ceiling(5000, 12),
}
print({name: f"{value:.1%}" for name, value in floors.items()})

# %% tags=["nbval-ignore-output"]
display(audit.task(last, length=12), audit.task(every, length=20))

arrangements = ["".join(map(str, element)) for element in S5.elements]
panels.targets(
    every, length=20, rows=("token", "arrangement"), title="A word and its products",
    symbols={"token": ["cycle", "swap"], "arrangement": arrangements},
)

# %% [markdown]
# What commuting transitions can add up is the count of swaps: 15.0 % of words of 12 and 7.1 % of
# words of 20. The reported 33.6 and 7.6 % of the diagonal are this, and a look at the last tokens.
# A memory of all training words would reach 70.5 % at 12; 95.8 % is more than memory.
#
# ## Is the model what we think it is?
#
# Two layers as reported, and one layer for the comparisons below. With a single layer the transition
# depends on the token alone, so that a model has two matrices.

# %%
AS_REPORTED = {"kernel": "cauchy", "gate": "sigmoid", "bound": "frobenius"}
CAYLEY = {"bound": "cayley"}


def transition(rank, generator, **settings):
    """The transition of an arm: rank 0 is a diagonal, "dense" all entries."""
    gate = {"gate": settings.get("gate", "tanh")}
    if rank == 0:
        return RealDiagonal(64, d_state=N, start=2.2, spread=0.0, **gate)
    if rank == "dense":
        bound = "tanh" if settings == AS_REPORTED else "columns"
        return Dense(64, d_state=N, bound=bound, generator=generator, **gate)
    if settings.get("bound") == "cayley":
        two_sided = settings.get("two_sided", False)
        return CayleyCauchy(
            64, d_state=N, rank=rank, scale=2.0, two_sided=two_sided, generator=generator
        )
    return DisplacementRank(64, d_state=N, rank=rank, generator=generator, **settings)


# %%
def build(rank, seed, *, layers=1, drive=False, deep_head=False, **settings):
    generator = stream(seed, "init")
    mixers = [
        StateSpace(64, transition(rank, generator, **settings), drive=drive, readout_bias=False,
                   learn_initial=not drive, skip=True, generator=generator)
        for _ in range(layers)
    ]
    head = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 120)) if deep_head else None
    model = SequenceModel(2, 120, 64, mixers, norm="layer", head=head, generator=generator)
    if deep_head:
        start_as_reported(model, generator)
    return model


def start_as_reported(model, generator):
    """B and C as drawn in the first run: Xavier, a tenth of the size."""
    with torch.no_grad():
        for mixer in model.mixers:
            for weight in (mixer.B.weight, mixer.C.weight):
                nn.init.xavier_uniform_(weight, gain=0.1, generator=generator)
            mixer.B.bias.zero_()
        for layer in (model.head[0], model.head[2]):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            layer.bias.zero_()


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


# %%
RANKS = (0, 1, 2, 4, "dense")
two_layers = {"layers": 2, "drive": True, "deep_head": True, **AS_REPORTED}
counts = [count(build(rank, 0, **two_layers)) for rank in RANKS]
assert counts == [30648, 34808, 38968, 47288, 63928], "not the reported models"
assert count(build(4, 0, **{**two_layers, "kernel": "none"})) == 47288, "not the low-rank control"
print(dict(zip(map(str, RANKS), counts, strict=True)))

# %% tags=["nbval-ignore-output"]
for rank, settings in ((4, {}), (2, CAYLEY), (4, two_layers)):
    display(audit.model(build(rank, 0, **settings).double(), every, length=12))

# %% [markdown]
# ### Which rank do these matrices have?
#
# $SA - AS$ has the entries $(s_i - s_j)A_{ij}$, so its diagonal is zero whatever $A$ is, while that
# of $GH^\top$ is not. As tested, $SA - AS = GH^\top - \mathrm{Diag}(GH^\top)$: full rank for every
# $\alpha$. Projecting each row of $H$ off that of $G$ gives the class that was meant. A diagonal plus
# rank one has displacement rank 2, products add their ranks up, and the Cayley transform keeps it.


# %%
def drawn(rank, seed, *, scale=1.0, proper=True):
    """A random matrix by its generators; `scale` is the norm of each."""
    G, H = torch.randn(2, N, rank, generator=stream(seed, "generators"), dtype=DOUBLE)
    G, H = (scale * math.sqrt(rank) * each / torch.linalg.matrix_norm(each) for each in (G, H))
    d = torch.full((N,), 0.9, dtype=DOUBLE)
    return CauchyLike(chebyshev_nodes(N), d, G, zero_diagonal(G, H) if proper else H)


def rank_of(A):
    return int(displacement_rank(A, chebyshev_nodes(N)))


def cayley_matrices(rank):
    layer = CayleyCauchy(8, d_state=N, rank=rank, generator=stream(0, "cayley"), dtype=DOUBLE)
    return layer(torch.randn(2, 8, generator=stream(1, "cayley"), dtype=DOUBLE)).detach()


vectors = torch.randn(2, N, 1, generator=stream(0, "vectors"), dtype=DOUBLE)
ranks = {f"as tested, alpha {a}": rank_of(drawn(a, 0, proper=False).to_dense()) for a in (1, 2, 4)}
ranks |= {f"projected, alpha {a}": rank_of(drawn(a, 0).to_dense()) for a in (2, 4)}
for a in (2, 4):
    product = drawn(a, 0).to_dense() @ drawn(a, 1).to_dense()
    ranks[f"product of two projected, alpha {a}"] = rank_of(product)
ranks["diagonal plus rank one"] = rank_of(DPLR(chebyshev_nodes(N), *vectors).to_dense())
ranks |= {f"diag(e) Cayley, alpha {a}": rank_of(cayley_matrices(a)[0]) for a in (2, 4, 8)}
ranks

# %% tags=["nbval-ignore-output"]
figures.ranges({name: (r, r, r) for name, r in ranks.items()}, title="Displacement rank, measured",
               x_title="rank of SA - AS at n = 16", log=False)

# %% [markdown]
# At $\alpha = 2$ the Cayley family has a catch. The rows of $U$ and $V$ have length one; with one
# column they are signs, and nothing is left to learn about them. It is no accident: a symmetric
# matrix of rank 2 with a zero diagonal is $xy^\top + yx^\top$ with $x_iy_i = 0$, so the states fall
# into two sets and each acts on the other. The split is fixed here, every second state; the sizes
# $\rho$ remain to be learned.

# %% [markdown]
# ## Diagnosis: the kernel is large, and the generators cannot be small
#
# Norms and condition numbers of the kernels at $n = 16$, then how a state grows at the start of
# training. Frobenius normalisation fixes $\|G\|\|H\| = \alpha$, so the off-diagonal part stays
# large whatever is learned.

# %% tags=["nbval-ignore-output"]
kernels = {
    "Chebyshev": cauchy_kernel(chebyshev_nodes(N)),
    "Chebyshev, balanced": displacement.balanced_kernel(cauchy_kernel(chebyshev_nodes(N))),
    "uniform": cauchy_kernel(displacement.uniform_nodes(N)),
    "roots of unity": cauchy_kernel(displacement.roots_of_unity(N)),
    "Stein, roots of unity": displacement.stein_kernel(N),
}
spectra = {name: torch.linalg.svdvals(kernel) for name, kernel in kernels.items()}
display(pd.DataFrame({name: {
    "largest entry": K.abs().max().item(), "norm": spectra[name][0].item(),
    "condition": (spectra[name][0] / spectra[name][-1]).item(),
} for name, K in kernels.items()}).T.round(2))
figures.lines(spectra, log=True, title="Singular values of the kernels",
              x_title="number of the singular value", y_title="singular value")


# %%
def started(rank, seed, **settings):
    """Float64["2 16 16"]: the two matrices of a fresh model."""
    model = build(rank, seed, **settings)
    with torch.no_grad():
        return matrices(model)


@torch.no_grad()
def matrices(model):
    """Float64["2 N N"]: A of the cycle and of the swap."""
    module = model.mixers[0].transition
    return module.dense(module(model.mixer_norms[0](model.embedding))).double()


# %%
def growth(A, length=20):
    """Float64["length"]: log10 of the norm of A^t, median over A ["draws N N"]."""
    power, norms = A, []
    for _ in range(length):
        norms.append(torch.linalg.matrix_norm(power, ord=2).log10().median())
        power = A @ power
    return torch.stack(norms)


BOUNDS = {
    "frobenius, as reported": AS_REPORTED,
    "unit kernel": {"bound": "none"},
    "unit kernel, columns": {},
    "unit kernel, norm": {"bound": "norm"},
    "Newton-Schulz": {"kernel": "balanced", "bound": "newton-schulz"},
    "Cayley": CAYLEY,
}


# %%
def at_start(rank, settings):
    """Norm of the off-diagonal part, spectral radius, growth: medians over 20 draws."""
    A = torch.stack([started(rank, seed, **settings)[0] for seed in range(20)])
    off = torch.linalg.matrix_norm(A - torch.diag_embed(A.diagonal(dim1=1, dim2=2)), ord=2)
    radius = torch.linalg.eigvals(A).abs().amax(1)
    return off.median().item(), radius.median().item(), growth(A)


# %% tags=["nbval-ignore-output"]
rows, grown = {}, {}
for name, settings in BOUNDS.items():
    for rank in (1, 2, 4):
        if name == "Cayley" and rank == 1:
            continue
        off, radius, grown[f"{name}, alpha {rank}"] = at_start(rank, settings)
        after = {
            f"log10 growth, {t} steps": grown[f"{name}, alpha {rank}"][t - 1].item()
            for t in (12, 20)
        }
        rows[name, f"alpha {rank}"] = {"off-diagonal norm": off, "spectral radius": radius, **after}
display(pd.DataFrame(rows).T.round(2))
figures.lines({name: values for name, values in grown.items() if "4" in name}, y_title="log10 |A...A|",
              x_title="step", title="Growth of the state at the start, alpha 4")


# %% tags=["nbval-ignore-output"]
def draw_growth(alpha, bound):
    """What the spectral radius of a fresh matrix predicts, and what happens."""
    rank = 2 * round(alpha / 2) if bound == "Cayley" else int(alpha)
    off, radius, measured = at_start(rank, BOUNDS[bound])
    predicted = torch.arange(1, 21) * math.log10(radius)
    title = f"alpha {rank}, {bound}: off-diagonal norm {off:.1f}, spectral radius {radius:.2f}"
    return figures.lines({"measured": measured, "radius^t": predicted}, title=title,
                         x_title="step", y_title="log10 of the growth", dashed=["radius^t"])


Panel(draw_growth, alpha=Slider("alpha", 4, 2, 8, 1), bound=Choice("bound", list(BOUNDS)))

# %% [markdown]
# ## As reported
#
# Two layers, the stored words of 12, scored at the end, AdamW at 3e-3, batches of 256. The budget
# here is a fraction of the 80 epochs (20 updates each), because every arm has all its seeds; no
# dropout. Then words of 20, to see what the "1.0 %" was.


# %%
def watched(test=None):
    """Through training: the accuracy at the last step of 200 words, and the two matrices."""
    words = test or every.sample(200, 20, stream(1, "watched"))
    return {"right": lambda model: share_right(model, words), "A": matrices}


@torch.no_grad()
def share_right(model, batch):
    """[]: the share of right answers at the last step."""
    return (model(batch.inputs)[:, -1].argmax(-1) == batch.targets[:, -1]).double().mean()


def train(rank, task, steps, *, batch=64, lr=2e-2, length=20, watch=None, every_n=20, **settings):
    """Models and histories of one arm, all seeds together."""
    models = [build(rank, seed, **settings) for seed in p.seeds]
    histories = fit_together(
        models, [task] * len(models), seeds=p.seeds, steps=steps, batch=batch, length=length, lr=lr,
        schedule="warmup-cosine", optimizer=partial(torch.optim.AdamW, weight_decay=1e-4), decay="all",
        clip=1.0, skip_nonfinite=True, watch=watch, watch_every=every_n, device="cpu", label=f"alpha {rank}",
    )
    return models, histories


# %%
reported = {
    f"alpha {rank}": train(
        rank, E12["train"], p.reported_steps, batch=256, lr=3e-3, length=12,
        watch=watched(E12["test"].examples), **two_layers,
    )
    for rank in (0, 1, 4, "dense")
}
overflow = {
    f"alpha {rank}": train(rank, E20, p.overflow_steps, batch=256, lr=3e-3, **two_layers)
    for rank in (1, 4)
}

# %% tags=["nbval-ignore-output"]
test = E12["test"].examples
seen = in_training(E12["train"].examples, test)


def part(batch, chosen):
    return type(batch)(*(each[chosen] for each in batch))


def split(models):
    """Float64["3 seeds"]: accuracy on all test words of 12, on those of the training set, on others."""
    sets = (test, part(test, seen), part(test, ~seen))
    return torch.stack([torch.stack([share_right(model, words) for model in models]) for words in sets])


reported_right = {name: split(models) for name, (models, _) in reported.items()}
display(pd.DataFrame({name: {
    "all": f"{100 * r[0].median():.1f}", "seen": f"{100 * r[1].median():.1f}",
    "unseen": f"{100 * r[2].median():.1f}", "every seed": ", ".join(f"{100 * v:.1f}" for v in r[0]),
    "reported, 12 to 80 epochs": REPORTED[f"test, {name.replace('alpha dense', 'dense')}"],
    "seconds": round(reported[name][1][0].seconds, 1),
} for name, r in reported_right.items()}).T)
skipped = {name: [h.skipped for h in histories] for name, (_, histories) in overflow.items()}
print(f"words of 20, updates skipped of {p.overflow_steps}:", skipped)
figures.strips(
    {f"{name}, {kind}": r[i] for name, r in reported_right.items()
     for i, kind in ((1, "seen"), (2, "unseen"))}, log=False, y_title="accuracy",
    title="Words of 12 at this budget", limits={
        "count": floors["count of swaps, 12"], "count, last 6": floors["count and last 6 tokens, 12"],
        "memory": floors["memory of 5,000 draws, 12"]},
)

# %% [markdown]
# ## Corrected: one bound for all ranks
#
# One layer. The kernel is divided by its spectral norm, the diagonal is a tanh that starts at 0.98,
# and every column of $A$ longer than 1 is scaled to length 1. There is no drive: the state starts at
# a learned vector and only transitions act on it. Words of 20, a label at every step (which trains on
# all lengths up to 20), batches of 64, the same for all ranks, for the control without the kernel,
# for the projected class, and for a dense matrix.

# %%
sweep = {
    f"alpha {rank}": train(rank, every, p.rank_steps, watch=watched()) for rank in (0, 1, 2, 4, 8)
}
sweep["dense"] = train("dense", every, p.rank_steps, watch=watched())
for rank in (1, 4):
    name = f"no kernel, rank {rank}"
    sweep[name] = train(rank, every, p.rank_steps, watch=watched(), kernel="none")
for rank in (2, 4):
    name = f"projected, alpha {rank}"
    sweep[name] = train(rank, every, p.rank_steps, watch=watched(), proper=True)

# %% [markdown]
# And the family of exact rank: $A = \mathrm{diag}(e)\,Q$ with $Q$ the Cayley transform of a skew
# matrix of displacement rank $\alpha$, with half the step size and more updates. The kernel is
# multiplied by $c = 2$; with the $c = 8$ of the proposal seeds got stuck in trials at rank 2. There,
# $\mathrm{diag}(e)\,Q\,\mathrm{diag}(f)$ is tried as well: it has the rank and the bound of $Q$, too.

# %%
train_cayley = partial(
    train, task=every, steps=p.cayley_steps, lr=1e-2, watch=watched(), every_n=40, **CAYLEY
)
cayley = {f"Cayley, alpha {rank}": train_cayley(rank) for rank in (2, 4, 8)}
cayley["Cayley, alpha 2, two sides"] = train_cayley(2, two_sided=True)
arms = {**sweep, **cayley}


# %%
def along(models, length=LENGTHS[-1]):
    """Float64["seeds length"]: accuracy after every token."""
    pairs = zip(models, p.seeds, strict=True)
    found = [score(m, every, length=length, samples=p.samples, seed=s) for m, s in pairs]
    return torch.stack([each.by_step for each in found]).double()


right = {name: along(models) for name, (models, _) in arms.items()}


def first_at(histories, level=0.95):
    """Float64["seeds"]: updates until 95 % of watched words of 20 are right; inf if never."""
    return torch.tensor([
        next((float(step) for step, value in zip(h.watched_at, h.watched["right"], strict=True)
              if value >= level), math.inf)
        for h in histories
    ], dtype=DOUBLE)


reached = {name: first_at(histories) for name, (_, histories) in arms.items()}

# %% tags=["nbval-ignore-output"]
display(pd.DataFrame({name: {
    **{f"{n} tokens": f"{100 * r[:, n - 1].median():.1f} ({(r[:, n - 1] >= 0.95).sum()} of {len(r)})"
       for n in LENGTHS},
    "every seed, 20": ", ".join(f"{100 * v:.0f}" for v in r[:, 19]),
    "every seed, 60": ", ".join(f"{100 * v:.0f}" for v in r[:, 59]),
    "updates to 95 %": ", ".join(f"{v:.0f}" for v in reached[name]),
    "parameters of A": count(arms[name][0][0].mixers[0].transition),
    "seconds": round(arms[name][1][0].seconds, 1),
} for name, r in right.items()}).T)
display(figures.losses(
    {name: torch.stack([h.loss for h in histories]) for name, (_, histories) in arms.items()},
    floors={"ln 120": math.log(120)}, title="Loss, mean over all steps",
))
LEVELS = {
    "most frequent": every.chance_accuracy(20)[-1].item(),
    "count": floors["count of swaps, 20"],
}
display(figures.accuracy(
    {name: r[:, :20] for name, r in right.items()}, levels=LEVELS, x_title="token",
    title="Accuracy against position, every seed",
))
figures.accuracy(
    {name: r[:, [n - 1 for n in LENGTHS]] for name, r in right.items()}, x=LENGTHS, levels=LEVELS,
    x_title="tokens", title="Trained on 20 tokens, tested on up to 100",
)

# %% [markdown]
# The early stop of the first run hides the difference between ranks: whoever passes 95 % stops there
# and reports 95 %. The number of updates that it takes does not hide it. Each curve is the share of
# seeds still below 95 %; where it ends above zero, the budget ended first. (The Cayley family had
# half the step size and more updates.)

# %% tags=["nbval-ignore-output"]
checkpoints = torch.tensor(cayley["Cayley, alpha 2"][1][0].watched_at, dtype=DOUBLE)
figures.lines(
    {name: (times[:, None] > checkpoints).double().mean(0) for name, times in reached.items()},
    x=checkpoints, x_title="update", y_title="share of seeds below 95 %",
    title="Updates to 95 % at words of 20",
)

# %% tags=["nbval-ignore-output"]
from lab.records import committed  # the full run, for the short one at the defaults

committed.figure("022", "Updates to 95 % at words of 20")

# %% [markdown]
# ### Each ingredient taken away
#
# $\alpha = 4$, one change a row, a smaller budget.

# %%
changes = {
    "nothing changed": {},
    "kernel not divided by its norm": {"kernel": "cauchy"},
    "no kernel": {"kernel": "none"},
    "sigmoid gate": {"gate": "sigmoid"},
    "no bound": {"bound": "none"},
    "no bound, kernel not divided": {"kernel": "cauchy", "bound": "none"},
    "Frobenius in place of columns": {"kernel": "cauchy", "bound": "frobenius"},
    "spectral norm in place of columns": {"bound": "norm"},
    "Newton-Schulz, balanced kernel": {"kernel": "balanced", "bound": "newton-schulz"},
    "a drive in place of a learned state": {"drive": True},
    "projected generators": {"proper": True},
}
ablation = {name: train(4, every, p.ablation_steps, **change) for name, change in changes.items()}
ablation["scored at the end alone"] = train(4, last, p.ablation_steps)
ablation_right = {name: along(models, 60) for name, (models, _) in ablation.items()}
two_layer = {f"two layers, alpha {rank}": train(rank, every, p.layer_steps, lr=1e-2, layers=2)
             for rank in (0, 1, 4)}
two_layer_right = {name: along(models, 60) for name, (models, _) in two_layer.items()}

# %% tags=["nbval-ignore-output"]
trained_more = {**ablation, **two_layer}
pd.DataFrame({name: {
    "20 tokens": f"{100 * r[:, 19].median():.1f} ({(r[:, 19] >= 0.95).sum()} of {len(r)} solved)",
    "every seed": ", ".join(f"{100 * v:.0f}" for v in r[:, 19]),
    "60 tokens": f"{100 * r[:, 59].median():.1f}",
    "skipped": sum(h.skipped for h in trained_more[name][1]),
    "updates": trained_more[name][1][0].loss.numel(),
} for name, r in {**ablation_right, **two_layer_right}.items()}).T

# %% [markdown]
# ### Words of 12: seen and unseen
#
# The corrected model on the 5,000 stored words, a label at every step of them.

# %%
stored_words = replace(E12["train"].task, scored="every")
E12_every = Stored(stored_words, 5000, 12, stream(42, "words of 12"))
assert torch.equal(E12_every.examples.inputs, E12["train"].examples.inputs)
small = {f"alpha {rank}": train(rank, E12_every, p.rank_steps, length=12) for rank in (0, 4)}
small_right = {name: split(models) for name, (models, _) in small.items()}

# %% tags=["nbval-ignore-output"]
pd.DataFrame({name: {"seen": ", ".join(f"{100 * v:.1f}" for v in r[1]),
                     "unseen": ", ".join(f"{100 * v:.1f}" for v in r[2])}
              for name, r in small_right.items()}).T

# %% [markdown]
# ## What the transitions became
#
# Eigenvalues of both generators, before and after. In the faithful representation of four dimensions
# the cycle has the fifth roots of unity without 1, the swap has $1, 1, 1, -1$.


# %% tags=["nbval-ignore-output"]
def draw_eigenvalues(arm, training):
    history = arms[arm][1][0]
    at = round(training / 100 * (len(history.watched_at) - 1))
    spectra = dict(
        zip(("cycle", "swap"), torch.linalg.eigvals(history.watched["A"][at]), strict=True)
    )
    title = f"{arm}, seed {p.seeds[0]}, after {history.watched_at[at]} updates"
    return figures.transitions(spectra, title=title)


for name in ("alpha 0", "alpha 4"):
    display(draw_eigenvalues(name, 100))
display(draw_eigenvalues("Cayley, alpha 2", 0))
panels.eigenvalues(
    draw=draw_eigenvalues, arm=Choice("model", ["Cayley, alpha 2", *arms]),
    training=Slider("training, %", 100, 0, 100, 5, play=True),
)

# %% [markdown]
# Relations of the group: a word that is the identity must not turn a state. It is tried on the states
# reached after 40 to 60 tokens, where what decays is gone; the change of direction is shown, because
# the head divides the size out. Dimensions are those above 5 % of the largest singular value.


# %%
@torch.no_grad()
def relations(model):
    """How many dimensions are in use, and how far each relation turns the states in them."""
    cycle_A, swap_A = matrices(model)
    h = model.states(every.sample(100, 60, stream(0, "relations")).inputs)[:, 40:].double()
    h = nn.functional.normalize(h.flatten(0, 1), dim=-1)
    values = torch.linalg.svdvals(h)
    words = {
        "cycle^5": [cycle_A] * 5,
        "swap^2": [swap_A] * 2,
        "(cycle swap)^4": [cycle_A, swap_A] * 4,
    }
    found = {"dimensions": float((values > 0.05 * values[0]).sum())}
    for name, factors in words.items():
        moved = nn.functional.normalize(h @ torch.linalg.multi_dot(factors).mT, dim=-1)
        found[name] = (moved - h).norm(dim=-1).mean().item()
    return found


# %% tags=["nbval-ignore-output"]
residuals = {
    name: pd.DataFrame([relations(m) for m in models]).median()
    for name, (models, _) in arms.items()
}
display(pd.DataFrame(residuals).T.map("{:.3g}".format))

panels.states(
    {arm: models for arm, (models, _) in reversed(arms.items())},
    panels.examples(every, length=60), title="states along a word of 60",
)

# %% [markdown]
# The trained matrices of the Cayley family still have the rank that they promise, if their entries are
# computed in double precision (single precision moves the fifth digit, and that of the nodes, which the
# models keep, the eighth); those of the comparison have not.


# %%
def trained_rank(models):
    """The largest displacement rank of any matrix of any seed."""
    A = torch.stack([matrices(deepcopy(model).double()) for model in models])
    return int(displacement_rank(A, chebyshev_nodes(N), tolerance=1e-5).max())


learned_ranks = {name: trained_rank(models) for name, (models, _) in arms.items()}
learned_ranks

# %% tags=["nbval-ignore-output"]
ordered = sorted(arms, key=lambda name: (learned_ranks[name], count(arms[name][0][0])))
figures.strips(
    {
        f"{name.replace(', ', ' ')}, rank {learned_ranks[name]}": right[name][:, 19]
        for name in ordered
    },
    title="Words of 20, every seed, in the order of the measured displacement rank",
    y_title="accuracy",
    log=False,
    solved=0.95,
)

# %% [markdown]
# ## Truncation that truncates
#
# The first run multiplied dense matrices and compared the product with the same matrices applied one
# by one; 2e-7 is rounding, and no generator was ever cut. Here 20 matrices of the projected class are
# composed by their generators, with the exact diagonal; after every product the generators are cut to
# the width $\alpha$, $2\alpha$ or $3\alpha$ by their singular values, and projected again. The
# matrices are random, or those of a trained model.


# %%
def chain(factors, width):
    """Float64["factors - 1"]: relative error of a truncated product after every further factor."""
    kept, whole, errors = factors[0], factors[0].to_dense(), []
    for factor in factors[1:]:
        kept, whole = truncate(compose(factor, kept), width), factor.to_dense() @ whole
        error = torch.linalg.matrix_norm(kept.to_dense() - whole) / torch.linalg.matrix_norm(whole)
        errors.append(error)
    return torch.stack(errors)


def random_factors(seed, scale):
    return [drawn(4, 1000 * seed + t, scale=scale) for t in range(20)]


def trained_factors(seed):
    """Twenty of the two matrices of a trained model of the projected class, as a word has them."""
    models, _ = sweep["projected, alpha 4"]
    pair = [
        CauchyLike.from_dense(A, chebyshev_nodes(N), 4)
        for A in matrices(models[seed % len(models)])
    ]
    word = torch.randint(2, (20,), generator=stream(seed, "word"))
    return [pair[token] for token in word]


# %%
# The kernel over its norm is the same as generators smaller by the root of that.
unit_scale = torch.linalg.matrix_norm(cauchy_kernel(chebyshev_nodes(N)), ord=2).rsqrt().item()
scales = {"as reported": 1.0, "unit kernel": unit_scale}
makers = {name: partial(random_factors, scale=scale) for name, scale in scales.items()}
makers["trained"] = trained_factors
truncation = {
    f"{name}, width {m} alpha": torch.stack(
        [chain(make(seed), 4 * m) for seed in range(p.chains)]
    ).median(0).values
    for name, make in makers.items() for m in (1, 2, 3)
}


# %%
def vacuous(seed):
    """The test as it was: dense products against the same matrices one by one, in float32."""
    factors = [drawn(4, 1000 * seed + t, scale=unit_scale).to_dense().float() for t in range(20)]
    product, h = torch.eye(N), torch.ones(N, 1)
    for A in factors:
        product, h = A @ product, A @ h
    return ((product @ torch.ones(N, 1) - h).norm() / h.norm()).item()


def diagonal_error(scale):
    """Relative error of taking the product of the diagonals for the diagonal of the product."""
    pairs = [(drawn(4, 2 * s, scale=scale), drawn(4, 2 * s + 1, scale=scale)) for s in range(50)]
    exact = [compose(*pair).diagonal for pair in pairs]
    wrong = [a.diagonal * b.diagonal for a, b in pairs]
    errors = [(w - e).norm() / e.norm() for w, e in zip(wrong, exact, strict=True)]
    return torch.stack(errors).median().item()


vacuous_error = max(vacuous(seed) for seed in range(p.chains))

# %% tags=["nbval-ignore-output"]
print("as it was tested:", f"{vacuous_error:.1e}")
print("product of diagonals:", {name: f"{diagonal_error(s):.1%}" for name, s in scales.items()})
figures.lines(
    truncation, x=torch.arange(2, 21), log=True, x_title="matrices composed",
    y_title="relative error", title="Error of truncated products, alpha 4, median chain",
)

# %% [markdown]
# ## Speed
#
# At $n = 16$ a product by generators is $\alpha$ products with the kernel; the assembled matrix is
# one. The fast product with the kernel, two cosine transforms, beats the dense one from some $n$ on,
# measured for one vector and for 32 at once, float32, one thread.


# %% tags=["nbval-ignore-output"]
def small_products(alpha=4, vectors=256):
    """Calls by name: a different matrix for each of many vectors of 16."""
    G, H = torch.randn(2, vectors, N, alpha, generator=stream(0, "timing"))
    A, h = torch.randn(vectors, N, N), torch.randn(vectors, N)
    nodes, d = chebyshev_nodes(N).float(), torch.rand(vectors, N)
    K = cauchy_kernel(nodes)

    def by_generators(kernel):
        return d * h + (G * (kernel @ (H * h[..., None]))).sum(-1)

    return {
        "dense": lambda: (A @ h[..., None])[..., 0],
        "Cauchy, kernel at hand": lambda: by_generators(K),
        "Cauchy, kernel built": lambda: by_generators(cauchy_kernel(nodes)),
        "assembled once": lambda: (A @ h[..., None])[..., 0],
        "assembled every time": lambda: ((K * (G @ H.mT) + torch.diag_embed(d)) @ h[..., None])[
            ..., 0
        ],
    }


calls = small_products()
for call in calls.values():
    call()
timings = take_turns(calls, rounds=20, budget=0.5, label="n = 16")
throughput = {name: timings["dense"].median / t.median for name, t in timings.items()}
pd.DataFrame({name: {"µs": 1e6 * t.median, "throughput / dense": throughput[name]}
              for name, t in timings.items()}).T.round(2)


# %% tags=["nbval-ignore-output"]
def kernel_products(n, vectors):
    K = cauchy_kernel(chebyshev_nodes(n)).float().mT.contiguous()
    v = torch.randn(vectors, n, generator=stream(0, "timing"))
    calls = {"dense": lambda: v @ K, "fast": lambda: fast_cauchy_product(v)}
    gap = (calls["fast"]() - cauchy_product(v.double())).abs().max() / calls["dense"]().abs().max()
    assert gap < 1e-3, "the fast product is another one"
    return take_turns(calls, rounds=5, budget=0.3, label=f"n = {n}")


sizes = [2**k for k in range(4, p.largest.bit_length())]
products = {vectors: {n: kernel_products(n, vectors) for n in sizes} for vectors in (1, 32)}
times = {
    f"{name}, {vectors} vectors": {n: 1e6 * timed[name].median for n, timed in by_n.items()}
    for vectors, by_n in products.items() for name in ("dense", "fast")
}
pays_from = {
    vectors: next((n for n in sizes if all(by_n[m]["fast"].median < by_n[m]["dense"].median
                                           for m in sizes if m >= n)), math.nan)
    for vectors, by_n in products.items()
}
print("the fast product is faster from n =", pays_from)
figures.scaling(times, title="Products with the kernel", x_title="n", y_title="µs")

# %% [markdown]
# ## Criteria and verdict
#
# S1 to F2 are the proposal's. As reported they are read at the budget above (words of 12, two layers);
# corrected at words of 20, from the comparison under one bound. The worst seed counts: the lowest
# where more is wanted, the highest where less is. S1 for $\alpha = 1$ and K1 also have the median. K1
# asks for the median of $\alpha = 4$ to exceed that of $\alpha = 1$. C1 is the sign test of the
# updates to 95 %; seeds that never get there count as later than any that do. L asks for three times
# the training length, P for the family of exact rank. E is context.


# %%
def proposal(arm, by_rank, speed, dense_gap):
    """S1, S2 and K1 for accuracies ["seeds"] by name of the arm."""
    check, four, one = partial(evidence.check, arm=arm), by_rank["alpha 4"], by_rank["alpha 1"]
    check("S1", four.min(), ">", 0.85, metric="alpha 4, worst seed", spread=four.std())
    check("S1", one.max(), "<", 0.70, metric="alpha 1, best seed", spread=one.std())
    check("S1", by_rank["alpha 0"].max(), "<", 0.50, metric="alpha 0, best seed")
    check("S1", one.median(), "<", 0.70, kind="context", metric="alpha 1, median seed")
    check("S2", speed, ">", 0.6, metric="training speed, alpha 4 / dense")
    check("S2", dense_gap, "<", 0.05, metric="accuracy, dense - alpha 4, means")
    check(
        "K1",
        four.median() - one.median(),
        "<=",
        0,
        kind="kill",
        metric="alpha 4 less alpha 1, medians",
    )


# %%
def seconds_of(trained):
    return trained[1][0].seconds


at_12 = {name: r[0] for name, r in reported_right.items()}
at_20 = {name: r[:, 19] for name, r in right.items()}
proposal("reported", at_12, seconds_of(reported["alpha dense"]) / seconds_of(reported["alpha 4"]),
         at_12["alpha dense"].mean() - at_12["alpha 4"].mean())
proposal("corrected", at_20, seconds_of(sweep["dense"]) / seconds_of(sweep["alpha 4"]),
         at_20["dense"].mean() - at_20["alpha 4"].mean())
for arm, name in (("reported", "Cauchy, kernel built"), ("corrected", "assembled once")):
    evidence.check("S3", throughput[name], ">", 0.3, arm=arm, metric=f"throughput, {name}")
    evidence.check(
        "F2", 1 / throughput[name], ">", 10, arm=arm, kind="failure", metric=f"time, {name}"
    )
evidence.check("S3", throughput["Cauchy, kernel at hand"], ">", 0.3, kind="context",
               metric="throughput, kernel at hand")
_ = evidence.check("F1", vacuous_error, ">", 0.1, arm="reported", kind="failure",
               metric="the test as it was")

# %%
evidence.check("C1", sign_test(-reached["alpha 4"], -reached["alpha 1"]), "<", 0.05,
               metric="sign test, updates to 95 %, alpha 4 before alpha 1")
evidence.check("C1", (at_20["alpha 4"] > at_20["alpha 1"]).double().mean(), "==", 1.0,
               metric="share of seeds with alpha 4 above alpha 1 at the end")
for name, kind in (("alpha 4", "success"), ("no kernel, rank 4", "context")):
    evidence.check("C2", at_20["dense"].mean() - at_20[name].mean(), "<=", 0.05, kind=kind,
                   metric=f"dense - {name}, same bound", spread=at_20[name].std())
for name, error in truncation.items():
    kind = "failure" if name == "unit kernel, width 1 alpha" else "context"
    evidence.check("C3", error[-1], ">", 0.1, kind=kind, metric=f"20 products, {name}")
evidence.check("C4", small_right["alpha 4"][2].min(), ">", 0.70, spread=small_right["alpha 4"][2].std(),
               metric="unseen words of 12, alpha 4")
for arm, trained in (("corrected", arms | small), ("ablation", trained_more),
                     ("reported", {f"words of 20, {n}": t for n, t in overflow.items()})):
    total = sum(h.skipped for _, histories in trained.values() for h in histories)
    evidence.check("C5", total, "==", 0, arm=arm, metric="updates skipped, all seeds",
                   kind="context" if arm == "ablation" else "success")

# %%
for name in ("alpha 4", "alpha 8", "dense", "Cayley, alpha 2, two sides", "Cayley, alpha 4"):
    values = right[name][:, 59]
    evidence.check("L", values.median(), ">=", 0.9, metric=f"60 tokens, {name}, median seed",
                   spread=values.std())
    evidence.check("E", values.min(), ">=", 0.9, kind="context", metric=f"60 tokens, {name}, worst")
for name, rank in (("Cayley, alpha 2, two sides", 2), ("Cayley, alpha 4", 4)):
    evidence.check("P", at_20[name].min(), ">=", 0.95, metric=f"20 tokens, {name}, worst seed",
                   spread=at_20[name].std())
    evidence.check("P", learned_ranks[name], "==", rank, metric=f"displacement rank, {name}")
evidence.check("E", at_20["Cayley, alpha 2"].min(), ">=", 0.95, kind="context",
               metric="20 tokens, Cayley, alpha 2, worst seed")
for name, values in ablation_right.items():
    evidence.check("E", values[:, 19].median(), ">", 0.85, arm="ablation", kind="context",
                   metric=f"20 tokens, {name}", spread=values[:, 19].std())
for name, values in two_layer_right.items():
    evidence.check("E", values[:, 19].median(), ">", 0.85, arm="ablation", kind="context",
                   metric=f"20 tokens, {name}", spread=values[:, 19].std())
for vectors, n in pays_from.items():
    evidence.check(
        "E", n, "<=", 256, kind="context", metric=f"n from which fast wins, {vectors} vectors"
    )

# %%
value, is_rank = evidence.value, "no" if learned_ranks["alpha 4"] > 4 else "the"
evidence.summary(
    question="Does displacement rank control what a recurrence can track?",
    finding=(
        f"Alpha is {is_rank} displacement rank ({learned_ranks['alpha 4']} of {N} at alpha 4); on words of "
        f"20 alpha 4 has {100 * value('S1', 'alpha 4, worst seed'):.0f} %, exact rank 4 "
        f"{100 * value('P', '20 tokens, Cayley, alpha 4, worst seed'):.0f} %, rank 2 "
        f"{100 * value('P', '20 tokens, Cayley, alpha 2, two sides, worst seed'):.0f} % (worst seeds)."
    ),
    settles="A random antisymmetric kernel in Cauchy's place at every alpha, a learning rate for each, and how many seeds solve it.",
    figure="Trained on 20 tokens, tested on up to 100",
    tags=["state tracking", "displacement rank"], impact=4, cost_h=4,
)

# %% tags=["nbval-ignore-output"]
evidence

# %% tags=["nbval-ignore-output"]
committed.criteria(evidence)

# %% [markdown]
# Statuses that hang on a time are left out here, and K1, which hangs on the last digit where models
# have hardly trained: another machine may have others.

# %%
ELSEWHERE = ("speed", "time", "throughput", "fast wins", "K1", "verdict")
print("\n".join(s for s in evidence.statuses().splitlines() if not any(w in s for w in ELSEWHERE)))

# %% [markdown]
# ## What this does not show, and what next
#
# Under one bound, $\alpha = 4$ learns sooner and more surely than $\alpha = 1$. That is not displacement
# rank at work: those matrices have full rank at every $\alpha$. Ordered by the rank that they really
# have, the classes do not line up. The control without a kernel is a diagonal plus rank 4, so of
# displacement rank 8, and does worse than the projected and the Cayley class of rank 4; a dense matrix
# learns fastest of all. What decides, by the ablation, is a label at every step, the right bound on the
# matrix, and the Cauchy kernel, which at the same number of parameters spreads the generators over all of
# the matrix. Bounds by columns and by Newton and Schulz work; the spectral norm does no better than none
# (37 and 33 %), and Frobenius holds at the trained length alone. A kernel that is not divided by its norm
# does better in this budget (99.9 against 62.4 % at 60 tokens); the sigmoid solves two seeds of five, where
# tanh solves four.
#
# Luck is not gone. At exact rank 8 one seed of five has 42 %. At rank 2, with two diagonal factors one seed of five has 52 % here, and with one
# factor all are right; in an earlier run one seed of each form had 69 and 87 %. Half of the states act on
# the other half by a fixed split, which is all that a real skew matrix of that rank can do.
#
# The budget as reported is a fraction of the first run's, so that its 95 % are not reached here. All
# is at $n = 16$, where the fast product does not pay. Next: learned nodes, a learned split of the
# states at rank 2, and $n = 256$ against products of reflections with as many parameters.
