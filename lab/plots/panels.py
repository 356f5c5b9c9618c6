"""Figures with sliders, and those three that every experiment shows before it trains anything.

    from lab.plots import panels
    panels.targets(task, length=32)
    panels.states(model, x)
    panels.eigenvalues(model, x)
"""

from lab.plots.controls import Choice, Slider
from lab.plots.panel import Panel

__all__ = ["Choice", "Panel", "Slider"]
