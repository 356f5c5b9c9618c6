"""Statuses from values and intervals, and the one rule from statuses to a verdict."""

import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lab.evidence.comparison import holds
from lab.evidence.judged import Judged, Reading, judge, read
from lab.evidence.planned import Planned
from lab.evidence.ruling import LINES, MEANING, Ruling, of_proposal, rule

numbers = st.floats(-10, 10)


def row(reading=None, *, op=">", threshold=0.5, **changes) -> Judged:
    reading = Reading(1.0) if reading is None else reading
    planned = Planned("C1", "accuracy", op, threshold, low_is_good=True, **changes)
    return judge(planned, "", reading)


MET, MISSED = Reading(1.0), Reading(0.0)
OPEN = Reading(0.6, 0.4, 0.8, needed=12)
FAR = Reading(0.5, 0.4, 0.6)


@given(numbers, numbers, numbers, st.sampled_from([">", ">=", "<", "<="]), numbers)
def test_an_interval_is_met_or_missed_as_a_whole(a, b, c, op, threshold):
    low, value, high = sorted((a, b, c))
    status = row(Reading(value, low, high), op=op, threshold=threshold).status
    inside = [holds(each, op, threshold) for each in (low, value, high)]
    expected = "met" if all(inside) else "missed" if not any(inside) else "undecided"
    assert status == expected


@given(numbers, numbers, numbers, numbers)
def test_equivalence_needs_the_whole_interval_inside_the_margin(a, b, c, d):
    low, high = sorted((a, b))
    margin = tuple(sorted((c, d)))
    status = row(Reading((low + high) / 2, low, high), op="in", threshold=margin).status
    if margin[0] <= low and high <= margin[1]:
        assert status == "met"
    elif high < margin[0] or low > margin[1]:
        assert status == "missed"
    else:
        assert status == "undecided"


@pytest.mark.parametrize(
    ("reading", "changes", "status"),
    [
        (Reading(None), {}, "not finite"),
        (Reading(None, missing="no GPU"), {}, "not run"),
        (Reading(0.0), {"unattainable": "0.4 is the most"}, "unattainable"),
        (MET, {"kind": "context"}, "recorded"),
        (MET, {}, "met"),
        (MISSED, {}, "missed"),
    ],
)
def test_the_other_statuses(reading, changes, status):
    assert row(reading, **changes).status == status


@pytest.mark.parametrize(
    ("rows", "ruling", "words"),
    [
        ([row(MET)], Ruling.PROCEED, "every success criterion is met (C1)"),
        ([row(MISSED)], Ruling.REFUTED, "success criterion C1 (corrected, accuracy) is missed"),
        ([row(OPEN)], Ruling.UNDECIDED, "about 12 seeds would decide it"),
        ([row(FAR)], Ruling.UNDECIDED, "no number of seeds within reach would decide it"),
        ([row(MET), row(OPEN, kind="kill")], Ruling.UNDECIDED, "kill criterion"),
        ([row(MISSED), row(OPEN)], Ruling.REFUTED, "missed"),
        ([row(MISSED), row(MET, kind="kill")], Ruling.ABANDON, "kill criterion"),
        ([row(MISSED), row(MISSED, kind="kill")], Ruling.REFUTED, "success"),
        ([row(MET), row(MET, kind="failure")], Ruling.DEBUG, "failure criterion"),
        ([row(MET), row(MISSED, kind="failure")], Ruling.PROCEED, "no failure or kill"),
        ([row(MET), row(OPEN, kind="failure")], Ruling.PROCEED, "met"),
        ([row(MET), row(MISSED, kind="control")], Ruling.DEBUG, "control criterion"),
        ([row(MET), row(OPEN, kind="control")], Ruling.DEBUG, "undecided"),
        ([row(MET, kind="kill"), row(MISSED, kind="control"), row()], Ruling.DEBUG, "control"),
        ([row(Reading(None))], Ruling.DEBUG, "not finite"),
        ([row(MET), row(Reading(None), kind="kill")], Ruling.DEBUG, "not finite"),
        ([row(MET, kind="control")], Ruling.DEBUG, "no success criterion was judged"),
        ([row(Reading(None, missing="no GPU"))], Ruling.DEBUG, "no success criterion was judged"),
        ([], Ruling.DEBUG, "no success criterion was judged"),
        # What never decides.
        ([row(MET), row(MISSED, arm="reported")], Ruling.PROCEED, "met"),
        ([row(MET), row(MET, arm="proposal", kind="kill")], Ruling.PROCEED, "met"),
        ([row(MET), row(MISSED, kind="context")], Ruling.PROCEED, "met"),
        ([row(MET), row(MISSED, unattainable="proof")], Ruling.PROCEED, "met"),
        ([row(MET), row(Reading(None, missing="no GPU"), kind="kill")], Ruling.PROCEED, "met"),
    ],
)
def test_the_first_line_that_applies_decides(rows, ruling, words):
    found, reason = rule(rows)
    assert found is ruling
    assert words in reason
    assert reason.endswith(".")


def test_every_line_and_verdict_has_a_meaning():
    assert {ruling for _, ruling, _ in LINES} | {Ruling.PROCEED} == set(MEANING) == set(Ruling)


def test_a_proposal_has_a_verdict_of_its_own():
    assert of_proposal([row(MET)]) is None
    ruling, _ = of_proposal([row(MET), row(MISSED, arm="proposal")])
    assert ruling is Ruling.REFUTED


readings = st.builds(
    Reading,
    st.none() | numbers,
    detail=st.text(max_size=5),
    missing=st.sampled_from(["", "no GPU"]),
)


@given(readings, st.sampled_from([">", "<", "in"]), st.sampled_from(["success", "control"]))
def test_a_row_comes_back_from_its_record(reading, op, kind):
    threshold = (0.0, 1.0) if op == "in" else 0.5
    found = row(reading, op=op, threshold=threshold, kind=kind)
    assert read(json.loads(json.dumps(found.record()))) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "missed"}, "the record is inconsistent"),
        ({"value": 0.1}, "the record is inconsistent"),
        ({"value": "0.1"}, "value of a criterion of the record is no number"),
        ({"value": True}, "is no number"),
        ({"kind": "sucess"}, "cannot be read"),
        ({"threshold": "0.5"}, "cannot be read"),
        ({"varies": 1}, "neither true nor false"),
        ({"extra": 1}, "fields missing or unknown: extra"),
        ({"detail": None}, "detail of a criterion of the record is of type NoneType"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read(row(MET).record() | changes)


@given(numbers, numbers)
def test_a_met_interval_shows_its_value_on_the_right_side(value, threshold):
    assume(value != threshold)
    found = row(Reading(value), threshold=threshold)
    assert holds(float(found.shown.split()[0]), ">", threshold) == (found.status == "met")


def test_a_reason_does_not_name_every_one_of_many_rows():
    missed = [row(MISSED)] * 2
    _, reason = rule(missed)
    assert reason.count("success criterion C1 (corrected, accuracy) is missed") == 2
    _, reason = rule([*missed, row(MISSED), row(MET)])
    assert reason == "success criterion C1 (corrected) is missed in 3 rows."
    _, reason = rule([row(OPEN)] * 3)
    assert reason.count("about 12 seeds would decide it") == 3
