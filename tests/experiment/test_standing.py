"""Which criteria stood in the committed source before a run, in a checkout of a few commits."""

import json
import subprocess
from dataclasses import dataclass

import pytest
from log_cases import complete

from lab import research_log
from lab.evidence import validate
from lab.evidence.written import Written, read, record, sentences
from lab.experiment import Experiment, Planned
from lab.experiment import experiment as module
from lab.experiment.standing import standing

NOTEBOOK, RESULT = "notebooks/300_a.py", "executed/300.ipynb"


def git(root, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ("git", "-C", str(root), *who, *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Parameters:
    seeds: list


class Checkout:
    """A folder in which files are written and committed."""

    def __init__(self, root):
        self.root = root
        git(root, "init", "-q")

    def write(self, *criteria, path=NOTEBOOK):
        (self.root / path).parent.mkdir(exist_ok=True)
        (self.root / path).write_text("# %%\nplan = [" + ",\n".join(criteria) + "]\n")

    def commit(self, *criteria, path=NOTEBOOK):
        if criteria:
            self.write(*criteria, path=path)
        git(self.root, "add", ".")
        git(self.root, "commit", "-q", "--allow-empty", "-m", "a")
        return git(self.root, "rev-parse", "HEAD")[:12]

    def result(self, commit):
        (self.root / "executed").mkdir(exist_ok=True)
        (self.root / RESULT).write_text(json.dumps({"environment": {"commit": commit}}))
        return self.commit()

    def standing(self, *plan):
        return standing("300", {each.id: each for each in plan}, self.root)


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


ABOVE = 'Planned("C1", "accuracy", ">", 0.9)'
C1 = Planned("C1", "accuracy", ">", 0.9)
BEFORE = {"C1": Written("before any result")}


def test_what_is_committed_before_any_result_stood_before(checkout):
    ran_at = checkout.commit(ABOVE)
    assert checkout.standing(C1) == BEFORE
    checkout.result(ran_at + "+changes")
    assert checkout.standing(C1) == BEFORE  # and it stays so in later runs
    checkout.commit(ABOVE, 'Planned("C2", "loss", ">", 0.1)')
    assert checkout.standing(C1) == BEFORE


def test_what_came_after_the_first_result_is_said_with_what_was_there_then(checkout):
    ran_at = checkout.commit('Planned("C1", "accuracy", ">", 0.8, kind="control")')
    checkout.result(ran_at)
    checkout.commit(ABOVE, 'Planned("C2", "loss", ">", 0.1)')
    found = checkout.standing(C1, Planned("C2", "loss", ">", 0.1))
    assert found == {
        "C1": Written("after a result", f"limit > 0.8, kind control at {ran_at}"),
        "C2": Written("after a result", f"not there at {ran_at}"),
    }


def test_what_this_run_has_and_the_commit_has_not_is_not_committed(checkout):
    checkout.commit(ABOVE)
    checkout.write('Planned("C1", "accuracy", ">", 0.7)', 'Planned("C2", "loss", ">", 0.1)')
    found = checkout.standing(Planned("C1", "accuracy", ">", 0.7), Planned("C2", "loss", ">", 0.1))
    assert found == {
        "C1": Written("not committed", "limit > 0.9 there"), "C2": Written("not committed"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"measured": "error"}, "measured 'accuracy'"),
        ({"statistic": "median seed"}, "statistic worst seed"),
        ({"arm": "proposal"}, "arm corrected"),
        ({"paired": True}, "paired False"),
        ({"op": ">="}, "limit > 0.9"),
        ({"unattainable": "0.5 is the most"}, "attainable"),
    ],
)
def test_every_change_that_may_change_a_status_is_named(checkout, changes, words):
    checkout.commit(ABOVE)
    fields = {"measured": "accuracy", "op": ">", "threshold": 0.9} | changes
    found = checkout.standing(Planned("C1", **fields))
    assert found == {"C1": Written("not committed", f"{words} there")}


def test_a_guard_or_a_note_is_no_change(checkout):
    checkout.commit(ABOVE)
    noted = Planned("C1", "accuracy", ">", 0.9, varies=True, added="a first run suggested it")
    assert checkout.standing(noted) == BEFORE


def test_what_cannot_be_read_counts_as_it_is_written(checkout):
    ran_at = checkout.commit('Planned("C1", "accuracy", ">", chance(8))')
    checkout.result(ran_at)
    assert checkout.standing(C1) == BEFORE  # 0.9 is what chance(8) says in this run
    checkout.commit('Planned("C1", "accuracy", ">", chance(9))')
    found = checkout.standing(C1)
    assert found == {"C1": Written("after a result", f"limit > chance(8) at {ran_at}")}
    checkout.commit("*[Planned(id_, 'accuracy', '>', 0.9) for id_ in ids()]")
    assert checkout.standing(C1) == {"C1": Written("not known", "ids in the commit are computed")}


def test_limits_of_an_older_notebook_count(checkout):
    ran_at = checkout.commit('e.check("C1", 1.0, ">", 0.9, metric="a")')
    checkout.result(ran_at)
    checkout.commit(ABOVE)
    assert checkout.standing(C1) == BEFORE


def test_a_result_without_a_commit_ran_at_the_latest_before_it_was_added(checkout):
    checkout.commit('Planned("C2", "loss", ">", 0.1)')
    before = git(checkout.root, "rev-parse", "HEAD")
    checkout.write(ABOVE)  # committed together with the result: nobody can say that it was first
    checkout.result(None)
    found = checkout.standing(C1)
    assert found == {"C1": Written("after a result", f"not there at {before[:12]}")}


def test_a_renamed_notebook_is_still_the_same_experiment(checkout):
    ran_at = checkout.commit(ABOVE, path="notebooks/300_old_name.py")
    checkout.result(ran_at)
    git(checkout.root, "mv", "notebooks/300_old_name.py", NOTEBOOK)
    checkout.commit()
    assert checkout.standing(C1) == BEFORE


def test_without_a_history_nothing_is_known(tmp_path):
    found = standing("300", {"C1": C1}, tmp_path)
    assert found == {"C1": Written("not known", "there is no git history here")}
    git(tmp_path, "init", "-q")
    found = standing("300", {"C1": C1}, tmp_path)
    assert found == {"C1": Written("not committed", "its notebook is in no commit")}
    (tmp_path / "inside").mkdir()
    assert standing("300", {"C1": C1}, tmp_path / "inside")["C1"].when == "not known"


def test_where_the_first_result_came_from_may_be_lost(checkout):
    checkout.write(ABOVE)
    checkout.result("0123456789ab")  # the first commit of all, as in a shallow clone
    (found,) = checkout.standing(C1).values()
    assert found.when == "not known"
    assert found.detail.startswith("the history has no notebook at ")


def test_the_sentences_name_every_criterion_once():
    found = {
        "C1": Written("after a result", "not there at abc"), "S1": Written("before any result"),
        "S2": Written("before any result"), "C2": Written("after a result", "limit > 1 at abc"),
    }  # fmt: skip
    assert sentences(found) == [
        "In the committed source before any result was committed: S1, S2.",
        "Added or changed after a result had been committed: C1 (not there at abc); "
        "C2 (limit > 1 at abc).",
    ]
    assert read(json.loads(json.dumps(record(found)))) == found


@pytest.mark.parametrize(
    "stored", [[], {"C1": "a"}, {"C1": {"when": "before"}}, {"C1": {"when": "x", "detail": ""}}]
)
def test_a_record_that_says_it_otherwise_is_refused(stored):
    with pytest.raises(ValueError, match="written of"):
        read(stored)


def test_the_record_the_table_and_the_log_say_it(tmp_path, monkeypatch, capsys):
    said = {"C1": Written("after a result", "limit > 0.8 at abc")}
    monkeypatch.setattr(module, "standing", lambda number, plan: said)
    exp = Experiment("300", title="A title", question="A question?", parameters=Parameters([0, 1]),
                     criteria=[C1])  # fmt: skip
    line = "Added or changed after a result had been committed: C1 (limit > 0.8 at abc)."
    assert line in exp.sheet.bundle()["text/plain"]
    exp.judge("C1", [1.0, 1.0])
    found = exp.sheet.record()
    assert found["written"] == {"C1": {"when": "after a result", "detail": "limit > 0.8 at abc"}}
    validate(found)
    path = complete(tmp_path / "300.ipynb", found)
    assert research_log.main(["--show", str(path)]) == 0
    assert line in capsys.readouterr().out
    research_log.write(tmp_path)
    page = (tmp_path / "log" / "300.md").read_text()
    assert "Added or changed after a result had been committed: C1" in page
