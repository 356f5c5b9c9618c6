"""Freed memory stays with the process, so that an update does not fault its pages in anew.

glibc gives large arrays back to the system when they are freed. The next array of that size gets
new pages, each cleared by the kernel after a page fault, and an update of training allocates and
frees hundreds of such arrays. Training therefore tells glibc to keep what is freed, and asks Linux
for pages of 2 MiB for the heap.
"""

import ctypes
import os
import sys
from functools import cache
from typing import Any

KEPT = 1 << 30  # bytes of freed memory at most; a single array above this is returned when freed
STEP = 64 << 20  # bytes by which the heap grows
RESERVED = 512 << 20  # bytes of addresses for which large pages are asked; they use no memory

# The parameters of mallopt, from malloc.h, and the advice of madvise, from mman.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MADV_HUGEPAGE = 14
_LARGE_PAGE = 2 << 20  # bytes
_OLDER_LIMIT = 32 << 20  # the largest threshold that glibc before 2.35 accepts


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep up to 1 GiB of freed memory for the rest of this process.

    Only the first call does anything. Nothing is changed where the C library is not glibc on Linux,
    or where the environment configures its allocator (GLIBC_TUNABLES or MALLOC_...), which decides
    instead; `GLIBC_TUNABLES=glibc.malloc.perturb=0` keeps all as it is.

    Returns:
        Whether freed memory is now kept.

    Source: mallopt(3), madvise(2).
    """
    libc = _glibc()
    if libc is None or _is_configured():
        return False
    kept = [libc.mallopt(_TRIM_THRESHOLD, KEPT), libc.mallopt(_TOP_PAD, STEP)]
    kept.append(libc.mallopt(_MMAP_THRESHOLD, KEPT) or libc.mallopt(_MMAP_THRESHOLD, _OLDER_LIMIT))
    _ask_for_large_pages(libc)
    return all(kept)


def release() -> bool:
    """Return freed memory to the system now; says whether there was any to return."""
    libc = _glibc()
    return libc is not None and bool(libc.malloc_trim(0))


@cache
def _glibc() -> Any:
    """The C library of this process if it is glibc on Linux, otherwise None."""
    if sys.platform != "linux":
        return None
    try:
        libc: Any = ctypes.CDLL(None, use_errno=True)
        functions = [libc.gnu_get_libc_version, libc.mallopt, libc.malloc_trim, libc.madvise]
    except (AttributeError, OSError, TypeError):
        return None
    functions[2].argtypes = [ctypes.c_size_t]
    functions[3].argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.sbrk.argtypes, libc.sbrk.restype = [ctypes.c_ssize_t], ctypes.c_void_p
    return libc


def _is_configured() -> bool:
    """Whether the environment sets parameters of glibc's allocator."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name.startswith("MALLOC_") for name in os.environ)


def _ask_for_large_pages(libc: Any) -> None:
    """Grow the heap by addresses without memory, which later arrays fill, and advise on them.

    Linux keeps such advice for a range of addresses, and the heap that grows beyond it starts
    another range. Therefore the range is made here, once.
    """
    libc.mallopt(_TOP_PAD, RESERVED)
    start = libc.malloc(STEP)
    libc.mallopt(_TOP_PAD, STEP)
    if not start:
        return
    end = libc.sbrk(0)
    # Outside of this, the block is not at the top of the heap: another thread's, or a mapping.
    if STEP <= end - start <= 2 * (RESERVED + STEP):
        first = -(-start // _LARGE_PAGE) * _LARGE_PAGE
        libc.madvise(first, end - first, _MADV_HUGEPAGE)
    libc.free(start)
