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
# # 201 · What does recall cost in bytes of state?
#
# **Question.** A model of fixed state must forget what does not fit. Several experiments train their
# mixers on one recall task at several sizes of state, by one protocol (`lab.benchmark.recall_curve`), and keep
# the rows in their records. Side by side: does the number of bytes decide how much is recalled, or
# does it matter what a mixer does with them?
#
# **The task.** Multi-query associative recall in the form of Zoology (Arora et al. 2023): 8 pairs of
# a key and a value, then all keys asked for at random distances, mostly short; 64 tokens, 32 steps.
# Two layers of 32 channels, each mixer behind a convolution of 3 steps, no positions; optimiser,
# batches and number of updates are alike, and three seeds are shown.
#
# **Criteria, written before the run.** R1: softmax attention, which keeps everything, solves the task
# (every seed at its largest size at least 0.99), so that what others miss is theirs. R2: of the
# mixers of fixed state, all recall more with their largest state than with their smallest (medians).
# R3: bytes are not all: two mixers of fixed state whose states differ by less than a quarter are
# further than 0.1 apart. What would change our mind: one curve on which all mixers lie.

# %% tags=["parameters"]
experiment: str = "201"  # the notebook these parameters belong to
folder: str = (
    "executed"  # of the executed notebooks whose records are read, from the project's root
)
expected: list[str] = ["007", "008", "009", "014", "015"]  # experiments that must have rows

# %%
import lab

p = lab.parameters()  # stops on a misspelt name, a wrong type, a value out of range

# %%
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import pandas as pd
import torch
from IPython.display import display

from lab import audit
from lab.benchmark.recall_curve import TABLE, TASK, by_state
from lab.evidence import Evidence
from lab.plots import figures
from lab.plots.panels import Choice, Panel, Slider
from lab.records import executed
from lab.records.tables import rows_of
from lab.seeding import stream
from lab.tasks.retrieval import RANDOM

evidence = Evidence("201", title="What recall costs in bytes", reported={}, parameters=asdict(p))

# %% [markdown]
# ## The task

# %% tags=["nbval-ignore-output"]
display(audit.task(TASK, length=TASK.length))


def draw_example(example):
    batch = TASK.sample(20, TASK.length, stream(0, "panel"))
    asked = torch.where(batch.mask, batch.targets, -1)
    return figures.tokens(
        {"token": batch.inputs[int(example)], "target": asked[int(example)]},
        symbols=["·", *map(str, range(1, TASK.vocabulary))],
        title="Keys are below 32, values from 32 on",
    )


Panel(draw_example, example=Slider("example", 0, 0, 19, 1))

# %% [markdown]
# ## The figure
#
# Every seed is a point, and the lines join medians. The dotted line is what an exact memory of 8
# values needs at least. Windows of convolutions and caches are counted, as everything that a step
# needs of the past. The state of softmax attention grows: it is that after 32 steps.

# %% tags=["nbval-ignore-output"]
root = Path(lab.__file__).parents[1]  # wherever the notebook is run from
rows = rows_of(executed.read(root / p.folder), TABLE)
missing = set(p.expected) - {row["experiment"] for row in rows}
if missing:
    raise FileNotFoundError(f"{p.folder} has no recall rows of {sorted(missing)}: run these first")

LEVELS = {
    "a guess": 1 / TASK.answers,
    "any value of the sequence": TASK.ceilings[RANDOM],
}
display(figures.recall(
    by_state(rows), levels=LEVELS, needed=TASK.bits(TASK.length) / 8,
    title="Recall of 8 pairs against the state that they are held in",
))

# %% [markdown]
# The same against the number of parameters: states grow with the width of keys, and weights with
# them, but much less.


# %% tags=["nbval-ignore-output"]
def draw(against):
    chosen = {"state": "state_bytes", "parameters": "parameters"}[against]
    figure = figures.recall(by_state(rows, against=chosen), levels=LEVELS, title=against)
    return figure.update_xaxes(title={"state": "state, bytes"}.get(against, against))


Panel(draw, against=Choice("against", ["parameters", "state"]))

# %% [markdown]
# ## What it says

# %% tags=["nbval-ignore-output"]
runs = pd.DataFrame(rows)
places = ["mixer", "size", "state_bytes", "parameters", "lr", "steps", "experiment"]
table = runs.groupby(places).accuracy.agg(["min", "median", "max"]).reset_index()
table["accuracy per KiB"] = table["median"] / table.state_bytes * 1024
table.round(3)

# %%
GROWING = "softmax attention"
fixed = table[table.mixer != GROWING]
ends = fixed.sort_values("state_bytes").groupby("mixer")["median"].agg(["first", "last"])
alike = [
    (abs(one.median_ - other.median_), one, other)
    for one, other in combinations(
        fixed.rename(columns={"median": "median_"}).itertuples(index=False), 2
    )
    if one.mixer != other.mixer
    and max(one.state_bytes, other.state_bytes) < 1.25 * min(one.state_bytes, other.state_bytes)
]
furthest = max(alike, key=lambda pair: pair[0])
print("experiments:", ", ".join(sorted(set(runs.experiment))))

# %% tags=["nbval-ignore-output"]
print(f"furthest apart with states alike: {furthest[0]:.3f}")
pd.DataFrame(furthest[1:])

# %% tags=["nbval-ignore-output"]
enough = fixed[fixed["median"] >= 0.9].sort_values("state_bytes").groupby("mixer").first()
print("The least state with which the median recalls 90 % of the values:")
enough[["state_bytes", "size", "median"]].sort_values("state_bytes").round(3)

# %% [markdown]
# ## Criteria and verdict

# %%
softmax = runs[runs.mixer == GROWING]
largest = softmax[softmax.state_bytes == softmax.state_bytes.max()].accuracy
evidence.check("R1", largest.min(), ">=", 0.99, metric="softmax attention, worst seed")
evidence.check("R2", (ends["last"] - ends["first"]).min(), ">", 0.0,
               metric="median at the largest state - at the smallest, least of all mixers")
evidence.check("R3", furthest[0], ">", 0.1, metric="medians furthest apart, states alike")
for name, row in enough.iterrows():
    evidence.check("E", row.state_bytes, ">", TASK.bits(TASK.length) / 8, kind="context",
                   metric=f"least state for 90 %: {name}")

# %%
gap, one, other = furthest
means = "Bytes alone do not decide" if gap > 0.1 else "Bytes alone may decide"
evidence.summary(
    question="What does recall cost in bytes of state?",
    finding=(
        f"{means}: at {one.state_bytes:,} and {other.state_bytes:,} bytes {one.mixer} recalls "
        f"{100 * one.median_:.0f} %, {other.mixer} {100 * other.median_:.0f} % (medians); softmax "
        f"attention, growing, {100 * largest.min():.0f} % (worst seed)."
    ),
    settles="Sequences of 64 steps or more, values of one size, initial values that reach memory, a learning rate per arm, five seeds.",
    figure="Recall of 8 pairs against the state that they are held in",
    tags=["recall", "state size"], impact=5, cost_h=10,
    blocked_by="007, 008, 009, 014 and 015, run again",
)

# %% tags=["nbval-ignore-output"]
evidence

# %%
print("\n".join(s for s in evidence.statuses().splitlines() if not s.startswith("E ")))

# %% [markdown]
# ## What this does not show, and what next
#
# **Capacity or learning?** All mixers have had the same updates. A low point says that the mixer did
# not learn to use its state in that time, not that it could not: an exact memory fits into a
# hundredth of the bytes of any of them. Longer training moves the points up, not all by as much.
#
# **One task.** 8 pairs, one vocabulary, one width, short distances. What is read here is recall
# without noise: selection is asked for in 007, overwriting in 008, load in 014 and 015.
#
# Later experiments add their mixers by handing the rows of `lab.benchmark.recall_curve.measure` to their
# records; nothing here changes.
