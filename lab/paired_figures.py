"""Figures of paired runs: two arms that share seed and data, and how they differ."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from torch import Tensor

from lab.figures import COLOURS, GREY
from lab.statistics import Interval


def slopes(
    pairs: Mapping[str, tuple[Tensor, Tensor]], *, ends: tuple[str, str], title: str = "",
    y_title: str = "accuracy", levels: Mapping[str, float] | None = None,
) -> go.Figure:  # fmt: skip
    """Every pair as a line from one arm to the other; the thick line joins the means.

    Args:
        pairs: the numbers of both arms, ["seeds"] each, by what the pairs are of.
        ends: what the two arms are called.
        title, y_title: what the figure shows.
        levels: dashed lines, by label.
    """
    figure = go.Figure()
    for i, (one, other) in enumerate(pairs.values()):
        colour, x = COLOURS[i % len(COLOURS)], [i - 0.25, i + 0.25]
        both = np.stack([_array(one), _array(other)], axis=1)
        lines = [*both, both.mean(0)]
        for line in lines:
            mean = line is lines[-1]
            figure.add_scatter(
                x=x, y=line, mode="lines+markers", showlegend=False, opacity=1 if mean else 0.4,
                line={"color": colour, "width": 4 if mean else 1}, marker={"size": 4},
            )  # fmt: skip
    _add_levels(figure, levels)
    names = [f"{name}<br>{ends[0]} → {ends[1]}" for name in pairs]
    figure.update_xaxes(tickvals=list(range(len(pairs))), ticktext=names)
    return figure.update_yaxes(title=y_title).update_layout(**_layout(title, 420))


def intervals(
    differences: Mapping[str, Tensor], found: Mapping[str, Interval], *, title: str = "",
    x_title: str,
) -> go.Figure:  # fmt: skip
    """One row per name from the top down: every difference a dot, the mean and its interval a bar.

    Args:
        differences: ["pairs"] by name.
        found: the intervals, by the same names.
        title, x_title: what the figure shows, with units.
    """
    figure = go.Figure()
    rows = np.arange(len(found))
    for row, name in zip(rows, found, strict=True):
        values = _array(differences[name])
        figure.add_scatter(
            x=values, y=np.full(len(values), row + 0.2), mode="markers", showlegend=False,
            name=name, marker={"color": GREY, "size": 6, "opacity": 0.6},
        )  # fmt: skip
    mean, low, high = (np.array([getattr(each, part) for each in found.values()])
                       for part in Interval._fields)  # fmt: skip
    clear = (low > 0) | (high < 0)
    figure.add_scatter(
        x=mean, y=rows, mode="markers", showlegend=False, name="mean",
        marker={"size": 10, "color": np.where(clear, COLOURS[1], COLOURS[0]).tolist()},
        error_x={"symmetric": False, "array": high - mean, "arrayminus": mean - low},
    )  # fmt: skip
    figure.add_vline(x=0, line={"color": GREY, "dash": "dash"})
    figure.update_yaxes(tickvals=rows, ticktext=list(found), autorange="reversed")
    figure.update_xaxes(title=x_title)
    layout = _layout(title, 160 + 44 * len(found))
    return figure.update_layout(**{**layout, "margin": {**layout["margin"], "l": 230}})


def _add_levels(figure: go.Figure, levels: Mapping[str, float] | None) -> None:
    for name, level in (levels or {}).items():
        figure.add_hline(
            y=level, line={"color": GREY, "dash": "dash"}, annotation_text=name,
            annotation_font={"size": 10, "color": GREY},
        )  # fmt: skip


def _layout(title: str, height: int) -> dict[str, dict[str, object]]:
    layout: dict[str, object] = {
        "title": {"text": title, "font": {"size": 15}}, "template": "plotly_white",
        "height": height, "margin": {"l": 60, "r": 20, "t": 50, "b": 60},
    }  # fmt: skip
    return layout  # type: ignore[return-value]


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy().astype(np.float32)
