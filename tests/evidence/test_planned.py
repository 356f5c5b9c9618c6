"""Criteria written before a run: a success criterion that could never be missed is refused."""

import re

import pytest

from lab.evidence.planned import Planned, check_plan

ABOVE = {"measured": "accuracy", "op": ">", "threshold": 0.9}


def plan(id="C1", **changes):  # noqa: A002
    return Planned(id, **(ABOVE | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"op": "=="}, "criterion C1 is an identity"),
        ({"op": "==", "threshold": 0.0}, "make it a control"),
        ({"threshold": -0.1, "bounds": (0, 1)}, "cannot be missed: all of 0 to 1 is > -0.1"),
        ({"op": "in", "threshold": (0, 1), "bounds": (0, 1)}, "cannot be missed"),
        ({"op": "<", "threshold": 0.4}, "which a model that has learned nothing may do as well"),
        ({"op": "<=", "threshold": 0.4}, "guard='...'"),
        ({"op": "=>"}, "did you mean '>='?"),
        ({"kind": "sucess"}, "did you mean 'success'?"),
        ({"arm": "proposl"}, "did you mean 'proposal'?"),
        ({"arm": "Reported"}, "did you mean 'reported'?"),
        ({"op": "in"}, "must be an interval (low, high)"),
        ({"parts": ["a"]}, "parts and '{part}' in measured go together"),
        ({"measured": "accuracy of {part}"}, "parts and '{part}' in measured go together"),
        ({"measured": " "}, "measured of criterion 'C1' is empty"),
        ({"threshold": float("nan")}, "must be a finite number"),
    ],
)
def test_what_is_no_criterion_is_refused(changes, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        plan(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"op": "==", "kind": "control"},
        {"op": "<", "low_is_good": True},
        {"op": "<", "guard": "G"},
        {"op": "<", "kind": "failure"},
        {"op": "<", "arm": "proposal"},  # as it falls: it decides nothing
        {"threshold": 0.5, "bounds": (0, 1)},
    ],
)
def test_what_can_be_missed_or_decides_nothing_is_taken(changes):
    assert plan(**changes).limit


@pytest.mark.parametrize(
    ("op", "kind", "bad"),
    [
        (">", "success", False),
        ("<", "success", True),
        (">", "failure", True),
        ("<", "kill", False),
        (">=", "control", False),
    ],
)
def test_the_worst_side_is_the_one_against_the_hypothesis(op, kind, bad):
    assert plan(op=op, kind=kind, low_is_good=True).high_is_bad is bad


def test_parts_are_rows_of_their_own():
    each = plan(measured="accuracy of {part}", parts=["S3", "A5"])
    assert [each.metric(part) for part in each.rows] == ["accuracy of S3", "accuracy of A5"]
    assert plan().rows == ("",)


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ([plan(), plan()], "ids of criteria must differ"),
        ([plan(), plan("S", op="<", guard="G")], "the guard of criterion S is 'G'"),
        ([plan(), plan("S", op="<", guard="C1")], "the controls are []"),
        ([plan(kind="control")], "the experiment cannot answer"),
        ([plan(arm="proposal")], "the experiment cannot answer"),
    ],
)
def test_a_plan_that_cannot_answer_is_refused(criteria, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_plan(criteria)


def test_a_guarded_plan_is_taken():
    guarded = [plan("S", op="<", guard="G"), plan("G", kind="control")]
    assert list(check_plan(guarded)) == ["S", "G"]
