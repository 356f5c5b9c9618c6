"""A panel is its figure at the defaults, and in a live front end follows its controls."""

import base64
import json

import IPython.display
import ipywidgets
import plotly.graph_objects as go
import pytest
import torch
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from lab.plots import figures, looks
from lab.plots.fit import fit
from lab.plots.panels import Choice, Panel, Slider
from lab.plots.render import PICTURE, PLOTLY

VIEW = "application/vnd.jupyter.widget-view+json"


def draw(slope, offset, kind):
    """A line, and where `kind` says so its points; as high as the offset asks for."""
    y = [slope * x + offset for x in range(3)]
    figure = go.Figure(layout={"title": {"text": f"slope {slope:g}, offset {offset}, {kind}"}})
    figure.add_scatter(y=y, name="line")
    if kind == "with points":
        figure.add_scatter(y=y, mode="markers", name="points")
    return figure.update_layout(height=300 + offset)


CONTROLS = {
    "slope": Slider("slope, 1/s", 0.25, -1.0, 1.0, 0.05),
    "offset": Slider("offset", 2, 0, 9, 1),
    "kind": Choice("kind", ["plain", "with points"]),
}


@pytest.fixture
def panel():
    return Panel(draw, **CONTROLS)


def parts(widget):
    """The controls of a panel by their labels, and the output below them."""
    controls, output = widget.children
    return {control.description: control for control in controls.children}, output


def shown(output):
    """The one figure in an output."""
    (display,) = output.outputs
    assert list(display["data"]) == [PLOTLY]
    return go.Figure(display["data"][PLOTLY])


def assert_shows(figure, expected):
    """The same figure, with room made for what stands around it."""
    assert json.loads(figure.to_json()) == json.loads(fit(expected).to_json())


def test_the_default_view_is_the_figure_at_the_defaults(panel):
    expected = draw(slope=0.25, offset=2, kind="plain")
    assert panel.default() == expected
    assert_shows(shown(parts(panel.widget())[1]), expected)


def test_every_control_moves_the_figure(panel):
    controls, output = parts(panel.widget())
    controls["slope, 1/s"].value = -0.5
    assert_shows(shown(output), draw(-0.5, 2, "plain"))
    controls["offset"].value = 7
    assert_shows(shown(output), draw(-0.5, 7, "plain"))
    controls["kind"].value = "with points"  # another number of traces
    assert_shows(shown(output), draw(-0.5, 7, "with points"))
    assert list(shown(output).data[0].y) == [7.0, 6.5, 6.0]


def test_a_figure_has_its_room_before_it_is_drawn(panel):
    controls, output = parts(panel.widget())
    assert output.layout.height == "302px"
    controls["offset"].value = 9
    assert output.layout.height == "309px"


def test_two_views_of_a_panel_do_not_move_each_other(panel):
    (one, one_output), (_, other_output) = parts(panel.widget()), parts(panel.widget())
    one["offset"].value = 5
    assert_shows(shown(one_output), draw(0.25, 5, "plain"))
    assert_shows(shown(other_output), panel.default())


def test_a_setting_that_cannot_be_drawn_leaves_the_last_figure():
    def reciprocal(x):
        return go.Figure(go.Scatter(y=[1 / x]))

    controls, output = parts(Panel(reciprocal, x=Slider("x", 1, 0, 2, 1)).widget())
    with pytest.raises(ZeroDivisionError):
        controls["x"].value = 0
    assert list(shown(output).data[0].y) == [1.0]
    controls["x"].value = 2
    assert list(shown(output).data[0].y) == [0.5]


@pytest.mark.parametrize(
    ("slider", "kind", "readout"),
    [
        (Slider("n", 2, 0, 9, 1), ipywidgets.IntSlider, "d"),
        (Slider("Δ, s", 0.01, 0.01, 1.0, 0.01), ipywidgets.FloatSlider, ".2f"),
        (Slider("ω, rad/s", 0.1, 0.01, 0.1, 0.001), ipywidgets.FloatSlider, ".3f"),
        (Slider("φ, rad", 0.0, 0.0, 6.28, 0.02), ipywidgets.FloatSlider, ".2f"),
        (Slider("lr", 1e-5, 0.0, 1e-3, 1e-5), ipywidgets.FloatSlider, ".5f"),
        (Slider("gain", 0.5, 0.0, 10.0, 0.5), ipywidgets.FloatSlider, ".1f"),
    ],
)
def test_a_slider_shows_as_many_digits_as_it_moves_by(slider, kind, readout):
    widget = slider.widget()
    assert type(widget) is kind
    assert (widget.value, widget.min, widget.max) == (slider.value, slider.low, slider.high)
    assert (widget.step, widget.readout_format) == (slider.step, readout)


def test_a_choice_starts_at_its_first_word():
    choice = Choice("model", ("b", "a", "c"))
    widget = choice.widget()
    assert choice.value == widget.value == "b"
    assert widget.options == ("b", "a", "c")


@pytest.fixture
def published(monkeypatch, tmp_path):
    """What `display` sends to the front end of a shell."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    publisher = CapturingDisplayPublisher()
    monkeypatch.setattr(shell, "display_pub", publisher)
    yield publisher.outputs
    InteractiveShell.clear_instance()


def test_headless_it_displays_its_figure_and_no_widget(panel, published, monkeypatch):
    monkeypatch.setenv("LAB_PANELS", "static")
    IPython.display.display(panel)
    (output,) = published
    assert list(output["data"]) == [PLOTLY, PICTURE, "text/plain"]
    assert_shows(go.Figure(output["data"][PLOTLY]), panel.default())
    assert base64.b64decode(output["data"][PICTURE]).startswith(b"\x89PNG")


def test_names_that_come_and_go_with_a_slider_use_up_no_looks():
    def one(step):
        return figures.lines({"arm": torch.ones(3), f"step {step:g}": torch.ones(3)},
                             x_title="x", y_title="y")  # fmt: skip

    looks.reset()
    arm = looks.of(["arm"])["arm"]
    controls, output = parts(Panel(one, step=Slider("step", 0, 0, 99, 1)).widget())
    for step in range(1, 60):
        controls["step"].value = step
    first, second = shown(output).data
    assert (first.line.color, first.line.dash) == (arm.colour, arm.dash)
    assert second.line.color != arm.colour
    assert looks.of(["next"])["next"] == looks.LOOKS[1]


def test_live_it_displays_its_controls(panel, published, monkeypatch):
    monkeypatch.setenv("LAB_PANELS", "live")
    IPython.display.display(panel)
    (output,) = published
    assert VIEW in output["data"]
    assert PLOTLY not in output["data"]
