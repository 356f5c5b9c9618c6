"""The process in which `lab.benchmark.memory.peak` measures; it prints bytes as JSON.

python -m lab.benchmark.peak PROBLEM CONTENDER BxTxN THREADS
"""

import ctypes
import json
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from lab.benchmark.problem import Contender, Problem, Shape, parse
from lab.benchmark.scans import SCANS
from lab.seeding import stream


def main(problem: str, contender: str, shape: str, threads: str) -> None:
    """Run once on a small shape, so that everything is loaded and compiled; then measure."""
    torch.set_num_threads(int(threads))
    B, T, N = parse(shape)
    who = SCANS[problem].contenders[contender]
    if who.compiled:
        raise ValueError(f"{contender} would be measured with the memory of its compiler")
    _run(who, _inputs(SCANS[problem], who, (B, max(1, T // 64), N)))
    before = _resident("VmRSS")
    inputs = _inputs(SCANS[problem], who, (B, T, N))
    # Memory that was needed to draw the inputs is returned to the system, and the recorded peak is
    # reset. Where the system forbids this, that memory counts as well, so the result is too large.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    expected = _run(who, inputs)
    print(json.dumps({"measured": _resident("VmHWM") - before, "expected": expected}))


def _inputs(problem: Problem, contender: Contender, shape: Shape) -> list[Tensor]:
    """The inputs, followed by the gradient of the states."""
    values = problem.draw(shape, stream(0, "inputs"), problem.dtype)
    return [*contender.inputs(values), contender.pack(torch.randn_like(values[-1])).contiguous()]


def _run(contender: Contender, tensors: list[Tensor]) -> int:
    """Compute value and gradients; returns the total bytes of all inputs and outputs."""
    *inputs, grad = tensors
    states = contender.scan(*inputs)
    gradients = torch.autograd.grad(states, inputs, grad)
    return sum(tensor.nbytes for tensor in (*tensors, states, *gradients))


def _resident(which: str) -> int:
    """Resident bytes of this process: the current size (VmRSS) or the peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(which)).split()[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
