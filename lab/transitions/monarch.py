"""Transitions on a grid of b by b states: as proposed, and with blocks that depend on the input.

All of them are used in `StateSpace`. They differ in the effect of the input. In `GatedMonarch` it
scales coordinates between fixed rotations; in the others it rotates blocks of the state.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lab.linalg.monarch import (
    cayley,
    column_factor,
    direction,
    expm,
    grid_side,
    householder_blocks,
    monarch_dense,
    monarch_product,
    row_factor,
    skew,
)
from lab.linalg.precision import wide
from lab.nn.linear import linear, precise
from lab.nn.weight_decay import without_decay
from lab.scan import block_scan, householder_scan, monarch_table_scan
from lab.scan.monarch import monarch_scan
from lab.transitions.base import Transition
from lab.transitions.diagonal import GATES, Gate


class GatedMonarch(Transition):
    """P^T L(x) P R(x) with fixed rotations, L_c(x) = alpha_c(x) L_c and R_r(x) = beta_r(x) R_r.

    As proposed, the transition depends on the input only through 2 b gains. They are sigmoids of a
    dense layer; with "tanh" they may be negative. It has 2 b³ + 2 b (D + 1) parameters, N = b².

    Since a gain commutes with the rotation of its own block, A(x) = U D(x) V with fixed rotations
    and a diagonal D. Therefore A(x) A(y)^-1 is symmetric, and all of these matrices commute. The
    state can only follow a group by counting tokens, or, with gains of both signs, up to commuting
    involutions.

    Args:
        d_model: D.
        d_state: N, a square number.
        gate: "sigmoid" or "tanh".
        spread: standard deviation of the initial numbers that define the fixed blocks.
        opening: added to the initial logits of the gates; 4 keeps a state for about fifty steps.
        generator: random stream of the initial parameters.

    Raises:
        ValueError: d_state is not a square number, or the gate is unknown.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        gate: Gate = "sigmoid",
        spread: float = 0.01,
        opening: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        if gate not in GATES:
            raise ValueError(f"gate is {gate!r}; it must be one of {tuple(GATES)}")
        self.gate, b = gate, grid_side(d_state)
        # All b² numbers of S in S - S^T, as counted in the proposal; b (b + 1) / 2 are redundant.
        left, right = (spread * torch.randn(b, b, b, generator=generator) for _ in range(2))
        self.left, self.right = nn.Parameter(left), nn.Parameter(right)
        without_decay(self, "left", "right")  # decay would pull the rotations to the identity
        self.gates = linear(d_model, 2 * b, generator=generator)
        with torch.no_grad():
            self.gates.bias.add_(opening)

    def blocks(self) -> tuple[Float[Tensor, "b b b"], Float[Tensor, "b b b"]]:
        """The fixed rotations L and R, ["b b b"] each."""
        left, right = wide(self.left), wide(self.right)
        return cayley(left - left.mT), cayley(right - right.mT)

    def forward(
        self, x: Float[Tensor, "... D"]
    ) -> tuple[Float[Tensor, "... b"], Float[Tensor, "... b"]]:
        """Gains alpha of columns and beta of rows, ["... b"] each."""
        alpha, beta = GATES[self.gate](precise(self.gates, x)).chunk(2, dim=-1)
        return alpha, beta

    def dense(
        self, parameters: tuple[Float[Tensor, "... b"], Float[Tensor, "... b"]]
    ) -> Float[Tensor, "... b*b b*b"]:
        """["... N N"]."""
        (L, R), (alpha, beta) = self.blocks(), parameters
        return monarch_dense(alpha[..., None, None] * L, beta[..., None, None] * R)

    def product(
        self,
        parameters: tuple[Float[Tensor, "... b"], Float[Tensor, "... b"]],
        h: Float[Tensor, "... b*b"],
    ) -> Float[Tensor, "... b*b"]:
        """`monarch_product`."""
        (L, R), (alpha, beta) = self.blocks(), parameters
        return monarch_product(alpha[..., None, None] * L, beta[..., None, None] * R, h)

    def scan(
        self,
        parameters: tuple[Float[Tensor, "B T b"], Float[Tensor, "B T b"]],
        b: Float[Tensor, "B T b*b"],
        initial: Float[Tensor, "B b*b"],
    ) -> Float[Tensor, "B T b*b"]:
        """Step by step, with a single dense product per step.

        Gains commute with the rotations of their own blocks, so A = U D V with a diagonal D. For
        z = V h a step is z = V U D z + V b. At 64 states this is faster than 16 small products.
        """
        (L, R), (alpha, beta) = self.blocks(), parameters
        V = row_factor(R).mT
        VU = column_factor(L).mT @ V
        gains = alpha.repeat(1, 1, len(L)) * beta.repeat_interleave(len(L), dim=-1)
        z, states = initial @ V, []
        for gain, drive in zip(gains.unbind(1), (b @ V).unbind(1), strict=True):
            z = (gain * z) @ VU + drive
            states.append(z)
        return torch.stack(states, dim=1) @ V.mT


class TwoFactors(Transition):
    """P^T L(x) P R(x), whose 2 b blocks of b by b `forward` computes, N = b²."""

    reads_tables = True

    def __init__(self, d_model: int, *, d_state: int) -> None:
        super().__init__(d_model, d_state=d_state)
        self.side = grid_side(d_state)

    def dense(
        self, parameters: tuple[Float[Tensor, "... b b b"], Float[Tensor, "... b b b"]]
    ) -> Float[Tensor, "... b*b b*b"]:
        """["... N N"]."""
        return monarch_dense(*parameters)

    def product(
        self,
        parameters: tuple[Float[Tensor, "... b b b"], Float[Tensor, "... b b b"]],
        h: Float[Tensor, "... b*b"],
    ) -> Float[Tensor, "... b*b"]:
        """`monarch_product`."""
        return monarch_product(*parameters, h)

    def scan(
        self,
        parameters: tuple[Float[Tensor, "B T b b b"], Float[Tensor, "B T b b b"]],
        b: Float[Tensor, "B T b*b"],
        initial: Float[Tensor, "B b*b"],
    ) -> Float[Tensor, "B T b*b"]:
        """`monarch_scan`."""
        return monarch_scan(*parameters, b, initial)

    def table_scan(
        self,
        parameters: tuple[Float[Tensor, "V b b b"], Float[Tensor, "V b b b"]],
        b: Float[Tensor, "V b*b"],
        tokens: Int64[Tensor, "B T"],
        initial: Float[Tensor, "B b*b"],
    ) -> Float[Tensor, "B T b*b"]:
        """`monarch_table_scan`, with one table."""
        L, R = parameters
        return monarch_table_scan(L[None], R[None], b[None], tokens, initial)


class MonarchID(TwoFactors):
    """P^T L(x) P R(x), whose 2 b blocks are Cayley transforms of skew matrices linear in x.

    It is a rotation for every x, with b² (b - 1) (D + 1) parameters, N = b². A fixed one is the
    same rotation for every x, with b² (b - 1) parameters.

    Args:
        d_model: D.
        d_state: N, a square.
        fixed: whether the input has no effect.
        generator: random stream of the initial parameters.

    Raises:
        ValueError: d_state is not a square.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        fixed: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        self.is_constant, count = fixed, d_state * (self.side - 1)
        self.entries = None if fixed else linear(d_model, count, generator=generator)
        # As large as the constants of the dense layer at the start.
        start = (2 * torch.rand(count, generator=generator) - 1) / d_model**0.5 if fixed else None
        self.bias = None if start is None else nn.Parameter(start)
        without_decay(self, "bias")

    def generators(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... n b b"]:
        """Skew matrices ["... 2b b b"], those of L first."""
        b = self.side
        if self.entries is None:
            assert self.bias is not None
            each = wide(self.bias).expand(*x.shape[:-1], -1)
        else:
            each = precise(self.entries, x)
        return skew(each.unflatten(-1, (2 * b, b * (b - 1) // 2)), b)

    def forward(
        self, x: Float[Tensor, "... D"]
    ) -> tuple[Float[Tensor, "... b b b"], Float[Tensor, "... b b b"]]:
        """L and R, ["... b b b"] each."""
        L, R = cayley(self.generators(x)).chunk(2, dim=-3)
        return L, R


class MonarchHH(TwoFactors):
    """P^T L(x) P R(x), whose 2 b blocks are I - beta v v^T with v and beta in (0, 2) from x.

    It has 2 b (b + 1) (D + 1) parameters, N = b². At beta = 2 it is orthogonal.

    Args:
        d_model: D.
        d_state: N, a square.
        generator: random stream of the initial parameters.

    Raises:
        ValueError: d_state is not a square.

    Source: of the reflections, Yang et al. 2024, Parallelizing linear transformers with the delta
    rule over sequence length.
    """

    def __init__(
        self, d_model: int, *, d_state: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        self.entries = linear(d_model, 2 * self.side * (self.side + 1), generator=generator)

    def forward(
        self, x: Float[Tensor, "... D"]
    ) -> tuple[Float[Tensor, "... b b b"], Float[Tensor, "... b b b"]]:
        """L and R, ["... b b b"] each."""
        each = precise(self.entries, x).unflatten(-1, (2 * self.side, -1))
        L, R = householder_blocks(each[..., 1:], 2 * each[..., 0].sigmoid()).chunk(2, dim=-3)
        return L, R


class Blocks(Transition):
    """A block-diagonal A(x): b blocks of b by b, which `forward` computes."""

    def __init__(self, d_model: int, *, d_state: int) -> None:
        super().__init__(d_model, d_state=d_state)
        self.side = grid_side(d_state)

    def dense(self, parameters: Float[Tensor, "... K b b"]) -> Float[Tensor, "... K*b K*b"]:
        """["... N N"] of blocks ["... b b b"]."""
        return row_factor(parameters)

    def product(
        self, parameters: Float[Tensor, "... K b b"], h: Float[Tensor, "... K*b"]
    ) -> Float[Tensor, "... K*b"]:
        """A h, computed block by block."""
        parts = h.unflatten(-1, (self.side, self.side))
        return (parameters @ parts[..., None]).flatten(-3)

    def scan(
        self,
        parameters: Float[Tensor, "B T K b b"],
        b: Float[Tensor, "B T K*b"],
        initial: Float[Tensor, "B K*b"],
    ) -> Float[Tensor, "B T K*b"]:
        """`block_scan`."""
        return block_scan(parameters, b, initial)


class _SkewBlocks(Blocks):
    """Blocks from skew matrices linear in x, with b² (b - 1) / 2 (D + 1) parameters.

    Args:
        d_model: D.
        d_state: N = b².
        generator: random stream of the initial parameters.
    """

    def __init__(
        self, d_model: int, *, d_state: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        self.entries = linear(d_model, d_state * (self.side - 1) // 2, generator=generator)

    def generators(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... K b b"]:
        """Skew matrices ["... b b b"]."""
        b = self.side
        return skew(precise(self.entries, x).unflatten(-1, (b, b * (b - 1) // 2)), b)


class BlockCay(_SkewBlocks):
    """Cayley transforms: every rotation without angle pi, which would need infinite entries."""

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... K b b"]:
        """["... b b b"]."""
        return cayley(self.generators(x))


class BlockExp(_SkewBlocks):
    """Exponentials: every rotation."""

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... K b b"]:
        """["... b b b"]."""
        return expm(self.generators(x))


class BlockDense(Blocks):
    """I + W x in every block, divided by its spectral norm if that is above 1.

    It has N b (D + 1) parameters.

    Args:
        d_model: D.
        d_state: N = b².
        generator: random stream of the initial parameters.
    """

    def __init__(
        self, d_model: int, *, d_state: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        self.entries = linear(d_model, d_state * self.side, generator=generator)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... K b b"]:
        """["... b b b"]."""
        b = self.side
        free = precise(self.entries, x).unflatten(-1, (b, b, b))
        blocks = torch.eye(b, dtype=free.dtype, device=x.device) + free
        sizes = torch.linalg.matrix_norm(blocks, ord=2, keepdim=True)
        return blocks / sizes.clamp_min(1)


class BlockHH(Transition):
    """One reflection I - beta v v^T per block; v and beta in (0, 2) are computed from the input.

    It has (b + 1) b (D + 1) parameters. With `shared`, all blocks have the same reflection and
    there are b times fewer: the transition depends on the input only through b + 1 numbers per
    step.

    Args:
        d_model: D.
        d_state: N = b².
        shared: whether all blocks have the same reflection.
        generator: random stream of the initial parameters.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        shared: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        self.side = grid_side(d_state)
        self.distinct = 1 if shared else self.side
        width = self.distinct * (self.side + 1)
        self.entries = linear(d_model, width, generator=generator)

    def forward(
        self, x: Float[Tensor, "... D"]
    ) -> tuple[Float[Tensor, "... b"], Float[Tensor, "... b b"]]:
        """beta ["... b"] and unit vectors v ["... b b"]."""
        each = precise(self.entries, x).unflatten(-1, (self.distinct, self.side + 1))
        beta, v = 2 * each[..., 0].sigmoid(), direction(each[..., 1:])
        return beta.expand(*beta.shape[:-1], self.side), v.expand(*v.shape[:-2], self.side, -1)

    def dense(
        self, parameters: tuple[Float[Tensor, "... K"], Float[Tensor, "... K b"]]
    ) -> Float[Tensor, "... K*b K*b"]:
        """["... N N"]."""
        beta, v = parameters
        return row_factor(householder_blocks(v, beta))

    def product(
        self,
        parameters: tuple[Float[Tensor, "... K"], Float[Tensor, "... K b"]],
        h: Float[Tensor, "... K*b"],
    ) -> Float[Tensor, "... K*b"]:
        """h - beta (v . h) v, block by block."""
        (beta, v), parts = parameters, h.unflatten(-1, (self.side, self.side))
        return (parts - (beta * (v * parts).sum(-1))[..., None] * v).flatten(-2)

    def scan(
        self,
        parameters: tuple[Float[Tensor, "B T K"], Float[Tensor, "B T K b"]],
        b: Float[Tensor, "B T K*b"],
        initial: Float[Tensor, "B K*b"],
    ) -> Float[Tensor, "B T K*b"]:
        """`householder_scan` with every block as a separate sequence."""
        beta, v = parameters
        side = self.side

        def apart(h: Tensor) -> Tensor:
            """["B T K ..."] to ["B K T ..."] to ["BK T ..."]."""
            return h.transpose(1, 2).flatten(0, 1)

        drive = apart(b.unflatten(-1, (side, side)))
        first = initial.unflatten(-1, (side, side)).flatten(0, 1)
        h = householder_scan(apart(beta)[..., None], apart(v)[..., None, :], drive, first)
        return h.unflatten(0, (b.shape[0], side)).transpose(1, 2).flatten(2)
