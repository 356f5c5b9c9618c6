"""The rule of schema 1, the record and its table, through which all numbers reach a reader."""

import fractions
import importlib.metadata
import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter

from lab import evidence as lab_evidence
from lab.evidence import KINDS, MIME, OPS, Evidence, criterion
from lab.evidence.rule_of_schema_1 import VerdictOfSchema1, decide, explain

patient = settings(deadline=None)
asks_git = settings(deadline=None, max_examples=40)  # each example starts a few processes

VALUES = {"met": 1.0, "missed": -1.0, "unknown": None}
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text("ab <>&;\"'/|\\\né😀", max_size=12)  # what HTML and JSON treat as special, and more


def case(kind, outcome, arm="corrected"):
    return criterion("C1", VALUES[outcome], ">", 0, arm=arm, kind=kind)


CASES = [
    (kind, outcome, arm)
    for kind, outcome, arm in itertools.product(KINDS, VALUES, ["reported", "corrected", "ladder"])
]
some_criteria = st.lists(st.builds(lambda args: case(*args), st.sampled_from(CASES)), max_size=6)


def make(**options):
    return Evidence("004", **{"title": "Oscillators", "reported": {"train": 0.8544}, **options})


@st.composite
def evidences(draw):
    evidence = make(seeds=[0, 1])
    for number in range(draw(st.integers(0, 4))):
        op = draw(st.sampled_from(OPS))
        ends = sorted([draw(FLOATS), draw(FLOATS)])
        evidence.check(
            f"C{number}",
            draw(st.floats() | st.none()),
            op,
            ends if op == "in" else ends[0],
            arm=draw(st.sampled_from(["reported", "corrected"])),
            kind=draw(st.sampled_from(KINDS)),
            metric=draw(TEXT),
            spread=draw(st.none() | st.floats(0, 10)),
        )
    return evidence


# --- the rule ------------------------------------------------------------------------------------


def expected_verdict(cases):
    """The rule again, over sets of (kind, outcome) instead of criteria."""
    seen = {(kind, outcome) for kind, outcome, arm in cases if arm != "reported"}
    seen = {pair for pair in seen if pair[0] != "context"}
    if ("kill", "met") in seen:
        return "ABANDON"
    if not {"success"} <= {kind for kind, _ in seen} or any(o == "unknown" for _, o in seen):
        return "INCONCLUSIVE"
    return "DEBUG" if seen & {("success", "missed"), ("failure", "met")} else "PROCEED"


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_every_small_set_of_criteria_gets_the_verdict_of_the_rule(size):
    verdicts = set()
    for cases in itertools.combinations_with_replacement(CASES, size):
        verdict = decide(case(*each) for each in cases)
        assert verdict == expected_verdict(cases), cases
        verdicts.add(verdict)
    assert verdicts == (set(VerdictOfSchema1) if size else {"INCONCLUSIVE"})


@patient
@given(some_criteria, st.randoms())
def test_order_does_not_matter(criteria, random):
    shuffled = random.sample(criteria, len(criteria))
    assert decide(shuffled) == decide(criteria)


@patient
@given(some_criteria, st.integers(0, 6))
def test_a_kill_that_is_met_abandons(criteria, position):
    criteria.insert(position, case("kill", "met"))
    assert decide(criteria) == VerdictOfSchema1.ABANDON


@patient
@given(some_criteria, st.sampled_from(KINDS), st.sampled_from(list(VALUES)))
def test_the_reported_arm_and_context_never_decide(criteria, kind, outcome):
    extra = [case(kind, outcome, arm="reported"), case("context", outcome)]
    assert decide(criteria + extra) == decide(criteria)
    assert explain(criteria + extra) == explain(criteria)


@pytest.mark.parametrize(
    ("cases", "reason"),
    [
        ([], "no success criterion was checked."),
        ([("success", "met")], "every success criterion is met (C1) and no failure or kill is."),
        ([("success", "missed")], "success criterion C1 (corrected) is missed."),
        ([("failure", "met"), ("success", "met")], "failure criterion C1 (corrected) is met."),
        ([("kill", "met"), ("success", "missed")], "kill criterion C1 (corrected) is met."),
        ([("kill", "unknown")], "kill criterion C1 (corrected) is not finite."),
    ],
)
def test_the_reason_names_the_criteria_that_decided(cases, reason):
    assert explain(case(*each) for each in cases) == reason


# --- one criterion -------------------------------------------------------------------------------


@patient
@given(FLOATS, st.sampled_from(["<", "<=", ">", ">=", "=="]), FLOATS)
@example(1.0, "<", 1.0)
@example(1.0, "<=", 1.0)
@example(1.0, ">", 1.0)
@example(1.0, ">=", 1.0)
def test_operators_are_those_of_python(value, op, threshold):
    met = make().check("C1", value, op, threshold)
    assert met is eval(f"{value!r} {op} {threshold!r}")


@pytest.mark.parametrize(
    ("value", "met"), [(0.96, False), (0.97, True), (1.0, True), (1.03, True), (1.04, False)]
)
def test_an_interval_holds_both_ends(value, met):
    assert make().check("C4", value, "in", (0.97, 1.03)) is met


@pytest.mark.parametrize(
    "value",
    [0.5, np.float32(0.5), np.array([[0.5]]), torch.tensor(0.5), torch.tensor([0.5]),
     torch.nn.Parameter(torch.tensor([[0.5]])), pd.Series([0.5]), fractions.Fraction(1, 2)],
)  # fmt: skip
def test_whatever_holds_one_number_is_a_value(value):
    evidence = make()
    assert evidence.check("C1", value, "==", 0.5)
    assert type(evidence.record()["criteria"][0]["value"]) is float


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True), 1, np.int64(1)])
def test_truth_and_whole_numbers_are_values_too(value):
    assert make().check("C1", value, "==", 1)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    "value", [None, float("nan"), float("inf"), -float("inf"), torch.tensor(torch.nan), 10**400]
)
def test_a_value_that_is_not_finite_meets_nothing_and_leaves_the_verdict_open(value, op):
    evidence = make()
    assert not evidence.check("C1", value, op, (-1, 1) if op == "in" else 0)
    assert evidence.check("C2", 1, ">", 0)
    assert evidence.verdict() == "INCONCLUSIVE"
    assert evidence.record()["criteria"][0]["value"] is None
    assert evidence.check("K1", 1, ">", 0, kind="kill")
    assert evidence.verdict() == "ABANDON"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("C1", 1, "≤", 1), {}, "op of criterion C1 is '≤'; did you mean '<='?"),
        (("C1", 1, "=", 1), {}, "did you mean '=='?"),
        (("C1", 1, "=>", 1), {}, "did you mean '>='?"),
        (("C1", 1, "inside", (0, 1)), {}, "did you mean 'in'?"),
        (("C1", 1, "<", 1), {"kind": "succes"}, "did you mean 'success'?"),
        (("C1", 1, "<", 1), {"kind": "kills"}, "did you mean 'kill'?"),
        (("C1", 1, "<", 1), {"arm": "Reported"}, "did you mean 'reported'?"),
        (("C1", 1, "<", 1), {"arm": ""}, "arm of criterion 'C1' is empty"),
        (("", 1, "<", 1), {}, "id of criterion '' is empty"),
        (("C1", 1, "in", (2, 1)), {}, r"is reversed: \(2.0, 1.0\); write \(1.0, 2.0\)"),
        (("C1", 1, "in", 2), {}, "must be an interval"),
        (("C1", 1, "in", (1, 2, 3)), {}, "must be an interval"),
        (("C1", 1, "<", float("nan")), {}, "threshold of criterion C1 must be a finite number"),
        (("C1", 1, "<", None), {}, "threshold of criterion C1 must be a finite number"),
        (("C1", 1, "in", (0, float("inf"))), {}, "must be a finite number"),
        (("C1", 1, "<", 1), {"spread": -0.1}, "spread of criterion C1 is -0.1"),
    ],
)
def test_a_criterion_that_makes_no_sense_stops_with_the_remedy(arguments, options, message):
    evidence = make()
    with pytest.raises(ValueError, match=message):
        evidence.check(*arguments, **options)
    assert evidence.criteria == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.5", "value of criterion C1 must be a number, got '0.5' of type str"),
        (1j, "of type complex"),
        ([0.5], "of type list"),
        (torch.zeros(2, 3), r"has shape \(2, 3\); reduce it to one number"),
        (np.zeros(2), r"has shape \(2,\); reduce it to one number"),
        (pd.Series([], dtype=float), r"has shape \(0,\)"),
    ],
)
def test_a_value_that_is_no_number_stops(value, message):
    with pytest.raises(TypeError, match=message):
        make().check("C1", value, "<", 1)


def test_the_same_criterion_twice_stops_and_keeps_the_first():
    evidence = make()
    evidence.check("C1", 1, "<", 2, metric="train")
    evidence.check("C1", 1, "<", 2, metric="test")
    evidence.check("C1", 1, "<", 2, metric="train", arm="reported")
    with pytest.raises(ValueError, match=r"C1 \(corrected, train\) was checked before"):
        evidence.check("C1", 3, ">", 2, metric="train", kind="kill")
    assert len(evidence.criteria) == 3
    assert evidence.verdict() == "PROCEED"


# --- the record ----------------------------------------------------------------------------------


def test_the_record_has_the_fields_of_the_design():
    evidence = make(parameters={"steps": 3}, seeds=[0, 1])
    evidence.check("C4", 1.01, "in", (0.97, 1.03), metric="ratio", spread=0.02)
    record = evidence.record()
    assert list(record) == [
        "schema", "experiment", "title", "verdict", "runtime_s", "seeds", "parameters",
        "environment", "reported", "criteria",
    ]  # fmt: skip
    assert record["schema"] == 1
    assert (record["experiment"], record["verdict"], record["seeds"]) == ("004", "PROCEED", [0, 1])
    assert record["reported"] == {"train": 0.8544}
    assert record["criteria"] == [
        {"id": "C4", "arm": "corrected", "metric": "ratio", "value": 1.01, "spread": 0.02,
         "op": "in", "threshold": [0.97, 1.03], "kind": "success", "met": True}
    ]  # fmt: skip


@asks_git
@given(evidences())
def test_a_record_survives_json_and_validates(evidence):
    record = evidence.record()
    read = json.loads(json.dumps(record, allow_nan=False))
    assert read == record
    assert lab_evidence.validate(read) == evidence.criteria
    assert lab_evidence.same(read, evidence.record())


def test_records_are_the_same_but_for_their_runtime():
    record = make().record()
    assert lab_evidence.same(record, {**record, "runtime_s": 99.0})
    assert "runtime_s" not in lab_evidence.reproducible(record)
    assert not lab_evidence.same(record, {**record, "seeds": [7]})


@dataclass(frozen=True)
class Parameters:
    length: int
    seeds: list[int]


@pytest.mark.parametrize("parameters", [Parameters(8, [1]), {"length": np.int64(8), "seeds": (1,)}])
def test_parameters_are_copied_as_plain_values(parameters):
    evidence = make(parameters=parameters)
    if isinstance(parameters, Parameters):
        parameters.seeds.append(2)
    assert evidence.record()["parameters"] == {"length": 8, "seeds": [1]}
    evidence.record()["parameters"]["seeds"].append(3)
    assert evidence.record()["parameters"]["seeds"] == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": {"data": {"root": object()}}}, "parameters.data.root is a object"),
        ({"parameters": [1]}, "a dataclass instance or a mapping, got a list"),
        ({"parameters": Parameters}, "a dataclass instance or a mapping, got a type"),
        ({"reported": {"train": "0.85"}}, "reported 'train' must be a number"),
        ({"reported": [0.85]}, "reported must map names to numbers, got a list"),
        ({"title": 4}, "title of experiment 004 must be text"),
        ({"seeds": [0.5]}, "cannot be interpreted as an integer"),
    ],
)
def test_a_record_that_could_not_be_written_stops_at_the_start(options, message):
    with pytest.raises(TypeError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 3}, r"schema 3 is newer than this workspace reads \(2\)"),
        ({"schema": 0}, "schema 0 is not one this workspace reads"),
        ({"schema": True}, "schema of the record is of type bool"),
        ({"title": None}, "title of the record is of type NoneType, not str"),
        ({"verdict": "DEBUG"}, "inconsistent: its verdict is 'DEBUG', its criteria say PROCEED"),
        ({"criteria": []}, "inconsistent: its verdict is 'PROCEED', its criteria say INCONCLU"),
        ({"criteria": ["C1"]}, "a criterion of the record is of type str"),
        ({"criteria": [{"id": "C1"}]}, "fields missing or unknown: arm, kind, metric"),
        ({"seeds": ["0"]}, "a seed of the record is of type str"),
        ({"runtime_s": "1"}, "runtime_s of the record must be a number"),
        ({"runtime_s": 10**400}, "runtime_s of the record must be a finite number"),
        ({"reported": {"train": 10**400}}, "reported 'train' must be a finite number"),
        ({"reported": {"train": []}}, "reported 'train' must be a number"),
        ({"tables": []}, "tables of the record is of type list, not dict"),
        ({"tables": {"sizes": {}}}, "table 'sizes' of the record is of type dict, not list"),
        ({"tables": {"sizes": [1]}}, "a row of table 'sizes' of the record is of type int"),
    ],
)
def test_a_record_that_is_not_whole_is_told(changes, message):
    evidence = make()
    evidence.check("C1", 1, "<", 2)
    with pytest.raises(ValueError, match=message):
        lab_evidence.validate({**evidence.record(), **changes})


def test_tables_are_copied_into_the_record_as_plain_values():
    evidence, row = make(), {"bytes": np.int64(8), "accuracy": torch.tensor(0.5), "mixer": "delta"}
    assert "tables" not in evidence.record()
    evidence.table("sizes", [row])
    row["mixer"] = "changed"
    record = evidence.record()
    assert record["tables"] == {"sizes": [{"bytes": 8, "accuracy": 0.5, "mixer": "delta"}]}
    lab_evidence.validate(json.loads(json.dumps(record)))
    record["tables"]["sizes"].clear()
    assert len(evidence.record()["tables"]["sizes"]) == 1


@pytest.mark.parametrize(
    ("name", "rows", "error", "message"),
    [
        ("sizes", [{}], ValueError, "'sizes' was given before"),
        ("", [], ValueError, "the name of a table of experiment 004 is empty"),
        ("other", [3], TypeError, "a row of table 'other' is a int, not a mapping"),
        ("other", [{"x": object()}], TypeError, "table 'other'"),
    ],
)
def test_a_table_that_cannot_be_kept_stops(name, rows, error, message):
    evidence = make()
    evidence.table("sizes", [])
    with pytest.raises(error, match=message):
        evidence.table(name, rows)
    assert list(evidence.tables) == ["sizes"]


@pytest.mark.parametrize("field", sorted(make().record()))
def test_every_field_of_a_record_is_needed(field):
    record = make().record()
    del record[field]
    with pytest.raises(ValueError, match=field):
        lab_evidence.validate(record)


@pytest.mark.parametrize(
    "changes", [{"met": False}, {"met": 1}, {"value": 3.0}, {"value": None}, {"threshold": 0.5}]
)
def test_a_criterion_that_contradicts_itself_is_told(changes):
    evidence = make()
    evidence.check("C1", 1, "<", 2)
    record = evidence.record()
    record["criteria"][0].update(changes)
    with pytest.raises(ValueError, match="inconsistent"):
        lab_evidence.validate(record)


# --- the table -----------------------------------------------------------------------------------


class Text(HTMLParser):
    """The tags of a page, and what a reader sees of it."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


@asks_git
@given(TEXT.filter(str.strip), TEXT)
@example("<script>alert(1)</script>", "</td>&amp;")
def test_html_shows_any_text_as_it_is(title, metric):
    evidence = make(title=title, reported={metric: 1})
    evidence.check("C1", 1, "<", 2, metric=metric)
    page = Text(lab_evidence.as_html(evidence.record()))
    assert page.tags == {"p", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert f"004 {title}" in page.text
    assert f"corrected{metric}success" in page.text


def test_a_notebook_gets_the_record_and_both_tables():
    evidence = make()
    evidence.check("C1", 1.7e-7, "<", 1e-3, spread=2e-8)
    data, _ = DisplayFormatter().format(evidence)
    assert lab_evidence.same(data[MIME], evidence.record())
    assert str(evidence) == data["text/plain"]
    for table in (data["text/plain"], Text(data["text/html"]).text):
        assert "1.7e-7 ± 2e-8" in table
        assert "< 0.001" in table
        assert "PROCEED: every success criterion is met (C1)" in table
        assert "train 0.8544" in table


def test_columns_of_the_text_are_aligned():
    evidence = make()
    evidence.check("C1", 1, "<", 2)
    evidence.check("long id", 1, "<", 2, kind="context", metric="a metric")
    head, *rows = str(evidence).splitlines()[2:5]
    for column, entry in (("kind", ["success", "context"]), ("limit", ["< 2", "< 2"])):
        start = head.index(column)
        assert [row[start:].startswith(text) for row, text in zip(rows, entry, strict=True)]
        assert all(row[start - 2 : start] == "  " for row in rows)


near_threshold = st.tuples(
    FLOATS, st.integers(-3, 3) | st.just(0), st.sampled_from([2.0**-52, 1e-9, 1e-5])
)


@patient
@given(near_threshold, st.sampled_from([op for op in OPS if op != "in"]))
@example((0.99, -3, 1e-5), ">=")
def test_the_number_shown_agrees_with_the_status(around, op):
    threshold, steps, size = around
    each = criterion("C1", threshold * (1 + steps * size), op, threshold)
    _, _, _, _, value, limit, status = each.row()
    if each.value is None:
        assert (value, status) == ("not finite", "not finite")
    else:
        shown = lab_evidence.holds(float(value), op, float(limit.removeprefix(f"{op} ")))
        assert status == ("met" if shown else "missed")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.85441, "0.8544"), (129.0, "129"), (12345, "12345"), (1.7e-7, "1.7e-7"), (-0.0, "0"),
     (1234567.0, "1.235e6"), (2e-10, "2e-10"), (1e100, "1e100"), (None, "not finite")],
)  # fmt: skip
def test_numbers_are_short(number, text):
    assert lab_evidence.shown(number) == text


def test_statuses_hold_no_measured_number():
    def statuses(value):
        evidence = make()
        evidence.check("C1", value, "<", 2, metric="test MSE")
        evidence.check("F1", value, ">", 2, kind="failure")
        # A ratio of two tiny numbers falls on one side here and on the other elsewhere.
        evidence.check("F2", value, ">", 1, kind="context")
        evidence.check("S1", None, ">", 1, arm="reported")
        return evidence.statuses()

    assert statuses(0.5) == statuses(1.5)
    assert statuses(0.5).splitlines() == [
        "C1 (corrected, test MSE): success, met",
        "F1 (corrected): failure, not met",
        "F2 (corrected): context, recorded",
        "S1 (reported): success, not finite",
        "verdict: PROCEED",
    ]
    assert statuses(3) != statuses(0.5)


def test_a_verdict_shows_as_its_word():
    assert repr(make().verdict()) == str(make().verdict()) == "INCONCLUSIVE"


# --- the machine ---------------------------------------------------------------------------------


def test_the_environment_is_known_and_stable():
    environment = lab_evidence.environment()
    assert environment == lab_evidence.environment()
    assert environment["torch"] == torch.__version__
    assert environment["numpy"] == np.__version__
    assert environment["torch_threads"] == torch.get_num_threads()
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_package_that_is_missing_is_null(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    assert lab_evidence.environment()["numba"] is None


def test_the_version_is_that_of_the_build_in_use(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.13.0")
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    assert lab_evidence.environment()["torch"] == "2.13.0+cu130"


def test_reading_records_does_not_import_torch():
    program = "import sys, lab.research_log; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    outside = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *identity, *arguments]
    done = subprocess.run(command, env=outside, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "scan.py").write_text("pass\n")
    git(tmp_path, "init", "-q")
    return tmp_path


def commit_all(checkout):
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "--no-verify", "-m", "Start")
    return git(checkout, "rev-parse", "HEAD")[:12]


def test_the_commit_is_that_of_the_code(checkout, monkeypatch):
    head = commit_all(checkout)
    # As inside a hook of another checkout.
    monkeypatch.setenv("GIT_DIR", str(checkout / "elsewhere"))
    assert len(head) == 12
    assert lab_evidence.commit(checkout) == head


@pytest.mark.parametrize("path", ["lab/scan.py", "lab/new.py", "params/004.yaml", "pyproject.toml"])
def test_a_change_of_the_code_marks_the_commit(checkout, path):
    head = commit_all(checkout)
    (checkout / path).parent.mkdir(exist_ok=True)
    (checkout / path).write_text("changed\n")
    assert lab_evidence.commit(checkout) == f"{head}+changes"


def test_results_beside_the_code_do_not_mark_the_commit(checkout):
    head = commit_all(checkout)
    (checkout / "executed").mkdir()
    (checkout / "executed" / "004.ipynb").write_text("{}")
    assert lab_evidence.commit(checkout) == head


def test_there_is_no_commit_before_the_first(checkout):
    assert lab_evidence.commit(checkout) is None


def test_a_checkout_around_the_package_is_not_its_own(checkout):
    commit_all(checkout)
    assert lab_evidence.commit(checkout / "lab") is None


def test_there_is_no_commit_without_git(checkout, monkeypatch):
    commit_all(checkout)
    monkeypatch.setenv("PATH", str(checkout))
    assert lab_evidence.commit(checkout) is None


def test_criteria_cannot_be_changed_after_the_fact():
    evidence = make()
    evidence.check("C1", 3, "<", 2)
    with pytest.raises(AttributeError):
        evidence.criteria[0].threshold = 4


def test_seeds_are_whole_numbers_of_any_kind():
    assert make(seeds=np.arange(2)).record()["seeds"] == [0, 1]
