"""Executed notebooks as pages can show them: pictures for figures, and hidden cells folded."""

import base64

import nbformat

from lab.plots.twin import Undrawable, png

PLOTLY, PICTURE = "application/vnd.plotly.v1+json", "image/png"
# For programs, and for a kernel: a page has another form of the same.
UNSEEN = ("application/vnd.lab.evidence+json", "application/vnd.jupyter.widget-view+json")


def read(text: str) -> nbformat.NotebookNode:
    """The notebook without what needs a kernel or the code of another server."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        for output in cell.get("outputs", []):
            _draw(output.get("data", {}))
    return notebook


def _draw(data: dict) -> None:
    """Put a picture in the place of a figure; results of older code have none."""
    for kind in UNSEEN:
        data.pop(kind, None)
    figure = data.pop(PLOTLY, None)
    if figure is None or PICTURE in data:
        return
    try:
        data[PICTURE] = base64.b64encode(png(figure)).decode("ascii")
    except Undrawable:
        data["text/plain"] = "An interactive figure: open the notebook in JupyterLab to see it."
