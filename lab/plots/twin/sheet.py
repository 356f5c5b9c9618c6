"""A sheet, in px from its top left corner, on which matplotlib draws a figure."""

import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from lab.plots.theme import FONT_SIZE
from lab.plots.twin.read import Undrawable

LARGEST = 60_000  # the most bytes of a picture
# Dots of the picture per px. JupyterLab shows the picture, dot for dot, until the pointer comes
# near. With more dots, it would be wider than the interactive figure, and cut off on a narrow page.
SCALE = 1.0
# Dots per px, number of colours and number of opacity levels, best first. Text is legible in all of
# them; the last ones are for noise that fills the whole figure.
_QUALITIES = (
    (SCALE, 128, 256), (SCALE, 128, 8), (SCALE, 48, 4), (SCALE, 24, 4), (0.8, 24, 4), (0.6, 16, 4),
)  # fmt: skip

_SHARES = {"left": 0.0, "center": 0.5, "right": 1.0, "auto": 0.5}

# Lengths of strokes and gaps in units of the line width, which counts as at least 3 px (plotly.js).
_STROKES = {
    "dot": (1, 1), "dash": (3, 3), "longdash": (5, 5), "dashdot": (3, 1, 1, 1),
    "longdashdot": (5, 1, 1, 1),
}  # fmt: skip


class Sheet:
    """Draws lines, points, patches and text at places in px.

    Args:
        width, height: in px.
        layout: the layout of the figure, for its font and background.
    """

    def __init__(self, width: float, height: float, layout: Mapping[str, Any]) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.transforms import Affine2D

        # pyplot and other global settings are avoided, so that two threads can draw at once.
        self.figure = Figure(figsize=(width / 100, height / 100), dpi=100 * SCALE)
        self.canvas = FigureCanvasAgg(self.figure)
        self.width, self.height = float(width), float(height)
        self.transform = Affine2D().scale(SCALE, -SCALE).translate(0, SCALE * height)
        self.figure.patch.set_facecolor(colour(layout.get("paper_bgcolor") or "#ffffff"))
        self.font = {"size": FONT_SIZE, "color": "#444444", **(layout.get("font") or {})}
        self._order = 0
        self._words: list[tuple[Any, Any]] = []  # outlines of texts with their colours

    def line(
        self, x: Any, y: Any, *, color: Any, width: float = 1, dash: str | None = None,
        opacity: float = 1.0, clip: Any = None,
    ) -> None:  # fmt: skip
        """Draw a line through points in px."""
        from matplotlib.lines import Line2D

        line = Line2D(
            x, y, color=colour(color), linewidth=_points(width), alpha=_alpha(color, opacity),
            linestyle=strokes(dash, width), solid_joinstyle="round", dash_capstyle="butt",
        )  # fmt: skip
        self.add(line, clip)

    def polygons(self, corners: Any, fill: Any, clip: Any = None, edge: Any = "none",
                 width: float = 0, opacity: float = 1.0) -> None:  # fmt: skip
        """Draw filled shapes, ["shapes corners 2"] in px, in one colour or in one colour each."""
        from matplotlib.collections import PolyCollection

        fills = fill if isinstance(fill, np.ndarray) else colour(fill, opacity)
        shapes = PolyCollection(
            corners, facecolors=fills, edgecolors=colour(edge, opacity), linewidths=_points(width),
            antialiaseds=width > 0,
        )  # fmt: skip
        self.add(shapes, clip)

    def text(
        self, x: float, y: float, text: str, *, font: Mapping[str, Any] | None = None,
        align: tuple[str, str] = ("center", "middle"), angle: float = 0, lines: str = "auto",
        opacity: float = 1.0,
    ) -> None:  # fmt: skip
        """Draw text at a point in px.

        Args:
            x, y: position of the part of the text that `align` names.
            text: plain text; it may have several lines.
            font: size in px and colour, if they differ from those of the figure.
            align: left, center or right, and top, middle or bottom.
            angle: in degrees, counter-clockwise.
            lines: alignment of lines of different lengths: left, center or right; "auto" takes it
                from `align`.
            opacity: 0 to 1.
        """
        from matplotlib.transforms import Affine2D

        font = {**self.font, **(font or {})}
        size, rows = float(font["size"]), text.split("\n")
        letters = [_letters(row, size) for row in rows]
        width = max(wide for _, wide in letters)
        baselines = _baselines(len(rows), size, align[1])
        side = align[0] if lines == "auto" else lines
        begin = -_SHARES[align[0]] * width
        turned = Affine2D().rotate_deg(-angle).translate(x, y)
        for (shape, wide), down in zip(letters, baselines, strict=True):
            right = begin + _SHARES[side] * (width - wide)
            placed = turned.transform_path(Affine2D().translate(right, down).transform_path(shape))
            self._words.append((placed, colour(font["color"], opacity)))

    def text_width(self, text: str, size: float) -> float:
        """Width of the widest line of a text, in px."""
        return max(_letters(row, float(size))[1] for row in text.split("\n"))

    def _write(self) -> None:
        """Add all texts since the last artist, as one artist."""
        from matplotlib.collections import PathCollection

        if self._words:
            shapes, colours = zip(*self._words, strict=True)
            self._words = []
            self.add(PathCollection(shapes, facecolors=colours, linewidths=0))

    def add(self, artist: Any, clip: Any = None) -> None:
        """Add an artist, whose coordinates are in px, above all others.

        Args:
            artist: an artist of matplotlib.
            clip: (left, top, right, bottom) in px; nothing is visible outside.
        """
        from matplotlib.transforms import Bbox, TransformedBbox

        self._write()
        artist.set_transform(self.transform)
        self.figure.add_artist(artist)
        if clip is not None:
            left, top, right, bottom = clip
            artist.set_clip_box(
                TransformedBbox(Bbox([[left, bottom], [right, top]]), self.transform)
            )
        self._order += 1
        artist.set_zorder(self._order)

    def png(self) -> bytes:
        """The drawing as a PNG, with as many dots and colours as the limit of its size allows."""
        from PIL import Image

        self._write()
        self.canvas.draw()
        picture = Image.fromarray(np.asarray(self.canvas.buffer_rgba()))
        for scale, colours, degrees in _QUALITIES:
            dots = round(scale * self.width), round(scale * self.height)
            if scale < SCALE and picture.size != dots:
                picture = picture.resize(dots, Image.Resampling.LANCZOS)
            content = _encoded(_coarser(picture, degrees), colours)
            if len(content) <= LARGEST:
                return content
        raise Undrawable(
            f"a figure of {self.width:.0f} x {self.height:.0f} px makes a picture of "
            f"{len(content)} bytes, more than {LARGEST}: make it smaller, or draw fewer curves"
        )


def colour(value: Any, opacity: float = 1.0) -> Any:
    """A colour of plotly or CSS as matplotlib's (red, green, blue, alpha), each in [0, 1]."""
    from matplotlib.colors import to_rgba

    if isinstance(value, tuple):
        return (*value[:3], value[3] * opacity)
    text = str(value).strip()
    if text.startswith("rgb"):
        parts = [float(part) for part in text[text.index("(") + 1 : -1].split(",")]
        alpha = parts[3] if len(parts) == 4 else 1.0
        return (*(part / 255 for part in parts[:3]), alpha * opacity)
    red, green, blue, alpha = to_rgba("none" if text == "transparent" else text)
    return red, green, blue, alpha * opacity


def strokes(dash: str | None, width: float) -> Any:
    """A dash of plotly as matplotlib's, which is in units of the line width."""
    if dash in (None, "solid"):
        return "solid"
    if dash not in _STROKES:
        raise Undrawable(f"the static twin does not know the dash {dash!r}: {', '.join(_STROKES)}")
    unit = max(width, 3) / max(width, 1e-6)
    return 0, tuple(unit * part for part in _STROKES[dash])


def _alpha(color: Any, opacity: float) -> float:
    return float(colour(color, opacity)[3])


def _points(pixels: float) -> float:
    return 0.72 * float(pixels)


def _coarser(image: Any, degrees: int) -> Any:
    """The image with fewer levels of opacity: the edges of lines take most of the bytes."""
    from PIL import Image

    if degrees == 256:
        return image
    dots = np.array(image)
    dots[..., 3] = np.round(dots[..., 3] / 255 * (degrees - 1)) * (255 / (degrees - 1))
    dots[dots[..., 3] == 0] = 0
    return Image.fromarray(dots)


def _encoded(image: Any, colours: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    image.quantize(colours, method=Image.Quantize.FASTOCTREE).save(out, "PNG", compress_level=6)
    return out.getvalue()


@lru_cache(maxsize=4096)
def _letters(line: str, size: float) -> tuple[Any, float]:
    """Outline of a line of text, relative to its baseline and with y down, and its width, in px."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import text_to_path
    from matplotlib.transforms import Affine2D

    font = FontProperties(family="DejaVu Sans", size=size)
    corners, codes = text_to_path.get_text_path(font, line)
    scale = size / text_to_path.FONT_SCALE
    width, _, _ = text_to_path.get_text_width_height_descent(line, font, False)
    path = Path(corners, codes) if len(corners) else Path(np.empty((0, 2)))
    return Affine2D().scale(scale, -scale).transform_path(path), width


def _baselines(count: int, size: float, along: str) -> list[float]:
    """Distances in px by which the baselines of lines of text lie below the given position."""
    pitch = 1.28 * size
    first = {"top": 0.9 * size, "bottom": -0.24 * size - (count - 1) * pitch,
             "middle": 0.36 * size - (count - 1) / 2 * pitch}[along]  # fmt: skip
    return [first + row * pitch for row in range(count)]
