"""Fixed 2:4 blocks on the sparse tensor cores of a GPU, against the same blocks as dense ones."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lab.benchmark.timing import take_turns
from lab.linalg.sparsity import aligned_mask

SMALLEST = 64  # side of the smallest square that torch compresses, with either of its libraries


def has_sparse_cores() -> bool:
    """Whether there is a GPU that multiplies 2:4 matrices: compute capability 8 or above."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


def time_ratio(b: int, *, states: int = 4096, columns: int = 4096, budget: float = 2.0) -> float:
    """Time of the products with 2:4 blocks, over that of one batched dense product, in bfloat16.

    Args: as for `products`; budget is that of `take_turns`.

    Raises:
        RuntimeError: there is no such GPU.
    """
    if not has_sparse_cores():
        raise RuntimeError("no GPU here multiplies 2:4 matrices: see `has_sparse_cores`")
    calls = products(b, states=states, columns=columns, device="cuda", dtype=torch.bfloat16)
    for call in calls.values():
        call()
    timings = take_turns(calls, rounds=15, budget=budget, label=f"2:4 blocks of side {b}")
    return timings["2:4"].median / timings["dense"].median


def products(
    b: int,
    *,
    states: int,
    columns: int,
    device: str,
    dtype: torch.dtype,
    compress: Callable[[Tensor], Tensor] = torch.sparse.to_sparse_semi_structured,
) -> dict[str, Callable[[], Tensor]]:
    """Two ways to multiply a block-diagonal factor by many columns; both give ["N/b b columns"].

    The blocks are weights, the same for all columns. Torch has no batches of compressed matrices,
    so that they are multiplied one after another; blocks below `SMALLEST` are first packed into
    block-diagonal matrices of that side, of which they fill a part.

    Args:
        b: side of a block, a multiple of four that divides `SMALLEST` or is a multiple of it.
        states: N, a multiple of b and of `SMALLEST`.
        columns: number of vectors, such as batch times time.
        device, dtype: of everything.
        compress: turns a 2:4 matrix into one that the GPU multiplies as such.

    Returns:
        Calls by name, "dense" and "2:4".
    """
    generator = torch.Generator(device).manual_seed(0)
    draw = partial(torch.randn, device=device, dtype=dtype, generator=generator)
    blocks = draw(states // b, b, b) * aligned_mask(b).to(device)
    h = draw(states // b, b, columns)
    together = max(1, SMALLEST // b)
    packed = [compress(torch.block_diag(*some)) for some in blocks.split(together)]
    parts = list(h.unflatten(0, (-1, together)).flatten(1, 2))

    def sparse() -> Tensor:
        found = [A @ part for A, part in zip(packed, parts, strict=True)]
        return torch.stack(found).view(h.shape)

    return {"dense": partial(torch.bmm, blocks, h), "2:4": sparse}
