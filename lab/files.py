"""Atomic writing of files: under a temporary name first, which is then renamed."""

import os
import tempfile
from pathlib import Path

# The top folder of the checkout; if `lab` is installed without one, the folder of the packages.
PROJECT = Path(__file__).resolve().parents[1]


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace the file at `path` in one step: a process killed meanwhile leaves the old file.

    Symbolic links are followed. The new file has the permissions of the one that it replaces, or
    0o644 if there was none.

    Raises:
        FileNotFoundError: the folder of `path` does not exist.
    """
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target} cannot be written: there is no folder {target.parent}")
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(mode)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """`write_bytes` for text, in UTF-8."""
    write_bytes(path, content.encode())
