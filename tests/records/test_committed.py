"""The committed full run beside a run at the defaults, and never beside any other."""

import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lab.evidence import MIME, Evidence
from lab.records import committed

ROOT = Path(__file__).parents[2]
PICTURE = "image/svg+xml"


def evidence(steps, value, seeds=(0,), experiment="300"):
    made = Evidence(
        experiment, title="Rotations", reported={}, parameters={"steps": steps}, seeds=seeds
    )
    made.check("C1", value, ">", 0.9, metric="accuracy")
    return made


def full_run():
    full = evidence(steps=500, value=0.97, seeds=(0, 1))
    full.check("C2", 0.1, "<", 0.2, metric="gap <of> two")
    return full


def write(folder, record, *figures):
    """An executed notebook that displays these figures and then the record."""
    bundles = [*figures, {MIME: record}]
    outputs = [new_output("display_data", data=bundle) for bundle in bundles]
    cell = new_code_cell("evidence", outputs=outputs, execution_count=1)
    nbformat.write(new_notebook(cells=[cell]), folder / f"{record['experiment']}.ipynb")


def plot(title):
    return {
        committed.PLOTLY: {"data": [], "layout": {"title": {"text": title}}},
        PICTURE: f"<svg>{title}</svg>",
        "application/vnd.jupyter.widget-view+json": {"model_id": "gone"},
    }


def test_rows_stand_side_by_side_by_id_arm_and_metric():
    found = committed.beside(evidence(steps=40, value=0.5), full_run().record())
    assert found.rows == [
        ("C1", "corrected", "accuracy", "> 0.9", "0.5", "missed", "0.97", "met"),
        ("C2", "corrected", "gap <of> two", "< 0.2", "", "", "0.1", "met"),
    ]
    assert found.differences == "Parameters: steps 40 here, 500 there."
    assert "executed/300.ipynb; seeds 0, 1" in found.label


def test_a_criterion_that_is_new_has_no_committed_value():
    newer = evidence(steps=500, value=0.95)
    newer.check("C3", 7, "==", 7)
    found = committed.beside(newer, evidence(steps=500, value=0.94).record())
    assert found.rows[-1] == ("C3", "corrected", "", "== 7", "7", "met", "", "")
    assert found.differences == "The parameters are the same."


def test_the_table_escapes_what_metrics_say():
    html = committed.beside(evidence(steps=40, value=0.5), full_run().record()).html()
    assert "gap &lt;of&gt; two" in html
    assert "<of>" not in html


def test_a_stored_figure_is_found_by_its_title_and_keeps_its_picture(tmp_path):
    write(tmp_path, full_run().record(), plot("Loss"), plot("Accuracy"))
    found = committed.stored_figure(tmp_path / "300.ipynb", "Accuracy")
    assert found is not None
    assert found.keys() == {committed.PLOTLY, PICTURE}
    assert found[PICTURE] == "<svg>Accuracy</svg>"
    assert committed.stored_figure(tmp_path / "300.ipynb", "Accurac") is None


def test_the_key_figure_of_a_committed_run_says_whose_it_is(tmp_path):
    record = {"experiment": "300", "summary": {"figure": "Accuracy of two"}}
    write(tmp_path, {**full_run().record(), **record}, plot("Loss"), plot("Accuracy<br>of two"))
    shown = committed.key_figure(record, tmp_path)
    words = "Committed full run: Accuracy of two"
    assert shown[committed.PLOTLY]["layout"]["title"]["text"] == words
    assert shown["text/plain"] == f"Figure: {words}"
    assert committed.key_figure({"experiment": "300"}, tmp_path) is None
    elsewhere = {"experiment": "300", "summary": {"figure": "Nowhere"}}
    assert committed.key_figure(elsewhere, tmp_path) is None


NOTEBOOK = """\
# %% tags=["parameters"]
experiment: str = "300"
steps: int = 40
# %%
import lab
p = lab.parameters()
# %%
from lab.records import committed
from lab.evidence import Evidence
evidence = Evidence("300", title="Rotations", reported={}, parameters={"steps": p.steps})
evidence.check("C1", 0.5, ">", 0.9, metric="accuracy")
# %%
committed.criteria(evidence, "results")
committed.figure("300", "Accuracy", "results")
committed.figure("300", "Nowhere", "results")
"""


def outputs_of(folder, *arguments):
    """What the last cell displays in a headless run with these arguments."""
    (folder / "results").mkdir(exist_ok=True)
    nbformat.write(jupytext.reads(NOTEBOOK, fmt="py:percent"), folder / "300.ipynb")
    kernel = ["-k", "python3", "-l", "python"]
    command = [str(Path(sys.executable).with_name("papermill")), "300.ipynb", "out.ipynb"]
    done = subprocess.run(
        [*command, *kernel, *arguments, "--no-progress-bar"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return nbformat.read(folder / "out.ipynb", as_version=4).cells[-1].outputs


def test_at_the_defaults_the_committed_run_is_shown(tmp_path):
    (tmp_path / "results").mkdir()
    write(tmp_path / "results", full_run().record(), plot("Accuracy"))
    table, label, figure, missing = outputs_of(tmp_path)
    assert "This run beside the committed full run" in table.data["text/html"]
    assert "0.97" in table.data["text/html"]
    assert "committed full run (executed/300.ipynb" in label.data["text/html"]
    assert figure.data[committed.PLOTLY]["layout"]["title"]["text"] == "Accuracy"
    assert "has no figure &#x27;Nowhere&#x27;" in missing.data["text/html"]


def test_with_injected_parameters_nothing_is_read(tmp_path):
    (tmp_path / "results").mkdir()
    write(tmp_path / "results", full_run().record(), plot("Accuracy"))
    # Even parameters that are those of the notebook make it another run than one by hand.
    assert outputs_of(tmp_path, "-p", "steps", "40") == []


def test_without_a_committed_run_one_sentence_says_so(tmp_path):
    shown = [output.data["text/html"] for output in outputs_of(tmp_path)]
    assert len(shown) == 3
    for sentence in shown:
        assert "There is no committed full run to compare with: executed/300.ipynb" in sentence
        assert "Traceback" not in sentence


NUMBERED = sorted((ROOT / "notebooks").glob("[0-9]*_*.py"))
CALLS = [
    (path, line.split('"')[1::2])
    for path in NUMBERED
    for line in path.read_text().splitlines()
    if line.startswith("committed.figure(")
]


@pytest.mark.parametrize(("path", "named"), CALLS, ids=lambda value: getattr(value, "stem", ""))
def test_every_figure_that_a_notebook_asks_for_is_in_the_committed_run(path, named):
    experiment, title = named
    assert path.name.startswith(experiment)
    assert committed.stored_figure(ROOT / "executed" / f"{experiment}.ipynb", title) is not None


# 201 trains nothing: what it shows is the committed records. An `Experiment` shows the committed
# run in its own table.
ON_EVIDENCE = [
    path for path in NUMBERED
    if path.stem[:3] != "201" and "from lab.experiment import" not in path.read_text()
]  # fmt: skip


@pytest.mark.parametrize("path", ON_EVIDENCE, ids=lambda path: path.stem)
def test_every_notebook_shows_its_committed_criteria_where_nbval_does_not_compare(path):
    cells = [cell for cell in jupytext.read(path).cells if "\ncommitted." in f"\n{cell.source}"]
    assert any("committed.criteria(evidence)" in cell.source for cell in cells)
    for cell in cells:
        assert "nbval-ignore-output" in cell.metadata.get("tags", [])
