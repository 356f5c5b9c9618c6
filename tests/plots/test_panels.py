"""A panel shows its figure at the defaults, and in a live front end it follows its controls."""

import asyncio
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
from lab.plots import live as live_module
from lab.plots.fit import fit
from lab.plots.live import Live
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


def live(panel):
    """The panel in a live notebook, and its controls by their labels."""
    made = Live(panel.drawn, panel.controls)
    return made, {widget.description: widget for widget in made.widgets.values()}


def shown(made):
    """The figure that the page has been told to draw."""
    return go.Figure({key: json.loads(made.sent.value)[key] for key in ("data", "layout")})


def assert_shows(figure, expected):
    """The same figure, with room made for what stands around it."""
    expected = fit(expected).update_layout(uirevision=figure.layout.uirevision)
    assert json.loads(figure.to_json()) == json.loads(expected.to_json())


def test_the_default_view_is_the_figure_at_the_defaults(panel):
    expected = draw(slope=0.25, offset=2, kind="plain")
    assert panel.default() == expected
    assert live(panel)[0].figure == expected


def test_every_control_moves_the_figure(panel):
    made, controls = live(panel)
    controls["slope, 1/s"].value = -0.5
    assert_shows(shown(made), draw(-0.5, 2, "plain"))
    controls["offset"].value = 7
    assert_shows(shown(made), draw(-0.5, 7, "plain"))
    controls["kind"].value = "with points"  # another number of traces
    assert_shows(shown(made), draw(-0.5, 7, "with points"))
    assert list(shown(made).data[0].y) == [7.0, 6.5, 6.0]


def test_plotly_is_told_to_keep_zoom_and_hidden_traces(panel):
    made, controls = live(panel)
    revisions = set()
    for offset in (3, 4, 5):
        controls["offset"].value = offset
        revisions.add(shown(made).layout.uirevision)
    assert len(revisions) == 1
    assert revisions != {None}


def test_what_is_sent_is_no_markup():
    def marked(n):
        return go.Figure(go.Scatter(y=[n], name="a < b & <script>"))

    made, controls = live(Panel(marked, n=Slider("n", 0, 0, 9, 1)))
    controls["n"].value = 1
    assert not set("<&") & set(made.sent.value)
    assert shown(made).data[0].name == "a < b & <script>"


def test_of_moves_that_arrive_while_it_draws_the_last_one_counts():
    drawn = []

    def slowly(n):
        drawn.append(n)
        if n == 1:  # while this one is drawn, three more come
            for later in (2, 3, 4):
                controls["n"].value = later
        return go.Figure(go.Scatter(y=[n]))

    made, controls = live(Panel(slowly, n=Slider("n", 0, 0, 9, 1)))
    sent = []
    made.sent.observe(lambda _: sent.append(shown(made).data[0].y[0]), names="value")
    controls["n"].value = 1
    assert drawn == [0, 1, 4]
    assert sent == [4]
    controls["n"].value = 5
    assert drawn == [0, 1, 4, 5]


def test_two_views_of_a_panel_do_not_move_each_other(panel):
    (one, controls), (other, _) = live(panel), live(panel)
    controls["offset"].value = 5
    assert_shows(shown(one), draw(0.25, 5, "plain"))
    assert other.figure == panel.default()


def test_a_setting_that_cannot_be_drawn_leaves_the_last_figure():
    def reciprocal(x):
        return go.Figure(go.Scatter(y=[1 / x]))

    made, controls = live(Panel(reciprocal, x=Slider("x", 1, 0, 4, 1)))
    controls["x"].value = 4
    with pytest.raises(ZeroDivisionError):
        controls["x"].value = 0
    assert list(shown(made).data[0].y) == [0.25]
    controls["x"].value = 2
    assert list(shown(made).data[0].y) == [0.5]


def test_a_slider_that_plays_has_its_own_range_and_steps():
    slider = Slider("training, %", 40, 0, 100, 5, play=True)
    widget = slider.widget()
    held, player = slider.beside(widget).children
    assert held is widget
    assert (player.value, player.min, player.max, player.step) == (40, 0, 100, 5)
    assert player.interval >= 100  # ms: a redraw has time to end
    assert Slider("word", 0, 0, 9, 1).beside(widget) is widget


def test_only_whole_steps_can_be_played():
    with pytest.raises(ValueError, match=r"'Δ, s' plays in steps of 0\.5"):
        Slider("Δ, s", 0.5, 0.0, 1.0, 0.5, play=True)


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
    made, controls = live(Panel(one, step=Slider("step", 0, 0, 99, 1)))
    for step in range(1, 60):
        controls["step"].value = step
    first, second = shown(made).data
    assert (first.line.color, first.line.dash) == (arm.colour, arm.dash)
    assert second.line.color != arm.colour
    assert looks.of(["next"])["next"] == looks.LOOKS[1]


def test_live_it_displays_controls_then_a_figure_for_every_reader(panel, published, monkeypatch):
    monkeypatch.setenv("LAB_PANELS", "live")
    IPython.display.display(panel)
    controls, page, figure = published
    assert list(controls["data"]) == [VIEW, "text/plain"]
    assert controls["data"]["text/plain"] == "Controls: slope, 1/s, offset, kind"
    assert "<script>" in page["data"]["text/html"]
    assert list(figure["data"]) == [PLOTLY, PICTURE, "text/plain"]
    assert base64.b64decode(figure["data"][PICTURE]).startswith(b"\x89PNG")
    assert_shows(go.Figure(figure["data"][PLOTLY]), panel.default())


def test_the_view_that_was_seen_last_is_kept_in_its_place(panel, published):
    made, controls = live(panel)
    made.show()
    _, _, first = published
    controls["offset"].value = 8
    kept = published[-1]
    assert kept["transient"] == first["transient"]  # which names the output
    assert kept["update"]
    assert_shows(go.Figure(kept["data"][PLOTLY]), draw(0.25, 8, "plain"))
    assert kept["data"][PICTURE] != first["data"][PICTURE]


def test_in_a_kernel_only_the_view_at_rest_is_kept(panel, published, monkeypatch):
    monkeypatch.setattr(live_module, "_REST", 0.05)

    async def moved():
        made, controls = live(panel)
        made.show()
        for offset in (3, 4, 5):
            controls["offset"].value = offset
        assert len(published) == 3
        await asyncio.sleep(0.5)

    asyncio.run(moved())
    (kept,) = published[3:]
    assert_shows(go.Figure(kept["data"][PLOTLY]), draw(0.25, 5, "plain"))
