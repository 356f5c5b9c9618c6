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
# # 001 · Do reflections and routing together track a group that neither tracks alone?
#
# **Idea.** DeltaNet multiplies its state by one factor $I - \beta k k^\top$ per token. Let the factor
# reflect ($\beta$ up to 2, NEG), and let an input-dependent matrix $P$ with one 1 per column go in
# front of it (CS): $S_t = (I - \beta_t k_t k_t^\top) P_t S_{t-1} + \beta_t k_t v_t^\top$. The test
# is the group $D_4$, the eight symmetries of a square: which element is the product of the tokens
# so far?
#
# **Reported before.** No numbers. Expected were over 90 % for CS-NEG, 60 to 70 % for each trick
# alone, under 50 % for neither, at state sizes of 4 and more.
#
# **What this notebook shows.** As first posed the answer is forced: routing alone permutes the four
# corners of the square once a head has four rows, and at length 20 a counter passes for a reflection.
# With two rows, and scored beyond the training length, the question is sharp. There the eight
# symmetries are exactly the products of a swap or none and a reflection or none, and a proof says
# what each trick alone cannot do. What sign adds to routing is **state economy**: every element of
# $S_n$ is one reflection times one permutation of $n - 1$ rows, so that one row less is enough. And
# routing column by column is unstable beside reflections; routing by permutations is not, by proof.
#
# **Criteria, written before the run.** S1, S2, E1 to E3, K1, K2 and P1 of the proposal, C1 to C4 of
# the repair: with their thresholds in the last section. What would change our mind: CS-NEG with two
# rows failing beyond its training length, or an ablation holding there.

# %% tags=["parameters"]
experiment: str = "001"  # the notebook these parameters belong to
seeds: list[int] = [0]  # one model per arm and seed, in [0, 2147483647]
reported_steps: int = 10  # updates of the models of the reported setting, in [10, 1000000]
steps: int = 140  # updates of the corrected models, in [10, 1000000]
reach_steps: int = 10  # updates of the models of larger groups, in [10, 1000000]
batch: int = 32  # words per update and model, in [1, 65536]
samples: int = 128  # words that an accuracy is the mean over, in [100, 1000000]

# %%
import lab

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %%
from dataclasses import asdict
from functools import partial
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go
import torch
from IPython.display import display

from lab import audit
from lab.audit.by_hand import plane, representation, signs, simplex, word_problem_solver
from lab.benchmark.timing import take_turns
from lab.evidence import Evidence
from lab.linalg import delta_rule, delta_rule_sequential, routed_reflection
from lab.mixers import DeltaNet
from lab.model import SequenceModel, SwiGLU
from lab.nn import linear
from lab.plots import figures, looks, panels
from lab.plots.panels import Choice, Panel, Slider
from lab.seeding import stream
from lab.statistics import spread
from lab.tasks import Stored, WordProblem, groups
from lab.train import fit_together, score

torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way
TRAIN, LENGTHS = 20, [20, 40, 80, 160]  # tokens: longest word in training, words of the tests
ARMS = {
    "Standard": {}, "NEG": {"negative": True}, "CS": {"routing": "columns"},
    "CS-NEG": {"negative": True, "routing": "columns"},
    "CS-NEG, permutations": {"negative": True, "routing": "permutations"},
    "DeltaProduct": {"negative": True, "factors": 2},
}
FOUR, STABLE = ["Standard", "NEG", "CS", "CS-NEG"], "CS-NEG, permutations"
evidence = Evidence(
    "001", title="Reflections and routing in DeltaNet", reported={}, parameters=asdict(p),
    seeds=p.seeds,
)

# %% [markdown]
# ## Is the task what we think it is?
#
# Element $a + 4b$ of $D_4$ is $r^a s^b$ with $r^4 = s^2 = 1$ and $s r s = r^{-1}$. Targets are
# prefix products $x_1 \cdots x_t$, all positions are scored. Four alphabets: the two generators, as
# first posed; all eight elements; the generators and a pause; two mirrors and a pause.

# %%
D4 = groups.dihedral(4)
NAMES = ["1", "r", "r²", "r³", "s", "rs", "r²s", "r³s"]
R, S, SR = 1, 4, D4.product(4, 1)
ALPHABETS = {"{r, s}": [R, S], "all 8": range(8), "{1, r, s}": [0, R, S], "{1, s, sr}": [0, S, SR]}
TASKS = {name: WordProblem(D4, alphabet) for name, alphabet in ALPHABETS.items()}
assert D4.product(R, R, R, R) == D4.product(S, S) == 0
assert D4.product(S, R, S) == D4.inverse[R]
i, j, k = torch.cartesian_prod(*[torch.arange(8)] * 3).T
assert torch.equal(D4.table[D4.table[i, j], k], D4.table[i, D4.table[j, k]])
print("order", D4.order, "· sr is", NAMES[SR], "· orders", D4.element_orders.tolist())
pd.DataFrame([[NAMES[i] for i in row] for row in D4.table.tolist()], NAMES, NAMES)

# %% [markdown]
# **Chance is not 12.5 % where the alphabet is $\{r, s\}$.** Both letters are odd, so that at every
# step only four elements can be reached; who knows the step and nothing else is right 26.25 % of
# the time, and who knows parities as well, 52.5 %. With all eight elements as letters every prefix
# is uniform: 12.5 % and, for the best commutative model, 50 %. The last column is what a model can
# score that knows how often each letter came, but not in which order.


# %%
def ceilings(task):
    chance, abelian = task.chance_accuracy(TRAIN), task.abelian_ceiling(TRAIN)
    counted = task.commuting_ceiling(TRAIN if task.size < 8 else 8)
    return [chance.mean().item(), abelian.mean().item(), counted]


columns = ["chance", "knows parities", "knows counts (length 20; 8 for all 8)"]
known = pd.DataFrame({name: ceilings(task) for name, task in TASKS.items()}, columns).T
assert abs(known.loc["{r, s}"].iloc[:2] - [0.2625, 0.525]).max() < 1e-12
assert abs(known.loc["all 8"].iloc[:2] - [0.125, 0.5]).max() < 1e-12
known.round(4)

# %% tags=["nbval-ignore-output"]
display(audit.task(TASKS["{r, s}"], length=TRAIN), audit.task(TASKS["all 8"], length=TRAIN))
display(
    figures.lines(
        {name: task.chance_accuracy(TRAIN) for name, task in TASKS.items()},
        title="What can be scored without looking at the word", x_title="position", y_title="accuracy",
    )
)

panels.targets(
    TASKS, length=TRAIN, rows=("letter", "product so far"), title="A word and its products",
    symbols={name: {"letter": [NAMES[i] for i in task.alphabet], "product so far": NAMES}
             for name, task in TASKS.items()},
)

# %% [markdown]
# ## Is the model what we think it is?
#
# One layer of width 32: embedding, mixer, SwiGLU (with biases, as in the count of about 10 thousand
# that was given), head. The state starts from a learned matrix, at first $I$, and is read after the
# update. The gate is $\beta = c\,\mathrm{clip}(1.2\,\sigma(z) - 0.1,\, 0,\, 1)$, which reaches its ends.


# %%
def channel(generator):
    layer = SwiGLU(32, 64, generator=generator)
    layer.gate, layer.value = (linear(32, 64, generator=generator) for _ in range(2))
    layer.out = linear(64, 32, generator=generator)
    return layer


def build(task, seed, arm, heads=8, rows=2):
    generator = stream(seed, "init")
    mixer = DeltaNet(32, heads=heads, d_key=rows, generator=generator, **ARMS[arm])
    return SequenceModel(
        task.vocabulary, task.classes, 32, [mixer], channels=[channel(generator)],
        generator=generator,
    )


def count(*settings):
    return sum(p.numel() for p in build(TASKS["all 8"], 0, *settings).parameters())


counts = {arm: count(arm) for arm in ARMS} | {"CS, four rows": count("CS", 4, 4)}
assert [*counts.values()] == [9344, 9344, 10400, 10400, 10400, 10664, 11356]
print(counts)

# %% tags=["nbval-ignore-output"]
audit.model(
    build(TASKS["all 8"], 0, "CS-NEG").double(), TASKS["all 8"], length=TRAIN, parameters=10400
)

# %% [markdown]
# ### The delta rule in chunks
#
# Without routing, a chunk of the recurrence is one triangular system (`lab.linalg.delta_rule`). The
# keys below are nearly one and the same direction, and gates go up to 2: the hard case.


# %%
def like_keys(B, T, N, dtype):
    normal = partial(torch.randn, generator=stream(0, "like keys"), dtype=torch.float64)
    k = torch.nn.functional.normalize(normal(B, 1, N) + 0.1 * normal(B, T, N), dim=-1)
    parts = normal(B, T, N), k, normal(B, T, N), (1 + normal(B, T)).clamp(0, 2), normal(B, N, N)
    return [part.to(dtype).requires_grad_() for part in parts]


def results(form, parts):
    reads, state = form(*parts)
    gradients = torch.autograd.grad(reads.square().mean() + state.square().mean(), parts)
    return [reads, state, *gradients]


pairs = zip(*(results(f, like_keys(2, 512, 64, torch.float64)) for f in (delta_rule, delta_rule_sequential)), strict=True)
chunk_gap = max(((a - b).abs().max() / b.abs().max().clamp(min=1)).item() for a, b in pairs)
print("chunks and loop agree to 1e-10, gradients too:", chunk_gap < 1e-10)

# %% tags=["nbval-ignore-output"]
timed = like_keys(8, 512, 64, torch.float32)
calls = {"chunks": lambda: results(delta_rule, timed), "loop": lambda: results(delta_rule_sequential, timed)}
for call in calls.values():
    call()
timings = take_turns(calls, rounds=5, budget=2, label="forwards and backwards")
speed = timings["loop"].median / timings["chunks"].median
print({name: f"{1e3 * t.median:.1f} ms" for name, t in timings.items()}, f"ratio {speed:.1f}")

# %% [markdown]
# ### The class of models holds a solution
#
# Left-acting transitions $A(x) = \rho(x)^\top$ track products from the right: $A(x_t)\cdots A(x_1) =
# \rho(x_1 \cdots x_t)^\top$. With two rows all eight symmetries are a swap or not, then a reflection
# or not. The same holds further up. In $\mathbb R^{n-1}$ with axes that $S_{n-1}$ permutes, a
# transposition with the last point is a reflection, and every element of $S_n$ is such a
# transposition (or none) after a permutation of the other points: **routing and one reflection give
# all of $S_n$ on $n - 1$ rows**. The table counts the elements of each group that one step can be.


# %%
S5, WREATH = groups.symmetric(5), groups.wreath_product(groups.cyclic(2), 3)
FLIP, TURN = WREATH.index((1, 0, 2, 3, 4, 5)), WREATH.index((2, 3, 4, 5, 0, 1))
CYCLE = S5.index(groups.cycle(5, 0, 1, 2, 3, 4))
LAZY = {
    "Z2 wr Z3": WordProblem(WREATH, [0, FLIP, TURN]),
    "S5": WordProblem(S5, [0, S5.index(groups.cycle(5, 0, 1)), CYCLE]),
}
SPACES = {
    "D4, 2 rows": (TASKS["all 8"], plane(4)), "S5, 4 rows": (WordProblem(S5, range(120)), simplex(5)),
    "Z2 wr Z3, 3 rows": (WordProblem(WREATH, range(24)), signs(3)),
}


# %%
def within_reach(matrix):
    """Whether one step of NEG, of CS and of CS-NEG can be this orthogonal matrix."""
    permutes = bool(((matrix.abs() < 1e-9) | ((matrix - 1).abs() < 1e-9)).all())
    symmetric = matrix.allclose(matrix.T)
    reflects = symmetric and bool((torch.linalg.eigvalsh(matrix) < 0).sum() <= 1)
    try:
        routed_reflection(matrix)
    except ValueError:
        return [reflects, permutes, False]
    return [reflects, permutes, True]


one_step = {}
for name, (task, basis) in SPACES.items():
    each = torch.tensor([within_reach(g) for g in representation(task, basis)])
    one_step[name] = [len(each), *each.sum(0).tolist()]
pd.DataFrame(one_step, ["elements", "NEG", "CS", "CS-NEG"]).T

# %%
by_hand = {}
for name, (task, basis) in SPACES.items():
    solved = task if "Z2" not in name else LAZY["Z2 wr Z3"]
    solver = word_problem_solver(solved, basis)
    by_hand[name] = score(solver, solved, length=1000, samples=50, seed=0).by_step.min().item()
print("right at each of 1,000 steps, float64:", by_hand)

# %% [markdown]
# ## As reported
#
# The alphabet $\{r, s\}$, 250 words of every length from 1 to 20, four fifths of them for training,
# heads of four rows, at most 1,000 updates, scored at length 20. All words of up to 7 letters are
# among those stored, many times over.


# %%
class Trained(NamedTuple):
    """The models of one arm, every seed one, and what they were trained on."""

    task: object
    models: list
    losses: torch.Tensor


class StoredWords:
    """A fixed set of words of every length."""

    def __init__(self, task, size, generator):
        self.loss = task.loss
        self.sets = {T: Stored(task, size, T, generator) for T in range(1, TRAIN + 1)}

    def sample(self, batch, length, generator):
        return self.sets[length].sample(batch, length, generator)


def longer(steps, shortest):
    """Words grow from the shortest to all of TRAIN over the first half of the updates."""
    return lambda step: min(TRAIN, shortest + (TRAIN - shortest) * 2 * step // steps)


# %%
def train(task, arms, *, steps, data=None, shortest=2, **sizes):
    trained = {}
    for arm in arms:
        models = [build(task, seed, arm, **sizes) for seed in p.seeds]
        histories = fit_together(
            models, data or [task] * len(models), seeds=p.seeds, steps=steps, batch=p.batch,
            length=longer(steps, shortest), lr=3e-3, schedule="warmup-cosine", clip=1.0,
            optimizer=partial(torch.optim.AdamW, weight_decay=0.01, fused=True), decay="all",
            device="cpu", label=arm,
        )
        trained[arm] = Trained(task, models, torch.stack([h.loss for h in histories]))
    return trained


def by_position(arm, length):
    """Float["seeds T"]: accuracy at every position of fresh words."""
    pairs = zip(arm.models, p.seeds, strict=True)
    scored = [score(m, arm.task, length=length, samples=p.samples, seed=s) for m, s in pairs]
    return torch.stack([each.by_step for each in scored])


def by_length(trained):
    """Float["seeds lengths"] by arm: mean over positions."""
    return {
        name: torch.stack([by_position(arm, length).mean(1) for length in LENGTHS], dim=1)
        for name, arm in trained.items()
    }


# %% tags=["nbval-ignore-output"]
few_words = [StoredWords(TASKS["{r, s}"], 200, stream(s, "stored words")) for s in p.seeds]
reported = train(
    TASKS["{r, s}"], FOUR, steps=p.reported_steps, data=few_words, shortest=1, heads=4, rows=4
)
reported_scores = by_length(reported)


# %% tags=["nbval-ignore-output"]
def table(scores):
    """Median, lowest and highest seed of every arm and length, in per cent."""
    rows = {
        arm: {f"length {n}": f"{100 * v.median():.1f}  ({100 * v.min():.1f} to {100 * v.max():.1f})"
              for n, v in zip(LENGTHS, values.unbind(1), strict=True)}
        for arm, values in scores.items()
    }
    return pd.DataFrame(rows).T


LEVELS = {"{r, s}": {"knows parities": 0.5, "chance": 0.25}, "all 8": {"knows parities": 0.5, "chance": 0.125}}
display(table(reported_scores))
figures.accuracy(
    reported_scores, x=LENGTHS, x_title="length of the word", levels=LEVELS["{r, s}"],
    title="As reported: {r, s}, four rows, trained to length 20",
)

# %% [markdown]
# At length 20 the four arms do not separate as expected, and at longer words all of them lose: few
# words, seen often, and a state that may count. NEG can hold the net number of turns in one scalar
# ($s$ negates it, $r$ adds a little), which an MLP reads modulo 4 as long as it stays in the range
# that training showed. And CS with four rows has the four corners of the square. So the answer says
# nothing about whether both tricks are needed.
#
# ## Corrected
#
# Two rows, where routing has only the swap and cannot make an element of order 4 (three rows would not
# help: permutations of three points have no such element, and several such heads give a power of
# $S_3$, whose subgroups of order $2^k$ all commute, as $D_4$ does not). All eight letters, fresh words,
# length 20 in training, tests up to 160. DeltaProduct, with two reflections a step, has all of $O(2)$;
# CS with four rows has the corners. One more arm repairs what the growth of the states below shows:
# it routes by whole permutations, that with the largest sum of logits, and no transition grows its state;
# writes do, up to 11-fold.

# %% tags=["nbval-ignore-output"]
corrected = train(TASKS["all 8"], list(ARMS), steps=p.steps)
wide = train(TASKS["all 8"], ["CS"], steps=p.steps, heads=4, rows=4)
corrected["CS, four rows"] = wide["CS"]
mirrors = train(TASKS["{1, s, sr}"], ["Standard", "NEG"], steps=p.steps)
lazy = train(TASKS["{1, r, s}"], ["NEG", "CS-NEG"], steps=p.steps)
scores, mirror_scores, lazy_scores = by_length(corrected), by_length(mirrors), by_length(lazy)
others = {f"{arm}, {{1, s, sr}}": v for arm, v in mirror_scores.items()}
others |= {f"{arm}, {{1, r, s}}": v for arm, v in lazy_scores.items()}
display(table(scores), table(others))

# %% tags=["nbval-ignore-output"]
curves = {arm: trained.losses for arm, trained in corrected.items()}
display(figures.losses(curves, title="All 8 letters: training loss, words growing to length 20"))
display(
    figures.accuracy(
        scores, x=LENGTHS, x_title="length of the word", levels=LEVELS["all 8"],
        title="All 8 letters, trained to length 20: mean accuracy",
    )
)
positions = {arm: by_position(trained, 160) for arm, trained in corrected.items()}
display(
    figures.accuracy(positions, levels=LEVELS["all 8"], title="All 8 letters: accuracy by position")
)
figures.accuracy(
    others, x=LENGTHS, x_title="length of the word", levels={"chance": 0.125},
    title="Mirrors {1, s, sr}: reflections alone suffice. {1, r, s}: they do not",
)

# %% tags=["nbval-ignore-output"]
from lab.records import committed  # the full run, for the short one at the defaults

committed.figure("001", "All 8 letters, trained to length 20: mean accuracy")

# %% [markdown]
# ### What the arms that fail know
#
# Targets against answers at length 160, elements sorted by their coset of the centre $\{1, r^2\}$.
# A model that knows the parities and no more fills blocks of two by two.


# %% tags=["nbval-ignore-output"]
def confusion(arm, sorted_by=(0, 2, 1, 3, 4, 6, 5, 7)):
    model = corrected[arm].models[0]
    inputs, targets, _ = TASKS["all 8"].sample(p.samples, 160, stream(0, "confusion"))
    with torch.no_grad():
        answers = model(inputs).argmax(-1)
    counted = torch.bincount((8 * targets + answers).flatten(), minlength=64).view(8, 8)
    order = list(sorted_by)
    share = (counted / counted.sum(1, keepdim=True))[order][:, order]
    names = [NAMES[i] for i in order]
    return share, names


def draw_confusion(arm):
    share, names = confusion(arm)
    figure = go.Figure(go.Heatmap(z=share, x=names, y=names, zmin=0, zmax=1, colorscale="Blues"))
    figure.update_layout(title=f"{arm}: answers at length 160", height=440)
    return figure.update_xaxes(title="answer").update_yaxes(title="target", autorange="reversed")


Panel(draw_confusion, arm=Choice("arm", ["NEG", *(arm for arm in corrected if arm != "NEG")]))

# %% [markdown]
# ## What the transitions became
#
# The eigenvalues of every head's transition for the letter $r$, all seeds. A quarter turn has $\pm i$;
# without routing the transition is symmetric, and its eigenvalues are real; in Standard none is negative.


# %%
@torch.no_grad()
def maps(model):
    """A ["V H N N"] of every token and head."""
    return model.mixers[0].maps(model.mixer_norms[0](model.embedding))[0]


@torch.no_grad()
def spectra(arm, token):
    return torch.cat(
        [torch.linalg.eigvals(maps(m)[token]).flatten() for m in corrected[arm].models]
    )


imaginary = {arm: spectra(arm, R).imag.abs().max().item() for arm in FOUR}
lowest = spectra("Standard", R).real.min().item()
assert imaginary["NEG"] < 1e-3, "a symmetric matrix has complex eigenvalues"
assert lowest > -1e-3, "a standard factor has a negative eigenvalue"
print("NEG real, Standard not negative:", imaginary["NEG"] < 1e-3, lowest > -1e-3)


# %% tags=["nbval-ignore-output"]
def draw_spectra(letter):
    token = NAMES.index(letter)
    found = {arm: spectra(arm, token) for arm in [*FOUR, STABLE, "DeltaProduct"]}
    return figures.transitions(
        found, title=f"Transitions for the letter {letter}, all heads and seeds"
    )


panels.eigenvalues(
    draw=draw_spectra, letter=Choice("letter", ["r", *(name for name in NAMES if name != "r")])
)

# %% [markdown]
# **Do they multiply as the group does?** For every head, the largest $|A(y) A(x) - A(xy)|$ over all
# pairs of letters, and how far the nearest letter beside 1 is from the identity. A head with a small
# first and a large second number is a faithful representation of $D_4$. One such head is a solution, but
# not enough: every CS-NEG seed has one, and the worst has 86 % at length 160; corners are shared by several
# heads.


# %%
def law(A):
    """Largest residual of the group law, and least distance of a letter from 1, for every head."""
    products = A[None, :] @ A[:, None]  # [x, y]: A(y) A(x)
    residual = torch.linalg.matrix_norm(products - A[D4.table], ord=2).amax((0, 1))
    eye = torch.eye(A.shape[-1])
    return residual, torch.linalg.matrix_norm(A[1:] - eye, ord=2).amin(0)


rows = []
for arm in corrected:
    for seed, model in zip(p.seeds, corrected[arm].models, strict=True):
        residual, apart = law(maps(model))
        rows.append({"arm": arm, "seed": seed, "faithful heads": int(((residual < 0.2) & (apart > 0.5)).sum()),
                     "least residual": residual[apart > 0.5].tolist()})
laws = pd.DataFrame(rows)
laws["least residual"] = [min(found, default=float("nan")) for found in laws["least residual"]]

# %% tags=["nbval-ignore-output"]
laws.pivot_table(index="arm", columns="seed", sort=False).round(3)

# %% [markdown]
# **Gates, routings, norms, and the form as first printed.** The proposal had $P_t S_{t-1}$ in place of
# $S_{t-1}$ outside the correction only, which makes the transition $P - \beta k k^\top$. With a swap
# and $k = (1, -1)/\sqrt 2$ its radius is $1 + \beta$. Below are the radii of both forms, for the
# routings, keys and gates that were learned. About half of the routings that CS-NEG learned column by
# column are no permutations, and with a reflection behind them some heads have a radius above 1, and states
# that grow with the length of the word. A radius above 1 is not enough for that: without reflections it
# is 1.03 to 1.21, and states stay. In the repaired arm all are permutations, and no radius is.


# %%
@torch.no_grad()
def anatomy(model, length=160):
    """Numbers about one model: its gates, its routings, its norms over a long word."""
    mixer, table = model.mixers[0], model.mixer_norms[0](model.embedding)
    P, (k, _, beta) = mixer.routes(table), mixer.corrections(table)
    k, beta = k[..., 0, :, None], beta[..., 0, :, None]
    inputs, *_ = TASKS["all 8"].sample(64, length, stream(0, "norms"))
    norms = model.states(inputs).flatten(3).norm(dim=-1).amax((0, 2))
    radius = [
        torch.linalg.eigvals(A).abs().amax().item() for A in (maps(model), P - beta * k @ k.mT)
    ]
    end = mixer.largest_gate
    return {"gates at 0": (beta == 0).float().mean().item(), "at the largest": (beta == end).float().mean().item(),
            "permutations": (P.sum(-1) == 1).all(-1).float().mean().item(),
            "|S|, t = 1": norms[0].item(), "|S|, t = 160": norms[-1].item(), "largest |S|": norms.max().item(),
            "radius": radius[0], "radius, as printed": radius[1]}


parts = pd.DataFrame(
    [{"arm": arm, **anatomy(m)} for arm in [*FOUR, STABLE] for m in corrected[arm].models]
)
assert parts[parts.arm == STABLE].radius.max() < 1 + 1e-4, "a permutation and a reflection grow"
assert parts[parts.arm == STABLE].permutations.min() == 1

# %% tags=["nbval-ignore-output"]
swap, key = torch.eye(2).flip(0), torch.tensor([[1.0], [-1.0]]) / 2**0.5
printed = torch.linalg.eigvals(swap - 2 * key @ key.mT).abs().max().item()
print(f"as printed, swap and reflection: radius {printed:.3f}, in 20 steps {printed**20:.2g}")
ranges = parts.groupby("arm", sort=False).agg(lambda v: f"{v.min():.3g} to {v.max():.3g}")
display(ranges.T)


def draw_gates(arm):
    table = [
        m.mixers[0].corrections(m.mixer_norms[0](m.embedding))[2] for m in corrected[arm].models
    ]
    gates = torch.stack(table).detach().transpose(0, 1)
    return figures.strips(dict(zip(NAMES, gates, strict=True)), title=f"{arm}: gates of all heads", y_title="β", log=False)


Panel(draw_gates, arm=Choice("arm", ["CS-NEG", STABLE, "NEG", "CS", "Standard"]))

# %% [markdown]
# ## Panels: states and orbits
#
# What one head reads along a word, in its plane, coloured by the element of the group. Eight separate
# clusters are a solution in a single head; heads that see fewer elements apart share the work. Move the
# slider to follow the word.


# %% tags=["nbval-ignore-output"]
def draw_orbit(arm, head, t):
    model, (inputs, targets, _) = (
        corrected[arm].models[0],
        TASKS["all 8"].sample(64, 160, stream(0, "orbit")),
    )
    with torch.no_grad():
        S = model.states(inputs)[:, :, int(head)].flatten(2)[..., :2]
    figure, found = go.Figure(), looks.of(NAMES)
    for element, name in enumerate(NAMES):
        x, y = S[:, :40][targets[:, :40] == element].T
        marker = found[name].points(4, opacity=0.5)
        figure.add_scatter(x=x, y=y, mode="markers", name=name, marker=marker)
    path = S[0, : int(t)]
    figure.add_scatter(
        x=path[-3:, 0],
        y=path[-3:, 1],
        mode="lines+markers",
        name="last steps",
        line={"color": figures.GREY},
    )
    title = f"{arm}, head {int(head)}: first row of S, after {int(t)} letters"
    figure.update_xaxes(title="S[0, 0]").update_yaxes(title="S[0, 1]")
    return figure.update_layout(title=title, height=480)


Panel(
    draw_orbit, arm=Choice("arm", [STABLE, *FOUR, "DeltaProduct"]),
    head=Slider("head", 0, 0, 7, 1), t=Slider("letters", 20, 1, 160, 1, play=True),
)


# %% tags=["nbval-ignore-output"]
panels.states(
    {arm: corrected[arm].models for arm in [STABLE, *FOUR]},
    panels.examples(TASKS["all 8"], length=80), title="entries of the states of the first heads",
)

# %% [markdown]
# ## Further: a wreath product and $S_5$
#
# $\mathbb Z_2 \wr \mathbb Z_3$ turns three places and flips signs: 24 elements, three rows with signs
# and six without. $S_5$ has 120 elements and is not solvable: four rows with a reflection, five
# without. Letters are a pause, a flip or swap, and the cycle of length 3 or 5. The weights by hand
# above prove that CS-NEG can; here is what training finds in the same short time.

# %% tags=["nbval-ignore-output"]
wreath = train(LAZY["Z2 wr Z3"], ["CS", "CS-NEG", STABLE], steps=p.reach_steps, heads=8, rows=3)
five = train(LAZY["S5"], [STABLE], steps=p.reach_steps, heads=4, rows=4)
further = {f"Z2 wr Z3, {arm}, 3 rows": trained for arm, trained in wreath.items()}
further |= {f"S5, {arm}, 4 rows": trained for arm, trained in five.items()}
further_scores = by_length(further)
display(table(further_scores))
figures.accuracy(
    further_scores,
    x=LENGTHS,
    x_title="length of the word",
    title="Larger groups, trained to length 20",
)

# %% tags=["nbval-ignore-output"]
committed.figure("001", "Larger groups, trained to length 20")

# %% [markdown]
# ## Criteria and verdict
#
# S1 and S2, E1 to E3, K1, K2 and P1 are those of the proposal, at length 20 (S1 takes the worst seed,
# S2 and E1 the best one of the ablation, E2 and E3 the median). K1 is the difference of medians. K2 has
# two parts: the largest growth of a state over 160 steps, unstable above 100; and the share of
# CS-NEG seeds under 90 % after the last update, not converged above a half. P1 is the better ablation.
# They are asked of the reported setting; of two rows routed by columns, where the kill criteria
# decide; and of two rows routed by permutations, where all do, but for S2, which hangs on the number of
# updates at length 20 and which C2 replaces. C1 to C4 are those of the repair; C2 takes the best seed, the others the median.
#
# The arm routed by permutations was added after a first full run, in which the column form passed C1
# but failed K2: its states grew more than a hundredfold. So the form that was proposed is abandoned,
# whatever it scores; the arm `corrected` says whether its repair should be.


# %%
def growth(trained, length=160):
    inputs, *_ = trained.task.sample(64, length, stream(0, "norms"))
    with torch.no_grad():
        norms = [m.states(inputs).flatten(2).norm(dim=-1) for m in trained.models]
    return max((n.amax(1) / n[:, 0]).max().item() for n in norms)


# %%
def proposal(arm, of, trained, both="CS-NEG", decides=True):
    """The criteria of the proposal at length 20; `both` is the arm that has both tricks."""
    value = {name: of[name][:, 0] for name in (*FOUR[:3], both)}
    success = "success" if decides else "context"
    s2 = "success" if arm == "reported" else "context"
    best = max(value[name].median() for name in ("NEG", "CS"))
    lead, grown = value[both].median() - best, growth(trained[both])
    below = (value[both] < 0.9).float().mean()
    check, context = partial(evidence.check, arm=arm), {"arm": arm, "kind": "context"}
    check("S1", value[both].min(), ">", 0.9, metric=both, spread=spread(value[both]), kind=success)
    for name in ("NEG", "CS"):
        check("S2", value[name].max(), "<", 0.75, metric=name, kind=s2)
    evidence.check("E1", value["Standard"].max(), "<", 0.5, metric="Standard", **context)
    evidence.check("E2", value["NEG"].median(), "in", (0.6, 0.7), metric="NEG", **context)
    evidence.check("E3", value["CS"].median(), "in", (0.6, 0.7), metric="CS", **context)
    check("K1", lead, "<=", 0, kind="kill", metric="lead over the better trick")
    check("K2", grown, ">", 100, kind="kill", metric="growth of the state, 160 steps")
    check("K2", below, ">", 0.5, kind="kill", metric="share of seeds not converged")
    evidence.check("P1", best, ">", 0.9, metric="the better trick alone", **context)


# %%
proposal("reported", reported_scores, reported)
proposal("columns", scores, corrected, decides=False)
proposal("corrected", scores, corrected, both=STABLE)

# %%
check = evidence.check
far = {arm: values[:, 2] for arm, values in scores.items()}
for arm, both in (("columns", "CS-NEG"), ("corrected", STABLE)):
    check("C1", far[both].median(), ">", 0.9, arm=arm, metric="length 80", spread=spread(far[both]))
for arm in FOUR[:3]:
    check("C2", far[arm].max(), "<", 0.75, metric=f"{arm}, length 80", spread=spread(far[arm]))
short, mirror = scores["CS, four rows"][:, 0], mirror_scores["NEG"][:, 2]
check("C3", short.median(), ">", 0.9, metric="CS with four rows, length 20", spread=spread(short))
check("C4", mirror.median(), ">", 0.9, metric="NEG on {1, s, sr}, length 80", spread=spread(mirror))
for name, value in by_hand.items():
    check("H", value, ">=", 1.0, arm="by hand", metric=f"{name}, worst of 1,000 steps")
check("D", chunk_gap, "<", 1e-10, arm="chunks", metric="gap to the loop, like keys, float64")
check("D", speed, ">=", 5, arm="chunks", metric="loop / chunks, (8, 512, 64), both ways")
further_scores |= {"D4, DeltaProduct, 2 rows": scores["DeltaProduct"]}
further_scores |= {f"D4 {{1, r, s}}, {arm}, 2 rows": v for arm, v in lazy_scores.items()}
for arm, values in further_scores.items():
    for at in (0, 2):
        _ = check("R", values[:, at].median(), ">", 0.9, arm="further", kind="context",
              metric=f"{arm}, length {LENGTHS[at]}", spread=spread(values[:, at]))

# %%
value = evidence.value
evidence.summary(
    question="Do reflections and routing together track a group that neither tracks alone?",
    finding=(
        f"At four times the training length, reflections with permutation routing are right at "
        f"{100 * value('C1', 'length 80'):.0f} % of steps (median), the better of the two alone at "
        f"{100 * max(value('C2', f'{arm}, length 80') for arm in ('NEG', 'CS')):.0f} %; column routing "
        f"grows a state {value('K2', 'growth of the state, 160 steps', arm='columns'):,.0f}-fold."
    ),
    settles="Decide on a spectral radius above 1 in place of growth, on new seeds, with DeltaProduct as a rival at equal updates.",
    figure="All 8 letters, trained to length 20: mean accuracy",
    tags=["state tracking", "delta rule"], impact=4, cost_h=3,
)

# %% tags=["nbval-ignore-output"]
evidence

# %% tags=["nbval-ignore-output"]
committed.criteria(evidence)

# %% [markdown]
# Statuses that hang on a time, and the kill criteria, which small runs decide at chance level, are
# left out here: another machine may have others.

# %%
ELSEWHERE = ("K1 ", "K2 ", "D (chunks, loop", "verdict")
print("\n".join(s for s in evidence.statuses().splitlines() if not s.startswith(ELSEWHERE)))

# %% [markdown]
# ## What this does not show, and what next
#
# $D_4$ is solvable, and permutations of its corners do as well as signs up to twice the training length
# (median; after 160 tokens they have 80 %, CS-NEG 94): what reflections add is a
# smaller state, not a larger class of groups; two reflections per token do as well here. That one
# reflection after a routing gives all of $S_n$ on $n - 1$ rows is shown with weights set by hand;
# training finds such weights for $D_4$ and $\mathbb Z_2 \wr \mathbb Z_3$, for $S_5$ not in this time.
# The number of updates is small: with more, NEG comes close at length 20, by counting, but not at 80.
# Next: the least number of rows at which each arm extrapolates, for $Q_8$, $B_3$ and $S_5$.
