"""Axes as plotly lays them out: their ranges, and the places and texts of their ticks."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lab.plots.twin.read import Undrawable, axis_of, values_of
from lab.plots.twin.text import plain, power_of_ten

MINUS = "\N{MINUS SIGN}"  # as plotly writes it


@dataclass
class Extent:
    """The range that one trace needs on one axis: values in drawn units, and room around them.

    Attributes:
        low, high: the smallest and the largest value.
        share: room on each side, as a fraction of the axis.
        pixels: additional room on each side, in px.
        grounded: whether an end at zero needs no room.
    """

    low: float
    high: float
    share: float = 0.05
    pixels: float = 0.0
    grounded: bool = False


@dataclass
class Axis:
    """One axis of a figure.

    Attributes:
        name: plotly's name, such as "x" or "y2".
        settings: the figure's settings of this axis, merged over those of the template.
        kind: "linear", "log" or "category". Drawn units are exponents of ten on a log axis, and
            the numbers 0, 1, ... for categories.
        domain: where it begins and ends, as fractions of the plotting area.
        length: in px.
        limits: the drawn units at its beginning and at its end.
    """

    name: str
    settings: dict[str, Any]
    kind: str
    domain: tuple[float, float]
    length: float
    categories: list[str] = field(default_factory=list)
    limits: tuple[float, float] = (0.0, 1.0)

    def place(self, values: Any) -> np.ndarray:
        """Values of the data in drawn units; NaN for values that a log axis cannot show."""
        values = values_of(values)
        if self.kind == "category":
            return np.array([self._category(value) for value in values])
        if values.dtype == object:
            raise Undrawable(f"words such as {values[0]!r} have no place on the {self.kind} axis")
        if self.kind == "log":
            return np.log10(np.where(values > 0, values, np.nan))
        return values

    def fraction(self, places: Any) -> Any:
        """Drawn units as fractions of this axis."""
        low, high = self.limits
        return (np.asarray(places, dtype=float) - low) / (high - low)

    def ticks(self) -> list[tuple[float, str | None]]:
        """Positions of the ticks in drawn units, and their texts (None for a grid line alone)."""
        if "tickvals" in self.settings and self.settings["tickvals"] is not None:
            return self._given_ticks()
        if self.kind == "category":
            step = max(math.ceil(abs(self.limits[1] - self.limits[0]) / (self.length / 15)), 1)
            return [(at, plain(name)) for at, name in enumerate(self.categories) if at % step == 0]
        low, high = sorted(self.limits)
        found = _log_ticks(low, high, self._rough()) if self.kind == "log" else self._linear_ticks()
        slack = 1e-9 * (high - low)
        return [(place, text) for place, text in found if low - slack <= place <= high + slack]

    def _category(self, value: Any) -> float:
        # A number on a category axis is a position, as in shapes.
        word = value if isinstance(value, str) else f"{value:g}"
        return float(self.categories.index(word)) if word in self.categories else float(value)

    def _given_ticks(self) -> list[tuple[float, str | None]]:
        places = self.place(self.settings["tickvals"])
        texts = self.settings.get("ticktext")
        if texts is None:
            return [(place, self._number(place)) for place in places]
        return [(place, plain(text)) for place, text in zip(places, texts, strict=False)]

    def _linear_ticks(self) -> list[tuple[float, str | None]]:
        low, high = sorted(self.limits)
        step = round_up(self._rough())
        places = step * np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        return [(place, self._number(place)) for place in places.tolist()]

    def _number(self, place: float) -> str:
        if self.kind == "log":
            place = 10**place
        return number(place, self.settings.get("tickformat") or "")

    def _rough(self) -> float:
        """Approximate distance between ticks, in drawn units."""
        low, high = sorted(self.limits)
        wanted = self.settings.get("nticks")
        count = wanted or min(max(self.length / (40 if self.name[0] == "y" else 80), 4), 9) + 1
        return max((high - low) / count, 1e-300)


def axes_of(
    layout: Mapping[str, Any], traces: Sequence[Mapping[str, Any]], size: tuple[float, float]
) -> dict[str, Axis]:
    """Every axis that a trace or a shape uses, without its limits.

    Args:
        layout, traces: from `read`.
        size: size of the plotting area, in px.
    """
    used = {trace.get(f"{way}axis") or way for trace in traces for way in "xy"}
    given = {key.replace("axis", "") for key in layout
             if key.rstrip("0123456789") in ("xaxis", "yaxis")}  # fmt: skip
    axes = {}
    for name in sorted(used | given | {"x", "y"}):
        settings = axis_of(layout, name)
        columns = [t.get(name[0]) for t in traces if (t.get(f"{name[0]}axis") or name[0]) == name]
        domain = tuple(settings.get("domain") or (0.0, 1.0))
        length = (domain[1] - domain[0]) * size[name[0] == "y"]
        kind = _kind(settings, columns)
        words = (
            [word for column in columns for word in _words(column)] if kind == "category" else []
        )
        categories = list(dict.fromkeys(words))
        axes[name] = Axis(name, settings, kind, domain, length, categories)
    return axes


def set_limits(axes: Mapping[str, Axis], extents: Mapping[str, list[Extent]]) -> None:
    """Set the limits of every axis, from its own range or from all extents, then apply links."""
    for group in _linked(axes):
        whole = [extent for axis in group for extent in extents.get(axis.name, [])]
        given = next((axis for axis in group if axis.settings.get("range") is not None), None)
        for axis in group:
            axis.limits = _range(given) if given else _automatic(axis, whole)
            if axis.settings.get("autorange") == "reversed":
                axis.limits = axis.limits[::-1]
    for axis in axes.values():
        anchor = axes.get(axis.settings.get("scaleanchor") or "")
        if anchor:
            _equal_scales(axis, anchor)


def round_up(rough: float) -> float:
    """The next larger number that is 1, 2, 5 or 10 times a power of ten."""
    base = 10.0 ** math.floor(math.log10(rough))
    return next(
        (base * step for step in (2, 5, 10) if rough <= base * step * (1 + 1e-9)), 10 * base
    )


def number(value: float, style: str) -> str:
    """A number as d3 formats it, in the formats used here: none, "~g", ",~g", ".0%", ".2f".

    Raises:
        Undrawable: the format is another one.
    """
    value = 0.0 if abs(value) < 1e-12 else value
    if style in ("", "~g", "g"):
        text = f"{value:g}"
    elif style == ",~g":
        whole = value == int(value) and abs(value) < 1e6
        text = f"{int(value):,}" if whole else f"{value:g}"
    elif style.startswith((".", ",.")) and style[-1] in "f%e":
        text = format(value, style)
    else:
        raise Undrawable(
            f"the static twin does not know the tick format {style!r}: use ',~g' or '.2f'"
        )
    return text.replace("-", MINUS)


def _log_ticks(low: float, high: float, rough: float) -> list[tuple[float, str | None]]:
    """Ticks at powers of ten; on short ranges also between them, and round ones within a decade."""
    if rough > 0.7:
        decades = math.ceil(rough)
        first = math.ceil(low / decades - 1e-9) * decades
        powers = range(first, math.floor(high + 1e-9) + 1, decades)
        return [(float(power), power_of_ten(power)) for power in powers]
    if high - low < 1:
        bottom, top = 10**low, 10**high
        step = round_up((top - bottom) / (1.5 * (high - low) / rough))
        wholes = range(math.ceil(bottom / step - 1e-9), math.floor(top / step + 1e-9) + 1)
        return [(math.log10(step * k), number(step * k, "")) for k in wholes if k > 0]
    digits = (1, 2, 5) if rough > 0.3 else range(1, 10)
    powers = range(math.floor(low), math.ceil(high) + 1)
    return [(power + math.log10(digit), power_of_ten(power) if digit == 1 else None)
            for power in powers for digit in digits]  # fmt: skip


def _kind(settings: Mapping[str, Any], columns: Iterable[Any]) -> str:
    kind = settings.get("type")
    if kind in (None, "-"):
        words = any(values_of(column).dtype == object for column in columns if column is not None)
        return "category" if words else "linear"
    if kind not in ("linear", "log", "category"):
        raise Undrawable(f"an axis of type {kind!r} has no static twin: linear, log, category do")
    return str(kind)


def _words(column: Any) -> list[str]:
    values = values_of(column if column is not None else [])
    return [value if isinstance(value, str) else f"{value:g}" for value in values]


def _range(axis: Axis) -> tuple[float, float]:
    low, high = (float(end) for end in axis.settings["range"])
    return low, high


def _automatic(axis: Axis, extents: list[Extent]) -> tuple[float, float]:
    """Limits by plotly's rule: the pair of ends that needs the most units per px decides."""
    extents = [e for e in extents if math.isfinite(e.low) and math.isfinite(e.high)]
    if not extents:
        return (-1.0, 6.0) if axis.kind == "linear" else (0.0, 1.0)
    lows = {(e.low, _room(e, e.low, axis)) for e in extents}
    highs = {(e.high, _room(e, e.high, axis)) for e in extents}
    pairs = [((high - low) / max(1 - before - after, 0.1), low, before, high, after)
             for low, before in lows for high, after in highs]  # fmt: skip
    unit, low, before, high, after = max(pairs)
    if unit <= 0:
        return low - 1, high + 1
    return low - before * unit, high + after * unit


def _room(extent: Extent, end: float, axis: Axis) -> float:
    """The room at one end, as a fraction of the axis."""
    if extent.grounded and end == 0:
        return 0.0
    return extent.share + extent.pixels / max(axis.length, 1.0)


def _linked(axes: Mapping[str, Axis]) -> list[list[Axis]]:
    """Groups of axes that share one range, by their setting `matches`."""
    groups: dict[str, list[Axis]] = {}
    for axis in axes.values():
        root, seen = axis, {axis.name}
        while (target := str(root.settings.get("matches"))) in axes and target not in seen:
            root = axes[target]
            seen.add(target)
        groups.setdefault(root.name, []).append(axis)
    return list(groups.values())


def _equal_scales(axis: Axis, anchor: Axis) -> None:
    """Widen the range of the axis with more px per unit until both axes have the same scale."""
    scales = [one.length / abs(one.limits[1] - one.limits[0]) for one in (axis, anchor)]
    wide = axis if scales[0] > scales[1] else anchor
    middle, factor = sum(wide.limits) / 2, max(scales) / min(scales)
    low, high = (middle + factor * (end - middle) for end in wide.limits)
    wide.limits = (low, high)
