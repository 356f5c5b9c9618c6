"""Doubts beside a new run's verdict: those about the finding, and no others."""

import pytest
from IPython.core.formatters import DisplayFormatter

from lab.evidence import MIME, Evidence, doubts

DOUBTS = """\
"300":
  - since: 1a2b3c4
    doubt: The normaliser changed since this run
    about: run
  - since: 2025-12-31
    doubt: S2 is <vacuous>
"301":
  - {since: 1a2b3c4, doubt: Another one}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "doubts.yaml").write_text(DOUBTS)
    monkeypatch.setattr(doubts.sentences, "__defaults__", (tmp_path,))
    return tmp_path


def shown(experiment="300"):
    found = Evidence(experiment, title="Rotations", reported={})
    found.check("C1", 1, "<", 2)
    return DisplayFormatter().format(found)[0]


def test_the_doubts_about_the_finding_stand_below_the_verdict(folder):
    data = shown()
    before, after = data["text/plain"].split("no failure or kill is.")
    assert after.strip() == "In doubt since 2025-12-31: S2 is <vacuous>."
    assert "S2 is &lt;vacuous&gt;.</p>" in data["text/html"]


def test_those_about_the_committed_run_say_nothing_about_a_new_one(folder):
    for text in (shown()["text/plain"], shown()["text/html"]):
        assert "normaliser" not in text
        assert "Another one" not in text


def test_doubts_are_no_part_of_the_record(folder):
    with_doubts = shown()[MIME]
    (folder / "doubts.yaml").unlink()
    without = shown()[MIME]
    del with_doubts["runtime_s"], without["runtime_s"]
    assert with_doubts == without
    assert "In doubt" not in shown()["text/html"]


def test_an_experiment_that_nobody_doubts_shows_none(folder):
    assert "In doubt" not in shown("302")["text/plain"]


def test_the_same_file_gives_the_same_lines(folder):
    assert doubts.sentences("300") == doubts.sentences("300")


def test_a_file_that_cannot_be_used_stops_no_run_and_names_no_place(folder):
    (folder / "doubts.yaml").write_text("[1]")
    text = shown()["text/plain"]
    assert "doubts.yaml cannot be used: python -m lab.research_log" in text
    assert str(folder) not in text
