"""Figures of single numbers: one point for every seed, pair or contender."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from lab.plots import fit, looks
from lab.plots.arrange import Axes, draw_levels, drawn_range, in_drawn_units
from lab.plots.curves import SHARES, array, solvers
from lab.plots.looks import Look
from lab.plots.theme import COLOURS, GREY, LOG, SMALL, WIDTH, lines_in, widest, wrapped
from lab.statistics import Interval

_PLAIN = Look(COLOURS[0], "solid", "circle")  # for points whose names are not arms
_ROW = 34  # px: height of a row of points
_UPRIGHT_LINES = 3  # the most lines of a name below its column; longer names need rows


def strips(
    values: Mapping[str, Tensor | Mapping[str, Tensor]], *, y_title: str, title: str = "",
    limits: Mapping[str, float] | None = None, log: bool = True, solved: float | None = None,
) -> go.Figure:  # fmt: skip
    """Every value of every arm as a point, so that no mean hides a seed, with limits as lines.

    Overlapping points are moved apart sideways. If names are too long to stand below columns, every
    arm is a row instead. Arms have the same look as in other figures.

    Args:
        values: values of any shape, by arm; or for every arm several groups side by side, by name.
        y_title: what the values are, with units.
        title: what the figure shows.
        limits: dashed lines, by label.
        log: whether the axis of the values has a log scale.
        solved: the value at which a seed counts as having solved the task; the figure says how many
            of the seeds have.
    """
    groups = {name: v if isinstance(v, Mapping) else {"": v} for name, v in values.items()}
    inner = list(dict.fromkeys(group for each in groups.values() for group in each))
    worn = looks.of(inner) if inner != [""] else {}
    room = (WIDTH - 160) / max(len(groups), 1)
    names = [_broken(name, room) for name in groups]
    upright = max(map(lines_in, names), default=0) <= _UPRIGHT_LINES
    figure = fit.planned(go.Figure(), 380 if upright else 90 + _ROW * len(groups))
    figure.update_layout(title_text=title, showlegend=bool(worn))
    for place, (name, each) in enumerate(groups.items()):
        for group, points in each.items():
            beside = (inner.index(group) - (len(inner) - 1) / 2) * 0.8 / len(inner)
            look = worn.get(group) or looks.known(name) or _PLAIN
            numbers = array(torch.as_tensor(points).flatten())
            shift = side_by_side(numbers, log, 0.36 / len(inner))
            first = next(p for p, other in enumerate(groups.values()) if group in other)
            figure.add_scatter(**_points(numbers, place + beside + shift, look, group or name,
                                         upright, place == first))  # fmt: skip
    _name_strips(figure, names if upright else list(groups), upright, y_title, log)
    bounds = dict(limits or {})
    if solved is not None:
        _count_solvers(figure, groups, solved, upright)
        bounds[f"solved: {solved:g}"] = solved
    _draw_limits(figure, bounds, upright, log, solved is not None)
    return fit.fit(figure)


def ranges(
    values: Mapping[str, tuple[float, float, float]], *, title: str = "", x_title: str,
    limits: Mapping[str, float] | None = None, log: bool = True,
) -> go.Figure:  # fmt: skip
    """One point per name from the top down, with the range around its value.

    Points are used instead of bars, because a log scale has no zero at which a bar could start.

    Args:
        values: (low, value, high) by name, all above 0 on a log scale.
        title, x_title: what the points show, with units.
        limits: dashed lines, by label.
        log: whether x has a log scale.
    """
    figure = fit.planned(go.Figure(), 100 + _ROW * len(values))
    figure.update_layout(title_text=title, showlegend=False)
    low, middle, high = (np.array([v[i] for v in values.values()], dtype=float) for i in range(3))
    colours = [COLOURS[1]] + [COLOURS[0]] * (len(values) - 1)
    figure.add_scatter(
        x=middle, y=np.arange(len(values)), mode="markers", name="",
        marker={"size": 9, "color": colours},
        error_x={"symmetric": False, "array": high - middle, "arrayminus": middle - low,
                 "color": GREY, "thickness": 1.5, "width": 4},
        hovertemplate="%{x}<extra></extra>",
    )  # fmt: skip
    _name_strips(figure, list(values), False, x_title, log)
    _draw_limits(figure, limits or {}, False, log, False)
    return fit.fit(figure)


def recovered(
    true: Mapping[str, tuple[Tensor, Tensor]], learned: Mapping[str, tuple[Tensor, Tensor]],
    *, title: str = "",
) -> go.Figure:  # fmt: skip
    """Frequency against damping: true values as open markers, learned values as crosses.

    Args:
        true, learned: (omega, zeta) of any shape, by arm; both have the look of the arm. Markers of
            true values grow from arm to arm, so that those of arms with equal values are visible.
    """
    figure = fit.planned(go.Figure(), 400).update_layout(title_text=title)
    found = looks.of([*true, *learned])
    for points, kind, symbol, growth in (
        (true, "true", None, 4), (learned, "learned", "x-thin-open", 0),
    ):  # fmt: skip
        for i, (arm, (omega, zeta)) in enumerate(points.items()):
            look = found[arm]
            figure.add_scatter(
                x=array(omega.flatten()), y=array(zeta.flatten()), name=f"{kind}, {arm}",
                mode="markers",
                marker={"symbol": symbol or f"{look.marker}-open", "size": 10 + growth * i,
                        "color": look.colour, "line": {"width": 1.5}},
            )  # fmt: skip
    figure.update_xaxes(title_text="ω, rad/s").update_yaxes(title_text="ζ")
    return fit.fit(figure)


def slopes(
    pairs: Mapping[str, tuple[Tensor, Tensor]], *, ends: tuple[str, str], title: str = "",
    y_title: str = "accuracy", levels: Mapping[str, float] | None = None,
) -> go.Figure:  # fmt: skip
    """Every pair as a line from one arm to the other; the thick line joins the means.

    Args:
        pairs: for each comparison, by name, the numbers of both arms, ["seeds"] each.
        ends: the names of the two arms.
        title, y_title: what the figure shows.
        levels: dashed lines, by label.
    """
    figure = fit.planned(go.Figure(), 420).update_layout(title_text=title, showlegend=False)
    found, drawn = looks.of(pairs), []
    for i, (name, (one, other)) in enumerate(pairs.items()):
        both = np.stack([array(one), array(other)], axis=1)
        drawn.append(both.ravel())
        for line, width, opacity in (
            *((each, 1.0, 0.4) for each in both),
            (both.mean(0), 4.0, 1.0),
        ):
            figure.add_scatter(
                x=[i - 0.25, i + 0.25], y=line, mode="lines+markers", name=name, opacity=opacity,
                line={"color": found[name].colour, "width": width},
                marker=found[name].points(5),
            )  # fmt: skip
    names = [
        f"{_broken(name, (WIDTH - 160) / len(pairs))}<br>{ends[0]} → {ends[1]}" for name in pairs
    ]
    figure.update_xaxes(tickvals=list(range(len(pairs))), ticktext=names, showgrid=False)
    figure.update_yaxes(title_text=y_title)
    draw_levels(figure, levels or {}, Axes("", y_title), values=np.concatenate(drawn))
    return fit.fit(figure)


def intervals(
    differences: Mapping[str, Tensor], found: Mapping[str, Interval], *, title: str = "",
    x_title: str,
) -> go.Figure:  # fmt: skip
    """One row per name from the top down: every difference as a dot; mean and interval as a bar.

    Args:
        differences: ["pairs"] by name.
        found: the intervals of the mean, by the same names.
        title, x_title: what the figure shows, with units.
    """
    figure = fit.planned(go.Figure(), 110 + 40 * len(found))
    figure.update_layout(title_text=title, showlegend=False)
    rows = np.arange(len(found))
    for row, name in zip(rows, found, strict=True):
        values = array(differences[name])
        figure.add_scatter(
            x=values, y=np.full(len(values), row + 0.25), mode="markers", name=name,
            marker={"color": GREY, "size": 6, "opacity": 0.6},
        )  # fmt: skip
    mean, low, high = (np.array([getattr(each, part) for each in found.values()])
                       for part in Interval._fields)  # fmt: skip
    clear = (low > 0) | (high < 0)
    figure.add_scatter(
        x=mean, y=rows, mode="markers", name="mean",
        marker={"size": 10, "color": np.where(clear, COLOURS[1], COLOURS[0]).tolist(),
                "symbol": np.where(clear, "diamond", "circle").tolist()},
        error_x={"symmetric": False, "array": high - mean, "arrayminus": mean - low,
                 "color": GREY, "thickness": 2, "width": 4},
    )  # fmt: skip
    figure.add_shape(type="line", x0=0, x1=0, y0=0, y1=1, yref="y domain", layer="below",
                     line={"color": GREY, "dash": "dash", "width": 1})  # fmt: skip
    _name_strips(figure, list(found), False, x_title, log=False)
    return fit.fit(figure)


def side_by_side(values: np.ndarray, log: bool, half: float) -> np.ndarray:
    """Sideways offsets of points, so that equal and close values are all visible.

    Args:
        values: ["points"].
        log: whether values are compared by their logarithms.
        half: the largest offset to each side.
    """
    places = in_drawn_units(values.astype(float), log)
    shifts, finite = np.zeros(len(values)), np.isfinite(places)
    if not finite.any():
        return shifts
    low, span = places[finite].min(), np.ptp(places[finite])
    # The axis is split into 40 stretches; points within one of them would overlap.
    bins = np.where(finite, np.floor((places - low) / max(span, 1e-12) * 40), -1)
    for one in np.unique(bins[finite]):
        (close,) = np.nonzero(bins == one)
        step = min(0.08, 2 * half / max(len(close) - 1, 1))
        shifts[close] = step * (np.arange(len(close)) - (len(close) - 1) / 2)
    return shifts


def _points(
    values: np.ndarray, places: np.ndarray, look: Look, name: str, upright: bool, named: bool
) -> dict[str, Any]:
    x, y = (places.astype(np.float32), values) if upright else (values, places.astype(np.float32))
    size = 8 if len(values) <= 30 else 5
    shown = "%{y}" if upright else "%{x}"
    return {
        "x": x, "y": y, "mode": "markers", "name": name, "legendgroup": name, "showlegend": named,
        "marker": look.points(size, opacity=0.8),
        "hovertemplate": f"{name}: {shown}<extra></extra>",
    }  # fmt: skip


def _broken(name: str, room: float) -> str:
    """A name broken into lines: at its commas, if all parts between commas are short enough."""
    parts = [wrapped(part, room, 12) for part in name.split(", ")]
    return ",<br>".join(parts) if widest([name], 12) > room else name


def _name_strips(
    figure: go.Figure, names: Sequence[str], upright: bool, value_title: str, log: bool
) -> None:
    """Set up the axis of names (columns from the left or rows from the top) and that of values."""
    count, values = len(names), {**(LOG if log else {}), "title": {"text": value_title}}
    texts = list(names) if upright else [wrapped(name, 220, 12) for name in names]
    of_names = {"tickvals": list(range(count)), "ticktext": texts, "showgrid": not upright}
    if upright:
        figure.update_xaxes(range=[-0.5, count - 0.5], **of_names).update_yaxes(values)
    else:
        figure.update_yaxes(range=[count - 0.5, -0.5], **of_names).update_xaxes(values)


def _count_solvers(
    figure: go.Figure, groups: Mapping[str, Mapping[str, Tensor]], solved: float, upright: bool
) -> None:
    """Write how many seeds have solved the task, above every column or right of every row."""
    for place, each in enumerate(groups.values()):
        counts = [solvers(torch.as_tensor(points).flatten(), solved) for points in each.values()]
        text = "<br>".join(count.removesuffix(" solved") for count in counts)
        text = f"{text}<br>solved" if upright else f"{text} solved"
        above = {"x": place, "y": 1, "yref": "y domain", "yanchor": "bottom"}
        beside = {"y": place, "x": 1, "xref": "x domain", "xanchor": "left", "xshift": 6}
        where = above if upright else beside
        figure.add_annotation(text=text, showarrow=False, font={"size": SMALL}, **where)


def _whiskers(figure: go.Figure) -> list[np.ndarray]:
    """The x values at which the error bars of the points end."""
    found = [(np.asarray(trace.x), trace.error_x) for trace in figure.data
             if trace.error_x.array is not None]  # fmt: skip
    return [end for x, error in found for end in (x - error.arrayminus, x + error.array)]


def _draw_limits(
    figure: go.Figure, limits: Mapping[str, float], upright: bool, log: bool, shares: bool
) -> None:
    """Draw dashed lines with labels outside the plot: right of columns, or above rows."""
    values = np.concatenate([np.asarray(trace.y if upright else trace.x, dtype=float)
                             for trace in figure.data] or [np.empty(0)])  # fmt: skip
    y_range = SHARES if shares else None
    axes = Axes("", "", y_log=log, y_range=y_range)
    if upright:
        draw_levels(figure, limits, axes, values=in_drawn_units(values, log))
        return
    bounds = np.array(list(limits.values()), dtype=float)
    every = in_drawn_units(np.concatenate([values, *_whiskers(figure), bounds]), log)
    figure.update_xaxes(range=drawn_range(axes, every))
    for i, (name, limit) in enumerate(limits.items()):
        dash = looks.REFERENCES[i % len(looks.REFERENCES)].dash
        line = {"color": GREY, "dash": dash, "width": 1.5}
        figure.add_shape(type="line", x0=limit, x1=limit, y0=0, y1=1, yref="y domain",
                         layer="below", line=line)  # fmt: skip
        figure.add_annotation(
            text=name, y=1, yref="y domain", yanchor="bottom", yshift=15 * i, showarrow=False,
            x=math.log10(limit) if log else limit,  # plotly wants exponents for texts on a log axis
            font={"size": SMALL, "color": GREY},
        )  # fmt: skip
