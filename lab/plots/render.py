"""How figures get into a notebook: each as an interactive figure and as a static picture.

JupyterLab shows the richest form that it supports. Exported pages, repository viewers and PDFs
support only pictures.
"""

import base64
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import plotly.graph_objects as go
import plotly.io
from plotly.io import to_json
from plotly.io.base_renderers import ExternalRenderer

from lab.plots.fit import fitted
from lab.plots.theme import merged

PLOTLY, PICTURE = "application/vnd.plotly.v1+json", "image/png"
_CONFIG = {"displaylogo": False}


def bundle(
    figure: go.Figure | Mapping[str, Any], *, picture: bool = True
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A figure as the data and the metadata of a notebook's output.

    Args:
        figure: a plotly figure, or the dictionary of one.
        picture: whether to include the static picture, which takes some 0.1 s.

    Raises:
        Undrawable: the figure has something that its static picture cannot show.
    """
    content = figure.to_plotly_json() if isinstance(figure, go.Figure) else dict(figure)
    content = {"data": content.get("data", []), "layout": content.get("layout", {})}
    content["layout"] = merged(content["layout"], fitted(content["data"], content["layout"]))
    interactive = json.loads(to_json({**content, "config": _CONFIG}, validate=False))
    if not picture:
        return {PLOTLY: interactive}, {}
    from lab.plots.twin import png
    from lab.plots.twin.picture import size

    width, height = size(content)
    encoded = base64.b64encode(png(content)).decode("ascii")
    words = _described(content["layout"])  # for terminals and screen readers
    data = {PLOTLY: interactive, PICTURE: encoded, "text/plain": words}
    return data, {PICTURE: {"width": width, "height": height, "alt": words}}


class Renderer(ExternalRenderer):
    """Displays every plotly figure of the session in both forms."""

    def render(self, fig: Mapping[str, Any]) -> None:
        """Send a figure to the front end."""
        from IPython.display import display

        data, metadata = bundle(fig)
        display(data, metadata=metadata, raw=True)


def install() -> None:
    """Make plotly display its figures by this renderer."""
    with _without_grammar_of_iris():
        renderers = plotly.io.renderers
    renderers["lab"] = Renderer()
    renderers.default = "lab"


@contextmanager
def _without_grammar_of_iris() -> Iterator[None]:
    """Spare every process the two seconds in which rfc3987_syntax builds its parsers.

    plotly's renderers import nbformat, which imports jsonschema, which imports that package, if it
    is installed, to check texts of the formats "iri" and "iri-reference". No schema of a notebook
    has one. jsonschema does without a package that it cannot import.
    """
    name = "rfc3987_syntax"
    if name in sys.modules or "jsonschema" in sys.modules:
        yield
        return
    modules = cast(dict[str, Any], sys.modules)
    modules[name] = None  # this is how Python marks a module that cannot be imported
    try:
        yield
    finally:
        del modules[name]


def _described(layout: Mapping[str, Any]) -> str:
    """A text that stands for the figure."""
    title = (layout.get("title") or {}).get("text") or "without a title"
    return f"Figure: {title.replace('<br>', ' ')}"
