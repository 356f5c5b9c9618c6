"""The stock papermill command on a .py notebook, in a process of its own, as users run it."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click import ClickException
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from notebook_cases import NOTEBOOK

from lab.records.made_of import KEY

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

# How far a run has come before its first cell, from a .py and from an .ipynb.
WAITING = [{"cell_type": "code", "source": ["a = 1"], "metadata": {}, "outputs": []}]
FROM_TEXT = json.dumps({"cells": WAITING, "metadata": {"jupytext": {}}})
OTHER = json.dumps({"cells": WAITING, "metadata": {}})
FINISHED = json.dumps({"cells": [], "metadata": {}})


def run(*command, cwd, stdin=""):
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=cwd, input=stdin, env=environment, capture_output=True, text=True, timeout=120
    )


def workspace(folder):
    for name in ("notebooks", "params", "executed", "elsewhere"):
        (folder / name).mkdir()
    (folder / "notebooks" / "007_tiny.py").write_text(NOTEBOOK)
    (folder / "params" / "007.yaml").write_text('experiment: "007"\nlength: 64\n')
    return folder


def outputs(notebook):
    return ["".join(o["text"]) for c in notebook["cells"] for o in c.get("outputs", [])]


@pytest.fixture
def folder(tmp_path):
    return workspace(tmp_path)


@pytest.fixture
def handler():
    import papermill  # noqa: F401  (the handler is loaded half-way through this import)

    from lab.records.papermill_handler import handler

    return handler


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """One run in full, with its folder, and what it wrote."""
    folder = workspace(tmp_path_factory.mktemp("workspace"))
    done = run(
        *("papermill", "notebooks/007_tiny.py", "executed/007.ipynb", "-f", "params/007.yaml"),
        *("-y", "seeds: [5]", "--inject-paths", "--cwd", "elsewhere"),
        cwd=folder,
    )
    return done, folder, json.loads((folder / "executed" / "007.ipynb").read_text())


def test_a_run_is_recorded_with_its_parameters(executed):
    done, folder, notebook = executed
    assert done.returncode == 0, done.stderr
    printed = "Parameters(experiment='007', length=64, seeds=[5])\n"
    assert outputs(notebook) == [printed, f"{folder / 'elsewhere'}\n"]
    assert notebook["metadata"]["papermill"]["parameters"] == {
        "experiment": "007",
        "length": 64,
        "seeds": [5],
        "PAPERMILL_INPUT_PATH": "notebooks/007_tiny.py",
        "PAPERMILL_OUTPUT_PATH": "executed/007.ipynb",
    }
    assert notebook["metadata"]["jupytext"]["text_representation"]["format_name"] == "percent"


def test_papermill_does_not_warn_of_the_extension(executed):
    assert "Warning" not in executed[0].stderr
    assert "does not end in" not in executed[0].stderr


def test_nothing_but_the_result_is_left(executed):
    folder = executed[1]
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == ["executed/007.ipynb", "notebooks/007_tiny.py", "params/007.yaml"]


def test_nbval_compares_the_result_with_a_fresh_run(executed, tmp_path):
    _, folder, notebook = executed
    nbval = (sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--nbval")
    plugins = ("-p", "no:cacheprovider", "--rootdir", str(tmp_path))
    printing = next(c for c in notebook["cells"] if c["source"] == ["print(p)"])
    printing["outputs"][0]["text"] = ["Parameters(experiment='007', length=63, seeds=[5])\n"]
    (tmp_path / "changed.ipynb").write_text(json.dumps(notebook))
    done = run(*nbval, *plugins, "executed/007.ipynb", str(tmp_path / "changed.ipynb"), cwd=folder)
    assert "1 failed, 11 passed" in done.stdout, done.stdout


def test_a_wrong_parameter_is_one_sentence_and_costs_no_result(executed, folder):
    result, kept = folder / "executed" / "007.ipynb", folder / "executed" / "007.ipynb.previous"
    result.write_text(json.dumps(executed[2]))
    finished = result.read_bytes()
    papermill = ("papermill", "notebooks/007_tiny.py", "executed/007.ipynb")

    done = run(*papermill, "-p", "lenght", "64", cwd=folder)
    assert done.returncode == 1
    assert done.stderr == "Error: this notebook has no parameter lenght: did you mean length?\n"
    assert result.read_bytes() == finished
    assert not kept.exists()


def test_a_run_that_fails_keeps_what_was_finished_until_another_has(executed, folder):
    result, kept = folder / "executed" / "007.ipynb", folder / "executed" / "007.ipynb.previous"
    result.write_text(json.dumps(executed[2]))
    finished = result.read_bytes()
    source = folder / "notebooks" / "007_tiny.py"
    papermill = ("papermill", "notebooks/007_tiny.py", "executed/007.ipynb")
    sentence = "ParameterError: no parameters cell ran before lab.parameters(): write one, of lines"

    # An error that only the run can find: the cell is not tagged, and says something else.
    untagged = NOTEBOOK.replace(' tags=["parameters"]', "").replace("\nseeds", "\nb = 0\nseeds")
    source.write_text(untagged)
    done = run(*papermill, cwd=folder)
    assert done.returncode == 1
    assert sentence in done.stderr.rstrip().splitlines()[-1]
    assert "lab/params/parameters.py" not in done.stderr  # no traceback through the checks
    written = json.loads(result.read_text())
    errors = [o for c in written["cells"] for o in c.get("outputs", []) if "ename" in o]
    assert [error["traceback"][0].startswith(sentence) for error in errors] == [True]
    assert kept.read_bytes() == finished

    source.write_text(NOTEBOOK)
    done = run(*papermill, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "length=128" in outputs(json.loads(result.read_text()))[0]
    assert not kept.exists()


def test_help_shows_names_types_defaults_and_comments(folder):
    done = run("papermill", "--help-notebook", "notebooks/007_tiny.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    shown = re.sub(r"\s+", " ", done.stdout)
    assert "length: int (default 128) time steps, in [2, 4096]" in shown
    assert "seeds: list[int] (default [0, 1, 2]) one model each" in shown


def test_a_folder_is_filled_under_the_name_of_the_notebook(folder):
    done = run(
        *("papermill", "../notebooks/007_tiny.py", "../executed", "--prepare-only"),
        *("-p", "length", "3"),
        cwd=folder / "elsewhere",
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    notebook = json.loads((folder / "executed" / "007_tiny.ipynb").read_text())
    ids = [cell["id"] for cell in notebook["cells"]]
    assert [*ids[:2], *ids[3:]] == [f"cell-{i}" for i in range(6)]
    assert notebook["cells"][2]["source"] == ["# Parameters\n", "length = 3\n"]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


# pytest's own filters hide those of the handler; the runs above show that it keeps papermill quiet.
@pytest.mark.filterwarnings("ignore:The specified file")
@pytest.mark.parametrize(
    ("start", "source", "target", "written"),
    [
        (".", "./notebooks/007_tiny.py", "elsewhere/a.ipynb", "elsewhere/a.ipynb"),
        (".", "{0}/notebooks/007_tiny.py", "{0}/a.ipynb", "a.ipynb"),
        ("elsewhere", "../notebooks/007_tiny.py", "../a.ipynb", "a.ipynb"),
        ("notebooks", "007_tiny.py", "{0}/executed/", "executed/007_tiny.ipynb"),
        ("..", "{1}/notebooks/007_tiny.py", "{1}/a.ipynb", "a.ipynb"),
    ],
)
def test_a_notebook_may_be_named_by_any_path(
    folder, monkeypatch, handler, start, source, target, written
):
    import papermill

    monkeypatch.chdir(folder / start)
    paths = [path.format(folder, folder.name) for path in (source, target)]
    papermill.execute_notebook(*paths, prepare_only=True, progress_bar=False)
    assert len(json.loads((folder / written).read_text())["cells"]) == 6


def test_a_notebook_that_is_not_there_is_one_sentence(folder):
    done = run("papermill", "notebooks/x.py", "x.ipynb", cwd=folder)
    assert done.returncode == 1
    assert done.stderr.splitlines()[2:] == ["Error: there is no notebook notebooks/x.py"]


# How a magic is written in a .py: as a comment, which jupytext turns into the magic.
REMEDY = "is IPython and no Python, which a .py must be: write it as a comment"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("a = 1\n", "a.py is not a py:percent notebook: no line starts a cell with # %%"),
        ("# %%\na = 1\n\n# %%\nb = (\n", "a.py, line 5: '(' was never closed"),
        ("# %%\na = 1\n%time a\n", f"a.py, line 3: '%time a' {REMEDY}, '# %time a', and it runs"),
        ("# %%\n%%time\na = 1\n", f"a.py, line 2: '%%time' {REMEDY}, '# %%time'"),
        ("# %%\nif a:\n    !ls -l\n", f"a.py, line 3: '!ls -l' {REMEDY}, '# !ls -l'"),
        ("# %%\nfiles = !ls\n", f"a.py, line 2: 'files = !ls' {REMEDY}"),
        ("# %%\nx = %pwd\n", f"a.py, line 2: 'x = %pwd' {REMEDY}"),
        ("# %%\nprint?\n", f"a.py, line 2: 'print?' {REMEDY}"),
        ("# %%\n?print\n", f"a.py, line 2: '?print' {REMEDY}"),
        ("# %%\na = 1 +\n", "a.py, line 2: invalid syntax"),
        ("# %%\na = 5 % % 2\n", "a.py, line 2: invalid syntax"),
        ("# %%\na\0 = 1\n", "null bytes"),
        ("# %%\n" + "(" * 500 + ")" * 500, "a.py"),
    ],
)
def test_what_is_no_notebook_is_one_sentence(tmp_path, monkeypatch, handler, source, sentence):
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text(source)
    with pytest.raises(ClickException) as error:
        handler.read("a.py")
    assert sentence in error.value.message
    assert "\n" not in error.value.message


def test_the_remedy_for_a_magic_works(handler):
    from lab.records.papermill_handler import notebook_json

    cells = json.loads(notebook_json("# %%\n# %time a\n# !ls -l\n# x = !ls\n", "a.py"))["cells"]
    assert cells[0]["source"] == ["%time a\n", "!ls -l\n", "x = !ls"]


def test_a_byte_order_mark_is_accepted(tmp_path, handler):
    (tmp_path / "plain.py").write_bytes(NOTEBOOK.encode())
    (tmp_path / "marked.py").write_bytes(NOTEBOOK.encode("utf-8-sig"))
    read = [json.loads(handler.read(str(tmp_path / f"{name}.py"))) for name in ("marked", "plain")]
    marked, plain = ({**each, "metadata": each["metadata"] | {KEY: {}}} for each in read)
    assert marked == plain


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_notebook_in_another_encoding_is_one_sentence(tmp_path, handler, encoding):
    (tmp_path / "a.py").write_bytes(f"# -*- coding: {encoding} -*-\n# %%\n# é\n".encode(encoding))
    with pytest.raises(ClickException, match=r"a\.py is not UTF-8: save it as UTF-8"):
        handler.read(str(tmp_path / "a.py"))


def test_a_folder_named_like_a_notebook_is_one_sentence(tmp_path, handler):
    (tmp_path / "a.py").mkdir()
    with pytest.raises(ClickException, match=r"a\.py cannot be read: Is a directory"):
        handler.read(str(tmp_path / "a.py"))


# Each of them was overlooked by --help-notebook, and warned of when it was passed.
ODD = """\
title: str = "a = b"  # what stands above
sign: str = "#"  # a mark, one of x
note: str = "a"  # x = 3 # or y == 4
steps: int = (
    250  # updates = steps, in [1, 1000]
)
rates: list[float] = [
    0.1,  # slow
    0.5,  # fast = better
]
flag: bool = True
"""


@pytest.mark.filterwarnings("ignore:The specified file")
def test_declarations_with_signs_and_on_several_lines_are_shown_and_known(folder, caplog):
    import papermill

    odd = ODD.replace(", one of x", "")
    source = folder / "notebooks" / "007_tiny.py"
    source.write_text(NOTEBOOK.replace('experiment: str = "007"', odd + 'experiment: str = "007"'))
    shown = papermill.inspect_notebook(str(source))
    assert list(shown) == [
        "title", "sign", "note", "steps", "rates", "flag", "experiment", "length", "seeds"
    ]  # fmt: skip
    assert [shown[name]["default"] for name in ("title", "sign", "steps", "rates", "flag")] == [
        "'a = b'", "'#'", "250", "[0.1, 0.5]", "True"
    ]  # fmt: skip
    assert shown["note"]["help"] == "x = 3 # or y == 4"
    assert shown["steps"]["help"] == "updates = steps, in [1, 1000]"
    assert shown["rates"]["help"] == "slow fast = better"
    given = {"title": "c", "steps": 3, "rates": [0.5]}
    papermill.execute_notebook(
        source, folder / "a.ipynb", given, prepare_only=True, progress_bar=False
    )
    assert "unknown parameter" not in caplog.text


def test_a_malformed_declaration_is_refused_before_anything_runs(tmp_path, handler):
    (tmp_path / "007_a.py").write_text(NOTEBOOK.replace("[2, 4096]", "[2; 4096]"))
    with pytest.raises(ClickException, match=r"length: int has 'in \[2; 4096\]' in its comment"):
        handler.read(str(tmp_path / "007_a.py"))


RECORD = '\n# %%\nevidence = lab.evidence.Evidence("007", title="x")\n'
UNTITLED = RECORD.replace('title="x"', 'title="The question in a few words"')
COPY = "is a copy of the template and still says NNN: give its number to the file"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("007_a.py", NOTEBOOK, None),
        ("007_a.py", NOTEBOOK + RECORD, None),
        ("scratch.py", NOTEBOOK + RECORD, None),
        ("2024_report.py", NOTEBOOK, None),
        ("_template.py", NOTEBOOK.replace('"007"', '"NNN"') + RECORD.replace("007", "NNN"), None),
        ("008_a.py", NOTEBOOK, "008_a.py says that it is experiment 007: give its number to"),
        ("008_a.py", NOTEBOOK.replace('"007"', '"NNN"'), COPY),
        ("008_a.py", NOTEBOOK.replace("007", "008") + RECORD.replace("007", "NNN"), COPY),
        (
            "008_a.py",
            NOTEBOOK.replace("007", "008") + RECORD,
            "is experiment 008 and has Evidence(",
        ),
        ("NNN_a.py", NOTEBOOK.replace('"007"', '"NNN"'), COPY),
        ("NNN_a.py", NOTEBOOK, "NNN_a.py says that it is experiment 007"),
        ("scratch.py", NOTEBOOK.replace('"007"', '"NNN"'), COPY),
        ("_template.py", NOTEBOOK + UNTITLED, None),
        ("007_a.py", NOTEBOOK + UNTITLED, "007_a.py still has the title of the template, 'The"),
        ("scratch.py", "# %%\n1\n" + UNTITLED, "give Evidence a title of its own"),
        (
            "scratch.py",
            NOTEBOOK.replace("007", "008") + RECORD,
            "is experiment 008 and has Evidence",
        ),
    ],
)
def test_an_experiment_has_one_number_and_title_and_a_copied_template_none(
    tmp_path, handler, name, text, sentence
):
    (tmp_path / name).write_text(text)
    if sentence is None:
        assert json.loads(handler.read(str(tmp_path / name)))["cells"]
        return
    with pytest.raises(ClickException) as error:
        handler.read(str(tmp_path / name))
    assert sentence in error.value.message
    assert "\n" not in error.value.message


def test_a_missing_output_folder_is_one_sentence(tmp_path, handler):
    with pytest.raises(ClickException, match=f"there is no folder {tmp_path}/missing"):
        handler.write(FROM_TEXT, str(tmp_path / "missing" / "a.ipynb"))


def test_a_result_does_not_replace_its_source(tmp_path, handler):
    (tmp_path / "a.py").write_text(NOTEBOOK)
    with pytest.raises(ClickException, match=r"ends in \.ipynb"):
        handler.write(FROM_TEXT, str(tmp_path / "a.py"))
    assert (tmp_path / "a.py").read_text() == NOTEBOOK


def test_the_same_text_gives_the_same_notebook(handler):
    from lab.records.papermill_handler import notebook_json

    assert notebook_json(NOTEBOOK, "a.py") == notebook_json(NOTEBOOK, "a.py")


def test_ipynb_files_and_pipes_are_left_to_papermill(folder):
    code = {"cell_type": "code", "id": "a", "metadata": {}, "source": ["a = 1"]}
    notebook = {
        "cells": [code | {"outputs": [], "execution_count": None}],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (folder / "in.ipynb").write_text(json.dumps(notebook))
    filed = run("papermill", "in.ipynb", "out.ipynb", "--prepare-only", cwd=folder)
    assert filed.returncode == 0, filed.stderr
    written = json.loads((folder / "out.ipynb").read_text())
    piped = run(
        "papermill", "-", "-", "--prepare-only", cwd=folder, stdin=(folder / "in.ipynb").read_text()
    )
    assert piped.returncode == 0, piped.stderr
    for answer in (written, json.loads(piped.stdout)):
        assert answer["metadata"]["kernelspec"] == notebook["metadata"]["kernelspec"]
        assert [(cell["id"], cell["source"]) for cell in answer["cells"]] == [("a", ["a = 1"])]
    # A folder is no place for papermill to write to, and stays none.
    refused = run("papermill", "in.ipynb", "executed", "--prepare-only", cwd=folder)
    assert "IsADirectoryError" in refused.stderr


def test_papermill_loads_the_handler_that_serves_every_local_path(handler):
    from papermill.iorw import papermill_io

    for path in ("a.py", "./a.py", "/a.py", "../a.py", "notebooks/a.py", "a.ipynb", "a.yaml"):
        assert papermill_io.get_handler(path) is handler
    for path in ("-", "s3://a.py", "https://a.org/a.py"):
        assert papermill_io.get_handler(path) is not handler


@pytest.mark.parametrize(("text", "is_from_text"), [(FROM_TEXT, True), (OTHER, False)])
def test_only_runs_of_py_notebooks_write_in_one_piece_and_keep_what_was_finished(
    handler, tmp_path, text, is_from_text
):
    target = tmp_path / "a.ipynb"
    target.write_text(FINISHED)
    target.with_suffix(".link").hardlink_to(target)
    handler.write(text, str(target))
    assert target.read_text() == text
    # The other name still leads to the old file, unless that file itself was written over.
    assert (target.with_suffix(".link").read_text() == FINISHED) is is_from_text
    kept = {path.name: path.read_text() for path in tmp_path.glob("*.previous")}
    assert kept == ({"a.ipynb.previous": FINISHED} if is_from_text else {})


@pytest.mark.parametrize("old", ["", "{", FROM_TEXT])
def test_what_was_not_finished_is_not_kept(handler, tmp_path, old):
    (tmp_path / "a.ipynb").write_text(old)
    handler.write(FROM_TEXT, str(tmp_path / "a.ipynb"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.ipynb"]
    # Nor does it take the place of what was kept before.
    (tmp_path / "a.ipynb.previous").write_text(FINISHED)
    handler.write(FROM_TEXT, str(tmp_path / "a.ipynb"))
    assert (tmp_path / "a.ipynb.previous").read_text() == FINISHED


def test_a_pipe_is_written_to_and_not_replaced(handler, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_text()))
    reader.start()
    handler.write(FROM_TEXT, str(tmp_path / "pipe"))
    reader.join(timeout=10)
    assert received == [FROM_TEXT]
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("is_text", [True, False])
def test_a_run_from_text_is_written_once_for_every_code_cell(handler, monkeypatch, is_text):
    from papermill import engines

    from lab.records import papermill_saves

    papermill_saves.install()
    written = []

    def keep(notebook, path):
        written.append([cell.metadata.papermill["status"] for cell in notebook.cells])

    monkeypatch.setattr(engines, "write_ipynb", keep)
    metadata = {"papermill": {}, **({"jupytext": {}} if is_text else {})}
    cells = [new_markdown_cell("A text."), new_code_cell("a = 1"), new_code_cell("a")]
    notebook = new_notebook(cells=cells, metadata=metadata)
    manager = engines.NotebookExecutionManager(notebook, "007.ipynb", progress_bar=False)
    manager.notebook_start()
    for index, cell in enumerate(notebook.cells):
        manager.cell_start(cell, index)
        manager.cell_complete(cell, cell_index=index)
    manager.notebook_complete()
    if is_text:
        assert written == [
            ["pending", "pending", "pending"],
            ["completed", "running", "pending"],
            ["completed", "completed", "running"],
            ["completed", "completed", "completed"],
        ]
    else:
        assert len(written) == 2 + 2 * len(cells)
