"""The programme: what is due runs, what is not stays, and one that fails stops no other."""

import json
import re
import shutil
from pathlib import Path

import pytest

from lab.records import made_of, programme
from lab.records.executed import read_notebook

ROOT = Path(__file__).parents[2]

NOTEBOOK = """\
# %% tags=["parameters"]
experiment: str = "{number}"  # the notebook these parameters belong to
steps: int = 1  # updates, in [1, 100]

# %%
import lab

p = lab.parameters()

# %%
from lab.evidence import Evidence

evidence = Evidence("{number}", title="Tiny", reported={{}}, parameters={{"steps": p.steps}})
if p.steps == 13:
    raise ValueError("thirteen updates")
evidence.check("S1", p.steps, ">", 0)
evidence
"""


def write(root, number, steps, text=NOTEBOOK):
    (root / "notebooks" / f"{number}_tiny.py").write_text(text.format(number=number))
    (root / "params" / f"{number}.yaml").write_text(f'experiment: "{number}"\nsteps: {steps}\n')


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def main(project, *arguments):
    return programme.main(arguments, root=project)


def test_what_fails_stops_no_other_and_what_is_there_is_not_run_again(project, capfd):
    write(project, "300", 13)
    write(project, "301", 2)
    assert main(project) == 1
    out, err = capfd.readouterr()
    assert "300 is due: there is no result yet\n301 is due: there is no result yet\n" in out
    assert "301 runs (2 of 2)\n301 done in " in out
    assert out.endswith("1 run, 0 were up to date, 1 failed\n")
    (line,) = err.splitlines()
    assert re.fullmatch(r"300: stopped in cell 4 \(.*\): ValueError: thirteen updates\.", line)
    assert read_notebook(project / "executed" / "300.ipynb").status == "failed"
    assert read_notebook(project / "executed" / "301.ipynb").record["parameters"] == {"steps": 2}
    assert "stopped in cell 4" in (project / "executed" / "README.md").read_text()
    before = (project / "executed" / "301.ipynb").stat()

    write(project, "300", 3)
    assert main(project, "--workers", "2") == 0
    out, err = capfd.readouterr()
    assert out.startswith("300 is due: its result is failed\n301 is up to date\n300 runs (1 of 1)")
    assert err == ""
    assert (project / "executed" / "301.ipynb").stat() == before
    assert main(project, "--list") == 0
    assert capfd.readouterr().out == "300 is up to date\n301 is up to date\n"


def test_one_notebook_over_a_grid_has_a_result_for_every_combination(project, capfd):
    write(project, "300", 1)
    assert main(project, "300", "--over", "steps", "2", "13") == 1
    out, err = capfd.readouterr()
    assert err.startswith("300 steps=13: stopped in cell 4")
    folder = project / "executed" / "over" / "300"
    assert sorted(path.name for path in folder.iterdir()) == [
        "300_steps=13.ipynb", "300_steps=2.ipynb"
    ]  # fmt: skip
    assert read_notebook(folder / "300_steps=2.ipynb").record["parameters"] == {"steps": 2}
    assert main(project, "300", "--over", "steps", "2", "--list") == 0
    assert capfd.readouterr().out == "300 steps=2 is up to date\n"
    assert not (project / "executed" / "300.ipynb").exists()
    assert not (project / "executed" / "README.md").exists()


def test_all_combinations_have_files_of_their_own(project):
    write(project, "300", 1)
    (one,) = programme.runs(project, ["300"])
    grid = {"sizes": ["[1, 2]", "[3]"], "name": ["a/b", "a b", "'1'"]}
    found = programme.over(one, grid, project / "over")
    assert len({run.result for run in found}) == 6
    assert {run.result.parent for run in found} == {project / "over"}
    assert found[0].given == {"sizes": [1, 2], "name": "a/b"}
    assert found[5].parameters == {"experiment": "300", "steps": 1, "sizes": [3], "name": "1"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["305"], "there is no notebook 305: there are 300, 302"),
        (["302"], "there is no params/302.yaml"),
        (["--over", "steps", "1"], "--over is for one notebook: give its number"),
        (["300", "--over", "steps"], "--over takes a name once, and at least one value after it"),
        (["300", "--over", "steps", "1", "--over", "steps", "2"], "--over takes a name once"),
        (["300", "--over", "steps", "1", "1"], "a value of steps comes twice: 1, 1"),
        (["300", "--over", "steps", "010"], "--over steps"),
    ],
)
def test_what_is_no_programme_is_one_sentence(project, capsys, arguments, sentence):
    write(project, "300", 1)
    write(project, "302", 1)
    (project / "params" / "302.yaml").unlink()
    assert main(project, *arguments) == 1
    assert capsys.readouterr().err.startswith(sentence)


def test_two_notebooks_of_one_number_are_named(project, capsys):
    write(project, "300", 1)
    (project / "notebooks" / "300_again.py").touch()
    assert main(project) == 1
    assert capsys.readouterr().err.startswith("several notebooks are 300: ")


# --- what is due ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A project whose only notebook has run."""
    root = tmp_path_factory.mktemp("executed")
    for name in ("notebooks", "params"):
        (root / name).mkdir()
    write(root, "300", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        assert programme.run_all(programme.runs(root)) == {}
    return root


@pytest.fixture
def done(executed, tmp_path):
    shutil.copytree(executed, tmp_path / "done")
    return tmp_path / "done"


def reason(root):
    (run,) = programme.runs(root)
    return programme.reason(run)


def change(root, edit):
    path = root / "executed" / "300.ipynb"
    notebook = json.loads(path.read_text())
    edit(notebook["metadata"])
    path.write_text(json.dumps(notebook))


def test_a_result_says_what_it_was_made_of(done):
    notebook = json.loads((done / "executed" / "300.ipynb").read_text())
    found = notebook["metadata"][made_of.KEY]
    assert found == made_of.made_of(done / "notebooks" / "300_tiny.py")
    assert {"300_tiny.py", "lab/evidence/record.py", "lab/records/parameters.py"} <= set(
        found["code"]
    )
    assert set(found["versions"]) == {"python", "torch", "numpy", "numba", "scipy"}
    assert found["results"] == {}
    assert notebook["metadata"]["papermill"]["input_path"] == "notebooks/300_tiny.py"
    assert reason(done) == ""


def test_a_change_of_the_notebook_of_its_parameters_or_of_a_version_makes_it_due(done):
    write(done, "300", 3)
    assert reason(done) == "other parameters: steps"
    write(done, "300", 2, NOTEBOOK + "# a remark\n")
    assert reason(done) == "changed: 300_tiny.py"
    write(done, "300", 2)
    assert reason(done) == ""
    change(done, lambda m: m[made_of.KEY]["versions"].update(numpy="1.0"))
    assert re.fullmatch(r"numpy was 1\.0, is \S+", reason(done))
    change(done, lambda m: m[made_of.KEY]["code"].update({"lab/gone.py": "0"}))
    assert reason(done).startswith("changed: lab/gone.py; numpy was")


def test_what_papermill_adds_by_itself_is_no_parameter(done):
    change(done, lambda m: m["papermill"]["parameters"].update(PAPERMILL_INPUT_PATH="a"))
    assert reason(done) == ""


def test_a_result_that_was_cut_off_is_due(done):
    path = done / "executed" / "300.ipynb"
    path.write_text(path.read_text()[:-100])
    assert reason(done) == "its result is unreadable"


def test_an_older_result_is_compared_by_its_commit(done, monkeypatch):
    change(done, lambda m: m.pop(made_of.KEY))
    commit = read_notebook(done / "executed" / "300.ipynb").record["environment"]["commit"]
    clean = "it ran with changes that are in no commit"
    assert reason(done) == (clean if "+" in str(commit) else "0 notebooks have its number")
    path = done / "executed" / "300.ipynb"
    path.write_text(path.read_text().replace(json.dumps(commit), '"0123456789ab"'))
    assert reason(done) == "0 notebooks have its number"  # in the checkout of the library
    unchanged = programme.stale.Result("300.ipynb", "0123456789ab", files=3)
    monkeypatch.setattr(programme.stale, "result", lambda *_: unchanged)
    assert reason(done) == ""
    changed = programme.stale.Result("300.ipynb", "0123456789ab", 3, ("lab/a.py",))
    monkeypatch.setattr(programme.stale, "result", lambda *_: changed)
    assert reason(done) == "changed: lab/a.py"


# --- notebooks that read the results of others ----------------------------------------------------


READER = NOTEBOOK + "from lab.records import executed\n"


def test_a_notebook_that_reads_results_is_due_when_they_are_others(done):
    write(done, "299", 1, READER)
    reader = done / "notebooks" / "299_tiny.py"
    before = made_of.made_of(reader)
    assert list(before["results"]) == ["300.ipynb"]
    path = done / "executed" / "300.ipynb"
    path.write_text(path.read_text().replace('"runtime_s": ', '"runtime_s": 1'))
    assert made_of.changes(before, made_of.made_of(reader)) == ""  # it only took longer
    path.write_text(path.read_text().replace('"value": 2', '"value": 1'))
    found = made_of.changes(before, made_of.made_of(reader))
    assert found == "another result now: 300.ipynb"


def test_a_notebook_that_reads_results_runs_after_the_others(project, monkeypatch, capsys):
    write(project, "299", 1, READER)
    for number in ("300", "301"):
        write(project, number, 1)
    found = programme.runs(project)
    assert [run.name for run in found] == ["300", "301", "299"]
    ran = []
    monkeypatch.setattr(programme, "execute", lambda run, workers: ran.append(run.name) or "")
    assert programme.run_all(list(reversed(found)), workers=3) == {}
    assert ran[-1] == "299"
    assert sorted(ran) == ["299", "300", "301"]
