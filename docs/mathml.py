"""Formulas as MathML, which browsers render themselves."""

from docutils import nodes

from lab.plots.export import mathml


def _inline(writer, node) -> None:
    writer.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(writer, node) -> None:
    writer.body.append(mathml(node.astext(), "block"))
    raise nodes.SkipNode


def setup(app) -> None:
    """Register MathML as a renderer of formulas."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
