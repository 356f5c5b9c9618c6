"""Earlier runs are not lost, and a clone without git history shows the same log."""

import json
import subprocess

import pytest
from log_cases import complete, make_record, with_summary

from lab import research_log
from lab.records.log import history
from lab.records.log.history import Run
from lab.records.log.page import MARK


def git(folder, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ("git", "-C", str(folder), *who, *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def ran(path, started, commit, value=0.5, **fields):
    """A notebook that was run at this time and commit."""
    record = with_summary(**fields) if fields else make_record(value=value)
    record["environment"]["commit"] = commit
    complete(path, record)
    content = json.loads(path.read_text())
    content["metadata"]["papermill"] = {"start_time": started}
    path.write_text(json.dumps(content))


FIRST = Run("2025-01-01T10:00:00Z", "aaa", "DEBUG", 1, 2, "")
SECOND = Run("2025-01-02T10:00:00Z", "bbb", "PROCEED", 1, 1, "It is 2.")


def first(path):
    ran(path, "2025-01-01T11:00:00.123456+01:00", "aaa")


def second(path):
    ran(path, "2025-01-02T10:00:00Z", "bbb", finding="It is 2.")


def everything(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def test_a_run_that_was_replaced_stays_in_the_history(tmp_path):
    for make in (first, second):
        make(tmp_path / "004.ipynb")
        research_log.write(tmp_path)
    assert history.read(tmp_path / "log") == {"004": (FIRST, SECOND)}
    page = (tmp_path / "log" / "004.md").read_text()
    assert "| 2025-01-01T10:00:00Z | aaa | DEBUG | 1 / 2 | - |" in page


def test_writing_again_gives_the_same_bytes(tmp_path):
    second(tmp_path / "004.ipynb")
    research_log.write(tmp_path)
    once = everything(tmp_path)
    research_log.write(tmp_path)
    assert everything(tmp_path) == once
    assert {path.name for path in once} == {"004.ipynb", "README.md", "004.md", "history.json"}


@pytest.fixture
def checkout(tmp_path):
    """Two committed runs, of which no history was kept, and one that was cut off between them."""
    executed = tmp_path / "there" / "executed"
    (executed / "smoke").mkdir(parents=True)
    git(tmp_path / "there", "init", "-q")
    first(executed / "004.ipynb")
    first(executed / "smoke" / "004.ipynb")
    git(tmp_path / "there", "add", ".")
    git(tmp_path / "there", "commit", "-qm", "a")
    (executed / "004.ipynb").write_text("{")
    git(tmp_path / "there", "commit", "-qam", "b")
    second(executed / "004.ipynb")
    git(tmp_path / "there", "commit", "-qam", "c")
    return tmp_path / "there"


def test_git_gives_back_what_was_never_kept(checkout):
    assert history.from_git(checkout / "executed") == {"004": (FIRST, SECOND)}
    assert research_log.main(["--write", str(checkout / "executed"), "--history"]) == 0
    assert history.read(checkout / "executed" / "log") == {"004": (FIRST, SECOND)}


def test_git_adds_to_the_history_and_removes_nothing(checkout):
    uncommitted = Run("2024-01-01T10:00:00Z", "ccc", "ABANDON", 0, 1, "")
    log = checkout / "executed" / "log"
    log.mkdir()
    history.write(log, {"004": (uncommitted,), "009": (uncommitted,)})
    research_log.write(checkout / "executed", with_git=True)
    kept = history.read(log)
    assert kept == {"004": (uncommitted, FIRST, SECOND), "009": (uncommitted,)}


@pytest.mark.parametrize("how", [["--depth", "1"], []])
def test_the_log_of_any_clone_is_that_which_was_committed(checkout, tmp_path, how):
    research_log.write(checkout / "executed", with_git=True)
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "d")
    git(tmp_path, "clone", "-q", *how, f"file://{checkout}", "clone")
    clone = tmp_path / "clone" / "executed"
    committed = everything(clone)
    research_log.write(clone)
    assert everything(clone) == committed
    (tmp_path / "clone" / ".git").rename(tmp_path / "gone")
    research_log.write(clone)
    assert everything(clone) == committed


def test_outside_a_checkout_git_knows_nothing_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    first(tmp_path / "004.ipynb")
    assert research_log.main(["--write", str(tmp_path), "--history"]) == 1
    assert "is in no git checkout that has a past of it" in capsys.readouterr().err
    assert not (tmp_path / "README.md").exists()


NOT_A_RUN = {**vars(FIRST), "wanted": "1"}


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[1]", b'{"004": 3}', b'{"004": [{}]}',
     json.dumps({"004": [NOT_A_RUN]}).encode()],
)  # fmt: skip
def test_a_history_that_cannot_be_read_is_one_sentence_and_loses_nothing(tmp_path, capsys, content):
    first(tmp_path / "004.ipynb")
    research_log.write(tmp_path)
    (tmp_path / "log" / "history.json").write_bytes(content)
    before = everything(tmp_path)
    assert research_log.main(["--write", str(tmp_path)]) == 1
    captured = capsys.readouterr().err
    assert "history.json is no history of runs" in captured
    assert captured.count("\n") == 1
    assert everything(tmp_path) == before


def test_only_files_that_the_log_has_written_are_removed(tmp_path):
    first(tmp_path / "004.ipynb")
    research_log.write(tmp_path)
    log = tmp_path / "log"
    (log / "notes.md").write_text("mine")
    (log / "notes.png").write_bytes(b"mine")
    (log / "003.md").write_text(f"{MARK}\n")
    (log / "003.png").write_bytes(b"old")
    research_log.write(tmp_path)
    names = sorted(path.name for path in log.iterdir())
    assert names == ["004.md", "history.json", "notes.md", "notes.png"]


def test_history_goes_with_write_alone(capsys):
    with pytest.raises(SystemExit, match="2"):
        research_log.main(["--stale", "executed", "--history"])
    assert "--history goes with --write" in capsys.readouterr().err
