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
# **Answer.** Yes, once the input says which oscillator starts, and how. Then the same layer learns
# in seconds to continue it over 512 steps. The smallest such layer, told which channels belong
# together, does so after seeing no more than 128.
#
# **Cause of the failure.** The task, not the model. As first posed, the input was the same for
# every sequence, so it said nothing about the target. The reported losses are the lowest ones that
# any model can reach there.

# %% tags=["parameters"]
experiment: str = "004"  # the notebook these parameters belong to
seeds: list[int] = [0, 1]  # one model and one set of oscillators each, in [0, 2147483647]
reported_steps: int = 250  # updates as posed (12,500 are the 50 epochs), in [1, 1000000]
ladder_steps: int = 100  # updates of every row of the debugging ladder, in [1, 1000000]
corrected_steps: int = 400  # updates of the corrected models, in [10, 1000000]
identified_steps: int = 1000  # updates of the identified models, in [10, 1000000]
samples: int = 2000  # sequences that a score is the mean over, in [100, 1000000]
device: str = "cpu"  # where to train, one of auto, cpu, cuda

# %% jupyter={"source_hidden": true}
from functools import partial

import numpy as np
import pandas as pd
import torch
from IPython.display import display

import lab
from lab import audit
from lab.benchmark.forward import training_milliseconds
from lab.evidence import shown
from lab.linalg import oscillator_parameters, parameter_error
from lab.mixers import OscDPLR, unroll
from lab.plots import figures, panels
from lab.scan import matrix_scan_associative, matrix_scan_sequential
from lab.seeding import stream
from lab.tasks import AnonymousOscillations, KnownOscillators, Stored, oscillation
from lab.tasks.oscillation import OMEGA, ZETA

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range
torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way

# %% jupyter={"source_hidden": true}
from lab.experiment import MEDIAN, NUMBER, Arm, Experiment, Planned

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
          for setting, arm in ((" as posed", "proposal"), ("", "corrected"))
          for id_, measured, op, limit, kind in ORIGINAL),
        Planned("C1 train", "train MSE, {part}", "<", 1e-6, MEDIAN, parts=ARMS, low_is_good=True),
        Planned("C1 test", "test MSE, {part}", "<", 1e-4, MEDIAN, parts=ARMS, low_is_good=True),
        Planned("C2", "worst relative error of ω and ζ, {part}", "<", 0.01, arm="identified",
                parts=MINIMAL, low_is_good=True),
        Planned("C1+", "test MSE, {part}", "<", 1e-8, MEDIAN, arm="identified", parts=MINIMAL,
                low_is_good=True),
        Planned("C3", "gap between the three forms, float64", "<", 1e-10, NUMBER, kind="control"),
        Planned("C4", "measured MSE / floor, {part}", "in", (0.97, 1.03), arm="diagnosis",
                parts=("128 steps", "512 steps")),
    ],
)
exp

# %% [markdown]
# **How to read the table.** MSE is the mean squared error; $K$ is the number of oscillators that a
# model has to keep apart; "real" and "complex" say what the matrices $B$ and $C$ are.
#
# - S1 to S4, F1 and F2 are the criteria of the proposal. They are asked twice: of the task as
#   posed, where they fall as they fell before and decide nothing, and of the corrected task, where
#   in every seed the worst of four models counts.
# - C1 to C4 belong to the correction. C1 asks for a small error, C2 for the true frequencies and
#   dampings; C4 asks whether the diagnosis holds; C3 checks the code. C1+ asks more than C1, and
#   of the smallest models, which see 128 steps in training and never 512.
#
# An earlier version of this notebook had the two limits of C1 under one id, the two ends of S3 in
# two rows, and both settings under the ids S1 to F2. The limits are the same.
#
# Two of the criteria say less than they seem to. An untrained model meets S3 and S4. And F2 is the
# ratio of two errors that are both close to zero once a task is solved, which the proposal could
# not foresee: where every training error is below 1e-5 it is not judged, and S2 decides instead.
#
# What would have changed our mind: a loss clearly below the floor on the task as posed, or a
# corrected task that is not learned either. The seeds of this notebook were also used while its
# settings were chosen, so its numbers may be better than those of new seeds would be.

# %% [markdown]
# ## Is the task what we think it is?
#
# As first posed, every sequence is a new oscillation with its own frequency $\omega$, damping
# $\zeta$, amplitude $A$ and phase $\varphi$,
#
# $$y_t = A\,e^{-\zeta\omega t\Delta}\sin(\omega\sqrt{1-\zeta^2}\,t\Delta + \varphi),$$
#
# sampled every $\Delta = 0.01$ s: $\omega$ from 0.01 to 0.1 rad/s, $\zeta$ from 0.2 to 0.8, $A$
# from 0.5 to 2, and any phase. The input is a unit impulse, and it is the same impulse for all of
# them: that is what the audit counts first. Every input of the test is one that was trained on.

# %%
TRAIN, TEST = 128, 512  # steps
anonymous = AnonymousOscillations()
report = audit.task(anonymous, length=TRAIN)
print(report["test inputs also in training"], "of test inputs seen")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(report, audit.task(anonymous, length=TEST))

# %% [markdown]
# There is one input, and there are 8,000 different targets. The best that a model can do is
# predict their mean, which is zero, because all phases are equally likely. Its loss is then the
# variance of the targets, $\tfrac12 E[A^2]\,E[e^{-2\zeta\omega t\Delta}]$. We call it the *floor*.
# The expectation over $\omega$ and $\zeta$ has a closed form, a sum of exponential integrals
# (`lab.tasks.oscillation.mean_decay`).
#
# **The reported losses are this floor**, within the sampling error of a mean over 1,000 sequences,
# which the last column gives.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
floors = {"train MSE": anonymous.floor(TRAIN), "test MSE": anonymous.floor(TEST)}
squares = anonymous.sample(8000, TEST, stream(0, "sampling error")).targets.square()
spread = torch.stack([squares[:, :n].mean((1, 2)).std() for n in (TRAIN, TEST)]).numpy()
frame = pd.DataFrame({"reported": REPORTED, "floor": floors}).loc[list(floors)]
frame["reported / floor"] = frame.reported / frame.floor
frame.assign(**{"standard error / floor": spread / 1000**0.5 / frame.floor}).round(4)

# %% [markdown]
# Besides, nothing oscillates. Move the sliders: at $\Delta = 0.01$, no $\omega$ and $\zeta$ in the
# range of the task turn the phase by more than 0.128 rad in 128 steps, and the target can hardly
# be told from a straight line (dashed). At $\Delta = 1$ the same oscillators do turn.

# %%
assert OMEGA[1] * np.sqrt(1 - ZETA[0] ** 2) * TRAIN * anonymous.dt < 0.128, "the largest turn"


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def draw_target(omega, zeta, amplitude, phase, dt):
    values = (torch.tensor([v], dtype=torch.float64) for v in (omega, zeta, amplitude, phase))
    y = oscillation(*values, dt=dt, length=TRAIN)[0]
    straight = torch.from_numpy(np.polyval(np.polyfit(range(TRAIN), y, 1), range(TRAIN)))
    turned = omega * np.sqrt(1 - zeta**2) * (TRAIN - 1) * dt
    return figures.lines(
        {"target": y, "straight line": straight}, dashed=["straight line"],
        x_title="step", y_title="y",
        title=f"The phase turns by {turned:.3f} rad in {TRAIN} steps of {dt:g} s",
    )


panels.targets(
    draw=draw_target, omega=panels.Slider("ω, rad/s", OMEGA[1], *OMEGA, 0.001),
    zeta=panels.Slider("ζ", ZETA[0], *ZETA, 0.01), phase=panels.Slider("φ", 0.0, 0.0, 6.28, 0.02),
    amplitude=panels.Slider("A", 1.0, 0.5, 2.0, 0.05),
    dt=panels.Slider("Δ, s", 0.01, 0.01, 1.0, 0.01),
)

# %% [markdown]
# ## Is the model what we think it is?
#
# The layer is $h' = Ah + Bu$ and $y = \mathrm{Re}(Ch) + Du$, with
# $A = \mathrm{diag}(\lambda) + PQ^\top$; the bilinear rule makes $A_d$, the matrix of one time
# step, of $A$. It has 16 oscillators, a low-rank term of rank 2, and real $B$ and $C$: 129 real
# numbers, as reported. The audit finds that its output never depends on a later input, that its
# step form and its convolution agree, and that every parameter has a gradient. Nothing is wrong
# with the complex arithmetic. But some eigenvalues lie a little outside the unit circle, where a
# mode grows.


# %% tags=["nbval-ignore-output"]
def reported_model(_, seed, **changes):
    settings = {"d_state": 16, "rank": 2, "dt": anonymous.dt, **changes}
    return OscDPLR(1, generator=stream(seed, "init"), **settings)


audit.model(reported_model(None, seed=0).double(), AnonymousOscillations(dtype=torch.float64),
            length=TRAIN, parameters=REPORTED["parameters"])

# %% [markdown]
# The low-rank term can make a mode grow instead of decay: it can push eigenvalues of $A$ out of
# the left half plane, and those of $A_d$ out of the unit circle. At $\Delta = 0.01$ nobody
# notices. At $\Delta = 1$ the growth is a hundred times faster, and over 512 steps it multiplies a
# state many times over.
#
# The *dissipative* form, $A = \mathrm{diag}(\lambda) - PP^\top + (PQ^\top - QP^\top)$, has the
# same parameters and cannot grow, because $A + A^*$ has no positive eigenvalue (the proof is with
# `lab.linalg.dissipative`). Over 200 initial draws:


# %%
growth = {}
for form in ("plain", "dissipative"):
    layer = partial(OscDPLR, 1, form=form, dtype=torch.float64)
    steps = [layer(generator=stream(i, "init")).discretised()[0].detach() for i in range(200)]
    growth[form] = torch.linalg.eigvals(torch.stack(steps)).abs().amax(1)
assert (growth["dissipative"] <= 1).all(), "the dissipative form can grow"
print("plain form: most draws are unstable:", int((growth["plain"] > 1).sum()) > 100)

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
figures.strips(growth, title="Largest |eigenvalue| of A_d at the start, Δ = 1", log=False,
               limits={"unit circle": 1.0}, y_title="|eigenvalue|")

# %% [markdown]
# ## As reported
#
# This is the original task with the original budget: 8,000 training sequences of 128 steps, AdamW
# at a step size of 1e-3, batches of 32, and 12,500 updates, which are the 50 epochs (here,
# sequences are drawn with replacement). The score is the error over 128 and 512 steps of fresh
# sequences. C4 asks of every seed whether this error is the floor, within 3 %. A smaller error
# would refute the diagnosis, for no model can be below the floor but by luck. A larger one would
# mean that training had something left to do. Every seed is a run of its own.

# %%
sets = [Stored(anonymous, 8000, TRAIN, stream(seed, "training set")) for seed in p.seeds]
posed = exp.train({"as posed": Arm(reported_model, data=sets)}, anonymous, {
    "steps": p.reported_steps, "batch": 32, "length": TRAIN, "lr": 1e-3, "decay": "all",
    "optimizer": torch.optim.AdamW, "device": p.device,
    "watch": {"log omega": lambda model: model.log_omega.clone()},
})
posed_mse = {n: posed.scores(length=n, samples=10 * p.samples, score="loss")["as posed"]
             for n in (TRAIN, TEST)}
exp.judge("C4", {f"{n} steps": mse / anonymous.floor(n) for n, mse in posed_mse.items()})

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
posed.losses(floors={"floor": anonymous.floor(TRAIN)},
             title="As posed, the model is at its floor from the start")

# %% [markdown]
# The criteria of the proposal are judged for this setting now, and for the corrected one further
# down. S3 looks at the frequency that comes nearest to one of its two limits, or is beyond it.


# %%
def judge_original(setting, train, test, omega):
    """From errors ["arms seeds"] and learned ω ["arms seeds modes"]; the worst arm counts."""
    modes = omega.transpose(0, 1).flatten(1)
    nearest = torch.minimum(modes - 1e-3, 1 - modes).argmin(1, keepdim=True)
    values = {"S1": train.amax(0), "S2": test.amax(0), "S3": modes.gather(1, nearest)[:, 0],
              "S4": omega.std(-1).amin(0), "F1": train.amax(0), "F2": (test / train).amax(0)}
    for id_, each in values.items():
        exp.judge(f"{id_}{setting}", each)
    if train.max() < 1e-5:
        exp.not_run(f"F2{setting}", "S2 judges: every training error is below 1e-5")


omega = torch.stack([model.log_omega.detach().exp() for model in posed["as posed"].models])
judge_original(" as posed", *(error[None] for error in posed_mse.values()), omega[None])

# %% [markdown]
# The earlier report also gave statistics of the frequencies and dampings that had been "learned".
# The last two columns say where 95 % of *untrained* draws of 16 oscillators lie, and every
# reported statistic lies there as well. So nothing shows that anything was learned.


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
@torch.no_grad()
def statistics(models):
    """The summaries that were reported, one row a model."""
    omega = pd.DataFrame([model.log_omega.exp().tolist() for model in models]).T
    zeta = pd.DataFrame([model.logit_zeta.sigmoid().tolist() for model in models]).T
    omega, zeta = omega.agg(["mean", "std", "min", "max"]).T, zeta.agg(["mean", "std"]).T
    return omega.add_prefix("omega ").join(zeta.add_prefix("zeta "))


ours = statistics(posed["as posed"].models)
untrained = statistics([reported_model(None, seed) for seed in range(1000)])
pd.DataFrame({
    "reported": pd.Series(REPORTED)[list(ours)], "ours, mean": ours.mean(),
    "lowest seed": ours.min(), "highest seed": ours.max(),
    "untrained 2.5 %": untrained.quantile(0.025), "97.5 %": untrained.quantile(0.975),
}).round(4)

# %% [markdown]
# The smallest reported frequency, 0.0117, is even below what weight decay over 50 epochs would
# have left of the lowest initial one, $0.01^{0.8825} = 0.0172$. Either the earlier run did not
# decay this parameter, or its statistics are those of an untrained model.
#
# In our runs the frequencies do move, but not towards anything. In every update the weight decay
# of AdamW multiplies every weight by $1 - 10^{-5}$, which pulls $\log\omega$ towards 0. The
# gradient is noise around zero and adds little:

# %% tags=["nbval-ignore-output"]
watched = [history.watched["log omega"] for history in posed["as posed"].histories]
before, after = (torch.cat([each[i] for each in watched]) for i in (0, -1))
kept = (1 - 1e-5) ** p.reported_steps  # AdamW: lr 1e-3 times its default weight decay, 0.01
print(f"log ω moved by {(after - before).mean():+.3f} on average; "
      f"weight decay alone moves it by {(kept * before - before).mean():+.3f}")

# %% [markdown]
# ## Diagnosis: change one thing at a time, and know the floor
#
# The authors had planned these steps for debugging: one change each from a baseline, all trained
# on the task as posed (one seed; Adam with a one-cycle schedule up to 1e-2, which is faster than
# the reported setting). Every row ends at its floor. A loss at its floor looks the same for a good
# model and for a broken one, so that these rows could never have found an error.
#
# Only a task whose floor is zero can: **a single sequence, repeated**. The same code fits it, both
# at the reported $\Delta$, where it is nearly a straight line, and at $\Delta = 1$, where it
# oscillates. These two rows are the positive control: model, gradients and optimiser do their
# work.

# %%
def rung(task=anonymous, **changes):
    return Arm(partial(reported_model, **changes), task=task)


single, turning = (Stored(task, 1, TRAIN, stream(0, "one sequence"))
                   for task in (anonymous, AnonymousOscillations(dt=1.0)))
ladder = exp.train({
    "baseline": rung(),
    "no low-rank term, r = 0": rung(rank=0),
    "real-valued, no complex numbers": rung(form="real"),
    "target: exponential decay": rung(AnonymousOscillations(kind="decay")),
    "target: undamped sine": rung(AnonymousOscillations(kind="undamped")),
    "64 oscillators": rung(d_state=64),
    "zero-order hold": rung(discretisation="zero-order hold"),
    "one sequence, repeated": rung(single),
    "one sequence, repeated, Δ = 1": rung(turning, dt=1.0, form="dissipative"),
}, anonymous, seeds=[0], recipe={"steps": p.ladder_steps, "batch": 32, "length": TRAIN, "lr": 1e-2,
                                 "schedule": "one-cycle", "device": p.device})

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
losses = ladder.scores(length=TRAIN, samples=5 * p.samples, score="loss")
frame = pd.DataFrame({"loss": {name: loss.item() for name, loss in losses.items()}})
posed_tasks = [each.tasks[0] for each in ladder.values()]
frame["floor"] = [0.0 if isinstance(task, Stored) else task.floor(TRAIN) for task in posed_tasks]
frame.assign(ratio=(frame.loss / frame.floor).where(frame.floor > 0)).round(4)

# %% [markdown]
# ## Corrected: the input says which oscillator starts, and how
#
# In every run, $K$ oscillators are drawn once, from the same ranges as before. A sequence excites
# one of them, with $A\cos\varphi$ in channel $k$ and $A\sin\varphi$ in channel $K + k$; now
# $\Delta = 1$. The input determines the target (which is linear in it), and so the floor is zero.


# %%
def repaired_model(task, seed, **settings):
    settings |= {"d_output": 1, "generator": stream(seed, "init"), "dtype": torch.float64}
    return OscDPLR(2 * len(task.omega), **settings)


dissipative = partial(repaired_model, form="dissipative", complex_io=True)
draw = KnownOscillators.draw
tasks = {K: [draw(K, stream(seed, "oscillators")) for seed in p.seeds] for K in (1, 4, 8)}
eight = tasks[8][0]
report = audit.task(eight, length=TRAIN)
print("floor:", report["floor: the best possible"], "· distinct inputs:",
      report["distinct inputs, of all"])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(report, audit.model(dissipative(eight, p.seeds[0]), eight, length=TRAIN))
panels.targets(tasks[1][0], length=TEST, title="The corrected task, K = 1, to 512 steps")

# %% [markdown]
# ### Three forms of one layer
#
# The layer can be computed as a recurrence, as a parallel scan, or as a convolution with a kernel
# (found by doubling, or from its generating function through the Woodbury identity). All must be
# the same function with the same gradients. This is C3: fresh layers are compared here in float64,
# and trained ones below.

# %%
noise = torch.randn(2, TRAIN, 16, generator=stream(0, "noise"), dtype=torch.float64)
fresh = [repaired_model(eight, seed, form=form, complex_io=io)
         for form in ("plain", "dissipative") for io in (False, True) for seed in p.seeds[:2]]
forms_gap = max(audit.disagreement(layer, noise[:, :32], layer.forms()) for layer in fresh)
print("three forms agree within 1e-10:", forms_gap < 1e-10)

# %% [markdown]
# Which form is the fastest to train? Below is one full training step (outputs, loss, gradients,
# update) on 32 sequences, in ms. The compiled scan passes over memory once in each direction; the
# scan in torch operations squares the matrix again and again; the two loops pay the overhead of
# torch at every time step. The convolution, which training uses here, never stores the states.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
FORMS = {
    "convolution": OscDPLR.forward, "matrix_scan, compiled": OscDPLR.forward_scan,
    "matrix_scan in torch operations": partial(OscDPLR.forward_scan, scan=matrix_scan_associative),
    "its plain loop": partial(OscDPLR.forward_scan, scan=matrix_scan_sequential),
    "the layer's own step": unroll,
}
batches = {n: eight.sample(32, n, stream(0, "batch")) for n in (TRAIN, TEST)}
pd.DataFrame({f"{n} steps": training_milliseconds(
    FORMS, dissipative(eight, 0), torch.cat([x, x.new_zeros(32, n - x.shape[1], 16)], dim=1), y
) for n, (x, y, _) in batches.items()}).round(1)

# %% [markdown]
# ### Training
#
# An output is linear in $B$, $C$ and $D$, but not in the parameters of $A$, so these three have
# twice the step size of the others. All seeds of one arm train side by side, each with oscillators
# of its own; the arms train in processes beside each other.
#
# The dissipative form with 16 oscillators and rank 2 is trained in float64 for $K = 1$ and
# $K = 8$, with real and with complex $B$ and $C$. One update in ten sees a window of 512 steps, the
# others see 128. Two ablations leave one thing out each: the long windows, and the dissipative
# form.

# %%
RECIPE = {
    "steps": p.corrected_steps, "batch": 32, "length": [TRAIN] * 9 + [TEST],
    "lr": {"": 2e-2, "B": 4e-2, "C": 4e-2, "D": 4e-2}, "schedule": "one-cycle", "device": p.device,
    "watch": {"A": lambda m: torch.linalg.eigvals(m.state_matrix().to_dense()),
              "A_d": lambda m: torch.linalg.eigvals(m.discretised()[0])},
}
SHORT, PLAIN = "K = 8, complex, windows of 128 only", "K = 8, complex, plain form"
trained = exp.train({
    **{f"K = {K}, {kind}": Arm(partial(dissipative, complex_io=kind == "complex"), task=tasks[K])
       for K in (1, 8) for kind in ("real", "complex")},
    SHORT: Arm(dissipative, length=TRAIN), PLAIN: partial(dissipative, form="plain"),
}, tasks[8], RECIPE)
errors = {n: trained.scores(length=n, samples=p.samples, score="loss")
          for n in (TRAIN, TEST, 4 * TEST)}


# %%
def frequencies(model, _):
    """Float["2 modes"]: ω and ζ, read from the eigenvalues of A_d."""
    return torch.stack(oscillator_parameters(model.discretised()[0].detach(), model.dt))


arms = trained.select(ARMS)
train, test = (torch.stack([errors[n][arm] for arm in ARMS]) for n in (TRAIN, TEST))
omega = torch.stack([*arms.measure(frequencies).values()])[:, :, 0]
exp.judge("C1 train", dict(zip(ARMS, train, strict=True)))
exp.judge("C1 test", dict(zip(ARMS, test, strict=True)))
judge_original("", train, test, omega)
exp.note("test MSE / train MSE, the largest", (test / train).max(), statistic=NUMBER)
exp.note("largest ω of A_d, rad/s", omega.max(), statistic=NUMBER)
eights = arms[ARMS[2]].models + arms[ARMS[3]].models
exp.judge("C3", max(forms_gap, *(audit.disagreement(m, noise, m.forms()) for m in eights)))

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
exp.key_figure((posed | arms.select(ARMS[-1:])).losses(
    floors={"as posed, no model gets below": anonymous.floor(TRAIN)},
    title=f"Training loss as posed ({p.reported_steps:,} updates) "
          f"and corrected ({p.corrected_steps:,})",
))

# %% [markdown]
# The figure, which also stands below the table at the top, shows both tasks: as posed, the loss
# stays on its floor, whatever the training does; corrected, it falls by orders of magnitude. Its
# floor is zero, and cannot be drawn on this scale.
#
# Below are the errors of all seeds on fresh sequences: at the length of training, at four times
# that length, and in the table also at sixteen times. The dashed lines are the limits of C1, which
# the median seed has to meet.

# %%
def table(arms, errors):
    """Median and worst seed at every length, and the time that training took."""
    rows = {(f"{n} steps", how): {arm: f"{getattr(found[arm], how)():.1e}" for arm in arms}
            for n, found in errors.items() for how in ("median", "max")}
    seconds = {arm: round(each.histories[0].seconds, 1) for arm, each in arms.items()}
    return pd.DataFrame({**rows, ("training", "seconds"): seconds})


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(table(arms, errors))
figures.strips(
    {f"{arm}, {n} steps": errors[n][arm] for arm in arms for n in (TRAIN, TEST)},
    title="Every seed, at 128 and 512 steps", y_title="mean squared error",
    limits={"C1 train": 1e-6, "C1 test": 1e-4},
)

# %% [markdown]
# ### Why the long windows?
#
# Because 128 steps do not determine sixteen overlapping modes. Here is a bank of random
# oscillators that are **never trained**: only their amplitudes are fitted, by least squares, to
# the first 128 steps of one oscillation that is not among them. The test error covers 512 steps.
# From eight oscillators on, the fit is perfect up to rounding. It says nothing about the
# frequencies, and past the window it is worthless. A small training error is therefore no evidence
# that anything has been identified.


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
figures.lines({"128 steps, fitted": banks[:, 0], "512 steps": banks[:, 1]}, x=sizes, log=True,
              title="Any frequencies will do: median of 20 banks", y_title="squared error",
              x_title="oscillators, none of them trained")

# %% [markdown]
# The two ablations stand below the layer that they are taken from. Without the long windows, the
# layer fits 128 steps just as well and extrapolates far worse. The plain form does as well as the
# dissipative one here, but nothing except the loss keeps its eigenvalues inside the unit circle.
# With long windows, 512 steps are no extrapolation any more; 2,048 are.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(table(trained.select([ARMS[-1], SHORT, PLAIN]), errors))

# %% [markdown]
# ## Identified: as many oscillators as there are systems
#
# A good fit is one thing; to have found the oscillators is another. The frequencies and dampings
# that a layer really implements are in the eigenvalues of $A_d$, and not in its parameters: the
# bilinear rule turns an undamped frequency into $2\arctan(\Delta\,\mathrm{Im}\,\lambda/2)$ per
# step, and a low-rank term moves every eigenvalue. The logarithm of the eigenvalues undoes both
# ("warping undone" in the figure below).
#
# The smallest layer that can solve the task has one oscillator for each system ($n = K$) and no
# low-rank term. Told which channels belong together, it needs no long windows: it is trained on
# 128 steps alone. Each oscillator hears only the two channels of its own system (`heads=K`).
#
# The right size and the heads are both needed. With one head for all, any mode can stand in for
# any other, and the fit is good long before the frequencies are right; the last row shows it. Only
# the layer with $K$ heads extrapolates to four times all that it was trained on.

# %%
smallest = partial(repaired_model, rank=0, complex_io=True)
minimal = exp.train({
    **{f"K = {K}": Arm(partial(smallest, d_state=K, heads=K), task=tasks[K]) for K in (1, 4, 8)},
    "K = 4, one head": partial(smallest, d_state=4),
}, tasks[4], RECIPE | {"steps": p.identified_steps, "length": TRAIN})
found = minimal.measure(frequencies)
true = minimal.measure(lambda _, task: torch.stack([task.omega, task.zeta]))
wrong = {arm: torch.stack([*map(parameter_error, found[arm], true[arm])]) for arm in minimal}
errors |= {n: errors[n] | minimal.scores(length=n, samples=p.samples, score="loss")
           for n in (TRAIN, TEST)}
exp.judge("C2", {arm: wrong[arm] for arm in MINIMAL})
exp.judge("C1+", {arm: errors[TEST][arm] for arm in MINIMAL})

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
frame = table(minimal, {n: errors[n] for n in (TRAIN, TEST)})
frame["worst error", "of ω, ζ"] = [f"{each.max():.1e}" for each in wrong.values()]
display(frame)
figures.recovered(
    *({arm: each.unbind(1) for arm, each in points.items()} for points in (true, found)),
    title="Learned against true oscillators, warping undone",
)

# %% [markdown]
# How far does each layer reach beyond what it saw? Errors over all steps are easy to keep small,
# because the targets die out. So the next cell takes the error over the steps that follow the
# longest training window, up to four times its length, and divides it by the energy of the targets
# there. A model that says zero has 1. This decides nothing, and is kept in the record.


# %%
def beyond(model, task, *, length, samples, seed):
    """Squared error of the last three quarters of the steps, over the energy of the target."""
    batch, start = task.sample(samples, length, stream(seed, "beyond")), length // 4
    late = batch._replace(mask=batch.mask & (torch.arange(length) >= start))
    with torch.no_grad():
        return task.loss(model, late) / batch.targets[:, start:].square().mean()


groups = {TEST: trained.select([*ARMS, PLAIN]), TRAIN: trained.select([SHORT]) | minimal}
for start, group in groups.items():
    for arm, ratio in group.scores(length=4 * start, samples=1000, score=beyond).items():
        exp.note(f"relative error, steps {start} to {4 * start}, {arm}", ratio, statistic=MEDIAN)

# %% [markdown]
# ## Panels: states and eigenvalues
#
# The modes of a trained layer, for a sequence of its task or for white noise; and how the
# eigenvalues of $A$ and $A_d$ moved in training (press play). The plain form comes first: nothing
# but the loss keeps its modes inside the shaded region, where they decay. Compare the dissipative
# ones.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
every = trained.select([PLAIN]) | trained | minimal


def drive_of(model, drive):
    x = panels.examples(every[model].tasks[0], length=TRAIN)
    white = torch.randn(x.shape, generator=stream(0, "noise"), dtype=x.dtype)
    return white if drive == "white noise" else x


display(panels.states((minimal | arms).models, drive_of, title="states of the modes",
                      drive=panels.Choice("input", ["impulse", "white noise"])))
panels.in_training(every.histories, draw=lambda seen, at: figures.eigenvalues(
    seen["A"][at], seen["A_d"][at], path=(seen["A"][::2], seen["A_d"][::2])
))

# %% [markdown]
# ## Verdict
#
# The table at the top now has all values, with the verdict above it. What must be the same on
# every machine is printed here: the statuses, and the verdict that follows from them.

# %%
exp.conclude(
    finding=f"As posed, the loss is {exp.value('C4', '128 steps'):.2f} times the least that a "
    f"blind model can reach; with oscillators known by channel, the error at {TEST} steps is "
    f"{shown(exp.value('C1 test', ARMS[-1]), 2)} (K = 8, median).",
    settles="Score steps 128 to 2,048 with the envelope taken off, and ask for the poles of one "
    "head that is not told the channels.",
    tags=["oscillators", "length"], impact=3, cost_h=4,
)

# %% [markdown]
# ## What this does not show, and what next
#
# **The answer.** The layer continues oscillations that its input identifies. The earlier failure
# was one of the task: the loss that was taken for a failure to learn is the lowest one possible
# there.
#
# **What it does not show.** The oscillators are known by their channel. A model that has to find
# out from the first samples of a new one needs a transition that depends on its input, which this
# layer has not. With one head for all channels, the frequencies are not found. S2 says little,
# because the targets have nearly died out by step 512. And nothing here compares the layer with a
# diagonal state-space model on real data.
#
# **What to take along.** The dissipative form: the same parameters, and no growth by construction.
# And a habit: know the floor of a task before you debug a model on it.
