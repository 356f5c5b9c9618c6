"""Matrices as they are: the dense pattern of any structure, a cell for every entry."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from lab.linalg.structure import Structured
from lab.plots import fit
from lab.plots.theme import FONT_SIZE, GREY, WIDTH, wrapped

_ROOM = 150  # px beside the matrices, for the axis and the colour bar


def matrices(
    values: Mapping[str, Tensor | Structured], *, outline: Tensor | None = None, title: str = ""
) -> go.Figure:
    """Matrices side by side in one scale of colours, first row on top; white is zero.

    Args:
        values: Float or Bool["rows columns"] by name, or one structured matrix of `lab.linalg`,
            whose dense form is drawn; of complex numbers, their size is drawn.
        outline: Bool["rows columns"], entries with a frame around them in every matrix.
        title: what the figure shows.

    Raises:
        ValueError: a value is a batch of matrices, or no matrix.
    """
    arrays = {name: _numbers(each) for name, each in values.items()}
    width = (WIDTH - _ROOM) / len(arrays)
    heads = [wrapped(name, width, FONT_SIZE) for name in arrays]
    figure = make_subplots(cols=len(arrays), subplot_titles=heads, shared_yaxes=True)
    tallest = max(len(each) for each in arrays.values())
    widest = max(each.shape[1] for each in arrays.values())
    height = min(width * tallest / widest, 420)
    fit.planned(figure, round(height) + 130).update_layout(title_text=title)
    figure.update_annotations(font_size=FONT_SIZE)
    for col, each in enumerate(arrays.values(), start=1):
        figure.add_heatmap(z=each, coloraxis="coloraxis", row=1, col=col)
        # All entries and no more: frames at the edge would ask for room beside them.
        figure.update_xaxes(range=[-0.5, each.shape[1] - 0.5], row=1, col=col)
    if outline is not None:
        # All at once: plotly checks all shapes of a figure whenever one is added.
        places = np.argwhere(_numbers(outline))
        frames = [_frame(row, at, col) for col in range(len(arrays)) for row, at in places]
        figure.update_layout(shapes=frames)
    signed = any((each < 0).any() for each in arrays.values())
    colours = {"colorscale": "RdBu", "cmid": 0} if signed else {"colorscale": "Blues", "cmin": 0}
    figure.update_layout(coloraxis=colours)
    figure.update_xaxes(title_text="column").update_yaxes(range=[tallest - 0.5, -0.5])
    return fit.fit(figure.update_yaxes(title_text="row", col=1))


def _frame(row: int, column: int, subplot: int) -> dict[str, Any]:
    """A frame around one entry of a matrix, in the subplot of this number."""
    axis = subplot + 1 if subplot else ""
    return {
        "line": {"color": GREY, "width": 2}, "type": "rect",
        "x0": column - 0.5, "x1": column + 0.5, "xref": f"x{axis}",
        "y0": row - 0.5, "y1": row + 0.5, "yref": f"y{axis}",
    }  # fmt: skip


def _numbers(values: Tensor | Structured) -> np.ndarray:
    """Real numbers in single precision, which is enough for a screen."""
    if isinstance(values, Structured):
        values = values.to_dense()
    if values.ndim != 2:
        raise ValueError(f"a value of shape {tuple(values.shape)} is no matrix; pass one of them")
    shown = values.abs() if values.is_complex() else values
    return shown.detach().cpu().numpy().astype(np.float32)
