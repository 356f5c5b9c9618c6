"""Recall of pairs in one token, against a dictionary and against counts."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import stream

from lab import audit
from lab.tasks import JointRecall
from lab.tasks.retrieval import COMMONEST

patient = settings(deadline=None, max_examples=30)
seeds = st.integers(0, 2**31)


@patient
@given(st.integers(1, 6), st.integers(1, 5), st.integers(6, 9), st.integers(1, 4), seeds)
def test_a_dictionary_answers_every_query(pairs, queries, keys, symbols, seed):
    task = JointRecall(pairs, queries, keys, symbols)
    batch = task.sample(4, task.length, stream(seed))
    key, value = (part.tolist() for part in task.parts(batch.inputs))
    for i, (targets, mask) in enumerate(
        zip(batch.targets.tolist(), batch.mask.tolist(), strict=True)
    ):
        assert mask == [False] * pairs + [True] * queries
        assert symbols not in value[i][:pairs]
        assert set(value[i][pairs:]) == {symbols}  # no value is shown with a query
        stored = dict(zip(key[i][:pairs], value[i][:pairs], strict=True))
        assert len(stored) == pairs
        assert targets[pairs:] == [stored[asked] for asked in key[i][pairs:]]
    assert batch.inputs.max() < task.vocabulary
    assert batch.targets.max() < task.classes


def test_the_commonest_value_is_right_as_often_as_the_ceiling_says():
    ceilings = [JointRecall(n).ceilings[COMMONEST] for n in (4, 8, 16, 32)]
    assert [round(100 * share, 1) for share in ceilings] == [27.3, 17.2, 12.4, 8.5]
    task = JointRecall(4, symbols=5)
    _, targets, mask = task.sample(4000, 12, stream(0))
    keys, values = task.parts(task.sample(4000, 12, stream(0)).inputs)
    guesses = torch.tensor([Counter(row).most_common(1)[0][0] for row in values[:, :4].tolist()])
    found = (targets == guesses[:, None])[mask].double().mean().item()
    assert found == pytest.approx(task.ceilings[COMMONEST], abs=0.01)
    assert keys.max() < task.keys


def test_the_audit_finds_that_the_input_determines_the_target():
    report = audit.task(JointRecall(1, 1, keys=2, symbols=2), length=2, drawn=200)
    assert report["distinct inputs, of all"] == "4"
    assert "the input determines the target" in str(report)
    assert JointRecall(4).bits(12) == 4 * math.log2(64)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: JointRecall(0), "pairs"),
        (lambda: JointRecall(5, keys=4), "pairs is 5; there are only 4 keys"),
        (lambda: JointRecall(4).sample(1, 13, stream(0)), "4 pairs and 8 queries are not 13 steps"),
        (lambda: JointRecall(4).sample(1, 11, stream(0)), "at least 12 steps"),
    ],
)
def test_what_makes_no_recall_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
