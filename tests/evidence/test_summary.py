"""The summary of a run: it is refused if it says nothing, and stored in the record unchanged."""

import math

import pytest
from IPython.core.formatters import DisplayFormatter

from lab import evidence as lab_evidence
from lab.evidence import MIME, Evidence, Summary, summary_of

GIVEN = {
    "question": "Does it continue?",
    "finding": "The error is 1.7e-7.",
    "settles": "Score it at 2,048 steps.",
    "tags": ["oscillators", "long range"],
    "impact": 3,
    "cost_h": 1.5,
}


def make(**changes):
    found = Evidence("300", title="Oscillators", reported={})
    found.check("C1", 1.7e-7, "<", 1e-3, metric="error")
    found.check("C2", math.nan, "<", 1e-3, arm="reported")
    found.summary(**{**GIVEN, **changes})
    return found


def test_the_record_carries_it_and_gives_it_back():
    record = make(blocked_by="a GPU", figure="Loss").record()
    assert record["schema"] == 1
    assert record["summary"] == {**GIVEN, "blocked_by": "a GPU", "figure": "Loss"}
    lab_evidence.validate(record)
    assert summary_of(record) == Summary(
        **{**GIVEN, "tags": ("oscillators", "long range")}, blocked_by="a GPU", figure="Loss"
    )


def test_a_record_without_one_is_as_it_was():
    record = Evidence("300", title="Oscillators", reported={}).record()
    assert "summary" not in record
    assert lab_evidence.validate(record) == []
    assert summary_of(record) is None


def test_it_is_shown_with_the_verdict_to_people_and_machines():
    data, _ = DisplayFormatter().format(make())
    assert data[MIME]["summary"]["finding"] == "The error is 1.7e-7."
    for shown in (data["text/plain"], data["text/html"], str(make())):
        verdict, after = shown.split("no failure or kill is.")
        assert "Question: Does it continue?" in after
        assert "Finding: The error is 1.7e-7." in after
        assert "To settle it: Score it at 2,048 steps." in after


def test_the_last_call_counts():
    found = make()
    found.summary(**{**GIVEN, "finding": "It is 3."})
    assert found.record()["summary"]["finding"] == "It is 3."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"question": "It continues."}, "must end in a question mark"),
        ({"finding": "It continues."}, "has no number in it"),
        ({"finding": "It is 3"}, "must end in a full stop"),
        ({"finding": ""}, "finding of the summary is empty"),
        ({"finding": "It is 3.\nIt is 4."}, "must stand on one line"),
        ({"finding": "3" * 400 + "."}, "has 401 characters, more than 400"),
        ({"settles": "Score it"}, "settles of the summary must end in a full stop"),
        ({"figure": None}, "figure of the summary must be text, got a NoneType"),
        ({"blocked_by": 3}, "blocked_by of the summary must be text"),
        ({"tags": []}, "tags of the summary must be a list of words"),
        ({"tags": "recall"}, "tags of the summary must be a list of words"),
        ({"tags": ["Recall"]}, "tag 'Recall' of the summary must be a short lower-case word"),
        ({"impact": 0}, "impact of the summary is 0"),
        ({"impact": True}, "impact of the summary is True"),
        ({"impact": "high"}, "impact of the summary is 'high'"),
        ({"cost_h": 0}, "cost_h of the summary is 0"),
        ({"cost_h": math.inf}, "cost_h of the summary must be a finite number"),
        ({"cost_h": "1"}, "cost_h of the summary must be a number"),
    ],
)
def test_what_says_nothing_is_refused_where_it_is_made_and_where_it_is_read(changes, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make(**changes)
    record = make().record()
    record["summary"].update(changes)
    with pytest.raises(ValueError, match="summary of the record cannot be read: "):
        lab_evidence.validate(record)


@pytest.mark.parametrize("summary", [None, [], {}, {**GIVEN, "more": 1}])
def test_a_stored_summary_of_another_form_is_refused(summary):
    with pytest.raises(ValueError, match="summary of the record"):
        lab_evidence.validate({**make().record(), "summary": summary})


def test_values_of_criteria_are_at_hand_for_the_sentence():
    found = make()
    assert found.value("C1", "error") == 1.7e-7
    assert math.isnan(found.value("C2", arm="reported"))
    with pytest.raises(ValueError, match="no criterion 'C1, corrected, eror' was checked; did you"):
        found.value("C1", "eror")
