"""Compiled kernels on disk, in a folder that nobody but its owner can write to.

A cache of compiled code is code: whoever can write to it decides what the next process runs. So it
lies neither in the checkout, which an archive may have brought along, nor in any folder that others
can get into, and what was cut short or damaged is compiled anew.
"""

import atexit
import hashlib
import os
import pickle
import shutil
import stat
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
import platformdirs
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from lab.files import write_bytes

OWNER_ONLY = 0o700  # mode of a folder that is closed to everybody else
OTHERS = stat.S_IRWXG | stat.S_IRWXO
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
DIGEST = hashlib.sha256().digest_size  # bytes


def private_folder() -> Path | None:
    """Where compiled kernels of these sources, of this numba and this Python are kept.

    It is a folder of mode 0700 in NUMBA_CACHE_DIR, if that is set, else in the user's cache folder;
    where there can be none, a new one that ends with this process; None where not even that can be
    had, and then nothing is kept.
    """
    try:
        folder = _base() / f"kernels-{_state()}"
        folder.parent.mkdir(OWNER_ONLY, parents=True, exist_ok=True)
        folder.mkdir(OWNER_ONLY, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        if is_private(folder):
            return folder
    except OSError:
        pass
    return _of_this_process()


def _base() -> Path:
    """Raises FileNotFoundError where the user has no home."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(chosen) if chosen else platformdirs.user_cache_path("sequence-lab", False)
    if not (chosen or base.is_absolute()):
        raise FileNotFoundError(f"{base} is no folder of the user's")
    return base.absolute()


def _state() -> str:
    """What compiled code depends on beside the types of its arguments, and the processor."""
    sources = (path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    versions = (numba.__version__, llvmlite.__version__, sys.version)
    return hashlib.sha256(b"".join([*sources, repr(versions).encode()])).hexdigest()[:16]


def _of_this_process() -> Path | None:
    try:
        folder = tempfile.mkdtemp(prefix="sequence-lab-kernels-")
    except OSError:
        return None
    process = os.getpid()

    def remove() -> None:
        # A forked child must leave it to its parent.
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)


def is_private(folder: Path) -> bool:
    """Whether only this user (and root) can write to the folder, or put another in its place."""
    if not hasattr(os, "geteuid"):
        return True  # on Windows modes say nothing, and the user's own folders are closed
    own = folder.lstat()
    above = [parent.stat() for parent in folder.resolve().parents]
    return stat.S_ISDIR(own.st_mode) and _is_closed(own) and _is_kept(above)


def _is_kept(above: Sequence[os.stat_result]) -> bool:
    """Whether what lies in the first of these folders, each in the next, cannot be replaced.

    Each must be safe, unless one further up lets nobody else in; the first must be so anyway.
    """
    base, *higher = above
    can_get_in = True
    for folder in reversed(higher):
        if can_get_in and not _is_safe(folder):
            return False
        can_get_in = can_get_in and not _is_closed(folder)
    return _is_safe(base)


def _is_closed(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & OTHERS


def _is_safe(status: os.stat_result) -> bool:
    """Whether nobody but its owner, who is this user or root, can replace what lies in it."""
    protects = not status.st_mode & OTHERS_WRITE or bool(status.st_mode & stat.S_ISVTX)
    return protects and status.st_uid in (0, os.geteuid())


class KernelCache(NullCache):
    """The compiled forms of one kernel, as numba asks for them: one file for each.

    A file starts with a digest of what it is for and of what it holds, so that one that is cut
    short, damaged or misplaced counts as missing. One that cannot be written, on a full disk
    for instance, is done without.

    Args:
        folder: private to the user, since what lies there is unpickled and run.
        kernel: the Python function.
    """

    def __init__(self, folder: Path, kernel: Any) -> None:
        self.folder, self.name = folder, f"{kernel.__module__}.{kernel.__qualname__}"

    @property
    def cache_path(self) -> str:
        """For numba's statistics."""
        return str(self.folder)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """The kernel compiled for the types `sig`, or None if that has to be done."""
        target_context.refresh()
        key = self._key(sig, target_context.codegen())
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        digest, payload = content[:DIGEST], content[DIGEST:]
        if digest != _digest(key, payload):
            return None
        return CompileResult._rebuild(target_context, *pickle.loads(payload))

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Keep the kernel compiled for the types `sig`, if there is room for it."""
        if cres.library.has_dynamic_globals:  # addresses, which mean nothing to another process
            return
        key, payload = self._key(sig, cres.codegen), dumps(cres._reduce())
        with suppress(OSError):
            write_bytes(self._path(key), _digest(key, payload) + payload)

    def _key(self, sig: Any, codegen: Any) -> bytes:
        return repr((self.name, sig, codegen.magic_tuple())).encode()

    def _path(self, key: bytes) -> Path:
        return self.folder / f"{self.name}-{hashlib.sha256(key).hexdigest()[:16]}"


def _digest(key: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(key + b"\0" + payload).digest()
