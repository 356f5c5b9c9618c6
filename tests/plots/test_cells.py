"""Cells show categories with their symbols, and equal symbols have equal colours."""

import numpy as np
import pytest
import torch

from lab.plots.cells import colour_of
from lab.plots.figures import tokens


def cells(figure):
    """Symbols and colours of all rows of cells, by the name of the row."""
    (heat,) = figure.data
    low, high = heat.zmin, heat.zmax
    stops = [(at, colour) for at, colour in heat.colorscale]

    def colour(value):
        share = (value - low) / (high - low)
        return next((c for (a, c), (b, _) in zip(stops[::2], stops[1::2], strict=True)
                     if a <= share < b), None)  # fmt: skip

    return {name: [(word, None if np.isnan(z) else colour(z)) for word, z in zip(*row, strict=True)]
            for name, row in zip(figure.layout.yaxis.ticktext,
                                 zip(heat.text, heat.z, strict=True), strict=True)}  # fmt: skip


def test_a_copied_token_has_the_colour_of_its_original():
    figure = tokens({"input": torch.tensor([3, 1, 3, 7]), "target": torch.tensor([-1, 3, 1, 3])})
    shown = cells(figure)
    assert [word for word, _ in shown["input"]] == ["3", "1", "3", "7"]
    assert [word for word, _ in shown["target"]] == ["", "3", "1", "3"]
    colours = {word: {c for row in shown.values() for w, c in row if w == word} for word in "137"}
    assert all(len(each) == 1 for each in colours.values())
    assert len(set.union(*colours.values())) == 3
    assert figure.layout.yaxis.autorange == "reversed"  # the target stands under the input
    assert figure.layout.xaxis.title.text == "step t"


def test_colours_stay_as_another_sequence_is_shown():
    def colour(row):
        return dict(cells(tokens({"input": torch.tensor(row)}))["input"])["5"]

    assert colour([5, 9, 0]) == colour([5, 5, 5]) == colour_of(5)


def test_rows_have_symbols_of_their_own_and_blanks_are_faint():
    figure = tokens(
        {"swap": torch.tensor([0, 1]), "arrangement": torch.tensor([2, 0])},
        symbols={"swap": ["(01)", "·"], "arrangement": ["01", "10", "11"]},
    )
    shown = cells(figure)
    assert [word for word, _ in shown["swap"]] == ["(01)", ""]
    assert [word for word, _ in shown["arrangement"]] == ["11", "01"]
    assert shown["swap"][1][1].startswith("rgba(128")


def test_no_two_of_a_hundred_symbols_have_one_colour():
    assert len({colour_of(number) for number in range(100)}) == 100


@pytest.mark.parametrize("steps", [1, 20, 64, 200])
def test_long_sequences_go_on_in_further_rows(steps):
    figure = tokens({"input": torch.arange(steps), "target": torch.arange(steps)})
    shown = cells(figure)
    for row in ("input", "target"):
        parts = [cell for name, each in shown.items() if name.startswith(row) for cell in each]
        assert [word for word, _ in parts if word] == [str(step) for step in range(steps)]
    assert figure.data[0].x is None
    assert len(figure.data[0].z[0]) <= 32  # cells wide enough for their symbols


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ({}, "one or more rows"),
        ({"a": torch.arange(3), "b": torch.arange(2)}, "'a': 3, 'b': 2"),
        ({"a": torch.empty(0)}, "length above 0"),
        ({"a": torch.tensor([0, 4])}, "'a' holds 4: its tokens are whole numbers below 4"),
        ({"a": torch.tensor([0.5])}, "'a' holds 0.5"),
    ],
)
def test_what_is_no_category_is_refused(rows, sentence):
    with pytest.raises(ValueError, match=sentence):
        tokens(rows, symbols=list("abcd"))
