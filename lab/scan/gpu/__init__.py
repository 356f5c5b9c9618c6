"""Triton kernels for GPUs: the scans of lab.scan.cpu, under the same names.

The kernels have been tested in Triton's interpreter and compiled for NVIDIA GPUs of compute
capability 8.0 and 9.0. They have not run on a GPU, and no speed has been measured: the numbers in
`launch.py` and in the modules are reckoned.

Their states have the type of the tensors, unlike those on the CPU: float32 adds up a million
numbers of one size with an error of about one percent.
"""

import importlib
import importlib.util
from types import ModuleType

import torch


def kernels(name: str) -> dict[str, ModuleType]:
    """The kernels of one scan for each type of GPU here; none without a GPU or without Triton.

    Args:
        name: of a module in this package, "linear" for instance.

    Returns:
        {"cuda": module} with `forward` and `backward`, or {}, and then Triton is not imported.
    """
    if not torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
        return {}
    return {"cuda": importlib.import_module(f"{__name__}.{name}")}
