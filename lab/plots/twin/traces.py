"""The traces that twins draw: the room that each needs on its axes, and its drawing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lab.plots.theme import COLOURS, merged
from lab.plots.twin.axis import Axis, Extent
from lab.plots.twin.plane import Plane, coordinates
from lab.plots.twin.read import Undrawable, values_of
from lab.plots.twin.sheet import Sheet, colour
from lab.plots.twin.text import plain

Trace = Mapping[str, Any]

# Plotly's symbols as matplotlib's, with their relative size. Those with "open" are not filled.
_SYMBOLS = {
    "circle": ("o", 1.0), "square": ("s", 0.92), "diamond": ("D", 0.85), "cross": ("P", 1.1),
    "x": ("X", 1.1), "triangle-up": ("^", 1.05), "triangle-down": ("v", 1.05), "star": ("*", 1.4),
    "x-thin": ("x", 0.8), "line-ns": ("|", 1.4), "line-ew": ("_", 1.4),
}  # fmt: skip


# --- scatter -------------------------------------------------------------------------------------


def mode_of(trace: Trace) -> str:
    """The mode of a scatter trace: the given one, or plotly's default."""
    short = len(coordinates(trace)[0]) < 20
    return str(trace.get("mode") or ("lines+markers" if short else "lines"))


def scatter_extents(trace: Trace, x: Axis, y: Axis) -> tuple[list[Extent], list[Extent]]:
    """The extents of a scatter trace: lines may touch the ends of the x axis, markers may not."""
    marks = "markers" in mode_of(trace)
    sizes = np.atleast_1d(np.asarray((trace.get("marker") or {}).get("size", 6), dtype=float))
    pixels = max(float(sizes.max()) / 1.6, 3) if marks else 0.0
    padded = marks or "text" in mode_of(trace) or trace.get("error_x") or trace.get("error_y")
    xs, ys = coordinates(trace)
    across, along = _extent(x.place(xs), 0.05 if padded else 0.0, pixels), _extent(
        y.place(ys), 0.05, pixels)  # fmt: skip
    return ([across, *_error_extents(xs, trace.get("error_x"), x)],
            [along, *_error_extents(ys, trace.get("error_y"), y)])  # fmt: skip


def draw_scatter(sheet: Sheet, plane: Plane, alike: Sequence[Trace], number: int) -> None:
    """Draw filled area, error bars, line, markers and texts of a scatter trace.

    Args:
        sheet, plane: where to draw.
        alike: one trace, or several plain lines of the same style.
        number: index of the first of them among the traces of the figure.
    """
    trace, (x, y) = alike[0], plane.points(alike[0])
    style = scatter_style(trace, number)
    if trace.get("fill") not in (None, "none"):
        _draw_area(sheet, plane, trace, style["opacity"])
    _draw_errors(sheet, plane, trace, style)
    if "lines" in mode_of(trace):
        line = style["line"]
        pieces = [_shaped(*plane.points(each), line.get("shape")) for each in alike]
        sheet.line(
            *interrupted(pieces), color=line["color"], width=line["width"],
            dash=line.get("dash"), opacity=style["opacity"], clip=plane.box,
        )  # fmt: skip
    if "markers" in mode_of(trace):
        kept = _shown_markers(len(x), style["marker"].get("maxdisplayed"), number)
        draw_markers(sheet, x[kept], y[kept], style["marker"], style["opacity"], _wider(plane.box))
    if "text" in mode_of(trace):
        _draw_texts(sheet, trace, x, y)


def _draw_area(sheet: Sheet, plane: Plane, trace: Trace, opacity: float) -> None:
    """Draw the area that the points of a trace go round."""
    if trace["fill"] != "toself" or not trace.get("fillcolor"):
        raise Undrawable(f"fill {trace['fill']!r} has no static twin: toself with a fillcolor does")
    corners = np.stack(plane.points(trace), axis=-1)[None]
    sheet.polygons(corners, trace["fillcolor"], plane.box, opacity=opacity)


def scatter_style(trace: Trace, number: int) -> dict[str, Any]:
    """Line and marker of a trace, with the defaults that plotly takes from the colourway."""
    own = trace.get("line", {}).get("color") or _first((trace.get("marker") or {}).get("color"))
    first = own or COLOURS[number % len(COLOURS)]
    base = {
        "line": {"color": first, "width": 2},
        "marker": {"color": first, "size": 6, "symbol": "circle", "opacity": 1.0},
        "opacity": 1.0,
    }
    return merged(base, {k: trace[k] for k in base if trace.get(k) is not None})


def draw_markers(
    sheet: Sheet, x: np.ndarray, y: np.ndarray, marker: Trace, opacity: float, clip: Any
) -> None:
    """Draw markers at points in px, in groups of equal markers."""
    from matplotlib.lines import Line2D

    for symbol, color, size, where in _alike(marker, len(x)):
        shape, scale, is_open = symbol_of(symbol)
        edge = marker.get("line") or {}
        thin = shape in ("x", "|", "_")
        fill = colour(color, opacity * float(marker.get("opacity", 1.0)))
        width = float(edge.get("width", 1.5 if is_open or thin else 0))
        markers = Line2D(
            x[where], y[where], linestyle="none", marker=shape, markersize=0.72 * scale * size,
            markerfacecolor="none" if is_open else fill, markeredgewidth=0.72 * width,
            markeredgecolor=fill if is_open or thin else colour(edge.get("color", "#444444"),
                                                               opacity),
        )  # fmt: skip
        sheet.add(markers, clip)


def symbol_of(symbol: Any) -> tuple[str, float, bool]:
    """Matplotlib's marker for plotly's symbol, its relative size, and whether it is hollow."""
    name = str(symbol).removesuffix("-open")
    if name not in _SYMBOLS:
        raise Undrawable(f"the static twin does not know the symbol {symbol!r}: {list(_SYMBOLS)}")
    return *_SYMBOLS[name], name != str(symbol)


def _alike(marker: Trace, count: int) -> list[tuple[Any, Any, float, np.ndarray]]:
    """Symbol, colour and size of every group of equal markers, and the indices of its points."""
    columns = [_column(marker.get(key), count) for key in ("symbol", "color", "size")]
    if any(isinstance(value, int | float) for value in columns[1]):
        raise Undrawable("markers coloured by numbers have no static twin: give their colours")
    groups: dict[Any, list[int]] = {}
    for place, kind in enumerate(zip(*columns, strict=True)):
        groups.setdefault(kind, []).append(place)
    return [(symbol, color, float(size), np.array(where))
            for (symbol, color, size), where in groups.items()]  # fmt: skip


def _column(value: Any, count: int) -> list[Any]:
    if isinstance(value, str) or np.ndim(value) == 0:
        return [value] * count
    return list(np.asarray(value).tolist())[:count]


def _first(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _shown_markers(count: int, most: int | None, number: int) -> np.ndarray:
    """Indices of the markers of a trace that shows at most `most`; traces are staggered."""
    if not most:
        return np.arange(count)
    step = max(math.ceil(count / most), 1)
    start = round(number * step / 3 + number // 3 * step / 7.1) % step
    return np.arange(start, count, step)


def _shaped(x: np.ndarray, y: np.ndarray, shape: str | None) -> tuple[np.ndarray, np.ndarray]:
    if shape in (None, "linear"):
        return x, y
    if shape == "hv":
        return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
    raise Undrawable(f"the static twin does not know the line shape {shape!r}: linear and hv")


def interrupted(pieces: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Several lines as a single line with gaps."""
    gap = np.array([np.nan])
    x, y = (np.concatenate([part for piece in pieces for part in (piece[i], gap)]) for i in (0, 1))
    return x[:-1], y[:-1]


def _draw_texts(sheet: Sheet, trace: Trace, x: np.ndarray, y: np.ndarray) -> None:
    along, across = (trace.get("textposition") or "middle center").split(" ")
    align = ({"left": "right", "right": "left"}.get(across, across),
             {"top": "bottom", "bottom": "top"}.get(along, along))  # fmt: skip
    texts = _column(trace.get("text"), len(x))
    for place, text in enumerate(texts):
        if text and np.isfinite(x[place]) and np.isfinite(y[place]):
            sheet.text(x[place], y[place], plain(text), font=trace.get("textfont"), align=align)


# --- error bars ----------------------------------------------------------------------------------


def _errors(error: Trace | None, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Lengths of the error bars of all points, downwards and upwards, in units of the data."""
    if not error or error.get("array") is None:
        return None
    above = values_of(error["array"])[:count]
    below = error.get("arrayminus")
    return (above if below is None else values_of(below)[:count]), above


def _error_extents(values: Any, error: Trace | None, axis: Axis) -> list[Extent]:
    found = _errors(error, len(values))
    if found is None:
        return []
    numbers = values_of(values)
    ends = np.concatenate([axis.place(numbers - found[0]), axis.place(numbers + found[1])])
    return [_extent(ends, 0.05)]


def _draw_errors(sheet: Sheet, plane: Plane, trace: Trace, style: Trace) -> None:
    x, y = plane.points(trace)
    for way, axis, place in (("x", plane.x, plane.across), ("y", plane.y, plane.down)):
        error = trace.get(f"error_{way}")
        values = coordinates(trace)["xy".index(way)]
        found = _errors(error, len(values))
        if found is None or error is None:
            continue
        numbers = values_of(values)
        ends = [place(axis.place(numbers - found[0])), place(axis.place(numbers + found[1]))]
        width = error.get("thickness") or 2
        color = error.get("color") or _first(style["marker"]["color"]) or COLOURS[0]
        cap = error.get("width", 4 if len(numbers) < 30 else 0)
        for i in range(len(numbers)):
            bar = np.array([ends[0][i], ends[1][i]])
            level = np.full(2, (y if way == "x" else x)[i])
            caps = level + np.array([-cap, cap])
            drawn = [(bar, level), *((np.full(2, end), caps) for end in bar)]
            for along, across in drawn:
                places = (along, across) if way == "x" else (across, along)
                sheet.line(*places, color=color, width=width, clip=plane.box)


# --- bars and boxes ------------------------------------------------------------------------------


def lengthwise(trace: Trace) -> str:
    """The axis, x or y, that shows the values of a bar or box."""
    return "x" if trace.get("orientation") == "h" else "y"


def bar_extents(trace: Trace, x: Axis, y: Axis) -> tuple[list[Extent], list[Extent]]:
    """The extents of bars: from zero, or the end of a log axis; half a unit to both sides."""
    value_axis, base_axis = (x, y) if lengthwise(trace) == "x" else (y, x)
    columns = dict(zip("xy", coordinates(trace), strict=True))
    values = value_axis.place(columns[lengthwise(trace)])
    whole = values if value_axis.kind == "log" else np.append(values, 0.0)
    places = base_axis.place(columns["y" if lengthwise(trace) == "x" else "x"])
    long, base = _extent(whole, 0.05), _extent(np.concatenate([places - 0.5, places + 0.5]), 0.0)
    long.grounded = value_axis.kind != "log"
    return ([long], [base]) if lengthwise(trace) == "x" else ([base], [long])


def draw_bar(sheet: Sheet, plane: Plane, trace: Trace, number: int, slot: tuple[int, int]) -> None:
    """Draw bars beside those of other traces; `slot` holds the index and the number of traces."""
    columns = dict(zip("xy", coordinates(trace), strict=True))
    sideways = lengthwise(trace) == "x"
    value_axis, base_axis = (plane.x, plane.y) if sideways else (plane.y, plane.x)
    values = value_axis.place(columns["x" if sideways else "y"])
    places = base_axis.place(columns["y" if sideways else "x"])
    width = 0.8 / slot[1]
    left = places - 0.4 + width * slot[0]
    floor = min(value_axis.limits) if value_axis.kind == "log" else 0.0
    corners = [[(a, floor), (a, v), (a + width, v), (a + width, floor)]
               for a, v in zip(left, values, strict=True)]  # fmt: skip
    drawn = np.array(corners)[..., ::-1] if sideways else np.array(corners)
    marker = trace.get("marker") or {}
    colours = _column(marker.get("color") or COLOURS[number % len(COLOURS)], len(values))
    shapes = np.stack([plane.across(drawn[..., 0]), plane.down(drawn[..., 1])], axis=-1)
    opacity = float(marker.get("opacity", 1.0)) * float(trace.get("opacity", 1.0))
    sheet.polygons(shapes, np.array([colour(c, opacity) for c in colours]), plane.box)
    _draw_errors(sheet, plane, trace, {"marker": {"color": "#444444"}})


def box_extents(trace: Trace, x: Axis, y: Axis) -> tuple[list[Extent], list[Extent]]:
    """The extents of boxes, which take half a unit to both sides of their positions."""
    across, along = box_places(trace, x), y.place(trace.get("y"))
    return [_extent(np.concatenate([across - 0.5, across + 0.5]), 0.0)], [_extent(along, 0.05)]


def box_places(trace: Trace, x: Axis) -> np.ndarray:
    """Position of the box of every value; without an x, it is the name of the trace."""
    if trace.get("x") is None:
        raise Undrawable("a box trace without x has no static twin: give an x for every y")
    return x.place(trace["x"])


def draw_box(sheet: Sheet, plane: Plane, trace: Trace, number: int, slot: tuple[int, int]) -> None:
    """Draw quartiles, median, whiskers to the last value within 1.5 box lengths, and outliers."""
    if lengthwise(trace) == "x" or trace.get("boxpoints") not in (None, "outliers", False):
        raise Undrawable("box traces have a static twin upright and with outliers or no points")
    values, places = values_of(trace["y"]), box_places(trace, plane.x)
    width, color = 0.6 / slot[1], (trace.get("line") or {}).get("color")
    color = color or _first((trace.get("marker") or {}).get("color"))
    style = {"color": color or COLOURS[number % len(COLOURS)], "size": 6, "symbol": "circle",
             **(trace.get("marker") or {})}  # fmt: skip
    for place in np.unique(places):
        middle = place + width * (slot[0] - (slot[1] - 1) / 2)
        _draw_one_box(sheet, plane, values[places == place], middle, 0.4 * width, style,
                      trace.get("boxpoints") is not False)  # fmt: skip


def _draw_one_box(
    sheet: Sheet, plane: Plane, values: np.ndarray, middle: float, half: float, style: Trace,
    outliers: bool,
) -> None:  # fmt: skip
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return
    low, median, high = quartiles(values)
    inside = values[(values >= low - 1.5 * (high - low)) & (values <= high + 1.5 * (high - low))]
    left, centre, right = plane.across([middle - half, middle, middle + half])
    up = {level: float(plane.down(plane.y.place([level])[0]))
          for level in (low, median, high, inside[0], inside[-1])}  # fmt: skip
    corners = [[(left, up[low]), (left, up[high]), (right, up[high]), (right, up[low])]]
    sheet.polygons(np.array(corners), colour(style["color"], 0.5), plane.box, style["color"], 2)
    for x, y in (((left, right), (up[median], up[median])),
                 ((centre, centre), (up[low], up[inside[0]])),
                 ((centre, centre), (up[high], up[inside[-1]]))):  # fmt: skip
        sheet.line(x, y, color=style["color"], width=2, clip=plane.box)
    far = values[(values < inside[0]) | (values > inside[-1])] if outliers else values[:0]
    draw_markers(sheet, np.full(len(far), centre), plane.down(plane.y.place(far)), style, 1.0,
                 plane.box)  # fmt: skip


def quartiles(values: np.ndarray) -> np.ndarray:
    """Quartiles by plotly's "linear" method (Hazen's): sorted value i is quantile (i + 1/2) / n."""
    return np.quantile(values, [0.25, 0.5, 0.75], method="hazen")


# --- heatmaps ------------------------------------------------------------------------------------


def heatmap_extents(trace: Trace, x: Axis, y: Axis) -> tuple[list[Extent], list[Extent]]:
    """The extents of a heatmap, whose cells fill the axes to their ends."""
    across, along = cell_edges(trace, x, y)
    return [_extent(across, 0.0)], [_extent(along, 0.0)]


def cell_edges(trace: Trace, x: Axis, y: Axis) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the cells in drawn units: half-way between their middles."""
    z = matrix(trace)
    return _edges(trace.get("x"), x, z.shape[1]), _edges(trace.get("y"), y, z.shape[0])


def matrix(trace: Trace) -> np.ndarray:
    """The numbers of a heatmap, ["rows columns"]; NaN for missing ones."""
    rows = [values_of(row) for row in trace.get("z", ()) if row is not None]
    if not rows or any(len(row) != len(rows[0]) or row.dtype == object for row in rows):
        raise Undrawable("a heatmap needs z of numbers, with rows of one length")
    return np.stack(rows)


def draw_heatmap(sheet: Sheet, plane: Plane, trace: Trace, scale: "ColourScale") -> None:
    """Draw cells in the colours of the scale, with their texts."""
    z = matrix(trace)
    across, along = cell_edges(trace, plane.x, plane.y)
    x, y = plane.across(across), plane.down(along)
    fills = scale.colours(z) * np.array([1, 1, 1, float(trace.get("opacity", 1.0))])
    gaps = float(trace.get("xgap") or 0) / 2, float(trace.get("ygap") or 0) / 2
    if any(gaps):
        _draw_cells(sheet, plane, x, y, fills, gaps)
    else:
        _draw_mesh(sheet, plane, x, y, fills)
    if trace.get("texttemplate") is not None:
        _draw_cell_texts(sheet, trace, x, y, fills)


def _edges(places: Any, axis: Axis, count: int) -> np.ndarray:
    middles = np.arange(count, dtype=float) if places is None else axis.place(places)
    if len(middles) == count + 1:
        return middles
    if count == 1:
        return np.array([middles[0] - 0.5, middles[0] + 0.5])
    inner = (middles[1:] + middles[:-1]) / 2
    return np.concatenate([[2 * middles[0] - inner[0]], inner, [2 * middles[-1] - inner[-1]]])


def _draw_mesh(sheet: Sheet, plane: Plane, x: Any, y: Any, fills: np.ndarray) -> None:
    from matplotlib.collections import QuadMesh

    corners = np.stack(np.meshgrid(x, y), axis=-1)
    mesh = QuadMesh(corners, antialiased=False, facecolors=fills.reshape(-1, 4))
    sheet.add(mesh, plane.box)


def _draw_cells(
    sheet: Sheet, plane: Plane, x: Any, y: Any, fills: np.ndarray, gaps: tuple[float, float]
) -> None:
    rights, downs = np.sign(x[-1] - x[0]), np.sign(y[-1] - y[0])
    left, right = x[:-1] + rights * gaps[0], x[1:] - rights * gaps[0]
    first, last = y[:-1] + downs * gaps[1], y[1:] - downs * gaps[1]
    corners = [[(left[j], first[i]), (right[j], first[i]), (right[j], last[i]), (left[j], last[i])]
               for i in range(len(first)) for j in range(len(left))]  # fmt: skip
    sheet.polygons(np.array(corners), fills.reshape(-1, 4), plane.box)


def _draw_cell_texts(
    sheet: Sheet, trace: Trace, x: np.ndarray, y: np.ndarray, fills: np.ndarray
) -> None:
    if trace["texttemplate"] not in ("%{text}", "%{z}"):
        raise Undrawable(
            f"a heatmap's texttemplate is %{{text}} or %{{z}}, not {trace['texttemplate']!r}"
        )
    texts = trace.get("text") if trace["texttemplate"] == "%{text}" else trace["z"]
    font = trace.get("textfont") or {}
    for i, row in enumerate(texts if texts is not None else ()):
        for j, text in enumerate(row):
            if text is None or text == "":
                continue
            shown = {"color": contrasting(fills[i, j]), **font}
            sheet.text((x[j] + x[j + 1]) / 2, (y[i] + y[i + 1]) / 2, plain(text), font=shown)


def contrasting(fill: np.ndarray) -> str:
    """Black or white, whichever is more legible on the colour."""
    light = fill[:3] @ np.array([0.299, 0.587, 0.114]) > 0.55 or fill[3] < 0.3
    return "#444444" if light else "#ffffff"


class ColourScale:
    """Maps numbers to colours by the settings of a heatmap or of a shared colour axis.

    Args:
        settings: zmin, zmax, zmid (or cmin...), colorscale.
        values: all numbers shown with this scale.
        defaults: the layout's scales for rising, falling and mixed numbers.
    """

    def __init__(self, settings: Trace, values: np.ndarray, defaults: Trace) -> None:
        letter = "c" if any(key in settings for key in ("cmin", "cmax", "cmid")) else "z"
        low, high, middle = (settings.get(f"{letter}{end}") for end in ("min", "max", "mid"))
        finite = values[np.isfinite(values)]
        found = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        self.low, self.high = (given if given is not None else end
                               for given, end in zip((low, high), found, strict=True))  # fmt: skip
        if middle is not None:
            reach = max(self.high - middle, middle - self.low)
            self.low, self.high = middle - reach, middle + reach
        if self.low == self.high:
            self.low, self.high = self.low - 0.5, self.high + 0.5
        self.stops = scale_stops(settings.get("colorscale") or _default_scale(defaults, found))
        if settings.get("reversescale"):
            self.stops = [(1 - at, color) for at, color in self.stops[::-1]]

    def colours(self, values: np.ndarray) -> np.ndarray:
        """Colours ["... 4"] in [0, 1]; transparent where there is no number."""
        share = np.clip((values - self.low) / (self.high - self.low), 0, 1)
        places = [at for at, _ in self.stops]
        parts = np.array([colour(color) for _, color in self.stops])
        mixed = np.stack([np.interp(share, places, parts[:, i]) for i in range(4)], axis=-1)
        mixed[np.isnan(values)] = 0
        return mixed


def _default_scale(defaults: Trace, found: tuple[float, float]) -> Any:
    """Plotly's default scale for positive, for negative or for mixed numbers."""
    low, high = found
    kind = "diverging" if low < 0 < high else "sequentialminus" if low < 0 else "sequential"
    return defaults.get(kind) or "Viridis"


def scale_stops(scale: Any) -> list[tuple[float, str]]:
    """The stops of a colour scale that is given by name or in full."""
    import plotly.colors

    if isinstance(scale, str):
        scale = plotly.colors.get_colorscale(scale)
    if not isinstance(scale[0], list | tuple):
        scale = [(i / (len(scale) - 1), color) for i, color in enumerate(scale)]
    return [(float(at), str(color)) for at, color in scale]


def _extent(values: np.ndarray, share: float, pixels: float = 0.0) -> Extent:
    finite = values[np.isfinite(values)] if len(values) else values
    if not len(finite):
        return Extent(math.nan, math.nan)
    return Extent(float(finite.min()), float(finite.max()), share, pixels)


def _wider(box: tuple[float, ...]) -> tuple[float, ...]:
    """The box with room around it, so that markers at the ends of an axis are shown whole."""
    return box[0] - 6, box[1] - 6, box[2] + 6, box[3] + 6
