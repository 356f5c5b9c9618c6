"""A figure that is drawn from the values of some controls."""

from collections.abc import Callable, Mapping
from typing import Any

import plotly.graph_objects as go
from IPython.display import display

from lab.frontend import live
from lab.plots import looks
from lab.plots.controls import Choice, Slider
from lab.plots.live import Live
from lab.plots.render import bundle


class Panel:
    """A figure redrawn as its controls move: live in JupyterLab, its default view elsewhere.

    Args:
        draw: called with one value per control, by name; returns a figure.
        controls: Slider or Choice, by the name of the argument.
    """

    def __init__(self, draw: Callable[..., go.Figure], **controls: Slider | Choice) -> None:
        self.draw, self.controls = draw, controls

    def default(self) -> go.Figure:
        """The figure with every control where it starts."""
        return self.drawn({name: control.value for name, control in self.controls.items()})

    def drawn(self, values: Mapping[str, Any]) -> go.Figure:
        """The figure at some values of the controls."""
        # Names such as "step 3" come and go with a slider: none of them keeps a look.
        with looks.borrowed():
            return self.draw(**values)

    def _ipython_display_(self) -> None:
        if live():
            Live(self.drawn, self.controls).show()
        else:
            data, metadata = bundle(self.default())
            display(data, metadata=metadata, raw=True)
