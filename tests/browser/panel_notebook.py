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
# # Panels
#
# What the tests of panels open in a browser: small, and with all that a panel can have.

# %%
import time

import torch

from lab.plots import figures
from lab.plots.panels import Choice, Panel, Slider


# %%
def draw(frequency, step, kind):
    t = torch.arange(400) / 100
    curves = {"sine": torch.sin(frequency * t), "cosine": torch.cos(frequency * t), kind: t / 4}
    return figures.lines(
        curves, title=f"frequency {frequency:.1f}, step {step}, {kind}", x_title="time, s",
        y_title="y",
    )  # fmt: skip


Panel(
    draw, frequency=Slider("ω, rad/s", 1.0, 0.1, 5.0, 0.1),
    step=Slider("step", 0, 0, 9, 1, play=True), kind=Choice("third", ["rising", "falling"]),
)  # fmt: skip


# %%
def draw_slowly(value):
    time.sleep(0.3)
    curve = {"y": torch.full((3,), value)}
    return figures.lines(curve, title=f"slow {value}", x_title="x", y_title="y")


Panel(draw_slowly, value=Slider("value", 0, 0, 99, 1))

# %%
print("all run")
