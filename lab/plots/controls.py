"""The controls of a panel: sliders for numbers, and menus for words."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

# Two controls fit side by side above a figure.
_LABEL: dict[str, Any] = {"description_width": "90px"}
_SIZE: dict[str, Any] = {"layout": {"width": "440px"}, "style": _LABEL}
_INTERVAL = 200  # ms between two steps of a playing slider: twice the time allowed for a redraw


@dataclass(frozen=True)
class Slider:
    """A number between `low` and `high`; a whole number if `step` is an int.

    Attributes:
        label: text beside the slider, with the unit if there is one.
        value: initial value.
        low, high, step: smallest and largest value, and the distance between two values.
        play: whether the slider has a button that advances it automatically, for instance over time
            steps or over training.

    Raises:
        ValueError: `play` is set and `step` is not a whole number.
    """

    label: str
    value: float
    low: float
    high: float
    step: float
    play: bool = False

    def __post_init__(self) -> None:
        if self.play and not isinstance(self.step, int):
            raise ValueError(f"{self.label!r} plays in steps of {self.step!r}; use a whole number")

    def widget(self) -> Any:
        """The ipywidget that holds the value."""
        import ipywidgets

        whole = isinstance(self.step, int)
        kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        digits = 0 if whole else -int(Decimal(str(self.step)).as_tuple().exponent)
        return kind(
            value=self.value, min=self.low, max=self.high, step=self.step, description=self.label,
            readout_format="d" if whole else f".{digits}f", **_SIZE,
        )  # fmt: skip

    def beside(self, widget: Any) -> Any:
        """The widget as it is displayed: with its play buttons to the left, if it has any."""
        if not self.play:
            return widget
        import ipywidgets

        player = ipywidgets.Play(
            value=widget.value, min=widget.min, max=widget.max, step=widget.step,
            interval=_INTERVAL, show_repeat=False,
        )  # fmt: skip
        # The link runs in the page, so the buttons work even if the kernel is slow or gone.
        ipywidgets.jslink((player, "value"), (widget, "value"))
        return ipywidgets.HBox([widget, player])


@dataclass(frozen=True)
class Choice:
    """A choice between a few words; the first is the default."""

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

    def beside(self, widget: Any) -> Any:
        """The widget as it is displayed."""
        return widget
