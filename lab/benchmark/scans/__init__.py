"""The scans as benchmark problems, each with its contenders."""

from lab.benchmark.problem import Problem
from lab.benchmark.scans.linear import COMPLEX, LINEAR
from lab.benchmark.scans.log import LOG
from lab.benchmark.scans.matrix import MATRIX
from lab.benchmark.scans.softmax import SOFTMAX
from lab.benchmark.scans.tropical import TROPICAL

SCANS: dict[str, Problem] = {
    problem.name: problem for problem in (LINEAR, COMPLEX, LOG, TROPICAL, SOFTMAX, MATRIX)
}

__all__ = ["COMPLEX", "LINEAR", "LOG", "MATRIX", "SCANS", "SOFTMAX", "TROPICAL"]
