"""The machine on which times are measured, as far as the system describes it."""

import os
import platform
import re
from pathlib import Path

import torch

from lab.benchmark.timing import seconds

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def processor() -> str:
    """The name of the processor, or of its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def caches() -> dict[str, int]:
    """Bytes of the data caches of the first core, by level; empty if unknown."""
    found = {}
    for folder in sorted(_CACHES.glob("index*")):
        try:
            kind, level, size = (
                (folder / name).read_text(encoding="ascii").strip()
                for name in ("type", "level", "size")
            )
        except OSError:
            continue
        match = re.fullmatch(r"(\d+)([KMG]?)", size)
        if match and kind in ("Data", "Unified"):
            found[f"L{level}"] = int(match[1]) * _UNITS[match[2]]
    return found


def describe() -> dict[str, str]:
    """Description of processor, caches, threads and GPU."""
    sizes = (f"{name} {size / (1 << 10):,.0f} KiB" for name, size in caches().items())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": processor(),
        "caches": ", ".join(sizes) or "unknown",
        "threads": f"{torch.get_num_threads()} of torch, {os.cpu_count()} processors",
        "GPU": gpu,
    }


def product_speed(*, size: int = 1024, rounds: int = 7) -> float:
    """Floating-point operations a second of a product of two square matrices in float32.

    Measured, as the best of some rounds, with as many threads as torch takes.
    """
    a, b = torch.ones(2, size, size)
    a @ b  # the first call touches memory
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(rounds))
