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
# **Question.** The hypothesis in one sentence, with its equation. This template runs as it stands:
# does one oscillator, trained on 128 steps, continue an oscillation for 512?
#
# **Reported before.** The earlier numbers and decision, or: nothing.
#
# **Criteria, written before the run.** C1: test error below 1e-4 for the median seed. What would
# change our mind: a training error that falls while the test error does not.

# %% tags=["parameters"]
experiment: str = "NNN"  # the notebook these parameters belong to
seeds: list[int] = [0, 1]  # one model each, in [0, 2147483647]
steps: int = 600  # updates per model, in [1, 1000000]
length: int = 128  # time steps in training, in [2, 4096]
samples: int = 1000  # sequences that a score is the mean over, in [100, 1000000]

# %%
import lab

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %%
from dataclasses import asdict

import pandas as pd
import torch
from IPython.display import display

from lab import audit
from lab.evidence import Evidence, shown
from lab.mixers import OscDPLR
from lab.plots import figures, panels
from lab.seeding import stream
from lab.tasks import KnownOscillators
from lab.train import fit_together, score

evidence = Evidence(
    "NNN", title="The question in a few words", reported={}, parameters=asdict(p), seeds=p.seeds
)

# %% [markdown]
# ## Is the task what we think it is?

# %% tags=["nbval-ignore-output"]
tasks = [KnownOscillators.draw(1, stream(seed, "oscillators")) for seed in p.seeds]
display(audit.task(tasks[0], length=p.length))
panels.targets(tasks[0], length=p.length)

# %% [markdown]
# ## Is the model what we think it is?


# %% tags=["nbval-ignore-output"]
def build(seed):
    return OscDPLR(
        2,
        d_output=1,
        d_state=1,
        rank=0,
        complex_io=True,
        generator=stream(seed, "init"),
        dtype=torch.float64,
    )


audit.model(build(0), tasks[0], length=p.length)

# %% tags=["nbval-ignore-output"]
panels.states(build(0), panels.examples(tasks[0], length=p.length))

# %% tags=["nbval-ignore-output"]
panels.eigenvalues(build(0), panels.examples(tasks[0], length=p.length))

# %% [markdown]
# ## As reported
#
# The earlier setting, reproduced, with the earlier number beside ours (`arm="reported"`).
#
# ## Diagnosis
#
# The one or two figures that show why.
#
# ## Corrected

# %% tags=["nbval-ignore-output"]
models = [build(seed) for seed in p.seeds]
histories = fit_together(
    models, tasks, seeds=p.seeds, steps=p.steps, batch=32, length=p.length, lr=2e-2,
    schedule="one-cycle", device="cpu",
)
rows = [
    {"seed": seed,
     "loss": score(model, task, length=4 * p.length, samples=p.samples, seed=seed).loss,
     "floor": task.floor(4 * p.length), "chance": task.chance(4 * p.length)}
    for model, task, seed in zip(models, tasks, p.seeds, strict=True)
]
runs = pd.DataFrame(rows)
display(runs)
figures.losses({"one oscillator": torch.stack([history.loss for history in histories])})

# %% [markdown]
# ## Criteria and verdict
#
# Measured numbers are shown in a cell tagged `nbval-ignore-output`; the cell after it prints what
# has to be the same on every machine.

# %%
_ = evidence.check("C1", runs.loss.median(), "<", 1e-4, metric="test MSE", spread=runs.loss.std())

# %%
evidence.summary(  # a row of the research log; the numbers of the finding are formatted, never typed
    question="Does one oscillator, trained on short sequences, continue an oscillation?",
    finding=(
        f"After {p.steps} updates on {p.length} steps the test error at {4 * p.length} steps is "
        f"{shown(runs.loss.median(), 2)} (median of {len(p.seeds)} seeds)."
    ),
    settles="The run that would settle what is open, in one sentence.",
    figure="",  # title of the figure that shows the finding; the first of the notebook if empty
    tags=["template"],
    impact=1,  # 1 to 5: how much that run could change what is done afterwards
    cost_h=0.1,  # hours of a person and of two idle cores
    blocked_by="",  # what has to be there first
)

# %% tags=["nbval-ignore-output"]
evidence

# %%
print(evidence.statuses())

# %% [markdown]
# ## What this does not show, and what next
#
# Two or three sentences.
