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
# # NNN · The question, as a question
#
# **Idea.** The hypothesis in one sentence, with its equation. This template runs as it stands: does
# one oscillator, trained on 128 steps, continue an oscillation for 512?
#
# **Reported before.** The earlier numbers and decision, or: nothing.
#
# **Answer.** What was found, with its number; write it after the run. **Cause.** Why that is so.

# %% tags=["parameters"]
experiment: str = "NNN"  # the notebook these parameters belong to
seeds: list[int] = [100, 101]  # one model each, in [0, 2147483647]
tuning_seeds: list[int] = [0]  # for the step size, none of those above, in [0, 2147483647]
steps: int = 600  # updates per model, in [1, 1000000]
length: int = 128  # time steps in training, in [2, 4096]
samples: int = 1000  # sequences that a score is the mean over, in [100, 1000000]

# %% jupyter={"source_hidden": true}
import torch
from IPython.display import display

import lab
from lab import audit
from lab.experiment import MEDIAN, WORST, Experiment, Planned
from lab.mixers import OscDPLR
from lab.plots import panels
from lab.seeding import stream
from lab.tasks import KnownOscillators
from lab.train import score

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
exp = Experiment(
    "NNN", title="The question in a few words", parameters=p, reported={},
    question="Does one oscillator, trained on 128 steps, continue an oscillation for 512?",
    criteria=[  # all of them, before the first run; what is added later says why (added="...")
        Planned("C1", "test MSE at four times the length", "<", 1e-4, MEDIAN, low_is_good=True),
        Planned("K1", "MSE at the length of training", "<", 1e-4, WORST, kind="control"),
    ],
)
exp

# %% [markdown]
# The cell above is the first screen: the table of criteria, with verdict and key figure once there are
# any. What would change our mind: a training error that falls while the test error does not. K1 is a
# control: if the model has not learned what it was trained on, C1 says nothing about its idea.
#
# Tuning seeds choose the step size; the seeds that are reported choose nothing.
#
# ## Is the task what we think it is?
#
# An example, and the audit: what a guess scores, what the best model could score, and whether test
# inputs are new.

# %%
tasks = [KnownOscillators.draw(1, stream(seed, "oscillators")) for seed in p.seeds]

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(audit.task(tasks[0], length=p.length))
panels.targets(tasks[0], length=p.length)

# %% [markdown]
# ## Is the model what we think it is?
#
# The function below builds the model of a seed; it draws from that seed alone. The audit counts its
# parameters, and says whether it looks ahead and whether its two forms agree. Then come its states and
# its eigenvalues before training: a mode whose eigenvalue lies well inside the circle forgets.


# %%
def build(_, seed):
    return OscDPLR(
        2, d_output=1, d_state=1, rank=0, complex_io=True, generator=stream(seed, "init"),
        dtype=torch.float64,
    )


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
first, inputs = build(tasks[0], p.seeds[0]), panels.examples(tasks[0], length=p.length)
display(audit.model(first, tasks[0], length=p.length))
display(panels.states(first, inputs))
panels.eigenvalues(first, inputs)

# %% [markdown]
# ## As reported
#
# The earlier setting, reproduced, with the earlier number beside ours (`arm="reported"` in its
# criterion). If the budget is not the earlier one, call it the original task.
#
# ## Diagnosis
#
# The one or two figures that show why.
#
# ## Corrected
#
# Every arm gets the step size that does best for it on the tuning seeds, from one grid.

# %%
RECIPE = {"steps": p.steps, "batch": 32, "length": p.length, "schedule": "one-cycle", "device": "cpu"}
ARMS = {"one oscillator": build}  # a rival joins here: its name, and a function like `build`


def error(model, task, *, seed):
    return score(model, task, length=p.length, samples=p.samples, seed=seed).loss


# %% tags=["nbval-ignore-output"]
others = [KnownOscillators.draw(1, stream(seed, "oscillators")) for seed in p.tuning_seeds]
rates = exp.tune(ARMS, others, RECIPE, lr=[5e-3, 2e-2, 8e-2], seeds=p.tuning_seeds, score=error,
                 high_is_good=False)
rates

# %%
arms = exp.train(ARMS, tasks, RECIPE, tuned=rates)
trained, longer = (arms.scores(length=n * p.length, samples=p.samples, score="loss") for n in (1, 4))
exp.judge("K1", trained["one oscillator"])
exp.judge("C1", longer["one oscillator"])

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
display(longer.frame())
exp.key_figure(arms.losses(title="Training loss, every seed"))

# %% [markdown]
# What the figure shows, in a sentence or two. Every seed is drawn, and the figure stands below the
# table, too.
#
# ## Verdict
#
# The table with the verdict is at the top. What has to be the same on every machine is printed here;
# the finding becomes a row of the research log, and its numbers are formatted, never typed.

# %%
exp.conclude(
    finding=f"After {p.steps} updates on {p.length} steps the test error at {4 * p.length} steps is "
    f"{longer['one oscillator'].quantile(0.5):.2g} (median of {len(p.seeds)} seeds).",
    settles="The run that would settle what is open, in one sentence.",
    tags=["template"],
    impact=1,  # 1 to 5: how much that run could change what is done afterwards
    cost_h=0.1,  # hours of a person and of two idle cores
)

# %% [markdown]
# ## What this does not show, and what next
#
# Two or three sentences that agree with the table.
