"""Figures with sliders, among them the three that every experiment shows before its results.

from lab.plots import panels
panels.targets(task, length=32)
panels.states(model, panels.examples(task, length=32))
panels.eigenvalues(model, panels.examples(task, length=32))
panels.in_training(histories)  # of a training with watch={"eigenvalues": panels.by_token}
"""

from lab.plots.controls import Choice, Slider
from lab.plots.panel import Panel
from lab.plots.sanity import by_token, eigenvalues, examples, in_training, states, targets

__all__ = [
    "Choice", "Panel", "Slider", "by_token", "eigenvalues", "examples", "in_training", "states",
    "targets",
]  # fmt: skip
