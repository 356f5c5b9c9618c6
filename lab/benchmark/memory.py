"""Peak memory of value and gradients, measured in a separate process."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lab.benchmark.problem import Problem, Shape, written


@dataclass(frozen=True)
class Peak:
    """Peak bytes in memory, minus those that the process used before it drew the inputs.

    Args:
        measured: largest resident size reported by the system, inputs included.
        expected: size of inputs, incoming gradient, states and gradients of the inputs.
    """

    measured: int
    expected: int

    @property
    def ratio(self) -> float:
        """Measured over expected bytes: 1 if only inputs, outputs and gradients were allocated."""
        return self.measured / self.expected


def peak(problem: Problem, contender: str, shape: Shape) -> Peak | None:
    """Peak memory of a contender in a new process, with as many threads as this one has.

    Returns:
        None on systems other than Linux, which do not report the peak memory since a given moment.

    Raises:
        RuntimeError: the process failed.
    """
    found = peaks([(problem.name, contender, shape)])
    return found[0] if found else None


def peaks(cases: Sequence[tuple[str, str, Shape]]) -> list[Peak]:
    """The same for several cases, one after another in one process.

    Args:
        cases: for each the name of a scan or of a layer, the name of a contender, and the shape.

    Returns:
        In the order of the cases; an empty list without cases, and where the system does not
        report it.

    Raises:
        RuntimeError: the process failed.
    """
    if not cases or not sys.platform.startswith("linux"):
        return []
    arguments = [str(torch.get_num_threads())]
    for problem, contender, shape in cases:
        arguments += [problem, contender, written(shape)]
    command = [sys.executable, "-m", "lab.benchmark.peak", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        which = "; ".join(f"{contender} at {written(shape)}" for _, contender, shape in cases)
        raise RuntimeError(f"measuring the memory of {which} failed: {last}")
    return [Peak(**each) for each in json.loads(done.stdout.splitlines()[-1])]
