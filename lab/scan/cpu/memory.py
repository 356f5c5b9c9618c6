"""Memory for large results that is used again, as torch does on a GPU and not on a CPU.

A large array that is freed goes back to the system, which clears its pages and hands them out anew,
one trap for each, when the next array of the same size touches them: that takes longer than a scan.
Here such blocks are kept for the next result of their size. For large ones Linux is asked for pages
of 2 MiB, so that even the first touch is cheap.

Nothing happens when a tensor ends: a destructor in Python would swallow a Ctrl-C that arrives while
it runs. Instead the books hold every block, and the counts of torch and Python say who else does.
Each change of the books is a single step, so that an interrupt or another thread may come between
any two: at worst a block drops out of the books, and goes back to the system with the last tensor
that shows it.
"""

import ctypes
import sys
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lab.scan.torch_private import storage_users

# Below, the C library keeps what it has touched.
WORTH_KEEPING = 1 << 19  # bytes
CAPACITY = 512 << 20  # bytes of blocks in the books, at most; those used longest ago go first
# Blocks of one size that are looked at, from those used last and from those used longest ago: what
# backward frees is among the former, what the step before has left is among the latter.
LOOKS = 32
HUGE = 4 << 20  # bytes from which pages of 2 MiB are asked for, with Linux's number for that
MADV_HUGEPAGE = 14
PAGE = 4096  # bytes


class _Block(NamedTuple):
    """Memory that the books hold, and at most one result with all tensors that share it."""

    storage: torch.UntypedStorage
    size: int
    place: int

    def is_idle(self) -> bool:
        """Whether nobody else holds it, and it is as it was: not resized, shared or NumPy's."""
        return (
            _holders(self) == _BOOKS_ALONE
            and storage_users(self.storage) == 1
            and self.storage.data_ptr() == self.place
            and self.storage.nbytes() == self.size
            and self.storage.resizable()
        )


def _holders(block: _Block) -> int:
    """References from Python to the block's storage; some are of this count itself."""
    return sys.getrefcount(block.storage)


_BOOKS_ALONE = _holders(_Block(torch.UntypedStorage(0, device="cpu"), 0, 0))

# Blocks by identity, the one used longest ago first.
_books: dict[int, _Block] = {}


def empty_like(template: Tensor, dtype: torch.dtype) -> Tensor:
    """Contiguous uninitialised memory of the template's shape and device."""
    size = template.numel() * dtype.itemsize
    if size < WORTH_KEEPING or not template.is_cpu:
        return torch.empty_like(template, dtype=dtype, memory_format=torch.contiguous_format)
    block = _take(size)
    # Not a view of the block: autograd would treat that differently from a new tensor. The device
    # is named because torch.set_default_device may say another.
    result = torch.empty(0, dtype=dtype, device="cpu")
    result.set_(block.storage, 0, template.shape, _strides(template.shape))
    # Only now does a tensor show the block, so that nobody else takes it for idle.
    if size <= CAPACITY:
        _books[id(block)] = block
    return result


def _strides(shape: torch.Size) -> list[int]:
    """Strides of a contiguous tensor, counted in numbers."""
    return [shape[axis + 1 :].numel() for axis in range(len(shape))]


def release() -> int:
    """Give blocks that no tensor uses back to the system; returns how many bytes they had."""
    idle = [key for key, block in list(_books.items()) if block.is_idle()]
    gone = [block for key in idle if (block := _books.pop(key, None)) is not None]
    return sum(block.size for block in gone)


def _take(size: int) -> _Block:
    """A block of this many bytes that is in nobody's books: an idle one or a new one."""
    same = [entry for entry in list(_books.items()) if entry[1].size == size]
    for key, block in chain(reversed(same[-LOOKS:]), same[:-LOOKS][:LOOKS]):
        # Two threads may find the same one idle. Only one gets it out of the books, and the other
        # may have used it and put it back by then.
        if block.is_idle() and _books.pop(key, None) is not None:
            if block.is_idle():
                return block
            _books[key] = block
    _make_room(size)
    return _new(size)


def _make_room(size: int) -> None:
    """Let the blocks used longest ago go, until so many bytes more fit in."""
    kept = list(_books.items())
    excess = size - CAPACITY + sum(block.size for _, block in kept)
    for key, block in kept:
        if excess <= 0:
            return
        _books.pop(key, None)
        excess -= block.size


def _new(size: int) -> _Block:
    storage = torch.UntypedStorage(size, device="cpu")
    place = storage.data_ptr()
    if size >= HUGE and _madvise is not None:
        start = -(-place // PAGE) * PAGE
        _madvise(ctypes.c_void_p(start), ctypes.c_size_t(place + size - start), MADV_HUGEPAGE)
    return _Block(storage, size, place)


def _advice() -> Any:
    """The C library's madvise on Linux, None elsewhere."""
    try:
        return ctypes.CDLL(None).madvise if sys.platform == "linux" else None
    except (AttributeError, OSError, TypeError):
        return None


_madvise = _advice()
