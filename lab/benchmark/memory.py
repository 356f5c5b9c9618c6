"""Peak memory of value and gradients, measured in a separate process."""

import json
import subprocess
import sys
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
    if not sys.platform.startswith("linux"):
        return None
    threads = str(torch.get_num_threads())
    arguments = [problem.name, contender, written(shape), threads]
    command = [sys.executable, "-m", "lab.benchmark.peak", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise RuntimeError(
            f"measuring the memory of {contender} at {written(shape)} failed: {last}"
        )
    return Peak(**json.loads(done.stdout.splitlines()[-1]))
