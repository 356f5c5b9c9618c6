"""Transitions of low displacement rank, and the matrices with which they are compared.

All of them compute whole matrices. A layer whose input depends only on the token computes one
matrix per token and looks them up. The classes differ in how the off-diagonal part is computed and
how the matrix is bounded.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.arguments import one_of, refuse
from lab.linalg.displacement import (
    balanced_kernel,
    cauchy_kernel,
    chebyshev_nodes,
    random_kernel,
    unit_kernel,
)
from lab.linalg.precision import wide
from lab.nn.linear import precise, precise_product
from lab.nn.weight_decay import without_decay
from lab.transitions.base import Transition
from lab.transitions.diagonal import GATES, Gate

Kernel = Literal["cauchy", "unit", "balanced", "none", "random"]
Bound = Literal["none", "frobenius", "columns", "norm", "newton-schulz", "tanh"]

_KERNELS: dict[str, Callable[[Tensor], Tensor]] = {
    "cauchy": lambda kernel: kernel,
    "unit": unit_kernel,
    "balanced": lambda kernel: 4 * balanced_kernel(kernel),
    "none": lambda kernel: (kernel != 0).to(kernel.dtype),
}


class Whole(Transition):
    """A transition whose parameters are the matrix itself, ["... N N"]."""

    reads_tables = True

    def dense(self, parameters: Float[Tensor, "... N N"]) -> Float[Tensor, "... N N"]:
        """The parameters, unchanged."""
        return parameters


class DisplacementRank(Whole):
    """A(x) = bound(diag(d) + K * (G H^T)) with d, G, H of x, and K a Cauchy kernel.

    Args:
        d_model: D.
        d_state: N; the nodes are Chebyshev nodes.
        rank: number of columns of G and H. It bounds the displacement rank only with `proper`, and
            only for a `bound` that scales: "none", "frobenius", "columns" and "norm".
        kernel: "cauchy" is the unscaled kernel, "unit" is divided by its spectral norm, "balanced"
            is four times the balanced kernel, and "none" gives a low-rank matrix without a kernel.
        gate: gate of the diagonal, which starts at gate(2.2): sigmoid 0.90, tanh 0.98.
        bound: "frobenius" sets the norms of G and H to sqrt(rank), as in the earlier run; it does
            not bound A. "columns" scales columns longer than 1, and "norm" scales the whole matrix.
            For "tanh" and "newton-schulz" see `BOUNDS`.
        proper: whether diag(G H^T) is projected to zero, so that G H^T is the displacement.
        generator: random stream of the initial parameters.
        kernels: random stream of a random kernel; `generator` if None.
        dtype: dtype of the parameters.

    Real parameters: (D + 1) (N + 2 N rank).

    Raises:
        ValueError: the kernel, gate or bound is unknown, or the rank is below 1; or the kernel is
            random, and there is no stream to draw it from.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        rank: int,
        kernel: Kernel = "unit",
        gate: Gate = "tanh",
        bound: Bound = "columns",
        proper: bool = False,
        generator: torch.Generator | None = None,
        kernels: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        _check(rank, kernel, bound)
        self.rank, self.bound, self.proper = rank, bound, proper
        self.gate = Gates(d_model, d_state, gate, dtype)
        self.generators = small(d_model, 2 * d_state * rank, d_state * rank, generator, dtype)
        self.kernel: Tensor
        made = _kernel(kernel, d_state, kernels or generator)
        self.register_buffer("kernel", made.to(dtype), persistent=False)

    def generators_of(
        self, x: Float[Tensor, "... D"]
    ) -> tuple[Float[Tensor, "... N rank"], Float[Tensor, "... N rank"]]:
        """G and H ["... N rank"], as they are used in the matrix."""
        G, H = precise(self.generators, x).unflatten(-1, (2, self.d_state, self.rank)).unbind(-3)
        if self.bound == "frobenius":
            G, H = (math.sqrt(self.rank) * each / _frobenius(each) for each in (G, H))
        if self.proper:
            share = (G * H).sum(-1, keepdim=True) / _size(G).clamp_min(1e-24)
            H = H - share * G
        return G, H

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... N N"]:
        """A ["... N N"]."""
        G, H = self.generators_of(x)
        off = wide(self.kernel) * (G @ H.mT)
        return BOUNDS[self.bound](self.gate(x), off)


class Dense(Whole):
    """A(x) = bound(diag(d) + off-diagonal part of M), with all N^2 entries of M computed from x.

    With bound "tanh" and a sigmoid gate it is the baseline of the earlier run. M is initialised
    with small entries, so that A starts near diag(d).

    Real parameters: (D + 1) (N + N^2). As in the earlier run, those of the diagonal of M are
    unused.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        gate: Gate = "tanh",
        bound: Bound = "columns",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        _check(1, "none", bound)
        self.bound = bound
        self.gate = Gates(d_model, d_state, gate, dtype)
        self.entries = small(d_model, d_state**2, d_state**2, generator, dtype)
        self.off_diagonal: Tensor
        off = 1 - torch.eye(d_state, dtype=dtype)
        self.register_buffer("off_diagonal", off, persistent=False)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... N N"]:
        """A ["... N N"]."""
        M = precise(self.entries, x).unflatten(-1, (self.d_state, self.d_state))
        return BOUNDS[self.bound](self.gate(x), wide(self.off_diagonal) * M)


class CayleyCauchy(Whole):
    """A(x) = diag(e) Q, with |e| < 1 and Q orthogonal: |A| < 1 and displacement rank `rank`.

    e and Q depend on x. With `two_sided` it is diag(e) Q diag(f), |f| < 1; a diagonal factor on
    either side preserves both properties.

    Q = 2 (I + Z)^-1 - I for the skew Z = c K * (rho rho^T * (U U^T - V V^T)). K is antisymmetric,
    and the matrix multiplied with it is symmetric. The latter has a zero diagonal, because the rows
    of U and V have norm one, so it is the displacement of Z, with rank `rank`. Cayley's transform
    and a diagonal factor preserve this rank: the displacement of Q is
    -2 (I + Z)^-1 D(Z) (I + Z)^-1.

    At rank 2 the rows of U and V are 1 or -1. These signs are fixed: U = 1 and V alternates, which
    couples the even states with the odd ones. Every real skew matrix of displacement rank 2 has
    this form for some split of the states, because the zero diagonal of p p^T - q q^T implies
    p[i]^2 = q[i]^2.

    Args:
        d_model: D.
        d_state: N; the nodes are Chebyshev nodes.
        rank: displacement rank, even and at least 2.
        scale: c, in units of 1 / |K|.
        two_sided: whether the factor diag(f) is present.
        kernel: "unit" for Cauchy's, or "random" as in `DisplacementRank`, with which Q is as
            orthogonal, and has no low displacement rank.
        generator: random stream of the initial parameters.
        kernels: random stream of a random kernel; `generator` if None.
        dtype: dtype of the parameters.

    Real parameters: (D + 1) times 2 N, N more if two-sided, and N rank more above rank 2.

    Raises:
        ValueError: the rank is odd or below 2, or there is no such kernel; or it is random, and
            there is no stream to draw it from.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        rank: int,
        scale: float = 8.0,
        two_sided: bool = False,
        kernel: Literal["unit", "random"] = "unit",
        generator: torch.Generator | None = None,
        kernels: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        if rank < 2 or rank % 2:
            raise ValueError(f"rank is {rank}; it must be even and at least 2")
        one_of("CayleyCauchy", "kernel", kernel, ("unit", "random"))
        self.rank = rank
        self.gate = Gates(d_model, d_state, "tanh", dtype)
        self.right = Gates(d_model, d_state, "tanh", dtype) if two_sided else None
        self.rho = small(d_model, d_state, 1, generator, dtype)
        width = d_state * rank if rank > 2 else 0
        self.rows = small(d_model, width, 1, generator, dtype) if width else None
        self.kernel: Tensor
        self.identity: Tensor
        made = scale * _kernel(kernel, d_state, kernels or generator)
        self.register_buffer("kernel", made.to(dtype), persistent=False)
        self.register_buffer("identity", torch.eye(d_state, dtype=dtype), persistent=False)

    def symmetric(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... N N"]:
        """rho rho^T * (U U^T - V V^T) ["... N N"]: the displacement of Z, up to c / |K|."""
        rho = precise(self.rho, x)
        if self.rows is None:
            sign = torch.ones_like(rho)
            sign[..., 1::2] = -1
            inner = 1 - sign[..., :, None] * sign[..., None, :]
        else:
            both = precise(self.rows, x).unflatten(-1, (2, self.d_state, self.rank // 2))
            both = both / _size(both).clamp_min(1e-24).sqrt()
            U, V = both.unbind(-3)
            inner = U @ U.mT - V @ V.mT
        return rho[..., :, None] * rho[..., None, :] * inner

    def orthogonal(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... N N"]:
        """Q ["... N N"]."""
        Z, identity = wide(self.kernel) * self.symmetric(x), wide(self.identity)
        return 2 * torch.linalg.inv(identity + Z) - identity

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... N N"]:
        """A ["... N N"]."""
        A: Tensor = self.gate(x)[..., None] * self.orthogonal(x)
        return A if self.right is None else A * self.right(x)[..., None, :]


# --- parts ---------------------------------------------------------------------------------------


class Gates(nn.Module):
    """gate(W x + 2.2) ["... N"]; W starts at zero. Parameters: (D + 1) N."""

    def __init__(self, d_model: int, d_state: int, gate: Gate, dtype: torch.dtype) -> None:
        super().__init__()
        if gate not in GATES:
            raise ValueError(f"gate is {gate!r}; it must be one of {get_args(Gate)}")
        self.kind = gate
        self.weight = nn.Parameter(torch.zeros(d_state, d_model, dtype=dtype))
        self.bias = nn.Parameter(torch.full((d_state,), 2.2, dtype=dtype))
        without_decay(self, "bias")

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... N"]:
        """["... N"]."""
        return GATES[self.kind](precise_product(x, self.weight, self.bias))


def small(
    d_in: int, d_out: int, fan: int, generator: torch.Generator | None, dtype: torch.dtype
) -> nn.Linear:
    """A dense layer with weights N(0, 0.01^2) and biases N(0, 1 / fan), as in the earlier run."""
    layer = nn.utils.skip_init(nn.Linear, d_in, d_out, dtype=dtype)
    with torch.no_grad():
        for parameter, std in ((layer.weight, 0.01), (layer.bias, 1 / math.sqrt(fan))):
            draw = torch.randn(parameter.shape, generator=generator, dtype=dtype)
            parameter.copy_(std * draw)
    return layer


def newton_schulz(A: Float[Tensor, "... N N"], steps: int = 8) -> Float[Tensor, "... N N"]:
    """Approximate orthogonal polar factor of A ["... N N"], by A <- 1.5 A - 0.5 A A^T A.

    The iteration converges for singular values below sqrt(3); each step multiplies small ones by
    1.5. Source: Bjorck & Bowie 1971, An iterative algorithm for computing the best estimate of an
    orthogonal matrix.
    """
    for _ in range(steps):
        A = 1.5 * A - 0.5 * A @ A.mT @ A
    return A


def clip_columns(A: Float[Tensor, "... N N"]) -> Float[Tensor, "... N N"]:
    """A ["... N N"] with every column longer than 1 scaled to length 1."""
    return A / A.square().sum(-2, keepdim=True).clamp_min(1).sqrt()


def _sum(d: Tensor, off: Tensor) -> Tensor:
    return torch.diag_embed(d) + off


def _norm(A: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(A, ord=2)[..., None, None]


# (d, off-diagonal part) -> A.
BOUNDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": _sum,
    "frobenius": _sum,  # applied to the generators
    "columns": lambda d, off: clip_columns(_sum(d, off)),
    "norm": lambda d, off: _sum(d, off) / _norm(_sum(d, off)).clamp_min(1),
    "newton-schulz": lambda d, off: newton_schulz(_sum(d, off) / _norm(_sum(d, off))),
    "tanh": lambda d, off: _sum(d, off.tanh() / math.sqrt(d.shape[-1])),
}


def _kernel(name: Kernel, n: int, generator: torch.Generator | None) -> Tensor:
    """Float64["n n"], without a scale."""
    if name != "random":
        return _KERNELS[name](cauchy_kernel(chebyshev_nodes(n)))
    if generator is None:
        refuse("a random kernel", "kernels", None, "a torch.Generator, such as lab.seeding.stream")
    return random_kernel(n, generator=generator)


def _size(rows: Tensor) -> Tensor:
    """["... 1"]: squared norms, clamped from below; adding a constant would make them inexact."""
    return rows.square().sum(-1, keepdim=True)


def _frobenius(G: Tensor) -> Tensor:
    return G.square().sum((-2, -1), keepdim=True).sqrt()


def _check(rank: int, kernel: str, bound: str) -> None:
    if rank < 1:
        raise ValueError(f"rank is {rank}; it must be at least 1 (RealDiagonal is rank 0)")
    for name, value, known in (("kernel", kernel, Kernel), ("bound", bound, Bound)):
        if value not in get_args(known):
            raise ValueError(f"{name} is {value!r}; it must be one of {get_args(known)}")
