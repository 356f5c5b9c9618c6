"""Speed of the scans, compared with other libraries and with the speed of memory.

A `Problem` is a scan on random inputs, and its `Contender`s are ways to compute it. `compare` times
them in turns and measures their errors, `peak` measures memory, and `tables` shows the results.
"""

from lab.benchmark import machine, tables, timing
from lab.benchmark.comparison import EXISTING, FRESH, Comparison, Errors, compare, sweep
from lab.benchmark.machine import caches, describe
from lab.benchmark.memory import Peak, peak
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
    "machine",
    "parse",
    "peak",
    "sweep",
    "tables",
    "take_turns",
    "timing",
    "written",
]
