"""Sequence mixers, one architecture a file, each with a parallel and a step form."""

from lab.mixers.base import Mixer, unroll
from lab.mixers.osc_dplr import OscDPLR

__all__ = ["Mixer", "OscDPLR", "unroll"]
