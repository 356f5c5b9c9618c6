"""The scan with one gain for the whole state, by multiplication with triangular blocks."""

from functools import partial

import torch
from jaxtyping import Bool, Inexact
from torch import Tensor

from lab.scan.arguments import (
    alike,
    are_numbers,
    forgetting,
    full_precision,
    initial_state,
    rounded_once,
)
from lab.scan.growth import Growth
from lab.scan.linear import linear_scan, linear_scan_sequential


def matmul_scan(
    a: Inexact[Tensor, "B T"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
    block: int = 32,
) -> Inexact[Tensor, "B T N"]:
    """States of h[t] = a[t] * h[t-1] + b[t] with one gain a[t] for the whole state.

    Within a block of steps h = L b with the lower triangular L[i, j] = a[j+1] ... a[i]: one matrix
    product for all columns of b. The last states of the blocks follow the same recurrence with the
    products of their gains, and so on until one block holds all. Meant for devices whose matrix
    units are far ahead of their memory, and for wide states: a is never repeated N times.

    Args:
        a: gain per step, dimensionless; any size, zero allowed.
        b: input per step, in units of the state.
        initial: the state before step 0, in units of the state; zero if None.
        reset: Bool["B T"]: before these steps h is set to zero, where another sequence begins that
            shares a row with those before; none if None.
        block: steps per triangular block, at least 2.

    Returns:
        h[0] to h[T-1], in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, dtypes or devices differ, or block is below 2.

    Cost: B T block (N + 1) multiply-adds. Falls back to `linear_scan`, with a repeated for every
    column, where products of gains grow, where a result is not finite, and under torch.compile,
    which cannot look at values.
    Precision: blocks join what they add up in float32 or float64, as the tensors are: a million
    steps of 0.1 in float32 are off by 9e-7 of their sum. Half precision is computed in float32.
    Source: Zouzias & McColl 2023, A parallel scan algorithm in the tensor core unit model (all
    gains 1); Dao & Gu 2024, Transformers are SSMs, section 6 (with gains).
    """
    a, b, initial = _checked(a, b, initial, reset=reset)
    if isinstance(block, bool) or not isinstance(block, int) or block < 2:
        raise ValueError(f"block must be a whole number of steps, at least 2, got {block!r}")
    return rounded_once(partial(_compute, block=block), a, b, initial)


def _compute(a: Tensor, b: Tensor, initial: Tensor, block: int) -> Tensor:
    # A branch on values would break a graph.
    if not torch.compiler.is_compiling():
        growth = Growth()
        with full_precision(b):
            h = _by_blocks(a, b, initial, block, growth)
        # Infinite and NaN sums show whatever was not finite.
        growth.see(0 * h.sum())
        if not growth.is_harmful:
            return h
    return linear_scan(a[..., None].expand_as(b), b, initial)


def _by_blocks(a: Tensor, b: Tensor, initial: Tensor, block: int, growth: Growth) -> Tensor:
    B, T, N = b.shape
    size = min(block, T)
    blocks = -(-T // size)
    pad = (0, blocks * size - T)
    gains = torch.nn.functional.pad(a, pad, value=1.0).view(B * blocks, size)
    inputs = torch.nn.functional.pad(b, (0, 0, *pad)).view(B, blocks, size, N)
    L = growth.see(_triangular(gains)).view(B, blocks, size, size)
    local = L @ inputs
    # What reaches a step from before its block: its row's first entry, and the first gain as well.
    through = L[..., 0] * gains.view(B, blocks, size)[..., :1]
    before = initial[:, None]
    if blocks > 1:
        # A block's last state, from the last state of the block before it.
        last = _by_blocks(through[:, :-1, -1], local[:, :-1, -1], initial, block, growth)
        before = torch.cat([before, last], dim=1)
    return (local + through[..., None] * before[:, :, None]).flatten(1, 2)[:, :T]


def _triangular(gains: Tensor) -> Tensor:
    """L[i, j] = gains[j+1] ... gains[i], 1 on the diagonal, 0 above: ["C size size"].

    Row by row it is itself a scan, L[i] = gains[i] * L[i-1] + e[i], so no product is ever divided
    out again, and gains of 0 are safe.
    """
    size = gains.shape[1]
    units = torch.eye(size, dtype=gains.dtype, device=gains.device)
    return linear_scan(gains[..., None].expand(-1, -1, size), units.expand(len(gains), -1, -1))


def matmul_scan_sequential(
    a: Inexact[Tensor, "B T"],
    b: Inexact[Tensor, "B T N"],
    initial: Inexact[Tensor, "B N"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """The definition of `matmul_scan`: the loop of `linear_scan`, with a for every column."""
    a, b, initial = _checked(a, b, initial, reset=reset)
    return linear_scan_sequential(a[..., None].expand_as(b), b, initial)


def _checked(
    a: Tensor, b: Tensor, initial: Tensor | None, *, reset: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    are_numbers(a=a, b=b, initial=initial)
    if b.ndim != 3 or a.shape != b.shape[:2] or b.shape[1] == 0:
        shapes = f"a {tuple(a.shape)} and b {tuple(b.shape)}"
        raise ValueError(f"{shapes} must be (B, T) and (B, T, N) with T > 0")
    a, b, initial = alike(["a", "b", "initial"], a, b, initial_state(b, initial))
    return forgetting(a, b, reset), b, initial
