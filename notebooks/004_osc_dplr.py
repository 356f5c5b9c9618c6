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
# **Idea.** Take the eigenvalues of an S4-style state matrix from damped harmonic oscillators,
# $\lambda = -\zeta\omega \pm i\omega\sqrt{1-\zeta^2}$, add a low-rank term $P Q^\top$, and let the
# layer continue damped oscillations four times past its training length.
#
# **Reported before.** A total failure, decision DEBUG: test and training loss flat over 50 epochs
# at 0.759 and 0.854, the frequencies "learned", complex arithmetic suspected.
#
# **What this notebook shows.** The model had reached the best possible loss: the input said nothing
# about the target, nothing in the targets oscillated, and what passed for learned frequencies cannot
# be told from untrained ones. The task repaired is solved in seconds. What is left to explain then is
# why a good fit over 128 steps extrapolates badly, and what makes it extrapolate.
#
# **Criteria, written before the run.** Those of the original proposal (S1-S4, F1, F2) and those of
# the repair (C1-C4), with their thresholds, are in the last section. What would change our mind:
# a loss clearly under the floor in the first task, or the repaired one still failing.

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

# %%
import math
from dataclasses import asdict
from functools import partial

import pandas as pd
import torch
from IPython.display import display
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import pad

from lab import audit
from lab.benchmark.timing import take_turns
from lab.evidence import Evidence
from lab.linalg import causal_convolution, kernel_resolvent, oscillator_parameters
from lab.mixers import OscDPLR, unroll
from lab.plots import figures, panels
from lab.plots.panels import Choice, Slider
from lab.scan import matrix_scan_associative, matrix_scan_sequential
from lab.seeding import stream
from lab.tasks import AnonymousOscillations, KnownOscillators, Stored, oscillation
from lab.tasks.oscillation import OMEGA, ZETA
from lab.train import fit, fit_together, score

torch.set_num_threads(1)  # these models are so small that a second thread only gets in the way
TRAIN, TEST = 128, 512  # steps
REPORTED = {  # by the authors of the first run
    "train MSE": 0.8544, "test MSE": 0.7593, "parameters": 129,
    "omega mean": 0.0499, "omega std": 0.0262, "omega min": 0.0117, "omega max": 0.0956,
    "zeta mean": 0.509, "zeta std": 0.135,
}
evidence = Evidence(
    "004", title="Oscillatory DPLR state-space model", reported=REPORTED,
    parameters=asdict(p), seeds=p.seeds,
)

# %% [markdown]
# ## Is the task what we think it is?
#
# As first posed, every sequence is a new oscillation with $\omega$, $\zeta$, amplitude and phase of
# its own, sampled every $\Delta = 0.01$ s. The input is the same unit impulse for all of them.

# %%
anonymous = AnonymousOscillations()
print(audit.task(anonymous, length=TRAIN)["test inputs also in training"], "of test inputs seen")

# %% tags=["nbval-ignore-output"]
display(audit.task(anonymous, length=TRAIN), audit.task(anonymous, length=TEST))

# %% [markdown]
# One input, 8,000 different targets. The best a model can do is predict their mean, which is zero
# because the phase is uniform; its loss is then the variance,
# $\tfrac12 E[A^2]\,E[e^{-2\zeta\omega t}]$, and the expectation over $\omega$ and $\zeta$ is a sum
# of exponential integrals (`lab.tasks.oscillation.mean_decay`). **The reported losses are this
# floor**, within the standard error of a mean over 1,000 sequences (measured in the last column).

# %% tags=["nbval-ignore-output"]
floors = {"train MSE": anonymous.floor(TRAIN), "test MSE": anonymous.floor(TEST)}
rows = {}
for (name, floor), length in zip(floors.items(), (TRAIN, TEST), strict=True):
    targets = anonymous.sample(8000, length, stream(0, "sampling error")).targets
    error = targets.square().mean((1, 2)).std().item() / math.sqrt(1000)
    rows[name] = (REPORTED[name], floor, REPORTED[name] / floor, error / floor)
columns = ["reported", "floor, closed form", "ratio", "standard error of 1,000"]
pd.DataFrame(rows, index=columns).T.round(4)

# %% [markdown]
# And nothing oscillates. Move the sliders: at $\Delta = 0.01$ no choice of $\omega$ and $\zeta$ in
# the task's range turns the phase by more than 0.128 rad in 128 steps, so that a straight line
# (dashed) is hard to tell from the target. At $\Delta = 1$ the same oscillators turn.


# %% tags=["nbval-ignore-output"]
def draw_target(omega, zeta, amplitude, phase, dt):
    values = (torch.tensor([v], dtype=torch.float64) for v in (omega, zeta, amplitude, phase))
    y = oscillation(*values, dt=dt, length=TRAIN)[0]
    time = torch.stack([torch.ones(TRAIN), torch.arange(TRAIN)], dim=1).double()
    straight = time @ torch.linalg.lstsq(time, y[:, None]).solution
    turned = omega * math.sqrt(1 - zeta**2) * (TRAIN - 1) * dt
    title = f"The phase turns by {turned:.3f} rad in {TRAIN} steps of {dt:g} s"
    return figures.lines(
        {"target": y, "straight line": straight[:, 0]},
        title=title,
        dashed=["straight line"],
        x_title="step",
        y_title="y",
    )


panels.targets(
    draw=draw_target,
    omega=Slider("ω, rad/s", OMEGA[1], *OMEGA, 0.001),
    zeta=Slider("ζ", ZETA[0], *ZETA, 0.01),
    amplitude=Slider("A", 1.0, 0.5, 2.0, 0.05),
    phase=Slider("φ, rad", 0.0, 0.0, 6.28, 0.02),
    dt=Slider("Δ, s", 0.01, 0.01, 1.0, 0.01),
)

# %%
largest_turn = OMEGA[1] * math.sqrt(1 - ZETA[0] ** 2) * TRAIN * anonymous.dt
assert largest_turn < 0.128, "a phase turns further than the text says"
print("largest turn in 128 steps is below 0.128 rad:", largest_turn < 0.128)

# %% [markdown]
# ## Is the model what we think it is?
#
# 16 oscillators, rank 2, real B and C: 129 real numbers, as reported. It is causal, its step form
# is its convolution, every gradient is alive. Nothing is wrong with the complex arithmetic.


# %% tags=["nbval-ignore-output"]
def reported_model(seed, **changes):
    settings = {"d_state": 16, "rank": 2, "dt": anonymous.dt, **changes}
    return OscDPLR(1, generator=stream(seed, "init"), **settings)


audit.model(reported_model(seed=0).double(), AnonymousOscillations(dtype=torch.float64),
            length=TRAIN, parameters=REPORTED["parameters"])

# %% [markdown]
# The low-rank term can push eigenvalues out of the left half plane, and then those of one step out
# of the unit circle. At $\Delta = 0.01$ nobody notices; at $\Delta = 1$ the growth is a hundred times
# faster, and the largest eigenvalues below multiply a state many times over in 512 steps. The
# dissipative form,
# $A = \mathrm{diag}(\lambda) - PP^\top + (PQ^\top - QP^\top)$, has the same parameters and cannot
# grow (proof: `lab.linalg.dissipative`). Over 200 initial draws:


# %%
def largest_eigenvalues(form, draws=200):
    models = (
        OscDPLR(1, form=form, generator=stream(i, "init"), dtype=torch.float64)
        for i in range(draws)
    )
    sizes = [torch.linalg.eigvals(model.discretised()[0]).abs().max() for model in models]
    return torch.stack(sizes).detach()


with torch.no_grad():
    growth = {form: largest_eigenvalues(form) for form in ("plain", "dissipative")}
unstable = {form: int((sizes > 1).sum()) for form, sizes in growth.items()}
assert unstable["dissipative"] == 0, "the dissipative form has an eigenvalue outside the circle"
print("plain form: most draws are unstable:", unstable["plain"] > 100)
print("dissipative form, unstable draws:", unstable["dissipative"])

# %% tags=["nbval-ignore-output"]
print(f"growth in {TEST} steps, median plain draw: {growth['plain'].median().item() ** TEST:.3g}")
display(
    figures.strips(
        growth, title="Largest |eigenvalue| of A_d at the start, Δ = 1", log=False,
        limits={"unit circle": 1.0}, y_title="|eigenvalue|",
    )
)

# %% [markdown]
# ## As reported
#
# The original setting: 8,000 training sequences of 128 steps, AdamW at 1e-3, batches of 32, 12,500
# updates (50 epochs; drawn with replacement here), scored at 512 steps. Every seed is a run.

# %% tags=["nbval-ignore-output"]
originals = [reported_model(seed) for seed in p.seeds]
histories = fit_together(
    originals,
    [Stored(anonymous, 8000, TRAIN, stream(seed, "training set")) for seed in p.seeds],
    seeds=p.seeds, steps=p.reported_steps, batch=32, length=TRAIN, lr=1e-3,
    optimizer=torch.optim.AdamW, decay="all", device=p.device, label="as reported",
    watch={"log omega": lambda model: model.log_omega.clone()},
)
figures.losses(
    {"129 parameters": torch.stack([history.loss for history in histories])},
    floors={"floor": floors["train MSE"]}, title="The reported model is at its floor from the start",
)


# %%
def scores(models, tasks, length, samples=p.samples):
    """Float64["seeds"]: mean squared error on fresh sequences."""
    pairs = zip(models, tasks, p.seeds, strict=True)
    measured = [score(m, t, length=length, samples=samples, seed=s) for m, t, s in pairs]
    return torch.tensor([each.loss for each in measured], dtype=torch.float64)


of_all_sequences = {
    length: scores(originals, [anonymous] * len(p.seeds), length, samples=10 * p.samples)
    for length in (TRAIN, TEST)
}
ratios = {length: mse / anonymous.floor(length) for length, mse in of_all_sequences.items()}
worst_ratio = {length: r[(r - 1).abs().argmax()].item() for length, r in ratios.items()}


# %% tags=["nbval-ignore-output"]
def statistics(models):
    """The summaries that were reported, Float["models"] each."""
    omega = torch.stack([model.log_omega.exp() for model in models]).detach().cpu()
    zeta = torch.stack([model.logit_zeta.sigmoid() for model in models]).detach().cpu()
    return {
        "omega mean": omega.mean(1), "omega std": omega.std(1), "omega min": omega.amin(1),
        "omega max": omega.amax(1), "zeta mean": zeta.mean(1), "zeta std": zeta.std(1),
    }


learned = statistics(originals)
ours = {"train MSE": of_all_sequences[TRAIN], "test MSE": of_all_sequences[TEST], **learned}
untrained = statistics([reported_model(seed) for seed in range(1000)])
rows = {
    name: [REPORTED[name], values.mean().item(), values.min().item(), values.max().item(),
           *(untrained[name].quantile(torch.tensor([0.025, 0.975])).tolist()
             if name in untrained else [math.nan] * 2)]
    for name, values in ours.items()
}
columns = ["reported", "ours, mean", "lowest seed", "highest seed", "untrained 2.5 %", "97.5 %"]
pd.DataFrame(rows, index=columns).T.round(4)

# %% [markdown]
# Every statistic that was reported as learned lies where 95 % of *untrained* draws of 16 modes lie
# (last two columns). The smallest, 0.0117, is even below what weight decay over 50 epochs would
# leave of the lowest initial frequency, $0.01^{0.8825} = 0.0172$: the earlier run did not decay this
# parameter, or its statistics are of an untrained model. In our runs the frequencies do move, but
# not towards anything: AdamW's weight
# decay multiplies every weight by $(1 - 10^{-5})$ per update, which pulls $\log\omega$ towards 0, and
# the gradient, which is noise around zero, adds little. Learned against initial, with weight decay
# alone as the dashed line:

# %% tags=["nbval-ignore-output"]
before, after = (
    torch.cat([history.watched["log omega"][i] for history in histories]) for i in (0, -1)
)
grid = torch.linspace(math.log(OMEGA[0]), math.log(OMEGA[1]), 2)
kept = (1 - 1e-5) ** p.reported_steps  # AdamW: lr 1e-3 times its default weight decay, 0.01
moved, by_decay = ((end - before).mean().item() for end in (after, kept * before))
figures.lines(
    {"unchanged": grid, "weight decay alone": kept * grid}, x=grid,
    x_title="log ω at the start", y_title="log ω learned", dashed=["weight decay alone"],
    title=f"log ω moved by {moved:+.3f} on average, weight decay alone moves it by {by_decay:+.3f}",
).add_scatter(
    x=before, y=after, mode="markers", name="modes, all seeds",
    marker={"color": figures.COLOURS[1], "size": 7},
)

# %% [markdown]
# ## Diagnosis: the debugging ladder, with floors
#
# The authors' own steps, one change at a time from a baseline (one seed, Adam with a one-cycle to
# 1e-2, which is faster than the reported setting), each trained on the task as posed. These rows end
# at their floors, so that none can tell a good model from a broken one. Only a floor of zero can:
# **one single sequence**, repeated, which the same code fits, at the reported step, where it is
# nearly a straight line, and at $\Delta = 1$, where it oscillates.

# %% tags=["nbval-ignore-output"]
one_sequence = Stored(anonymous, 1, TRAIN, stream(0, "one sequence"))
oscillating = Stored(AnonymousOscillations(dt=1.0), 1, TRAIN, stream(0, "one sequence"))
ladder = {
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
rows = {}
for name, (task, changes) in ladder.items():
    model = reported_model(seed=0, **changes)
    fit(model, task, seed=0, steps=p.ladder_steps, batch=32, length=TRAIN, lr=1e-2,
        schedule="one-cycle", device=p.device, label=name)
    loss = score(model, task, length=TRAIN, samples=5 * p.samples, seed=0).loss
    rows[name] = (loss, 0.0 if isinstance(task, Stored) else task.floor(TRAIN))
ladder_table = pd.DataFrame(rows, index=["loss", "floor"]).T
ratio = (ladder_table.loss / ladder_table.floor).where(ladder_table.floor > 0)
ladder_table.assign(ratio=ratio).round(4)

# %% [markdown]
# ## Corrected: the input says which oscillator starts, and how
#
# $K$ oscillators are drawn once per run. A sequence excites one of them, with $A\cos\varphi$ in
# channel $k$ and $A\sin\varphi$ in channel $K + k$; $\Delta = 1$. The target is linear in the input,
# and the floor is zero.

# %%
eight = KnownOscillators.draw(8, stream(p.seeds[0], "oscillators"))
task_report = audit.task(eight, length=TRAIN)
print("floor:", task_report["floor: the best possible"], "· distinct inputs:",
      task_report["distinct inputs, of all"])
model_report = audit.model(
    OscDPLR(
        16, d_output=1, form="dissipative", complex_io=True, generator=stream(p.seeds[0], "init")
    ).double(),
    eight, length=TRAIN,
)

# %% tags=["nbval-ignore-output"]
display(task_report, model_report)
batch = eight.sample(4, TEST, stream(0, "examples"))
examples = {f"sequence {i}": y for i, y in enumerate(batch.targets[..., 0])}
figures.lines(examples, x_title="step", y_title="y",
              title="Four targets of the repaired task, to 512 steps")

# %% [markdown]
# ### Three forms of one layer
#
# The recurrence, the parallel scan and the convolution kernel (by doubling, and through Woodbury
# from the generating function) must be the same function with the same gradients. Trained and
# fresh layers are compared in float64 (C3).


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
    OscDPLR(16, d_output=1, form=form, complex_io=io, generator=stream(s, "init"),
            dtype=torch.float64)
    for form in ("plain", "dissipative") for io in (False, True) for s in p.seeds[:2]
]
forms_gap = max(audit.disagreement(layer, noise[:, :32], forms_of(layer)) for layer in fresh)
print("three forms agree within 1e-10:", forms_gap < 1e-10)

# %% [markdown]
# ### What the choice of scan does to a training step
#
# One full step (outputs, loss, gradients, update) of the layer trained below, on 32 sequences, with
# each way to run its recurrence. The compiled scan passes once over memory, forwards and backwards;
# the scan in torch operations squares the matrix and joins ever longer windows; the loops pay torch's
# overhead at every step of time. The convolution, which training uses, never holds the states.


# %% tags=["nbval-ignore-output"]
def training_step(forward, length):
    layer = OscDPLR(16, d_output=1, form="dissipative", complex_io=True,
                    generator=stream(0, "init")).double()
    batch = eight.sample(32, length, stream(0, "batch"))
    x = pad(batch.inputs, (0, 0, 0, length - batch.inputs.shape[1]))
    optimizer = torch.optim.Adam(layer.parameters())

    def step():
        optimizer.zero_grad()
        (forward(layer, x) - batch.targets).square().mean().backward()
        optimizer.step()

    return step


forwards = {
    "convolution": lambda layer, x: layer(x),
    "matrix_scan, compiled": OscDPLR.forward_scan,
    "matrix_scan in torch operations": partial(OscDPLR.forward_scan, scan=matrix_scan_associative),
    "its plain loop": partial(OscDPLR.forward_scan, scan=matrix_scan_sequential),
    "the layer's own step": unroll,
}
rows = {}
for length in (TRAIN, TEST):
    calls = {name: training_step(forward, length) for name, forward in forwards.items()}
    timings = take_turns(calls, rounds=5, budget=2, label=f"a training step, {length} steps")
    for name, timing in timings.items():
        ratio = timing.median / timings["matrix_scan, compiled"].median
        rows.setdefault(name, {}).update({(f"{length} steps", "ms"): f"{1e3 * timing.median:.1f}",
                                          (f"{length} steps", "ratio"): f"{ratio:.2f}"})
pd.DataFrame(rows).T

# %% [markdown]
# ### Training
#
# The dissipative form with 16 oscillators and rank 2, K = 1 and 8, real and complex B and C, in
# float64. One update in ten sees a window of 512 steps; the others see 128. All seeds of an arm
# train side by side.


# %%
def train(systems, *, steps, windows, **settings):
    """Models, tasks and histories of one arm, every seed with oscillators of its own."""
    tasks = [KnownOscillators.draw(systems, stream(s, "oscillators")) for s in p.seeds]
    models = [
        OscDPLR(
            2 * systems, d_output=1, generator=stream(s, "init"), dtype=torch.float64, **settings
        )
        for s in p.seeds
    ]
    quick = dict.fromkeys(("B", "C", "D"), 4e-2)  # linear in these, unlike in the others
    watch = {"A": lambda m: torch.linalg.eigvals(m.state_matrix().to_dense()),
             "A_d": lambda m: torch.linalg.eigvals(m.discretised()[0])}
    histories = fit_together(
        models, tasks, seeds=p.seeds, steps=steps, batch=32, length=windows,
        lr={"": 2e-2, **quick}, schedule="one-cycle", device=p.device, watch=watch,
        label=f"K = {systems}, {settings}",
    )
    return models, tasks, histories


LONG_WINDOWS = [TRAIN] * 9 + [TEST]
arms = {}
for systems in (1, 8):
    for kind in ("real", "complex"):
        arms[f"K = {systems}, {kind}"] = train(
            systems, steps=p.corrected_steps, windows=LONG_WINDOWS, form="dissipative",
            complex_io=kind == "complex",
        )

# %% tags=["nbval-ignore-output"]
curves = {arm: torch.stack([h.loss for h in histories]) for arm, (_, _, histories) in arms.items()}
figures.losses(curves, title="The repaired task: the floor is zero")

# %%
train_mse = {arm: scores(models, tasks, TRAIN) for arm, (models, tasks, _) in arms.items()}
test_mse = {arm: scores(models, tasks, TEST) for arm, (models, tasks, _) in arms.items()}


# %% tags=["nbval-ignore-output"]
def table(trained, lengths):
    rows = {}
    for arm, (models, tasks, histories) in trained.items():
        measured = {length: scores(models, tasks, length) for length in lengths}
        rows[arm] = {(f"{n} steps", what): f"{getattr(mse, what)():.1e}"
                     for n, mse in measured.items() for what in ("median", "max")}
        rows[arm]["training", "seconds"] = round(histories[0].seconds, 1)
    return pd.DataFrame(rows).T


display(table(arms, (TRAIN, TEST, 4 * TEST)))
figures.strips(
    {f"{arm}, {n} steps": mse[arm] for arm in arms for n, mse in ((TRAIN, train_mse), (TEST, test_mse))},
    title="Every seed, at 128 and 512 steps", y_title="mean squared error",
    limits={"C1, train": 1e-6, "C1, test": 1e-4},
)

# %% [markdown]
# ### Why the long windows?
#
# Because 128 steps do not determine sixteen overlapping modes. Here is a bank of $n$ random
# oscillators that are **never trained**: only their amplitudes are fitted, by least squares, to the
# first 128 steps of one oscillation they do not contain. From eight oscillators on the fit is
# perfect to rounding and says nothing about the frequencies, and past the window it is worthless. A
# small training error is therefore no evidence that anything has been identified.


# %% tags=["nbval-ignore-output"]
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
figures.lines(
    {"128 steps, fitted": banks[:, 0], "512 steps": banks[:, 1]}, x=sizes, y_title="squared error",
    x_title="oscillators, none of them trained", title="Any frequencies will do: median of 20 banks",
    log=True,
)

# %% [markdown]
# The trained layer without the long windows, and the plain form with them, for comparison. The
# first fits 128 steps just as well and extrapolates far worse: its training error says nothing
# about it. In the plain form nothing but the loss keeps the eigenvalues inside the unit circle.
# With the long windows, 512 steps are no extrapolation any more; 2,048 are.

# %% tags=["nbval-ignore-output"]
ablations = {
    "K = 8, complex, windows of 128 only": train(
        8, steps=p.corrected_steps, windows=TRAIN, form="dissipative", complex_io=True
    ),
    "K = 8, complex, plain form": train(
        8, steps=p.corrected_steps, windows=LONG_WINDOWS, form="plain", complex_io=True
    ),
}
table({"K = 8, complex": arms["K = 8, complex"], **ablations}, (TRAIN, TEST, 4 * TEST))

# %% [markdown]
# ## Identified: as many oscillators as there are systems
#
# A minimal realisation that is told which channels belong together needs no long windows: $n = K$,
# no low-rank term, complex B and C, trained on 128 steps alone. Every oscillator hears the two
# channels of one system (`heads=K`; in S4, too, no state hears every channel). Both are needed: with
# one head for all, a mode can stand in for any other, and the fit is good long before the
# frequencies are right. That row is kept below. Only this arm extrapolates four times past all it
# was trained on.

# %%
minimal = {
    f"K = {systems}": train(
        systems, steps=p.identified_steps, windows=TRAIN, d_state=systems, rank=0,
        heads=systems, complex_io=True,
    )
    for systems in (1, 4, 8)
}
minimal["K = 4, one head"] = train(
    4, steps=p.identified_steps, windows=TRAIN, d_state=4, rank=0, complex_io=True
)


def relative_error(model, task):
    """The largest relative error of any omega or zeta, read from the eigenvalues of A_d."""
    with torch.no_grad():
        found = torch.stack(oscillator_parameters(model.discretised()[0], model.dt))
    true = torch.stack([task.omega, task.zeta])
    errors = ((found[:, :, None] - true[:, None]) / true[:, None]).abs().amax(0)
    return errors[linear_sum_assignment(errors)].max().item()


errors = {
    arm: torch.tensor([relative_error(*pair) for pair in zip(models, tasks, strict=True)])
    for arm, (models, tasks, _) in minimal.items()
}
minimal_test = {arm: scores(models, tasks, TEST) for arm, (models, tasks, _) in minimal.items()}

# %% tags=["nbval-ignore-output"]
measured = table(minimal, (TRAIN, TEST))
measured["worst error", "of ω, ζ"] = [f"{e.max():.1e}" for e in errors.values()]
display(measured)


def frequencies(trained):
    found = [oscillator_parameters(m.discretised()[0].detach(), m.dt) for m in trained[0]]
    return tuple(torch.stack(parts) for parts in zip(*found, strict=True))


true = {arm: tuple(torch.stack([getattr(t, name) for t in tasks]) for name in ("omega", "zeta"))
        for arm, (_, tasks, _) in minimal.items()}
figures.recovered(
    true, {arm: frequencies(minimal[arm]) for arm in true},
    title="Learned against true oscillators, warping undone",
)

# %% [markdown]
# ## Panels: states and eigenvalues
#
# The modes of a trained layer, for a sequence of its task or for white noise.

# %% tags=["nbval-ignore-output"]
shown = {**{f"identified, {arm}": trained for arm, trained in minimal.items()}, **arms}


def drive_of(model, drive):
    x = panels.examples(shown[model][1][0], length=TRAIN)
    if drive == "white noise":
        x = torch.randn(x.shape, generator=stream(0, "noise"), dtype=x.dtype)
    return x


panels.states(
    {arm: models for arm, (models, *_) in reversed(shown.items())}, drive_of,
    drive=Choice("input", ["impulse", "white noise"]), title="states of the modes",
)


# %% tags=["nbval-ignore-output"]
def draw_eigenvalues(arm, snapshot):
    history = {**shown, **ablations}[arm][2][0]
    at = round(snapshot / 100 * (len(history.watched_at) - 1))
    A, A_d = history.watched["A"], history.watched["A_d"]
    return figures.eigenvalues(
        A[at], A_d[at], path=(A[::2], A_d[::2]),
        title=f"{arm}: after {history.watched_at[at]} updates",
    )


panels.eigenvalues(
    draw=draw_eigenvalues,
    arm=Choice("model", ["K = 8, complex, plain form", *shown]),
    snapshot=Slider("training, %", 100, 0, 100, 2, play=True),
)

# %% [markdown]
# ## Criteria and verdict
#
# S1 to S4, F1 and F2 are those of the proposal, applied to the earlier setting and to the corrected
# one; the worst seed of the worst arm counts. C1 to C4 are those of the repair; C1 takes the median
# seed. C1+ asks the minimal realisation for more, on windows of 512 where it saw 128. F2, the worst
# ratio of any seed, is judged by S2 once the training error is below 1e-5, as the proposal's authors
# could not foresee an error of zero. E shows what lies beyond the longest window and the ablations,
# relative to the energy of the targets there; it decides nothing.


# %%
def proposal(arm, train_error, test_error, omega, of):
    check, name = partial(evidence.check, arm=arm), f"ω of {of}, rad/s"
    kind = "context" if train_error.max() < 1e-5 else "failure"
    check("S1", train_error.max(), "<", 1e-3, metric="train MSE, 128 steps")
    check("S2", test_error.max(), "<", 1e-2, metric="test MSE, 512 steps")
    check("S3", omega.min(), ">=", 1e-3, metric=f"smallest {name}")
    check("S3", omega.max(), "<=", 1.0, metric=f"largest {name}")
    check("S4", omega.std(-1).min(), ">", 1e-3, metric=f"std of {name}")
    check("F1", train_error.max(), ">", 1e-1, kind="failure", metric="train MSE, 128 steps")
    check("F2", (test_error / train_error).max(), ">", 10, kind=kind, metric="test / train MSE")


def beyond(trained, start, length):
    """Float64["seeds"]: squared error of the steps from `start` on, over the energy of the target."""
    ratios = []
    for model, task, seed in zip(*trained[:2], p.seeds, strict=True):
        batch = task.sample(1000, length, stream(seed, "beyond"))
        late = batch._replace(mask=batch.mask & (torch.arange(length) >= start))
        with torch.no_grad():
            ratios.append(task.loss(model, late) / batch.targets[:, start:].square().mean())
    return torch.stack(ratios)


# %%
learned_omega = torch.stack([frequencies(arm)[0] for arm in arms.values()])
original_omega = torch.stack([model.log_omega.detach().exp() for model in originals])
every_seed = [torch.stack(list(mse.values())) for mse in (train_mse, test_mse)]
proposal("reported", *of_all_sequences.values(), original_omega, of="the parameters")
proposal("corrected", *every_seed, learned_omega, of="A_d")
for arm in arms:
    for name, mse, limit in (("train", train_mse, 1e-6), ("test", test_mse, 1e-4)):
        evidence.check("C1", mse[arm].median(), "<", limit, metric=f"{name} MSE, {arm}",
                       spread=mse[arm].std())
for arm in ("K = 1", "K = 4", "K = 8"):
    evidence.check("C2", errors[arm].max(), "<", 0.01, arm="identified",
                   metric=f"worst relative error of ω and ζ, {arm}")
    evidence.check("C1+", minimal_test[arm].median(), "<", 1e-8, arm="identified",
                   metric=f"test MSE, {arm}", spread=minimal_test[arm].std())
for arm, trained in {**arms, **ablations, **minimal}.items():
    start = TRAIN if arm in minimal or "only" in arm else TEST
    group = "identified" if arm in minimal else "corrected" if arm in arms else "ablation"
    evidence.check("E", beyond(trained, start, 4 * start).median(), "<", 1e-2, arm=group, kind="context",
                   metric=f"relative error, steps {start} to {4 * start}, {arm}")
trained_layers = arms["K = 8, real"][0] + arms["K = 8, complex"][0]
gaps = [audit.disagreement(layer, noise, forms_of(layer)) for layer in trained_layers]
evidence.check(
    "C3", max(forms_gap, *gaps), "<", 1e-10, metric="gap between the three forms, float64"
)
for length, ratio in worst_ratio.items():
    evidence.check("C4", ratio, "in", (0.97, 1.03), arm="diagnosis",
                   metric=f"measured MSE / floor, {length} steps")

# %%
value = evidence.value
evidence.summary(
    question="Can an oscillatory state-space model continue an oscillation?",
    finding=(
        f"As posed, the loss is {worst_ratio[TRAIN]:.2f} times the least that a blind model can reach; with "
        f"oscillators known by channel, the error at {TEST} steps is "
        f"{lab.evidence.shown(value('C1', 'test MSE, K = 8, complex'), 2)} (K = 8, median)."
    ),
    settles="Score steps 128 to 2,048 with the envelope taken off, and ask for the poles of one head that is not told the channels.",
    figure="Every seed, at 128 and 512 steps",
    tags=["oscillators", "length"], impact=3, cost_h=4,
)

# %% tags=["nbval-ignore-output"]
evidence

# %% tags=["nbval-ignore-output"]
from lab.records import committed  # the full run, for the short one at the defaults

committed.criteria(evidence)

# %%
print(evidence.statuses())

# %% [markdown]
# ## What this does not show, and what next
#
# The oscillators here are known by their channel; a model that has to find out from the first
# samples of a new one needs a transition that depends on its input, which this layer has not. Nothing here compares the layer with a diagonal state-space model on real data.
# The dissipative form is what to take along: the same parameters, and no growth by construction.
