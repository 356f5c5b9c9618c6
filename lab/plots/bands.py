"""Lines with the band of an interval around each."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import torch

from lab.plots import looks
from lab.plots.curves import lines
from lab.plots.theme import GREY
from lab.statistics import Interval


def bands(
    series: Mapping[str, Sequence[Interval]], *, x: Sequence[float], x_title: str, y_title: str,
    title: str = "", dashed: Sequence[str] = (),
) -> go.Figure:  # fmt: skip
    """One line per name through the means over a shared x, and a shaded band from low to high.

    Args:
        series: intervals by name, one for each x.
        x: ascending.
        x_title, y_title: what the axes show, with units.
        title: what the figure shows.
        dashed: names of the series that are references; they are drawn in grey.
    """
    means = {name: torch.tensor([each.mean for each in found]) for name, found in series.items()}
    place = torch.tensor(list(x))
    figure = lines(means, x=place, x_title=x_title, y_title=y_title, title=title, dashed=dashed)
    around = np.concatenate([place, place.flip(0)])
    for name, found in series.items():
        look = looks.known(name)
        colour = GREY if name in dashed or look is None else look.colour
        border = [each.low for each in found] + [each.high for each in reversed(found)]
        figure.add_scatter(
            x=around, y=border, fill="toself", fillcolor=colour, opacity=0.25, mode="none",
            hoverinfo="skip", showlegend=False, name=name,
        )  # fmt: skip
    low = min(each.low for found in series.values() for each in found)
    high = max(each.high for found in series.values() for each in found)
    room = 0.05 * (high - low or 1)
    return figure.update_yaxes(range=[low - room, high + room])
