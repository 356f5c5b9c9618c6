"""Speed of scans and layers, compared with other libraries and with the speed of memory.

A `Problem` is a scan or a layer on random inputs, and its `Contender`s are ways to compute it.
`compare` times them in turns and measures their errors, `peak` measures memory, and `tables` shows
the results. `history` is that of `lab.benchmark.updates`.
"""

from lab.benchmark import history, machine, tables, timing
from lab.benchmark.comparison import EXISTING, FRESH, Comparison, Errors, compare, sweep
from lab.benchmark.layers import layer
from lab.benchmark.machine import caches, describe
from lab.benchmark.memory import Peak, peak, peaks
from lab.benchmark.problem import LOOP, OURS, Contender, Problem, Shape, parse, written
from lab.benchmark.scans import SCANS
from lab.benchmark.scans.gpu import ON_GPU
from lab.benchmark.timing import Timing, empty_function, growth, take_turns

__all__ = [
    "EXISTING",
    "FRESH",
    "LOOP",
    "ON_GPU",
    "OURS",
    "SCANS",
    "Comparison",
    "Contender",
    "Errors",
    "Peak",
    "Problem",
    "Shape",
    "Timing",
    "caches",
    "compare",
    "describe",
    "empty_function",
    "growth",
    "history",
    "layer",
    "machine",
    "parse",
    "peak",
    "peaks",
    "sweep",
    "tables",
    "take_turns",
    "timing",
    "written",
]
