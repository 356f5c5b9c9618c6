"""Figures with sliders: live in JupyterLab, their default view in a headless run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import plotly.graph_objects as go
from IPython.display import display

from lab.frontend import live
from lab.plots import looks
from lab.plots.render import PLOTLY, bundle

# Two controls fit side by side above a figure.
_SIZE: dict[str, Any] = {"layout": {"width": "440px"}, "style": {"description_width": "90px"}}


@dataclass(frozen=True)
class Slider:
    """A number between `low` and `high`; whole where `step` is an int."""

    label: str
    value: float
    low: float
    high: float
    step: float

    def widget(self) -> Any:
        """The ipywidget."""
        import ipywidgets

        whole = isinstance(self.step, int)
        kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        digits = 0 if whole else -int(Decimal(str(self.step)).as_tuple().exponent)
        return kind(
            value=self.value, min=self.low, max=self.high, step=self.step, description=self.label,
            readout_format="d" if whole else f".{digits}f", **_SIZE,
        )  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """One of a few words; the first is the default."""

    label: str
    options: Sequence[str]

    @property
    def value(self) -> str:
        """The default."""
        return self.options[0]

    def widget(self) -> Any:
        """The ipywidget."""
        import ipywidgets

        return ipywidgets.Dropdown(options=list(self.options), description=self.label, **_SIZE)


class Panel:
    """A figure redrawn as its controls move.

    Args:
        draw: called with one value per control, by name; returns a figure.
        controls: Slider or Choice, by the name of the argument.
    """

    def __init__(self, draw: Callable[..., go.Figure], **controls: Slider | Choice) -> None:
        self.draw, self.controls = draw, controls

    def default(self) -> go.Figure:
        """The figure with every control where it starts."""
        return self._drawn({name: control.value for name, control in self.controls.items()})

    def widget(self) -> Any:
        """The controls above the figure, as one ipywidget.

        The figure is an output like that of any cell. A plotly FigureWidget would bring five
        megabytes of its own for every panel, and where a browser takes more than two seconds to
        load them, as with three panels on a reloaded page, it no longer follows its controls.
        """
        import ipywidgets

        widgets = {name: control.widget() for name, control in self.controls.items()}
        shown = ipywidgets.Output()

        def redraw(_: object = None) -> None:
            figure = self._drawn({name: widget.value for name, widget in widgets.items()})
            data, metadata = bundle(figure, picture=False)  # a moving slider has no use for one
            # Room kept for it, so that the page stands still while one follows another.
            shown.layout.height = f"{data[PLOTLY]['layout']['height']}px"
            output = {"output_type": "display_data", "data": data, "metadata": metadata}
            shown.outputs = (output,)

        for widget in widgets.values():
            widget.observe(redraw, names="value")
        redraw()
        controls = ipywidgets.Box([*widgets.values()], layout={"flex_flow": "row wrap"})
        return ipywidgets.VBox([controls, shown])

    def _ipython_display_(self) -> None:
        if live():
            display(self.widget())
        else:
            data, metadata = bundle(self.default())
            display(data, metadata=metadata, raw=True)

    def _drawn(self, values: dict[str, Any]) -> go.Figure:
        # Names such as "step 3" come and go with a slider: none of them keeps a look.
        with looks.borrowed():
            return self.draw(**values)
