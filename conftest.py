"""What `pytest --nbval` runs: the smoke runs, and a full run only where it is named."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EXECUTED = Path(__file__).resolve().parent / "executed"

# What users have set. tests/conftest.py sets more, which is for the tests and no notebook.
ENVIRONMENT = dict(os.environ)
FOR_TESTS = ("OMP_NUM_THREADS", "TRITON_INTERPRET")


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist, where it is installed, hand a notebook to one worker as a whole.

    A cell means nothing without those before it.
    """
    if _runs_notebooks(config) and getattr(config.option, "dist", "no") not in ("no", "each"):
        config.option.dist = "loadfile"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave full runs out of folders: they take an hour."""
    is_left_out = _runs_notebooks(config) and collection_path.resolve() in _full_runs()
    return True if is_left_out and collection_path.resolve() not in _named(config) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which full runs were left out, and how to run one."""
    config = terminalreporter.config
    asked = any(EXECUTED.is_relative_to(path) for path in _named(config))
    is_default = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    paths = sorted(_full_runs() - _named(config))
    if _runs_notebooks(config) and paths and (asked or is_default):
        terminalreporter.write_line(
            f"The full runs of executed/ ({len(paths)}) take an hour and were left out: name one "
            f"to run it again, as in pytest --nbval {os.path.relpath(paths[0])}"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Start the kernel of a notebook, which happens here, in the environment of users."""
    if item.path.suffix != ".ipynb":
        return (yield)
    with _environment_of_users():
        return (yield)


@contextmanager
def _environment_of_users() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in FOR_TESTS if name in os.environ}
    os.environ.update({name: ENVIRONMENT[name] for name in FOR_TESTS if name in ENVIRONMENT})
    try:
        yield
    finally:
        for name in FOR_TESTS:
            os.environ.pop(name, None)
        os.environ.update(kept)


def _runs_notebooks(config: pytest.Config) -> bool:
    return bool(config.getoption("nbval", False) or config.getoption("nbval_lax", False))


def _full_runs() -> set[Path]:
    return set(EXECUTED.rglob("*.ipynb")) - set((EXECUTED / "smoke").rglob("*.ipynb"))


def _named(config: pytest.Config) -> set[Path]:
    """The files and folders that the command line names."""
    words = [word.split("::")[0] for word in config.args]
    return {(config.invocation_params.dir / word).resolve() for word in words}
