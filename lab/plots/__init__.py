"""Figures that travel: interactive where there is JupyterLab, a picture everywhere else.

    from lab.plots import figures
    figures.losses({"delta rule": curves})

Importing this package sets the look of all plotly figures of the session and the way in which they
are displayed; one that a notebook builds with plotly itself has a static twin too.
"""

from lab.plots import render, theme
from lab.plots.looks import reset

theme.install()
render.install()

__all__ = ["render", "reset", "theme"]
