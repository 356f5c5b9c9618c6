"""Prepares executed notebooks for pages: figures become pictures, and hidden cells are folded."""

import base64

import nbformat

from lab.plots.twin import Undrawable, png

PLOTLY, PICTURE = "application/vnd.plotly.v1+json", "image/png"
# MIME types for programs or a kernel, for which outputs have another form as well.
UNSEEN = ("application/vnd.lab.evidence+json", "application/vnd.jupyter.widget-view+json")


def read(text: str) -> nbformat.NotebookNode:
    """The notebook without outputs that need a kernel or code from another server."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        for output in cell.get("outputs", []):
            _draw(output.get("data", {}))
    return notebook


def _draw(data: dict) -> None:
    """Replace a figure by its picture; results of older code have none."""
    for kind in UNSEEN:
        data.pop(kind, None)
    figure = data.pop(PLOTLY, None)
    if figure is None or PICTURE in data:
        return
    try:
        data[PICTURE] = base64.b64encode(png(figure)).decode("ascii")
    except Undrawable:
        data["text/plain"] = "An interactive figure: open the notebook in JupyterLab to see it."
