"""`jupyter nbconvert --to html` without a network: formulas as MathML, figures as pictures.

By default, the pages of nbconvert load MathJax, require.js and the code of widgets from a content
delivery network. `make setup` installs jupyter_nbconvert_config.json, which lies beside this file,
where nbconvert finds it. That configuration turns the downloads off and uses the two functions
below.
"""

from typing import Any

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert.exporters.html import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors import Preprocessor

WIDGET = "application/vnd.jupyter.widget-view+json"
_DRAWN = ("image/png", "image/svg+xml", "text/html")


class MathMLRenderer(IPythonRenderer):
    """nbconvert's Markdown renderer, but with formulas as MathML, which browsers render."""

    def inline_math(self, body: str) -> str:
        """A formula within a line."""
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        """A formula on a line of its own."""
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        """A formula in an environment, such as align*."""
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


class Pictures(Preprocessor):
    """Drops outputs that need code from the network and have another form that needs none."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """The notebook without widgets: a page has no kernel that could move them."""
        nb.metadata.pop("widgets", None)
        for cell in nb.cells:
            for output in cell.get("outputs", ()):
                data = output.get("data", {})
                if WIDGET in data and len(data) > 1:
                    del data[WIDGET]
        return nb, resources


def mathml(formula: str, display: str) -> str:
    """LaTeX as MathML; a formula that cannot be parsed is shown as it was written, as code.

    Args:
        formula: LaTeX without its dollar signs.
        display: "inline" or "block".
    """
    try:
        return convert(formula, display=display)
    except Exception:  # the library has many exception classes and no common base class
        return f"<code>{IPythonRenderer().escape_html(formula)}</code>"


@pass_context
def markdown2html(context: Any, source: str) -> str:
    """The filter `markdown2html` of nbconvert's templates."""
    exporter = HTMLExporter()
    renderer = MathMLRenderer(
        escape=False, attachments=context.get("cell", {}).get("attachments", {}),
        path=context.get("resources", {}).get("metadata", {}).get("path", ""),
        anchor_link_text=exporter.anchor_link_text,
    )  # fmt: skip
    return str(MarkdownWithMath(renderer=renderer).render(source))
