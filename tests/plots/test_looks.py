"""No two arms of a figure look alike, and an arm looks the same in every figure."""

import pytest
import torch

from lab.plots import figures, looks
from lab.plots.looks import LOOKS, REFERENCES, Register


@pytest.fixture(autouse=True)
def fresh():
    looks.reset()
    yield
    looks.reset()


def test_looks_differ_by_colour_and_dash_and_by_colour_and_marker():
    for parts in ("colour", "dash"), ("colour", "marker"):
        assert len({tuple(getattr(look, part) for part in parts) for look in LOOKS}) == len(LOOKS)
    assert len({look.dash for look in REFERENCES}) == len(REFERENCES)


def test_a_name_keeps_its_look_from_figure_to_figure():
    register = Register()
    first = register.of(["a", "b", "c"])
    assert register.of(["d", "c", "a"])["a"] == first["a"]
    assert register.of(["c"]) == {"c": first["c"]}
    assert register.of(["d"])["d"] not in first.values()
    other = Register()
    assert other.of(["a", "b", "c"]) == first  # first come, first served, in every run


def test_of_forty_names_no_two_in_one_figure_are_alike():
    register = Register()
    for first in range(0, 40, 3):
        names = [f"arm {i % 40}" for i in range(first, first + 30)]
        assert len(set(register.of(names).values())) == 30


def test_a_figure_that_runs_out_of_looks_raises():
    names = [f"arm {i}" for i in range(len(LOOKS) + 1)]
    with pytest.raises(ValueError, match=r"31 arms, from 'arm 0' to 'arm 30'.*30 looks; split"):
        figures.lines({name: torch.ones(3) for name in names}, x_title="x", y_title="y")
    with pytest.raises(ValueError, match="6 grey references"):
        figures.lines({n: torch.ones(3) for n in names[:6]}, x_title="x", y_title="y",
                      dashed=names[:6])  # fmt: skip


def test_what_is_borrowed_leaves_no_trace():
    known = looks.of(["arm"])
    with looks.borrowed():
        for step in range(100):
            found = looks.of(["arm", f"step {step}"])
            assert found["arm"] == known["arm"] != found[f"step {step}"]
    assert looks.of(["next"])["next"] == LOOKS[1]


def test_a_text_finds_the_arm_that_it_is_about():
    found = looks.of(["K = 1", "K = 1, complex"])
    assert looks.known("K = 1, complex, 128 steps") == found["K = 1, complex"]
    assert looks.known("K = 1, real") == found["K = 1"]
    assert looks.known("K = 12") is None


def drawn(figure):
    """Colour, dash and marker of the traces that stand for an arm, by arm."""
    named = [t for t in figure.data if t.line.width == 2 and t.legendgroup]
    return {t.legendgroup: (t.line.color, t.line.dash, t.marker.symbol) for t in named}


@pytest.mark.parametrize("count", [2, 7, 14, 30])
def test_arms_of_a_notebook_look_alike_in_curves_of_every_kind(count):
    arms = [f"arm {i}" for i in range(count)]
    shares = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    both = (
        figures.accuracy(dict.fromkeys(arms, shares)),
        figures.recall({arm: {64: [0.5], 128: [1.0]} for arm in arms[::-1]}),
        figures.scaling({arm: {1: 1.0, 2: 4.0} for arm in arms[::2]}, x_title="T", y_title="ms"),
    )
    first = drawn(both[0])
    assert len(set(first.values())) == count
    for figure in both[1:]:
        assert drawn(figure) == {arm: first[arm] for arm in drawn(figure)} != {}
