"""What `pytest --nbval` runs when it is typed in the root, in a project of two notebooks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]

# The second cell fails where the first has not run, and the kernel has the user's environment.
CELLS = ["import os\na = 1", "a + 1", "sorted(n for n in os.environ if n == 'TRITON_INTERPRET')"]
OUTPUTS = [None, "2", "[]"]
LEFT_OUT = (
    "The full runs of executed/ (2) take an hour and were left out: name one to run it again, as "
    "in pytest --nbval {}"
)

# In place of tests/conftest.py, which imports torch.
CONFTEST = "import os\n\nos.environ['TRITON_INTERPRET'] = '1'\n"


def save(path):
    cells = [nbformat.v4.new_code_cell(source, execution_count=1) for source in CELLS]
    for cell, shown in zip(cells, OUTPUTS, strict=True):
        data = {"text/plain": shown}
        if shown:
            cell.outputs = [nbformat.v4.new_output("execute_result", data=data, execution_count=1)]
    kernel = {"name": "python3", "language": "python", "display_name": "x"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture
def project(tmp_path):
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("001", "smoke/001", "004", "smoke/004"):
        save(tmp_path / "executed" / f"{name}.ipynb")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text(CONFTEST)
    test = "import os\n\n\ndef test_a():\n    assert os.environ['TRITON_INTERPRET'] == '1'\n"
    (tmp_path / "tests" / "test_a.py").write_text(test)
    return tmp_path


def run(project, *arguments, cwd=".", plugins=("nbval",)):
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    named = [word for plugin in plugins for word in ("-p", f"{plugin}.plugin")]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(
        (*command, *named, *arguments),
        cwd=project / cwd,
        env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def collected(done):
    return sorted({line.split("::")[0] for line in done.stdout.splitlines() if "::" in line})


SMOKE = ["executed/smoke/001.ipynb", "executed/smoke/004.ipynb"]
FULL = ["executed/001.ipynb", "executed/004.ipynb"]


@pytest.mark.parametrize(
    ("arguments", "cwd", "files", "example"),
    [
        (["--nbval"], ".", [*SMOKE, "tests/test_a.py"], "executed/001.ipynb"),
        ([], ".", ["tests/test_a.py"], None),
        (["--nbval", "executed"], ".", SMOKE, "executed/001.ipynb"),
        (["--nbval-lax", "."], "executed", SMOKE, "001.ipynb"),
        (["--nbval", "executed/smoke"], ".", SMOKE, None),
        (["--nbval", "executed/004.ipynb::Cell 0"], ".", FULL[1:], None),
        (["--nbval", *FULL], ".", FULL, None),
    ],
)
def test_full_runs_are_collected_only_where_they_are_named(project, arguments, cwd, files, example):
    done = run(project, "--collect-only", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout
    assert collected(done) == files
    said = [line for line in done.stdout.splitlines() if "left out" in line]
    assert said == ([LEFT_OUT.format(example)] if example else [])


def test_a_full_run_that_is_named_beside_its_folder_is_run(project):
    done = run(project, "--collect-only", "--nbval", "executed", "executed/004.ipynb")
    assert collected(done) == ["executed/004.ipynb", *SMOKE]
    assert "full runs of executed/ (1) take an hour and were left out" in done.stdout


def test_the_regression_runs_in_the_environment_of_users_beside_the_tests(project):
    done = run(project, "--nbval")
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


def test_the_cells_of_a_notebook_stay_together_on_several_workers(project):
    pytest.importorskip("xdist")
    workers = ("-n", "2", "--dist", "load")
    done = run(project, "--nbval", *workers, "executed/smoke", plugins=("nbval", "xdist"))
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout
