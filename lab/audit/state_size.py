"""How much a model remembers of a sequence, in bytes."""

from typing import Any

import torch
from torch import Tensor, nn

from lab.scan.torch_private import tree_leaves


@torch.no_grad()
def state_bytes(examined: nn.Module, inputs: Tensor) -> int:
    """The size of what the step form hands from one step to the next, after these inputs.

    It is counted, not declared: everything that a step form needs of the past is in its state,
    the windows of short convolutions and the caches of attention too. Counters are left out.

    Args:
        examined: a mixer, or a model with the same `step`.
        inputs: ["B T ..."], of which the first example is used.
    """
    state: Any = None
    for x_t in inputs[:1].unbind(1):
        _, state = examined.step(x_t, state)  # type: ignore[operator]
    tensors = [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
