"""All scans with the draws of arguments on which each must equal its plain loop.

A new scan adds a draw and a row here, and test_scan.py holds it to everything the others hold to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numeric import stream
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from lab import scan

REAL = (torch.float64,)
FIELDS = (torch.float64, torch.complex128)
SINGLE = {torch.float64: torch.float32, torch.complex128: torch.complex64}


@dataclass(frozen=True)
class Random:
    """Random tensors of one type from one stream."""

    dtype: torch.dtype
    generator: torch.Generator

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, dtype=self.dtype, generator=self.generator)

    def gain(self, *shape: int) -> Tensor:
        """Of both signs (any phase), crowded near 1 in size on either side.

        Small gains forget, and hide a lost long range.
        """
        normal = self.normal(*shape)
        return 1.05 * (3 * normal.abs()).tanh() * normal.sgn()

    def turn(self, *shape: int) -> Tensor:
        """Matrices that turn, and stretch by a gain: what commutes would hide a wrong order."""
        return torch.linalg.qr(self.normal(*shape)).Q * self.gain(*shape[:-2], 1, shape[-1])

    def often(self, *shape: int) -> Tensor:
        """True five times in six."""
        return self.normal(*shape).real > -1


@dataclass(frozen=True)
class Case:
    """A scan in its three forms, and a draw of its arguments, of which the initial state is last.

    Args:
        draw: (random, B, T, N) -> arguments.
        name: of the scan in lab.scan; its definition is NAME_sequential, and its form in torch
            operations NAME_associative, if it has one.
        dtypes: in double precision.
        smooth: whether the draw keeps clear of places without a derivative, such as -inf.
        compiled: whether it is an operator with kernels of its own, torch.ops.lab.NAME.
        called: (form) -> the form as a function of the arguments as they are drawn.
        states: whether it returns the states, and not what is read of them.
        stepwise: whether every step has a gain or an input of its own.
    """

    draw: Callable[[Random, int, int, int], tuple[Tensor, ...]]
    name: str
    dtypes: tuple[torch.dtype, ...] = FIELDS
    smooth: bool = True
    compiled: bool = True
    called: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda form: form
    states: bool = True
    stepwise: bool = True

    @property
    def fast(self) -> Callable[..., Any]:
        return self.called(getattr(scan, self.name))

    @property
    def sequential(self) -> Callable[..., Any]:
        return self.called(getattr(scan, f"{self.name}_sequential"))

    @property
    def forms(self) -> list[Callable[..., Any]]:
        others = [getattr(scan, f"{self.name}_associative", None)]
        if self.name == "matmul_scan":
            others = [short_blocks]
        return [self.fast, *map(self.called, filter(None, others))]

    def arguments(self, dtype: torch.dtype, B: int, T: int, N: int, seed: int) -> list[Tensor]:
        return list(self.draw(Random(dtype, stream(seed)), B, T, N))


def linear(random, B, T, N):
    return random.gain(B, T, N), random.normal(B, T, N), random.normal(B, N)


def linear_with_zeros(random, B, T, N):
    a, b, initial = linear(random, B, T, N)
    return a * random.often(B, T, N), b, initial


def one_gain(random, B, T, N):
    return random.gain(B, T), random.normal(B, T, N), random.normal(B, N)


def short_blocks(a, b, initial=None, **packed):
    """`matmul_scan` with blocks so short that even these draws need blocks of blocks."""
    return scan.matmul_scan(a, b, initial, block=3, **packed)


def matrix(random, B, T, N):
    return random.turn(B, T, N, N), random.normal(B, T, N), random.normal(B, N)


def matrix_with_zeros(random, B, T, N):
    A, b, initial = matrix(random, B, T, N)
    return A * random.often(B, T, N, N), b, initial


def matrix_of_all_steps(random, B, T, N):
    return random.turn(B, 1, N, N), random.normal(B, T, N), random.normal(B, N)


def matrix_of_the_batch(random, B, T, N):
    return random.turn(1, T, N, N), random.normal(B, T, N), random.normal(B, N)


def one_matrix(random, B, T, N):
    return random.turn(1, 1, N, N), random.normal(B, T, N), random.normal(B, N)


def blocks(random, B, T, N):
    return random.turn(B, T, 2, N, N), random.normal(B, T, 2 * N), random.normal(B, 2 * N)


def blocks_of_all_steps(random, B, T, N):
    return random.turn(B, 1, 2, N, N), random.normal(B, T, 2 * N), random.normal(B, 2 * N)


def blocks_of_the_batch(random, B, T, N):
    return random.turn(1, T, 2, N, N), random.normal(B, T, 2 * N), random.normal(B, 2 * N)


def pairs(random, B, T, N):
    return pair_matrices(random, B, T, N), random.normal(B, T, 2, N), random.normal(B, 2, N)


def pairs_of_all_steps(random, B, T, N):
    return pair_matrices(random, B, 1, N), random.normal(B, T, 2, N), random.normal(B, 2, N)


def pairs_of_the_batch(random, B, T, N):
    return pair_matrices(random, 1, T, N), random.normal(B, T, 2, N), random.normal(B, 2, N)


def one_pair(random, B, T, N):
    return pair_matrices(random, 1, 1, N), random.normal(B, T, 2, N), random.normal(B, 2, N)


def pair_matrices(random, B, T, N):
    return random.turn(B, T, N, 2, 2).movedim(2, -1).contiguous()


def permutation(random, B, T, N):
    return random.normal(B, T, N).real.argsort(-1), *linear_with_zeros(random, B, T, N)


def gather(random, B, T, N):
    source = torch.randint(N, (B, T, N), generator=random.generator)
    return source, *linear(random, B, T, N)


def sent_to_the_same(random, B, T, N):
    """Most states collide with others."""
    target = torch.randint(N, (B, T, N), generator=random.generator) // 2
    return target, *linear(random, B, T, N)


def table(random, B, T, N):
    return random.turn(1, 3, N, N), random.normal(1, 3, N), *three(random, B, T, N)


def tables(random, B, T, N):
    G = groups(B)
    return random.turn(G, 3, N, N), random.normal(G, 3, N), *three(random, B, T, N)


def monarch_tables(random, B, T, N):
    G, n = groups(B), min(N, 8)
    L, R = random.turn(G, 3, n, n, n), random.turn(G, 3, n, n, n)
    return L, R, random.normal(G, 3, n * n), *three(random, B, T, n * n)


def groups(B):
    """Tables: one for every two sequences, where they are even in number."""
    return B // 2 if B and B % 2 == 0 else 1


def three(random, B, T, N):
    """Words of three tokens, and the states before them."""
    return torch.randint(3, (B, T), generator=random.generator), random.normal(B, N)


def reflections(random, B, T, N):
    k = torch.nn.functional.normalize(random.normal(B, T, 2, N), dim=-1)
    return 1 - random.gain(B, T, 2), k, random.normal(B, T, N), random.normal(B, N)


def reflections_of_any_length(random, B, T, N):
    beta, k, b, initial = reflections(random, B, T, N)
    length = random.normal(B, T, 2).abs() + 0.3
    return beta / length**2, k * length[..., None], b, initial


def logarithms(random, B, T, N):
    return random.normal(B, T, N), random.normal(B, T, N), random.normal(B, N)


def logarithms_of_nothing(random, B, T, N):
    """Zeros of the semiring wherever they may be, and from the first step on in every second n."""
    a, b, initial = (
        torch.where(random.often(*tensor.shape), tensor, -torch.inf)
        for tensor in logarithms(random, B, T, N)
    )
    b[:, : T // 2, ::2] = initial[:, ::2] = -torch.inf
    return a, b, initial


def ties(random, B, T, N):
    return tuple(tensor.round() for tensor in logarithms(random, B, T, N))


def averages(random, B, T, N, V=3):
    decay, score, log_norm = logarithms(random, B, T, N)
    return decay, score, random.normal(B, T, N, V), (random.normal(B, N, V), log_norm)


def averages_of_one(random, B, T, N):
    return averages(random, B, T, N, V=1)


def averages_of_shared(random, B, T, N):
    decay, score, _, initial = averages(random, B, T, N, V=9)
    return decay, score, random.normal(B, T, 1, 9), initial


def averages_of_nothing(random, B, T, N):
    decay, score, log_norm = logarithms_of_nothing(random, B, T, N)
    return decay, score, random.normal(B, T, N, 2), (random.normal(B, N, 2), log_norm)


def selective(random, B, T, N):
    """N channels of N states, whose gains exp(delta A) are crowded near 1, a few of them above."""
    u, delta, rate = random.normal(B, T, N), 0.3 * random.normal(B, T, N).abs(), random.normal(N, N)
    to_state, to_output = random.normal(B, T, N), random.normal(B, T, N)
    return u, delta, 0.1 - rate.abs(), to_state, to_output, random.normal(B, N, N)


def selective_with_all(random, B, T, N):
    """In two groups of N channels."""
    u, z, delta = (random.normal(B, T, 2 * N) for _ in range(3))
    rate = 0.1 - random.normal(2 * N, N).abs()
    to_state, to_output = (random.normal(B, T, 2, N) for _ in range(2))
    skip, bias, initial = random.normal(2 * N), random.normal(2 * N) - 1, random.normal(B, 2 * N, N)
    return u, delta, rate, to_state, to_output, skip, z, bias, initial


def oscillators(random, B, T, N):
    """Gains of both signs, and couplings that attract, as in models, or repel."""
    gain, turn = random.gain(B, T, N), random.normal(B, T, N)
    coupling = 2 * random.normal(B, T).sigmoid() * random.often(B, T).to(turn).mul(2).sub(1)
    return gain.clamp(-1, 1), turn, coupling, random.normal(B, T, 2, N), random.normal(B, 2, N)


def time_first(form):
    """With arguments named as in Mamba: capital letters are what its papers call them."""

    def selective(u, delta, A, B, C, initial=None, **packed):
        return form(u, delta, A, B, C, initial=initial, time_first=True, **packed)

    return selective


def time_first_with_all(form):
    def selective(u, delta, A, B, C, D, z, delta_bias, initial=None, **packed):
        given = u, delta, A, B, C, D, z, delta_bias, True
        return form(*given, initial=initial, time_first=True, **packed)

    return selective


LINEAR = [Case(draw, "linear_scan") for draw in (linear, linear_with_zeros)]
MATRIX = [
    Case(draw, "matrix_scan")
    for draw in (matrix, matrix_with_zeros, matrix_of_all_steps, matrix_of_the_batch, one_matrix)
]
MATMUL = [Case(one_gain, "matmul_scan", compiled=False)]
STRUCTURED = [
    *[Case(draw, "block_scan") for draw in (blocks, blocks_of_all_steps, blocks_of_the_batch)],
    *[
        Case(draw, "pair_scan")
        for draw in (pairs, pairs_of_all_steps, pairs_of_the_batch, one_pair)
    ],
    *[Case(draw, "permutation_scan") for draw in (permutation, gather)],
    *[Case(draw, "scatter_scan") for draw in (permutation, gather, sent_to_the_same)],
    *[Case(draw, "householder_scan") for draw in (reflections, reflections_of_any_length)],
]
TABLES = [
    *[Case(draw, "table_scan", stepwise=False) for draw in (tables, table)],
    Case(monarch_tables, "monarch_table_scan", stepwise=False),
]
SEMIRINGS = [
    Case(logarithms, "log_scan", REAL),
    Case(logarithms_of_nothing, "log_scan", REAL, smooth=False),
    Case(logarithms, "tropical_scan", REAL),
    Case(logarithms_of_nothing, "tropical_scan", REAL, smooth=False),
    Case(ties, "tropical_scan", REAL, smooth=False),
]
SOFTMAX = [
    *[Case(d, "softmax_scan", REAL) for d in (averages, averages_of_one, averages_of_shared)],
    Case(averages_of_nothing, "softmax_scan", REAL, smooth=False),
]
SELECTIVE = [
    Case(selective, "selective_scan", REAL, called=time_first, states=False),
    Case(selective_with_all, "selective_scan", REAL, called=time_first_with_all, states=False),
]
OSCILLATORS = [Case(oscillators, "kuramoto_scan", REAL)]
CASES = [
    *LINEAR, *MATMUL, *MATRIX, *STRUCTURED, *TABLES, *SEMIRINGS, *SOFTMAX, *SELECTIVE, *OSCILLATORS
]  # fmt: skip


def floating(values) -> list[Tensor]:
    """The tensors that may have gradients: all but indices."""
    return [t for t in tree_leaves(values) if t.is_floating_point() or t.is_complex()]


def of_floats(change, values):
    """The same values with `change` made to all tensors but indices."""
    return tree_map(lambda value: change(value) if floating(value) else value, values)


def to(dtype):
    return lambda tensor: tensor.to(dtype)
