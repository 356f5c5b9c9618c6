"""Small mixers with compiled scans of several kinds, for tests that trace their training."""

from lab.memories import GatedLinearAttention, SoftSlots
from lab.mixers import Mamba, MultiHead, StateSpace
from lab.transitions import DisplacementRank

MIXERS = {
    "matrix_scan": lambda g: StateSpace(
        8, DisplacementRank(8, d_state=4, rank=2, generator=g), generator=g
    ),
    "selective_scan": lambda g: Mamba(8, d_state=2, generator=g),
    "key_value_scan": lambda g: MultiHead(
        8, GatedLinearAttention(8, heads=2, d_key=4, generator=g), generator=g
    ),
    "slots": lambda g: MultiHead(
        8, SoftSlots(8, heads=2, d_key=4, decay=0.018, generator=g), generator=g
    ),
}
