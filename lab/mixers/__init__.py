"""Sequence mixers, one architecture per file, each with a parallel and a step form."""

from lab.mixers.base import Continuing, Mixer, Packing, unroll
from lab.mixers.delay_line import DelayLine
from lab.mixers.delta_net import DeltaNet
from lab.mixers.interventions import (
    Freeze,
    InCoupling,
    Intervention,
    Placebo,
    SetOrder,
    Shuffle,
    Turn,
    intervening,
)
from lab.mixers.kuramoto import KuramotoSSM
from lab.mixers.kuramoto_bank import KuramotoBank, decayed, noise_of, predicted_order
from lab.mixers.mamba import Mamba
from lab.mixers.multi_head import MultiHead
from lab.mixers.order import order_parameter, placebo, set_order, turned_alike
from lab.mixers.osc_dplr import OscDPLR
from lab.mixers.oscillator_bank import OscillatorBank
from lab.mixers.output_gate import OutputGate
from lab.mixers.routed_heads import RoutedHeads
from lab.mixers.routed_memories import RoutedMemories
from lab.mixers.short_convolution import Convolved, ShortConvolution
from lab.mixers.state_space import StateSpace, look_up

__all__ = [
    "Continuing",
    "Convolved",
    "DelayLine",
    "DeltaNet",
    "Freeze",
    "InCoupling",
    "Intervention",
    "KuramotoBank",
    "KuramotoSSM",
    "Mamba",
    "Mixer",
    "MultiHead",
    "OscDPLR",
    "OscillatorBank",
    "OutputGate",
    "Packing",
    "Placebo",
    "RoutedHeads",
    "RoutedMemories",
    "SetOrder",
    "ShortConvolution",
    "Shuffle",
    "StateSpace",
    "Turn",
    "decayed",
    "intervening",
    "look_up",
    "noise_of",
    "order_parameter",
    "placebo",
    "predicted_order",
    "set_order",
    "turned_alike",
    "unroll",
]
