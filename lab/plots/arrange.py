"""Layout of a figure by its number of arms: a legend, labels at the line ends, or small multiples.

Up to six arms are named in a legend below the plot. Up to ten are named at the ends of their lines.
More than ten get a small plot each. Labels of levels stand outside the plot, at its right.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lab.plots import fit
from lab.plots.looks import Look
from lab.plots.theme import GREY, LOG, SMALL, WIDTH, lines_in, widest, wrapped

Trace = dict[str, Any]
WITH_LEGEND, IN_ONE_PLOT = 6, 10  # the largest numbers of arms
_COLUMNS, _CELL = 4, 96  # small multiples: number of columns, and height of a plot in px
_LABEL = 150  # px: the widest label at the right
_LINE = 1.3 * SMALL  # px


@dataclass(frozen=True)
class Curves:
    """Everything that is drawn for one arm.

    Attributes:
        look: the arm's colour, dash and marker.
        traces: plotly scatter traces; the last one represents the arm in the legend.
        end: the y value at which its line ends; the label of the arm is placed there.
    """

    look: Look
    traces: Sequence[Trace]
    end: float


@dataclass(frozen=True)
class Axes:
    """Titles, scales and ranges of both axes.

    Attributes:
        x_title, y_title: titles with units.
        x_log, y_log: whether the axis has a log scale.
        y_range: in units of the data; if None, the range holds everything that is drawn.
        x: further settings of plotly's x axis.
    """

    x_title: str
    y_title: str
    x_log: bool = False
    y_log: bool = False
    y_range: tuple[float, float] | None = None
    x: Mapping[str, Any] = field(default_factory=dict)


def arrange(
    arms: Mapping[str, Curves], axes: Axes, *, title: str,
    references: Mapping[str, Curves] | None = None, levels: Mapping[str, float] | None = None,
    height: float = fit.HEIGHT,
) -> go.Figure:  # fmt: skip
    """A figure of several arms.

    Args:
        arms: the curves of each arm, by its name.
        axes: the axes on which they are drawn.
        title: title of the figure.
        references: curves that are not arms, by name; drawn in grey.
        levels: heights of dashed grey lines, by label.
        height: height in px, without the legend.
    """
    references, levels = references or {}, levels or {}
    if len(arms) > IN_ONE_PLOT:
        figure = _small_multiples(arms, axes, references, levels, title)
    else:
        figure = _one_plot(arms, axes, references, levels, title, height)
    return fit.fit(figure)


def _one_plot(
    arms: Mapping[str, Curves], axes: Axes, references: Mapping[str, Curves],
    levels: Mapping[str, float], title: str, height: float,
) -> go.Figure:  # fmt: skip
    both = {**arms, **references}
    labelled = len(arms) > WITH_LEGEND
    traces = [trace for name, each in both.items() for trace in _grouped(name, each.traces)]
    layout = {
        "title": {"text": title}, "showlegend": not labelled and len(both) > 1,
        "xaxis": _x_axis(axes, True), "yaxis": _y_axis(axes, True), **fit.plan(height),
    }  # fmt: skip
    figure = go.Figure(traces, layout)
    ends = [(f"{c.look.glyph} {name}", c.end, c.look.colour) for name, c in arms.items()]
    ends += [(name, c.end, GREY) for name, c in references.items()]
    draw_levels(figure, levels, axes, ends if labelled else [], _values(both, axes))
    return figure


def draw_levels(
    figure: go.Figure, levels: Mapping[str, float], axes: Axes,
    ends: Sequence[tuple[str, float, str]] = (), values: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Draw a dashed line at each level, and the labels of levels and curves right of the plot.

    Args:
        figure: the figure, with all its traces.
        levels: height of each dashed line, by its label.
        axes: the axes of the figure.
        ends: further labels: text, height, colour.
        values: everything that is drawn, in drawn units; it determines the range of the y axis.
    """
    labels = [*ends, *((name, level, GREY) for name, level in levels.items())]
    if not labels and axes.y_range is None:
        return
    places = in_drawn_units(np.array([height for _, height, _ in labels], dtype=float), axes.y_log)
    drawn = drawn_range(axes, np.append(values if values is not None else [], places))
    shapes = [_level(level, "") for level in levels.values()]
    figure.update_layout(shapes=[*figure.layout.shapes, *shapes], yaxis={"range": drawn})
    if labels:
        texts = [(wrapped(text, _LABEL), colour) for text, _, colour in labels]
        _add_labels(figure, texts, places, drawn)


def spread(wanted: np.ndarray, heights: np.ndarray, room: float) -> np.ndarray:
    """Positions as close as possible to `wanted`, in the same order, so that no labels overlap.

    Args:
        wanted: ["labels"], where the middle of each label should be, in px.
        heights: ["labels"], height of each label, in px.
        room: positions lie between 0 and `room` if the labels fit there.
    """
    order = np.argsort(wanted, kind="stable")
    before = np.cumsum(heights[order]) - heights[order] / 2
    # After subtracting the heights of the labels below, equal positions mean that two labels touch.
    slack = _rising(wanted[order] - before)
    most = room - heights.sum()
    slack = np.minimum(slack, most).clip(min=min(0.0, most))
    places = np.empty_like(slack)
    places[order] = slack + before
    return places


def _rising(values: np.ndarray) -> np.ndarray:
    """Isotonic regression: the nearest non-decreasing numbers, by least squares."""
    blocks: list[tuple[float, int]] = []
    for value in values.tolist():
        blocks.append((value, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (one, m), (other, n) = blocks.pop(), blocks.pop()
            blocks.append(((one * m + other * n) / (m + n), m + n))
    return np.repeat([mean for mean, _ in blocks], [count for _, count in blocks])


def _add_labels(
    figure: go.Figure, labels: Sequence[tuple[str, str]], places: np.ndarray,
    drawn: tuple[float, float],
) -> None:  # fmt: skip
    """Add labels right of the plot, at heights in drawn units, moved apart where they are close."""
    kept = list(figure.layout.annotations)
    notes = [_label(text, colour, drawn[0]) for text, colour in labels]
    # The labels are first added without positions, because they affect the height of the plot.
    room = fit.inner_height(figure.update_layout(annotations=[*kept, *notes]))
    figure.update_layout(annotations=[*kept, *_spread_out(notes, places, drawn, room)])


def _spread_out(
    notes: Sequence[Trace], places: np.ndarray, drawn: tuple[float, float], room: float
) -> list[Trace]:
    low, high = drawn
    finite = np.where(np.isfinite(places), places, low)
    wanted = (finite - low) / (high - low) * room
    heights = np.array([_LINE * lines_in(note["text"]) for note in notes])
    moved = (spread(wanted, heights, room) - wanted).round(1)
    found = zip(notes, finite.tolist(), moved.tolist(), strict=True)
    return [{**note, "y": place, "yshift": shift} for note, place, shift in found]


def _label(text: str, colour: str, y: float, number: str = "") -> Trace:
    return {
        "text": text, "x": 1, "xref": f"x{number} domain", "xanchor": "left", "xshift": 6, "y": y,
        "yref": f"y{number}", "yanchor": "middle", "align": "left", "showarrow": False,
        "font": {"size": SMALL, "color": colour},
    }  # fmt: skip


def _level(level: float, number: str) -> Trace:
    return {
        "type": "line", "xref": f"x{number} domain", "yref": f"y{number}", "x0": 0, "x1": 1,
        "y0": level, "y1": level, "layer": "below",
        "line": {"color": GREY, "dash": "dash", "width": 1},
    }  # fmt: skip


def _small_multiples(
    arms: Mapping[str, Curves], axes: Axes, references: Mapping[str, Curves],
    levels: Mapping[str, float], title: str,
) -> go.Figure:  # fmt: skip
    """A small plot for every arm; all have the same axes."""
    rows, across = math.ceil(len(arms) / _COLUMNS), (WIDTH - 90) / _COLUMNS
    names = {name: wrapped(f"{c.look.glyph} {name}", across - 14) for name, c in arms.items()}
    above = _LINE * max(map(lines_in, names.values())) + 8
    inner = rows * _CELL + (rows - 1) * above
    values = in_drawn_units(np.array(list(levels.values()), dtype=float), axes.y_log)
    drawn = drawn_range(axes, np.append(_values({**arms, **references}, axes), values))
    layout: dict[str, Any] = {"title": {"text": title}, "showlegend": False}
    notes, shapes = [], []
    for i, (name, curves) in enumerate(arms.items()):
        number = _number(i)
        layout |= _cell_axes(axes, i, len(arms), (inner, above), drawn)
        notes.append(_heading(names[name], curves.look.colour, number))
        shapes += [_level(level, number) for level in levels.values()]
    ends = {**{name: each.end for name, each in references.items()}, **levels}
    if ends:  # right of the last plot of the first row
        labels = [_label(wrapped(text, 110), GREY, 0, str(_COLUMNS)) for text in ends]
        places = in_drawn_units(np.array(list(ends.values()), dtype=float), axes.y_log)
        notes += _spread_out(labels, places, drawn, _CELL)
    layout |= {"annotations": notes, "shapes": shapes}
    return go.Figure(_in_cells(arms, references), {**layout, **fit.plan(inner + 84)})


def _heading(text: str, colour: str, number: str) -> Trace:
    return {
        "text": text, "x": 0, "xref": f"x{number} domain", "xanchor": "left", "y": 1,
        "yref": f"y{number} domain", "yanchor": "bottom", "align": "left", "showarrow": False,
        "font": {"size": SMALL, "color": colour},
    }  # fmt: skip


def _number(i: int) -> str:
    """The number of the i-th subplot as plotly writes it: empty for the first."""
    return "" if i == 0 else str(i + 1)


def _in_cells(
    arms: Mapping[str, Curves], references: Mapping[str, Curves]
) -> list[Trace]:  # fmt: skip
    """The traces of all small plots: each plot shows its arm and all references."""
    others = [trace for each in references.values() for trace in each.traces]
    cells = [[*others, *_grouped(name, each.traces)] for name, each in arms.items()]
    numbers = map(_number, range(len(cells)))
    return [{**trace, "xaxis": f"x{number}", "yaxis": f"y{number}"}
            for number, cell in zip(numbers, cells, strict=True) for trace in cell]  # fmt: skip


def _cell_axes(
    axes: Axes, i: int, count: int, heights: tuple[float, float], drawn: tuple[float, float]
) -> dict[str, Any]:
    """The two axes of the i-th small plot; only those in the middle have titles."""
    (row, column), (inner, above) = divmod(i, _COLUMNS), heights
    rows, number = math.ceil(count / _COLUMNS), _number(i)
    top = 1 - row * (_CELL + above) / inner
    width = 0.92 / _COLUMNS
    left = column * (1 - width) / (_COLUMNS - 1)
    in_middle = i == (rows - 1) * _COLUMNS + (count - 1) % _COLUMNS // 2
    x = {**_x_axis(axes, in_middle), "domain": [left, left + width], "anchor": f"y{number}",
         "showticklabels": i + _COLUMNS >= count, "nticks": 3}  # fmt: skip
    y = {**_y_axis(axes, i == _COLUMNS * ((rows - 1) // 2)), "anchor": f"x{number}",
         "domain": [max(top - _CELL / inner, 0), top], "range": drawn,
         "showticklabels": column == 0, "nticks": 5}  # fmt: skip
    if number:
        x["matches"], y["matches"] = "x", "y"
    if x.get("ticktext") is not None:
        x["ticktext"] = _thinned_texts(x["ticktext"], width * (WIDTH - 150))
    return {f"xaxis{number}": x, f"yaxis{number}": y}


def _thinned_texts(texts: Sequence[str], room: float) -> list[str]:
    """Every text, or only every second, third, ... if all of them would overlap."""
    step = max(math.ceil(len(texts) * (widest(list(texts), 12) + 8) / room), 1)
    return [text if i % step == 0 else "" for i, text in enumerate(texts)]


def _x_axis(axes: Axes, named: bool) -> dict[str, Any]:
    title = {"title": {"text": axes.x_title}} if named else {}
    return {**(LOG if axes.x_log else {}), **title, **axes.x}


def _y_axis(axes: Axes, named: bool) -> dict[str, Any]:
    title = {"title": {"text": axes.y_title}} if named else {}
    return {**(LOG if axes.y_log else {}), **title}


def _grouped(name: str, traces: Sequence[Trace]) -> list[Trace]:
    """The traces of one arm, grouped so that the legend names only the last."""
    whole = wrapped(name, WIDTH - 160)
    shared = {"type": "scatter", "name": whole, "legendgroup": name}
    last = len(traces) - 1
    return [{**shared, "showlegend": i == last, **trace} for i, trace in enumerate(traces)]


def in_drawn_units(values: np.ndarray, log: bool) -> np.ndarray:
    """Values in drawn units: exponents of ten on a log axis."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(np.where(values > 0, values, np.nan)) if log else values


def _values(curves: Mapping[str, Curves], axes: Axes) -> np.ndarray:
    every = [np.asarray(t["y"], dtype=float) for c in curves.values() for t in c.traces]
    return in_drawn_units(np.concatenate([*every, np.empty(0)]), axes.y_log)


def drawn_range(axes: Axes, values: np.ndarray | None) -> tuple[float, float]:
    """Range of the y axis in drawn units: the given one, or that of the values plus 5 %."""
    if axes.y_range is not None:
        low, high = in_drawn_units(np.array(axes.y_range, dtype=float), axes.y_log)
        return float(low), float(high)
    finite = values[np.isfinite(values)] if values is not None else np.empty(0)
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin
