"""Figures of pairs carry every pair, and mark which means are clear of zero."""

import numpy as np
import torch

from lab.figures import COLOURS
from lab.paired_figures import intervals, slopes
from lab.statistics import Interval


def test_every_pair_is_a_line_and_the_last_is_their_mean():
    pairs = {"a": (torch.tensor([0.1, 0.5]), torch.tensor([0.2, 0.4])),
             "b": (torch.tensor([1.0]), torch.tensor([0.0]))}  # fmt: skip
    figure = slopes(pairs, ends=("without", "with"), levels={"chance": 0.3})
    lines = [[round(float(y), 6) for y in trace.y] for trace in figure.data]
    assert lines == [[0.1, 0.2], [0.5, 0.4], [0.3, 0.3], [1, 0], [1, 0]]
    assert [trace.line.width for trace in figure.data] == [1, 1, 4, 1, 4]
    assert figure.layout.xaxis.ticktext == ("a<br>without → with", "b<br>without → with")
    assert figure.layout.shapes[0].y0 == 0.3


def test_an_interval_clear_of_zero_has_another_colour():
    differences = {"up": torch.tensor([1.0, 3.0]), "null": torch.tensor([-1.0, 1.0])}
    found = {"up": Interval(2, 1, 3), "null": Interval(0, -1, 1)}
    figure = intervals(differences, found, x_title="points")
    *dots, means = figure.data
    assert [list(map(float, trace.x)) for trace in dots] == [[1, 3], [-1, 1]]
    np.testing.assert_array_equal(means.x, [2, 0])
    np.testing.assert_array_equal(means.error_x.array, [1, 1])
    assert list(means.marker.color) == [COLOURS[1], COLOURS[0]]
    assert figure.layout.yaxis.ticktext == ("up", "null")
