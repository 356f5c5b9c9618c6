"""Executed notebooks made by hand, for the tests that read them back."""

import base64
import re
import struct

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lab.evidence import MIME, Evidence

PLOTLY, PICTURE = "application/vnd.plotly.v1+json", "image/png"

TIMES = {"iopub.execute_input": "t", "shell.execute_reply": "t", "iopub.status.idle": "t"}


def make_record(experiment="004", title="Oscillators é", value=1.7e-7):
    found = Evidence(experiment, title=title, reported={"train": 0.8544}, seeds=[0, 1, 2])
    found.check("S1", value, "<", 1e-3, metric="train MSE", spread=2e-8)
    found.check("F1", 0.8551, ">", 0.1, kind="failure", arm="reported")
    found.check("C4", 1.01, "in", (0.97, 1.03))
    return {**found.record(), "runtime_s": 65.2}


RECORD = make_record()


def marked(cell, status="completed", start="2025-01-01T00:00:00", exception=False):
    """The cell with what papermill notes about it."""
    cell.metadata["papermill"] = {"status": status, "start_time": start, "exception": exception}
    return cell


def code(source, *outputs, count=1, **metadata):
    cell = new_code_cell(source, outputs=list(outputs), execution_count=count)
    cell.metadata.update(metadata)
    return cell


def display(record):
    return new_output("display_data", data={MIME: record, "text/plain": "a table"})


def error(name="ValueError", value="B must be positive, got 0"):
    return new_output("error", ename=name, evalue=value, traceback=["..."])


def save(path, *cells):
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


def complete(path, record=RECORD):
    return save(
        path,
        marked(new_markdown_cell("# Question")),
        marked(code("length: int = 20", execution=dict(TIMES))),
        marked(code("evidence", display(record), count=2, execution=dict(TIMES))),
        marked(new_markdown_cell("What next")),
    )


SUMMARY = {
    "question": "Does it *continue*?",
    "settles": "Score it at 2,048 steps.",
    "tags": ["oscillators", "length"],
    "impact": 3,
    "cost_h": 1.5,
}


def with_summary(experiment="004", finding="The error is 1.7e-7.", **fields):
    """A record with a summary."""
    found = Evidence(experiment, title="Oscillators", reported={}, seeds=[0, 1, 2])
    found.check("S1", 1.7e-7, "<", 1e-3)
    found.summary(**{**SUMMARY, "finding": finding, **fields})
    return {**found.record(), "runtime_s": 65.2}


def png(size=100, width=700, height=400):
    """The content of a file that begins as a PNG file of these pixels does."""
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return start + bytes(size - len(start))


def figure(title, content=None):
    """The output of a figure, with a picture where content is given."""
    data = {PLOTLY: {"data": [], "layout": {"title": {"text": title}}}}
    if content is not None:
        data[PICTURE] = base64.b64encode(content).decode()
    return new_output("display_data", data=data)


def cells_of(line):
    """The cells of a line of a Markdown table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables(text):
    """Every table of a Markdown text: its rows by the first cell, head left out."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    return [{cells_of(row)[0]: cells_of(row) for row in block[2:]} for block in blocks]
