"""The static twin of a plotly figure: the same figure as PNG, drawn by matplotlib.

    png(figure)  # bytes

It reads the figure that plotly would get, so every figure of a notebook has a twin, wherever it was
built and however it was changed afterwards. It covers the part of plotly that is used here:
scatter, bar, box and heatmap traces; linear, logarithmic and category axes; subplots, shapes,
annotations, legends and colour bars. Anything else raises an error, because an incomplete picture
is worse. matplotlib takes half a second to load, which happens with the first picture.
"""

from lab.plots.twin.picture import png
from lab.plots.twin.read import Undrawable

__all__ = ["Undrawable", "png"]
