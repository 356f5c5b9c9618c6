"""Notebook, terminal or headless run, recognised by what a front end leaves in the environment."""

import sys
import types

import pytest

from lab.frontend import live
from lab.progress import Progress


@pytest.fixture
def environment(monkeypatch):
    """Sets what a front end leaves for its kernel to see; first of all, nothing."""

    def leave(panels=None, session=None, in_code=False):
        for name, value in (("LAB_PANELS", panels), ("JPY_SESSION_NAME", session)):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        main = types.ModuleType("__main__")
        if in_code:
            main.__vsc_ipynb_file__ = "analysis.ipynb"
        monkeypatch.setitem(sys.modules, "__main__", main)

    leave()
    return leave


@pytest.mark.parametrize(
    ("panels", "session", "in_code", "expected"),
    [
        (None, None, False, False),
        (None, "", False, False),
        (None, "analysis.ipynb", False, True),
        (None, None, True, True),
        ("live", None, False, True),
        ("live", "analysis.ipynb", False, True),
        ("static", None, False, False),
        ("static", "analysis.ipynb", False, False),
        ("static", None, True, False),
    ],
)
def test_a_front_end_is_known_by_what_it_leaves(environment, panels, session, in_code, expected):
    environment(panels, session, in_code)
    assert live() is expected


@pytest.mark.parametrize("value", ["", "yes", "Live", "live "])
def test_a_misspelt_setting_is_named(environment, value):
    environment(panels=value, session="analysis.ipynb")
    with pytest.raises(ValueError, match=f"LAB_PANELS is '{value}'; it must be live or static"):
        live()
    with pytest.raises(ValueError, match="LAB_PANELS"):
        Progress("training", 1)
