"""The static twin shows what plotly shows: the same places, colours and texts, and all of them."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import plotly.graph_objects as go
import pytest
from figure_cases import CASES
from PIL import Image

from lab.plots import figures, looks
from lab.plots.fit import fit
from lab.plots.twin import Undrawable, png
from lab.plots.twin.axis import Axis, round_up
from lab.plots.twin.sheet import LARGEST, SCALE
from lab.plots.twin.text import plain, power_of_ten
from lab.plots.twin.traces import quartiles


def pixels(figure):
    """["rows columns 4"] in 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGBA")).astype(int)


def near(picture, colour, within=24):
    """Where a picture has about this colour, "#rrggbb"."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (abs(picture[..., :3] - wanted).max(-1) <= within) & (picture[..., 3] > 150)


def blank(**layout):
    """A figure of 400 x 300 px whose plotting area is 300 x 200 px from (50, 40) on."""
    base = {"width": 400, "height": 300, "margin": {"l": 50, "r": 50, "t": 40, "b": 60}}
    return go.Figure(layout={**base, **layout})


@pytest.mark.parametrize("name", CASES)
def test_every_figure_has_a_small_legible_twin(name):
    looks.reset()
    figure = fit(CASES[name]())
    content = png(figure)
    picture = Image.open(io.BytesIO(content))
    assert content.startswith(b"\x89PNG")
    assert len(content) <= LARGEST
    assert picture.width >= 700
    assert picture.height / picture.width == pytest.approx(figure.layout.height / 700, abs=0.01)
    ink = np.asarray(picture.convert("RGBA"))[..., 3] > 0
    assert 0.01 < ink.mean() < 0.9  # something is drawn, and the page shines through
    # Nothing is cut: the outermost dots are free, but for the cells of no figure.
    assert not ink[[0, -1]].any()
    assert not ink[:, [0, -1]].any()


def test_the_same_figure_makes_the_same_bytes_in_any_thread():
    figure = CASES["accuracy 9"]()
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(png, [figure] * 8))) == 1


def test_points_stand_where_their_numbers_say():
    figure = blank(xaxis={"range": [0, 10]}, yaxis={"range": [-3, 1], "type": "log"})
    figure.add_scatter(x=[2.5], y=[0.1], mode="markers",
                       marker={"color": "#D55E00", "size": 12})  # fmt: skip
    rows, columns = np.nonzero(near(pixels(figure), "#D55E00"))
    # A quarter of the way across 300 px; on exponents from -3 to 1, half-way up 200 px.
    assert columns.mean() / SCALE == pytest.approx(50 + 75, abs=1)
    assert rows.mean() / SCALE == pytest.approx(40 + 100, abs=1)


def test_an_area_is_filled_and_other_fills_are_named():
    figure = blank(xaxis={"range": [0, 10]}, yaxis={"range": [0, 4]})
    area = {"x": [0, 5, 5, 0], "y": [0, 0, 2, 2], "mode": "none"}
    figure.add_scatter(**area, fill="toself", fillcolor="#D55E00")
    rows, columns = np.nonzero(near(pixels(figure), "#D55E00"))
    # The left lower quarter of 300 x 200 px from (50, 40) on.
    assert columns.min() / SCALE == pytest.approx(50, abs=1)
    assert columns.max() / SCALE == pytest.approx(200, abs=1)
    assert rows.min() / SCALE == pytest.approx(140, abs=1)
    with pytest.raises(Undrawable, match="fill 'tozeroy' has no static twin"):
        png(blank().add_scatter(**area, fill="tozeroy"))


def test_an_axis_can_run_down():
    figure = blank(xaxis={"range": [0, 10]}, yaxis={"range": [0, 4], "autorange": "reversed"})
    figure.add_scatter(x=[5], y=[1], mode="markers", marker={"color": "#D55E00", "size": 12})
    rows, _ = np.nonzero(near(pixels(figure), "#D55E00"))
    assert rows.mean() / SCALE == pytest.approx(40 + 50, abs=1)


def test_lines_have_their_colours_widths_and_dashes():
    def share(dash):
        figure = blank(xaxis={"range": [0, 1], "visible": False},
                       yaxis={"range": [0, 1], "visible": False})  # fmt: skip
        figure.add_scatter(x=[0, 1], y=[0.5, 0.5], mode="lines",
                           line={"color": "#009E73", "width": 4, "dash": dash})  # fmt: skip
        found = near(pixels(figure), "#009E73")
        assert np.ptp(np.nonzero(found)[0]) in (2, 3, 4)  # 4 px, the edges between colours
        return found.any(0).mean()

    solid, dashed, dotted = share("solid"), share("dash"), share("dot")
    assert solid == pytest.approx(300 / 400, abs=0.01)
    assert dashed == pytest.approx(solid / 2, rel=0.1)
    assert dotted == pytest.approx(solid / 2, rel=0.15)


def test_cells_have_the_colours_of_their_scale():
    figure = blank(xaxis={"visible": False}, yaxis={"visible": False})
    figure.add_heatmap(z=[[0, 1], [np.nan, 0.5]], zmin=0, zmax=1, showscale=False,
                       colorscale=[[0, "#000000"], [1, "#ff0000"]])  # fmt: skip
    picture = pixels(figure)
    cells = {(i, j): picture[int(SCALE * (190 - 100 * i)), int(SCALE * (125 + 150 * j))]
             for i in (0, 1) for j in (0, 1)}  # fmt: skip
    assert cells[0, 0].tolist() == pytest.approx([0, 0, 0, 255], abs=6)
    assert cells[0, 1].tolist() == pytest.approx([255, 0, 0, 255], abs=6)
    assert cells[1, 1].tolist() == pytest.approx([128, 0, 0, 255], abs=6)
    assert cells[1, 0][3] == 0


def test_heights_of_bars_and_boxes():
    figure = blank(yaxis={"range": [0, 1]}).add_bar(
        x=["a", "b"], y=[0.5, 0.25], marker={"color": "#0072B2"}
    )
    found = near(pixels(figure), "#0072B2")
    heights = [found[:, int(SCALE * x)].sum() / SCALE for x in (125, 275)]
    assert heights == pytest.approx([100, 50], abs=2)
    # Plotly's "linear" method: five numbers stand at 10, 30, 50, 70 and 90 %.
    assert quartiles(np.array([0.0, 1, 2, 3, 4])).tolist() == [0.75, 2, 3.25]


def test_letters_are_drawn_and_signs_of_latex_are_letters():
    def ink(text):
        figure = blank(xaxis={"visible": False}, yaxis={"visible": False})
        figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper",
                              showarrow=False)  # fmt: skip
        return (pixels(figure)[..., 3] > 100).sum()

    assert 0 < ink("$x$") < ink("$x$ costs $y$")
    assert plain("10<sup>-3</sup><br>h<sub>2</sub> &lt; <b>3</b>") == "10⁻³\nh₂ < 3"
    assert [power_of_ten(k) for k in (-12, 0, 1, 2)] == ["10⁻¹²", "1", "10", "10²"]
    with pytest.raises(Undrawable, match=r"holds '<a href=x>'"):
        plain("see <a href=x>there</a>")


# tests/browser/test_figures.py compares the ticks of all figures with those of plotly.js.
@pytest.mark.parametrize(
    ("kind", "limits", "length", "expected"),
    [
        ("linear", (0, 100), 300, "0 20 40 60 80 100"),
        ("linear", (-0.02, 1.04), 300, "0 0.2 0.4 0.6 0.8 1"),
        ("linear", (0, 12_500), 600, "0 2,000 4,000 6,000 8,000 10,000 12,000"),
        ("log", (-9, 0), 300, "10⁻⁸ 10⁻⁶ 10⁻⁴ 10⁻² 1"),
        ("log", (-1, 2), 600, "10⁻¹ 1 10 10²"),
        ("log", (0, 0.5), 300, "1 1.2 1.4 1.6 1.8 2 2.2 2.4 2.6 2.8 3"),
    ],
)
def test_ticks_are_those_of_plotly(kind, limits, length, expected):
    settings = {"tickformat": ",~g"} if kind == "linear" else {}
    axis = Axis("x" if length == 600 else "y", settings, kind, (0, 1), length, limits=limits)
    assert " ".join(text for _, text in axis.ticks() if text) == expected


def test_steps_between_ticks_are_round():
    assert [round_up(rough) for rough in (0.13, 0.2, 3, 70)] == pytest.approx([0.2, 0.2, 5, 100])


def scatter(**settings):
    return go.Figure(go.Scatter(y=[1, 2], **settings))


REFUSED = {
    "is a pie": go.Figure(go.Pie(values=[1])),
    "fill 'tozeroy'": scatter(fill="tozeroy"),
    "sets 'connectgaps'": scatter(connectgaps=True),
    "marker sets 'sizemode'": scatter(marker={"sizemode": "area"}),
    "dash '3px'": scatter(mode="lines", line={"dash": "3px"}),
    "symbol 'hash'": scatter(mode="markers", marker={"symbol": "hash"}),
    "coloured by numbers": scatter(mode="markers", marker={"color": [1, 2]}),
    "line shape 'spline'": scatter(mode="lines", line={"shape": "spline"}),
    "in the legend only": scatter(visible="legendonly"),
    "yaxis sets 'ticksuffix'": scatter().update_yaxes(ticksuffix=" %"),
    "xaxis sets 'showline'": scatter().update_xaxes(showline=True),
    "an axis of type 'date'": scatter(x=["2020-01-01", "2020-01-02"]).update_xaxes(type="date"),
    "legend sets 'x'": scatter().update_layout(legend_x=0.5),
    "layout sets 'images'": scatter().update_layout(images=[{"source": "a.png"}]),
    "sets 'bgcolor'": scatter().add_annotation(text="a", showarrow=False, bgcolor="red"),
    "has an arrow": scatter().add_annotation(text="a", x=0, y=1),
    "shapes sets 'path'": scatter().add_shape(type="path", path="M 0 0 L 1 1"),
    "use the layer 'below'": scatter().add_hline(y=1, layer="between"),
    "with outliers or no points": go.Figure(go.Box(x=["a"], y=[1], boxpoints="all")),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_it_cannot_draw_it_refuses_by_name(sentence):
    with pytest.raises(Undrawable, match=sentence):
        png(fit(REFUSED[sentence]))


def test_a_picture_of_noise_is_small_enough_as_well():
    noise = np.random.default_rng(0).random((300, 600))
    figure = go.Figure(go.Heatmap(z=noise, colorscale="Turbo"))
    assert len(png(fit(figure))) <= LARGEST


def test_drawing_loads_nothing_before_the_first_picture():
    program = "import sys, lab.plots.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_the_legend_shows_every_look():
    looks.reset()
    below = pixels(CASES["accuracy 3"]())[-70:]
    for colour in figures.COLOURS[:3]:
        assert near(below, colour).sum() > 40  # a line of 30 px and a marker
    assert not near(below, figures.COLOURS[3]).any()
