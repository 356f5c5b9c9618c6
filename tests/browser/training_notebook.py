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
# # 300 · What is seen of a training?
#
# What the tests of `make lab` open in a browser.

# %%
from lab.mixers import OscDPLR
from lab.seeding import stream
from lab.tasks import KnownOscillators
from lab.train import fit_together


def train(steps):
    models = [
        OscDPLR(
            2, d_output=1, d_state=1, rank=0, complex_io=True, generator=stream(seed, "init")
        ).double()
        for seed in range(2)
    ]
    tasks = [KnownOscillators.draw(1, stream(seed, "oscillators")) for seed in range(2)]
    settings = {"batch": 8, "length": 32, "lr": 1e-3, "device": "cpu"}
    return fit_together(models, tasks, seeds=range(2), steps=steps, label="oscillators", **settings)


# %%
for _ in range(2):
    train(100)

# %%
histories = train(10**6)
