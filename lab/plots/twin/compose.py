"""Draws a whole figure on a sheet, from back to front in plotly's order."""

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from lab.plots.fit import entries
from lab.plots.theme import merged, widest
from lab.plots.twin import traces as draw
from lab.plots.twin.axis import Axis, Extent, axes_of, set_limits
from lab.plots.twin.plane import Box, Plane
from lab.plots.twin.read import Undrawable
from lab.plots.twin.sheet import Sheet, colour
from lab.plots.twin.text import plain

Dict = dict[str, Any]
_MARGIN = {"l": 80, "r": 80, "t": 100, "b": 80}  # plotly's defaults
_EXTENTS = {
    "scatter": draw.scatter_extents, "bar": draw.bar_extents, "box": draw.box_extents,
    "heatmap": draw.heatmap_extents,
}  # fmt: skip
ITEM, ROW = 45, 19  # px: width of a legend entry without its text, and height of an entry


def compose(sheet: Sheet, traces: Sequence[Dict], layout: Dict) -> None:
    """Draw a figure.

    Args:
        sheet: an empty sheet.
        traces, layout: from `read`.
    """
    area = plotting_area(layout, sheet.width, sheet.height)
    axes = laid_out(traces, layout, area)
    planes = _planes(axes, traces, area)
    _draw_grounds(sheet, planes, layout)
    _draw_shapes(sheet, planes, layout, "below")
    for plane in planes.values():
        _draw_grid(sheet, plane)
    _draw_shapes(sheet, planes, layout, "between")
    _draw_traces(sheet, planes, traces, layout)
    _draw_shapes(sheet, planes, layout, "above")
    for plane in planes.values():
        _draw_labels(sheet, plane)
    _draw_annotations(sheet, planes, layout)
    _draw_title(sheet, layout, area)
    _draw_legend(sheet, traces, layout, area)


def plotting_area(layout: Dict, width: float, height: float) -> Box:
    """The part of a sheet inside the margins, in px."""
    margin = {**_MARGIN, **(layout.get("margin") or {})}
    return float(margin["l"]), float(margin["t"]), width - margin["r"], height - margin["b"]


def laid_out(traces: Sequence[Dict], layout: Dict, area: Box) -> dict[str, Axis]:
    """The axes of a figure with their limits, by name."""
    axes = axes_of(layout, traces, (area[2] - area[0], area[3] - area[1]))
    set_limits(axes, _extents(traces, layout, axes))
    return axes


# --- axes ----------------------------------------------------------------------------------------


def _planes(
    axes: Mapping[str, Axis], traces: Sequence[Dict], area: Box
) -> dict[tuple[str, str], Plane]:
    """Every pair of axes: those that traces use, and those of subplots without traces."""
    pairs = [(t.get("xaxis") or "x", t.get("yaxis") or "y") for t in traces]
    pairs += [(name, axis.settings.get("anchor") or f"y{name[1:]}") for name, axis in axes.items()
              if name[0] == "x"]  # fmt: skip
    return {(x, y): Plane(axes[x], axes[y], area)
            for x, y in dict.fromkeys(pairs) if x in axes and y in axes}  # fmt: skip


def _extents(
    traces: Sequence[Dict], layout: Dict, axes: Mapping[str, Axis]
) -> dict[str, list[Extent]]:
    found: dict[str, list[Extent]] = {name: [] for name in axes}
    for trace in traces:
        x, y = axes[trace.get("xaxis") or "x"], axes[trace.get("yaxis") or "y"]
        for axis, extents in zip((x, y), _EXTENTS[trace["type"]](trace, x, y), strict=True):
            found[axis.name] += extents
    for shape in layout.get("shapes") or ():
        for way in "xy":
            name = str(shape.get(f"{way}ref") or way)
            if name in axes:
                ends = axes[name].place([shape[f"{way}0"], shape[f"{way}1"]])
                found[name].append(Extent(float(min(ends)), float(max(ends)), 0.05))
    for note in layout.get("annotations") or ():
        name = str(note.get("xref") or "x")
        if name in axes:  # half of the text has to fit, whatever its anchor
            place = float(note.get("x", 0.5))
            found[name].append(Extent(place, place, 0.0, widest([str(note.get("text"))]) / 2))
    return found


def _draw_grounds(sheet: Sheet, planes: Mapping[Any, Plane], layout: Dict) -> None:
    ground = layout.get("plot_bgcolor") or "#ffffff"
    for plane in planes.values():
        if colour(ground)[3] == 0:
            return
        left, top, right, bottom = plane.box
        corners = np.array([[(left, top), (right, top), (right, bottom), (left, bottom)]])
        sheet.polygons(corners, ground)


def _draw_grid(sheet: Sheet, plane: Plane) -> None:
    left, top, right, bottom = plane.box
    for axis, place in ((plane.x, plane.across), (plane.y, plane.down)):
        settings = axis.settings
        if settings.get("visible") is False or settings.get("showgrid", True) is False:
            continue
        if axis.kind == "category" and "showgrid" not in settings:
            continue
        at = np.array([float(place(tick)) for tick, _ in axis.ticks()])
        # One line with gaps draws all of them.
        across, ends = np.repeat(at, 3), (top, bottom) if axis is plane.x else (left, right)
        along = np.tile([*ends, np.nan], len(at))
        sheet.line(*((across, along) if axis is plane.x else (along, across)),
                   color=settings.get("gridcolor") or "#eeeeee",
                   width=settings.get("gridwidth") or 1, clip=plane.box)  # fmt: skip


def _draw_labels(sheet: Sheet, plane: Plane) -> None:
    """Draw tick labels, and the titles of the axes below or beside them."""
    below = _draw_ticks_below(sheet, plane)
    beside = _draw_ticks_beside(sheet, plane)
    left, top, right, bottom = plane.box
    for axis, x, y, angle in (
        (plane.x, (left + right) / 2, bottom + below, 0),
        (plane.y, left - beside, (top + bottom) / 2, 90),
    ):
        text, font = _title_of(axis.settings, 14)
        if text and axis.settings.get("visible") is not False:
            gap = (axis.settings.get("title") or {}).get("standoff") or 8
            shift = (0, gap - 9) if angle == 0 else (-gap, 0)
            align = ("center", "top") if angle == 0 else ("center", "bottom")
            sheet.text(x + shift[0], y + shift[1], plain(text), font=font, align=align, angle=angle)


def _draw_ticks_below(sheet: Sheet, plane: Plane) -> float:
    """Draw the tick labels below the x axis; returns their height in px."""
    ticks, font = _tick_texts(sheet, plane.x)
    _, _, _, bottom = plane.box
    angle = float(plane.x.settings.get("tickangle") or 0)
    if angle not in (0, 90):
        raise Undrawable(f"texts of ticks at {angle:g}° have no static twin: 0 and 90 do")
    align = ("left", "middle") if angle else ("center", "top")
    for at, text in ticks:
        sheet.text(float(plane.across(at)), bottom + 4, text, font=font, align=align, angle=-angle)
    if angle:
        return 4 + max((sheet.text_width(text, font["size"]) for _, text in ticks), default=0)
    lines = max((text.count("\n") + 1 for _, text in ticks), default=0)
    return 4 + 1.3 * font["size"] * lines


def _draw_ticks_beside(sheet: Sheet, plane: Plane) -> float:
    """Draw the tick labels left of the y axis; returns their width in px."""
    ticks, font = _tick_texts(sheet, plane.y)
    left = plane.box[0]
    for at, text in ticks:
        sheet.text(left - 4, float(plane.down(at)), text, font=font, align=("right", "middle"))
    return 4 + max((sheet.text_width(text, font["size"]) for _, text in ticks), default=0)


def _tick_texts(sheet: Sheet, axis: Axis) -> tuple[list[tuple[float, str]], Dict]:
    font = {**sheet.font, **(axis.settings.get("tickfont") or {})}
    if axis.settings.get("visible") is False or axis.settings.get("showticklabels") is False:
        return [], font
    low, high = sorted(axis.limits)
    slack = 1e-9 * (high - low)
    return [
        (at, text) for at, text in axis.ticks() if text and low - slack <= at <= high + slack
    ], font


def _title_of(settings: Mapping[str, Any], size: float) -> tuple[str, Dict]:
    title = settings.get("title") or {}
    if isinstance(title, str):
        return title, {"size": size}
    return title.get("text") or "", {"size": size, **(title.get("font") or {})}


# --- traces --------------------------------------------------------------------------------------


def _draw_traces(
    sheet: Sheet, planes: Mapping[tuple[str, str], Plane], traces: Sequence[Dict], layout: Dict
) -> None:
    """Draw heatmaps at the back, then bars and boxes, then lines and points."""
    for kind in ("heatmap", "bar", "box"):
        for number, trace in enumerate(traces):
            if trace["type"] != kind:
                continue
            plane = planes[_pair(trace)]
            if kind == "heatmap":
                _draw_heatmap(sheet, plane, trace, traces, layout)
            else:
                drawn = draw.draw_bar if kind == "bar" else draw.draw_box
                drawn(sheet, plane, trace, number, _slot(trace, traces, layout))
    curves = [(number, t) for number, t in enumerate(traces) if t["type"] == "scatter"]
    # Consecutive seeds of one arm have the same style; drawing them as one line is much faster.
    for _, alike in groupby(curves, key=lambda pair: _look_of(*pair)):
        same = list(alike)
        draw.draw_scatter(sheet, planes[_pair(same[0][1])], [t for _, t in same], same[0][0])


def _pair(trace: Dict) -> tuple[str, str]:
    return trace.get("xaxis") or "x", trace.get("yaxis") or "y"


def _look_of(number: int, trace: Dict) -> Any:
    """A key that is equal for traces that can be drawn as one: plain lines of the same style."""
    if draw.mode_of(trace) != "lines" or trace.get("error_x") or trace.get("error_y"):
        return number
    return repr((_pair(trace), draw.scatter_style(trace, number)))


def _slot(trace: Dict, traces: Sequence[Dict], layout: Dict) -> tuple[int, int]:
    """Index and number of the side-by-side places for the bars or boxes of a trace."""
    kind = trace["type"]
    mode = layout.get(f"{kind}mode") or ("group" if kind == "bar" else "overlay")
    if mode not in ("group", "overlay"):
        raise Undrawable(f"{kind}mode {mode!r} has no static twin: group and overlay do")
    same = [t for t in traces if t["type"] == kind and t.get("xaxis") == trace.get("xaxis")
            and t.get("yaxis") == trace.get("yaxis")]  # fmt: skip
    if mode == "overlay" or len(same) < 2:
        return 0, 1
    return next(i for i, other in enumerate(same) if other is trace), len(same)


def _draw_heatmap(
    sheet: Sheet, plane: Plane, trace: Dict, traces: Sequence[Dict], layout: Dict
) -> None:
    shared = trace.get("coloraxis")
    settings = merged(layout.get("coloraxis_defaults"), layout.get(shared)) if shared else trace
    sharing = [t for t in traces if t.get("coloraxis") == shared] if shared else [trace]
    values = np.concatenate([draw.matrix(t).ravel() for t in sharing])
    scale = draw.ColourScale(settings, values, layout.get("colorscale") or {})
    draw.draw_heatmap(sheet, plane, trace, scale)
    if settings.get("showscale", True) is not False and trace is sharing[0]:
        _draw_colour_bar(sheet, scale, settings.get("colorbar") or {}, plane.area)


def _draw_colour_bar(sheet: Sheet, scale: draw.ColourScale, bar: Dict, area: Box) -> None:
    left, top, right, bottom = area
    length = float(bar.get("len") or 1.0) * (bottom - top)
    middle = bottom - float(bar.get("y", 0.5)) * (bottom - top)
    x0 = left + float(bar.get("x", 1.02)) * (right - left) + float(bar.get("xpad", 10))
    x1 = x0 + float(bar.get("thickness") or 30)
    title, font = _title_of(bar, 12)
    first, last = middle - length / 2 + (18 if title else 0), middle + length / 2
    edges = np.linspace(last, first, 65)
    fills = scale.colours(np.linspace(scale.low, scale.high, 64))
    corners = [[(x0, a), (x1, a), (x1, b), (x0, b)] for a, b in pairwise(edges)]
    sheet.polygons(np.array(corners), fills)
    chosen = ("tickvals", "ticktext", "tickformat")
    settings: Dict = {key: bar[key] for key in chosen if key in bar}
    axis = Axis("y", settings, "linear", (0, 1), last - first, limits=(scale.low, scale.high))
    for at, text in axis.ticks():
        y = last - float(axis.fraction(at)) * (last - first)
        sheet.text(x1 + 4, y, text or "", font=bar.get("tickfont"), align=("left", "middle"))
    if title:
        sheet.text(x0, first - 4, plain(title), font=font, align=("left", "bottom"))


# --- shapes and notes ----------------------------------------------------------------------------


def _draw_shapes(sheet: Sheet, planes: Mapping[Any, Plane], layout: Dict, layer: str) -> None:
    lines: dict[str, tuple[Dict, list[Any]]] = {}  # by style: one artist per style is faster
    for shape in layout.get("shapes") or ():
        if (shape.get("layer") or "above") != layer:
            continue
        plane = _plane_of(shape, planes)
        x, y = (
            np.array([_at(shape, way, shape[f"{way}{end}"], plane) for end in "01"]) for way in "xy"
        )
        line = {"color": "#444444", "width": 2, "dash": None, **(shape.get("line") or {})}
        line["opacity"] = float(shape.get("opacity", 1.0))
        if shape.get("type") == "line" and _inside(x, y, plane.box):
            lines.setdefault(repr(line), (line, []))[1].append((x, y))
        else:
            _draw_shape(sheet, shape, x, y, plane, line)
    for line, pieces in lines.values():
        sheet.line(*draw.interrupted(pieces), **line)


def _inside(x: np.ndarray, y: np.ndarray, box: Box) -> bool:
    left, top, right, bottom = box
    return bool(left - 1 <= x.min() and x.max() <= right + 1
                and top - 1 <= y.min() and y.max() <= bottom + 1)  # fmt: skip


def _draw_shape(
    sheet: Sheet, shape: Dict, x: np.ndarray, y: np.ndarray, plane: Plane, line: Dict
) -> None:
    kind = shape.get("type") or "rect"
    clip = plane.box if "paper" not in (shape.get("xref"), shape.get("yref")) else None
    if kind == "line":
        sheet.line(x, y, **line, clip=clip)
        return
    outline, fill = _outline(kind, x, y), shape.get("fillcolor") or "none"
    sheet.polygons(outline[None], fill, clip, opacity=line["opacity"])
    if line["width"]:
        sheet.line(*np.concatenate([outline, outline[:1]]).T, **line, clip=clip)


def _outline(kind: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if kind == "rect":
        return np.array([(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])])
    if kind != "circle":
        raise Undrawable(f"a shape of type {kind!r} has no static twin: line, rect and circle do")
    angles = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    middle, radius = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2), ((x[1] - x[0]) / 2, (y[1] - y[0]) / 2)
    return np.stack(
        [middle[0] + radius[0] * np.cos(angles), middle[1] + radius[1] * np.sin(angles)], axis=-1
    )


def _plane_of(item: Mapping[str, Any], planes: Mapping[tuple[str, str], Plane]) -> Plane:
    """The axes that a shape or annotation refers to; any axes if it refers to the paper."""
    names = [(item.get(f"{way}ref") or way).replace(" domain", "") for way in "xy"]
    x, y = (plane_axis(planes, name) if name != "paper" else None for name in names)
    first = next(iter(planes.values()))
    return Plane(x or first.x, y or first.y, first.area)


def plane_axis(planes: Mapping[tuple[str, str], Plane], name: str) -> Axis:
    """An axis of the figure by its name."""
    for plane in planes.values():
        for axis in (plane.x, plane.y):
            if axis.name == name:
                return axis
    raise Undrawable(f"a shape or note refers to the axis {name!r}, which the figure does not have")


def _at(
    item: Mapping[str, Any], way: str, value: Any, plane: Plane, exponent: bool = False
) -> float:
    """A coordinate of a shape or annotation in px.

    Args:
        exponent: whether coordinates on a log axis already are exponents, as in annotations.
    """
    reference = item.get(f"{way}ref") or way
    axis, to_px = (plane.x, plane.across) if way == "x" else (plane.y, plane.down)
    if reference == "paper":
        first, last = (
            (plane.area[0], plane.area[2]) if way == "x" else (plane.area[3], plane.area[1])
        )
        return first + float(value) * (last - first)
    if reference.endswith(" domain"):
        low, high = axis.limits
        return float(to_px(low + float(value) * (high - low)))
    if exponent and axis.kind == "log":
        return float(to_px(float(value)))
    return float(to_px(axis.place([value])[0]))


def _draw_annotations(sheet: Sheet, planes: Mapping[tuple[str, str], Plane], layout: Dict) -> None:
    defaults = layout.get("annotationdefaults") or {}
    for given in layout.get("annotations") or ():
        note = merged(defaults, given)
        if note.get("showarrow", True) is not False:
            raise Undrawable(f"the note {note.get('text')!r} has an arrow: set showarrow=False")
        plane = _plane_of(note, planes)
        x, y = (_at(note, way, note.get(way, 0.5), plane, exponent=True) for way in "xy")
        x, y = x + float(note.get("xshift") or 0), y - float(note.get("yshift") or 0)
        sheet.text(
            x, y, plain(note.get("text") or ""), font=note.get("font"),
            align=_anchors(note), angle=-float(note.get("textangle") or 0),
            lines=note.get("align") or "center", opacity=float(note.get("opacity", 1.0)),
        )  # fmt: skip


def _anchors(note: Mapping[str, Any]) -> tuple[str, str]:
    """The part of an annotation at its position; "auto" on paper depends on the third it is in."""
    found = []
    for way, names in (("x", ("left", "center", "right")), ("y", ("bottom", "middle", "top"))):
        anchor = note.get(f"{way}anchor") or "auto"
        if anchor == "auto":
            reference = note.get(f"{way}ref") or way
            on_paper = reference == "paper" or reference.endswith(" domain")
            value = float(note.get(way, 0.5)) if on_paper else 0.5
            anchor = names[0 if value < 1 / 3 else 2 if value > 2 / 3 else 1]
        found.append(anchor)
    return found[0], found[1]


def _draw_title(sheet: Sheet, layout: Dict, area: Box) -> None:
    title = layout.get("title") or {}
    title = {"text": title} if isinstance(title, str) else title
    text = plain(title.get("text") or "")
    if not text:
        return
    font = {"size": 17, **(title.get("font") or {})}
    on_paper = title.get("xref") == "paper"
    first, width = (area[0], area[2] - area[0]) if on_paper else (0.0, sheet.width)
    x = first + float(title.get("x", 0.05)) * width
    pad = title.get("pad") or {}
    lifted = 10 if "\n" in text else 0  # as plotly.js does
    top, x = float(pad.get("t") or 0) - lifted, x + float(pad.get("l") or 0)
    across = title.get("xanchor") or "left"
    if title.get("yanchor") == "top":
        sheet.text(x, top, text, font=font, align=(across, "top"))
    else:
        sheet.text(x, area[1] / 2, text, font=font, align=(across, "middle"))


# --- the legend ----------------------------------------------------------------------------------


def _draw_legend(sheet: Sheet, traces: Sequence[Dict], layout: Dict, area: Box) -> None:
    shown = entries(traces, layout)
    if not shown:
        return
    legend = layout.get("legend") or {}
    if legend.get("orientation") != "h" or legend.get("yref") != "container":
        raise Undrawable(
            "the static twin draws legends below the figure: leave their place as it is"
        )
    font = {**sheet.font, **(legend.get("font") or {})}
    names = [plain(t.get("name") or f"trace {traces.index(t)}") for t in shown]
    widest = legend.get("entrywidth") or max(sheet.text_width(n, font["size"]) for n in names)
    columns = max(int((area[2] - area[0]) // (ITEM + widest)), 1)
    rows = [names[i : i + columns] for i in range(0, len(names), columns)]
    heights = [max(ROW, 1.3 * font["size"] * max(map(_lines, row)) + 3) for row in rows]
    top = sheet.height - sum(heights) - 6
    for i, (trace, name) in enumerate(zip(shown, names, strict=True)):
        row, column = divmod(i, columns)
        y = top + sum(heights[:row]) + heights[row] / 2
        x = area[0] + column * (ITEM + widest)
        _draw_entry(sheet, trace, next(k for k, t in enumerate(traces) if t is trace), x, y)
        sheet.text(x + 40, y, name, font=font, align=("left", "middle"))


def _lines(text: str) -> int:
    return text.count("\n") + 1


def _draw_entry(sheet: Sheet, trace: Dict, number: int, x: float, y: float) -> None:
    """Draw the symbol beside a name in the legend: a piece of the line and a marker."""
    style = draw.scatter_style(trace, number)
    is_line = trace["type"] == "scatter" and "lines" in draw.mode_of(trace)
    if is_line:
        line = style["line"]
        sheet.line([x + 5, x + 35], [y, y], color=line["color"], width=line["width"],
                   dash=line.get("dash"), opacity=style["opacity"])  # fmt: skip
    if trace["type"] != "scatter" or "markers" in draw.mode_of(trace):
        marker = {key: _one(value) for key, value in style["marker"].items()}
        marker["size"] = min(marker["size"], 16)  # as plotly.js does
        place = np.array([x + 20.0]), np.array([y])
        draw.draw_markers(sheet, *place, marker, style["opacity"], None)


def _one(value: Any) -> Any:
    return value if isinstance(value, str | dict) or np.ndim(value) == 0 else value[0]
