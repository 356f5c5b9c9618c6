"""Transitions x -> A(x) for `lab.mixers.StateSpace`, one structure per file."""

from lab.transitions.base import Parameters, Transition
from lab.transitions.circulant import BlockCirculant, Circulant
from lab.transitions.diagonal import PolarDiagonal, RealDiagonal
from lab.transitions.displacement_rank import CayleyCauchy, Dense, DisplacementRank
from lab.transitions.linoss import LinOSS, Oscillators
from lab.transitions.monarch import (
    BlockCay,
    BlockDense,
    BlockExp,
    BlockHH,
    GatedMonarch,
    MonarchHH,
    MonarchID,
)
from lab.transitions.osc_gate import OscGate
from lab.transitions.permuted import ColumnSparse, Conjugated
from lab.transitions.sparse_monarch import AlignedMonarch, FreeMonarch, MaskedGatedMonarch

__all__ = [
    "AlignedMonarch",
    "BlockCay",
    "BlockCirculant",
    "BlockDense",
    "BlockExp",
    "BlockHH",
    "CayleyCauchy",
    "Circulant",
    "ColumnSparse",
    "Conjugated",
    "Dense",
    "DisplacementRank",
    "FreeMonarch",
    "GatedMonarch",
    "LinOSS",
    "MaskedGatedMonarch",
    "MonarchHH",
    "MonarchID",
    "OscGate",
    "Oscillators",
    "Parameters",
    "PolarDiagonal",
    "RealDiagonal",
    "Transition",
]
