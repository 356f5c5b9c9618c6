"""Figures with sliders, among them the three that every experiment shows before its results.

from lab.plots import panels
panels.targets(task, length=32)
panels.states(model, panels.examples(task, length=32))
panels.eigenvalues(model, panels.examples(task, length=32))
"""

from lab.plots.controls import Choice, Slider
from lab.plots.panel import Panel
from lab.plots.sanity import eigenvalues, examples, states, targets

__all__ = ["Choice", "Panel", "Slider", "eigenvalues", "examples", "states", "targets"]
