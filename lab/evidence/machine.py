"""What the numbers of a run may depend on besides its seeds: versions, hardware, the commit."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from lab import git
from lab.files import PROJECT

# The paths that count as code: a run is marked if any of them differs from the commit.
CODE = ("lab", "notebooks", "params", "pyproject.toml", "constraints.txt")


def environment() -> dict[str, Any]:
    """Versions, processors and the commit; None for what is unknown or not installed."""
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in ("torch", "numpy", "numba")},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        **_torch_state(),
        "commit": commit(),
    }


def commit(root: str | os.PathLike[str] = PROJECT) -> str | None:
    """The git commit of the checkout whose top folder is `root`, as 12 hex digits.

    "+changes" is appended if anything in `CODE` differs from the commit, untracked files included.
    The result is None outside a checkout, before its first commit, or without git.
    """
    top = git.output(root, "rev-parse", "--show-toplevel")
    # A package that is installed inside the checkout of another project is not part of it.
    if top is None or Path(top.rstrip("\n")).resolve() != Path(root).resolve():
        return None
    head = git.output(root, "rev-parse", "HEAD")
    changes = git.output(root, "status", "--porcelain", "--untracked-files=normal", "--", *CODE)
    if head is None or changes is None:
        return None
    return head[:12] + ("+changes" if changes else "")


def _version(package: str) -> str | None:
    # An imported module names its build, as in 2.13.0+cu130; the metadata of public wheels do not.
    if version := getattr(sys.modules.get(package), "__version__", None):
        return str(version)
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch_state() -> dict[str, Any]:
    """Threads and accelerator of this process; unknown if torch has not been imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"torch_threads": None, "accelerator": None}
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_initialized() else None
    return {"torch_threads": torch.get_num_threads(), "accelerator": accelerator}
