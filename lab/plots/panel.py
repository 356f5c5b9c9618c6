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
    """A figure that is redrawn when its controls move; outside JupyterLab, only its default view.

    Args:
        draw: returns the figure; called with one keyword argument per control.
        controls: a Slider or a Choice for each argument of `draw`, by its name.
    """

    def __init__(self, draw: Callable[..., go.Figure], **controls: Slider | Choice) -> None:
        self.draw, self.controls = draw, controls

    def default(self) -> go.Figure:
        """The figure with every control at its initial value."""
        return self.drawn({name: control.value for name, control in self.controls.items()})

    def drawn(self, values: Mapping[str, Any]) -> go.Figure:
        """The figure for given values of the controls."""
        # Names such as "step 3" change as a slider moves, so their looks are not remembered.
        with looks.borrowed():
            return self.draw(**values)

    def _ipython_display_(self) -> None:
        if live():
            Live(self.drawn, self.controls).show()
        else:
            data, metadata = bundle(self.default())
            display(data, metadata=metadata, raw=True)
