"""What to run next: the order that the page promises."""

from itertools import permutations

from log_cases import RECORD, tables, with_summary

from lab.records.log.experiment import Experiment
from lab.records.log.ranking import order, ranking


def experiment(number, **fields):
    return Experiment(f"{number}.ipynb", with_summary(number, **fields))


CASES = [
    experiment("006", impact=5, cost_h=8.0),
    experiment("001", impact=3, cost_h=0.5),
    experiment("002", impact=3, cost_h=0.5),
    experiment("004", impact=3, cost_h=2),
    experiment("003", impact=5, cost_h=0.1, blocked_by="a GPU | two"),
]


def test_what_nothing_blocks_comes_first_then_impact_then_the_cheaper_then_the_number():
    for some in permutations(CASES):
        assert [each.number for each in order(some)] == ["006", "001", "002", "004", "003"]


def test_a_record_without_a_summary_is_not_ranked():
    assert order([Experiment("004.ipynb", RECORD)]) == []
    assert ranking([Experiment("004.ipynb", RECORD)]) == "No notebook declares a next run yet."


def test_the_table_says_what_is_declared():
    (rows,) = tables(ranking(CASES))
    assert rows["1"][1:] == [
        "[006](log/006.md)", "Score it at 2,048 steps.", "5", "8", "nothing",
    ]  # fmt: skip
    assert rows["5"][3:] == ["5", "0.1", r"a GPU \| two"]
