"""Figures of lines: one or more curves an arm, over a shared x."""

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

_POINTS = 400  # of a training curve: more than a screen shows
_MARKS = 7  # markers on a curve of many points, which tell it from others of its colour
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
        dashed: names of references, drawn in grey.
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
    """Training loss against update, log scale, every seed a line; floors as dashed lines.

    A long run is drawn as the means of equal stretches of updates.

    Args:
        runs: ["seeds steps"] by arm; seeds of an arm share its look.
        floors: the best possible loss, by its label.
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
    """Share of right answers against position or length: every seed a thin line, the median thick.

    Args:
        runs: Float["seeds points"] in [0, 1], by arm.
        x: of the points; 1, 2, 3 and so on if None.
        title, x_title, y_title: what the figure and the axes show.
        levels: dashed lines, by label: chance, what commuting models can reach.
        x_log: whether x has a log scale; if None, from a range of four to one on.
        solved: the accuracy from which on a seed counts as one that solves the task; names then
            say how many of the seeds do, at the first of the points.
    """
    where = np.array(x if x is not None else range(1, 1 + next(iter(runs.values())).shape[1]))
    found, arms = looks.of(runs), {}
    for arm, curves in runs.items():
        look, every = found[arm], not (x is None and len(where) > 40)
        middle = array(curves.median(0).values)
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
    """How quantities grow: a line with points per name, both axes in logarithms.

    Args:
        series: y by x, by name; each over an x of its own.
        title, x_title, y_title: what the figure shows, with units.
        dashed: names of references, drawn in grey without points: what could be, not what is.
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
    """Accuracy against the size of the state: every seed a point, a line through the medians.

    Args:
        curves: the accuracies of all seeds by bytes, by mixer.
        title, x_title: what the figure and its x axis show.
        levels: dashed lines, by label: chance, ceilings of those that ignore the query.
        needed: bytes that an exact memory needs at least, a dotted line.
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
    """How many of some seeds reach a score, in words: "3 of 5 solved"."""
    return f"{int((scores >= threshold).sum())} of {len(scores)} solved"


def array(values: Tensor) -> np.ndarray:
    """Single precision: a screen shows less, and the notebook stays small."""
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
    """A line in the look of its arm, with markers at all its points or at a few.

    Args:
        x, y: ["points"].
        look: of the arm.
        marked: whether it has markers.
        every: whether all points have one, however many they are.
    """
    trace = {"x": x, "y": y, "mode": "lines", "line": look.line(2)}
    if not marked:
        return trace
    few = {} if every or len(x) <= 12 else {"maxdisplayed": _MARKS}
    return {**trace, "mode": "lines+markers", "marker": look.points(7, **few)}


def _last(values: Any) -> float:
    """The last number that is one."""
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
    """At most _POINTS averages over equal stretches of a curve, and the middle of each stretch."""
    stretches = np.array_split(np.arange(len(curve)), min(_POINTS, max(len(curve), 1)))
    middles = np.array([stretch.mean() for stretch in stretches])
    return middles, np.array([curve[stretch].mean() for stretch in stretches])
