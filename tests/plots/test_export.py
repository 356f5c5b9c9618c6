"""An executed notebook as a page: all pictures, formulas that can be read, and no request."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from figure_cases import CASES
from nbconvert import HTMLExporter
from traitlets.config import Config

from lab.plots import export
from lab.plots.render import PICTURE, PLOTLY, bundle

ROOT = Path(__file__).parents[2]
SETTINGS = Path(export.__file__).with_name("jupyter_nbconvert_config.json")
TEXT = r"""# Title with $a_t$
Inline $\beta k^\top$ and `code with $dollars$`, costs 5 $ and 6 $.

$$\sum_{i=1}^n x_i$$

\begin{align*} a &= b \\ c &= d \end{align*}

    indented $code$

Wrong: $\frac{1}{$
"""


def page(notebook):
    """The page that `jupyter nbconvert --to html` writes with the settings of the environment."""
    return HTMLExporter(config=Config(json.loads(SETTINGS.read_text()))).from_notebook_node(
        notebook
    )[0]


def asked_for(html):
    """The addresses that a browser would load."""
    found = re.findall(r"<(?:script|img|link|iframe)[^>]*?(?:src|href)=[\"']([^\"']*)", html)
    styles = re.findall(r"(?:url\(|@import )[\"']?([^\"')]*)", html)
    return [address for address in found + styles if re.match("(https?:)?//", address)]


@pytest.fixture(scope="module")
def html():
    cells = [nbformat.v4.new_markdown_cell(TEXT)]
    for name in ("losses 14", "word", "attention"):
        data, metadata = bundle(CASES[name]())
        output = nbformat.v4.new_output("display_data", data, metadata=metadata)
        cells.append(nbformat.v4.new_code_cell(name, outputs=[output]))
    # A panel that was saved by JupyterLab: a widget and a picture in one output.
    data = {**bundle(CASES["confusion"]())[0], export.WIDGET: {"model_id": "1"}}
    cells.append(nbformat.v4.new_code_cell(
        outputs=[nbformat.v4.new_output("display_data", data)]))  # fmt: skip
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    return page(notebook)


def test_every_figure_is_a_picture_of_the_size_of_its_twin(html):
    pictures = re.findall(r'<img[^>]*src="data:image/png;base64,[^>]*>', html, re.S)
    assert len(pictures) == 4
    assert sum('width="700"' in picture for picture in pictures) == 3


def test_it_asks_no_network_for_anything(html):
    assert asked_for(html) == []
    assert asked_for('<script src="https://a.b/c.js">') == ["https://a.b/c.js"]


def test_formulas_are_set_and_code_is_left_alone(html):
    formulas = re.findall(r"<math.*?</math>", html, re.S)
    assert len(formulas) == 4
    assert [f for f in formulas if "\\" in f] == []
    assert "code with $dollars$" in html
    assert "indented $code$" in html
    assert r"<code>\frac{1}{</code>" in html  # a mistake is shown as it was written


def test_formulas_of_all_notebooks_can_be_set():
    formula = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?(?:\n[^$\n]+?)?)\$", re.S)
    found = 0
    for path in sorted((ROOT / "notebooks").glob("*.py")):
        for cell in re.split(r"^# %% \[markdown\]", path.read_text(), flags=re.M)[1:]:
            text = re.sub("^# ?", "", cell.split("\n# %%")[0], flags=re.M)
            for block, inline in formula.findall(re.sub("`[^`]*`", "", text)):
                set_ = export.mathml(block or inline, "inline")
                assert set_.startswith("<math"), f"{path.name}: {block or inline}"
                assert "\\" not in set_, f"{path.name}: {block or inline}"
                found += 1
    assert found > 200


COMMITTED = sorted([*(ROOT / "executed" / "smoke").glob("*.ipynb"),
                    ROOT / "executed" / "004.ipynb", ROOT / "executed" / "013.ipynb"])  # fmt: skip


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_committed_notebook_has_a_picture_for_every_figure(path):
    cells = json.loads(path.read_text())["cells"]
    outputs = [o.get("data", {}) for cell in cells for o in cell.get("outputs", ())]
    figures = [data for data in outputs if PLOTLY in data]
    assert figures
    assert all(PICTURE in data for data in figures)
    assert max(len(data[PICTURE]) for data in figures) <= 60_000 * 4 / 3 + 4


def test_a_committed_notebook_is_a_page_with_all_its_figures():
    path = ROOT / "executed" / "004.ipynb"
    notebook = nbformat.read(path, as_version=4)
    figures = [
        o for c in notebook.cells for o in c.get("outputs", ()) if PLOTLY in o.get("data", {})
    ]
    html = page(notebook)
    pictures = re.findall(r'<img[^>]* src="data:image/png;base64,', html)
    assert len(pictures) == len(figures) >= 5
    assert asked_for(html) == []
    assert "<math" in html
