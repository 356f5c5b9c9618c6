"""The log copes with any file in its folder, and never shows an unfinished run as a result."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from log_cases import (
    RECORD,
    TIMES,
    code,
    complete,
    display,
    error,
    make_record,
    marked,
    save,
    tables,
)
from nbformat.v4 import new_markdown_cell, new_notebook, new_output

from lab import evidence, research_log
from lab.evidence import MIME
from lab.records import stale
from lab.records.executed import LONGEST

patient = settings(deadline=None)


def entry_of(path, *cells):
    return research_log.read_notebook(save(path / "004.ipynb", *cells))


# --- whole notebooks -----------------------------------------------------------------------------


def test_a_finished_run_gives_back_its_record(tmp_path):
    entry = research_log.read_notebook(complete(tmp_path / "004.ipynb"))
    assert (entry.path, entry.status, entry.record) == ("004.ipynb", "complete", RECORD)
    assert entry.detail == (
        "PROCEED: every success criterion is met (S1, C4) and no failure or kill is."
    )


def test_the_last_of_several_records_wins(tmp_path):
    first, last = make_record(value=1), make_record(value=0)
    entry = entry_of(tmp_path, code("a", display(first), display(RECORD)), code("b", display(last)))
    assert entry.record == last


def test_the_value_of_a_cell_is_a_display_too(tmp_path):
    output = new_output("execute_result", data={MIME: RECORD}, execution_count=1)
    assert entry_of(tmp_path, code("evidence", output)).record == RECORD


def test_what_a_headless_run_does_not_execute_may_lack_a_count(tmp_path):
    entry = entry_of(
        tmp_path,
        code("", count=None),
        code("panel", count=None, tags=["skip-execution"]),
        code("evidence", display(RECORD)),
    )
    assert entry.status == "complete"


def test_a_run_without_a_record_is_told_from_a_failed_one(tmp_path):
    entry = entry_of(tmp_path, code("1 + 1"), new_markdown_cell("The end"))
    assert (entry.status, entry.record) == ("no record", None)


# --- runs that stopped ---------------------------------------------------------------------------

SHOWN = code("evidence", display(RECORD))
DIED = "stopped in cell 2 (fit()) without an error message; was it killed?"


@pytest.mark.parametrize(
    ("cells", "detail"),
    [
        ([code("fit()", error(), count=2)],
         "stopped in cell 2 (fit()): ValueError: B must be positive, got 0."),
        ([code("\n# Train\nfit()", error(value="\x1b[31mtoo\nlong\x1b[0m"), count=2)],
         "stopped in cell 2 (# Train): ValueError: too long."),
        ([code("fit()", error("KeyboardInterrupt", ""), count=2)],
         "stopped in cell 2 (fit()): KeyboardInterrupt."),
        ([marked(code("fit()", count=2), "failed", exception=True)],
         "stopped in cell 2 (fit()): the error was not kept."),
        ([marked(code("fit()", count=None), "running"), marked(code("x", count=None), "pending")],
         "stopped while cell 2 (fit()) ran, or is still running."),
        ([marked(code("fit()", count=None), "pending", start=None)],
         "stopped before cell 2 (fit()) ran."),
        ([code("fit()", count=None)], "stopped before cell 2 (fit()) ran."),
        # A dead kernel: papermill marks everything completed.
        ([marked(code("fit()", count=None))], DIED),
        ([marked(code("fit()", count=2)), marked(new_markdown_cell("End"), start=None)], DIED),
        ([code("fit()", count=2, execution={"iopub.execute_input": "t"})], DIED),
    ],
)  # fmt: skip
def test_a_run_that_stopped_is_failed_though_it_had_shown_a_record(tmp_path, cells, detail):
    entry = entry_of(tmp_path, new_markdown_cell("# Question"), SHOWN, *cells)
    assert (entry.status, entry.record, entry.detail) == ("failed", None, detail)


def test_an_error_after_the_record_fails_the_run(tmp_path):
    assert entry_of(tmp_path, code("evidence", display(RECORD), error())).status == "failed"


def test_pages_of_error_message_become_one_sentence(tmp_path):
    detail = entry_of(tmp_path, code("x" * 500, error(value="word \n" * 5000))).detail
    assert "\n" not in detail
    assert len(detail) <= LONGEST


# --- files that are broken -----------------------------------------------------------------------


def test_a_notebook_cut_off_anywhere_is_unreadable(tmp_path):
    path = complete(tmp_path / "004.ipynb")
    whole = path.read_bytes()
    for length in range(len(whole.rstrip())):
        path.write_bytes(whole[:length])
        entry = research_log.read_notebook(path)
        assert (entry.status, entry.record) == ("unreadable", None), length
        assert entry.detail.startswith("the file is cut off or not a notebook: ")
    path.write_bytes(whole.rstrip())
    assert research_log.read_notebook(path).status == "complete"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples of a property: each writes the same file again."""
    return tmp_path_factory.mktemp("executed")


def read_all(folder):
    entries = research_log.read(folder)
    for entry in entries:
        assert entry.status in research_log.STATUSES
        assert (entry.record is not None) == (entry.status == "complete")
        assert entry.detail
        assert "\n" not in entry.detail
    research_log.write(folder)
    research_log.frame(entries)
    return entries


@patient
@given(position=st.integers(0, 10**6), junk=st.binary(min_size=1, max_size=4))
def test_damaged_bytes_never_stop_the_log(folder, position, junk):
    path = complete(folder / "004.ipynb")
    content = bytearray(path.read_bytes())
    position %= len(content)
    content[position : position + len(junk)] = junk
    path.write_bytes(content)
    read_all(folder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["cells", "cell_type", "outputs", "data", "metadata", "papermill", MIME]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@patient
@given(json_values)
@example([])
@example({"cells": {}})
@example({"cells": [[]]})
@example({"cells": [{"cell_type": "code", "source": 3, "outputs": [3, {"data": []}]}]})
def test_json_of_the_wrong_shape_never_stops_the_log(folder, value):
    (folder / "004.ipynb").write_text(json.dumps(value))
    assert [entry.status for entry in read_all(folder)] != ["complete"]


def places(value, path=()):
    """Every place inside a JSON value."""
    yield path
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, each in value.items() if isinstance(value, dict) else ():
        yield from places(each, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def notebook_json(record=RECORD):
    cells = [marked(code("evidence", display(record), execution=dict(TIMES)))]
    return json.loads(nbformat.writes(new_notebook(cells=cells)))


NOTEBOOK = notebook_json()


@settings(deadline=None, max_examples=300)
@given(
    place=st.sampled_from([place for place in places(NOTEBOOK) if place]),
    value=json_values | st.just(10**400),
)
@example(
    place=("cells", 0, "outputs", 0, "data", evidence.MIME, "criteria", 0, "arm"), value="\ud800"
)
def test_any_value_anywhere_in_a_notebook_never_stops_the_log(folder, place, value):
    (folder / "004.ipynb").write_text(json.dumps(replaced(NOTEBOOK, place, value)))
    for entry in read_all(folder):
        if entry.status == "complete":
            evidence.validate(entry.record)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "the file is cut off or not a notebook: it is empty."),
        (b" \n", "the file is cut off or not a notebook: it is empty."),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "the file is cut off or not a notebook: 'utf"),
        (b"[" * 10**6, "the file is cut off or not a notebook: maximum recursion"),
        (b"9" * 5000, "the file is cut off or not a notebook: Exceeds the limit"),
        (b"null", "the file is not a notebook: it is JSON without a list of cells."),
        (b'{"worksheets": []}', "the file is not a notebook: it is JSON without a list of cells."),
    ],
)
def test_a_file_that_is_no_notebook_is_told(tmp_path, content, detail):
    (tmp_path / "004.ipynb").write_bytes(content)
    entry = research_log.read_notebook(tmp_path / "004.ipynb")
    assert entry.status == "unreadable"
    assert entry.detail.startswith(detail)


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"schema": 3}, "schema 3 is newer than this workspace reads (2)."),
        ({"verdict": "ABANDON"},
         "the record is inconsistent: its verdict is 'ABANDON', its criteria say PROCEED."),
        ({"criteria": [{**RECORD["criteria"][0], "met": False}]},
         "the record is inconsistent: criterion S1 (corrected, train MSE) says met is False."),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_trusted_is_no_result(tmp_path, changes, detail):
    entry = entry_of(tmp_path, code("evidence", display({**RECORD, **changes})))
    assert (entry.status, entry.record, entry.detail) == ("unreadable", None, detail)


def test_an_older_whole_record_does_not_stand_in_for_a_broken_last_one(tmp_path):
    entry = entry_of(tmp_path, code("evidence", display(RECORD), display({**RECORD, "schema": 2})))
    assert entry.status == "unreadable"


def test_things_that_are_not_files_do_not_stop_the_log(tmp_path):
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.ipynb")
    complete(tmp_path / "whole.ipynb")
    details = {entry.path: entry.detail for entry in read_all(tmp_path) if entry.record is None}
    assert details == {
        "folder.ipynb": "folder.ipynb is not a file.",
        "link.ipynb": "the file cannot be read: No such file or directory.",
        "pipe.ipynb": "pipe.ipynb is not a file.",
    }


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(research_log.Path, "read_bytes", refuse)
    entry = research_log.read_notebook(complete(tmp_path / "004.ipynb"))
    assert entry.detail == "the file cannot be read: Permission denied."


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_text_does_not_stop_the_log(tmp_path):
    complete(tmp_path / os.fsdecode(b"\xff (|).ipynb"))
    research_log.write(tmp_path)
    assert "(%FF%20%28%7C%29.ipynb)" in (tmp_path / "README.md").read_text()


# --- folders -------------------------------------------------------------------------------------


def test_a_folder_is_read_by_name_and_not_below(tmp_path):
    for name in ("014.ipynb", "004.ipynb", ".hidden.ipynb", "notes.txt"):
        complete(tmp_path / name)
    (tmp_path / "smoke").mkdir()
    complete(tmp_path / "smoke" / "001.ipynb")
    assert [entry.path for entry in research_log.read(tmp_path)] == ["004.ipynb", "014.ipynb"]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere' is not a folder of executed notebooks"):
        research_log.read(tmp_path / "nowhere")


# --- the log -------------------------------------------------------------------------------------


@pytest.fixture
def executed(tmp_path):
    """A folder with two results and two notebooks without."""
    complete(tmp_path / "004.ipynb")
    complete(tmp_path / "014.ipynb", make_record("014", "Log semiring", value=0.5))
    save(tmp_path / "015.ipynb", code("fit()", error()))
    (tmp_path / "022.ipynb").write_text("{")
    return tmp_path


def test_an_empty_folder_has_a_log(tmp_path):
    assert research_log.write(tmp_path) == []
    assert "No notebook has a result yet." in (tmp_path / "README.md").read_text()


def test_the_frame_has_a_row_for_every_criterion(executed):
    frame = research_log.frame(research_log.read(executed))
    assert frame.columns.tolist() == [
        "notebook", "experiment", "title", "verdict", "id", "arm", "metric", "value", "spread",
        "op", "threshold", "kind", "met",
    ]  # fmt: skip
    assert frame.experiment.tolist() == ["004"] * 3 + ["014"] * 3
    assert frame[frame.id == "S1"].value.tolist() == [1.7e-7, 0.5]
    assert frame[frame.id == "S1"].met.tolist() == [True, False]
    assert research_log.frame([]).columns.tolist() == frame.columns.tolist()


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "experiment", "reason"),
    [
        ("005.ipynb", "004", "its record says experiment 004, and its file is that of 005: give"),
        ("005_slug.ipynb", "004", "its record says experiment 004, and its file is that of 005"),
        ("005.ipynb", "NNN", "its record says experiment NNN, and its file is that of 005"),
    ],
)
def test_a_record_under_another_number_than_its_file_is_no_result(
    tmp_path, name, experiment, reason
):
    complete(tmp_path / name, make_record(experiment))
    entry = research_log.read_notebook(tmp_path / name)
    assert (entry.status, entry.record) == ("misnumbered", None)
    assert entry.detail.startswith(reason)
    research_log.write(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "No notebook has a result yet." in page
    assert "| misnumbered | its record says experiment" in page


def test_the_template_is_shown_and_never_enters_the_log(tmp_path):
    for name in ("out.ipynb", "NNN.ipynb"):
        complete(tmp_path / name, make_record("NNN"))
        assert research_log.read_notebook(tmp_path / name).status == "complete"
    details = [(entry.status, entry.detail) for entry in research_log.read(tmp_path)]
    assert [status for status, _ in details] == ["misnumbered"] * 2
    assert details[0][1].startswith("its record says experiment NNN, and that is the template")


@pytest.mark.parametrize("name", ["2024.ipynb", "a004.ipynb", "004.ipynb", "004-again.ipynb"])
def test_a_name_without_another_number_is_no_contradiction(tmp_path, name):
    assert research_log.read_notebook(complete(tmp_path / name)).status == "complete"


# --- doubts --------------------------------------------------------------------------------------

DOUBTS = """\
"004":
  - since: 1a2b3c4
    doubt: the normaliser | changed
  - since: 2025-12-31
    doubt: A seed was *reused*.
"""


def test_a_doubt_stands_beside_the_verdict(executed, capsys):
    research_log.write(executed)
    without = (executed / "README.md").read_text()
    (executed / "doubts.yaml").write_text(DOUBTS)
    research_log.write(executed)
    rows = tables((executed / "README.md").read_text())[0].values()
    assert [row[2] for row in rows] == [
        "**PROCEED**<details><summary>in doubt (2)</summary>the normaliser &#124; changed.<br>"
        "A seed was &#42;reused&#42;.</details>",
        "**DEBUG**",
    ]
    verdict, doubts = (executed / "log" / "004.md").read_text().split("\n\n")[3:5]
    assert verdict.startswith("PROCEED: ")
    assert doubts.splitlines() == [
        r"- In doubt since 1a2b3c4: the normaliser \| changed.",
        r"- In doubt since 2025-12-31: A seed was \*reused\*.",
    ]
    assert research_log.main(["--show", str(executed / "004.ipynb")]) == 0
    out = capsys.readouterr().out
    assert "\n\nIn doubt since 1a2b3c4: the normaliser | changed.\n\nIn doubt since 2025" in out
    assert research_log.main(["--show", str(executed / "014.ipynb")]) == 0
    assert "In doubt" not in capsys.readouterr().out
    # A later run does not remove it: only a hand does.
    complete(executed / "004.ipynb", make_record(value=0))
    research_log.write(executed)
    assert "in doubt (2)" in (executed / "README.md").read_text()
    complete(executed / "004.ipynb")
    (executed / "doubts.yaml").write_text("# none\n")
    research_log.write(executed)
    assert (executed / "README.md").read_text() == without


def test_an_experiment_without_a_result_may_be_doubted(executed):
    (executed / "doubts.yaml").write_text("'022':\n- {since: 1a2b3c4, doubt: the task changed}\n")
    research_log.write(executed)
    assert "in doubt (" not in (executed / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("'005': [{since: 1a2b3c4, doubt: x}]", "doubts experiment 005, which has no notebook in"),
        (
            "004: [{since: 1a2b3c4, doubt: x}]",
            "line 1: YAML 1.1 reads 004 as 4: write a finite decimal number, or put it in quotes",
        ),
        ("'004': []", "experiment 004: write a list, of since and doubt each"),
        ("'004': {since: 1a2b3c4, doubt: x}", "experiment 004: write a list"),
        ("'004': [{since: 1a2b3c4}]", "a doubt has the entries since and doubt, perhaps about"),
        (
            "'004': [{since: 1a2b3c4, doubt: x, by: y}]",
            "since and doubt, perhaps about, and no others",
        ),
        ("'004': [{since: 1a2b3c4, doubt: ' '}]", "the doubt is ' ', and must be a sentence"),
        ("'004': [{since: 1a2b3c4, doubt: }]", "the doubt is None, and must be a sentence"),
        ("'004': [{since: 1a2b3c4, doubt: |-\n  x\n  y\n}]", "doubts.yaml, line 1: "),
        ('"004": [{since: 1a2b3c4, doubt: "x\\ny"}]', "must be a sentence on one line"),
        ("'004': [{since: 1234567, doubt: x}]", "since is 1234567, and must be a commit in quotes"),
        ("'004': [{since: yesterday, doubt: x}]", "since is 'yesterday', and must be a commit"),
        ("'004': [{since: 2025-02-30, doubt: x}]", "since is '2025-02-30', and must be a commit"),
        ("'004': [{since: 1a2b3c4, doubt: " + "x" * 301 + "}]", "a doubt of 301 characters is no"),
        (
            "'004': [{since: 1a2b3c4, doubt: x, about: me}]",
            "about is 'me', and is one of",
        ),
        ("'004': [{since: 1a2b3c4, doubt: Moved since this run}]", "needs the line about: run"),
        ("'004': !!python/name:os.system ''", "is not allowed"),
        ("'004': &a [*a]", "refers to another place"),
        ("[1]", "must be a map"),
    ],
)
def test_doubts_that_cannot_be_are_told_and_leave_the_log_as_it_was(executed, capsys, text, words):
    research_log.write(executed)
    before = (executed / "README.md").read_bytes()
    (executed / "doubts.yaml").write_text(text)
    assert research_log.main(["--write", str(executed)]) == 1
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert (executed / "README.md").read_bytes() == before
    # The result itself is still shown.
    assert research_log.main(["--show", str(executed / "004.ipynb")]) == 1
    captured = capsys.readouterr()
    assert evidence.as_text(RECORD) in captured.out
    assert words in captured.err


@pytest.mark.parametrize("content", [b"\xff", None])
def test_doubts_that_cannot_be_read_are_told(executed, capsys, content):
    path = executed / "doubts.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    assert research_log.main(["--write", str(executed)]) == 1
    assert "doubts.yaml" in capsys.readouterr().err


# --- what is older than its code -----------------------------------------------------------------


def test_stale_lists_and_does_not_fail(executed, capsys, monkeypatch):
    found = [stale.Result("004.ipynb", "1a2b3c4", 3, ("lab/a.py",)), stale.Result("5", "b", 2)]
    monkeypatch.setattr(stale, "results", lambda folder: found)
    assert research_log.main(["--stale", str(executed)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "004.ipynb, of 1a2b3c4: 1 of its 3 files have changed: lab/a.py",
        "5, of b: none of its 2 files has changed",
        "1 of 2 results are older than the code they ran.",
    ]


def test_stale_without_a_folder_is_one_sentence(tmp_path, capsys):
    assert research_log.main(["--stale", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


# --- the command line ----------------------------------------------------------------------------


def test_write_says_what_it_found(executed, capsys):
    assert research_log.main(["--write", str(executed)]) == 0
    assert "2 complete, 1 failed, 1 unreadable" in capsys.readouterr().out
    assert (executed / "README.md").exists()


def test_show_prints_the_table_the_verdict_and_the_place(executed, capsys):
    assert research_log.main(["--show", str(executed / "004.ipynb")]) == 0
    out = capsys.readouterr().out
    assert evidence.as_text(RECORD) in out
    assert "PROCEED: every success criterion is met" in out
    assert str(executed / "004.ipynb") in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--show", "015.ipynb"], "015.ipynb, failed: stopped in cell 1 (fit()): ValueError: B "),
        (["--show", "022.ipynb"], "022.ipynb, unreadable: the file is cut off or not a notebook"),
        (["--show", "999.ipynb"], "999.ipynb, unreadable: the file cannot be read: No such file"),
        (["--write", "nowhere"], "'nowhere' is not a folder of executed notebooks"),
    ],
)
def test_what_cannot_be_shown_ends_in_one_sentence(
    executed, monkeypatch, capsys, arguments, sentence
):
    monkeypatch.chdir(executed)
    assert research_log.main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(sentence)
    assert captured.err.count("\n") == 1


def test_show_says_where_the_result_before_a_failed_run_is_kept(executed, monkeypatch, capsys):
    monkeypatch.chdir(executed)
    (executed / "015.ipynb.previous").touch()
    assert research_log.main(["--show", "015.ipynb"]) == 1
    assert capsys.readouterr().err.endswith(
        "got 0. The last finished result is kept in 015.ipynb.previous.\n"
    )


@pytest.mark.parametrize("arguments", [[], ["--write", "a", "--show", "b"], ["executed"]])
def test_the_command_line_wants_one_task(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        research_log.main(arguments)
    assert "--write FOLDER | --show NOTEBOOK | --stale FOLDER" in capsys.readouterr().err


def test_a_terminal_that_knows_only_ascii_still_gets_the_table(executed):
    command = [sys.executable, "-m", "lab.research_log", "--show", str(executed / "004.ipynb")]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=ascii_only, capture_output=True, text=True, check=True)
    assert "004 Oscillators ?" in done.stdout
    assert done.stderr == ""
