"""The Makefile, with stand-ins for Python: nothing is installed and no network is used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Of a Python, `make setup` needs that it answers these; what it was asked is in calls.log.
PYTHON = """\
#!/bin/sh
echo "$*" >> {folder}/calls.log
case "$*" in
  "-m venv --clear .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-m pip install"*) test ! -e {folder}/offline ;;
esac
"""
OTHER_PYTHON = '#!/bin/sh\ntest "$1" = --version && echo "Python {}" && exit 0\nexit 1\n'
BARE_PYTHON = '#!/bin/sh\ncase "$*" in *venv*) exit 1 ;; esac\n'


def make(folder, *arguments):
    # What a `make test` around this test was told is not for the makes within.
    environment = {k: v for k, v in os.environ.items() if "MAKE" not in k}
    for name in ("NN", "NAME", "PYTHON", "LAB_FLAGS", "WORKERS"):
        environment.pop(name, None)
    return subprocess.run(
        ("make", *arguments), cwd=folder, env=environment, capture_output=True, text=True
    )


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """A checkout with two notebooks and nothing installed."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    notebooks = ("notebooks/004_osc_dplr.py", "notebooks/022_other.py")
    settings = (
        "lab/plots/jupyter_nbconvert_config.json",
        "lab/records/default_setting_overrides.json",
    )
    for name in (
        *notebooks,
        "params/004.yaml",
        "params/022.yaml",
        "params/smoke/004.yaml",
        *settings,
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "Python 3.11 to 3.14 is needed, and there is no {} here"),
        (OTHER_PYTHON.format("3.9.2"), "Python 3.11 to 3.14 is needed, and {} is Python 3.9.2"),
        (BARE_PYTHON, "{} lacks the modules venv and ensurepip (on Debian, install python3-venv)"),
    ],
)
def test_a_python_that_will_not_do_is_named(folder, text, sentence):
    python = str(folder / "python9") if text is None else script(folder / "python9", text)
    done = make(folder, "setup", f"PYTHON={python}")
    assert done.returncode != 0
    remedy = "name another one, as in make PYTHON=python3.12 setup."
    assert done.stderr.splitlines()[0] == f"{sentence.format(python)}: {remedy}"
    assert not (folder / ".venv").exists()


def test_setup_is_resumed_after_an_interruption_and_done_once(folder):
    python = f"PYTHON={script(folder / 'python9', PYTHON.format(folder=folder))}"
    calls = folder / "calls.log"
    (folder / "offline").touch()
    assert make(folder, "setup", python).returncode != 0
    (folder / "offline").unlink()
    calls.unlink()
    assert make(folder, "setup", python).returncode == 0
    install = "-m pip install -c constraints.txt -e .[notebooks,gpu,cluster,text,docs,dev]"
    assert calls.read_text().splitlines() == ["-m pip --version", install]  # no second environment
    calls.unlink()
    assert make(folder, "setup", python).returncode == 0
    assert not calls.exists()
    os.utime(folder / ".venv" / "installed", (0, 0))  # as after a change of constraints.txt
    assert make(folder, "setup", python).returncode == 0
    assert install in calls.read_text()


def test_a_change_of_settings_reaches_an_installed_environment(folder):
    python = f"PYTHON={script(folder / 'python9', PYTHON.format(folder=folder))}"
    assert make(folder, "setup", python).returncode == 0
    (folder / "calls.log").unlink()
    copies = {
        "lab/records/default_setting_overrides.json": "labconfig/default_setting_overrides.json",
        "lab/plots/jupyter_nbconvert_config.json": "jupyter_nbconvert_config.json",
    }
    for source, copy in copies.items():
        assert (folder / ".venv/etc/jupyter" / copy).read_text() == ""
        (folder / source).write_text(source)
        later = (folder / ".venv/etc/jupyter" / copy).stat().st_mtime + 10
        os.utime(folder / source, (later, later))
    assert make(folder, "setup", python).returncode == 0
    for source, copy in copies.items():
        assert (folder / ".venv/etc/jupyter" / copy).read_text() == source
    assert not (folder / "calls.log").exists()  # nothing was installed again


def test_an_unknown_notebook_is_told_those_that_exist(folder):
    done = make(folder, "run", "NN=999")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == "There is no notebook 999: choose NN from 004 022."
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["run"], "papermill notebooks/004_osc_dplr.py executed/004.ipynb -f params/004.yaml"),
        (
            ["run", "NN=022"],
            "papermill notebooks/022_other.py executed/022.ipynb -f params/022.yaml",
        ),
        (
            ["smoke"],
            "papermill notebooks/004_osc_dplr.py executed/smoke/004.ipynb -f params/smoke/004.yaml",
        ),
        (["all"], "python -m lab.records.programme --workers 1"),
        (["all", "WORKERS=2"], "python -m lab.records.programme --workers 2"),
        (["stale"], "python -m lab.research_log --stale executed"),
        (["test"], "pytest -n 2 --dist loadfile"),
        (["test", "WORKERS=4"], "pytest -n 4 --dist loadfile"),
        (["docs"], "python -m sphinx -q -W --keep-going -c docs . build/docs"),
    ],
)
def test_a_target_is_one_command(folder, arguments, command):
    done = make(folder, "-n", *arguments)
    assert command in [line.strip(" \\") for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("NN=300", "NAME=a_b"), "'300' 'a_b'"),
        (("NAME=a_b",), "'' 'a_b'"),  # 004, the default of other targets, is no new number
        (("NN=300",), "'300' ''"),
    ],
)
def test_new_hands_over_the_number_and_the_name_that_were_given(folder, arguments, words):
    done = make(folder, "-n", "new", *arguments)
    command = f"python -m lab.records.new {words}".replace("'", '"')
    assert command in done.stdout.splitlines()


def test_lab_opens_the_page_that_it_writes(folder):
    *_, page, command = make(folder, "-n", "lab", "LAB_FLAGS=--no-browser").stdout.splitlines()
    assert page == "python -m lab.records.start_page"
    assert command == "jupyter lab --LabApp.default_url=/lab/tree/START.md --no-browser"


@pytest.fixture
def installed(folder):
    """The same checkout after `make setup`, with a papermill that only says that it was called."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "installed").touch()
    script(folder / ".venv/bin/papermill", "#!/bin/sh\necho called\nexit 1\n")
    return folder


@pytest.mark.parametrize(("target", "name"), [("run", "022.yaml"), ("smoke", "smoke/022.yaml")])
def test_a_run_without_its_parameters_is_one_sentence(installed, target, name):
    (installed / "params" / name).unlink(missing_ok=True)
    done = make(installed, target, "NN=022")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == (
        f"There is no params/{name}: write it (params/004.yaml is an example), or run the notebook "
        "at its defaults with papermill notebooks/022_other.py out.ipynb."
    )
    assert "called" not in done.stdout
    assert not (installed / "executed").exists()


def test_two_notebooks_of_one_number_are_named(installed):
    (installed / "notebooks" / "004_again.py").touch()
    done = make(installed, "run")
    assert done.returncode != 0
    names = "notebooks/004_again.py notebooks/004_osc_dplr.py"
    assert done.stderr.splitlines()[0] == (
        f"Several notebooks are 004: rename all but one of {names}."
    )
    assert "called" not in done.stdout


@pytest.mark.parametrize("target", ["run", "smoke"])
def test_a_run_that_stops_ends_in_one_sentence_about_itself(folder, target):
    result = folder / ("executed" if target == "run" else "executed/smoke") / "004.ipynb"
    result.parent.mkdir(parents=True)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "installed").touch()
    script(
        folder / ".venv/bin/python", f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n'
    )
    script(folder / ".venv/bin/papermill", f"#!/bin/sh\necho '{{' > {result}\nexit 1\n")
    done = make(folder, target)
    assert done.returncode != 0
    sentence, _ = done.stderr.splitlines()  # and that of make
    assert sentence.startswith(f"{result.relative_to(folder)}, unreadable: ")
    assert not (folder / "executed" / "README.md").exists()
    # An error before the first cell leaves the notebook of the run before.
    script(folder / ".venv/bin/papermill", "#!/bin/sh\necho 'no such file' >&2\nexit 1\n")
    done = make(folder, target)
    assert done.returncode != 0
    assert done.stderr.splitlines()[:-1] == ["no such file"]


def test_help_lists_every_target(folder):
    shown = [line.split()[1] for line in make(folder).stdout.splitlines()]
    assert shown == [
        "help",
        "setup",
        "run",
        "smoke",
        "all",
        "test",
        "regress",
        "stale",
        "lab",
        "new",
        "docs",
        "lint",
    ]


@pytest.mark.parametrize(
    ("version", "is_taken"),
    [((3, 10, 13), False), ((3, 11, 0), True), ((3, 14, 9), True), ((3, 15, 0), False)],
)
def test_setup_takes_the_pythons_that_the_metadata_name(folder, version, is_taken):
    # This Python, which says that it is another one, asked for what decides and no more.
    answer = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
    text = f'#!/bin/sh\ntest "$1" = -c && exec {sys.executable} -c "{answer}" "$2"\nexit 1\n'
    done = make(folder, "setup", f"PYTHON={script(folder / 'python9', text)}")
    assert done.returncode != 0
    assert ("Python 3.11 to 3.14 is needed" not in done.stderr) is is_taken
    named = (folder / "pyproject.toml").read_text(encoding="utf-8")
    assert (f"Python :: {version[0]}.{version[1]}" in named) is is_taken
