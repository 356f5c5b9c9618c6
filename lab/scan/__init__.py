"""Linear recurrences over time, each a parallel form beside its plain loop, `NAME_sequential`."""

from lab.scan.linear import linear_scan, linear_scan_sequential
from lab.scan.matrix import matrix_scan, matrix_scan_sequential

__all__ = [
    "linear_scan",
    "linear_scan_sequential",
    "matrix_scan",
    "matrix_scan_sequential",
]
