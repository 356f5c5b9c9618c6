"""Criteria read from the source of a notebook, of which nothing is run."""

import pytest

from lab.experiment.declared import Unread, declared
from lab.experiment.statistics import MEDIAN, solved


def one(source):
    """The only criterion of a source."""
    found = declared(source)
    ((id_, (form,)),) = found.forms.items()
    assert not found.hidden
    return {"id": id_, **form}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('Planned("C1", "accuracy", ">", 0.9)', {"op": ">", "threshold": 0.9, "kind": "success"}),
        ('Planned("C1", "x", "in", (-1, 0.5))', {"threshold": (-1, 0.5)}),
        ('experiment.Planned("C1", "x", "<", 1 / 8 + 0.5)', {"threshold": 0.625}),
        ('LEVEL = 0.9\nPlanned("C1", "x", ">", LEVEL)', {"threshold": 0.9}),
        ('A, B = 1, 2\nPlanned("C1", "x", ">", -B)', {"threshold": -2}),
        ('Planned("C1", "x", ">", 0.5, MEDIAN)', {"statistic": MEDIAN}),
        ('Planned("C1", "x", ">", 0.5, exp.solved(0.99))', {"statistic": solved(0.99)}),
        ('G = ("S3", "A5")\nPlanned("C1", "of {part}", ">", 0.5, parts=G)',
         {"parts": ("S3", "A5")}),
        ('N = 5\nPlanned("C1", f"{N} seeds", ">", 0)', {"measured": "5 seeds"}),
        ('evidence.check("C1", found.min(), ">", 0.9, metric="m")', {"op": ">", "threshold": 0.9}),
        ('check("C1", found.min(), "<=", 1, kind="failure")', {"op": "<=", "threshold": 1}),
        # What only a run could tell is kept as text.
        ('Planned("C1", "x", ">", chance(p))', {"threshold": Unread("chance(p)")}),
        ('x = 1\nx = 2\nPlanned("C1", "x", ">", x)', {"threshold": Unread("x")}),
        ('x = 1\nfor x in y: pass\nPlanned("C1", "x", ">", x)', {"threshold": Unread("x")}),
        ('x = 1\ndef f(x): return Planned("C1", "x", ">", x)', {"threshold": Unread("x")}),
        ('Planned("C1", "x", ">", 1 / 0)', {"threshold": Unread("1 / 0")}),
        ('Planned("C1", "x", ">", open("file"))', {"threshold": Unread("open('file')")}),
    ],
)  # fmt: skip
def test_an_argument_is_read_or_kept_as_text(source, expected):
    found = one(source)
    assert {name: found[name] for name in expected} == expected


def test_a_comprehension_declares_one_for_each_of_its_elements():
    found = declared(
        'LIMITS = {"S3": 0.9, "A5": 0.5}\n'
        'plan = [Planned(f"C{i}", "x", ">", LIMITS[0]) for i in range(2)]\n'
        'plan += [Planned(f"S-{g}", "x", ">", l) for g, l in (("S3", 0.9), ("A5", 0.5))]\n'
        'plan += [*(Planned(f"{g}{n}", "x", ">", n) for g in LIMITS for n in (1, 2))]\n'
    )
    limits = {id_: form["threshold"] for id_, (form,) in found.forms.items()}
    assert limits == {
        "C0": Unread("LIMITS[0]"), "C1": Unread("LIMITS[0]"), "S-S3": 0.9, "S-A5": 0.5,
        "S31": 1, "S32": 2, "A51": 1, "A52": 2,
    }  # fmt: skip
    assert not found.hidden


@pytest.mark.parametrize(
    "source",
    [
        'Planned(name(), "x", ">", 1)',
        '[Planned(f"C{i}", "x", ">", 1) for i in p.parts]',
        '[Planned(f"C{i}", "x", ">", 1) for i in (1, 2) if i > 1]',
        'Planned(*ABOVE)',
        'not Python at all',
    ],
)  # fmt: skip
def test_an_id_that_only_a_run_could_tell_is_said_to_be_hidden(source):
    assert declared(source).hidden
    assert not declared(source).forms


def test_one_id_of_an_older_notebook_may_stand_several_times():
    source = 'e.check("C1", a, ">", 0.9)\ne.check("C1", b, ">", 0.8, arm="reported")'
    assert [form["threshold"] for form in declared(source).forms["C1"]] == [0.9, 0.8]


def test_what_is_spread_into_a_criterion_is_not_known():
    assert one('Planned("C1", **ABOVE)')["threshold"] == Unread("Planned('C1', **ABOVE)")
    assert one('Planned("C1", "x", ">", 0.5, **MORE)')["threshold"] == 0.5
