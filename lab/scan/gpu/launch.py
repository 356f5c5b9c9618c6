"""How steps are cut into chunks that go side by side, and how kernels are started.

One thread walks through time for each column of each sequence. Where these are too few to keep the
memory of the device busy, time is cut into chunks: each chunk is summed up from an empty state, a
scan over these summaries gives the state before each chunk, and from there each chunk is walked
again. That reads the inputs twice, and so it is done only where threads are scarce.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lab.scan.growth import Growth

# One thread has the loads of GROUP steps under way at a time. In float32 and with two inputs that
# is 64 bytes, and a recent device wants some 16 KB under way per multiprocessor (bandwidth times
# latency): the work of 256 threads.
GROUP = 8
ENOUGH = 128  # threads per multiprocessor, above which a second reading costs more than it brings
WANTED = 512  # threads per multiprocessor, where time is cut at all
SHORTEST = 64  # steps per chunk; below, the scan over the summaries takes as long as the chunks
LANES = 64  # threads per program: two warps, and enough programs per multiprocessor to fill it

# Arguments of which the compiler need not make a special case for 1 and for multiples of 16.
SIZES = ["lanes", "T", "columns", "chunks", "span"]


def chunk_count(
    walks: int, T: int, processors: int, *, enough: int = ENOUGH, wanted: int = WANTED
) -> int:
    """Chunks to cut T steps into, 1 where walking each sequence as a whole fills the device.

    Args:
        walks: columns of all sequences, each of which is walked by itself.
        T: steps.
        processors: multiprocessors of the device.
        enough: walks per multiprocessor that fill it well enough.
        wanted: walks per multiprocessor to cut for.
    """
    if walks == 0 or walks >= enough * processors:
        return 1
    return max(1, min(-(-wanted * processors // walks), T // SHORTEST))


def processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; 1 for the CPU, on which Triton's interpreter runs kernels."""
    if device.type == "cpu":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@dataclass(frozen=True)
class Cut:
    """Chunks of `span` steps (the last may be shorter) of B sequences of T steps."""

    B: int
    T: int
    columns: int
    chunks: int
    span: int

    @classmethod
    def of(cls, h: Tensor, chunks: int | None) -> "Cut":
        """For h ["B T N"] or ["B T N V"], into as many chunks as suit the device if None is given.

        There are fewer where they would not all hold a step.
        """
        B, T, columns = h.shape[0], h.shape[1], h.shape[2:].numel()
        if chunks is None:
            chunks = chunk_count(B * columns, T, processors(h.device))
        span = -(-T // chunks)
        return cls(B, T, columns, -(-T // span), span)

    def run(self, kernel: Any, *arguments: Any, summary: bool = False, **constants: Any) -> None:
        """Start one thread per column and chunk; per chunk but the last one for a summary.

        A kernel with more inputs than two may ask for another GROUP.
        """
        chunks = self.chunks - summary
        constants = {"GROUP": GROUP, **constants}
        lanes = self.B * chunks * self.columns
        launch(
            kernel, -(-lanes // LANES), *arguments, lanes, self.T, self.columns, chunks, self.span,
            SUMMARY=summary, LANES=LANES, num_warps=LANES // 32, **constants,
        )  # fmt: skip


def grown(gains: Tensor) -> bool:
    """Whether gains of chunks are too large to take states from chunk to chunk.

    It waits for the device, which is done only where time is cut; not while a graph is captured,
    where nothing may wait, and gains up to one are taken for granted.
    """
    if gains.is_cuda and torch.cuda.is_current_stream_capturing():
        return False
    growth = Growth()
    growth.see(gains)
    return growth.is_harmful


def launch(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """Start a kernel on the device of its first argument, or nothing for no programs."""
    if programs == 0:
        return
    with torch.cuda.device_of(arguments[0]):
        # A product and a sum may become one instruction, as on the CPU.
        kernel[(programs,)](*arguments, enable_fp_fusion=True, **constants)


@triton.jit
def place(lanes, T, columns, chunks, span, LANES: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where the threads of a program are in ["B chunks columns"], each at the start of its chunk.

    Returns:
        for each thread its number among all `lanes`; its sequence, chunk and column; and how many
        steps its chunk has, 0 for threads beyond the last.
    """
    lane = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    chunk = lane // columns % chunks
    steps = tl.where(lane < lanes, tl.minimum(span, T - chunk * span), 0)
    return lane, lane // (columns * chunks), chunk, lane % columns, steps
