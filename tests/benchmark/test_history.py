"""The history of updates per second: rows are added, read back, and refused if they are none."""

import json

import pytest

from lab.benchmark import history, updates

ROW = {
    "training": "014 slots", "parameters": 7, "earlier": 10.0, "now": 20.0, "two processes": 36.0,
    "now / earlier": 2.0, "now / earlier, quartiles": (1.9, 2.1), "two / one": 1.8,
    "two / one, quartiles": (1.7, 1.9), "all": 3.6, "all, quartiles": (3.4, 3.7), "gap": 1e-6,
    "earlier, ms": 100.0, "now, ms": 50.0,
}  # fmt: skip


def test_rows_are_kept_in_order_and_read_back(tmp_path):
    file = tmp_path / "updates.jsonl"
    assert history.read(file) == []
    for all_ in (3.0, 3.5):
        history.keep(ROW | {"all": all_}, file)
    history.keep(ROW | {"training": "009 GLA"}, file)
    rows = history.read(file)
    assert [row["all"] for row in rows] == [3.0, 3.5, 3.6]
    assert rows[0]["all, quartiles"] == [3.4, 3.7]  # JSON has no tuples
    newest = {row["training"]: row["all"] for row in history.newest(rows)}
    assert newest == {"014 slots": 3.5, "009 GLA": 3.6}


def test_rows_of_compiled_trainings_are_read_by_themselves(tmp_path):
    file = tmp_path / "updates.jsonl"
    history.keep(ROW, file)
    history.keep(ROW | {"all": 5.0, "compiled": True, "warm-up, s": 30.0}, file)
    assert [row["all"] for row in history.read(file)] == [3.6]
    assert [row["all"] for row in history.read(file, compiled=True)] == [5.0]


def test_compiling_pays_when_what_updates_save_is_what_it_took():
    # Twice as fast beside the earlier version, on a machine that is slower at that moment.
    slower = {"earlier": 5.0, "now": 20.0, "now / earlier": 4.0}
    compiled = ROW | slower | {"compiled": True, "warm-up, s": 30.0}
    assert history.gain_of_compiling(ROW, compiled) == 2.0
    assert history.pays_after(ROW, compiled) == pytest.approx(30.0 / (0.05 - 0.025))
    assert history.pays_after(ROW, compiled | {"now / earlier": 2.0}) == float("inf")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"updates.jsonl, line 2 is not JSON: "),
        ("[]", r"line 2 has no training, earlier, now, two processes, now / earlier, two / one"),
        (json.dumps({**ROW, "all": None}), r"line 2: all is None; it must be a number above 0"),
        (json.dumps({**ROW, "now": 0}), r"line 2: now is 0; it must be a number above 0"),
        (json.dumps({**ROW, "now": float("nan")}), r"line 2: now is nan; it must be a number"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, line, message):
    file = tmp_path / "updates.jsonl"
    history.keep(ROW, file)
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(ValueError, match=message):
        history.read(file)


def test_the_committed_history_is_readable():
    trainings = {row["training"] for row in history.read()}
    assert trainings <= set(updates.TRAININGS)


def test_the_command_keeps_rows_with_their_origin(tmp_path, monkeypatch, capsys):
    file = tmp_path / "updates.jsonl"
    monkeypatch.setattr(history, "FILE", file)
    monkeypatch.setattr(updates, "measure", lambda names, **_: [ROW | {"training": names[0]}])
    for keep in ([], ["--keep"]):
        command = ["updates", "009 GLA", "--commit", 40 * "a", "--rounds", "3", *keep]
        monkeypatch.setattr(updates.sys, "argv", command)
        updates.main()
    (row,) = history.read(file)
    assert (row["training"], row["rounds"], row["updates"]) == ("009 GLA", 3, 20)
    assert row["against"] == 12 * "a"
    assert row["date"] > "2026"
    assert capsys.readouterr().out.count("009 GLA") == 2


def test_the_command_asks_for_a_compiled_version(monkeypatch, capsys):
    asked = []
    row = ROW | {"compiled": True, "warm-up, s": 31.2}
    monkeypatch.setattr(updates, "measure", lambda names, **more: asked.append(more) or [row])
    for options in ([], ["--compiled"]):
        monkeypatch.setattr(updates.sys, "argv", ["updates", "014 slots", *options])
        updates.main()
    assert [each["compiled"] for each in asked] == [False, True]
    assert "compiled, warm-up 31 s" in capsys.readouterr().out


def test_the_command_goes_on_after_a_training_that_fails(monkeypatch, capsys):
    def measure(names, **_):
        if names == ["008 levels"]:
            raise RuntimeError("it does not compile")
        return [ROW | {"training": names[0]}]

    monkeypatch.setattr(updates, "measure", measure)
    monkeypatch.setattr(updates.sys, "argv", ["updates", "008 levels", "009 GLA"])
    with pytest.raises(SystemExit) as stopped:
        updates.main()
    assert stopped.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "008 levels      not measured: it does not compile"
    assert lines[1].startswith("009 GLA")
