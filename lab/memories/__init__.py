"""Memories of keys and values that answer queries, for `lab.mixers.MultiHead`; one per file."""

from lab.memories.base import Memory
from lab.memories.cosformer import CosFormer
from lab.memories.delta_rule import DeltaRule
from lab.memories.gated_delta_rule import GatedDeltaRule
from lab.memories.gated_linear_attention import GatedLinearAttention
from lab.memories.linear_attention import LinearAttention
from lab.memories.log_linear import LogLinearAttention
from lab.memories.log_ssm import LogEMA, LogSSM
from lab.memories.retention import Retention
from lab.memories.slots import SoftSlots
from lab.memories.softmax_attention import SoftmaxAttention
from lab.memories.tropical import TropicalGated, TropicalSlots

__all__ = [
    "CosFormer",
    "DeltaRule",
    "GatedDeltaRule",
    "GatedLinearAttention",
    "LinearAttention",
    "LogEMA",
    "LogLinearAttention",
    "LogSSM",
    "Memory",
    "Retention",
    "SoftSlots",
    "SoftmaxAttention",
    "TropicalGated",
    "TropicalSlots",
]
