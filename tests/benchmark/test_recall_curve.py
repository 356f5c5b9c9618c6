"""The protocol of the shared figure: its rows are what was trained, and they come back whole."""

import math

import pytest
import torch

from lab.benchmark import recall_curve
from lab.benchmark.recall_curve import CONVOLUTION, D_MODEL, LAYERS, TASK, by_state, measure
from lab.evidence import Evidence, validate
from lab.memories import LinearAttention, SoftmaxAttention
from lab.mixers import MultiHead
from lab.records.executed import Entry
from lab.records.tables import rows_of
from lab.train import fit_together


def linear(size, generator):
    return MultiHead(
        D_MODEL, LinearAttention(D_MODEL, heads=2, d_key=size), convolution=3, generator=generator
    )


def softmax(size, generator):
    return MultiHead(
        D_MODEL, SoftmaxAttention(D_MODEL, heads=2, d_key=size), convolution=3, generator=generator
    )


@pytest.fixture(scope="module")
def rows():
    mixers = {"linear": linear, "softmax": softmax}
    return measure(mixers, seeds=[3, 4], steps=2, sizes=(2, 4), samples=20, lr=1e-3)


def test_there_is_a_row_for_every_mixer_size_and_seed(rows):
    assert [(row["mixer"], row["size"], row["seed"]) for row in rows] == [
        (mixer, size, seed) for mixer in ("linear", "softmax") for size in (2, 4) for seed in (3, 4)
    ]
    assert all(0 <= row["accuracy"] <= 1 for row in rows)


def test_a_row_says_how_large_the_state_is_and_must_be(rows):
    H, N, steps = 2, 4, TASK.length
    window = (CONVOLUTION - 1) * 3 * H * N
    found = {row["mixer"]: row["state_bytes"] for row in rows if row["size"] == N}
    assert found["linear"] == 4 * LAYERS * (H * N * (N + 1) + window)
    assert found["softmax"] == 4 * LAYERS * (steps * 2 * H * N + window)
    # 8 values out of 32, none twice.
    assert rows[0]["bits"] == pytest.approx(math.log2(math.perm(32, 8)))


def test_seeds_decide_the_model_and_its_data():
    one, two = (recall_curve.build_model(lambda g: linear(4, g), seed) for seed in (0, 1))
    again = recall_curve.build_model(lambda g: linear(4, g), 0)
    assert all(map(torch.equal, one.parameters(), again.parameters()))
    assert not torch.equal(one.embedding, two.embedding)


def test_a_mixer_may_have_its_own_rate_and_training():
    rates = []

    def train(models, tasks, *, lr, **settings):
        rates.append((lr, settings["steps"]))
        return fit_together(models, tasks, lr=lr, **settings)

    measure({"linear": linear}, seeds=[0], steps=1, sizes=[2], samples=2, lr={"linear": 3e-3},
            train=train)  # fmt: skip
    assert rates == [(3e-3, 1)]


def test_rates_for_other_mixers_stop_before_anything_trains():
    def train(*_, **__):
        raise AssertionError("nothing may be trained")

    with pytest.raises(
        ValueError, match=r"lr is given for \['softmax'\], the mixers are \['linear'\]"
    ):
        measure({"linear": linear}, seeds=[0], lr={"softmax": 1e-2}, train=train)


def test_rows_come_back_from_the_records_that_have_some(rows):
    with_rows, without = (Evidence(n, title="Recall", reported={}) for n in ("014", "015"))
    with_rows.table(recall_curve.TABLE, rows)
    entries = [Entry("a.ipynb", "complete", e.record(), "") for e in (with_rows, without)]
    entries.append(Entry("b.ipynb", "failed", None, "it stopped"))
    validate(entries[0].record)
    read = rows_of(entries, recall_curve.TABLE)
    assert read == [{"experiment": "014", **row} for row in rows]
    curves = by_state(read)
    assert list(curves) == ["linear", "softmax"]
    assert curves["linear"][rows[0]["state_bytes"]] == [row["accuracy"] for row in rows[:2]]


def row(mixer, seed, **changes):
    told = {"mixer": mixer, "seed": seed, "steps": 600, "d_model": 32, "layers": 2, "samples": 500}
    return {**told, "state_bytes": 64, "accuracy": seed / 10, **changes}


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([row("a", 0), row("a", 1), row("b", 0), row("b", 1)], ["a", "b"]),
        (
            [row("a", 0), row("b", 0, steps=450), row("a", 0, steps=300)],
            ["a, 600 updates", "b, 450 updates", "a, 300 updates"],
        ),
        ([row("a", 0), row("b", 0, d_model=64)], ["a, width 32", "b, width 64"]),
        (
            [row("a", 0, steps=1, samples=5), row("b", 0)],
            ["a, 1 updates, 5 samples", "b, 600 updates, 500 samples"],
        ),
        (
            [row("a", 0), row("a", 1), row("b", 0), row("c", 0), row("c", 5)],
            ["a, seeds 0 to 1", "b, seed 0", "c, seeds 0, 5"],
        ),
    ],
)
def test_a_figure_that_mixes_budgets_or_seeds_says_so_in_every_name(rows, names):
    found = by_state(rows)
    assert list(found) == names
    assert sum(len(each[64]) for each in found.values()) == len(rows)


def test_rows_of_before_budgets_were_told_are_not_called_another_one():
    old = {name: value for name, value in row("b", 0).items() if name != "d_model"}
    assert list(by_state([row("a", 0), old])) == ["a", "b"]
    assert list(by_state([row("a", 0), {**old, "steps": 450}])) == [
        "a, 600 updates",
        "b, 450 updates",
    ]


def test_a_row_says_its_budget(rows):
    assert {(r["steps"], r["d_model"], r["layers"], r["samples"]) for r in rows} == {(2, 32, 2, 20)}
