"""Parts of layers: dense layers, routers, input checks, exemption from weight decay."""

from lab.nn.affine import Affine, affine
from lab.nn.constant import Constant
from lab.nn.guard import Guarded
from lab.nn.linear import linear, precise
from lab.nn.routing import Router
from lab.nn.weight_decay import without_decay

__all__ = [
    "Affine",
    "Constant",
    "Guarded",
    "Router",
    "affine",
    "linear",
    "precise",
    "without_decay",
]
