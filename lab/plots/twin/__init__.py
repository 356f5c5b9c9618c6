"""The static twin of a plotly figure: the same picture as PNG, drawn by matplotlib.

    png(figure)  # bytes

It reads the figure that plotly would get, so that every figure of a notebook has a twin, whoever
built it and whatever was changed since. Of plotly it covers what is in use here: scatter, bar, box
and heatmap traces, linear, logarithmic and category axes, subplots, shapes, annotations, legends
and colour bars. What it does not know it refuses: a picture that lacks something is worse than an
error. matplotlib takes half a second to load, which happens with the first picture.
"""

from lab.plots.twin.picture import png
from lab.plots.twin.read import Undrawable

__all__ = ["Undrawable", "png"]
