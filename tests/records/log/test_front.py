"""The front page is read in two minutes, and shows nothing that is not in a record."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from log_cases import (
    RECORD,
    code,
    complete,
    display,
    error,
    figure,
    make_record,
    png,
    save,
    tables,
    with_summary,
)
from markdown_it import MarkdownIt
from nbformat.v4 import new_markdown_cell

from lab import evidence, research_log
from lab.evidence import report, rule_of_schema_1, verdict
from lab.evidence.doubts import Doubt
from lab.records.executed import Entry
from lab.records.log import words
from lab.records.log.experiment import NO_FINDING, Experiment
from lab.records.log.front import front_page, shortened

ROOT = Path(__file__).parents[3]
MARKDOWN = MarkdownIt("commonmark").enable("table")


class Reader(HTMLParser):
    """What a reader sees of a page: cells row by row, and all words outside what is folded away."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.links, self.open_words, self.stack = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag in ("img", "br"):
            self.handle_data(" ")
            return
        self.stack.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.stack.pop()

    def handle_data(self, data):
        if "td" in self.stack or "th" in self.stack:
            self.rows[-1][-1] += data
        if "details" not in self.stack or "summary" in self.stack:
            self.open_words += data.split()


def read(text):
    return Reader(MARKDOWN.render(text))


def notebook(path, record, *outputs, heading="# 004 · Can it continue?"):
    cell = code("evidence", *outputs, display(record))
    return save(path, new_markdown_cell(f"{heading}\n\nText."), cell)


def test_a_row_has_question_finding_verdict_and_what_would_settle_it(tmp_path):
    outputs = [figure("First", png()), figure("Second", png(200))]
    notebook(tmp_path / "004.ipynb", with_summary(figure="Second"), *outputs)
    (tmp_path / "doubts.yaml").write_text("'004': [{since: 1a2b3c4, doubt: S1 is vacuous}]")
    research_log.write(tmp_path)
    (row,) = tables((tmp_path / "README.md").read_text())[0].values()
    assert row == [
        "**[004](log/004.md)**<br>"
        '[<img src="log/004.png" width="240" alt="Second">](log/004.md)',
        "<b>Does it &#42;continue&#42;?</b><br>The error is 1.7e-7.<br>"
        "To settle it: Score it at 2,048 steps.<br>"
        "<sub>65.2 s · seeds 0 to 2 · oscillators, length · [notebook](004.ipynb)</sub>",
        "**PROCEED**<details><summary>in doubt (1)</summary>S1 is vacuous.</details>",
    ]  # fmt: skip
    assert (tmp_path / "log" / "004.png").read_bytes() == png(200)


def test_an_old_record_shows_its_heading_and_says_that_it_declares_no_finding(tmp_path):
    notebook(tmp_path / "004.ipynb", RECORD)
    notebook(tmp_path / "014.ipynb", make_record("014", "Log semiring"), heading="no heading")
    research_log.write(tmp_path)
    page = (tmp_path / "README.md").read_text()
    rows = [row[1].split("<br>")[:2] for row in tables(page)[0].values()]
    assert rows == [["<b>Can it continue?</b>", NO_FINDING], ["<b>Log semiring</b>", NO_FINDING]]
    assert "No notebook declares a next run yet." in page


def test_what_has_no_result_is_listed_with_its_reason(tmp_path):
    complete(tmp_path / "004.ipynb")
    save(tmp_path / "015.ipynb", code("fit()", error()))
    (tmp_path / "022.ipynb").write_text("{")
    research_log.write(tmp_path)
    page = (tmp_path / "README.md").read_text()
    unfinished = tables(page.split("## Without a result")[1])[0]
    assert [row[1:] for row in unfinished.values()] == [
        ["failed", "stopped in cell 1 (fit()): ValueError: B must be positive, got 0."],
        ["unreadable", research_log.read(tmp_path)[2].detail],
    ]


@settings(deadline=None)
@given(st.text("ab_*`\\|<>[]&#;!()$~\"'\n\r\t\ud800 é", max_size=12))
@example("a | b\n| c |")
@example("__init__ *a* `b` &amp; <b> [c](d)")
@example("</details></td> <!-- ")
@example("\\")
def test_a_reader_sees_any_text_as_it_is(text):
    record = {**RECORD, "title": text}
    each = Experiment("004.ipynb", record, doubts=(Doubt("1a2b3c4", text + "."),))
    rows = read(front_page([each], [Entry("005.ipynb", "failed", None, text)])).rows
    shown = " ".join(text.replace("\ud800", " ").split())
    assert list(map(len, rows)) == [3] * 2 + [3] * 2 + [3] * 5
    assert rows[1][1].strip().startswith(f"{shown} {NO_FINDING}".strip())
    doubt = " ".join(f"{text.replace(chr(0xD800), ' ')}.".split()).rstrip(".")
    assert " ".join(rows[1][2].split()).endswith(f"in doubt (1){doubt}.")
    assert rows[3][2] == shown


@pytest.mark.parametrize(
    ("schemas", "rules"),
    [
        (set(), [verdict]),
        ({report.SCHEMA}, [verdict]),
        ({evidence.SCHEMA}, [rule_of_schema_1]),
        ({evidence.SCHEMA, report.SCHEMA}, [verdict, rule_of_schema_1]),  # the current one first
    ],
)
def test_every_rule_in_force_is_explained_line_by_line(schemas, rules):
    shown = tables(words.explained(schemas))
    assert len(shown) == len(rules)
    for rows, rule in zip(shown, rules, strict=True):
        lines = [(case, name) for name, row in rows.items() for case in row[2].split("<br>")]
        numbered = [(f"{i}. {case}", f"**{each}**") for i, (case, each) in enumerate(rule.RULE, 1)]
        assert sorted(lines) == sorted(numbered)


def test_every_verdict_has_a_meaning():
    assert verdict.MEANING.keys() == set(verdict.Verdict)
    assert words.MEANING_OF_SCHEMA_1.keys() == set(rule_of_schema_1.VerdictOfSchema1)
    rows = tables(words.explained({evidence.SCHEMA, report.SCHEMA}))
    assert rows[0]["**REFUTED**"][1].endswith("the answer is no.")
    assert rows[1]["**INCONCLUSIVE**"][1].startswith("The run is not finished")


# --- the committed page --------------------------------------------------------------------------

EXECUTED = ROOT / "executed"
PAGE = (EXECUTED / "README.md").read_text()
# People read 175 to 300 words of such text in a minute.
WORDS_A_MINUTE = 250


def test_questions_findings_and_verdicts_are_read_in_two_minutes():
    rows = tables(PAGE)[0].values()
    sentences = [" ".join(row[1].split("<br>")[:2]) for row in rows]
    counted = sum(len(text.split()) + 1 for text in sentences)
    assert counted <= 2 * WORDS_A_MINUTE * max(1, len(sentences) / 12)


def test_the_rest_of_the_page_stays_a_page():
    page = read(PAGE)
    experiments = len(tables(PAGE)[0])
    # Twice its two minutes with all else on it; in full an experiment has a page of its own.
    assert len(page.open_words) <= 110 * experiments + 250
    # A table's row is one line of Markdown, and an experiment has two: what was found, what next.
    assert len(PAGE.splitlines()) <= 2 * experiments + 45


@pytest.mark.parametrize("path", sorted([EXECUTED / "README.md", *EXECUTED.glob("log/*.md")]))
def test_every_link_is_relative_and_leads_to_a_file(path):
    links = [each for each in read(path.read_text()).links if not each.startswith("#")]
    assert links
    for link in links:
        assert not re.match(r"[a-z]+:|/", link)
        assert (path.parent / unquote(link)).exists(), link


def test_the_anchor_of_the_words_is_a_heading():
    assert "(#what-the-words-mean)" in PAGE
    assert "\n## What the words mean\n" in PAGE


def test_every_committed_picture_is_small_and_belongs_to_a_page():
    for path in (EXECUTED / "log").glob("*.png"):
        assert path.stat().st_size <= 60_000
        assert f'src="log/{path.name}"' in PAGE
        assert path.with_suffix(".md").exists()


def test_a_long_finding_ends_with_a_sentence_or_clause():
    start, clause = "One is 0.5 (a; b) of two; ", "three words more, "
    assert shortened(f"{start}{9 * clause}end.") == f"{start}{9 * clause}end."
    assert shortened(f"{start}{12 * clause}end.") == "One is 0.5 (a; b) of two …"
    assert shortened(f"{start}three. {12 * clause}end.") == "One is 0.5 (a; b) of two; three …"
    assert shortened(50 * "word ") == 50 * "word "
    assert shortened(f"{13 * clause}end (a; b). More. Still more.") == f"{13 * clause}end (a; b) …"
