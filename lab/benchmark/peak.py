"""The process in which `lab.benchmark.memory.peaks` measures; it prints bytes as JSON.

python -m lab.benchmark.peak THREADS PROBLEM CONTENDER BxTxN [PROBLEM CONTENDER BxTxN ...]
"""

import ctypes
import json
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from lab.benchmark.layers import layer
from lab.benchmark.problem import Contender, Problem, Shape, parse
from lab.benchmark.scans import SCANS
from lab.scan.cpu import memory
from lab.seeding import stream


def main(threads: str, *cases: str) -> None:
    """Measure one case after the other."""
    torch.set_num_threads(int(threads))
    each = zip(cases[::3], cases[1::3], cases[2::3], strict=True)
    print(json.dumps([measured(*case) for case in each]))


def measured(name: str, contender: str, written: str) -> dict[str, int]:
    """Run once on a small shape, so that everything is loaded and compiled; then measure."""
    B, T, N = parse(written)
    problem = SCANS[name] if name in SCANS else layer(name, N)
    who = problem.contenders[contender]
    if who.compiled:
        raise ValueError(f"{contender} would be measured with the memory of its compiler")
    _run(who, _inputs(problem, who, (B, max(1, T // 64), N)))
    _give_back()
    before = _resident("VmRSS")
    inputs = _inputs(problem, who, (B, T, N))
    _give_back()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    expected = _run(who, inputs)
    return {"measured": _resident("VmHWM") - before, "expected": expected}


def _give_back() -> None:
    """Return memory that nobody uses, such as that in which inputs were drawn, to the system.

    Where the system forbids this, or to reset the recorded peak, that memory counts as well, so the
    result is too large.
    """
    memory.release()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _inputs(problem: Problem, contender: Contender, shape: Shape) -> list[Tensor]:
    """The inputs, followed by the gradient of the states."""
    values = problem.draw(shape, stream(0, "inputs"), problem.dtype)
    return [*contender.inputs(values), contender.pack(torch.randn_like(values[-1])).contiguous()]


def _run(contender: Contender, tensors: list[Tensor]) -> int:
    """Compute value and gradients; returns the total bytes of all inputs and outputs."""
    *inputs, grad = tensors
    found = contender.run(inputs, grad)
    return sum(tensor.nbytes for tensor in (*tensors, *found))


def _resident(which: str) -> int:
    """Resident bytes of this process: the current size (VmRSS) or the peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(which)).split()[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
