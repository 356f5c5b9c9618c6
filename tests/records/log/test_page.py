"""The page of an experiment shows everything in its record."""

from html.parser import HTMLParser

from hypothesis import example, given, settings
from hypothesis import strategies as st
from log_cases import RECORD, complete, make_record, tables, with_summary
from markdown_it import MarkdownIt

from lab import research_log
from lab.evidence import Evidence, report
from lab.evidence.criteria import NOTE
from lab.evidence.judged import Reading, judge
from lab.evidence.planned import Planned
from lab.records.log.experiment import Experiment
from lab.records.log.history import Run
from lab.records.log.page import MARK, page


def test_the_page_says_what_the_record_says(tmp_path):
    complete(tmp_path / "004.ipynb")
    complete(tmp_path / "014.ipynb", make_record("014", "Log semiring", value=0.5))
    research_log.write(tmp_path)
    criteria, reported, environment, runs = tables((tmp_path / "log" / "004.md").read_text())
    assert criteria["S1"][4:] == ["1.7e-7 ± 2e-8", r"\< 0.001", "met"]
    assert criteria["F1"][1] == "reported"
    assert reported == {"train": ["train", "0.8544"]}
    assert environment["python"][1] == RECORD["environment"]["python"]
    assert [row[2:] for row in runs.values()] == [["**PROCEED**, shown above", "2 / 2", "-"]]
    criteria = tables((tmp_path / "log" / "014.md").read_text())[0]
    assert criteria["S1"][4:] == ["0.5 ± 2e-8", r"\< 0.001", "missed"]


def further(measured, value):
    """A number that a notebook on `lab.experiment` adds for the reader."""
    planned = Planned(NOTE, measured, ">", 0.0, "one number", kind="context")
    return judge(planned, "", Reading(value))


def test_further_numbers_have_a_table_of_their_own_that_says_what_they_are():
    success = judge(Planned("C1", "accuracy", ">", 0.5), "", Reading(1.0))
    rows = [success, further("largest ratio", 59.5), further("loss", None)]
    record = report.report(
        "004", title="x", question="Is it?", criteria=rows, reported={}, parameters={}, seeds=[0]
    )
    text = page(Experiment("004.ipynb", record))
    criteria, notes, _, _ = tables(text)
    assert list(criteria) == ["C1"]
    assert list(notes.values()) == [
        ["largest ratio (one number)", "corrected", "59.5"],
        ["loss (one number)", "corrected", "not finite"],
    ]
    assert "More numbers, which decide nothing:" in text


def test_further_numbers_of_an_earlier_record_keep_their_limits():
    found = Evidence("004", title="x", reported={})
    found.check("S1", 1.0, ">", 0.5)
    found.check("R", 1.0, ">", 0.5, kind="context", metric="a named criterion")
    found.check(NOTE, 0.9, ">", 0.8, kind="context", metric="mean", spread=0.25, arm="ablation")
    criteria, notes, *_ = tables(page(Experiment("004.ipynb", found.record())))
    assert criteria["R"][3:] == ["context", "1", r"\> 0.5", "recorded"]
    assert list(criteria) == ["S1", "R"]
    assert list(notes.values()) == [["mean", "ablation", "0.9 ± 0.25", r"\> 0.8"]]


def test_parameters_and_what_is_declared_are_shown():
    record = {**with_summary(), "parameters": {"steps": 40, "loads": [4, 8], "x": None}}
    text = page(Experiment("004.ipynb", record))
    assert "**To settle it.** Score it at 2,048 steps." in text
    assert "**Tags.** oscillators, length" in text
    (parameters,) = [rows for rows in tables(text) if "steps" in rows]
    assert [row[1] for row in parameters.values()] == ["40", "4, 8", "-"]


def test_all_known_runs_are_listed_the_latest_first():
    earlier = Run("2025-01-01T00:00:00Z", "1a2b3c4", "DEBUG", 1, 2, "It was 3.")
    each = Experiment("004.ipynb", with_summary(), started="2025-06-01T00:00:00Z")
    text = page(Experiment(**{**vars(each), "runs": (earlier, each.run)}))
    runs = list(tables(text.split("## Runs of this experiment")[1])[0].values())
    assert runs[0][2:] == ["**PROCEED**, shown above", "1 / 1", "The error is 1.7e-7."]
    assert runs[1] == ["2025-01-01T00:00:00Z", "1a2b3c4", "DEBUG", "1 / 2", "It was 3."]


def test_a_page_says_that_it_is_generated():
    assert page(Experiment("004.ipynb", RECORD)).startswith(MARK)


class Cells(HTMLParser):
    """The text of every cell in the tables of a page, row by row."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.inside = [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


@settings(deadline=None)
@given(st.text("ab_*`\\|<>[]&#;!()$~\n\r\t\ud800 é", max_size=12))
@example("a | b\n| c |")
@example("__init__ *a* `b` &amp; <b> [c](d)")
@example("\\")
def test_a_reader_sees_any_text_as_it_is(text):
    record = {**RECORD, "title": text, "reported": {text: 1.0}, "parameters": {text: text}}
    html = MarkdownIt("commonmark").enable("table").render(page(Experiment("004.ipynb", record)))
    rows = [[cell.strip() for cell in row] for row in Cells(html).rows]
    shown = " ".join(text.replace("\ud800", " ").split())
    assert rows[5] == [shown, "1"]
    assert rows[7] == [shown, shown]
