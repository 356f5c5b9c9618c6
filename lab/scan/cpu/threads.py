"""Compiled kernels on the threads that torch already has.

A second pool beside torch's OpenMP team would fight it: idle OpenMP threads spin for milliseconds
on the very cores that the other pool needs. So the kernels, compiled to run without Python's lock,
are handed to that team. `torch.set_num_threads` holds for them, too, and with one thread (as in
the workers of a DataLoader) nothing is handed over at all.
"""

import ctypes
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numba
import torch
from torch import Tensor

# Multiply-adds below which waking the other threads (some 40 us) takes longer than the work.
WORTH_SHARING = 1 << 17
LINE = 64  # bytes in a cache line, which two threads must not both write to
# Bytes of the shortest piece of a row. The processor fetches ahead beyond the end of a piece, where
# another thread writes: shorter ones took longer on two threads than whole rows on one.
NARROWEST = 1024

# One folder of compiled code for each state of all sources here. By itself numba looks only at the
# file of a kernel, and would go on using what it once compiled from another file's functions.
_FOLDER = Path(__file__).parent
_STATE = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(_FOLDER.glob("*.py")))).hexdigest()
_CACHE = str(_FOLDER / "__pycache__" / f"kernels-{_STATE[:16]}")


def _compile_with(*fastmath: str) -> Callable[[Any], Any]:
    compile_it: Any = numba.njit(
        cache=True, nogil=True, error_model="numpy", fastmath=set(fastmath)
    )

    def decorate(function: Any) -> Any:
        settings: Any = numba.config
        usual = settings.CACHE_DIR
        settings.CACHE_DIR = usual or _CACHE
        try:
            return compile_it(function)
        finally:
            settings.CACHE_DIR = usual

    return decorate


# `contract` lets a product and a sum become one instruction; nothing is reordered, and infinities
# and NaN keep their meaning. Division by zero gives infinity, as it does in torch.
kernel = _compile_with("contract")
# For sums whose order does not matter.
reduction = _compile_with("contract", "reassoc")


def run(kernel: Callable[..., None], items: int, *arguments: Any, work: int) -> None:
    """Call kernel(first, last, *arguments) so that together the calls cover range(items).

    Args:
        kernel: compiled by `kernel` or `reduction`; it fills its last arguments.
        items: independent pieces, such as sequences of a batch.
        arguments: tensors are passed as NumPy views of their memory, other values as they are.
        work: multiply-adds in all, to tell whether more than one thread is worth it.
    """
    views = [as_array(value) if isinstance(value, Tensor) else value for value in arguments]
    threads = min(torch.get_num_threads(), items)
    if threads < 2 or work < WORTH_SHARING or _forked:
        kernel(0, items, *views)
        return
    failures: list[BaseException] = []

    def share(rank: int, size: int) -> None:
        try:
            kernel(items * rank // size, items * (rank + 1) // size, *views)
        except BaseException as failure:  # must not reach C code
            failures.append(failure)

    (_on_openmp or _on_a_pool)(share, threads)
    if failures:
        raise failures[0]


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


def as_array(tensor: Tensor) -> Any:
    """The tensor's memory as NumPy shows it."""
    return (tensor.detach() if tensor.requires_grad else tensor).numpy()


_Share = Callable[[int, int], None]


def _openmp() -> Callable[[_Share, int], None] | None:
    """How to run on the OpenMP team that torch loaded, or None where it cannot be reached."""
    try:
        # GOMP_parallel is the entry of GNU's, LLVM's and Intel's libraries on Linux; torch loads
        # the one it uses into the global name space.
        parallel = ctypes.CDLL(None).GOMP_parallel
        rank, size = (
            getattr(ctypes.PyDLL(None), name)
            for name in ("omp_get_thread_num", "omp_get_num_threads")
        )
    except (AttributeError, OSError):
        return None
    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    parallel.argtypes = [body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None

    def on_openmp(share: _Share, threads: int) -> None:
        # The team may be smaller than asked for, inside another parallel region for instance.
        parallel(body(lambda _: share(rank(), size())), None, threads, 0)

    return on_openmp


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="scan")


def _on_a_pool(share: _Share, threads: int) -> None:
    others = [_pool().submit(share, rank, threads) for rank in range(1, threads)]
    share(0, threads)
    for other in others:
        other.result()


_on_openmp = _openmp()
_forked = False


def _after_fork() -> None:
    # The threads of the parent process do not exist in its child.
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
