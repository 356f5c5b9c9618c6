"""Room for what stands around a plot: title, legend, names of categories, labels at its right.

    fit(figure)

Nothing is cut and nothing overlaps, in the interactive form and in the static one: both take the
margins from the figure. Whatever somebody has set by hand stays.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lab.plots.theme import FONT_SIZE, SMALL, TITLE, WIDTH, lines_in, widest, wrapped

ITEM = 45  # px of a legend's entry beside its text
ROW = 19  # px: the height of an entry of one line
MODE_BAR = 140  # px, at the top right
HEIGHT = 380  # px, of a figure with one line of title and no legend
_LINE = 1.3  # heights of a line, in sizes of the font


def fit(figure: go.Figure) -> go.Figure:
    """Wrap the title and the names, and set the margins; returns the same figure.

    It can be called again after a change: what an earlier call has set is set anew.
    """
    return figure.update_layout(fitted(_outlines(figure), figure.layout.to_plotly_json()))


def fitted(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> dict[str, Any]:
    """What `fit` changes in a layout: title, margins, height, legend.

    Args:
        traces, layout: as plotly writes them to JSON.
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
    # What is ours can be set anew by a later call; what was set by hand is not kept in mind.
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
    """The height without legend, None of a figure whose height is fixed, and that of the figure."""
    height = layout.get("height")
    if height is not None and height != earlier.get("height"):
        return None, height
    base = earlier.get("base", HEIGHT)
    return base, base + more


def _outlines(figure: go.Figure) -> list[dict[str, Any]]:
    """What matters of the traces of a figure: not their numbers."""
    keys = ("type", "name", "showlegend", "visible", "coloraxis", "showscale", "xaxis", "yaxis",
            "x", "y")  # fmt: skip
    found = [{key: trace[key] for key in keys if key in trace} for trace in figure.data]
    return [{key: value for key, value in each.items() if value is not None} for each in found]


def planned(figure: go.Figure, height: float) -> go.Figure:
    """Say how high a figure is without its legend and with one line of title."""
    meta = {**_meta(figure.layout), "fitted": {"base": height, "height": height}}
    return figure.update_layout(height=height, meta=meta)


def inner_height(figure: go.Figure) -> float:
    """Of the plotting area, in px, once fitted."""
    layout = fit(figure).layout
    return float(layout.height - layout.margin.t - layout.margin.b)


def entries(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> list[Any]:
    """The traces that the legend names, as plotly chooses them; none where there is no legend."""
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
    """Plotly lifts titles of several lines by 10 px, out of the figure."""
    return {"t": 10 if lines_in(title) == 1 else 20, "l": 14}


def _top(title: str, layout: Mapping[str, Any]) -> float:
    """Px above the plot: the title or the mode bar, then notes that stand on top of it."""
    notes = [note for note in layout.get("annotations") or () if _stands_on_top(note)]
    lifted = max((float(n.get("yshift") or 0) + SMALL * _LINE * lines_in(str(n.get("text")))
                  for n in notes), default=0.0)  # fmt: skip
    words = 10 + TITLE * _LINE * lines_in(title) if title else 0
    return round(max(words + 8, 36) + (lifted + 4 if notes else 0))


def _stands_on_top(note: Mapping[str, Any]) -> bool:
    reference = note.get("yref") or "y"
    at_top = (reference == "paper" or reference.endswith("domain")) and note.get("y") == 1
    # Of small multiples, only the first row is at the top.
    return bool(at_top and note.get("yanchor") == "bottom" and reference in (
        "paper", "y domain", "y2 domain", "y3 domain", "y4 domain"))  # fmt: skip


def _left(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> float:
    """Px for the texts of the ticks of the leftmost y axes and for their names."""
    needed = 60.0
    for name, axis in _axes(layout, traces, "y"):
        if (axis.get("domain") is None or _starts_left(layout, name)) and axis.get(
            "showticklabels"
        ) is not False:
            words = _tick_words(axis, traces, name, "y")
            needed = max(needed, 14 + widest(words, _size(axis)) + 26 * bool(_axis_title(axis)))
    return round(needed)


def _right(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> float:
    """Px for labels that stand right of the plot, and for colour bars."""
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
    """Px for the texts of the ticks of x axes and for their names."""
    words = [str(text) for key, axis in layout.items() if key.startswith("xaxis")
             for text in axis.get("ticktext") or ()]  # fmt: skip
    lines = max((lines_in(word) for word in words), default=1)
    names = [_axis_title(axis) for key, axis in layout.items() if key.startswith("xaxis")]
    lines += max(map(lines_in, names), default=1) - 1
    return round(57 + FONT_SIZE * _LINE * (lines - 1))


def _turned(
    traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], room: float
) -> dict[str, float]:
    """The x axes on which words would touch one another, and the px that they take when turned."""
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
    """Names, the px that the legend is high, and the px that an entry's text is wide."""
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
    """Whether a y axis stands at the left end of the figure."""
    axis = layout.get(f"yaxis{name[1:]}") or {}
    anchor = axis.get("anchor") or f"x{name[1:]}"
    domain = (layout.get(f"xaxis{anchor[1:]}") or {}).get("domain") or (0, 1)
    return bool(domain[0] < 0.01)


def _tick_words(
    axis: Mapping[str, Any], traces: Sequence[Mapping[str, Any]], name: str, way: str
) -> list[str]:
    """Texts of the ticks of an axis where they are words, else a number of four digits."""
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
