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
# # 011 · Does the Neumann series fail on its own operator, and can Newton-Schulz replace it where it ends?
#
# **Idea.** A state-space kernel with $A$ diagonal plus low rank needs $(zI - A)^{-1}$ at every
# frequency. Woodbury's formula has it with one inverse $(I - F)^{-1}$ of order $r$, the rank.
# The proposal replaces that by a few terms of its Neumann series $I + F + F^2 + \dots$, to be
# stabler near resonance, faster, and safe in bfloat16.
#
# **Reported before.** PROCEED: errors of 1e-9 with eight terms, and 8.9 times as fast.
#
# **Answer.** Yes to both, but the clock is not wholly against the series. On HiPPO, which S4 starts from, it diverges
# at about half of all frequencies, and at rank one it approximates a single division, which is faster. For a whole
# kernel eight terms gain 0 to 6 % over the solve at ranks 1 to 4; at rank 8 they are 2.2 times as fast ($N = 64$) and
# 1.6 times ($N = 256$). In the chunks of the delta rule, where such a series ends, the iteration of Newton and Schulz
# is as exact as substitution: to six digits in float32, and to two with every product in bfloat16.
#
# **Why REFUTED.** By C4a alone: no gain over the solve was to be above 1.2, and both at rank 8 are. An earlier run of
# the same code on another processor had 1.09 and 1.03 there. All other corrected criteria are met.
#
# **Cause.** What the series expands is the low-rank part, and it diverges exactly where that
# part matters. The record's surrogate had made it a hundred times too small. In a chunk it is
# rounding that kills: powers of $L$ rise by many orders before they vanish. Newton and Schulz
# look at their residual, and repair that. At rank 8 it is the library's solve that is slow on this processor.

# %% tags=["parameters"]
experiment: str = "011"  # the notebook these parameters belong to
seeds: list[int] = [100, 101]  # of random operators, models and keys, in [0, 2147483647]
states: list[int] = [16, 64]  # orders N of the HiPPO operator, 64 among them
steps: int = 100  # updates of the trained model, in [2, 1000000]
sizes: list[int] = [64]  # steps C of a chunk of the delta rule
rounds: int = 3  # turns of every form in a timing, in [1, 1000]
budget: float = 0.2  # seconds that a form may take in a timing in all, in (0, 1000]

# %% jupyter={"source_hidden": true}
import math
from dataclasses import replace
from functools import partial
from itertools import islice

import pandas as pd
import torch
from IPython.display import display
from torch.nn.functional import normalize

import lab
from lab.benchmark.functions import function_milliseconds
from lab.linalg import DPLR
from lab.linalg import triangular_inverse as inverses
from lab.linalg.hippo import hippo_legs
from lab.linalg.kernel import bilinear_nodes
from lab.linalg.neumann import certified_terms, neumann_apply
from lab.linalg.rounding import product_in, rounded
from lab.mixers import OscDPLR
from lab.plots import figures, panels
from lab.seeding import stream
from lab.tasks import KnownOscillators

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range
torch.set_num_threads(1)

# %% jupyter={"source_hidden": true}
from lab.experiment import MEAN, NUMBER, Experiment, Planned

FORMULAS = ["R = (I - E)^-1 D", "truncated resolvent", "truncated kernel", "its gradient", "truncated chunk inverse"]
KERNELS = [f"N = {N}, rank {r}" for N in (64, 256) for r in (1, 2, 4, 8)]
PROPOSAL = [  # its own criteria, after two that repeat what was reported, on operators of that kind
    Planned("R1", "error of the kernel, surrogate, 8 terms", "<", 1e-3, arm="reported"),
    Planned("R3", "speed-up over a dense N x N baseline, N = 64", ">", 1.0, NUMBER, arm="reported", varies=True),
    Planned("S1", "error of the kernel, HiPPO, N = 64, up to 8 terms", "<", 1e-3, NUMBER, arm="proposal"),
    Planned("S2", "series finite and Woodbury not, bfloat16, 1e-3 from a pole", ">", 0.5, arm="proposal"),
    Planned("S3", "speed-up of 8 terms over Woodbury, rank 1, N = 64", ">", 1.0, NUMBER, arm="proposal", varies=True),
    Planned("K1", "terms for an error of 1e-3, HiPPO, N = 64 (65: more than 64)", ">", 16, NUMBER, "kill", "proposal"),
    Planned("K2", "share of frequencies where the series diverges, HiPPO, N = 64", ">", 0.1, NUMBER, "kill", "proposal"),
    Planned("P1", "accurate and not faster: 1 if so", ">", 0.5, NUMBER, "failure", "proposal", varies=True),
    Planned("T1", "at full scale: perplexity / that of the exact kernel", "<=", 1.01, NUMBER, arm="proposal"),
    Planned("T2", "at full scale: speed-up of a step of training", ">", 1.5, NUMBER, arm="proposal"),
    Planned("T3", "at full scale: runs with NaN in bfloat16", "<=", 0, NUMBER, arm="proposal"),
]

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
exp = Experiment(
    "011", title="Neumann resolvent", parameters=p,
    question="Does the Neumann series fail on its own operator, and can Newton-Schulz replace it where it ends?",
    reported={"surrogate: error, 8 terms": 1.7e-9, "surrogate: largest radius": 0.02, "N = 64: speed-up": 1.07, "N = 256: speed-up": 8.92},
    criteria=[
        *PROPOSAL,
        Planned("C1", "formulas, float64, relative: {part}", "<", 1e-12, kind="control", parts=FORMULAS),
        Planned("C2a", "best error of up to 8 terms, HiPPO, smallest of all N and dt", ">", 1e-3, NUMBER),
        Planned("C2b", "share that diverges, HiPPO, smallest of all dt and N >= 64", ">", 0.1, NUMBER),
        Planned("C3", "smallest singular value of S4's core, {part}", ">=", 1 - 1e-9, kind="control", parts=["HiPPO", "random, rank 4"]),
        Planned("C4a", "speed-up of 8 terms over the solve, {part}", "<=", 1.2, MEAN, low_is_good=True, varies=True, parts=KERNELS),
        Planned("C4b", "speed-up of 8 terms over the division, {part}", "<", 1.0, MEAN, low_is_good=True, varies=True, parts=KERNELS[::4]),
        Planned("C5a", "error of the adaptive order / certified bound, largest", "<=", 1.0, kind="control"),
        Planned("C5b", "the same, smallest, rank 1 and norms below 0.9", ">=", 0.05, kind="control"),
        Planned("C6", "share of frequencies that diverge, OscDPLR after training", ">", 0.1, varies=True),
        Planned("C7", "error of Newton-Schulz, float32, 2 ceil(log2 C) steps, all keys", "<", 1e-5, low_is_good=True),
        Planned("C8", "error of doubling, float32, likeness 0.9, smallest", ">", 1e-2),
        Planned("C9", "error of Newton-Schulz, bfloat16 products, 20 steps, all keys", "<", 3e-2, low_is_good=True),
    ],
)
exp

# %% [markdown]
# S1 to P1 and the full-scale targets T1 to T3 are the proposal's, on the operator it is about;
# R1 and R3 repeat its measurements on a surrogate like the one it used. C2 says in numbers that
# the idea fails on its own operator, C4 was to say that there is no case for speed either, and C6 that
# training leads away from where the series would work. C7 to C9 are about the one place where
# the series ends by itself: the chunks of the delta rule. C1, C3 and C5 are theorems, and
# therefore controls; C5b follows from $(1 - \varphi)/(1 + \varphi)$ being above 0.05 below 0.9.
#
# What would change our mind: an operator in use whose core stays well inside the unit disc,
# before training and after.
#
# ## Is the problem what we think it is?
#
# With $D = (zI - \Lambda)^{-1}$ and $A = \Lambda + PQ^*$, the kernel is $\hat K = CDB + CDP\,(I
# - F)^{-1}\, Q^*DB$ with the core $F = Q^*DP$ of order $r$. With $k$ terms of the series of the
# whole resolvent, the core has $k - 1$ of them, and what is missing is $CDP\,F^{k-1}(I -
# F)^{-1}Q^*DB$, exactly. The series converges where the spectral radius $\rho(F)$ is below 1.
# For rank one $F = f$ is a number, the sum is $(1 - f^{k-1})/(1 - f)$, and its limit costs
# **one division**.
#
# The operator is HiPPO-LegS, from which S4 starts, in its form normal plus rank one:
# $\operatorname{Re} \lambda = -1/2$ and $\lVert p \rVert^2 = N^2/2$. Its nodes are the bilinear
# images of the roots of unity, with both sides multiplied by $1 + \zeta$, so that $\zeta = -1$
# is a node like any other.

# %%
REAL, COMPLEX, LENGTH, TIMES = torch.float64, torch.complex128, 1024, [1e-3, 1e-2, 1e-1]
nodes = partial(bilinear_nodes, LENGTH)  # alpha and beta of the resolvents (alpha I - beta A)^-1, by dt


def error(actual, exact):  # over all frequencies, and so over all times
    return ((actual - exact).norm() / exact.norm()).item()


def hippo(N, dt, scale=1.0):  # Woodbury's parts of a kernel, with p scaled
    A, B, _ = hippo_legs(N)
    C = torch.randn(1, N, dtype=COMPLEX, generator=stream(p.seeds[0], "C"))
    return DPLR(A.diagonal, scale * A.P, scale * A.Q).woodbury(C, *nodes(dt), B)


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def draw_kernel(scale, terms):
    parts = hippo(64, 1e-2, 10**scale)
    shown = {"exact": parts.solved(), f"{int(terms)} terms": parts.summed(int(terms))}
    curves = {name: each[: LENGTH // 2, 0, 0].abs().clamp(1e-6, 1e12) for name, each in (shown | {"|f|": parts.core}).items()}
    return figures.lines(curves, x_title="frequency", y_title="size, up to 1e12", log=True,
                         dashed=["|f|"], levels={"radius of convergence": 1.0}, title=f"HiPPO, N = 64, p scaled by {10**scale:.3f}")


panels.targets(draw=draw_kernel, scale=panels.Slider("log10 of the scale of p", 0.0, -2.0, 0.0, 0.1), terms=panels.Slider("terms", 8, 1, 32, 1))

# %% [markdown]
# The kernel and its eight-term series at full scale of $p$, with $|f|$ in grey. Wherever $|f|$
# is above 1 the series is off by orders. Move the scale down until the two agree: what is left
# of the low-rank part there is a small correction.
#
# ### The formulas
#
# The proposal prints Woodbury's formula for $\Lambda - PQ^*$ with a series for $\Lambda +
# PQ^*$, and the factors in the order $D(I - E)^{-1}$ with $E = DPQ^*$, where $(I - E)^{-1}D$ is
# right. Each law is checked on random matrices in float64 (C1): the factor order, what
# truncation leaves out of resolvent and kernel, the gradient for rank one with $K = k - 1$
# terms, $1 - S_K'(f)(1 - f)^2 = f^{K-1}(K(1 - f) + f)$, and the same law for a chunk of the
# delta rule, $(I + L)^{-1} - S_k(-L) = (-L)^k (I + L)^{-1}$.


# %%
def chunk(seed, size=64, likeness=0.0, top=2.0, count=4):  # L of unit keys that share a direction
    normal = partial(torch.randn, generator=stream(seed, "chunks"), dtype=REAL)
    own, shared = (normalize(normal(count, n, 64), dim=-1) for n in (size, 1))
    k = normalize(likeness * shared + (1 - likeness**2) ** 0.5 * own, dim=-1)
    return (top * normal(count, size, 1).sigmoid() * (k @ k.mT)).tril(-1)


def laws(seed, N=16, r=3, terms=4):
    normal = partial(torch.randn, generator=stream(seed, "laws"), dtype=COMPLEX)
    A, eye = DPLR(-1 + normal(N), 0.3 * normal(N, r), 0.3 * normal(N, r)), torch.eye(N, dtype=COMPLEX)
    D = torch.diag(1 / (2j - A.diagonal))
    E, R, L = D @ A.P @ A.Q.mT, torch.linalg.inv(2j * eye - A.to_dense()), chunk(seed, count=1)[0]
    parts = A.woodbury(normal(1, N), torch.tensor([2j], dtype=COMPLEX), torch.ones(1, dtype=COMPLEX), normal(N, 1))
    f = torch.tensor(0.7, dtype=REAL, requires_grad=True)
    slope = torch.autograd.grad(sum(f**j for j in range(terms)), f)[0]
    assert error(D @ torch.linalg.inv(eye - E), R) > 1e-3, "the factors can be swapped"
    pairs = [
        (torch.linalg.solve(eye - E, D), R), (neumann_apply(E, D, terms), R - torch.linalg.matrix_power(E, terms) @ R),
        (parts.summed(terms), parts.solved() - parts.left_out(terms)), (1 - slope * (1 - f) ** 2, f ** (terms - 1) * (terms * (1 - f) + f)),
        (neumann_apply(-L, torch.eye(64, dtype=REAL), terms), (torch.eye(64) - torch.linalg.matrix_power(-L, terms)) @ inverses.inverse_by_substitution(L)),
    ]
    return {name: error(*pair) for name, pair in zip(FORMULAS, pairs, strict=True)}


# %%
exp.judge("C1", pd.DataFrame([laws(seed) for seed in p.seeds]).to_dict("list"))


def smallest(parts):  # singular value of I - F, at any node
    return torch.linalg.svdvals(parts.system()).min().item()


def random_dplr(seed, N=32, r=4):  # of S4's form Lambda - P P*, with Re Lambda < 0 and any P
    normal = partial(torch.randn, generator=stream(seed, "core"), dtype=COMPLEX)
    P, diagonal = 3 * normal(N, r), normal(N)
    A = DPLR(diagonal - 2 * diagonal.real.clamp_min(0), P, -P.conj().resolve_conj())
    return A.woodbury(normal(1, N), *nodes(0.1), normal(N, 1))


exp.judge("C3", {"HiPPO": [min(smallest(hippo(N, dt)) for N in p.states for dt in TIMES)] * len(p.seeds),
                 "random, rank 4": [smallest(random_dplr(seed)) for seed in p.seeds]})

# %% [markdown]
# C3 is why S4's own form needs no help. With $A = \Lambda - PP^*$, $\operatorname{Re} \lambda <
# 0$ and $\operatorname{Re} s \ge 0$, the core $I + P^*DP$ has the Hermitian part $I + P^*
# \operatorname{Re}(D) P \ge I$. All its singular values are 1 or more, and the solve amplifies
# nothing, for any $P$ of any rank.
#
# ## As reported
#
# The record used $\lambda_n = -1/2 + i\pi n$ with small random $P$ and $Q$, and $|z| = 1$ in
# the continuous plane, which is not where S4 evaluates. Here is such a surrogate, its entries
# scaled so that the largest $|f|$ is the 0.02 of the record.


# %%
def surrogate(seed, N=64):
    normal = partial(torch.randn, generator=stream(seed, "surrogate"), dtype=COMPLEX)
    A = DPLR(torch.complex(torch.full((N,), -0.5, dtype=REAL), math.pi * torch.arange(N, dtype=REAL)), normal(N, 1), normal(N, 1))
    circle, ones = 1 - nodes(1.0)[0], torch.ones(LENGTH, dtype=COMPLEX)
    C, B = normal(1, N), normal(N, 1)
    scale = (0.02 / A.woodbury(C, circle, ones, B).core.abs().max()) ** 0.5
    return DPLR(A.diagonal, scale * A.P, scale * A.Q).woodbury(C, circle, ones, B)


on_surrogate = {k: [error((it := surrogate(seed)).summed(k), it.solved()) for seed in p.seeds] for k in (2, 4, 6, 8)}
exp.judge("R1", on_surrogate[8])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
pd.DataFrame({"here, mean of seeds": {k: sum(each) / len(each) for k, each in on_surrogate.items()},
              "reported": {2: 2.7e-3, 4: 1.9e-5, 6: 1.7e-7, 8: 1.7e-9}}).rename_axis("terms").map("{:.1e}".format)

# %% [markdown]
# The surrogate's core is about a hundredth, so the series of anything like it converges at
# once; the record's errors fall more slowly than these, as its largest $f$ need not have been
# at the same place. Nothing is wrong with these numbers, except that they are of an operator
# whose low-rank part is a correction of one percent. The 8.9 times of the record are against a
# baseline that forms the whole resolvent, which is R3 below; nobody evaluates a kernel that
# way.
#
# ## Diagnosis: the radius on the real operator

# %%
rows = []
for N, dt in ((N, dt) for N in p.states for dt in TIMES):
    parts = hippo(N, dt)
    f, exact = parts.core[:, 0, 0], parts.solved()
    errors = {k: error(parts.summed(k), exact) for k in range(1, 65)}
    rows.append({
        "N": N, "dt": dt, "share |f| > 1": (f.abs() > 1).double().mean().item(), "median |f|": f.abs().median().item(),
        "max |f|": f.abs().max().item(), "min |1 - f|": (1 - f).abs().min().item(),
        **{f"error, {k} terms": errors[k] for k in (2, 4, 8)}, "best of 8": min(errors[k] for k in range(1, 9)),
        "terms for 1e-3": next((k for k, e in errors.items() if e < 1e-3), 65),
    })
on_hippo = pd.DataFrame(rows)
named = on_hippo[(on_hippo["N"] == 64) & (on_hippo["dt"] == 1e-2)].iloc[0]
exp.judge("S1", named["best of 8"])
exp.judge("K1", named["terms for 1e-3"])
exp.judge("K2", named["share |f| > 1"])
exp.judge("C2a", on_hippo["best of 8"].min())
exp.judge("C2b", on_hippo[on_hippo["N"] >= 64]["share |f| > 1"].min())

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(on_hippo.map(lambda x: f"{x:.3g}").set_index(["N", "dt"]))
figures.lines({f"dt = {dt:g}": hippo(64, dt).core[1 : LENGTH // 2, 0, 0].abs() for dt in TIMES}, x=torch.arange(1, LENGTH // 2), x_log=True, log=True,
              x_title="frequency, number of the node", y_title="|f|", levels={"the series diverges above": 1.0},
              title="The core of HiPPO, N = 64, at S4's nodes")

# %% [markdown]
# $|f|$ swings around 1 over all frequencies, and exceeds it at about half of them once $N\,dt$
# is not small. The largest values lie where a node comes close to a pole, and depend on where
# the nodes fall, so the median is the number to keep. With each further term the error grows by
# orders (K1, K2 and C2). At $N = 16$ and $dt = 10^{-3}$ only 4 % of the nodes diverge, and
# these are enough to spoil the kernel. The proposal took $\lVert P \rVert \lVert Q \rVert$ to
# be of order one: it is $N^2/2$, 2,048 here. The smallest $|1 - f|$ is 1 throughout: the
# division is harmless where the series is hopeless.
#
# How small would $p$ have to be? With $p$ scaled so that the largest $|f|$ is 0.1, 0.5 or 0.9,
# this is the error against the number of terms, with the law $|f|^{k-1}$ at the node where it
# is largest, and the error of the gradient by $f$ beside it.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
curves, laws_, orders = {}, {}, torch.arange(2, 17)
for phi in (0.1, 0.5, 0.9):
    scaled = hippo(64, 1e-2, (phi / named["max |f|"]) ** 0.5)
    curves[f"kernel, largest |f| = {phi}"] = torch.tensor([error(scaled.summed(int(k)), scaled.solved()) for k in orders])
    laws_[f"law of {phi}"] = phi ** (orders - 1.0)
laws_["gradient at 0.5"] = 0.5 ** (orders - 2.0) * ((orders - 1) * 0.5 + 0.5)
figures.lines({**curves, **laws_}, x=orders, x_title="terms", y_title="relative error", log=True, dashed=list(laws_), levels={"S1": 1e-3},
              title="Error with p scaled down, and the laws in grey")

# %% [markdown]
# The laws hold: the kernel's error falls with $|f|$ to the power of the terms, and stays a
# little below the law of the worst node, which is one of many. Eight terms reach $10^{-3}$
# where the largest $|f|$ is below 0.44 or so, with $\lVert p \rVert^2$ near 5 in place of
# 2,048. The gradient needs a term or two more for the same digits. Longer memories make it
# worse, because a mode close to the unit circle tolerates only a coupling as small as its
# distance from it.
#
# ## Near resonance
#
# The proposal expects the series to help where $s$ comes close to a pole. It is the wrong
# place: as $s \to \lambda_i$ the resolvent of $A$ stays finite, while $D_{ii} = 1/\varepsilon$
# and $f \approx \bar q_i p_i/\varepsilon$ grow. Sixteen states, $|p_i q_i| = 0.05$, every
# operation rounded to the precision named, against a dense solve in float64.


# %%
def near_pole(seed, epsilon, dtype, N=16):  # relative errors at a distance from the first pole
    cut, normal = partial(rounded, dtype=dtype), partial(torch.randn, generator=stream(seed, "pole"), dtype=COMPLEX)
    poles = torch.complex(torch.full((N,), -0.5, dtype=REAL), math.pi * torch.arange(N, dtype=REAL))
    P, Q = (0.05**0.5 * x / x.abs() for x in normal(2, N))
    b, c, s = normal(N), normal(N), poles[0] + epsilon
    exact = c @ torch.linalg.solve(torch.diag(s - poles) - torch.outer(P, Q), b)
    D = cut(1 / cut(cut(s) - cut(poles)))
    DB, DP = cut(D * cut(b)), cut(D * cut(P))
    f, into, across, direct = (cut((cut(x) * y).sum()) for x, y in ((Q, DP), (Q, DB), (c, DP), (c, DB)))
    found, term = {"Woodbury": cut(into / cut(1 - f))}, into
    for _ in range(6):
        term = cut(into + cut(f * term))
    found["8 terms"] = term
    return {name: ((cut(direct + cut(across * x)) - exact).abs() / exact.abs()).item() for name, x in found.items()}


DISTANCES, TYPES = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6], {"float64": REAL, "float32": torch.float32, "bfloat16": torch.bfloat16}
resonance = pd.DataFrame([
    {"distance": e, "precision": name, "seed": seed, **near_pole(seed, e, dtype)}
    for e in DISTANCES for name, dtype in TYPES.items() for seed in p.seeds
])
low = resonance[(resonance["distance"] == 1e-3) & (resonance["precision"] == "bfloat16")]
exp.judge("S2", [float(math.isfinite(row["8 terms"]) and not math.isfinite(row["Woodbury"])) for _, row in low.iterrows()])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
middle = resonance.groupby(["precision", "distance"])[["Woodbury", "8 terms"]].median().unstack("precision")
figures.lines({f"{form}, {name}": torch.tensor(middle[form][name].sort_index(ascending=False).to_numpy()).clamp_max(1e12)
               for form in ("Woodbury", "8 terms") for name in TYPES}, x=torch.tensor(DISTANCES), x_log=True, log=True, x_title="distance from the pole",
              y_title="relative error, up to 1e12", title="Near a pole, median of the seeds; a line ends where a form is not finite")

# %% [markdown]
# Woodbury loses about as many digits as $|f|$ has, and so needs float32 near a pole. The series
# is lost long before: at a distance of $10^{-2}$ its error is $10^5$ and more, in every
# precision. In bfloat16 nothing overflows. What fails there is the subtraction $s - \lambda$,
# which rounds to zero for both forms alike, and S2 cannot be met by this mechanism.
#
# ## Training leaves the disc
#
# OscDPLR, the workspace's own layer of that form, starts with small $P$ and $Q$. It is trained
# to continue eight oscillators, and its core is watched: the spectral radius of $F$ at the 128
# nodes of its kernel.


# %%
tasks = [KnownOscillators.draw(8, stream(seed, "oscillators")) for seed in p.seeds]


def build(task, seed):
    return OscDPLR(2 * task.systems, d_output=1, d_state=16, rank=2, form="dissipative", complex_io=True,
                   generator=stream(seed, "init"), dtype=torch.float64)


def inner(model):  # Woodbury's parts of a layer, without its sides: their core is F ["128 4 4"]
    A = model.state_matrix()
    none = torch.zeros(0, len(A.diagonal), dtype=COMPLEX)
    return A.woodbury(none, *bilinear_nodes(128, model.dt), none.mT)


@torch.no_grad()
def radii(model):
    return torch.linalg.eigvals(inner(model).core).abs().amax(-1)


recipe = {"steps": p.steps, "batch": 32, "length": 128, "lr": 2e-2, "schedule": "one-cycle", "device": "cpu", "watch": {"radii": radii}}
arms = exp.train({"OscDPLR": build}, tasks, recipe)
exp.judge("C6", [(radii(model) > 1).double().mean().item() for model in arms.models["OscDPLR"]])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
histories = arms.histories["OscDPLR"]
shares = {f"seed {seed}": (each.watched["radii"] > 1).double().mean(1) for seed, each in zip(p.seeds, histories, strict=True)}
display(figures.lines(shares, x=torch.tensor(histories[0].watched_at), x_title="update", y_title="share of nodes",
                      levels={"C6": 0.1}, title="Share of nodes where the series diverges, in training"))
pd.DataFrame([{"seed": seed, "largest radius, start": each.watched["radii"][0].max().item(), "after training": each.watched["radii"][-1].max().item(),
               "smallest singular value of I - F": smallest(inner(model)), "last loss": each.loss[-1].item()}
              for seed, each, model in zip(p.seeds, histories, arms.models["OscDPLR"], strict=True)]).set_index("seed").map("{:.3g}".format)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
inputs = panels.examples(tasks[0], length=128)
display(panels.states(arms.models["OscDPLR"][0], inputs))
panels.eigenvalues(arms.models["OscDPLR"][0], inputs)

# %% [markdown]
# At the start about one node in sixteen is outside the disc. Training moves the layer further
# out on every seed, while the loss falls by orders. This form has a skew part, so the theorem
# behind C3 does not bound its smallest singular value by 1; it stays near one half, and the
# solve is harmless all the same.
#
# ## A certified order, and what it saves
#
# From $\varphi = \lVert F \rVert_2 < 1$ alone, $1 + \lceil \ln(\tau(1 - \varphi))/\ln \varphi
# \rceil$ terms leave an error of at most $\tau \lVert CDP \rVert \lVert Q^*DB \rVert$. Where
# the norm is one half or more, the solve takes over. How close the achieved error comes to the
# bound:


# %%
def tightness(parts, tolerance=1e-4):  # error of the certified series over its bound, norms below 0.9
    norms = torch.linalg.matrix_norm(parts.core, 2)
    parts, norms = parts.at(kept := (norms < 0.9) & (norms > 1e-3)), norms[kept]
    terms = 1 + certified_terms(norms, tolerance)
    found, exact, bound = torch.zeros_like(norms), parts.solved(), parts.bound(terms)
    for n in terms.unique():
        found[terms == n] = (parts.summed(int(n)) - exact).abs()[terms == n, 0, 0]
    return found / bound


def shrunk(parts, norm=0.95):
    return replace(parts, core=norm * parts.core / torch.linalg.matrix_norm(parts.core, 2).max())


of_rank_1, of_rank_4 = tightness(shrunk(hippo(64, 1e-2))), [tightness(shrunk(random_dplr(seed))) for seed in p.seeds]
exp.judge("C5a", [max(of_rank_1.max().item(), each.max().item()) for each in of_rank_4])
exp.judge("C5b", [of_rank_1.min().item()] * len(p.seeds))

# %% [markdown]
# The bound is kept everywhere, and at rank one it is within a factor of two of the truth (C5),
# where the theorem promises twenty. So the series can be run with a guarantee where it converges quickly. Whether
# that is worth the trouble is a question for the clock.
#
# ## Time
#
# All of a kernel at 1,024 frequencies in single precision: the products with $D$ and then the
# core, by a solve, by eight terms, by doubling, and at rank one by the division. The baseline
# of the record formed the resolvent of order $N$ at every frequency; that is the column "dense".

# %%
def kernel_times(seed, N, r):  # milliseconds of a whole kernel in single precision, by form
    normal = partial(torch.randn, generator=stream(seed, "times"), dtype=torch.complex64)
    A, B, C = DPLR(-1 + normal(N), 0.1 * normal(N, r), 0.1 * normal(N, r)), normal(N, 1), normal(1, N)
    alpha, beta = (x.to(torch.complex64) for x in nodes(1e-2))
    parts = partial(A.woodbury, C, alpha, beta, B)
    forms = {"products alone": parts, "solve": lambda: parts().solved(), "8 terms": lambda: parts().summed(8),
             "doubling": lambda: parts().doubled(3), **({"division": lambda: parts().divided()} if r == 1 else {})}
    if (seed, N, r) == (p.seeds[0], 64, 1):
        forms["dense"] = lambda: C @ A.resolvent(alpha, beta, torch.eye(N)) @ B
    return function_milliseconds(forms, [], rounds=p.rounds, budget=p.budget)


# %%
cases = [(seed, N, r) for N in (64, 256) for r in (1, 2, 4, 8) for seed in p.seeds]
timed = pd.DataFrame([{"kernel": f"N = {N}, rank {r}", **kernel_times(seed, N, r)} for seed, N, r in cases])
timed[["solve / 8 terms", "division / 8 terms"]] = timed[["solve", "division"]].div(timed["8 terms"], axis=0)
medians, by_kernel = timed.groupby("kernel", sort=False).median(), timed.groupby("kernel")
gains = by_kernel["solve / 8 terms"].mean()
exp.judge("C4a", {name: by_kernel.get_group(name)["solve / 8 terms"].tolist() for name in KERNELS})
exp.judge("C4b", {name: by_kernel.get_group(name)["division / 8 terms"].tolist() for name in KERNELS[::4]})
exp.judge("S3", gains[KERNELS[0]])
exp.judge("P1", float(named["best of 8"] < 1e-3 and gains[KERNELS[0]] <= 1))
exp.judge("R3", (timed["dense"] / timed["8 terms"]).max())

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(medians.map(lambda x: "" if x != x else f"{x:.3g}"))

# %% [markdown]
# The column "products alone" is what every form has to do before it comes to the core. At ranks 1 to 4 it is
# 83 to 86 % of the time of the solve at $N = 256$, and 59 to 67 % at $N = 64$, so that even a core for nothing would
# not make a kernel twice as fast; eight terms gain 0 to 6 % (C4a, means over five draws). At rank one the division is
# the fastest (C4b). The dense baseline of the record, timed on one draw, takes about fifty times as long as eight terms
# (R3).
#
# Rank 8 is different on this processor. There the core takes 78 % of the time with the solve at $N = 64$, and 52 % at
# $N = 256$: about 2.5 ms, where eight terms need 0.7 ms, and doubling 1.2 ms. An earlier run of the same code on
# another processor had gains of 1.09 and 1.03 at rank 8, with 0.9 to 1.4 ms for the solve and about as much for eight
# terms as here at $N = 64$. So what differs is the library's solve: timed by itself on this processor, it takes about
# three times as long at order 8 as at order 7, where the count of operations grows by half. The gain is over a slow
# call, and C4a is missed by it. An exact solve by blocks of order 4 is the rival that is missing here.

# %% [markdown]
# ## Corrected: the chunks of the delta rule
#
# There the series ends. A chunk of $C$ steps needs $(I + L)^{-1}$ with $L =
# \mathrm{tril}(\mathrm{diag}(\beta) K K^\top, -1)$ and $L^C = 0$: the spectral radius is 0, and
# useless, since what counts is how far $\lVert L^k \rVert$ rises before it falls (the column
# "hump" below has the largest entry of any power). Doubling forms $(I - L)(I + L^2)(I +
# L^4)\cdots$. Newton and Schulz, $X \leftarrow X + X(I - (I + L)X)$ from $X = I - L$, are the
# same in exact arithmetic. In floating point products of unit lower triangular matrices stay
# *exactly* unit lower triangular, so the residual that is computed is strictly lower, nilpotent
# again, and further steps square away what rounding left in it. Doubling never sees its
# residual.


# %%
LIKENESS, TOPS, MOST = [0.0, 0.3, 0.5, 0.9, 0.99, 1.0], [1.0, 2.0], 20
PRODUCTS = {"float32": torch.matmul, "bfloat16": product_in(torch.bfloat16)}


def off(X, exact):  # relative to the largest entry; what is not finite counts as 1e30
    return ((X.double() - exact).abs().max() / exact.abs().max()).nan_to_num(1e30, 1e30).clamp_max(1e30).item()


def steps_of(L, exact, product):  # the error after 0, 1, ... 20 steps of Newton and Schulz
    return [off(X, exact) for X, _ in islice(inverses.newton_schulz_iterates(L.float(), product), MOST + 1)]


# %%
def study(seed, size, likeness, top):
    L = chunk(seed, size, likeness, top)
    exact, eye = inverses.inverse_by_substitution(L), torch.eye(size, dtype=REAL).expand_as(L)
    single, low = (steps_of(L, exact, product) for product in PRODUCTS.values())
    return {
        "seed": seed, "C": size, "gains up to": top, "likeness": likeness, "hump": inverses.powers_hump(L).max().item(),
        **{f"{k} terms": off(neumann_apply(-L, eye, k), exact) for k in (8, 16, 32)},
        "substitution": off(inverses.inverse_by_substitution(L.float()), exact), "doubling": off(inverses.inverse_by_doubling(L.float()), exact),
        "Newton-Schulz": single[2 * math.ceil(math.log2(size))], "steps to 1e-5": next((j for j, e in enumerate(single) if e < 1e-5), MOST + 1),
        "substitution, bfloat16": off(inverses.solve_in_blocks(L.float(), eye.float(), block=1, product=PRODUCTS["bfloat16"]), exact),
        "doubling, bfloat16": off(inverses.inverse_by_doubling(L.float(), PRODUCTS["bfloat16"]), exact), "Newton-Schulz, bfloat16": low[MOST],
        "then 2 steps in float32": off(inverses.newton_schulz(L.float(), 2, start=inverses.newton_schulz(L.float(), MOST, PRODUCTS["bfloat16"])), exact),
        "steps to 3e-2": next((j for j, e in enumerate(low) if e < 3e-2), MOST + 1),
    }


# %%
chunks = pd.DataFrame([study(s, c, a, t) for s in p.seeds for c in p.sizes for a in LIKENESS for t in TOPS])
exp.judge("C7", chunks.groupby("seed")["Newton-Schulz"].max().tolist())
exp.judge("C8", chunks[chunks["likeness"] == 0.9].groupby("seed")["doubling"].min().tolist())
exp.judge("C9", chunks.groupby("seed")["Newton-Schulz, bfloat16"].max().tolist())

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
worst = chunks.drop(columns="seed").groupby(["C", "gains up to", "likeness"]).max()
for columns in (worst.columns[:4], worst.columns[4:8], worst.columns[8:]):
    display(worst[columns].map(lambda x: f"{x:.0f}" if x == int(x) and x < 99 else f"{x:.0e}"))


def draw_steps(likeness):
    series = {}
    for top in TOPS:
        exact = inverses.inverse_by_substitution(L := chunk(p.seeds[0], 64, likeness, top))
        series |= {f"{name}, gains up to {top:g}": torch.tensor(steps_of(L, exact, each)) for name, each in PRODUCTS.items()}
        series[f"doubling, gains up to {top:g}"] = torch.full((MOST + 1,), off(inverses.inverse_by_doubling(L.float()), exact))
    return figures.lines({name: each.clamp(1e-9, 1e12) for name, each in series.items()}, x_title="step of Newton and Schulz", log=True,
                         y_title="relative error, up to 1e12", dashed=[n for n in series if n.startswith("doubling")],
                         levels={"C7": 1e-5, "C9": 3e-2}, title=f"Newton and Schulz in chunks of 64, keys alike by {likeness:.2f}")


exp.key_figure(draw_steps(0.9))
panels.targets(draw=draw_steps, likeness=panels.Slider("likeness", 0.9, 0.0, 1.0, 0.05))

# %% [markdown]
# Truncated after 8, 16 or 32 terms the series is useless unless keys are nearly at right angles.
# Doubling loses its digits once keys are half alike, and is noise from a likeness of 0.9 on
# (C8). Newton and Schulz make the same products, pass through the same large numbers, and come
# back: after 3 to 11 steps their error in float32 is below 1e-5, and after $2\lceil \log_2 C
# \rceil$ it is as small as that of substitution (C7). With every product rounded to bfloat16
# they need up to twice as many steps and keep two digits (C9). Substitution, row by row, keeps
# no more with such products, and doubling has no digit left once keys are half alike. Two more
# steps of Newton and Schulz in float32 bring all digits back.
#
# The next figures show why. First the powers of $L$, which rise by up to eighteen orders before
# they vanish at the 64th. Then the residual $I - (I + L)X$ itself, one column of colours for each
# row of the matrix: it is accurate in a band beside the diagonal, and every step doubles the
# width of that band, since every step squares a strictly triangular matrix.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
humps = {f"likeness {a:g}": [torch.linalg.matrix_power(chunk(p.seeds[0], 64, a), k).abs().max() for k in range(1, 64)] for a in (0.0, 0.5, 0.9, 1.0)}
display(figures.lines({name: torch.stack(each).clamp_min(1e-20) for name, each in humps.items()}, x=torch.arange(1, 64), x_title="k", log=True,
                      y_title="largest entry of the k-th power of L", title="Powers of L rise before they vanish, chunks of 64, gains up to 2"))
residuals = [each for _, each in islice(inverses.newton_schulz_iterates(chunk(p.seeds[0], 64, 0.9)[0].float()), 13)]
figures.heatmaps({f"after {j} steps": residuals[j].abs().clamp(1e-9, 1e9).log10() for j in (4, 8, 12)}, title="log10 of the residual, by steps")

# %%
L, right = chunk(p.seeds[0], 64, 0.5, count=64).float(), torch.randn(64, 64, 128, generator=stream(p.seeds[0], "right"))
chunk_ms = function_milliseconds({
    "substitution": lambda: inverses.solve_by_substitution(L, right), "doubling": lambda: inverses.inverse_by_doubling(L) @ right,
    "Newton-Schulz, 12 steps": lambda: inverses.newton_schulz(L, 12) @ right,
    "blocks of 16, doubling": lambda: inverses.solve_in_blocks(L, right, block=16, invert=inverses.inverse_by_doubling),
}, [], rounds=p.rounds, budget=p.budget)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
pd.DataFrame({"ms, 64 chunks of 64": chunk_ms}).round(2)

# %% [markdown]
# On a CPU substitution is what to take: one call of LAPACK a chunk, nine times as fast as twelve
# steps of Newton and Schulz. Their case is hardware that does products and little else.
# There, 2 products a step and about 12 steps are the price of an inverse that is safe for any
# keys, where doubling pays for 5 steps and is safe for none that are alike. Doubling inside
# blocks of 16 takes about twice the time of substitution here, and is usable for gains up to 1
# (experiment 002).
#
# ## Verdict
#
# The table with the verdict is at the top. The full-scale targets need a language model and a
# GPU.

# %%
for id_ in ("T1", "T2", "T3"):
    exp.not_run(id_, "no GPU here, and no language model to train on it")
exp.note("most steps of Newton-Schulz to 1e-5", chunks["steps to 1e-5"].max().item(), statistic=NUMBER)
exp.note("most steps in bfloat16 to 3e-2", chunks["steps to 3e-2"].max().item(), statistic=NUMBER)
exp.note("time of Newton-Schulz, 12 steps / of substitution", chunk_ms["Newton-Schulz, 12 steps"] / chunk_ms["substitution"], statistic=NUMBER)
exp.table("HiPPO", on_hippo.to_dict("records"))
exp.table("chunks", chunks.to_dict("records"))

# %%
exp.conclude(
    finding=f"On HiPPO (N = 64) {100 * named['share |f| > 1']:.0f} % of the frequencies diverge, and 8 terms gain at most "
    f"{gains.max():.2f} times in speed; in delta-rule chunks Newton-Schulz errs by {chunks['Newton-Schulz'].max():.0e} in "
    f"float32 and {chunks['Newton-Schulz, bfloat16'].max():.0e} with bfloat16 products, doubling by {chunks[chunks['likeness'] == 0.9]['doubling'].min():.0e} or more.",
    settles="Newton-Schulz against forward substitution on a GPU's matrix units, on keys of a trained DeltaNet.",
    tags=["delta rule", "numerics"], impact=3, cost_h=4, blocked_by="a GPU",
)

# %% [markdown]
# ## What this does not show, and what next
#
# **The answer.** The proposal's criteria end it on its own operator, and what was reported was
# of another one. What the series would replace costs one division at rank one, and at ranks 2 and
# 4 less than half of the time. The plan expected no case for speed at any rank, and at rank 8 that
# is wrong on this processor (C4a). The gain is one of time alone: it is of use where the series
# converges, which was not asked of the kernels that were timed. The verdict depends on the
# processor. The use of the series is in the theory: the law of what truncation leaves out is
# exact, and gives a certified order.
#
# **What survives.** Newton and Schulz as an inverse by products alone. No proof of the number
# of steps is given here: in exact arithmetic it is $\lceil \log_2 C \rceil - 1$, and the rest,
# up to five more, repairs rounding. A bound in terms of how far the powers of $L$ rise would
# make it certain. Nor were keys of a trained model tried, or a GPU, where the products of
# bfloat16 would be real ones, and not rounded by hand as here.
#
# **What is open.** bfloat16 keeps two digits of the inverse. Whether a model trains as well with
# it is a question for a trained model. If not, two last steps in float32 are the price of all
# other digits.
