"""Style of all figures: colours that are legible on light and on dark pages, fonts, sizes.

Figures are transparent, so they take the background of the page. Text and grid are medium greys:
#797979 has the same contrast, 4.4 to 1, against white and against #111111, the background of
JupyterLab's dark theme.
"""

from typing import Any

import plotly.graph_objects as go
import plotly.io

# The colours of Okabe & Ito 2008, which colour-blind readers can distinguish, without black and
# yellow, which are illegible on a dark and on a light page respectively.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
GREY = "#888888"  # colour of references: chance, floors, bounds
TEXT = "#797979"
GRID = "rgba(128, 128, 128, 0.25)"
CLEAR = "rgba(0, 0, 0, 0)"

WIDTH = 700  # px: figures are laid out for this width, and a wider page stretches them
FONT_SIZE = 12  # px
SMALL = 11  # px: legends, labels of lines, titles of small multiples
TITLE = 15  # px

LOG = {"type": "log", "exponentformat": "power", "minorloglabels": "none", "tickformat": ""}

_AXIS = {
    "showgrid": True, "gridcolor": GRID, "zeroline": False, "showline": False,
    "tickcolor": GRID, "tickformat": ",~g", "title": {"standoff": 8}, "automargin": True,
}  # fmt: skip

# To make room for the title, buttons that duplicate mouse gestures are removed; 130 px remain.
_BUTTONS = ["zoomIn2d", "zoomOut2d", "autoScale2d", "select2d", "lasso2d"]

TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": CLEAR, "plot_bgcolor": CLEAR, "colorway": COLOURS, "height": 380,
        "font": {"color": TEXT, "size": FONT_SIZE}, "hovermode": "closest",
        "title": {"font": {"size": TITLE}, "x": 0, "xref": "container", "xanchor": "left",
                  "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 10, "l": 14}},
        "legend": {"orientation": "h", "font": {"size": SMALL}, "x": 0, "xanchor": "left",
                   "y": 0, "yref": "container", "yanchor": "bottom", "bgcolor": CLEAR,
                   "traceorder": "normal"},
        "modebar": {"bgcolor": CLEAR, "color": GREY, "activecolor": COLOURS[0],
                    "remove": _BUTTONS},
        "colorscale": {"sequential": "Viridis", "sequentialminus": "Viridis_r",
                       "diverging": "RdBu"},
        "coloraxis": {"colorbar": {"outlinewidth": 0, "ticks": ""}},
        "annotationdefaults": {"font": {"size": SMALL}},
        "xaxis": _AXIS, "yaxis": _AXIS,
    },
    data={"heatmap": [{"type": "heatmap", "colorbar": {"outlinewidth": 0, "ticks": ""}}]},
)  # fmt: skip


def install() -> None:
    """Make this the style of all plotly figures of the session, wherever they are built."""
    plotly.io.templates["lab"] = TEMPLATE
    plotly.io.templates.default = "lab"


def width_of(text: str, size: float = SMALL) -> float:
    """Approximate width of a line of text in px, an upper estimate."""
    return size * sum(_advance(character) for character in text)


def wrapped(text: str, room: float, size: float = SMALL) -> str:
    """Text in lines of at most `room` px, joined by <br>; longer words are broken."""
    return "<br>".join(
        line for part in text.split("<br>") for line in _lines(part.split(" "), room, size)
    )


def lines_in(text: str) -> int:
    """Number of lines of a text."""
    return text.count("<br>") + 1


def widest(texts: list[str], size: float = SMALL) -> float:
    """Width of the widest line of several texts, in px; 0 if there are none."""
    lines = [line for text in texts for line in text.split("<br>")]
    return max((width_of(line, size) for line in lines), default=0.0)


def _lines(words: list[str], room: float, size: float) -> list[str]:
    lines = [""]
    for word in words:
        for piece in _pieces(word, room, size):
            longer = f"{lines[-1]} {piece}" if lines[-1] else piece
            if lines[-1] and width_of(longer, size) > room:
                lines.append(piece)
            else:
                lines[-1] = longer
    return lines


def _pieces(word: str, room: float, size: float) -> list[str]:
    most = max(int(room / (0.6 * size)), 1)
    if width_of(word, size) <= room:
        return [word]
    return [word[i : i + most] for i in range(0, len(word), most)]


def _advance(character: str) -> float:
    """Width over font size, as in DejaVu Sans, the wider of the fonts in use."""
    if character in "il.,:;'|!jI ()[]ft":
        return 0.4
    return 0.9 if character in "mwMW@%" else 0.7 if character.isupper() else 0.61


def merged(base: Any, over: Any) -> dict[str, Any]:
    """Two nested mappings merged into one; values of `over` take precedence."""
    result = dict(base or {})
    for key, value in (over or {}).items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result
