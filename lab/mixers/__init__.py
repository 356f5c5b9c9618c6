"""Sequence mixers, one architecture a file, each with a parallel and a step form."""

from lab.mixers.base import Mixer, unroll
from lab.mixers.circulant import BlockCirculant, Circulant
from lab.mixers.cosformer import CosFormer
from lab.mixers.delay_line import DelayLine
from lab.mixers.delta_net import DeltaNet
from lab.mixers.delta_rule import DeltaRule
from lab.mixers.diagonal import PolarDiagonal, RealDiagonal
from lab.mixers.fenwick import FenwickAttention
from lab.mixers.gate import ReadOutGate
from lab.mixers.gated_linear_attention import GatedLinearAttention
from lab.mixers.linear import linear
from lab.mixers.linear_attention import LinearAttention
from lab.mixers.linoss import LinOSS, OscillatorBank
from lab.mixers.log_ssm import LogEMA, LogSSM
from lab.mixers.memory import Memory
from lab.mixers.multi_head import MultiHead
from lab.mixers.osc_dplr import OscDPLR
from lab.mixers.osc_gate import OscGate
from lab.mixers.retention import Retention
from lab.mixers.selective import SelectiveDiagonal
from lab.mixers.short_convolution import Convolved, ShortConvolution
from lab.mixers.slots import SoftSlots
from lab.mixers.softmax_attention import SoftmaxAttention
from lab.mixers.state_space import StateSpace, look_up
from lab.mixers.transition import DiagonalTransition, Transition
from lab.mixers.tropical import TropicalGated, TropicalSlots

__all__ = [
    "BlockCirculant",
    "Circulant",
    "Convolved",
    "CosFormer",
    "DelayLine",
    "DeltaNet",
    "DeltaRule",
    "DiagonalTransition",
    "FenwickAttention",
    "GatedLinearAttention",
    "LinOSS",
    "LinearAttention",
    "LogEMA",
    "LogSSM",
    "Memory",
    "Mixer",
    "MultiHead",
    "OscDPLR",
    "OscGate",
    "OscillatorBank",
    "PolarDiagonal",
    "ReadOutGate",
    "RealDiagonal",
    "Retention",
    "SelectiveDiagonal",
    "ShortConvolution",
    "SoftSlots",
    "SoftmaxAttention",
    "StateSpace",
    "Transition",
    "TropicalGated",
    "TropicalSlots",
    "linear",
    "look_up",
    "unroll",
]
