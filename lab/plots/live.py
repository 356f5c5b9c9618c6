"""A panel in a live notebook: controls, and a figure below them that follows the controls.

The figure is an ordinary output of its cell, so the saved notebook shows every reader its last
view. The controls are widgets, which exist only as long as their kernel; afterwards a note takes
their place. A script in the page, panel.js, redraws the figure in place. A new output would lose
zoom and hidden traces, and plotly's own widget would add five megabytes to every panel.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from IPython.display import display

from lab.plots.controls import Choice, Slider
from lab.plots.render import PLOTLY, bundle

VIEW = "application/vnd.jupyter.widget-view+json"
_REST = 0.6  # s without a move of a control, after which the view is stored in the notebook
_KEPT = "panel"  # plotly keeps zoom and hidden traces between figures of equal uirevision


class Live:
    """The widgets of a panel, and the figure that follows them.

    Args:
        draw: returns the figure for given values, each named after its control.
        controls: the controls by name.
    """

    def __init__(
        self,
        draw: Callable[[Mapping[str, Any]], go.Figure],
        controls: Mapping[str, Slider | Choice],
    ) -> None:
        import ipywidgets

        self._draw, self._busy, self._moved = draw, False, False
        self._shown: Any = None  # the handle of the figure's output
        self._timer: asyncio.TimerHandle | None = None
        self.widgets = {name: control.widget() for name, control in controls.items()}
        self.figure = self._drawn()
        # The figure that the page should draw, as JSON in a hidden node.
        self.sent = ipywidgets.HTML(layout={"display": "none"}).add_class("lab-panel-sent")
        rows = [control.beside(self.widgets[name]) for name, control in controls.items()]
        box = ipywidgets.Box(rows, layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([box, self.sent]).add_class("lab-panel")
        for widget in self.widgets.values():
            widget.observe(self._follow, names="value")

    def show(self) -> None:
        """Display the controls, the script and the figure, each as its own output of the cell."""
        view = self.widget._repr_mimebundle_()[VIEW]
        names = ", ".join(widget.description for widget in self.widgets.values())
        display({VIEW: view, "text/plain": f"Controls: {names}"}, raw=True)
        display({"text/html": _page(), "text/plain": ""}, raw=True)
        data, metadata = self._bundle(picture=True)
        self._shown = display(data, metadata=metadata, raw=True, display_id=True)

    def _follow(self, _: object) -> None:
        """Draw the figure for the current values of the controls.

        If several moves arrive while the figure is being drawn, only the last one is drawn. The
        page likewise sends no second move of a control before the first has been answered.
        """
        self._moved = True
        if self._busy:
            return
        self._busy = True
        try:
            while self._moved:
                self._moved = False
                self.figure = self._drawn()
            self.sent.value = _hidden(self._bundle(picture=False)[0][PLOTLY])
        finally:
            self._busy = False
        self._keep_at_rest()

    def _drawn(self) -> go.Figure:
        return self._draw({name: widget.value for name, widget in self.widgets.items()})

    def _bundle(self, *, picture: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        content = self.figure.to_plotly_json()
        content["layout"]["uirevision"] = _KEPT
        return bundle(content, picture=picture)

    def _keep_at_rest(self) -> None:
        """Store this view in the notebook once the controls rest: its picture takes some 0.1 s."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no event loop, because there is no kernel: store the view at once
            self.keep()
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(_REST, self.keep)

    def keep(self) -> None:
        """Store the current figure in the notebook, without a redraw in the page."""
        if self._shown is not None:
            data, metadata = self._bundle(picture=True)
            self._shown.update(data, metadata=metadata, raw=True)


@cache
def _page() -> str:
    """HTML between controls and figure: the note for readers without a kernel, and the script."""
    folder = Path(__file__).parent
    style, script = ((folder / name).read_text() for name in ("panel.css", "panel.js"))
    note = "The figure as it was last seen. To move its controls again, run this cell."
    return (
        f"<style>{style}</style>\n<div class='lab-panel-note' style='opacity: 0.7'>{note}</div>\n"
        f"<script>\n{script}</script>"
    )


def _hidden(content: Mapping[str, Any]) -> str:
    """A figure as text in which HTML has nothing to interpret."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c")
