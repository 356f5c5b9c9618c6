"""The pages of `make docs`: some are built, with warnings as errors, and nothing is fetched."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def loaded(name):
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docstrings, api_pages = loaded("docstrings"), loaded("api_pages")

# One page of each kind.
PAGES = ("README.md", "docs/api/lab.seeding.rst", "executed/004.ipynb")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder of the built pages."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "executed").mkdir()
    (folder / "lab").symlink_to(ROOT / "lab")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    # README without its links to what this part leaves out.
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(re.sub(r"\[(.*?)\]\([^)]*\)", r"\1", text), encoding="utf-8")
    shutil.copy(ROOT / PAGES[2], folder / "executed")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-c", "docs", ".", "built"]
    done = subprocess.run(
        [*command, "-D", f"include_patterns={','.join(PAGES)}"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "built"


def test_every_kind_of_source_becomes_a_page(pages):
    for page, found in (
        ("README", "A workspace for sequence models"),
        ("docs/api/lab.seeding", 'id="lab.seeding.stream"'),
        ("executed/004", "Can an oscillatory state-space model continue an oscillation?"),
    ):
        text = (pages / f"{page}.html").read_text(encoding="utf-8")
        assert found in text, page
        assert "lab.seeding" in text, page  # all pages show the contents
    assert "url=README.html" in (pages / "index.html").read_text(encoding="utf-8")


def test_no_page_asks_another_server_for_anything(pages):
    asked = re.compile(r'<(?:script|link|img|iframe)[^>]*\b(?:src|href)="(?:https?:)?//')
    for page in pages.rglob("*.html"):
        assert not asked.search(page.read_text(encoding="utf-8")), page
    for style in pages.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_formulas_are_mathml_and_figures_are_pictures(pages):
    text = (pages / "executed/004.html").read_text(encoding="utf-8")
    assert "<math" in text
    assert "MathJax" not in text
    assert text.count("<img") >= 10
    assert "vnd.plotly" not in text


def test_the_search_knows_notebooks_and_docstrings(pages):
    index = (pages / "searchindex.js").read_text(encoding="utf-8")
    assert '"executed/004"' in index
    assert "oscil" in index  # words are stored by their stems


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("h[t] = a * h_t, |x|.", "h[t] = a \\* h\\_t, \\|x\\|.\n"),
        ("As `linear_scan`, f(`x y`).", "As \\ :py:obj:`linear_scan`\\ , f(\\ :code:`x y`\\ ).\n"),
        ("One:\n\n    a = b * c\n", "One:\n\n.. code-block:: text\n\n        a = b * c\n"),
        (
            "Sum.\n\nArgs:\n    a, b: one\n        and more.\n    c: two.\n",
            "Sum.\n\n**Args**\n\n* a, b: one and more.\n* c: two.\n",
        ),
        ("Cost: 2 N.\nSource: A*, 1990.", "**Cost:** 2 N.\n\n**Source:** A\\*, 1990.\n"),
        ("Two:\n\n- one\n  more\n- two", "Two:\n\n* one more\n\n* two\n"),
    ],
)  # fmt: skip
def test_docstrings_are_escaped_and_their_sections_kept(docstring, expected):
    assert docstrings.converted(docstring) == expected


def test_there_is_a_page_for_every_room():
    rooms = api_pages.rooms(ROOT / "lab")
    assert {"lab", "lab.scan", "lab.mixers", "lab.seeding"} <= set(rooms)
    assert not [room for room in rooms if room.count(".") > 1]


def test_a_page_shows_the_face_of_a_room_and_what_its_files_add():
    lines = api_pages.page("lab.scan", ROOT).splitlines()
    assert ".. automodule:: lab.scan" in lines
    assert ".. automodule:: lab.scan.growth" in lines  # not on the face
    assert not [line for line in lines if "lab.scan.gpu" in line or "lab.scan.cpu" in line]
    (names,) = (a for b, a in pairwise(lines) if b.endswith(" lab.scan.linear"))
    assert "linear_scan," not in names  # the face has it
