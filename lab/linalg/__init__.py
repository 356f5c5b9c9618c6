"""Structured matrices and what state-space models do with them. Knows nothing of models."""

from lab.linalg.convolution import causal_convolution
from lab.linalg.discretisation import bilinear, zero_order_hold
from lab.linalg.dplr import DPLR, dissipative
from lab.linalg.kernel import kernel_doubling, kernel_resolvent, kernel_sequential
from lab.linalg.oscillator import oscillator_eigenvalues, oscillator_parameters

__all__ = [
    "DPLR",
    "bilinear",
    "causal_convolution",
    "dissipative",
    "kernel_doubling",
    "kernel_resolvent",
    "kernel_sequential",
    "oscillator_eigenvalues",
    "oscillator_parameters",
    "zero_order_hold",
]
