"""Margins around a plot, for its title, legend, category names and the labels at its right.

    fit(figure)

Nothing is cut off and nothing overlaps, neither in the interactive figure nor in the static one:
both take the margins from the figure. Margins and other settings made by hand are kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lab.plots.theme import FONT_SIZE, SMALL, TITLE, WIDTH, lines_in, widest, wrapped

ITEM = 45  # px: width of a legend entry without its text
ROW = 19  # px: height of a legend entry of one line
MODE_BAR = 140  # px: width of plotly's buttons at the top right
HEIGHT = 380  # px: height of a figure with one line of title and no legend
_LINE = 1.3  # height of a line of text, as a multiple of the font size


def fit(figure: go.Figure) -> go.Figure:
    """Wrap the title and the names, set the margins, and return the same figure.

    It can be called again after a change: it then replaces what an earlier call has set.
    """
    return figure.update_layout(fitted(_outlines(figure), figure.layout.to_plotly_json()))


def fitted(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> dict[str, Any]:
    """What `fit` changes in a layout: title, margins, height, legend.

    Args:
        traces, layout: as in plotly's JSON.
    """
    earlier = _meta(layout).get("fitted", {})
    given = {side: size for side, size in (layout.get("margin") or {}).items()
             if earlier.get(side) != size}  # fmt: skip
    title = wrapped(_title(layout), WIDTH - 20 - MODE_BAR, TITLE)
    left, right = given.get("l", _left(traces, layout)), given.get("r", _right(traces, layout))
    top = given.get("t", _top(title, layout))
    names, rows, entry = _legend(traces, layout, WIDTH - left - right)
    turned = _turned(traces, layout, WIDTH - left - right)
    bottom = given.get("b", _bottom(layout) + rows + max(turned.values(), default=0))
    margin = {"l": left, "r": right, "t": top, "b": bottom}
    base, height = _height(layout, earlier, rows + top - 40)
    # Remember only our own settings, which a later call may replace; those made by hand stay.
    ours = {side: size for side, size in margin.items() if side not in given}
    kept = {"base": base, "height": height} if base is not None else {}
    return {
        "margin": margin, "height": height, "legend": {"entrywidth": entry} if names else {},
        "title": {"text": title, "pad": _title_pad(title)},
        "meta": {**_meta(layout), "fitted": {**ours, **kept}},
        **{f"xaxis{name[1:]}": {"tickangle": 90} for name in turned},
    }  # fmt: skip


def _height(
    layout: Mapping[str, Any], earlier: Mapping[str, Any], more: float
) -> tuple[float | None, float]:
    """Height without the legend (None if the height is fixed), and height of the whole figure."""
    height = layout.get("height")
    if height is not None and height != earlier.get("height"):
        return None, height
    base = earlier.get("base", HEIGHT)
    return base, base + more


def _outlines(figure: go.Figure) -> list[dict[str, Any]]:
    """The properties of a figure's traces that affect the margins, without their data."""
    keys = ("type", "name", "showlegend", "visible", "coloraxis", "showscale", "xaxis", "yaxis",
            "x", "y")  # fmt: skip
    found = [{key: trace[key] for key in keys if key in trace} for trace in figure.data]
    return [{key: value for key, value in each.items() if value is not None} for each in found]


def plan(height: float) -> dict[str, Any]:
    """A layout in which a figure has this height without its legend and with one line of title."""
    return {"height": height, "meta": {"fitted": {"base": height, "height": height}}}


def planned(figure: go.Figure, height: float) -> go.Figure:
    """Put the layout of `plan` into a figure."""
    layout = plan(height)
    return figure.update_layout({**layout, "meta": {**_meta(figure.layout), **layout["meta"]}})


def inner_height(figure: go.Figure) -> float:
    """Height of the plotting area after `fit`, in px."""
    layout = fit(figure).layout
    return float(layout.height - layout.margin.t - layout.margin.b)


def entries(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> list[Any]:
    """The traces that plotly lists in the legend; empty if there is no legend."""
    shown = [t for t in traces if t.get("type", "scatter") in ("scatter", "bar", "box")
             and t.get("showlegend") is not False and t.get("visible", True) is True]  # fmt: skip
    wanted = layout.get("showlegend")
    if wanted is False or not shown:
        return []
    alone = len(shown) < 2 and shown[0].get("showlegend") is not True
    return [] if wanted is None and alone else shown


def _meta(layout: Any) -> dict[str, Any]:
    meta = layout.meta if isinstance(layout, go.Layout) else layout.get("meta")
    return dict(meta) if isinstance(meta, Mapping) else {}


def _title(layout: Mapping[str, Any]) -> str:
    title = layout.get("title") or {}
    text = title if isinstance(title, str) else title.get("text") or ""
    return str(text).replace("<br>", " ")


def _title_pad(title: str) -> dict[str, float]:
    """Padding of the title: plotly moves titles of several lines up by 10 px, out of the figure."""
    return {"t": 10 if lines_in(title) == 1 else 20, "l": 14}


def _top(title: str, layout: Mapping[str, Any]) -> float:
    """Px above the plot, for the title or the mode bar, and for annotations above the plot."""
    notes = [note for note in layout.get("annotations") or () if _stands_on_top(note)]
    lifted = max((float(n.get("yshift") or 0) + SMALL * _LINE * lines_in(str(n.get("text")))
                  for n in notes), default=0.0)  # fmt: skip
    words = 10 + TITLE * _LINE * lines_in(title) if title else 0
    return round(max(words + 8, 36) + (lifted + 4 if notes else 0))


def _stands_on_top(note: Mapping[str, Any]) -> bool:
    reference = note.get("yref") or "y"
    at_top = (reference == "paper" or reference.endswith("domain")) and note.get("y") == 1
    # Among small multiples, only those of the first row are at the top.
    return bool(at_top and note.get("yanchor") == "bottom" and reference in (
        "paper", "y domain", "y2 domain", "y3 domain", "y4 domain"))  # fmt: skip


def _left(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> float:
    """Px left of the plot, for tick labels and titles of the leftmost y axes."""
    needed = 60.0
    for name, axis in _axes(layout, traces, "y"):
        if (axis.get("domain") is None or _starts_left(layout, name)) and axis.get(
            "showticklabels"
        ) is not False:
            words = _tick_words(axis, traces, name, "y")
            needed = max(needed, 14 + widest(words, _size(axis)) + 26 * bool(_axis_title(axis)))
    return round(needed)


def _right(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> float:
    """Px right of the plot, for labels and colour bars."""
    notes = [n for n in layout.get("annotations") or () if _stands_right(n)]
    needed = [20.0]
    needed += [
        12 + float(n.get("xshift") or 0) + widest([str(n.get("text"))], SMALL) for n in notes
    ]
    if any(_has_colour_bar(trace, layout) for trace in traces):
        needed.append(90.0)
    return round(max(needed))


def _stands_right(note: Mapping[str, Any]) -> bool:
    reference = note.get("xref") or "x"
    return (reference == "paper" or reference.endswith("domain")) and note.get("x") == 1 and (
        note.get("xanchor") == "left")  # fmt: skip


def _has_colour_bar(trace: Mapping[str, Any], layout: Mapping[str, Any]) -> bool:
    if trace.get("type") != "heatmap":
        return False
    shared = trace.get("coloraxis")
    settings = (layout.get(shared) or {}) if shared else trace
    return settings.get("showscale") is not False


def _bottom(layout: Mapping[str, Any]) -> float:
    """Px below the plot, for tick labels and titles of the x axes."""
    words = [str(text) for key, axis in layout.items() if key.startswith("xaxis")
             for text in axis.get("ticktext") or ()]  # fmt: skip
    lines = max((lines_in(word) for word in words), default=1)
    names = [_axis_title(axis) for key, axis in layout.items() if key.startswith("xaxis")]
    lines += max(map(lines_in, names), default=1) - 1
    return round(57 + FONT_SIZE * _LINE * (lines - 1))


def _turned(
    traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], room: float
) -> dict[str, float]:
    """The x axes whose tick labels would overlap, and the height in px of the rotated labels."""
    found: dict[str, float] = {}
    for name, axis in _axes(layout, traces, "x"):
        words = list(dict.fromkeys(_tick_words(axis, traces, name, "x")))
        first, last = axis.get("domain") or (0, 1)
        wide = widest(words, _size(axis))
        shown = axis.get("showticklabels") is not False and axis.get("visible") is not False
        if shown and len(words) > 1 and wide + 4 > room * (last - first) / len(words):
            found[name] = round(wide - FONT_SIZE * _LINE)
    return found


def _legend(
    traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], room: float
) -> tuple[list[str], float, float]:
    """Wrapped names, height of the legend in px, and width of an entry's text in px."""
    shown = entries(traces, layout)
    names = [str(trace.get("name") or "trace 0") for trace in shown]
    if not names:
        return [], 0, 0
    entry = min(widest(names), room - ITEM)
    columns = max(int(room // (ITEM + entry)), 1)
    rows = [names[i : i + columns] for i in range(0, len(names), columns)]
    heights = [max(ROW, SMALL * _LINE * max(map(lines_in, row)) + 3) for row in rows]
    return names, round(sum(heights) + 10), round(entry)


def _axes(
    layout: Mapping[str, Any], traces: Sequence[Mapping[str, Any]], way: str
) -> list[tuple[str, Mapping[str, Any]]]:
    names = {trace.get(f"{way}axis") or way for trace in traces}
    return [(name, layout.get(f"{way}axis{name[1:]}") or {}) for name in sorted(names)]


def _starts_left(layout: Mapping[str, Any], name: str) -> bool:
    """Whether a y axis is at the left end of the figure."""
    axis = layout.get(f"yaxis{name[1:]}") or {}
    anchor = axis.get("anchor") or f"x{name[1:]}"
    domain = (layout.get(f"xaxis{anchor[1:]}") or {}).get("domain") or (0, 1)
    return bool(domain[0] < 0.01)


def _tick_words(
    axis: Mapping[str, Any], traces: Sequence[Mapping[str, Any]], name: str, way: str
) -> list[str]:
    """Tick labels of an axis if they are words, otherwise a number of four digits."""
    if axis.get("ticktext") is not None:
        return [str(text) for text in axis["ticktext"]]
    columns = [t.get(way) for t in traces if (t.get(f"{way}axis") or way) == name]
    arrays = [
        np.asarray(each) for each in columns if each is not None and not isinstance(each, dict)
    ]
    words = [str(word) for array in arrays if array.dtype.kind in "UO"
             for word in array.ravel().tolist() if isinstance(word, str)]  # fmt: skip
    return words or ["0.000"]


def _axis_title(axis: Mapping[str, Any]) -> str:
    title = axis.get("title") or {}
    return title if isinstance(title, str) else title.get("text") or ""


def _size(axis: Mapping[str, Any]) -> float:
    return float((axis.get("tickfont") or {}).get("size") or FONT_SIZE)
