"""Figures that travel: interactive where there is JupyterLab, a picture everywhere else.

    from lab.plots import figures
    figures.losses({"delta rule": curves})

Importing this package sets the style of every plotly figure in the session and how it is displayed.
Figures that a notebook builds directly with plotly therefore get a static picture, too.
"""

from lab.plots import render, theme
from lab.plots.looks import reset

theme.install()
render.install()

__all__ = ["render", "reset", "theme"]
