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
# # 004 · Can an oscillatory state-space model continue an oscillation?
#
# **Idea.** A state-space model remembers by the eigenvalues of its state matrix. Take these from
# damped harmonic oscillators, $\lambda = -\zeta\omega \pm i\omega\sqrt{1-\zeta^2}$, add a low-rank
# term $PQ^\top$, and let the layer continue damped oscillations to four times its training length.
#
# **Reported before.** A total failure of unknown cause: over 50 epochs the loss stayed at 0.854 in
# training and 0.759 in the test. Complex arithmetic was suspected. Decision: DEBUG.
#
# **What this notebook shows.** *The answer is yes, and the cause was the task.* As first posed, the
# input was the same for every sequence, so it said nothing about the target; 0.854 and 0.759 are the
# lowest losses that any model can reach there. Once the input says which oscillator starts, and how,
# the same layer learns to continue it in seconds. The seeds below also served to choose the settings,
# so the numbers are better than those of untouched seeds would be.

# %% tags=["parameters"]
experiment: str = "004"  # the notebook these parameters belong to
seeds: list[int] = [0, 1]  # one model and one set of oscillators each, in [0, 2147483647]
reported_steps: int = (
    250  # updates of the reported model (12,500 are its 50 epochs), in [1, 1000000]
)
ladder_steps: int = 100  # updates of every row of the debugging ladder, in [1, 1000000]
corrected_steps: int = 400  # updates of the corrected models, in [10, 1000000]
identified_steps: int = 1000  # updates of the identified models, in [10, 1000000]
samples: int = 2000  # sequences that a score is the mean over, in [100, 1000000]
device: str = "cpu"  # where to train, one of auto, cpu, cuda

# %%
import lab

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %% jupyter={"source_hidden": true}
import math
from functools import partial

import pandas as pd
import torch
from IPython.display import display
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import pad

from lab import audit
from lab.benchmark.timing import take_turns
from lab.evidence import shown
from lab.experiment import MEDIAN, NUMBER, Arm, Experiment, Planned
from lab.linalg import causal_convolution, kernel_resolvent, oscillator_parameters
from lab.mixers import OscDPLR, unroll
from lab.plots import figures, panels
from lab.plots.panels import Choice, Slider
from lab.scan import matrix_scan_associative, matrix_scan_sequential
from lab.seeding import stream
from lab.tasks import AnonymousOscillations, KnownOscillators, Stored, oscillation
from lab.tasks.oscillation import OMEGA, ZETA
from lab.train import evaluate

# %% jupyter={"source_hidden": true}
torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way
TRAIN, TEST = 128, 512  # steps
SETTINGS = ((" as posed", "proposal"), ("", "corrected"))
ORIGINAL = (  # the proposal's own criteria: id, what is measured, limit, kind
    ("S1", "train MSE, 128 steps", "<", 1e-3, "success"),
    ("S2", "test MSE, 512 steps", "<", 1e-2, "success"),
    ("S3", "learned ω, the nearest to a limit, rad/s", "in", (1e-3, 1.0), "success"),
    ("S4", "standard deviation of learned ω, rad/s", ">", 1e-3, "success"),
    ("F1", "train MSE, 128 steps", ">", 1e-1, "failure"),
    ("F2", "test MSE / train MSE", ">", 10.0, "failure"),
)
ARMS = ("K = 1, real", "K = 1, complex", "K = 8, real", "K = 8, complex")
MINIMAL = ("K = 1", "K = 4", "K = 8")
LENGTHS = ("128 steps", "512 steps")
REPORTED = {  # by the authors of the first run
    "train MSE": 0.8544, "test MSE": 0.7593, "parameters": 129,
    "omega mean": 0.0499, "omega std": 0.0262, "omega min": 0.0117, "omega max": 0.0956,
    "zeta mean": 0.509, "zeta std": 0.135,
}

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
exp = Experiment(
    "004", title="Oscillatory DPLR state-space model", parameters=p, reported=REPORTED,
    question="Can an oscillatory state-space model continue an oscillation?",
    criteria=[
        *(Planned(f"{id_}{setting}", measured, op, limit, kind=kind, arm=arm, low_is_good=op == "<")
          for setting, arm in SETTINGS for id_, measured, op, limit, kind in ORIGINAL),
        Planned("C1 train", "train MSE, {part}", "<", 1e-6, MEDIAN, parts=ARMS, low_is_good=True),
        Planned("C1 test", "test MSE, {part}", "<", 1e-4, MEDIAN, parts=ARMS, low_is_good=True),
        Planned("C2", "worst relative error of ω and ζ, {part}", "<", 0.01, arm="identified",
                parts=MINIMAL, low_is_good=True),
        Planned("C1+", "test MSE, {part}", "<", 1e-8, MEDIAN, arm="identified", parts=MINIMAL,
                low_is_good=True),
        Planned("C3", "gap between the three forms, float64", "<", 1e-10, NUMBER, kind="control"),
        Planned("C4", "measured MSE / floor, {part}", "in", (0.97, 1.03), arm="diagnosis",
                parts=LENGTHS),
    ],
)
exp

# %% [markdown]
# **How to read the table.** MSE is the mean squared error; $K$ is the number of oscillators that a
# model has to keep apart; "real" and "complex" say what $B$ and $C$ are. S1 to S4, F1 and F2 are the
# criteria of the proposal. They are asked twice: of the task *as posed*, where they fall as they fell
# before and decide nothing, and of the corrected task, where in every seed the worst of four models
# counts. C1 to C4 belong to the correction. C1 asks for a small error, C2 for the true frequencies
# and dampings, C4 whether the diagnosis holds; C3 checks the code. C1+ asks of the smallest models
# more than C1 does: they see 128 steps in training, never 512.
#
# Two of the criteria say less than they seem to. An untrained model meets S3 and S4. And F2 is the
# ratio of two errors that are both close to zero once a task is solved, which the proposal could not
# foresee: where every training error is below 1e-5 it is not judged, and S2 decides instead.
#
# What would have changed our mind: a loss clearly below the floor on the task as posed, or a
# corrected task that is still not learned.
#
# ## Is the task what we think it is?
#
# As first posed, every sequence is a new oscillation with its own frequency $\omega$, damping
# $\zeta$, amplitude $A$ and phase $\varphi$, sampled every $\Delta = 0.01$ s. The input is a unit
# impulse, and it is the same impulse for all of them.

# %%
anonymous = AnonymousOscillations()
report = audit.task(anonymous, length=TRAIN)
print(report["test inputs also in training"], "of test inputs seen")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(report, audit.task(anonymous, length=TEST))

# %% [markdown]
# There is one input, and there are 8,000 different targets. The best that a model can do is predict
# their mean, which is zero, because all phases are equally likely. Its loss is then the variance of
# the targets, $\tfrac12 E[A^2]\,E[e^{-2\zeta\omega t}]$. We call it the *floor*. The expectation over
# $\omega$ and $\zeta$ has a closed form, a sum of exponential integrals
# (`lab.tasks.oscillation.mean_decay`).
#
# **The reported losses are this floor**, within the sampling error of a mean over 1,000 sequences,
# which the last column gives.

# %% tags=["nbval-ignore-output"]
rows = {}
for name, length in (("train MSE", TRAIN), ("test MSE", TEST)):
    floor = anonymous.floor(length)
    targets = anonymous.sample(8000, length, stream(0, "sampling error")).targets
    error = targets.square().mean((1, 2)).std().item() / math.sqrt(1000)
    rows[name] = (REPORTED[name], floor, REPORTED[name] / floor, error / floor)
columns = ["reported", "floor, closed form", "ratio", "standard error of 1,000"]
pd.DataFrame(rows, index=columns).T.round(4)

# %% [markdown]
# Besides, nothing oscillates. Move the sliders: at $\Delta = 0.01$, no $\omega$ and $\zeta$ in the
# range of the task turn the phase by more than 0.128 rad in 128 steps, and the target can hardly be
# told from a straight line (dashed). At $\Delta = 1$ the same oscillators do turn.

# %%
largest_turn = OMEGA[1] * math.sqrt(1 - ZETA[0] ** 2) * TRAIN * anonymous.dt
assert largest_turn < 0.128, "a phase turns further than the text says"
print("largest turn in 128 steps is below 0.128 rad:", largest_turn < 0.128)


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def draw_target(omega, zeta, amplitude, phase, dt):
    values = (torch.tensor([v], dtype=torch.float64) for v in (omega, zeta, amplitude, phase))
    y = oscillation(*values, dt=dt, length=TRAIN)[0]
    time = torch.stack([torch.ones(TRAIN), torch.arange(TRAIN)], dim=1).double()
    straight = time @ torch.linalg.lstsq(time, y[:, None]).solution
    turned = omega * math.sqrt(1 - zeta**2) * (TRAIN - 1) * dt
    return figures.lines(
        {"target": y, "straight line": straight[:, 0]}, dashed=["straight line"],
        title=f"The phase turns by {turned:.3f} rad in {TRAIN} steps of {dt:g} s",
        x_title="step", y_title="y",
    )


panels.targets(
    draw=draw_target, omega=Slider("ω, rad/s", OMEGA[1], *OMEGA, 0.001),
    zeta=Slider("ζ", ZETA[0], *ZETA, 0.01), amplitude=Slider("A", 1.0, 0.5, 2.0, 0.05),
    phase=Slider("φ, rad", 0.0, 0.0, 6.28, 0.02), dt=Slider("Δ, s", 0.01, 0.01, 1.0, 0.01),
)

# %% [markdown]
# ## Is the model what we think it is?
#
# It has 16 oscillators, a low-rank term of rank 2, and real $B$ and $C$: 129 real numbers, as
# reported. The audit finds that its output never depends on a later input, that its step form and
# its convolution agree, and that every parameter has a gradient. The complex arithmetic is right.


# %% tags=["nbval-ignore-output"]
def reported_model(_, seed, **changes):
    settings = {"d_state": 16, "rank": 2, "dt": anonymous.dt, **changes}
    return OscDPLR(1, generator=stream(seed, "init"), **settings)


audit.model(reported_model(None, seed=0).double(), AnonymousOscillations(dtype=torch.float64),
            length=TRAIN, parameters=REPORTED["parameters"])

# %% [markdown]
# The low-rank term can make a mode grow instead of decay: it can push eigenvalues of $A$ out of the
# left half plane, and those of one time step, $A_d$, out of the unit circle. At $\Delta = 0.01$ nobody
# notices. At $\Delta = 1$ the growth is a hundred times faster, and over 512 steps it multiplies a
# state many times over.
#
# The *dissipative* form, $A = \mathrm{diag}(\lambda) - PP^\top + (PQ^\top - QP^\top)$, has the same
# parameters and cannot grow (the proof is with `lab.linalg.dissipative`). Over 200 initial draws:


# %%
@torch.no_grad()
def largest_eigenvalues(form, draws=200):
    kind = partial(OscDPLR, 1, form=form, dtype=torch.float64)
    steps = [kind(generator=stream(i, "init")).discretised()[0] for i in range(draws)]
    return torch.stack([torch.linalg.eigvals(A_d).abs().max() for A_d in steps])


growth = {form: largest_eigenvalues(form) for form in ("plain", "dissipative")}
unstable = {form: int((sizes > 1).sum()) for form, sizes in growth.items()}
assert unstable["dissipative"] == 0, "the dissipative form has an eigenvalue outside the circle"
print("plain form: most draws are unstable:", unstable["plain"] > 100)
print("dissipative form, unstable draws:", unstable["dissipative"])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
print(f"growth in {TEST} steps, median plain draw: {growth['plain'].median().item() ** TEST:.3g}")
figures.strips(
    growth, title="Largest |eigenvalue| of A_d at the start, Δ = 1", log=False,
    limits={"unit circle": 1.0}, y_title="|eigenvalue|",
)

# %% [markdown]
# ## As reported
#
# This is the original task with the original budget: 8,000 training sequences of 128 steps, AdamW at
# a step size of 1e-3, batches of 32, and 12,500 updates, which are the 50 epochs (here, sequences are
# drawn with replacement). The score is the error over 512 steps. Every seed is a run of its own.


# %%
def mse(model, task, **how):
    """Mean squared error on fresh sequences."""
    return evaluate(model, task, **how)["loss"]


sets = [Stored(anonymous, 8000, TRAIN, stream(seed, "training set")) for seed in p.seeds]
posed = exp.train({"as posed": Arm(reported_model, data=sets)}, anonymous, {
    "steps": p.reported_steps, "batch": 32, "length": TRAIN, "lr": 1e-3, "decay": "all",
    "optimizer": torch.optim.AdamW, "device": p.device,
    "watch": {"log omega": lambda model: model.log_omega.clone()},
})
posed_mse = {
    n: posed.scores(length=n, samples=10 * p.samples, score=mse)["as posed"] for n in (TRAIN, TEST)
}
of_floor = {f"{n} steps": error / anonymous.floor(n) for n, error in posed_mse.items()}
exp.judge("C4", of_floor)


# %% [markdown]
# The proposal's criteria, for this setting now and for the corrected one further down:

# %%
def judge_original(setting, train, test, omega):
    """From errors ["arms seeds"] and learned ω ["arms seeds modes"]; the worst arm counts."""
    every = omega.transpose(0, 1).flatten(1)
    nearest = torch.minimum(every - 1e-3, 1 - every).argmin(1, keepdim=True)
    exp.judge(f"S1{setting}", train.amax(0))
    exp.judge(f"S2{setting}", test.amax(0))
    exp.judge(f"S3{setting}", every.gather(1, nearest)[:, 0])
    exp.judge(f"S4{setting}", omega.std(-1).amin(0))
    exp.judge(f"F1{setting}", train.amax(0))
    if train.max() < 1e-5:
        exp.not_run(f"F2{setting}", "all training errors are below 1e-5: S2 judges")
    else:
        exp.judge(f"F2{setting}", (test / train).amax(0))


posed_omega = torch.stack([model.log_omega.detach().exp() for model in posed["as posed"].models])
judge_original(" as posed", *(error[None] for error in posed_mse.values()), posed_omega[None])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
posed.losses(
    floors={"floor": anonymous.floor(TRAIN)},
    title="As posed, the model is at its floor from the start",
)


# %% [markdown]
# The earlier report also gave statistics of the frequencies and dampings that had been "learned".
# The last two columns say where 95 % of *untrained* draws of 16 oscillators lie, and every reported
# statistic lies there as well. So nothing shows that anything was learned.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
@torch.no_grad()
def statistics(models):
    """The summaries that were reported, Float["models"] each."""
    omega = torch.stack([model.log_omega.exp() for model in models])
    zeta = torch.stack([model.logit_zeta.sigmoid() for model in models])
    return {
        "omega mean": omega.mean(1), "omega std": omega.std(1), "omega min": omega.amin(1),
        "omega max": omega.amax(1), "zeta mean": zeta.mean(1), "zeta std": zeta.std(1),
    }


untrained = statistics([reported_model(None, seed) for seed in range(1000)])
ours = dict(zip(("train MSE", "test MSE"), posed_mse.values(), strict=True))
rows = {}
for name, found in {**ours, **statistics(posed["as posed"].models)}.items():
    bounds = torch.tensor([0.025, 0.975])
    between = untrained[name].quantile(bounds).tolist() if name in untrained else [math.nan] * 2
    rows[name] = [REPORTED[name], *(f(found).item() for f in (torch.mean, torch.min, torch.max)), *between]
columns = ["reported", "ours, mean", "lowest seed", "highest seed", "untrained 2.5 %", "97.5 %"]
pd.DataFrame(rows, index=columns).T.round(4)

# %% [markdown]
# The smallest reported frequency, 0.0117, is even below what weight decay over 50 epochs would have
# left of the lowest initial one, $0.01^{0.8825} = 0.0172$. Either the earlier run did not decay this
# parameter, or its statistics are those of an untrained model.
#
# In our runs the frequencies do move, but not towards anything. In every update the weight decay of
# AdamW multiplies every weight by $1 - 10^{-5}$, which pulls $\log\omega$ towards 0. The gradient is
# noise around zero and adds little. The dashed line is weight decay alone.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
watched = [history.watched["log omega"] for history in posed["as posed"].histories]
before, after = (torch.cat([each[i] for each in watched]) for i in (0, -1))
grid = torch.linspace(math.log(OMEGA[0]), math.log(OMEGA[1]), 2)
kept = (1 - 1e-5) ** p.reported_steps  # AdamW: lr 1e-3 times its default weight decay, 0.01
moved, by_decay = ((end - before).mean().item() for end in (after, kept * before))
figures.lines(
    {"unchanged": grid, "weight decay alone": kept * grid}, x=grid, dashed=["weight decay alone"],
    x_title="log ω at the start", y_title="log ω learned",
    title=f"log ω moved by {moved:+.3f} on average, weight decay alone moves it by {by_decay:+.3f}",
).add_scatter(
    x=before, y=after, mode="markers", name="modes, all seeds",
    marker={"color": figures.COLOURS[1], "size": 7},
)

# %% [markdown]
# ## Diagnosis: change one thing at a time, and know the floor
#
# The authors had planned these steps for debugging: one change each from a baseline, all trained on
# the task as posed (one seed; Adam with a one-cycle schedule up to 1e-2, which is faster than the
# reported setting). Every row ends at its floor. A loss at its floor looks the same for a good model
# and for a broken one, so that these rows could never have found an error.
#
# Only a task whose floor is zero can: **a single sequence, repeated**. The same code fits it, both at
# the reported $\Delta$, where it is nearly a straight line, and at $\Delta = 1$, where it oscillates.

# %%
one_sequence = Stored(anonymous, 1, TRAIN, stream(0, "one sequence"))
oscillating = Stored(AnonymousOscillations(dt=1.0), 1, TRAIN, stream(0, "one sequence"))
LADDER = {
    "baseline": (anonymous, {}),
    "no low-rank term, r = 0": (anonymous, {"rank": 0}),
    "real-valued, no complex numbers": (anonymous, {"form": "real"}),
    "target: exponential decay": (AnonymousOscillations(kind="decay"), {}),
    "target: undamped sine": (AnonymousOscillations(kind="undamped"), {}),
    "64 oscillators": (anonymous, {"d_state": 64}),
    "zero-order hold": (anonymous, {"discretisation": "zero-order hold"}),
    "one sequence, repeated": (one_sequence, {}),
    "one sequence, repeated, Δ = 1": (oscillating, {"dt": 1.0, "form": "dissipative"}),
}
ladder = exp.train(
    {name: Arm(partial(reported_model, **changes), task=task)
     for name, (task, changes) in LADDER.items()},
    anonymous, seeds=[0],
    recipe={"steps": p.ladder_steps, "batch": 32, "length": TRAIN, "lr": 1e-2,
            "schedule": "one-cycle", "device": p.device},
)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
found = ladder.scores(length=TRAIN, samples=5 * p.samples, score=mse)
least = {name: 0.0 if isinstance(task, Stored) else task.floor(TRAIN)
         for name, (task, _) in LADDER.items()}
frame = pd.DataFrame({"loss": {name: loss.item() for name, loss in found.items()}, "floor": least})
frame.assign(ratio=(frame.loss / frame.floor).where(frame.floor > 0)).round(4)

# %% [markdown]
# ## Corrected: the input says which oscillator starts, and how
#
# In every run, $K$ oscillators are drawn once. A sequence excites one of them, with $A\cos\varphi$ in
# channel $k$ and $A\sin\varphi$ in channel $K + k$; now $\Delta = 1$. The input determines the target
# (which is linear in it), and so the floor is zero.


# %%
def repaired_model(task, seed, **settings):
    channels = 2 * len(task.omega)
    generator = stream(seed, "init")
    return OscDPLR(channels, d_output=1, generator=generator, dtype=torch.float64, **settings)


tasks = {
    K: [KnownOscillators.draw(K, stream(seed, "oscillators")) for seed in p.seeds] for K in (1, 4, 8)
}
eight = tasks[8][0]
task_report = audit.task(eight, length=TRAIN)
dissipative = partial(repaired_model, form="dissipative", complex_io=True)
model_report = audit.model(dissipative(eight, p.seeds[0]), eight, length=TRAIN)
print("floor:", task_report["floor: the best possible"], "· distinct inputs:",
      task_report["distinct inputs, of all"])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(task_report, model_report)
batch = eight.sample(4, TEST, stream(0, "examples"))
examples = {f"sequence {i}": y for i, y in enumerate(batch.targets[..., 0])}
figures.lines(examples, x_title="step", y_title="y",
              title="Four targets of the repaired task, to 512 steps")

# %% [markdown]
# ### Three forms of one layer
#
# The layer can be computed as a recurrence, as a parallel scan, or as a convolution with a kernel
# (found by doubling, or from its generating function through the Woodbury identity). All must be the
# same function with the same gradients. This is C3: fresh layers are compared here in float64, and
# trained ones below.


# %%
def forms_of(layer):
    """The recurrence first; the scan; the kernel by doubling, and through Woodbury."""

    def woodbury(x):
        A, B, C = layer.state_matrix(), layer.input_matrix(), layer.readout()
        kernel = kernel_resolvent(A, B, C, layer.dt, x.shape[1])
        return causal_convolution(x, kernel) + x @ layer.D.mT

    return partial(unroll, layer), layer.forward_scan, layer, woodbury


noise = torch.randn(2, TRAIN, 16, generator=stream(0, "noise"), dtype=torch.float64)
fresh = [
    repaired_model(eight, seed, form=form, complex_io=io)
    for form in ("plain", "dissipative") for io in (False, True) for seed in p.seeds[:2]
]
forms_gap = max(audit.disagreement(layer, noise[:, :32], forms_of(layer)) for layer in fresh)
print("three forms agree within 1e-10:", forms_gap < 1e-10)

# %% [markdown]
# Which form is fastest? Below is one full training step (outputs, loss, gradients, update) on 32
# sequences, in ms. The compiled scan passes over memory once in each direction; the scan in torch
# operations squares the matrix again and again; the two loops pay the overhead of torch at every time
# step. The convolution, which training uses here, never stores the states.


# %% tags=["nbval-ignore-output"]
def training_step(forward, length):
    layer, batch = dissipative(eight, 0), eight.sample(32, length, stream(0, "batch"))
    x = pad(batch.inputs, (0, 0, 0, length - batch.inputs.shape[1]))
    optimizer = torch.optim.Adam(layer.parameters())

    def step():
        optimizer.zero_grad()
        (forward(layer, x) - batch.targets).square().mean().backward()
        optimizer.step()

    return step


forwards = {
    "convolution": OscDPLR.forward, "matrix_scan, compiled": OscDPLR.forward_scan,
    "matrix_scan in torch operations": partial(OscDPLR.forward_scan, scan=matrix_scan_associative),
    "its plain loop": partial(OscDPLR.forward_scan, scan=matrix_scan_sequential),
    "the layer's own step": unroll,
}
times = {n: take_turns({name: training_step(f, n) for name, f in forwards.items()}, rounds=5, budget=2)
         for n in (TRAIN, TEST)}
pd.DataFrame({f"{n} steps": {name: f"{1e3 * time.median:.1f}" for name, time in found.items()}
              for n, found in times.items()})

# %% [markdown]
# ### Training
#
# The dissipative form with 16 oscillators and rank 2 is trained in float64 for $K = 1$ and $K = 8$,
# with real and with complex $B$ and $C$. One update in ten sees a window of 512 steps, the others
# see 128. Two ablations leave one thing out each: the long windows, and the dissipative form.

# %%
quick = dict.fromkeys(("B", "C", "D"), 4e-2)  # the output is linear in these, unlike in the others
RECIPE = {
    "steps": p.corrected_steps, "batch": 32, "length": [TRAIN] * 9 + [TEST],
    "lr": {"": 2e-2, **quick}, "schedule": "one-cycle", "device": p.device,
    "watch": {"A": lambda m: torch.linalg.eigvals(m.state_matrix().to_dense()),
              "A_d": lambda m: torch.linalg.eigvals(m.discretised()[0])},
}
without_long, plain = "K = 8, complex, windows of 128 only", "K = 8, complex, plain form"
trained = exp.train({
    **{f"K = {K}, {kind}": Arm(partial(dissipative, complex_io=kind == "complex"), task=tasks[K])
       for K in (1, 8) for kind in ("real", "complex")},
    without_long: Arm(dissipative, length=TRAIN),
    plain: partial(repaired_model, form="plain", complex_io=True),
}, tasks[8], RECIPE)
arms = trained.select(ARMS)


def scored(arms, lengths):
    return {n: arms.scores(length=n, samples=p.samples, score=mse) for n in lengths}


errors = scored(trained, (TRAIN, TEST, 4 * TEST))


# %%
def frequencies(model, _):
    """Float["2 modes"]: ω and ζ, read from the eigenvalues of A_d."""
    return torch.stack(oscillator_parameters(model.discretised()[0].detach(), model.dt))


omega = torch.stack([*arms.measure(frequencies).values()])[:, :, 0]
train_mse, test_mse = (torch.stack([errors[n][arm] for arm in ARMS]) for n in (TRAIN, TEST))
exp.judge("C1 train", dict(zip(ARMS, train_mse, strict=True)))
exp.judge("C1 test", dict(zip(ARMS, test_mse, strict=True)))
judge_original("", train_mse, test_mse, omega)
exp.note("test MSE / train MSE, the largest", (test_mse / train_mse).max(), statistic=NUMBER)
exp.note("largest ω of A_d, rad/s", omega.max(), statistic=NUMBER)
gaps = [audit.disagreement(layer, noise, forms_of(layer))
        for arm in ARMS[2:] for layer in arms[arm].models]
exp.judge("C3", max(forms_gap, *gaps))

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
curves = {"as posed": posed["as posed"], ARMS[-1]: arms[ARMS[-1]]}
exp.key_figure(figures.losses(
    {name: torch.stack([h.loss for h in each.histories]) for name, each in curves.items()},
    floors={"as posed, no model gets below": anonymous.floor(TRAIN)},
    title=f"Training loss as posed ({p.reported_steps:,} updates) "
          f"and corrected ({p.corrected_steps:,})",
))


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def table(arms, errors):
    rows = {(f"{n} steps", how): {arm: f"{getattr(found[arm], how)():.1e}" for arm in arms}
            for n, found in errors.items() for how in ("median", "max")}
    seconds = {arm: round(each.histories[0].seconds, 1) for arm, each in arms.items()}
    return pd.DataFrame({**rows, ("training", "seconds"): seconds})


display(table(arms, errors))
figures.strips(
    {f"{arm}, {n} steps": errors[n][arm] for arm in arms for n in (TRAIN, TEST)},
    title="Every seed, at 128 and 512 steps", y_title="mean squared error",
    limits={"C1 train": 1e-6, "C1 test": 1e-4},
)

# %% [markdown]
# ### Why the long windows?
#
# Because 128 steps do not determine sixteen overlapping modes. Here is a bank of random oscillators
# that are **never trained**: only their amplitudes are fitted, by least squares, to the first 128
# steps of one oscillation that is not among them. From eight oscillators on, the fit is perfect up to
# rounding. It says nothing about the frequencies, and past the window it is worthless. A small
# training error is therefore no evidence that anything has been identified.


# %%
def random_bank(oscillators, seed):
    """Training and test error of amplitudes fitted to one oscillation, frequencies left random."""
    target = KnownOscillators.draw(1, stream(seed, "oscillators")).response(TEST)[:, 0]
    untrained = OscDPLR(1, d_state=oscillators, rank=0, generator=stream(seed, "bank")).double()
    eigenvalues = untrained.state_matrix().diagonal.detach()
    basis = torch.view_as_real(torch.exp(eigenvalues * torch.arange(TEST)[:, None])).flatten(1)
    amplitudes = torch.linalg.lstsq(basis[:TRAIN], target[:TRAIN], driver="gelsd").solution
    errors = (basis @ amplitudes - target).square().mean(1)
    return errors[:TRAIN].mean().clamp(min=1e-32), errors.mean()


sizes = torch.tensor([1, 2, 3, 4, 6, 8, 12, 16])
banks = torch.tensor([[random_bank(int(n), s) for s in range(20)] for n in sizes]).median(1).values

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
figures.lines(
    {"128 steps, fitted": banks[:, 0], "512 steps": banks[:, 1]}, x=sizes, y_title="squared error",
    x_title="oscillators, none of them trained", title="Any frequencies will do: median of 20 banks",
    log=True,
)

# %% [markdown]
# The two ablations. Without the long windows, the layer fits 128 steps just as well and extrapolates
# far worse. The plain form does as well as the dissipative one here, but nothing except the loss
# keeps its eigenvalues inside the unit circle. With long windows, 512 steps are no extrapolation any
# more; 2,048 are.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
table(trained.select([ARMS[-1], without_long, plain]), errors)

# %% [markdown]
# ## Identified: as many oscillators as there are systems
#
# The smallest layer that can solve the task has one oscillator for each system ($n = K$) and no
# low-rank term. Told which channels belong together, it needs no long windows: it is trained on 128
# steps alone. Each oscillator hears only the two channels of its own system (`heads=K`).
#
# Both are needed. With one head for all, any mode can stand in for any other, and the fit is good
# long before the frequencies are right; the last row shows it. Only the layer with $K$ heads
# extrapolates to four times all that it was trained on.

# %%
minimal = exp.train({
    **{f"K = {K}": Arm(partial(repaired_model, d_state=K, rank=0, heads=K, complex_io=True),
                       task=tasks[K]) for K in (1, 4, 8)},
    "K = 4, one head": partial(repaired_model, d_state=4, rank=0, complex_io=True),
}, tasks[4], RECIPE | {"steps": p.identified_steps, "length": TRAIN})


def relative_error(model, task):
    """The largest relative error of any ω or ζ, once every mode is matched to one oscillator."""
    true = torch.stack([task.omega, task.zeta])
    gaps = (frequencies(model, task)[:, :, None] - true[:, None]) / true[:, None]
    worst = gaps.abs().amax(0)
    return worst[linear_sum_assignment(worst)].max()


minimal_errors = scored(minimal, (TRAIN, TEST))
wrong = minimal.measure(relative_error)
exp.judge("C2", {arm: wrong[arm] for arm in MINIMAL})
exp.judge("C1+", {arm: minimal_errors[TEST][arm] for arm in MINIMAL})

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
frame = table(minimal, minimal_errors)
frame["worst error", "of ω, ζ"] = [f"{each.max():.1e}" for each in wrong.values()]
display(frame)
found = minimal.measure(frequencies)
true = minimal.measure(lambda _, task: torch.stack([task.omega, task.zeta]))
figures.recovered(
    *({arm: tuple(each.unbind(1)) for arm, each in points.items()} for points in (true, found)),
    title="Learned against true oscillators, warping undone",
)

# %% [markdown]
# How far does each layer reach beyond what it saw? The next cell takes the error over the steps that
# follow the longest training window, up to four times its length, and divides it by the energy of the
# targets there. It decides nothing, and is kept in the record.


# %%
def beyond(model, task, *, length, samples, seed):
    """Squared error of the last three quarters of the steps, over the energy of the target."""
    batch, start = task.sample(samples, length, stream(seed, "beyond")), length // 4
    late = batch._replace(mask=batch.mask & (torch.arange(length) >= start))
    with torch.no_grad():
        return task.loss(model, late) / batch.targets[:, start:].square().mean()


for start, group in (
    (TEST, trained.select([*ARMS, plain])), (TRAIN, trained.select([without_long]) | minimal)
):
    for arm, found in group.scores(length=4 * start, samples=1000, score=beyond).items():
        exp.note(f"relative error, steps {start} to {4 * start}, {arm}", found, statistic=MEDIAN)

# %% [markdown]
# ## Panels: states and eigenvalues
#
# The modes of a trained layer, for a sequence of its task or for white noise; and how the eigenvalues
# moved while the first seed was trained.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
every = trained | minimal


def drive_of(model, drive):
    x = panels.examples(every[model].tasks[0], length=TRAIN)
    if drive == "white noise":
        x = torch.randn(x.shape, generator=stream(0, "noise"), dtype=x.dtype)
    return x


panels.states(
    (arms | minimal).models, drive_of, drive=Choice("input", ["impulse", "white noise"]),
    title="states of the modes",
)


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def draw_eigenvalues(arm, snapshot):
    history = every[arm].histories[0]
    at = round(snapshot / 100 * (len(history.watched_at) - 1))
    A, A_d = history.watched["A"], history.watched["A_d"]
    return figures.eigenvalues(
        A[at], A_d[at], path=(A[::2], A_d[::2]),
        title=f"{arm}: after {history.watched_at[at]} updates",
    )


panels.eigenvalues(
    draw=draw_eigenvalues, arm=Choice("model", [plain, *(arm for arm in every if arm != plain)]),
    snapshot=Slider("training, %", 100, 0, 100, 2, play=True),
)

# %% [markdown]
# ## Verdict
#
# The table at the top now has all values, with the verdict above it. What must be the same on every
# machine is printed here.

# %%
exp.conclude(
    finding=(
        "As posed, the loss is "
        f"{max(of_floor['128 steps'].tolist(), key=lambda ratio: abs(ratio - 1)):.2f} times the "
        f"least that a blind model can reach; with oscillators known by channel, the error at {TEST} "
        f"steps is {shown(errors[TEST][ARMS[-1]].quantile(0.5).item(), 2)} (K = 8, median)."
    ),
    settles="Score steps 128 to 2,048 with the envelope taken off, and ask for the poles of one "
    "head that is not told the channels.",
    tags=["oscillators", "length"], impact=3, cost_h=4,
)

# %% [markdown]
# ## What this does not show, and what next
#
# **The answer.** The layer continues oscillations that its input identifies. The earlier failure was
# one of the task: the loss that was taken for a failure to learn is the lowest one possible there.
#
# **What it does not show.** The oscillators are known by their channel. A model that has to find out
# from the first samples of a new one needs a transition that depends on its input, which this layer
# has not. With one head for all channels, the frequencies are not found. S2 says little, because the
# targets have nearly died out by step 512. And nothing here compares the layer with a diagonal
# state-space model on real data.
#
# **What to take along.** The dissipative form: the same parameters, and no growth by construction.
# And a habit: know the floor of a task before you debug a model on it.
