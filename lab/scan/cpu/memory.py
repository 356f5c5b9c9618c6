"""Memory for large results that is used again, as torch does on a GPU and not on a CPU.

A large array that is freed goes back to the system, which clears its pages and hands them out anew,
one trap for each, when the next array of the same size touches them: that takes longer than a scan.
Here such blocks are kept for the next result of their size. They come from NumPy, which asks Linux
for pages of 2 MiB, so that even the first touch is cheap.
"""

from collections import OrderedDict
from threading import Lock

import numpy as np
import torch
from torch import Tensor

# Below, the C library keeps what it has touched.
WORTH_KEEPING = 1 << 19  # bytes
CAPACITY = 512 << 20  # bytes of blocks that wait to be used, at most; the longest waiting go first
PAGE = 4096  # bytes; blocks of sizes that differ by less are interchangeable
ALIGNMENT = 64  # bytes, a cache line


class _Lease(np.ndarray):
    """The part of a block that one tensor shows, and all tensors that share its memory.

    Tensors keep the lease, and nobody else does: when it ends, the block is free. Other arrays that
    NumPy derives from a lease have no block to give back.
    """

    block: np.ndarray | None = None

    def __del__(self) -> None:
        if self.block is not None:
            _give_back(self.block)


# Blocks by identity, the longest waiting first; and who may look at them. Nobody waits for the lock
# but `release`: after a fork, in a signal handler or while Python collects garbage, it may be held
# by someone who cannot go on, and memory can always come from the system.
_idle: OrderedDict[int, np.ndarray] = OrderedDict()
_lock = Lock()


def empty_like(template: Tensor, dtype: torch.dtype) -> Tensor:
    """Contiguous uninitialised memory of the template's shape and device."""
    nbytes = template.numel() * dtype.itemsize
    if nbytes < WORTH_KEEPING or not template.is_cpu:
        return torch.empty_like(template, dtype=dtype, memory_format=torch.contiguous_format)
    block = _take(-(-(nbytes + ALIGNMENT) // PAGE) * PAGE)
    start = -block.__array_interface__["data"][0] % ALIGNMENT
    lease = _Lease(nbytes, np.uint8, block, start)
    lease.block = block
    # Not a view of the buffer: autograd would treat that differently from a new tensor.
    storage = torch.frombuffer(lease, dtype=torch.uint8).untyped_storage()
    return torch.empty(0, dtype=dtype).set_(storage, 0, template.shape, _strides(template.shape))


def _strides(shape: torch.Size) -> list[int]:
    """Of a contiguous tensor, in numbers."""
    return [shape[axis + 1 :].numel() for axis in range(len(shape))]


def release() -> int:
    """Return all waiting blocks to the system, and how many bytes that were."""
    with _lock:
        freed = sum(block.nbytes for block in _idle.values())
        _idle.clear()
    return freed


def _take(size: int) -> np.ndarray:
    """A block of this many bytes: the one that was used last, whose pages may still be cached."""
    if _lock.acquire(blocking=False):
        try:
            fitting = next((key for key in reversed(_idle) if _idle[key].nbytes == size), None)
            if fitting is not None:
                return _idle.pop(fitting)
        finally:
            _lock.release()
    return np.empty(size, np.uint8)


def _give_back(block: np.ndarray) -> None:
    """Keep the block for later; or let the system have it, if somebody is looking just now."""
    if not _lock.acquire(blocking=False):
        return
    try:
        _idle[id(block)] = block
        while sum(waiting.nbytes for waiting in _idle.values()) > CAPACITY:
            _idle.popitem(last=False)
    finally:
        _lock.release()
