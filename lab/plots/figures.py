"""Figures: pure functions of arrays, whose axes are labelled with quantities and units."""

from lab.plots.bands import bands
from lab.plots.cells import tokens
from lab.plots.curves import accuracy, lines, losses, recall, scaling
from lab.plots.looks import claim
from lab.plots.matrices import matrices
from lab.plots.planes import eigenvalues, heatmaps, trajectories, transitions
from lab.plots.points import intervals, ranges, recovered, slopes, strips
from lab.plots.theme import COLOURS, GREY

__all__ = [
    "COLOURS",
    "GREY",
    "accuracy",
    "bands",
    "claim",
    "eigenvalues",
    "heatmaps",
    "intervals",
    "lines",
    "losses",
    "matrices",
    "ranges",
    "recall",
    "recovered",
    "scaling",
    "slopes",
    "strips",
    "tokens",
    "trajectories",
    "transitions",
]
