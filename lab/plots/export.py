"""`jupyter nbconvert --to html` without a network: formulas as MathML, pictures for figures.

nbconvert's own page asks a content network for MathJax to set formulas, for require.js, and for
the code of widgets. `make setup` puts jupyter_nbconvert_config.json, which lies beside this file,
where nbconvert finds it: it turns these off and names the two functions below.
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
    """Markdown to HTML as nbconvert does it, but with formulas in MathML, which browsers set."""

    def inline_math(self, body: str) -> str:
        """A formula within a line."""
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        """A formula on a line of its own."""
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        """A formula as an environment, such as align*."""
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


class Pictures(Preprocessor):
    """Drops what a page needs code from a network for, where it has another form of the same."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """The notebook without widgets, of which a page has no kernel to move them."""
        nb.metadata.pop("widgets", None)
        for cell in nb.cells:
            for output in cell.get("outputs", ()):
                data = output.get("data", {})
                if WIDGET in data and len(data) > 1:
                    del data[WIDGET]
        return nb, resources


def mathml(formula: str, display: str) -> str:
    """LaTeX as MathML; what cannot be read stays as it was written, in the type of code.

    Args:
        formula: without its dollar signs.
        display: "inline" or "block".
    """
    try:
        return convert(formula, display=display)
    except Exception:  # the library has a class of its own for every mistake, and no base of them
        return f"<code>{IPythonRenderer().escape_html(formula)}</code>"


@pass_context
def markdown2html(context: Any, source: str) -> str:
    """The filter of that name of nbconvert's templates."""
    exporter = HTMLExporter()
    renderer = MathMLRenderer(
        escape=False, attachments=context.get("cell", {}).get("attachments", {}),
        path=context.get("resources", {}).get("metadata", {}).get("path", ""),
        anchor_link_text=exporter.anchor_link_text,
    )  # fmt: skip
    return str(MarkdownWithMath(renderer=renderer).render(source))
