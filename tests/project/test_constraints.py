"""The check of constraints.txt, on small indexes of packages that hold nothing but metadata."""

import importlib.util
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "constraints.py"
SPEC = importlib.util.spec_from_file_location("constraints_script", SCRIPT)
constraints = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(constraints)

PROJECT = """\
[project]
name = "small"
version = "1.0"
requires-python = ">=3.11"
classifiers = ["Programming Language :: Python :: 3.11", "Programming Language :: Python :: 3.13"]
dependencies = [{needs}]
[project.optional-dependencies]
notebooks = []
gpu = ["triton>=3.5; sys_platform == 'linux'"]
dev = ["PyTest"]
"""
# As public: each torch for Linux wants the triton it was built with.
ON_LINUX = "; sys_platform == 'linux'"
INDEX = {
    ("torch", "2.9.0"): [f"triton==3.5.0{ON_LINUX}"],
    ("torch", "2.13.0"): [f"triton==3.7.1{ON_LINUX}"],
    ("triton", "3.5.0"): [], ("triton", "3.7.1"): [], ("triton", "3.9.0"): [],
    ("pytest", "9.0"): [],
}  # fmt: skip


def index(folder, packages):
    """A folder of wheels, {(name, version): requirements}."""
    folder.mkdir()
    for (name, version), needs in packages.items():
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {need}" for need in needs]
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def project(tmp_path):
    """Makes a checkout with these requirements, these constraints and an index of its own."""

    def make(text, needs='"torch>=2.9"', packages=INDEX):
        (tmp_path / "pyproject.toml").write_text(PROJECT.format(needs=needs))
        (tmp_path / "constraints.txt").write_text(text)
        source = ("--no-index", "--find-links", str(index(tmp_path / "index", packages)))
        return constraints.Project(tmp_path, source)

    return make


def test_what_is_written_passes_the_check(project, capsys):
    made = project("torch==2.9.0\n")
    assert constraints.main(["--write"], made) == 0
    assert constraints.main([], made) == 0
    holds = (
        "constraints.txt holds for Python 3.11, 3.13 on linux, macos, windows; so do the bounds."
    )
    assert capsys.readouterr().out.strip() == holds
    # What is there is kept, until newer versions are asked for.
    assert "torch==2.9.0\n" in made.constraints.read_text()
    assert constraints.main(["--write", "--upgrade"], made) == 0
    assert "torch==2.13.0\ntriton==3.7.1 ; sys_platform == 'linux'" in made.constraints.read_text()


def test_a_lock_made_against_a_local_build_is_found(project, capsys):
    made = project("torch==2.13.0\ntriton==3.9.0\npytest==9.0\n")
    assert constraints.main([], made) == 1
    said = capsys.readouterr().err
    for python in ("3.11", "3.13"):
        assert f"constraints.txt cannot be installed for Python {python} on linux:" in said
    assert "torch==2.13.0" in said
    assert "==3.7.1" in said
    assert "on macos" not in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("torch==2.13.0\nPyTest==9.0\n", "leaves open, for Python 3.11 on linux: triton==3.7.1"),
        ("torch==2.13.0\ntriton==3.7.1\npytest==9.0\nold==1.0\n", "is not what pyproject.toml"),
    ],
)
def test_too_few_and_too_many_versions_are_found(project, capsys, text, sentence):
    assert constraints.main([], project(text)) == 1
    said = capsys.readouterr().err
    assert f"constraints.txt {sentence}" in said
    assert "run python scripts/constraints.py --write" in said.replace("Run", "run")


def test_bounds_that_exclude_each_other_are_found(project, capsys):
    made = project("torch==2.13.0\n", needs='"torch>=2.9", "triton<3.5"')
    assert constraints.main([], made) == 1
    assert "The bounds in pyproject.toml exclude each other" in capsys.readouterr().err
    assert constraints.main(["--write"], made) == 1
    assert "No versions satisfy pyproject.toml" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["variable", "pip", "uv.toml", "pyproject.toml", "home"])
def test_settings_of_this_machine_do_not_count(project, monkeypatch, tmp_path, where):
    packages = {name: needs for name, needs in INDEX.items() if name[0] != "triton"}
    made = project("torch==2.13.0\n", packages=packages)
    local = str(index(tmp_path / "local", {("triton", "3.7.1"): []}))
    home = tmp_path / "home"
    home.joinpath("uv").mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    setting = f"find-links = ['{local}']\n"
    if where in ("variable", "pip"):
        monkeypatch.setenv("UV_FIND_LINKS" if where == "variable" else "PIP_FIND_LINKS", local)
    elif where == "pyproject.toml":
        (tmp_path / where).write_text(f"{PROJECT.format(needs='')}[tool.uv]\n{setting}")
    else:
        (home / "uv" / "uv.toml" if where == "home" else tmp_path / where).write_text(setting)
    with pytest.raises(constraints.UnresolvedError, match="triton"):
        made.resolve(*constraints.EXTRAS, "--python-platform", "linux")


def test_an_index_out_of_reach_is_said_and_fails(project, monkeypatch, tmp_path, capsys):
    public = constraints.Project(project("torch==2.13.0\n").root)
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # nor is anything kept
    assert constraints.main([], public) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("constraints.txt is unchecked: uv could not ask the public package")
