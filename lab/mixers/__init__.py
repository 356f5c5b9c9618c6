"""Sequence mixers, one architecture a file, each with a parallel and a step form."""

from lab.mixers.base import Mixer, unroll
from lab.mixers.delay_line import DelayLine
from lab.mixers.delta_net import DeltaNet
from lab.mixers.gate import ReadOutGate
from lab.mixers.multi_head import MultiHead
from lab.mixers.osc_dplr import OscDPLR
from lab.mixers.oscillator_bank import OscillatorBank
from lab.mixers.selective import SelectiveDiagonal
from lab.mixers.short_convolution import Convolved, ShortConvolution
from lab.mixers.state_space import StateSpace, look_up

__all__ = [
    "Convolved",
    "DelayLine",
    "DeltaNet",
    "Mixer",
    "MultiHead",
    "OscDPLR",
    "OscillatorBank",
    "ReadOutGate",
    "SelectiveDiagonal",
    "ShortConvolution",
    "StateSpace",
    "look_up",
    "unroll",
]
