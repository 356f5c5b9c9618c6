"""An experiment from its table of criteria to its record; parallel arms train as they do alone."""

import dataclasses
import json
import os
import re
import sys

import cloudpickle
import nbformat
import pytest
import torch
from nbclient import NotebookClient
from numeric import stream
from torch import nn

from lab import research_log
from lab.evidence import MIME, validate
from lab.experiment import MEAN, NUMBER, Arm, Experiment, Planned, Scores, display, solved
from lab.experiment.jobs import Job, run
from lab.experiment.rows import NOT_YET
from lab.experiment.tuning import Tuned
from lab.mixers import StateSpace
from lab.model import SequenceModel
from lab.plots.render import PLOTLY
from lab.records import committed
from lab.records.executed import read_notebook
from lab.tasks import WordProblem, groups
from lab.train import fit_together, score
from lab.transitions import PolarDiagonal, RealDiagonal

# Workers know what a notebook has defined, and no modules of tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

Z3 = WordProblem(groups.cyclic(3), [1, 2])
RECIPE = {"steps": 6, "batch": 4, "length": 6, "lr": 1e-2, "device": "cpu"}


@dataclasses.dataclass(frozen=True)
class Parameters:
    seeds: list


ABOVE = Planned("C1", "accuracy", ">", 0.5)


def experiment(*criteria, seeds=(100, 101)):
    return Experiment(
        "300", title="A title", question="A question?", parameters=Parameters(list(seeds)),
        criteria=criteria or (ABOVE,), reported={"accuracy": 0.3},
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Build:
    kind: type

    def __call__(self, task, seed):
        generator = stream(seed)
        transition = self.kind(8, d_state=4, generator=generator)
        mixer = StateSpace(8, transition, generator=generator)
        return SequenceModel(task.vocabulary, task.classes, 8, [mixer], generator=generator)


ARMS = {"real": Build(RealDiagonal), "polar": Arm(Build(PolarDiagonal), lr=2e-2)}


def losses(arms):
    return {name: [h.loss.tolist() for h in each.histories] for name, each in arms.items()}


# --- criteria ------------------------------------------------------------------------------------


def test_values_are_judged_by_the_statistic_of_the_table_and_kept_by_seed():
    exp = experiment(
        Planned("C1", "accuracy of {part}", ">", 0.5, parts=["S3", "A5"]),
        Planned("T", "time", "<", 1.0, NUMBER, low_is_good=True, varies=True),
        Planned("D", "difference", ">", 0.0, MEAN, paired=True, kind="context"),
        Planned("P", "accuracy, as proposed", "<", 0.4, arm="proposal"),
    )
    exp.judge("C1", {"S3": [0.6, 0.9], "A5": [0.6, 0.4]})
    exp.judge("T", 2.0)
    exp.judge("D", torch.tensor([0.5, 0.7]), minus=[0.4, 0.4])
    exp.judge("P", [0.3, 0.2])
    assert (exp.value("C1", "A5"), exp.value("T")) == (0.4, 2.0)
    record = exp.sheet.record()
    found = [(row["metric"], row["value"], row["status"]) for row in record["criteria"]]
    assert found[:3] == [
        ("accuracy of S3", 0.6, "met"), ("accuracy of A5", 0.4, "missed"), ("time", 2.0, "missed"),
    ]  # fmt: skip
    assert record["criteria"][3]["value"] == pytest.approx(0.2)
    assert record["verdict"] == "REFUTED"
    assert record["proposal"] == "PROCEED"
    assert [row["seed"] for row in record["tables"]["criteria by seed"]] == [100, 101] * 4
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_only_what_is_the_same_on_all_machines_is_printed(capsys):
    exp = experiment(ABOVE, Planned("T", "time", "<", 1.0, NUMBER, low_is_good=True, varies=True))
    exp.judge("C1", [0.6, 0.7])
    exp.judge("T", 0.5)
    exp.conclude()
    assert capsys.readouterr().out.splitlines()[-1] == "C1 (corrected, accuracy): success, met"
    alone = experiment()
    alone.judge("C1", [0.6, 0.7])
    alone.conclude()
    assert capsys.readouterr().out.endswith("success, met\nverdict: PROCEED\n")


def test_the_last_values_count():
    exp = experiment()
    for value in (0.1, 0.9):
        exp.judge("C1", [value, value])
    assert [row["value"] for row in exp.sheet.record()["criteria"]] == [0.9]
    assert {row["value"] for row in exp.sheet.record()["tables"]["criteria by seed"]} == {0.9}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.judge("C2", [1, 1]), "there is no criterion 'C2'; the table has ['C1', 'D']"),
        (lambda e: e.judge("C1", [1.0]), "criterion C1 was given 1 values for 2 seeds"),
        (lambda e: e.judge("C1", [1, 1], minus=[0, 0]), "criterion C1 is not paired"),
        (lambda e: e.judge("D", [1, 1]), "criterion D is paired: give minus"),
        (lambda e: e.judge("C1", {"a": [1, 1]}), "criterion C1 has the parts ('',), got ('a',)"),
        (lambda e: e.value("C1"), "criterion C1, part '', was not judged; [] were"),
        (lambda e: e.value("C2"), "there is no criterion 'C2'"),
        (lambda e: e.conclude(), "criteria ['C1', 'D'] were never judged"),
        (lambda e: e.not_run("C1", ""), "why criterion C1 was not run is empty"),
        (lambda e: e.tune({}, Z3, {}, seeds=[0, 101], score=None, lr=[1, 2]), "[101] are reported"),
        (lambda e: e.tune({}, Z3, {}, seeds=[0], score=None, lr=[1]), "two values or more"),
        (
            lambda e: e.tune({}, Z3, {}, seeds=[0], score=None, lr=[1, 2], clip=[1, 2]),
            "one setting",
        ),
        (lambda e: e.train(ARMS, Z3, RECIPE, split=3), "split is 3, of 2 seeds"),
        (lambda e: e.train(ARMS, Z3, RECIPE, workers=0), "workers"),
    ],
)
def test_what_does_not_fit_the_table_is_refused(call, message):
    exp = experiment(ABOVE, Planned("D", "x", ">", 0.0, MEAN, paired=True, kind="context"))
    with pytest.raises(ValueError, match=re.escape(message)):
        call(exp)


def test_an_unknown_statistic_is_refused_before_the_run():
    with pytest.raises(ValueError, match="there is no statistic 'mean'"):
        experiment(Planned("C1", "accuracy", ">", 0.5, "mean"))


@pytest.mark.parametrize("limit", [{"op": ">=", "threshold": 0}, {"op": ">", "threshold": -0.1}])
def test_a_share_that_cannot_be_missed_is_no_success(limit):
    with pytest.raises(ValueError, match=r"criterion C1 cannot be missed: all of 0 to 1 is >"):
        experiment(Planned("C1", "seeds", statistic=solved(0.9), **limit))
    experiment(Planned("C1", "seeds", ">", 0, statistic=solved(0.9)))


def test_undecided_says_in_the_table_how_many_seeds_would_decide():
    exp = experiment(Planned("C1", "difference", ">", 0.0, MEAN), seeds=range(100, 105))
    exp.judge("C1", [0.3, -0.1, 0.2, -0.2, 0.3])
    needed = exp.sheet.record()["criteria"][0]["needed"]
    assert 5 < needed < 100
    assert f"about {needed} seeds would decide it" in exp.sheet.bundle()["text/plain"]
    assert exp.sheet.record()["verdict"] == "UNDECIDED"


def test_what_could_not_be_run_decides_nothing_and_says_why():
    exp = experiment(ABOVE, Planned("G", "time on a GPU", "<", 1.0, NUMBER, low_is_good=True))
    exp.judge("C1", [0.9, 0.9])
    exp.not_run("G", "no GPU here")
    record = exp.sheet.record()
    assert (record["verdict"], record["criteria"][1]["status"]) == ("PROCEED", "not run")
    assert "no GPU here" in exp.sheet.bundle()["text/plain"]


# --- display -------------------------------------------------------------------------------------


def test_the_first_output_of_a_notebook_fills_in_and_ends_with_verdict_and_record(tmp_path):
    source = f"""
import sys; sys.path[:0] = {[str(p) for p in __import__("sys").path]!r}
from dataclasses import make_dataclass
from lab.experiment import Experiment, Planned
p = make_dataclass("P", ["seeds"], frozen=True)([1, 2])
exp = Experiment("300", title="A title", question="A question?", parameters=p,
                 criteria=[Planned("C1", "accuracy", ">", 0.5)])
exp
"""
    last = (
        """exp.conclude(finding="Half of 2 seeds reach 0.6.", settles="Five seeds.", tags=["a"])"""
    )
    judge = "exp.judge('C1', [0.6, 0.7])\nimport plotly.graph_objects as go"
    figure = "exp.key_figure(go.Figure().add_scatter(y=[1, 2]).update_layout(title='Key'));"
    cells = [source, f"{judge}\n{figure}", last]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    first, figure = notebook.cells[0].outputs
    assert figure.data[PLOTLY]["layout"]["title"]["text"] == "Key"
    assert first.data[MIME]["summary"]["figure"] == "Key"
    assert first.data[MIME]["verdict"] == "PROCEED"
    assert "A question?" in first.data["text/html"]
    assert NOT_YET not in first.data["text/plain"]
    assert notebook.cells[1].outputs == []
    (last,) = notebook.cells[2].outputs
    assert last.text.splitlines()[-1] == "verdict: PROCEED"
    nbformat.write(notebook, tmp_path / "300.ipynb")
    check_in_the_log(tmp_path, first.data[MIME])


def check_in_the_log(folder, record):
    entry = read_notebook(folder / "300.ipynb")
    assert (entry.status, entry.record) == ("complete", record)
    assert entry.detail.startswith("PROCEED: every success criterion is met (C1)")
    research_log.write(folder)
    front, page = ((folder / name).read_text() for name in ("README.md", "log/300.md"))
    assert "Half of 2 seeds reach 0.6." in front
    assert "REFUTED" in front  # the words of its rule are explained
    assert "accuracy (worst seed)" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: r.update(verdict="REFUTED"),
            "its verdict is 'REFUTED', its criteria say PROCEED",
        ),
        (lambda r: r["criteria"][0].update(value=0.1), "its value says 'missed'"),
        (lambda r: r["criteria"][0].pop("low"), "fields missing or unknown: low"),
        (lambda r: r.pop("seeds"), "seeds of the record is of type NoneType"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(change, message):
    exp = experiment()
    exp.judge("C1", [0.9, 0.9])
    record = exp.sheet.record()
    assert [row.status for row in validate(record)] == ["met"]
    change(record)
    with pytest.raises(ValueError, match=re.escape(message)):
        validate(record)


def test_before_the_run_every_criterion_is_there_and_none_is_judged():
    exp = experiment()
    shown = exp.sheet.bundle()["text/plain"]
    assert "No verdict yet: 0 of 1 criteria judged." in shown
    assert re.search(r"C1 +success +accuracy +worst seed +> 0\.5 +not yet run", shown)


def test_verdict_and_doubts_stand_in_one_box_above_the_table(monkeypatch):
    monkeypatch.setattr(display, "sentences", lambda number: ["In doubt: <one>.", "In doubt: two."])
    exp = experiment()
    assert "doubts" not in exp.sheet.bundle()["text/html"]  # there is no finding to doubt
    exp.judge("C1", [0.9, 0.9])
    exp.conclude(finding="Both of 2 seeds.", settles="Five seeds.", tags=["a"])
    page = exp.sheet.bundle()["text/html"]
    box = page[page.index("<div") : page.index("</div>")]
    for words in ("<b>PROCEED</b>", "Finding: Both of 2 seeds.", "2 doubts", "&lt;one&gt;"):
        assert words in box
    assert page.index("</div>") < page.index("<table")


def test_scores_are_shown_with_three_digits_however_small_they_are():
    frame = Scores({"a": torch.tensor([1.23456e-6])}, [100]).frame()
    assert frame.loc[("a", "seed 100"), "score"] == 1.23e-6


def test_at_the_defaults_the_committed_full_run_stands_beside(monkeypatch):
    full = experiment(ABOVE, Planned("C2", "x", ">", 1.0))
    full.judge("C1", [0.75, 0.9])
    full.judge("C2", [2.0, 3.0])
    monkeypatch.setattr(committed, "record", lambda number: full.sheet.record())
    shown = experiment(ABOVE).sheet.bundle()["text/plain"]
    assert "The committed full run (executed/300.ipynb; seeds 100, 101" in shown
    assert "says PROCEED: every success criterion is met (C1, C2)" in shown
    assert re.search(r"C1 .+ not yet run +0\.75 \(2 seeds, 0\.75 to 0\.9\), met", shown)


@pytest.mark.parametrize("question", ["A statement.", "One?\nTwo?", "x" * 140 + "?"])
def test_a_question_that_a_summary_would_refuse_is_refused_before_the_run(question):
    with pytest.raises(ValueError, match="question of the summary"):
        Experiment("300", title="A title", question=question, parameters=Parameters([1]),
                   criteria=[ABOVE])  # fmt: skip


def test_a_number_for_the_reader_has_no_limit_to_meet():
    exp = experiment()
    exp.note("another number", [0.1, 0.3])
    (row,) = [each for each in exp.sheet.judged() if each.kind == "context"]
    assert (row.limit, row.status) == ("", "recorded")


def test_many_parts_share_a_line_and_what_never_decides_is_folded_away():
    parts = ("a", "b", "c", "d")
    exp = experiment(
        Planned("C1", "accuracy of {part}", ">", 0.5, parts=parts),
        Planned("P", "accuracy as proposed", ">", 0.4, arm="proposal"),
    )
    first, folded = exp.sheet.bundle()["text/html"].split("<details>")
    assert ("accuracy of each of 4" in first, first.count("accuracy of")) == (True, 1)
    assert "as proposed" not in first
    assert "5 rows in full" in folded
    assert folded.count("accuracy of") == 4
    exp.judge("C1", {"a": [0.6, 0.7], "b": [0.4, 0.8], "c": [0.9, 0.9], "d": [0.8, 0.8]})
    exp.judge("P", [0.5, 0.5])
    first, folded = exp.sheet.bundle()["text/html"].split("<details>")
    assert "0.4 to 0.9" in first
    assert "3 met, 1 missed" in first
    assert ("#d64545" in first, "proposal: accuracy as proposed" in folded) == (True, True)
    assert "accuracy of c" in exp.sheet.bundle()["text/plain"]


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone():
    """Every arm trained by `fit_together` itself."""
    found = {}
    for name, build, lr in (("real", ARMS["real"], 1e-2), ("polar", ARMS["polar"].build, 2e-2)):
        models = [build(Z3, seed) for seed in (100, 101)]
        histories = fit_together(models, [Z3, Z3], seeds=[100, 101], **RECIPE | {"lr": lr})
        found[name] = [history.loss.tolist() for history in histories]
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_arms_have_the_numbers_that_they_have_alone(alone, workers):
    exp = experiment()
    arms = exp.train(ARMS, Z3, RECIPE, workers=workers, checkpoint=False)
    assert list(arms) == ["real", "polar"]
    assert losses(arms) == alone
    expected = score(arms["polar"].models[1], Z3, length=6, samples=50, seed=101)
    for measure in ("accuracy", "loss"):
        scores = arms.scores(length=6, samples=50, score=measure, workers=1)
        assert scores["polar"][1].item() == pytest.approx(getattr(expected, measure))
    scores = arms.scores(length=6, samples=50, workers=1)
    assert torch.equal(scores["polar"][1], expected.by_step)
    with pytest.raises(ValueError, match="scores: score is 'mean'; it must be one of"):
        arms.scores(length=6, samples=50, score="mean")


def test_what_is_measured_of_models_is_by_arm_and_keeps_its_digits():
    arms = experiment().train(ARMS, Z3, RECIPE, workers=1, checkpoint=False)
    found = arms.measure(lambda model, task: 0.1)
    assert list(found) == list(ARMS)
    assert [each.tolist() for each in found.values()] == [[0.1, 0.1]] * 2
    sizes = arms.measure(lambda model, task: model.embedding.abs())
    assert sizes["real"].shape == (2, Z3.vocabulary, 8)


def test_arms_give_models_histories_and_a_table_of_what_a_function_says():
    arms = experiment().train(ARMS, Z3, RECIPE, workers=1, checkpoint=False)
    assert arms.models["polar"][1] is arms["polar"].models[1]
    assert arms.histories["real"][0] is arms["real"].histories[0]
    table = arms.frame(lambda model, task: {"classes": task.classes, "layers": len(model.mixers)})
    assert list(table.index) == [(n, f"seed {s}") for n in ("real", "polar") for s in (100, 101)]
    assert table.loc[("polar", "seed 101")].to_dict() == {"classes": 3, "layers": 1}


def test_untrained_models_are_those_that_training_begins_with():
    begun = experiment().untrained(ARMS, Z3)
    expected = ARMS["polar"].build(Z3, 101)
    assert all(map(torch.equal, begun["polar"].models[1].parameters(), expected.parameters()))
    assert (begun["real"].histories, begun["real"].seeds) == ([], [100, 101])


def test_seeds_that_were_dealt_out_come_back_in_order(alone):
    arms = experiment().train(ARMS, Z3, RECIPE, split=2, workers=1, checkpoint=False)
    assert arms["real"].seeds == [100, 101]
    for name, found in losses(arms).items():
        assert torch.allclose(torch.tensor(found), torch.tensor(alone[name]), atol=1e-5)


def test_a_finished_arm_is_not_trained_again_and_a_finished_run_cleans_up(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CHECKPOINTS", str(tmp_path / "kept"))
    count, recipe = tmp_path / "count", {**RECIPE, "checkpoint_seconds": 0}

    def counted(_, step):
        if step >= 0:
            with count.open("a") as file:
                file.write(f"{step} ")

    def stop(_, step):
        if step == 3:
            raise RuntimeError("killed")

    both = {"done": Arm(ARMS["real"], before_update=counted), "other": ARMS["polar"]}
    stopped = {**both, "other": Arm(ARMS["polar"].build, before_update=stop)}
    first = experiment()
    with pytest.raises(RuntimeError, match="killed"):
        first.train(stopped, Z3, recipe, workers=1)
    assert count.read_text().split() == [str(step) for step in range(RECIPE["steps"])]
    assert len(list((tmp_path / "kept").rglob("done-*.safetensors"))) == 1

    again = experiment()
    arms = again.train(both, Z3, recipe, workers=1)
    updates = count.read_text().split()[RECIPE["steps"] :]
    assert updates in ([], [str(RECIPE["steps"] - 1)])  # the last is told once more, and not made
    assert (
        losses(arms)["done"]
        == losses(
            experiment().train({"done": ARMS["real"]}, Z3, RECIPE, workers=1, checkpoint=False)
        )["done"]
    )
    assert list((tmp_path / "kept").iterdir())
    again.judge("C1", [0.6, 0.7])
    again.conclude()
    assert not list((tmp_path / "kept").iterdir())


def test_what_fails_names_its_arm():
    def broken(task, seed):
        raise RuntimeError("no model today")

    with pytest.raises(RuntimeError, match="no model today") as caught:
        experiment().train({"a": broken}, Z3, RECIPE, workers=1, checkpoint=False)
    assert "a\x000" not in "".join(caught.value.__notes__)
    assert any("'a'" in note for note in caught.value.__notes__)


def test_trained_models_that_an_arm_starts_from_stay_as_they_are():
    exp = experiment()
    first = exp.train({"real": ARMS["real"]}, Z3, RECIPE, workers=1, checkpoint=False)
    before = [parameter.clone() for parameter in first["real"].models[0].parameters()]
    on = {"on": Arm(start=first["real"].models)}
    second = exp.train(on, Z3, RECIPE, workers=1, checkpoint=False)
    after = list(first["real"].models[0].parameters())
    assert all(map(torch.equal, before, after))
    moved = [a.equal(b) for a, b in zip(after, second["on"].models[0].parameters(), strict=True)]
    assert not all(moved)


@pytest.mark.parametrize("given", [{}, {"build": Build(RealDiagonal), "start": [nn.Linear(1, 1)]}])
def test_an_arm_is_built_or_starts_from_models(given):
    with pytest.raises(ValueError, match="give one of the two"):
        Arm(**given)


def test_tuning_chooses_by_the_median_and_says_who_is_at_the_edge():
    exp = experiment()

    class Model(nn.Module):
        vocabulary = classes = 3

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, tokens):
            return self.weight.expand(*tokens.shape, 3)

    found = exp.tune(
        {"a": lambda task, seed: Model()}, Z3, RECIPE, seeds=[0, 1], workers=1,
        score=lambda model, task, *, seed: -model.weight.abs().max().item(),
        lr=[1e-3, 1e-2, 1e-1],
    )  # fmt: skip
    assert found["a"] == 1e-3  # the smallest step moves the weights least
    assert found.at_the_edge == ["a"]
    assert "At the edge of the grid" in repr(found)
    trained = exp.train({"a": lambda t, s: Model()}, Z3, RECIPE, tuned=found, workers=1,
                        checkpoint=False)  # fmt: skip
    assert trained["a"].models[0].weight.abs().max() < 7e-3  # six steps of Adam of 1e-3
    exp.judge("C1", [0.6, 0.6])
    record = exp.sheet.record()
    assert record["tuning_seeds"] == [0, 1]
    assert len(record["tables"]["tuning of lr"]) == 6


def test_a_record_holds_every_tuning_of_a_setting():
    exp = experiment()
    exp.tuning += [Tuned("lr", [1, 2], {"a": torch.ones(2, 1)}, [seed], True) for seed in (3, 4)]
    exp.judge("C1", [0.6, 0.6])
    tables = exp.sheet.record()["tables"]
    assert [row["seed"] for row in tables["tuning of lr"]] == [3, 3]
    assert [row["seed"] for row in tables["tuning of lr, 2"]] == [4, 4]


def weighed(model, task, *, seed):
    """A score that tells models, tasks and seeds apart."""
    weights = torch.cat([each.detach().flatten() for each in model.parameters()])
    return weights.double().sum().item() + sum(task.alphabet) + 1e3 * seed


def test_tuning_may_be_split_among_processes():
    tasks = [Z3, WordProblem(groups.cyclic(3), [0, 1]), Z3]
    own = Arm(Build(RealDiagonal), task=tasks)
    grid = {"seeds": [7, 3, 5], "score": weighed, "lr": [1e-3, 1e-2], "workers": 1}
    whole, split = (
        experiment().tune(
            {"shared": Build(RealDiagonal), "own": own}, tasks, RECIPE, split=n, **grid
        )
        for n in (1, 2)
    )
    for name in ("shared", "own"):
        assert torch.allclose(split.scores[name], whole.scores[name], atol=1e-4)


def test_models_to_start_from_are_split_with_their_seeds():
    exp = experiment(seeds=(100, 101, 102))
    begun = exp.untrained(ARMS, Z3)["real"].models
    arms = {"again": Arm(start=begun)}
    whole, split = (
        exp.train(arms, Z3, RECIPE, split=n, workers=1, checkpoint=False) for n in (1, 2)
    )
    for one, other in zip(whole["again"].models, split["again"].models, strict=True):
        for weight, same in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.allclose(weight, same, atol=1e-5)
    with pytest.raises(ValueError, match="2 models to start from for 3 seeds"):
        exp.train({"few": Arm(start=begun[:2])}, Z3, RECIPE, workers=1, checkpoint=False)


@pytest.mark.parametrize("high_is_good", [True, False])
def test_the_median_of_two_tuning_seeds_lies_between_them(high_is_good):
    sign = 1.0 if high_is_good else -1.0
    scores = {"a": sign * torch.tensor([[0.9, 0.9], [1.0, 0.2]])}
    found = Tuned("lr", [1e-3, 1e-2], scores, [0, 1], high_is_good)
    torch.testing.assert_close(found.medians("a"), sign * torch.tensor([0.9, 0.6]))
    assert found["a"] == 1e-3


@pytest.mark.parametrize(
    ("work", "elsewhere"),
    [({"steps": 100}, False), ({"steps": 600}, True), ({}, True), ({"short": True}, False)],
)
def test_jobs_of_a_few_steps_need_no_process(monkeypatch, work, elsewhere):
    monkeypatch.delenv("LAB_WORKERS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    jobs = {"a": Job(os.getpid, **work), "b": Job(os.getpid, steps=1)}
    processes = run(jobs, label="short or long")
    assert (os.getpid() not in processes.values()) is elsewhere
