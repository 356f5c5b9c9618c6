"""The controls of a panel: numbers that slide, and choices between words."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

# Two controls fit side by side above a figure.
_LABEL: dict[str, Any] = {"description_width": "90px"}
_SIZE: dict[str, Any] = {"layout": {"width": "440px"}, "style": _LABEL}
_INTERVAL = 200  # ms between two steps of a slider that plays: twice what a redraw may take


@dataclass(frozen=True)
class Slider:
    """A number between `low` and `high`; whole where `step` is an int.

    Attributes:
        label: with the unit, if there is one.
        value: where it starts.
        low, high, step: its range.
        play: whether it has a button that moves it on by itself, as over steps or over training.

    Raises:
        ValueError: a slider that plays has a step that is no whole number.
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
        """The widget as it is shown: with its buttons to the left, where it can be played."""
        if not self.play:
            return widget
        import ipywidgets

        player = ipywidgets.Play(
            value=widget.value, min=widget.min, max=widget.max, step=widget.step,
            interval=_INTERVAL, show_repeat=False,
        )  # fmt: skip
        # Linked in the page: a kernel that is slow, or gone, does not hold the buttons.
        ipywidgets.jslink((player, "value"), (widget, "value"))
        return ipywidgets.HBox([widget, player])


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

    def beside(self, widget: Any) -> Any:
        """The widget as it is shown."""
        return widget
