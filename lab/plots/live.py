"""A panel in a live notebook: controls, and below them a figure that follows.

The figure is an ordinary output of its cell, and so the saved notebook has its last view, for every
reader. The controls are widgets, which live no longer than their kernel: a note takes their place
where they are gone. A script in the page, panel.js, redraws the figure in place; a new output
would lose zoom and hidden traces, and plotly's own widget brings five megabytes for every panel.
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
_REST = 0.6  # s without a move, after which the view is kept in the notebook
_KEPT = "panel"  # plotly keeps zoom and hidden traces between figures of one revision


class Live:
    """The widgets of a panel, and the figure that follows them.

    Args:
        draw: the figure at some values, by the name of the control.
        controls: by name.
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
        # What the page is to draw, as JSON, in a node that nobody sees.
        self.sent = ipywidgets.HTML(layout={"display": "none"}).add_class("lab-panel-sent")
        rows = [control.beside(self.widgets[name]) for name, control in controls.items()]
        box = ipywidgets.Box(rows, layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([box, self.sent]).add_class("lab-panel")
        for widget in self.widgets.values():
            widget.observe(self._follow, names="value")

    def show(self) -> None:
        """Display the controls, the script and the figure, each as an output of the cell."""
        view = self.widget._repr_mimebundle_()[VIEW]
        names = ", ".join(widget.description for widget in self.widgets.values())
        display({VIEW: view, "text/plain": f"Controls: {names}"}, raw=True)
        display({"text/html": _page(), "text/plain": ""}, raw=True)
        data, metadata = self._bundle(picture=True)
        self._shown = display(data, metadata=metadata, raw=True, display_id=True)

    def _follow(self, _: object) -> None:
        """Draw what the controls say. Of moves that arrive while it draws, the last one counts.

        The page, too, sends no second move of a control before the first has been answered.
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
        self.figure.update_layout(uirevision=_KEPT)
        return bundle(self.figure, picture=picture)

    def _keep_at_rest(self) -> None:
        """Keep this view in the notebook once the controls rest: its picture takes some 0.1 s."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no kernel: nothing else could come in between
            self.keep()
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(_REST, self.keep)

    def keep(self) -> None:
        """Put the figure as it is now into the notebook; the page does not draw it again."""
        if self._shown is not None:
            data, metadata = self._bundle(picture=True)
            self._shown.update(data, metadata=metadata, raw=True)


@cache
def _page() -> str:
    """What lies between controls and figure: a note for later, its style, and the script."""
    folder = Path(__file__).parent
    style, script = ((folder / name).read_text() for name in ("panel.css", "panel.js"))
    note = "The figure as it was last seen. To move its controls again, run this cell."
    return (
        f"<style>{style}</style>\n<div class='lab-panel-note' style='opacity: 0.7'>{note}</div>\n"
        f"<script>\n{script}</script>"
    )


def _hidden(content: Mapping[str, Any]) -> str:
    """A figure as text that HTML leaves as it is."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c")
