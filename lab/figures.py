"""Plotly figures, pure functions of arrays. Axes say what they show, with units."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import plotly.io
import torch
from plotly.subplots import make_subplots
from torch import Tensor

# Only the data goes into a notebook: JupyterLab and VS Code bring plotly.js themselves.
plotly.io.renderers.default = "plotly_mimetype"

# Okabe & Ito 2008, which colour-blind readers can tell apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
GREY = "#888888"
_POINTS = 400  # of a training curve: more than a screen shows
_LOG = {"type": "log", "exponentformat": "power", "minorloglabels": "none"}


def lines(
    series: Mapping[str, Tensor],
    *,
    x: Tensor | None = None,
    title: str = "",
    x_title: str = "step",
    y_title: str = "y",
    dashed: Sequence[str] = (),
    log: bool = False,
) -> go.Figure:
    """One line per name over a shared x (the index if None).

    Args:
        series: ["points"] by name.
        x: ["points"].
        title, x_title, y_title: what the figure shows, with units.
        dashed: names drawn in dashed grey.
        log: whether y has a log scale.
    """
    figure = _figure(title, x_title, y_title)
    for (name, values), colour in zip(series.items(), _colours(), strict=False):
        style = {"color": GREY, "dash": "dash"} if name in dashed else {"color": colour}
        time = np.arange(len(values)) if x is None else _array(x)
        figure.add_scatter(x=time, y=_array(values), name=name, mode="lines", line=style)
    return figure.update_yaxes(_LOG) if log else figure


def losses(
    runs: Mapping[str, Tensor], *, floors: Mapping[str, float] | None = None, title: str = ""
) -> go.Figure:
    """Training loss against update, log scale, every seed a line; floors as dashed lines.

    A long run is drawn as the means of equal stretches of updates.

    Args:
        runs: ["seeds steps"] by arm; seeds of an arm share its colour.
        floors: the best possible loss, by its label.
    """
    figure = _figure(title, "update", "loss")
    for (arm, curves), colour in zip(runs.items(), _colours(), strict=False):
        for i, curve in enumerate(curves):
            steps, smooth = _thinned(_array(curve))
            figure.add_scatter(
                x=steps, y=smooth, name=arm, legendgroup=arm, showlegend=i == 0,
                mode="lines", line={"color": colour, "width": 1}, opacity=0.8,
            )  # fmt: skip
    last = max((curves.shape[1] for curves in runs.values()), default=1) - 1
    for name, floor in (floors or {}).items():
        figure.add_scatter(
            x=[0, last], y=[floor, floor], name=name, mode="lines",
            line={"color": GREY, "dash": "dash"},
        )  # fmt: skip
    return figure.update_yaxes(_LOG)


def eigenvalues(
    A: Tensor, A_d: Tensor, *, path: tuple[Tensor, Tensor] | None = None, title: str = ""
) -> go.Figure:
    """Eigenvalues of A beside the imaginary axis, and of A_d against the unit circle.

    Where a mode decays, the plane is shaded. The axes hold every eigenvalue and the border next to
    them, so that a cluster near 1 can be told apart; zooming out shows the rest of the circle.

    Args:
        A: Complex["N"], in 1/s; growing ones (real part above 0) are drawn as crosses.
        A_d: Complex["N"]; those outside the unit circle are drawn as crosses.
        path: the same at other times, ["times N"] each, as grey dots; the axes hold these as well.
    """
    titles = ["A, in 1/s", "A_d, of one step"]
    figure = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.13)
    figure.update_layout(**_layout(title, height=440, top=80), showlegend=False)
    paths = path or (A[:0], A_d[:0])
    reach = 20 * max(float(values.abs().max()) for values in (A, *paths[:1]) if values.numel())
    shade = {"line": {"color": GREY}, "fillcolor": "rgba(0, 114, 178, 0.06)", "layer": "between"}
    figure.add_shape(type="rect", x0=-reach, x1=0, y0=-reach, y1=reach, row=1, col=1, **shade)
    figure.add_shape(type="circle", x0=-1, x1=1, y0=-1, y1=1, row=1, col=2, **shade)
    for col, values, grows, before in ((1, A, A.real > 0, 0), (2, A_d, A_d.abs() > 1, 1)):
        now, seen = _complex(values), _complex(torch.cat([values, paths[before].flatten()]))
        figure.add_scatter(
            x=seen.real[len(now) :], y=seen.imag[len(now) :], name="at other times", mode="markers",
            marker={"color": GREY, "size": 3, "opacity": 0.5}, hoverinfo="skip", row=1, col=col,
        )  # fmt: skip
        marker = {"color": np.where(grows.cpu(), COLOURS[1], COLOURS[0]).tolist(),
                  "symbol": np.where(grows.cpu(), "x", "circle").tolist(), "size": 8}  # fmt: skip
        figure.add_scatter(
            x=now.real, y=now.imag, name="eigenvalue", mode="markers", marker=marker, row=1, col=col
        )
        x_range, y_range = _window(np.append(seen, _border(seen, circle=col == 2)))
        figure.update_xaxes(title="real part", range=x_range, row=1, col=col)
        figure.update_yaxes(title="imaginary part", range=y_range, row=1, col=col)
    return figure.update_yaxes(scaleanchor="x2", row=1, col=2)


def trajectories(states: Tensor, *, title: str = "", most: int = 16) -> go.Figure:
    """Every mode over time: real part of its state, and the sizes of state and update, log scales.

    Args:
        states: Complex["T N"]; the first `most` modes are drawn. Where there are fewer, the lines
            of the others stay empty: the number of lines does not depend on N.
    """
    labels = ["Re h[t]", "|h[t]|", "|h[t] - h[t-1]|"]
    figure = make_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.05)
    figure.update_layout(**_layout(title, height=560), showlegend=False)
    h = _complex(states)
    updates = np.diff(h, axis=0, prepend=np.zeros_like(h[:1]))
    for row, values in enumerate((h.real, np.abs(h), np.abs(updates)), start=1):
        for mode in range(most):
            y = values[:, mode] if mode < h.shape[1] else []
            line = {"color": COLOURS[mode % len(COLOURS)], "width": 1}
            figure.add_scatter(y=y, name=f"mode {mode}", mode="lines", line=line, row=row, col=1)
        figure.update_yaxes(title=labels[row - 1], row=row, col=1)
    for row in (2, 3):
        figure.update_yaxes(_LOG, row=row, col=1)
    return figure.update_xaxes(title="step t", row=3, col=1)


def recovered(
    true: Mapping[str, tuple[Tensor, Tensor]], learned: Mapping[str, tuple[Tensor, Tensor]],
    *, title: str = "",
) -> go.Figure:  # fmt: skip
    """Frequency against damping: truth as open circles, what was learned as crosses.

    Args:
        true, learned: (omega, zeta) of any shape, by arm; the two share their arms' colours.
            Circles grow from arm to arm, so that those around one truth are all seen.
    """
    figure = _figure(title, "ω, rad/s", "ζ")
    kinds = ((true, "true", "circle-open", 6), (learned, "learned", "x-thin-open", 0))
    for points, kind, symbol, growth in kinds:
        for i, (arm, (omega, zeta)) in enumerate(points.items()):
            marker = {"symbol": symbol, "size": 9 + growth * i, "color": COLOURS[i % len(COLOURS)]}
            figure.add_scatter(
                x=_array(omega.flatten()), y=_array(zeta.flatten()), name=f"{kind}, {arm}",
                mode="markers", marker={**marker, "line": {"width": 1.5}},
            )  # fmt: skip
    return figure


def accuracy(
    runs: Mapping[str, Tensor], *, x: Sequence[float] | None = None, title: str = "",
    x_title: str = "position", levels: Mapping[str, float] | None = None,
) -> go.Figure:  # fmt: skip
    """Share of right answers against position or length: every seed a thin line, the median thick.

    Args:
        runs: Float["seeds points"] in [0, 1], by arm.
        x: of the points; 1, 2, 3 and so on if None. From a range of four to one on, in logarithms.
        title, x_title: what the figure shows.
        levels: dashed lines, by label: chance, what commuting models can reach.
    """
    figure = _figure(title, x_title, "accuracy")
    where = np.array(x if x is not None else range(1, 1 + next(iter(runs.values())).shape[1]))
    for (arm, curves), colour in zip(runs.items(), _colours(), strict=False):
        drawn = {"legendgroup": arm, "name": arm, "mode": "lines" if x is None else "lines+markers"}
        for curve in curves:
            figure.add_scatter(
                x=where, y=_array(curve), showlegend=False, opacity=0.4,
                line={"color": colour, "width": 1}, marker={"size": 3}, **drawn,
            )  # fmt: skip
        figure.add_scatter(
            x=where, y=_array(curves.median(0).values), line={"color": colour, "width": 3}, **drawn
        )
    for name, level in (levels or {}).items():
        figure.add_hline(y=level, line={"color": GREY, "dash": "dash"})
        figure.add_annotation(
            text=name, x=1, xref="paper", xanchor="right", y=level, yanchor="bottom",
            showarrow=False, font={"size": 10, "color": GREY},
        )  # fmt: skip
    if x is not None and where.max() >= 4 * where.min() > 0:
        figure.update_xaxes(
            type="log", tickvals=where, ticktext=[f"{length:g}" for length in where]
        )
    return figure.update_yaxes(range=[-0.02, 1.04])


def transitions(spectra: Mapping[str, Tensor], *, title: str = "") -> go.Figure:
    """Eigenvalues of one transition per name, in the complex plane against the unit circle.

    Args:
        spectra: Complex["N"] by name, such as that of a generator.
    """
    figure = _figure(title, "real part", "imaginary part")
    figure.add_shape(type="circle", x0=-1, x1=1, y0=-1, y1=1, line={"color": GREY, "dash": "dash"})
    for i, (name, values) in enumerate(spectra.items()):
        seen = _complex(values)
        marker = {"size": 7 + 3 * (i % 3), "color": _colours()[i], "line": {"width": 1.5},
                  "symbol": ["circle-open", "x-thin-open", "square-open"][i % 3]}  # fmt: skip
        figure.add_scatter(x=seen.real, y=seen.imag, mode="markers", name=name, marker=marker)
    figure.update_yaxes(scaleanchor="x").update_layout(height=480)
    return figure


def strips(
    values: Mapping[str, Tensor], *, title: str = "", y_title: str = "",
    limits: Mapping[str, float] | None = None, log: bool = True,
) -> go.Figure:  # fmt: skip
    """Every value of every arm as a point (no means that hide a seed), with limits as lines.

    Points that would hide one another stand side by side.

    Args:
        values: of any shape, by arm; a comma in a name breaks the line of its label.
        limits: dashed lines, by label.
        log: whether the axis of the values has a log scale.
    """
    figure = _figure(title, "", y_title).update_layout(showlegend=False)
    for name, points in values.items():
        # A box plot whose box is invisible: of plotly's traces, it alone moves points apart.
        figure.add_box(
            x=[name.replace(", ", ",<br>")] * points.numel(), y=_array(points.flatten()), name=name,
            boxpoints="all", pointpos=0, jitter=0.5, hoveron="points", line={"width": 0},
            fillcolor="rgba(0,0,0,0)", marker={"color": COLOURS[0], "size": 8, "opacity": 0.6},
        )  # fmt: skip
    for name, limit in (limits or {}).items():
        figure.add_hline(y=limit, line={"color": GREY, "dash": "dash"})
        figure.add_annotation(
            text=name, x=1, xref="paper", xanchor="left", showarrow=False,
            y=math.log10(limit) if log else limit,  # the only place where plotly wants the exponent
        )  # fmt: skip
    figure.update_layout(margin={"r": 90 if limits else 20})
    return figure.update_yaxes(_LOG) if log else figure


def scaling(
    series: Mapping[str, Mapping[float, float]], *, title: str = "", x_title: str, y_title: str,
    dashed: Sequence[str] = (),
) -> go.Figure:  # fmt: skip
    """How quantities grow: a line with points per name, both axes in logarithms.

    Args:
        series: y by x, by name; each over an x of its own.
        title, x_title, y_title: what the figure shows, with units.
        dashed: names drawn in dashed grey, without points: what could be, not what is.
    """
    figure = _figure(title, x_title, y_title)
    for (name, points), colour in zip(series.items(), _colours(), strict=False):
        limit = name in dashed
        figure.add_scatter(
            x=list(points), y=list(points.values()), name=name,
            mode="lines" if limit else "lines+markers", marker={"size": 5},
            line={"color": GREY, "dash": "dash"} if limit else {"color": colour},
        )  # fmt: skip
    return figure.update_xaxes(_LOG).update_yaxes(_LOG)


def recall(
    curves: Mapping[str, Mapping[int, Sequence[float]]], *, title: str = "",
    levels: Mapping[str, float] | None = None, needed: float | None = None,
) -> go.Figure:  # fmt: skip
    """Accuracy against the size of the state: every seed a point, a line through the medians.

    Args:
        curves: the accuracies of all seeds by bytes, by mixer.
        levels: dashed lines, by label: chance, ceilings of those that ignore the query.
        needed: bytes that an exact memory needs at least, a dotted line.
    """
    figure = _figure(title, "state, bytes", "accuracy")
    for i, (name, by_bytes) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        symbol = ["circle", "square", "diamond"][i // len(COLOURS) % 3]
        places = sorted(by_bytes)
        figure.add_scatter(
            x=places, y=[float(np.median(by_bytes[place])) for place in places], name=name,
            legendgroup=name, mode="lines+markers", line={"color": colour},
            marker={"symbol": symbol, "size": 8},
        )  # fmt: skip
        points = [(place, value) for place in places for value in by_bytes[place]]
        figure.add_scatter(
            x=[place for place, _ in points], y=[value for _, value in points], name=name,
            legendgroup=name, showlegend=False, mode="markers", opacity=0.4,
            marker={"color": colour, "symbol": symbol, "size": 5},
        )  # fmt: skip
    for label, level in (levels or {}).items():
        figure.add_hline(y=level, line={"color": GREY, "dash": "dash"}, annotation_text=label)
    if needed is not None:
        figure.add_vline(x=needed, line={"color": GREY, "dash": "dot"})
    return figure.update_xaxes(_LOG).update_yaxes(range=[-0.02, 1.04]).update_layout(height=520)


def bars(
    values: Mapping[str, tuple[float, float, float]], *, title: str = "", x_title: str,
    limits: Mapping[str, float] | None = None,
) -> go.Figure:  # fmt: skip
    """One bar per name from the top down, with the range around its value, on a log scale.

    Args:
        values: (low, value, high) by name, all above 0.
        title, x_title: what the bars show, with units.
        limits: dashed lines, by label.
    """
    figure = _figure(title, x_title, "").update_layout(showlegend=False)
    low, middle, high = (np.array([v[i] for v in values.values()], dtype=float) for i in range(3))
    above, below = (high - middle).tolist(), (middle - low).tolist()
    whiskers = {"symmetric": False, "array": above, "arrayminus": below, "color": GREY}
    figure.add_bar(
        x=middle.tolist(), y=list(values), orientation="h", error_x=whiskers,
        marker={"color": [COLOURS[0]] + [COLOURS[5]] * (len(values) - 1)},
    )  # fmt: skip
    for i, (name, limit) in enumerate((limits or {}).items()):
        figure.add_vline(x=limit, line={"color": GREY, "dash": ["dash", "dot"][i % 2]})
        figure.add_annotation(
            text=name, y=1, yref="paper", yanchor="bottom", yshift=14 * i, showarrow=False,
            x=math.log10(limit),  # plotly takes the place of a text as exponent, that of a line not
        )  # fmt: skip
    figure.update_layout(margin={"l": 190, "t": 90})
    return figure.update_xaxes(_LOG).update_yaxes(autorange="reversed")


def _figure(title: str, x_title: str, y_title: str) -> go.Figure:
    figure = go.Figure(layout=_layout(title))
    return figure.update_xaxes(title=x_title).update_yaxes(title=y_title)


def _layout(title: str, height: int = 380, top: int = 50) -> dict[str, object]:
    return {
        "title": {"text": title, "font": {"size": 15}}, "template": "plotly_white",
        "height": height, "margin": {"l": 60, "r": 20, "t": top, "b": 50},
        "legend": {"font": {"size": 11}},
    }  # fmt: skip


def _colours() -> list[str]:
    return COLOURS * 10


def _array(values: Tensor) -> np.ndarray:
    """Single precision: a screen shows less, and the notebook stays small."""
    return values.detach().cpu().numpy().astype(np.float32)


def _complex(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy().astype(np.complex64)


def _border(seen: np.ndarray, *, circle: bool) -> np.ndarray:
    """The point of the unit circle, or of the imaginary axis, next to the outermost eigenvalue.

    The whole circle, as four points, for eigenvalues that are spread over much of it.
    """
    if not circle:
        return 1j * seen[[seen.real.argmax()]].imag
    if max(np.ptp(seen.real), np.ptp(seen.imag)) > 1:
        return np.array([1, 1j, -1, -1j])
    outermost = seen[[np.abs(seen).argmax()]]
    return outermost / np.maximum(np.abs(outermost), 1e-9)


def _window(points: np.ndarray) -> tuple[list[float], list[float]]:
    """Limits of two axes around complex numbers, neither span below half of the other."""
    spans = [np.ptp(points.real), np.ptp(points.imag)]
    limits = []
    for part, span in zip((points.real, points.imag), spans, strict=True):
        margin = max(0.08 * span, 0.5 * (0.5 * max(spans) - span), 1e-6)
        limits.append([float(part.min() - margin), float(part.max() + margin)])
    return limits[0], limits[1]


def _thinned(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most _POINTS averages over equal stretches of a curve, and the middle of each stretch."""
    stretches = np.array_split(np.arange(len(curve)), min(_POINTS, max(len(curve), 1)))
    middles = np.array([stretch.mean() for stretch in stretches])
    return middles, np.array([curve[stretch].mean() for stretch in stretches])
