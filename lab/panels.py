"""Figures with sliders: live in JupyterLab, their default view in a headless run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import plotly.graph_objects as go
from IPython.display import display

from lab.frontend import live

# Two controls fit side by side above a figure.
_SIZE: dict[str, Any] = {"layout": {"width": "440px"}, "style": {"description_width": "90px"}}

# plotly measures the width of a live figure when it is made, which is often before it is on the
# page, and after that only when the window is resized. This says that it was, when the panel was.
_FOLLOW_WIDTH = """
export default {
  render({ el }) {
    const observer = new ResizeObserver(() => window.dispatchEvent(new Event("resize")));
    observer.observe(el);
    return () => observer.disconnect();
  },
};
"""


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
        draw: called with one value per control, by name; returns a figure with always the same
            traces in the same order, which are then updated in place.
        controls: Slider or Choice, by the name of the argument.
    """

    def __init__(self, draw: Callable[..., go.Figure], **controls: Slider | Choice) -> None:
        self.draw, self.controls = draw, controls

    def default(self) -> go.Figure:
        """The figure with every control where it starts."""
        return self.draw(**{name: control.value for name, control in self.controls.items()})

    def widget(self) -> Any:
        """The controls above the figure, as one ipywidget."""
        import anywidget
        import ipywidgets

        figure = go.FigureWidget(self.default())
        figure._config = {**figure._config, "responsive": True}  # it takes no config by argument
        widgets = {name: control.widget() for name, control in self.controls.items()}

        def redraw(_: object) -> None:
            _replace(figure, self.draw(**{name: widget.value for name, widget in widgets.items()}))

        for widget in widgets.values():
            widget.observe(redraw, names="value")
        controls = ipywidgets.Box([*widgets.values()], layout={"flex_flow": "row wrap"})
        return ipywidgets.VBox([controls, figure, anywidget.AnyWidget(_esm=_FOLLOW_WIDTH)])

    def _ipython_display_(self) -> None:
        display(self.widget() if live() else self.default())


def _replace(shown: Any, new: go.Figure) -> None:
    """Give a live figure the data and titles of another, in one message to the browser."""
    if len(shown.data) != len(new.data):
        counts = f"{len(shown.data)} traces before and {len(new.data)} now"
        raise ValueError(f"draw() must return the same traces for every setting: {counts}")
    with shown.batch_update():
        for old, trace in zip(shown.data, new.data, strict=True):
            old.update(trace.to_plotly_json())
        shown.layout.update(new.layout.to_plotly_json())
