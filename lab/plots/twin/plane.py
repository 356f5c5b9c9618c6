"""One pair of axes on a sheet."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.plots.twin.axis import Axis

Box = tuple[float, float, float, float]  # left, top, right, bottom, in px


@dataclass(frozen=True)
class Plane:
    """An x axis, a y axis, and the plotting area of the figure that contains them."""

    x: Axis
    y: Axis
    area: Box

    @property
    def box(self) -> Box:
        """The rectangle between the axes, in px."""
        left, top, right, bottom = self.area
        (x0, x1), (y0, y1) = self.x.domain, self.y.domain
        return (left + x0 * (right - left), bottom - y1 * (bottom - top),
                left + x1 * (right - left), bottom - y0 * (bottom - top))  # fmt: skip

    def across(self, places: Any) -> Any:
        """Drawn units of the x axis in px."""
        left, _, right, _ = self.box
        return left + self.x.fraction(places) * (right - left)

    def down(self, places: Any) -> Any:
        """Drawn units of the y axis in px."""
        _, top, _, bottom = self.box
        return bottom - self.y.fraction(places) * (bottom - top)

    def points(self, trace: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The points of a trace in px; a coordinate that is not given counts from 0."""
        x, y = coordinates(trace)
        return self.across(self.x.place(x)), self.down(self.y.place(y))


def coordinates(trace: Mapping[str, Any]) -> tuple[Any, Any]:
    """x and y of a trace, cut to the same length; one that is not given counts from 0."""
    x, y = trace.get("x"), trace.get("y")
    x = np.arange(len(y)) if x is None and y is not None else x
    y = np.arange(len(x)) if y is None and x is not None else y
    if x is None or y is None:
        return [], []
    count = min(len(x), len(y))
    return x[:count], y[:count]
