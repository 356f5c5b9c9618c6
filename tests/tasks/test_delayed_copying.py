"""Copying with a delay for every place, against what each step of an example must say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import stream
from torch import Tensor

from lab.tasks import DelayedCopying
from lab.tasks.retrieval import COMMONEST

patient = settings(deadline=None, max_examples=30)
seeds = st.integers(0, 2**31)


@st.composite
def copying(draw):
    places = draw(st.permutations(range(draw(st.integers(1, 6)) + 3)))
    count = draw(st.integers(1, len(places) - 3))
    # Token i is due at a place that is not before its own.
    delays = [place - i for i, place in enumerate(sorted(places[:count]))]
    return DelayedCopying(delays, draw(st.integers(1, 5)), len(places) + draw(st.integers(0, 3)))


@patient
@given(copying(), st.integers(0, 4), seeds)
def test_content_is_due_after_its_own_delay(task, extra, seed):
    begin, separator, blank, pad = range(task.symbols, task.symbols + 4)
    batch = task.sample(3, task.length + extra, stream(seed))
    for tokens, targets, mask in zip(*map(Tensor.tolist, batch), strict=True):
        content = tokens[1 : 1 + len(task.delays)]
        assert tokens[0] == begin
        assert tokens[len(content) + 1 :] == [separator] + [blank] * task.blanks + [pad] * extra
        expected = {len(content) + 2 + i + d: content[i] for i, d in enumerate(task.delays)}
        assert {t: targets[t] for t, scored in enumerate(mask) if scored} == expected


def test_the_reported_task_is_the_default():
    task = DelayedCopying()
    assert (task.length, task.vocabulary) == (26, 20)
    assert [step - 10 for step in task.due] == [0, 5, 6, 3, 8, 13, 14, 11]
    assert task.ceilings[COMMONEST] == pytest.approx(0.258, abs=5e-4)
    assert task.distinct_inputs(26) == 16**8


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: DelayedCopying([]), "content"),
        (lambda: DelayedCopying([1, 0]), r"due at blanks \[1, 1\], of 16, one at a time"),
        (lambda: DelayedCopying([0, 3], blanks=4), r"due at blanks \[0, 4\], of 4"),
        (lambda: DelayedCopying([-1]), r"delays\[0\]"),
        (lambda: DelayedCopying().sample(1, 25, stream(0)), "at least 26 steps"),
    ],
)
def test_delays_that_do_not_fit_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
