"""Sequence mixers, one architecture a file, each with a parallel and a step form."""

from lab.mixers.base import Mixer, unroll
from lab.mixers.circulant import BlockCirculant, Circulant
from lab.mixers.delta_net import DeltaNet
from lab.mixers.diagonal import PolarDiagonal, RealDiagonal
from lab.mixers.linear import linear
from lab.mixers.osc_dplr import OscDPLR
from lab.mixers.state_space import StateSpace, look_up
from lab.mixers.transition import DiagonalTransition, Transition

__all__ = [
    "BlockCirculant",
    "Circulant",
    "DeltaNet",
    "DiagonalTransition",
    "Mixer",
    "OscDPLR",
    "PolarDiagonal",
    "RealDiagonal",
    "StateSpace",
    "Transition",
    "linear",
    "look_up",
    "unroll",
]
