"""Figures of complex numbers: eigenvalues in the plane, states over time."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from lab.plots import fit, looks
from lab.plots.looks import LOOKS
from lab.plots.theme import COLOURS, FONT_SIZE, GREY, LOG

_INSIDE = "rgba(0, 114, 178, 0.08)"  # shade of the region in which a mode decays


def eigenvalues(
    A: Tensor, A_d: Tensor, *, path: tuple[Tensor, Tensor] | None = None, title: str = ""
) -> go.Figure:
    """Eigenvalues of A with the imaginary axis, and of A_d with the unit circle.

    The region in which a mode decays is shaded. The axes hold all eigenvalues and the border of
    this region near them, so that a cluster near 1 is resolved; zooming out shows the whole circle.

    Args:
        A: Complex["N"], in 1/s; eigenvalues with a positive real part are drawn as crosses.
        A_d: Complex["N"]; eigenvalues outside the unit circle are drawn as crosses.
        path: the same two at other times, ["times N"] each, drawn as grey dots; the axes hold
            these as well.
    """
    titles = ["A, in 1/s", "A_d, of one step"]
    figure = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.15)
    fit.planned(figure, 420).update_layout(title_text=title, showlegend=False)
    figure.update_annotations(font_size=FONT_SIZE)
    paths = path or (A[:0], A_d[:0])
    reach = 20 * max(float(values.abs().max()) for values in (A, *paths[:1]) if values.numel())
    shade = {"line": {"color": GREY, "width": 1}, "fillcolor": _INSIDE, "layer": "between"}
    figure.add_shape(type="rect", x0=-reach, x1=0, y0=-reach, y1=reach, row=1, col=1, **shade)
    figure.add_shape(type="circle", x0=-1, x1=1, y0=-1, y1=1, row=1, col=2, **shade)
    for col, values, grows, before in ((1, A, A.real > 0, 0), (2, A_d, A_d.abs() > 1, 1)):
        now, seen = as_complex(values), as_complex(torch.cat([values, paths[before].flatten()]))
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
        figure.update_xaxes(title_text="real part", range=x_range, row=1, col=col)
        figure.update_yaxes(title_text="imaginary part", range=y_range, row=1, col=col)
    return fit.fit(figure.update_yaxes(scaleanchor="x2", row=1, col=2))


def transitions(spectra: Mapping[str, Tensor], *, title: str = "") -> go.Figure:
    """Eigenvalues of one transition per name, in the complex plane with the unit circle.

    Args:
        spectra: Complex["N"] by name, such as the name of a generator of a group.
    """
    figure = fit.planned(go.Figure(), 460).update_layout(title_text=title)
    figure.add_shape(type="circle", x0=-1, x1=1, y0=-1, y1=1, fillcolor=_INSIDE, layer="between",
                     line={"color": GREY, "dash": "dash", "width": 1})  # fmt: skip
    found = looks.of(spectra)
    for i, (name, values) in enumerate(spectra.items()):
        seen, look = as_complex(values.flatten()), found[name]
        # Hollow markers of three sizes, so that equal eigenvalues of several arms are all visible.
        marker = {"symbol": f"{look.marker}-open", "size": 8 + 4 * (i % 3), "color": look.colour,
                  "line": {"width": 1.5}}  # fmt: skip
        figure.add_scatter(x=seen.real, y=seen.imag, mode="markers", name=name, marker=marker)
    figure.update_layout(showlegend=len(spectra) > 1)
    figure.update_xaxes(title_text="real part").update_yaxes(title_text="imaginary part")
    return fit.fit(figure.update_yaxes(scaleanchor="x"))


def trajectories(states: Tensor, *, title: str = "", most: int = 8) -> go.Figure:
    """Every mode over time: real part of its state, and magnitudes of state and update, log scales.

    Args:
        states: Complex["T N"]; the first `most` modes are drawn, at most as many as there are
            looks. If N is smaller, the remaining lines are empty, so that the number of lines does
            not depend on N.
    """
    labels = ["Re h[t]", "|h[t]|", "|h[t] - h[t-1]|"]
    figure = make_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.06)
    fit.planned(figure, 560).update_layout(title_text=title)
    h = as_complex(states)
    updates = np.diff(h, axis=0, prepend=np.zeros_like(h[:1]))
    traces = []
    for row, values in enumerate((h.real, np.abs(h), np.abs(updates)), start=1):
        axis = "" if row == 1 else str(row)
        for mode, look in enumerate(LOOKS[:most]):
            there = mode < h.shape[1]
            traces.append({
                "type": "scatter", "y": values[:, mode] if there else [], "name": f"mode {mode}",
                "mode": "lines", "legendgroup": f"mode {mode}", "showlegend": row == 1 and there,
                "line": look.line(1.2), "xaxis": f"x{axis}", "yaxis": f"y{axis}",
            })  # fmt: skip
        figure.update_yaxes(title_text=labels[row - 1], row=row, col=1)
    figure.add_traces(traces)  # all at once: one by one takes three times as long
    for row in (2, 3):
        figure.update_yaxes(LOG, row=row, col=1)
    return fit.fit(figure.update_xaxes(title_text="step t", row=3, col=1))


def heatmaps(values: Mapping[str, Tensor], *, title: str = "") -> go.Figure:
    """Numbers over time side by side, a row of colours for each of them.

    Args:
        values: Float["T N"] by what it shows; where some are negative, white is zero.
        title: what the figure shows.
    """
    figure = make_subplots(cols=len(values), subplot_titles=list(values), horizontal_spacing=0.24)
    fit.planned(figure, 420).update_layout(title_text=title)
    figure.update_annotations(font_size=FONT_SIZE)
    for col, each in enumerate(values.values(), start=1):
        shown = each.detach().cpu().numpy().astype(np.float32)
        figure.add_heatmap(z=shown.T, coloraxis=f"coloraxis{col}", row=1, col=col)
        figure.update_xaxes(title_text="step t", row=1, col=col)
        figure.update_yaxes(title_text="coordinate", row=1, col=col)
        end = figure.layout[f"xaxis{'' if col == 1 else col}"].domain[1]
        bar = {"x": end + 0.01, "thickness": 10}
        signed = {"colorscale": "RdBu", "cmid": 0} if (shown < 0).any() else {}
        colours = {"colorscale": "Viridis", **signed, "colorbar": bar}
        figure.update_layout({f"coloraxis{col}": colours})
    return fit.fit(figure)


def as_complex(values: Tensor) -> np.ndarray:
    """Values in single precision, which is enough for a screen and keeps the notebook small."""
    return values.detach().cpu().numpy().astype(np.complex64)


def _border(seen: np.ndarray, *, circle: bool) -> np.ndarray:
    """The point of the unit circle, or of the imaginary axis, nearest to the outermost eigenvalue.

    If the eigenvalues are spread over much of the circle: four points that span all of it.
    """
    if not circle:
        return 1j * seen[[seen.real.argmax()]].imag
    if max(np.ptp(seen.real), np.ptp(seen.imag)) > 1:
        return np.array([1, 1j, -1, -1j])
    outermost = seen[[np.abs(seen).argmax()]]
    return outermost / np.maximum(np.abs(outermost), 1e-9)


def _window(points: np.ndarray) -> tuple[list[float], list[float]]:
    """Limits of two axes around complex numbers; neither range is below half of the other."""
    spans = [np.ptp(points.real), np.ptp(points.imag)]
    limits = []
    for part, span in zip((points.real, points.imag), spans, strict=True):
        margin = max(0.08 * span, 0.5 * (0.5 * max(spans) - span), 1e-6)
        limits.append([float(part.min() - margin), float(part.max() + margin)])
    return limits[0], limits[1]
