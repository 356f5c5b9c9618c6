"""Parts of transitions, memories and mixers: dense layers, input checks, exemption from decay."""

from lab.nn.affine import Affine, affine
from lab.nn.guard import Guarded
from lab.nn.linear import linear, precise
from lab.nn.weight_decay import without_decay

__all__ = [
    "Affine",
    "Guarded",
    "affine",
    "linear",
    "precise",
    "without_decay",
]
