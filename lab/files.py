"""Files that are either whole or not there: written under a temporary name, then renamed."""

import os
import tempfile
from pathlib import Path

# The top folder of the checkout; where `lab` is installed without one, that of the packages.
PROJECT = Path(__file__).resolve().parents[1]


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace the file at `path` by `content` in one step, so that a killed run leaves the old one.

    A symbolic link is followed, and the new file takes over the permissions of the one it replaces
    (0o644 where there was none).

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
    """`write_bytes` for text, as UTF-8."""
    write_bytes(path, content.encode())
