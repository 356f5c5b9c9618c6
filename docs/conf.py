"""Sphinx: README, guides, the research log, executed notebooks and docstrings as pages.

`make docs` builds them into build/docs. The sources are where they are in the checkout, so that
links between them hold. A page asks no other server for anything: formulas are MathML, figures are
pictures, and the search runs in the browser.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

import api_pages
import docstrings
import mathml
import papermill  # noqa: F401  first: it imports our handler half-way through its own

import lab

project = "sequence-lab"
author = "The sequence-lab contributors"
copyright = author
version = release = lab.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "myst_nb"]
root_doc = "README"
GUIDES = ["CONTRIBUTING", "CHANGELOG", "SECURITY"]
include_patterns = [*(f"{name}.md" for name in (root_doc, *GUIDES)), "docs/api/*.rst"]
include_patterns += ["executed/*.ipynb", "executed/README.md", "executed/log/*.md"]
# Folders without pages; otherwise they would be searched, including all of .venv.
exclude_patterns = [".*", "build", "executed/smoke", "lab", "tests", "notebooks", "params"]

# Docstrings are prose with a few conventions of their own, not reStructuredText.
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autosummary_generate = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

# Notebooks are shown as they were executed; they are never executed here.
nb_execution_mode = "off"
nb_custom_formats = {".ipynb": "executed_notebooks.read"}
nb_ipywidgets_js = {}
nb_merge_streams = True

html_theme = "furo"
html_title = f"sequence-lab {release}"
html_show_copyright = False
# A summary of search results would be fetched, which a page opened from disk cannot do.
html_show_search_summary = False


def _toctree(caption: str, pages: list[str]) -> str:
    return "\n".join(
        ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]
    )


def _contents(app, docname: str, source: list[str]) -> None:
    """Add the list of all pages to the README, which does not contain one."""
    if docname == root_doc:
        found = sorted(app.env.found_docs)
        source[0] += _toctree("Guides", [name for name in GUIDES if name in found])
        for caption, start in (("Results", "executed/"), ("Library", "docs/api/")):
            source[0] += _toctree(caption, [name for name in found if name.startswith(start)])


def _front_door(app, exception: Exception | None) -> None:
    """Make index.html redirect to the first page."""
    if exception is None and app.builder.format == "html":
        page = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        Path(app.outdir, "index.html").write_text(page, encoding="utf-8")


def setup(app) -> None:
    """The entry point that Sphinx calls first."""
    api_pages.write(ROOT / "lab", HERE / "api")
    app.connect("autodoc-process-docstring", docstrings.process)
    app.connect("source-read", _contents)
    app.connect("build-finished", _front_door)
    mathml.setup(app)
