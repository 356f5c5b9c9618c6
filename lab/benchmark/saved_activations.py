"""How much memory a call takes that is going to be differentiated."""

from collections.abc import Callable

import torch
from torch import Tensor


def saved_activation_bytes(call: Callable[[], object]) -> int:
    """Bytes that autograd keeps from the forward to the backward pass of a call.

    Storage that several saved tensors share counts once. It is what grows with the length of a
    sequence in training, and a count, not a measurement: it is the same on every machine.
    """
    storages: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # The tensor is held on to: a freed address could come again, as another tensor's.
        storages[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = call()
    del result
    return sum(size for size, _ in storages.values())
