"""Ways to multiply a Cauchy-like matrix, or its kernel alone, by vectors, as calls to be timed."""

from collections.abc import Sequence
from functools import partial

import torch

from lab.benchmark.timing import Call, milliseconds
from lab.linalg.displacement import (
    cauchy_kernel,
    cauchy_product,
    chebyshev_nodes,
    fast_cauchy_product,
    random_cauchy_like,
)
from lab.seeding import stream


def products(n: int, rank: int, *, vectors: int = 256) -> dict[str, Call]:
    """Calls by name, in float32: a matrix of its own for each of many vectors; ["vectors n"].

    Args:
        n: number of states.
        rank: r, the width of the generators.
        vectors: how many.

    Returns:
        "dense": n^2 numbers times a vector. "assembled once": the same operation, because the
        matrix can be made from its generators beforehand. "assembled every time": it is made in the
        call. "kernel built" and "kernel at hand": r products with the kernel, which is made in the
        call, or beforehand.
    """
    generator = stream(0, "products")
    drawn = [random_cauchy_like(n, rank, generator=generator) for _ in range(vectors)]
    A, d, G, H = (
        torch.stack(parts).float()
        for parts in zip(*((a.to_dense(), a.diagonal, a.G, a.H) for a in drawn), strict=True)
    )
    h = torch.randn(vectors, n, generator=generator)
    nodes = chebyshev_nodes(n).float()
    K = cauchy_kernel(nodes)

    def by_generators(kernel: torch.Tensor) -> torch.Tensor:
        return d * h + (G * (kernel @ (H * h[..., None]))).sum(-1)

    def by_matrix(matrix: torch.Tensor) -> torch.Tensor:
        return (matrix @ h[..., None])[..., 0]

    return {
        "dense": partial(by_matrix, A),
        "kernel built": lambda: by_generators(cauchy_kernel(nodes)),
        "kernel at hand": partial(by_generators, K),
        "assembled once": partial(by_matrix, A),
        "assembled every time": lambda: by_matrix(K * (G @ H.mT) + torch.diag_embed(d)),
    }


def kernel_products(n: int, *, vectors: int) -> dict[str, Call]:
    """Calls by name, in float32: the kernel of Chebyshev nodes times vectors; ["vectors n"].

    "dense" is a product with the matrix, and "fast" takes two cosine transforms.

    Raises:
        RuntimeError: they differ by more than rounding.
    """
    v = torch.randn(vectors, n, generator=stream(0, "kernel products"))
    K = cauchy_kernel(chebyshev_nodes(n)).float().mT.contiguous()
    calls: dict[str, Call] = {
        "dense": partial(torch.matmul, v, K),
        "fast": partial(fast_cauchy_product, v),
    }
    exact = cauchy_product(v.double())
    for name, product in {"dense": v @ K, "fast": fast_cauchy_product(v)}.items():
        gap = ((product - exact).abs().max() / exact.abs().max()).item()
        if gap > 1e-3:
            raise RuntimeError(f"{name} products with the kernel at n = {n} are off by {gap:.1e}")
    return calls


def kernel_milliseconds(
    sizes: Sequence[int], *, vectors: Sequence[int], rounds: int = 5, budget: float = 0.2
) -> dict[str, dict[float, float]]:
    """Milliseconds of `kernel_products` by name and n; both ways take turns at every size.

    Args:
        sizes: values of n.
        vectors: numbers of vectors.
        rounds, budget: as for `take_turns`.
    """
    found: dict[str, dict[float, float]] = {}
    for count in vectors:
        for n in sizes:
            calls = kernel_products(n, vectors=count)
            for name, value in milliseconds(calls, rounds=rounds, budget=budget).items():
                found.setdefault(f"{name}, {count} vectors", {})[n] = value
    return found
