"""Line plots: one or more curves per arm, over a shared x axis."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from lab.plots import fit, looks
from lab.plots.arrange import Axes, Curves, arrange
from lab.plots.looks import Look
from lab.plots.theme import GREY, SMALL

_POINTS = 400  # points of a training curve: more than a screen can resolve
_MARKS = 7  # markers on a curve of many points, which distinguish curves of equal colour
SHARES = (-0.02, 1.04)  # the range of an axis of accuracies


def lines(
    series: Mapping[str, Tensor], *, x_title: str, y_title: str, x: Tensor | None = None,
    title: str = "", dashed: Sequence[str] = (), log: bool = False, x_log: bool = False,
    levels: Mapping[str, float] | None = None,
) -> go.Figure:  # fmt: skip
    """One line per name over a shared x (the index if None).

    Args:
        series: ["points"] by name.
        x_title, y_title: what the axes show, with units.
        x: ["points"].
        title: what the figure shows.
        dashed: names of the series that are references; they are drawn in grey.
        log, x_log: whether y and x have log scales.
        levels: heights of dashed lines, by label.
    """
    found = _looks(series, dashed)
    curves = {}
    for name, values in series.items():
        y = array(values)
        time = np.arange(len(y)) if x is None else array(x)
        curves[name] = Curves(found[name], [_line(time, y, found[name], name not in dashed)],
                              _last(y))  # fmt: skip
    axes = Axes(x_title, y_title, x_log, log)
    return _arranged(curves, dashed, axes, title, levels)


def losses(
    runs: Mapping[str, Tensor], *, floors: Mapping[str, float] | None = None, title: str = ""
) -> go.Figure:
    """Training loss against update on a log scale: one line per seed; floors as dashed lines.

    For a long run, the curve shows means over stretches of equally many updates.

    Args:
        runs: ["seeds steps"] by arm; all seeds of an arm share its colour and dash.
        floors: best possible losses, by label.
    """
    found = looks.of(runs)
    arms = {}
    for arm, curves in runs.items():
        traces = []
        for i, curve in enumerate(curves):
            steps, smooth = _thinned(array(curve))
            traces.append({**_line(steps, smooth, found[arm], i == len(curves) - 1),
                           "line": found[arm].line(1.2), "opacity": 0.8})  # fmt: skip
        ends = [_last(trace["y"]) for trace in traces]
        arms[arm] = Curves(found[arm], traces, float(np.median(ends)))
    return arrange(arms, Axes("update", "loss", y_log=True), title=title, levels=floors)


def accuracy(
    runs: Mapping[str, Tensor], *, x: Sequence[float] | None = None, title: str = "",
    x_title: str = "position", levels: Mapping[str, float] | None = None,
    y_title: str = "accuracy", x_log: bool | None = None, solved: float | None = None,
) -> go.Figure:  # fmt: skip
    """Accuracy against position or length: a thin line per seed, and a thick line for the median.

    Args:
        runs: Float["seeds points"] in [0, 1], by arm.
        x: x value of each point; 1, 2, 3 and so on if None.
        title, x_title, y_title: what the figure and the axes show.
        levels: dashed lines, by label, such as chance or the best accuracy of commuting models.
        x_log: whether x has a log scale; if None, it has one when x spans a factor of four or more.
        solved: the accuracy at which a seed counts as having solved the task; the names then say
            how many seeds have solved it at the first point.
    """
    where = np.array(x if x is not None else range(1, 1 + next(iter(runs.values())).shape[1]))
    found, arms = looks.of(runs), {}
    for arm, curves in runs.items():
        look, every = found[arm], not (x is None and len(where) > 40)
        middle = array(curves.double().quantile(0.5, dim=0))
        seeds = [{"x": where, "y": array(curve), "mode": "lines", "opacity": 0.4,
                  "line": look.line(1)} for curve in curves]  # fmt: skip
        main = _line(where, middle, look, marked=True, every=every)
        name = arm if solved is None else f"{arm} ({solvers(curves[:, 0], solved)})"
        arms[name] = Curves(look, [*seeds, main], _last(middle))
    if x_log is None:
        x_log = x is not None and bool(where.max() >= 4 * where.min() > 0)
    ticks = {"tickvals": where, "ticktext": [f"{length:g}" for length in where]} if x_log else {}
    axes = Axes(x_title, y_title, x_log, y_range=SHARES, x=ticks)
    return arrange(arms, axes, title=title, levels=levels)


def scaling(
    series: Mapping[str, Mapping[float, float]], *, title: str = "", x_title: str, y_title: str,
    dashed: Sequence[str] = (),
) -> go.Figure:  # fmt: skip
    """How quantities grow: a line with points per name, with both axes on log scales.

    Args:
        series: for each name a mapping from x to y; the x values may differ between names.
        title, x_title, y_title: what the figure shows, with units.
        dashed: names of the series that are references (bounds, not measurements); they are drawn
            in grey without points.
    """
    found, curves = _looks(series, dashed), {}
    for name, points in series.items():
        x, y = np.array(list(points), dtype=float), np.array(list(points.values()), dtype=float)
        curves[name] = Curves(found[name], [_line(x, y, found[name], name not in dashed, True)],
                              _last(y))  # fmt: skip
    return _arranged(curves, dashed, Axes(x_title, y_title, True, True), title, None)


def recall(
    curves: Mapping[str, Mapping[int, Sequence[float]]], *, title: str = "",
    levels: Mapping[str, float] | None = None, needed: float | None = None,
    x_title: str = "state, bytes",
) -> go.Figure:  # fmt: skip
    """Accuracy against state size: one point per seed, and a line through the medians.

    Args:
        curves: for each mixer, the accuracies of all seeds by the size of the state in bytes.
        title, x_title: what the figure and its x axis show.
        levels: dashed lines, by label, such as chance or the ceiling without the query.
        needed: the fewest bytes that an exact memory needs; drawn as a dotted line.
    """
    found, arms = looks.of(curves), {}
    for name, by_bytes in curves.items():
        look, places = found[name], sorted(by_bytes)
        points = [(place, value) for place in places for value in by_bytes[place]]
        medians = np.array([float(np.median(by_bytes[place])) for place in places])
        seeds = {"x": [place for place, _ in points], "y": [value for _, value in points],
                 "mode": "markers", "opacity": 0.5, "marker": look.points(5)}  # fmt: skip
        middle = _line(np.array(places), medians, look, marked=True, every=True)
        arms[name] = Curves(look, [seeds, middle], _last(medians))
    axes = Axes(x_title, "accuracy", x_log=True, y_range=SHARES)
    figure = arrange(arms, axes, title=title, levels=levels, height=440)
    if needed is not None:
        _draw_needed(figure, needed)
    return figure


def solvers(scores: Tensor, threshold: float) -> str:
    """How many seeds reach the threshold, in words: "3 of 5 solved"."""
    return f"{int((scores >= threshold).sum())} of {len(scores)} solved"


def array(values: Tensor) -> np.ndarray:
    """Values in single precision, which is enough for a screen and keeps the notebook small."""
    return torch.as_tensor(values).detach().cpu().numpy().astype(np.float32)


def _looks(series: Mapping[str, Any], dashed: Sequence[str]) -> dict[str, Look]:
    arms = looks.of(name for name in series if name not in dashed)
    return arms | looks.references(name for name in series if name in dashed)


def _arranged(
    curves: Mapping[str, Curves], dashed: Sequence[str], axes: Axes, title: str,
    levels: Mapping[str, float] | None,
) -> go.Figure:  # fmt: skip
    arms = {name: each for name, each in curves.items() if name not in dashed}
    grey = {name: each for name, each in curves.items() if name in dashed}
    return arrange(arms, axes, title=title, references=grey, levels=levels)


def _line(
    x: np.ndarray, y: np.ndarray, look: Look, marked: bool, every: bool = False
) -> dict[str, Any]:
    """A line in the colour and dash of its arm, with markers at all its points or at a few.

    Args:
        x, y: ["points"].
        look: the arm's colour, dash and marker.
        marked: whether the line has markers.
        every: whether every point has a marker, however many points there are.
    """
    trace = {"x": x, "y": y, "mode": "lines", "line": look.line(2)}
    if not marked:
        return trace
    few = {} if every or len(x) <= 12 else {"maxdisplayed": _MARKS}
    return {**trace, "mode": "lines+markers", "marker": look.points(7, **few)}


def _last(values: Any) -> float:
    """The last finite value; NaN if there is none."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    return float(finite[-1]) if len(finite) else math.nan


def _draw_needed(figure: go.Figure, needed: float) -> None:
    count = len(list(figure.select_xaxes()))
    for number in range(1, count + 1):
        axis = "" if number == 1 else str(number)
        figure.add_shape(
            type="line", x0=needed, x1=needed, xref=f"x{axis}", y0=0, y1=1, yref=f"y{axis} domain",
            layer="below", line={"color": GREY, "dash": "dot", "width": 1.5},
        )  # fmt: skip
    if count == 1:
        figure.add_annotation(
            text=f"needed: {needed:.3g} bytes", x=math.log10(needed), y=1, yref="y domain",
            yanchor="bottom", showarrow=False, font={"size": SMALL, "color": GREY},
        )  # fmt: skip
        fit.fit(figure)


def _thinned(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most _POINTS means over equal stretches of a curve, and the middle of each stretch."""
    stretches = np.array_split(np.arange(len(curve)), min(_POINTS, max(len(curve), 1)))
    middles = np.array([stretch.mean() for stretch in stretches])
    return middles, np.array([curve[stretch].mean() for stretch in stretches])
