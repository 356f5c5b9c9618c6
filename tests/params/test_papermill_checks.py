"""Nothing that papermill is given as a parameter of a .py notebook runs code or is misread."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from click.testing import CliRunner
from notebook_cases import BOMB
from notebook_cases import NOTEBOOK as TINY
from papermill.cli import papermill as command

from lab.params.parameters import ParameterError
from lab.records.papermill_handler import PercentHandler, notebook_json

pytestmark = pytest.mark.filterwarnings("ignore:The specified file")

NOTEBOOK = TINY.replace("seeds:", 'lr: float = 0.1  # in (0, 1]\nname: str = "a"  # any\nseeds:')

# papermill wrote these bytes between quotes, as b'"+str(open("pwned","w"))+"'.
CLOSING = base64.b64encode(b'"+str(open("pwned","w"))+"').decode()

# A file of parameters, and what the refusal says of it.
BAD = {
    "code in a key": ("\"lr = 0.5\\nopen('pwned','w')\\nlength\": 5", 'no parameter "lr = 0.5\\n'),
    "a command as a key": ("'!touch pwned; echo x': 7", "no parameter '!touch pwned; echo x'"),
    "a magic as a key": ("'%sx touch pwned': 7", "no parameter '%sx touch pwned'"),
    "a declaration as a key": ('"lr: float": 50.0', "no parameter 'lr: float'"),
    "bytes that close a string": (
        f"name: !!binary {CLOSING}",
        "the tag 'tag:yaml.org,2002:binary' is not allowed",
    ),
    "bytes in a list": ("seeds: [!!binary Ig==]", "the tag 'tag:yaml.org,2002:binary'"),
    "a set": ("name: !!set {a, b}", "the tag 'tag:yaml.org,2002:set'"),
    "a Python object": ("name: !!python/name:os.system ''", "the tag 'tag:yaml.org,2002:python"),
    "a map": ("name: {a: 1}", "name is {'a': 1} (dict), and must be str"),
    "a list in a list": ("seeds: [[1]]", "seeds[0] is [1] (list), and must be int"),
    "a key twice": ("length: 64\nlength: 65", "line 2: length was given before, on line 1"),
    "octal": ("length: 010", "line 1: YAML 1.1 reads 010 as 8"),
    "sexagesimal": ("length: 1:30", "line 1: YAML 1.1 reads 1:30 as 90"),
    "nan": ("lr: .nan", "line 1: YAML 1.1 reads .nan as nan"),
    "infinity": ("lr: .inf", "line 1: YAML 1.1 reads .inf as inf"),
    "nothing": ("", "is empty: write NAME: VALUE, or leave it out"),
    "a seed twice": ("seeds: [1, 1]", "seeds holds 1 twice, which counts one run as two"),
    "no seed": ("seeds: []", "seeds is [] (list), and must be list[int] with at least one"),
    "a tab": ("length:\t64", "line 1: a tab stands where YAML wants spaces"),
    "a bomb": (BOMB, "line 1: &a refers to another place"),
    "half a character": ('name: "\\ud83d"', "line 1: half a character (a surrogate)"),
    "out of range": ("length: 1", "length is 1 (int), and must be in [2, 4096]"),
    "another experiment": ('experiment: "004"', "these parameters are for experiment 004"),
    "null": ("length:", "length is None (NoneType), and must be int"),
    "no map": ("[1]", "holds [1] (list), and must be a map"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("007_tiny.py").write_text(NOTEBOOK)
    return tmp_path


def refusal(*arguments):
    """The one line that papermill ends with, before it has written or run anything."""
    done = CliRunner().invoke(command, ["007_tiny.py", "out.ipynb", "--prepare-only", *arguments])
    assert done.exit_code == 1, done.output
    assert sorted(path.name for path in Path().iterdir() if "out" in path.name) == []
    lines = done.output.splitlines()
    assert len(lines) == 1, done.output
    assert lines[0].startswith("Error: ")
    assert len(lines[0]) < 400
    return lines[0]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_one_sentence_however_it_is_handed_over(folder, name):
    text, words = BAD[name]
    Path("p.yaml").write_text(text)
    encoded = base64.b64encode(text.encode()).decode()
    for label, arguments in [
        ("p.yaml", ("-f", "p.yaml")),
        ("-y", ("-y", text)),
        ("-b", ("-b", encoded)),
    ]:
        sentence = refusal(*arguments)
        assert words in sentence
        assert "line" not in words or sentence.startswith(f"Error: {label}, ")


@pytest.mark.parametrize("option", ["-p", "-r"])
@pytest.mark.parametrize(
    "key", ["lr = 0.5\nopen('pwned','w')\nlength", "!touch pwned; echo x", "lr: float", "print", ""]
)
def test_a_bad_name_is_refused_on_the_command_line(folder, option, key):
    assert "this notebook has no parameter" in refusal(option, key, "5")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-p", "length", "010"), "-p length '010' would be read as 10: write a finite decimal"),
        (("-p", "length", "1_0"), "-p length '1_0' would be read as 10"),
        (("-p", "length", " 64"), "-p length ' 64' would be read as 64"),
        (("-p", "length", "٦٤"), "-p length '٦٤' would be read as 64"),
        (("-p", "length", "1:30"), "length is '1:30' (str), and must be int"),
        (("-p", "lr", "nan"), "-p lr 'nan' would be read as nan"),
        (("-p", "lr", "-inf"), "-p lr '-inf' would be read as -inf"),
        (("-p", "lr", "1e400"), "lr is inf (float), and must be a finite float"),
        (("-p", "lr", ""), "lr is '' (str), and must be float"),
        (("-p", "lr", "\ud83d"), r"lr is '\ud83d' (str), and must be float"),
        (("-r", "name", "\ud83d"), r"name is '\ud83d' (str), and must be text without halves"),
        (("-p", "length", "64", "-p", "length", "65"), "-p length was given before: keep one"),
        (("-p", "name", "a", "-r", "name", "b"), "-r name was given before: keep one"),
        (("-r", "length", "64"), "length is '64' (str), and must be int"),
        (("-p", "seeds", "[1, 1]"), "seeds is '[1, 1]' (str), and must be list[int]"),
        (("-p", "experiment", "007"), "-p experiment '007' would be read as 7"),
        (("-b", "a"), "-b 'a' is not base64 of a YAML text"),
        (("-b", "!!!!"), "-b '!!!!' is not base64 of a YAML text"),
        (("-b", ""), "-b is empty"),
        (("-b", base64.b64encode("length: 64".encode("utf-16")).decode()), "does not hold UTF-8"),
        (("-f", "missing.yaml"), "the parameters file missing.yaml cannot be read: No such file"),
        (("-f", "."), "the parameters file . cannot be read: Is a directory"),
        (("-f", "a\0b"), "cannot be read: embedded null byte"),
    ],
)
def test_what_is_misread_on_a_command_line_is_refused(folder, arguments, words):
    assert words in refusal(*arguments)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-32"])
def test_a_file_in_another_encoding_is_refused(folder, encoding):
    Path("p.yaml").write_bytes("length: 64  # é\n".encode(encoding))
    assert "p.yaml" in refusal("-f", "p.yaml")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no file without an end here")
def test_a_file_without_an_end_is_refused(folder):
    assert "holds more than" in refusal("-f", "/dev/zero")


def test_later_sources_override_earlier_ones_as_papermill_has_it(folder):
    Path("a.yaml").write_bytes("\ufeffexperiment: '007'\nlength: 64\nlr: 0.5\n".encode())
    Path("b.yaml").write_text("lr: 1\n")
    encoded = base64.encodebytes(b"length: 3\nname: b\n").decode()
    done = CliRunner().invoke(
        command,
        ["007_tiny.py", "out.ipynb", "--prepare-only", "-b", encoded, "-f", "a.yaml",
         "-f", "b.yaml", "-y", "seeds: [7, 8]", "-p", "length", "65", "-r", "name", '010"\\',
         "--inject-paths"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    written = nbformat.read("out.ipynb", as_version=4)
    (cell,) = [c for c in written.cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert cell.source.splitlines()[1:] == [
        'PAPERMILL_INPUT_PATH = "007_tiny.py"', 'PAPERMILL_OUTPUT_PATH = "out.ipynb"',
        "length = 65", r'name = "010\"\\"', 'experiment = "007"', "lr = 1", "seeds = [7, 8]",
    ]  # fmt: skip
    assert written.metadata.papermill.parameters["lr"] == 1


def test_a_file_of_parameters_is_read_once(folder):
    os.mkfifo("p.yaml")
    writer = subprocess.Popen(["sh", "-c", "echo 'length: 64' > p.yaml"])
    done = CliRunner().invoke(
        command, ["007_tiny.py", "out.ipynb", "--prepare-only", "-f", "p.yaml"]
    )
    assert writer.wait(timeout=10) == 0
    assert done.exit_code == 0, done.output
    assert "length = 64" in Path("out.ipynb").read_text()


def test_help_refuses_bad_parameters_too(folder):
    done = CliRunner().invoke(command, ["--help-notebook", "007_tiny.py", "-y", "length: 010"])
    assert done.exit_code == 1
    assert "YAML 1.1 reads 010 as 8" in done.output


def test_nothing_runs_in_a_process_of_its_own(folder):
    # The reproduction as it was reported: exit status 0, and the file was there.
    Path("p.yaml").write_text(BAD["code in a key"][0])
    program = Path(sys.executable).with_name("papermill")
    done = subprocess.run(
        [program, "007_tiny.py", "out.ipynb", "-f", "p.yaml"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["007_tiny.py", "p.yaml"]


# --- papermill's functions -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {"!touch pwned": 1},
        {"lr: float": 50.0},
        {"name": b'"+str(open("pwned", "w"))+"'},
        {"seeds": [1, 1]},
        {"lr": float("nan")},
        {"lengt": 3},
    ],
)
def test_the_function_refuses_before_it_injects(folder, parameters):
    with pytest.raises(ParameterError):
        papermill.execute_notebook(
            "007_tiny.py", "out.ipynb", parameters, prepare_only=True, progress_bar=False
        )
    assert [path.name for path in folder.iterdir()] == ["007_tiny.py"]


def loaded(text=NOTEBOOK):
    from papermill.iorw import load_notebook_node

    return load_notebook_node(notebook_json(text, "007_tiny.py"))


def test_a_file_named_to_the_function_is_read_strictly(folder):
    from papermill.parameterize import parameterize_notebook

    Path("p.yaml").write_text("length: 010")
    with pytest.raises(ValueError, match=r"YAML 1\.1 reads 010 as 8"):
        parameterize_notebook(loaded(), "p.yaml")


def test_a_translator_that_writes_something_else_is_found_out(folder):
    # The one for shells does not quote a word, so that print would be the function.
    with pytest.raises(ParameterError, match="run the notebook with its own kernel and language"):
        papermill.execute_notebook(
            "007_tiny.py", "out.ipynb", {"name": "print"}, language="bash", prepare_only=True
        )
    assert not Path("out.ipynb").exists()


def test_a_result_that_is_run_again_is_checked_alike(folder):
    papermill.execute_notebook("007_tiny.py", "out.ipynb", {"length": 3}, prepare_only=True)
    with pytest.raises(ParameterError, match="no parameter"):
        papermill.execute_notebook("out.ipynb", "again.ipynb", {"!ls": 3}, prepare_only=True)


def test_other_notebooks_keep_what_papermill_does(folder):
    cell = nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "language": "python", "display_name": "x"}
    other = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(other, "in.ipynb")
    done = CliRunner().invoke(
        command, ["in.ipynb", "out.ipynb", "--prepare-only", "-y", "a: 010", "-p", "b", "1_0"]
    )
    assert done.exit_code == 0, done.output
    assert (
        nbformat.read("out.ipynb", as_version=4).cells[1].source == "# Parameters\na = 8\nb = 10\n"
    )


def test_two_tagged_cells_are_refused(folder):
    text = NOTEBOOK + '\n# %% tags=["parameters"]\nother = 1\n'
    Path("007_tiny.py").write_text(text)
    assert "2 cells of this notebook have the tag parameters" in refusal("-p", "length", "64")


def test_parameters_of_a_notebook_that_declares_none_are_refused(folder):
    Path("007_tiny.py").write_text("# %%\na = 1\n")
    assert "0 cells of this notebook have the tag parameters" in refusal("-p", "a", "2")


def test_a_cell_that_could_be_taken_for_the_parameters_cell_is_refused(folder):
    Path("007_tiny.py").write_text(NOTEBOOK.replace("import os\nimport lab", "bound: float = 0.1"))
    assert "'bound: float = 0.1' would be taken for the parameters cell" in refusal()


def test_the_handler_is_that_of_every_local_file():
    from papermill.iorw import papermill_io

    assert isinstance(papermill_io.get_handler("a.py"), PercentHandler)
    assert json.loads(notebook_json(NOTEBOOK, "007_a.py"))["cells"]
