"""Compiled kernels on the threads that torch already has.

A second pool beside torch's OpenMP team would fight it: idle OpenMP threads spin for milliseconds
on the very cores that the other pool needs. So the kernels, compiled to run without Python's lock,
are handed to that team. `torch.set_num_threads` holds for them, too, and with one thread (as in
the workers of a DataLoader) nothing is handed over at all.
"""

import _thread
import ctypes
import itertools
import os
import sys
from collections.abc import Callable
from functools import cache, partial
from queue import SimpleQueue
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from lab.scan.cpu.launcher import launcher

# Multiply-adds below which waking the other threads (some 40 us) takes longer than the work.
WORTH_SHARING = 1 << 17
LINE = 64  # bytes in a cache line, which two threads must not both write to
# Bytes of the shortest piece of a row. The processor fetches ahead beyond the end of a piece, where
# another thread writes: shorter ones took longer on two threads than whole rows on one.
NARROWEST = 1024


def _compile_with(*fastmath: str) -> Callable[[Any], Any]:
    return numba.njit(nogil=True, error_model="numpy", fastmath=set(fastmath))


# `contract` lets a product and a sum become one instruction; nothing is reordered, and infinities
# and NaN keep their meaning. Division by zero gives infinity, as it does in torch.
kernel = _compile_with("contract")
# For sums whose order does not matter.
reduction = _compile_with("contract", "reassoc")


def run(kernel: Any, items: int, *arguments: Any, work: int) -> None:
    """Call kernel(first, last, *arguments) so that together the calls cover range(items).

    Args:
        kernel: compiled by `kernel` or `reduction`; it fills its last arguments.
        items: independent pieces, such as sequences of a batch.
        arguments: tensors are passed as NumPy views of their memory, other values as they are.
        work: multiply-adds in all, to tell whether more than one thread is worth it.

    Raises:
        RuntimeError: some pieces were not finished, so that the outputs must not be read.
    """
    views = [as_array(value) if isinstance(value, Tensor) else value for value in arguments]
    threads = min(torch.get_num_threads(), items)
    launch = launcher(kernel)
    if threads < 2 or work < WORTH_SHARING or _forked:
        _alone(launch, 0, items, views)
        return
    finished = (_on_openmp or _on_a_pool)(launch, threads, items, views)
    if finished != items:
        raise RuntimeError(
            f"{kernel.__name__} finished {finished} of {items} pieces of work: an error stopped one"
            " of its threads, most likely memory that ran out; try a smaller batch"
        )


def column_width(batch: int, columns: int, itemsize: int) -> int:
    """Neighbouring columns, at least 1, that a piece of work takes of each row: all if it can.

    Long rows are read fastest. They are cut, into equal pieces of whole cache lines, only where the
    batch alone does not keep all threads busy, and only into pieces of some length.
    """
    threads = torch.get_num_threads()
    if batch % threads == 0 or batch >= 4 * threads or columns == 0:
        return max(1, columns)
    widths = [
        columns // pieces
        for pieces in range(1, columns * itemsize // NARROWEST + 1)
        if columns % pieces == 0 and columns // pieces * itemsize % LINE == 0
    ]
    # As many pieces as threads, or the next number that there is.
    enough = [width for width in widths if batch * (columns // width) >= threads]
    return max(enough, default=min(widths, default=columns))


def as_array(tensor: Tensor) -> np.ndarray:
    """The tensor's memory as NumPy shows it, which holds the tensor.

    `tensor.numpy()` would also forbid torch for ever to resize it.
    """
    if tensor.is_conj() or tensor.is_neg():
        raise ValueError("the numbers of a conjugated or negated view are not those in its memory")
    memory = _Memory.from_address(tensor.data_ptr())
    memory.shown = tensor
    kind = _numpy_type(tensor.dtype)
    if tensor.is_contiguous():
        return np.ndarray(tensor.shape, kind, memory)
    return np.ndarray(tensor.shape, kind, memory, 0, [n * kind.itemsize for n in tensor.stride()])


class _Memory(ctypes.c_char * (sys.maxsize // 2)):  # type: ignore[misc]
    """All that follows an address; NumPy looks only at what the shape says."""

    shown: Tensor


@cache
def _numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype, device="cpu").numpy().dtype


def _alone(launch: Any, first: int, last: int, views: list[Any]) -> int:
    """Do the pieces first to last - 1 in this thread; how many these are."""
    return int(launch(0, 0, 0, 1, first, last, *views))


_OnThreads = Callable[[Any, int, int, list[Any]], int]


def _openmp() -> _OnThreads | None:
    """How to run on the OpenMP team that torch loaded, or None where it cannot be reached."""
    try:
        # GOMP_parallel is the entry of GNU's, LLVM's and Intel's libraries on Linux; torch loads
        # the one it uses into the global name space.
        library = ctypes.CDLL(None)
        names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
        team = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names]
    except (AttributeError, OSError):
        return None

    def on_openmp(launch: Any, threads: int, items: int, views: list[Any]) -> int:
        return int(launch(*team, threads, 0, items, *views))

    return on_openmp


# What the threads of the pool have to do. Its queues are of the kind without locks in Python, which
# an interrupt may leave locked for ever.
_tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
_workers: list[int] = []


def _on_a_pool(launch: Any, threads: int, items: int, views: list[Any]) -> int:
    while len(_workers) < threads - 1:
        _workers.append(_thread.start_new_thread(_work, ()))
    done: SimpleQueue[int | BaseException] = SimpleQueue()
    cuts = [items * rank // threads for rank in range(threads + 1)]
    mine, *others = itertools.pairwise(cuts)
    for first, last in others:
        _tasks.put(partial(_report, done, partial(_alone, launch, first, last, views)))
    finished = _alone(launch, *mine, views)
    for _ in others:
        result = done.get()
        if isinstance(result, BaseException):
            raise result
        finished += result
    return finished


def _report(done: SimpleQueue[int | BaseException], task: Callable[[], int]) -> None:
    try:
        done.put(task())
    except BaseException as failure:  # it belongs to the thread that waits
        done.put(failure)


def _work() -> None:
    while True:
        _tasks.get()()


_on_openmp = _openmp()
_forked = False


def _after_fork() -> None:
    """The threads of the parent process do not exist in its child, for torch's operations either.

    These would wait for them for ever, unless told that there is one thread.
    """
    global _forked
    _forked = True
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
