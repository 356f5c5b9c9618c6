"""Reads a plotly figure into plain dictionaries, and refuses what twins cannot draw."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.io

from lab.plots.theme import merged

Dict = dict[str, Any]


class Undrawable(ValueError):  # noqa: N818
    """A figure has something that its static twin cannot show."""


# Settings without effect on a static picture: hovering, zooming, names for other programs.
_IDLE = {
    "automargin", "autosize", "captureevents", "clickmode", "cliponaxis", "customdata",
    "dragmode", "fixedrange", "hoverdistance", "hoverformat", "hoverinfo", "hoverlabel",
    "hovermode", "hoveron", "hoversubplots", "hovertemplate", "hovertext", "ids", "legendrank",
    "meta", "modebar", "name", "selected", "selectedpoints", "showspikes", "template",
    "templateitemname", "type", "uid", "uirevision", "unselected",
}  # fmt: skip

# Settings that twins cannot draw, so that a figure may only switch them off.
_OFF = {"showline", "zeroline", "ticks", "outlinewidth"}

# The settings that twins draw, by path. An empty set allows any value.
_ERROR = {"array", "arrayminus", "symmetric", "color", "thickness", "width", "visible"}
_FONT = {"size", "color", "family"}
_TITLE = {"text", "font", "standoff"}
_COLOURBAR = {"title", "x", "y", "len", "thickness", "tickvals", "ticktext", "outlinewidth",
              "xpad", "tickfont", "tickformat"}  # fmt: skip
_TRACE = {"x", "y", "xaxis", "yaxis", "opacity", "showlegend", "legendgroup", "visible",
          "orientation"}  # fmt: skip
_COLOURED = {"colorscale", "coloraxis", "zmin", "zmax", "zmid", "showscale", "colorbar",
             "reversescale"}  # fmt: skip
_MARKER = {"color", "size", "symbol", "opacity", "line", "maxdisplayed"}
_DRAWN: dict[str, set[str]] = {
    "scatter": _TRACE | {"mode", "line", "marker", "error_x", "error_y", "text", "textposition",
                         "textfont", "fill", "fillcolor"},
    "scatter.line": {"color", "width", "dash", "shape"},
    "scatter.marker": _MARKER,
    "scatter.error_x": _ERROR,
    "scatter.error_y": _ERROR,
    "bar": _TRACE | {"marker", "error_x", "error_y"},
    "bar.marker": {"color", "opacity"},
    "bar.error_x": _ERROR,
    "bar.error_y": _ERROR,
    "box": _TRACE | {"boxpoints", "line", "marker"},
    "box.line": {"color"},
    "box.marker": _MARKER,
    "heatmap": _TRACE | _COLOURED | {"z", "xgap", "ygap", "text", "texttemplate", "textfont"},
    "heatmap.colorbar": _COLOURBAR,
    "axis": {
        "type", "range", "autorange", "tickvals", "ticktext", "tickmode", "tickformat", "title",
        "domain", "anchor", "matches", "scaleanchor", "showgrid",
        "gridcolor", "gridwidth",
        "showticklabels", "tickfont", "visible", "exponentformat",
        "minorloglabels", "nticks", "tickangle",
    },
    "axis.title": _TITLE,
    "axis.title.font": _FONT,
    "axis.tickfont": _FONT,
    "shape": {"type", "x0", "x1", "y0", "y1", "xref", "yref", "line", "fillcolor", "opacity",
              "layer"},
    "shape.line": {"color", "width", "dash"},
    "annotation": {
        "text", "x", "y", "xref", "yref", "xanchor", "yanchor", "xshift", "yshift", "showarrow",
        "font", "align", "textangle", "opacity",
    },
    "annotation.font": _FONT,
    "layout": {
        "title", "height", "width", "margin", "showlegend", "legend", "font", "annotations",
        "shapes", "paper_bgcolor", "plot_bgcolor", "boxmode", "barmode",
    },
    "layout.title": {"text", "font", "x", "y", "xref", "yref", "xanchor", "yanchor", "pad"},
    "layout.margin": {"l", "r", "t", "b"},
    "layout.legend": {"font", "entrywidth"},
    "coloraxis": {"colorscale", "cmin", "cmax", "cmid", "colorbar", "showscale", "reversescale"},
    "coloraxis.colorbar": _COLOURBAR,
}  # fmt: skip


def read(figure: Mapping[str, Any]) -> tuple[list[Dict], Dict]:
    """The traces and the layout of a figure, merged with its template.

    Raises:
        Undrawable: the figure itself, not its template, sets something that twins cannot draw.
    """
    traces = [_decoded(trace) for trace in figure.get("data", ())]
    layout = _decoded(figure.get("layout", {}))
    for i, trace in enumerate(traces):
        _check_trace(trace, i)
    _check_layout(layout)
    template = _template(layout.get("template"))
    base = template.get("layout", {})
    layout = {**layout, "template": None}
    return [_with_template(t, template) for t in traces if t.get("visible", True) is True], merged(
        base, layout
    )


def axis_of(layout: Mapping[str, Any], name: str) -> Dict:
    """The settings of an axis ("x", "y2"), merged over those of the template."""
    key = f"{name[0]}axis{name[1:]}"
    base = layout.get(f"{name[0]}axis_defaults", {})
    return merged(base, layout.get(key))


def values_of(sequence: Any) -> np.ndarray:
    """A coordinate as an array: float64 for numbers, object for words; None and gaps are NaN.

    Raises:
        Undrawable: the coordinate holds something else, such as dates.
    """
    if isinstance(sequence, np.ndarray) and sequence.dtype.kind in "fiub":
        return sequence.astype(np.float64)
    items = list(sequence) if sequence is not None else []
    if any(isinstance(item, str) for item in items):
        return np.array([str(item) for item in items], dtype=object)
    try:
        return np.array([np.nan if item is None else float(item) for item in items])
    except (TypeError, ValueError) as error:
        kind = type(items[0]).__name__
        raise Undrawable(
            f"coordinates of type {kind} have no static twin: give numbers or words"
        ) from error


def _decoded(value: Any) -> Any:
    """A part of a figure, with plotly's base64-encoded arrays decoded."""
    if isinstance(value, Mapping) and "bdata" in value:
        array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
        shape = str(value.get("shape", array.size))
        return array.reshape([int(length) for length in shape.split(",")])
    if isinstance(value, Mapping):
        return {key: _decoded(item) for key, item in value.items() if key != "template"} | (
            {"template": value["template"]} if "template" in value else {}
        )
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return [_decoded(item) for item in value]
    return value


def _template(template: Any) -> Dict:
    if isinstance(template, str):
        template = plotly.io.templates[template]
    if template is not None and not isinstance(template, Mapping):
        template = template.to_plotly_json()
    template = dict(template or {})
    layout = dict(template.get("layout", {}))
    # The "xaxis" of a template applies to all x axes.
    layout["xaxis_defaults"], layout["yaxis_defaults"] = (
        layout.pop("xaxis", {}), layout.pop("yaxis", {}),
    )  # fmt: skip
    layout["coloraxis_defaults"] = layout.pop("coloraxis", {})
    return {"data": template.get("data", {}), "layout": layout}


def _with_template(trace: Dict, template: Dict) -> Dict:
    kind = trace.get("type", "scatter")
    defaults = template["data"].get(kind) or [{}]
    return {"type": kind, **merged(defaults[0], trace)}


def _check_trace(trace: Mapping[str, Any], number: int) -> None:
    kind = trace.get("type", "scatter")
    if kind not in ("scatter", "bar", "box", "heatmap"):
        raise Undrawable(
            f"trace {number} is a {kind}, which has no static twin: scatter, bar, box and heatmap "
            'do; figure.show("plotly_mimetype") shows it without one'
        )
    if trace.get("visible") == "legendonly":
        raise Undrawable(f"trace {number} is in the legend only, which has no static twin: drop it")
    _check(trace, kind, f"trace {number} ({trace.get('name') or kind})")


def _check_layout(layout: Mapping[str, Any]) -> None:
    for key, value in layout.items():
        kind = key.rstrip("0123456789")
        if kind in ("xaxis", "yaxis"):
            _check(value, "axis", key)
        elif kind == "coloraxis":
            _check(value, "coloraxis", key)
        elif key in ("shapes", "annotations"):
            for item in value:
                _check(item, key[:-1], f"one of the {key}")
                _check_layer(item)
        elif key not in _DRAWN["layout"] | _IDLE:
            raise _unknown("the layout", key)
        elif f"layout.{key}" in _DRAWN and isinstance(value, Mapping):
            _check(value, f"layout.{key}", f"the layout's {key}")


def _check_layer(shape: Mapping[str, Any]) -> None:
    references = [str(shape.get(f"{way}ref") or way) for way in "xy"]
    if shape.get("layer") == "between" and any(
        name == "paper" or name.endswith("domain") for name in references
    ):
        raise Undrawable(
            f"a shape on the layer 'between' refers to {' and '.join(references)}, on which "
            "plotly.js stops: use the layer 'below'"
        )


def _check(part: Mapping[str, Any], kind: str, where: str) -> None:
    for key, value in part.items():
        if value is None or key in _IDLE or (key in _OFF and not value):
            continue
        if key not in _DRAWN[kind]:
            raise _unknown(where, key)
        if f"{kind}.{key}" in _DRAWN and isinstance(value, Mapping):
            _check(value, f"{kind}.{key}", f"{where}: {key}")


def _unknown(where: str, key: str) -> Undrawable:
    return Undrawable(
        f"{where} sets {key!r}, which its static twin cannot draw: leave it out, teach lab.plots."
        'twin to draw it, or show the figure without a twin by figure.show("plotly_mimetype")'
    )
