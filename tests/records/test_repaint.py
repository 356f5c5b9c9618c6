"""Pictures of executed notebooks are drawn again, and nothing else in them changes."""

import nbformat
import plotly.graph_objects as go
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lab.plots.render import PICTURE, PLOTLY, bundle
from lab.records.repaint import main, repaint

FIGURE = go.Figure(go.Scatter(x=[0, 1], y=[1, 0]), layout={"title": {"text": "A line"}})


def save(path, *outputs):
    cells = [new_code_cell("figure", outputs=list(outputs), execution_count=1)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def shown(figure, **changes):
    data, metadata = bundle(figure)
    return new_output("display_data", data={**data, **changes}, metadata=metadata)


def test_an_old_picture_is_replaced_and_a_missing_one_drawn(tmp_path, capsys):
    data, metadata = bundle(FIGURE)
    bare = new_output("display_data", data={PLOTLY: data[PLOTLY]})
    text = new_output("stream", text="1.5")
    path = save(tmp_path / "004.ipynb", shown(FIGURE, **{PICTURE: "aGk="}), bare, text)
    main([str(path)])
    assert "2 pictures drawn anew, 0 figures cannot be drawn" in capsys.readouterr().out
    first, second, third = nbformat.read(path, as_version=4).cells[0].outputs
    assert first.data[PICTURE].strip() == second.data[PICTURE].strip() == data[PICTURE].strip()
    assert second.metadata == metadata
    assert first.data[PLOTLY] == data[PLOTLY]
    assert third == text


def test_a_notebook_whose_pictures_are_those_of_now_stays_as_it_is(tmp_path):
    path = save(tmp_path / "004.ipynb", shown(FIGURE))
    before = path.read_bytes()
    assert repaint(path) == (0, 0)
    assert path.read_bytes() == before


def test_a_figure_that_cannot_be_drawn_keeps_what_it_had(tmp_path):
    output = shown(FIGURE, **{PICTURE: "aGk="})
    output.data[PLOTLY]["data"] = [{"type": "sankey"}]
    path = save(tmp_path / "004.ipynb", output)
    assert repaint(path) == (0, 1)
    assert nbformat.read(path, as_version=4).cells[0].outputs[0].data[PICTURE] == "aGk="
