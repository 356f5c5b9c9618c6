"""Updates per second of two versions: the same models, the same losses, ratios of one round."""

import subprocess

import pytest
import torch

from lab.benchmark import trainings, updates
from lab.files import PROJECT
from lab.train import traced

with_history = pytest.mark.skipif(
    not (PROJECT / ".git").exists(), reason="there is no history to compare to"
)


@pytest.mark.parametrize("name", trainings.TRAININGS)
def test_every_training_learns_from_batches_of_its_size(name):
    run = trainings.Run(name)
    found = run.go_on(2)
    assert len(found["updates"]) == 1
    assert 0 < found["updates"][0] < found["seconds"]
    assert found["processor"] > 0
    # The models go on from where they are, and each has losses of its own.
    losses = torch.tensor([[*a, *b] for a, b in zip(run.first, found["losses"], strict=True)])
    assert losses.shape == (run.training.seeds, trainings.WARM_UP + 2)
    assert losses.isfinite().all()
    assert losses[:, 1:].ne(losses[:, :-1]).all()
    batch = run.training.task.sample(run.training.batch, run.training.length, torch.Generator())
    rows, steps = batch.inputs.shape[:2]
    starts = name.startswith("006")  # with a token in front
    assert (rows, steps) == (run.training.batch, run.training.length + starts)


def test_a_compiled_training_is_timed_after_its_eager_updates(monkeypatch):
    monkeypatch.setattr(traced, "_COMPILED", {})
    monkeypatch.setattr(traced, "compile_graph", lambda graph, *_: graph)
    eager, run = (trainings.Run("022 rank 4", compiled=each) for each in (False, True))
    assert run.first == eager.first
    found = run.go_on(3)
    assert len(found["updates"]) == 2
    assert sum(found["updates"]) < found["seconds"]
    assert all(len(losses) == traced.EAGER + 3 for losses in found["losses"])


@pytest.mark.parametrize(("name", "count"), [("008 levels", 42628), ("014 slots", 72482)])
def test_models_have_the_size_that_their_notebook_states(name, count):
    model = trainings.training(name).build(0)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@with_history
def test_the_reference_is_the_last_commit_without_experiments():
    def has(commit):
        command = ["git", "cat-file", "-e", f"{commit}:lab/experiment/__init__.py"]
        return subprocess.run(command, cwd=PROJECT, capture_output=True).returncode == 0

    found = updates.reference()
    assert not has(found)
    listed = subprocess.run(
        ["git", "rev-list", "--ancestry-path", "--reverse", f"{found}..HEAD"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert has(listed[0])


@with_history
def test_both_versions_train_the_same_models():
    (row,) = updates.measure(["014 slots"], rounds=2, updates=2)
    assert row["parameters"] == 72482
    assert row["gap"] < 1e-5
    for name in ("earlier", "now", "two processes", "now / earlier", "two / one", "all"):
        assert 0 < row[name] < 1000
    for name in ("now / earlier", "two / one", "all"):
        low, high = row[f"{name}, quartiles"]
        assert low <= row[name] <= high
    assert "014 slots" in updates.text(row)


def test_ratios_are_of_one_round_and_not_of_medians():
    rounds = [
        {"earlier": (10.0, 0.1), "now": (20.0, 0.05), "two processes": (30.0, 0.06)},
        {"earlier": (1.0, 0.1), "now": (3.0, 0.04), "two processes": (6.0, 0.05)},
        {"earlier": (10.0, 0.3), "now": (40.0, 0.06), "two processes": (60.0, 0.07)},
    ]
    row = updates._summary(rounds)
    assert (row["earlier"], row["now"], row["two processes"]) == (10.0, 20.0, 30.0)
    assert (row["earlier, ms"], row["now, ms"]) == (100.0, 50.0)
    assert (row["now / earlier"], row["two / one"], row["all"]) == (3.0, 1.5, 6.0)
    assert row["now / earlier, quartiles"] == (2.5, 3.5)


def test_the_gap_is_relative_and_the_largest():
    assert updates._gap([[1.0, 2.0]], [[1.0, 2.0]]) == 0
    assert updates._gap([[1.0, 2.0], [4.0, 1.0]], [[1.0, 2.0], [5.0, 1.1]]) == 0.25


def test_a_training_that_fails_says_why(tmp_path):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "__init__.py").write_text("raise OSError('no such machine')")
    with pytest.raises(RuntimeError, match="has ended: OSError: no such machine"):
        updates.Trainer(tmp_path, "014 slots")


@pytest.mark.parametrize(("settings", "message"), [
    ({"names": ["014"]}, r"there are no trainings \['014'\]; there are \['022 rank 4', "),
    ({"rounds": 0}, "rounds is 0 and updates 20; least are 1 and 2"),
    ({"updates": 1}, "rounds is 5 and updates 1; least are 1 and 2"),
    ({"commit": "no-such-commit"}, "'no-such-commit' is no commit of .* that has a folder lab"),
])  # fmt: skip
def test_bad_requests_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        updates.measure(**settings)
