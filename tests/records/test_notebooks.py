"""The notebooks as files: each has what a run needs, and running one twice changes nothing."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import papermill  # noqa: F401  (which loads the handler; it cannot be imported first)
import pytest
import yaml

from lab import research_log
from lab.evidence import doubts, reproducible, summary_of
from lab.params import plain_yaml
from lab.params.papermill_checks import declared
from lab.params.parameters import check_given
from lab.records.log.notebook import Notebook
from lab.records.papermill_handler import PercentHandler
from lab.research_log import read_notebook

ROOT = Path(__file__).parents[2]
NUMBERED = sorted((ROOT / "notebooks").glob("[0-9]*_*.py"))


def run(*arguments, cwd=ROOT):
    command = [str(Path(sys.executable).with_name("papermill")), *arguments, "--no-progress-bar"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("notebook", NUMBERED, ids=lambda path: path.stem)
@pytest.mark.parametrize("folder", ["", "smoke"])
def test_every_notebook_has_parameters_and_a_committed_result(notebook, folder):
    number = notebook.stem.split("_")[0]
    parameters = yaml.safe_load((ROOT / "params" / folder / f"{number}.yaml").read_text())
    result = ROOT / "executed" / folder / f"{number}.ipynb"
    entry = read_notebook(result)
    assert entry.status == "complete", entry.detail
    assert parameters["experiment"] == number == entry.record["experiment"]
    used = entry.record["parameters"]
    assert used | parameters == used, "the result was made with other parameters than these"


@pytest.mark.parametrize("notebook", NUMBERED, ids=lambda path: path.stem)
@pytest.mark.parametrize("folder", ["", "smoke"])
def test_committed_results_came_from_the_committed_code(notebook, folder):
    number = notebook.stem.split("_")[0]
    result = ROOT / "executed" / folder / f"{number}.ipynb"
    ran = code_of(nbformat.read(result, as_version=4))
    injected = [source for source in ran if source.startswith("# Parameters\n")]
    assert len(injected) == 1
    ran = [source for source in ran if source not in injected]
    if ran == code_of(jupytext.read(notebook)):
        return
    assert not folder, "make smoke runs it again"
    # A full run of an earlier notebook: it is the one that was committed then, and the log says so.
    commit = read_notebook(result).record["environment"]["commit"]
    show = ["git", "show", f"{commit}:notebooks/{notebook.name}"]
    then = subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=False)
    if then.returncode:
        pytest.skip(f"this clone has no commit {commit}: {then.stderr.strip()}")
    assert ran == code_of(jupytext.reads(then.stdout, fmt="py:percent"))
    said = doubts.read(ROOT / "executed", {path.stem[:3] for path in NUMBERED})[number]
    assert any(each.about == "run" for each in said)


def test_the_committed_log_is_what_the_committed_notebooks_say(tmp_path):
    executed = ROOT / "executed"
    (tmp_path / "log").mkdir()
    for path in (*executed.glob("*.ipynb"), executed / "doubts.yaml"):
        (tmp_path / path.name).symlink_to(path)
    shutil.copy(executed / "log" / "history.json", tmp_path / "log")
    research_log.write(tmp_path)
    committed, written = (
        {path.relative_to(folder): path.read_bytes() for path in written_in(folder)}
        for folder in (executed, tmp_path)
    )
    assert committed == written, "regenerate it with python -m lab.research_log --write executed"


def written_in(folder):
    """What the log writes into a folder of executed notebooks."""
    return [folder / "README.md", *sorted((folder / "log").iterdir())]


@pytest.mark.parametrize("notebook", NUMBERED, ids=lambda path: path.stem)
def test_every_notebook_says_what_it_found_with_numbers_of_its_run(notebook):
    calls = [
        node
        for cell in code_of(jupytext.read(notebook))
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("evidence.summary", "exp.conclude")
    ]
    (call,) = calls
    finding = {each.arg: each.value for each in call.keywords}["finding"]
    assert any(isinstance(node, ast.FormattedValue) for node in ast.walk(finding))


@pytest.mark.parametrize("notebook", NUMBERED, ids=lambda path: path.stem)
@pytest.mark.parametrize("folder", ["", "smoke"])
def test_the_figure_that_a_summary_names_is_in_its_notebook(notebook, folder):
    path = ROOT / "executed" / folder / f"{notebook.stem.split('_')[0]}.ipynb"
    summary = summary_of(read_notebook(path).record)
    if summary is None:
        pytest.skip("this run is older than summaries")
    picture = Notebook(path).picture(summary.figure)
    assert picture is not None
    assert summary.figure in ("", picture.title)


@pytest.mark.parametrize("notebook", NUMBERED, ids=lambda path: path.stem)
@pytest.mark.parametrize("folder", ["", "smoke"])
def test_every_parameters_file_passes_the_checks_of_its_notebook(notebook, folder, monkeypatch):
    monkeypatch.chdir(ROOT)
    name = f"{notebook.stem.split('_')[0]}.yaml"
    given = plain_yaml.load_map((ROOT / "params" / folder / name).read_text(), name)
    check_given(declared(jupytext.read(notebook)), given)
    assert PercentHandler().read(str(notebook))


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_the_template_runs_and_the_same_run_gives_the_same_record(tmp_path):
    records = []
    for name in ("first", "second"):
        out = tmp_path / f"{name}.ipynb"
        done = run("notebooks/_template.py", str(out), "-p", "steps", "40", "-p", "samples", "100")
        assert done.returncode == 0, done.stderr
        entry = read_notebook(out)
        assert entry.status == "complete", entry.detail
        records.append(reproducible(entry.record))
    assert records[0] == records[1]
    assert records[0]["criteria"][0]["value"] > 0
