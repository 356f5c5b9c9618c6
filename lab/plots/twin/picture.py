"""From a plotly figure to the bytes of its picture."""

from collections.abc import Mapping
from typing import Any

from lab.plots.theme import WIDTH
from lab.plots.twin.compose import compose
from lab.plots.twin.read import read
from lab.plots.twin.sheet import Sheet


def png(figure: Any) -> bytes:
    """A figure as a PNG of at most 60 KB, with one dot per px and a transparent background.

    Args:
        figure: a plotly figure or the dictionary of one.

    Returns:
        The content of the file; equal figures give equal bytes.

    Raises:
        Undrawable: the figure has something that the static form cannot show.
    """
    content = figure.to_plotly_json() if hasattr(figure, "to_plotly_json") else figure
    traces, layout = read(content)
    sheet = Sheet(layout.get("width") or WIDTH, layout.get("height") or 450, layout)
    compose(sheet, traces, layout)
    return sheet.png()


def size(figure: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height at which the picture should be displayed, in px."""
    _, layout = read(figure)
    return int(layout.get("width") or WIDTH), int(layout.get("height") or 450)
