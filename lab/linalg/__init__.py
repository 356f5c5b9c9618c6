"""Structured matrices and their use in state-space models; imports nothing from the models."""

from lab.linalg.circulant import BlockCirculantMatrix, CirculantMatrix
from lab.linalg.convolution import causal_convolution
from lab.linalg.delta_rule import delta_rule, delta_rule_sequential, routed_reflection
from lab.linalg.discretisation import bilinear, zero_order_hold
from lab.linalg.displacement import CauchyLike
from lab.linalg.dplr import DPLR, dissipative
from lab.linalg.hss import HODLR
from lab.linalg.kernel import kernel_doubling, kernel_of_cycles, kernel_resolvent, kernel_sequential
from lab.linalg.monarch import MonarchMatrix
from lab.linalg.oscillator import (
    oscillator_eigenvalues,
    oscillator_parameters,
    parameter_error,
)
from lab.linalg.routed import Routed
from lab.linalg.structure import Structured
from lab.linalg.wy_form import householder_product

__all__ = [
    "DPLR",
    "HODLR",
    "BlockCirculantMatrix",
    "CauchyLike",
    "CirculantMatrix",
    "MonarchMatrix",
    "Routed",
    "Structured",
    "bilinear",
    "causal_convolution",
    "delta_rule",
    "delta_rule_sequential",
    "dissipative",
    "householder_product",
    "kernel_doubling",
    "kernel_of_cycles",
    "kernel_resolvent",
    "kernel_sequential",
    "oscillator_eigenvalues",
    "oscillator_parameters",
    "parameter_error",
    "routed_reflection",
    "zero_order_hold",
]
