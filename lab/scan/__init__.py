"""Recurrences over time, each a fast form beside its plain loop, `NAME_sequential`."""

from lab.scan.associative import associative_scan, associative_scan_sequential
from lab.scan.block import block_scan, block_scan_associative, block_scan_sequential
from lab.scan.householder import (
    householder_scan,
    householder_scan_associative,
    householder_scan_sequential,
)
from lab.scan.kuramoto import kuramoto_scan, kuramoto_scan_sequential
from lab.scan.linear import linear_scan, linear_scan_associative, linear_scan_sequential
from lab.scan.log import log_scan, log_scan_associative, log_scan_sequential
from lab.scan.matmul import matmul_scan, matmul_scan_sequential
from lab.scan.matrix import matrix_scan, matrix_scan_associative, matrix_scan_sequential
from lab.scan.monarch import monarch_scan, monarch_scan_sequential
from lab.scan.monarch_table import monarch_table_scan, monarch_table_scan_sequential
from lab.scan.pair import pair_scan, pair_scan_associative, pair_scan_sequential
from lab.scan.permutation import (
    permutation_scan,
    permutation_scan_associative,
    permutation_scan_sequential,
)
from lab.scan.scatter import scatter_scan, scatter_scan_associative, scatter_scan_sequential
from lab.scan.selective import (
    selective_scan,
    selective_scan_associative,
    selective_scan_sequential,
)
from lab.scan.softmax import softmax_scan, softmax_scan_associative, softmax_scan_sequential
from lab.scan.table import table_scan, table_scan_associative, table_scan_sequential
from lab.scan.tropical import tropical_scan, tropical_scan_associative, tropical_scan_sequential

__all__ = [
    "associative_scan",
    "associative_scan_sequential",
    "block_scan",
    "block_scan_associative",
    "block_scan_sequential",
    "householder_scan",
    "householder_scan_associative",
    "householder_scan_sequential",
    "kuramoto_scan",
    "kuramoto_scan_sequential",
    "linear_scan",
    "linear_scan_associative",
    "linear_scan_sequential",
    "log_scan",
    "log_scan_associative",
    "log_scan_sequential",
    "matmul_scan",
    "matmul_scan_sequential",
    "matrix_scan",
    "matrix_scan_associative",
    "matrix_scan_sequential",
    "monarch_scan",
    "monarch_scan_sequential",
    "monarch_table_scan",
    "monarch_table_scan_sequential",
    "pair_scan",
    "pair_scan_associative",
    "pair_scan_sequential",
    "permutation_scan",
    "permutation_scan_associative",
    "permutation_scan_sequential",
    "scatter_scan",
    "scatter_scan_associative",
    "scatter_scan_sequential",
    "selective_scan",
    "selective_scan_associative",
    "selective_scan_sequential",
    "softmax_scan",
    "softmax_scan_associative",
    "softmax_scan_sequential",
    "table_scan",
    "table_scan_associative",
    "table_scan_sequential",
    "tropical_scan",
    "tropical_scan_associative",
    "tropical_scan_sequential",
]
