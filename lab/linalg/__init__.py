"""Structured matrices and their use in state-space models; imports nothing from the models."""

from lab.linalg.convolution import causal_convolution
from lab.linalg.delta_rule import delta_rule, delta_rule_sequential, routed_reflection
from lab.linalg.discretisation import bilinear, zero_order_hold
from lab.linalg.dplr import DPLR, dissipative
from lab.linalg.kernel import kernel_doubling, kernel_of_cycles, kernel_resolvent, kernel_sequential
from lab.linalg.oscillator import (
    oscillator_eigenvalues,
    oscillator_parameters,
    parameter_error,
)

__all__ = [
    "DPLR",
    "bilinear",
    "causal_convolution",
    "delta_rule",
    "delta_rule_sequential",
    "dissipative",
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
