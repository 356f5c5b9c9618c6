"""What the log takes from a notebook beside its record."""

import json

import pytest
from log_cases import code, figure, png, save
from nbformat.v4 import new_markdown_cell

from lab.records.log.notebook import LARGEST, Notebook, Picture


def read(folder, *outputs, heading="# 004 · Why?"):
    cells = [new_markdown_cell(f"{heading}\n\nText."), code("x", *outputs)]
    return Notebook(save(folder / "004.ipynb", *cells))


def test_the_picture_is_that_of_the_named_figure_wherever_its_title_was_broken(tmp_path):
    found = read(tmp_path, figure("First", png()), figure("A long<br>title", png(200)))
    assert found.picture("A long title") == Picture("A long title", png(200))


@pytest.mark.parametrize("title", ["", "Gone"])
def test_else_it_is_the_first_that_has_one(tmp_path, title):
    found = read(tmp_path, figure("No picture"), figure("First", png()), figure("Next", png(200)))
    assert found.picture(title) == Picture("First", png())


@pytest.mark.parametrize("content", [b"GIF89a", b"", png(66), png(LARGEST + 1)])
def test_what_is_too_large_or_no_png_is_left_out(tmp_path, content):
    assert read(tmp_path, figure("A", content)).picture("A") is None
    assert read(tmp_path, figure("A", png(LARGEST))).picture("A") is not None


@pytest.mark.parametrize(
    ("size", "width"), [((700, 400), 240), ((400, 800), 85), ((700, 0), 240), ((0, 400), 1)]
)
def test_a_picture_is_drawn_as_wide_as_fits_into_a_box(size, width):
    assert Picture("A", png(100, *size)).width(240, 170) == width


@pytest.mark.parametrize("data", [None, 3, [], {"x": 1}, "é", ["%%%"]])
def test_pictures_that_are_something_else_stop_nothing(tmp_path, data):
    read(tmp_path, figure("A", png()))
    content = json.loads((tmp_path / "004.ipynb").read_text())
    content["cells"][1]["outputs"][0]["data"]["image/png"] = data
    (tmp_path / "004.ipynb").write_text(json.dumps(content))
    assert Notebook(tmp_path / "004.ipynb").picture() is None


@pytest.mark.parametrize(
    ("heading", "text"),
    [("# 004 · Why?", "Why?"), ("# Why 2 · 3?", "Why 2 · 3?"), ("Why?", ""), ("#", "")],
)
def test_the_heading_is_read_without_its_number(tmp_path, heading, text):
    assert read(tmp_path, heading=heading).heading == text


@pytest.mark.parametrize(
    ("noted", "started"),
    [
        ("2025-06-01T01:00:00.5+02:00", "2025-05-31T23:00:00Z"),
        ("2025-06-01T01:00:00", "2025-06-01T01:00:00Z"),
        ("yesterday", ""),
        (None, ""),
    ],
)
def test_the_start_is_in_utc_to_the_second(tmp_path, noted, started):
    read(tmp_path)
    content = json.loads((tmp_path / "004.ipynb").read_text())
    content["metadata"]["papermill"] = {"start_time": noted}
    (tmp_path / "004.ipynb").write_text(json.dumps(content))
    assert Notebook(tmp_path / "004.ipynb").started == started
