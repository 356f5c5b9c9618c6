"""Who watches: decided by the environment, and never a reason to lose an item."""

import io
import sys
import types

import IPython.display
import pytest

from lab.frontend import live, progress


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
        progress([1], "training")


class Terminal(io.StringIO):
    def isatty(self):
        return True


STDERR = {"file": io.StringIO, "terminal": Terminal, "nothing": lambda: None}


@pytest.mark.parametrize("stderr", STDERR)
@pytest.mark.parametrize("panels", ["live", "static"])
@pytest.mark.parametrize(("items", "total"), [([], None), ([3, 1, 2], None), ([3, 1, 2], 3)])
def test_progress_yields_every_item(environment, monkeypatch, panels, stderr, items, total):
    environment(panels=panels)
    monkeypatch.setattr(sys, "stderr", STDERR[stderr]())
    assert list(progress(items, "training", total)) == items
    assert list(progress(iter(items), "training", total)) == items


def test_progress_is_lazy(environment):
    drawn = []
    items = progress((drawn.append(item) or item for item in range(3)), "training")
    assert next(items) == 0
    assert drawn == [0]


@pytest.mark.parametrize(("stderr", "drawn"), [("file", False), ("terminal", True)])
def test_a_bar_is_drawn_where_somebody_watches(environment, monkeypatch, stderr, drawn):
    stream = STDERR[stderr]()
    monkeypatch.setattr(sys, "stderr", stream)
    list(progress(range(3), "training"))
    assert ("training" in stream.getvalue()) is drawn


class Output:
    """What a notebook would show: the last text that replaced the one before."""

    def __init__(self):
        self.shown = []

    def update(self, data, raw):
        self.shown.append(data["text/plain"])


def test_a_bar_in_a_notebook_is_one_output_that_ends_empty(environment, monkeypatch):
    environment(session="analysis.ipynb")
    output = Output()
    monkeypatch.setattr(IPython.display, "display", lambda *args, **settings: output)
    assert list(progress(range(3), "training")) == [0, 1, 2]
    assert output.shown[0].startswith("training:")
    assert output.shown[-1] == ""
