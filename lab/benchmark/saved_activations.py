"""Memory that autograd keeps for the backward pass of a call."""

from collections.abc import Callable

import torch
from torch import Tensor


def saved_activation_bytes(call: Callable[[], object]) -> int:
    """Bytes that autograd keeps from the forward to the backward pass of a call.

    Storage that several saved tensors share counts once. These bytes grow with the length of the
    sequence in training. They are counted rather than measured, so they are equal on every machine.
    """
    storages: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # The tensor is kept alive, because another tensor could reuse the address of a freed one.
        storages[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = call()
    del result
    return sum(size for size, _ in storages.values())
