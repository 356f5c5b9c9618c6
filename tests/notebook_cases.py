"""A notebook as text, and YAML that expands without end."""

NOTEBOOK = """\
# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A small notebook

# %% tags=["parameters"]
experiment: str = "007"  # the notebook these parameters belong to
length: int = 128  # time steps, in [2, 4096]
seeds: list[int] = [0, 1, 2]  # one model each

# %%
import os
import lab

# %%
p = lab.parameters()

# %%
print(p)

# %% tags=["nbval-ignore-output"]
print(os.getcwd())
"""

# Nine to the tenth power of elements, from some lines.
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
