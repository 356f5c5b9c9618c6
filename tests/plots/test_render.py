"""Every plotly figure of a notebook is displayed in both forms, whoever built it."""

import base64
import json
import subprocess
import sys

import IPython.display
import plotly.graph_objects as go
import pytest
from figure_cases import CASES
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from lab.plots.fit import fit
from lab.plots.render import PICTURE, PLOTLY, bundle
from lab.plots.twin import Undrawable


@pytest.fixture
def shell(monkeypatch, tmp_path):
    """A shell, and in `shell.sent` what its cells display."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    publisher = CapturingDisplayPublisher()
    monkeypatch.setattr(shell, "display_pub", publisher)
    shell.sent = publisher.outputs
    yield shell
    InteractiveShell.clear_instance()


@pytest.mark.parametrize("way", ["display(figure)", "figure", "figure.show()"])
def test_a_figure_of_a_notebook_is_displayed_with_a_picture(shell, way):
    shell.run_cell(
        "from lab.plots import figures\nimport plotly.graph_objects as go\n"
        "figure = go.Figure(go.Scatter(y=[1, 2], name='a'), {'title': {'text': 'A title'}})",
        silent=True,
    )
    assert shell.run_cell(way).success
    (output,) = shell.sent
    assert list(output["data"]) == [PLOTLY, PICTURE, "text/plain"]
    assert output["data"]["text/plain"] == "Figure: A title"
    assert base64.b64decode(output["data"][PICTURE]).startswith(b"\x89PNG")
    # Twice as many dots would be shown twice as large by pages that know no better.
    height = output["data"][PLOTLY]["layout"]["height"]
    assert output["metadata"][PICTURE] == {"width": 700, "height": height, "alt": "Figure: A title"}


def test_what_has_no_twin_is_an_error_that_says_how_to_go_on(shell, capsys):
    shell.run_cell("import lab.plots.figures, plotly.graph_objects as go", silent=True)
    shell.run_cell("go.Figure(go.Pie(values=[1]))")
    said = capsys.readouterr().out
    assert 'figure.show("plotly_mimetype") shows it without one' in said
    with pytest.raises(Undrawable):
        bundle(go.Figure(go.Pie(values=[1])))


def test_both_forms_get_the_same_layout_and_a_dark_page_shines_through():
    figure = CASES["losses 14"]()
    data, _ = bundle(figure)
    assert json.loads(json.dumps(data)) == data
    assert data[PLOTLY]["layout"]["margin"] == fit(figure).layout.margin.to_plotly_json()
    template = data[PLOTLY]["layout"]["template"]["layout"]
    assert template["paper_bgcolor"] == template["plot_bgcolor"] == "rgba(0, 0, 0, 0)"
    assert figure.layout.paper_bgcolor is figure.layout.plot_bgcolor is None


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_and_lines_can_be_read_on_a_light_and_on_a_dark_page():
    from lab.plots.theme import COLOURS, GREY, TEXT

    for colour, least in ((TEXT, 4.3), (GREY, 3.5), *((colour, 2.1) for colour in COLOURS)):
        light = 1.05 / (luminance(colour) + 0.05)
        dark = (luminance(colour) + 0.05) / (luminance("#111111") + 0.05)
        assert min(light, dark) > least, colour


def test_a_figure_given_to_display_is_the_same_as_its_bundle(shell):
    figure = CASES["strips 4"]()
    IPython.display.display(figure)
    (output,) = shell.sent
    assert output["data"] == bundle(figure)[0]


def test_figures_do_without_parsers_that_take_seconds_to_build():
    program = (
        "import sys, lab.plots, jsonschema\n"
        "from nbformat import v4, validate\n"
        "validate(v4.new_notebook(cells=[v4.new_code_cell('a = 1')]))\n"
        "sys.exit('rfc3987_syntax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
