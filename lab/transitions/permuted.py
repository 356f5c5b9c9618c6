"""Transitions with a permutation that the input chooses: in front of a diagonal, or around it.

`ColumnSparse` is P(x) diag(lambda) + p q^T, and `Conjugated` is P(x) (diag(lambda) + p q^T) P(x)^T.
lambda, p and q are the same for every input.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.arguments import one_of, real
from lab.linalg.monarch import expm, skew
from lab.linalg.permutation import (
    gumbel,
    hard_columns,
    hard_permutation,
    near_permutation,
    nearest_permutation,
    sinkhorn,
)
from lab.linalg.precision import wide
from lab.nn.linear import linear, precise
from lab.nn.weight_decay import without_decay
from lab.scan import linear_scan, matrix_scan, scatter_scan
from lab.scan.linear import before
from lab.transitions.base import Transition
from lab.transitions.diagonal import clipped

Choice = Literal["columns", "gumbel", "sinkhorn", "orthogonal"]


class PermutationOf(nn.Module):
    """x -> P(x) ["n n"], a permutation matrix, or what stands for one in training.

    All choices read scores W x + c. They differ in how a discrete choice gets a gradient.

    - "columns": a row for every column, with the gradient of the softmax. Columns may choose the
      same row, and the states that they send are then added up.
    - "gumbel": the same, after Gumbel noise times `temperature`, which is drawn anew in every call
      from torch's global random numbers.
    - "sinkhorn": at a temperature of 0 the nearest permutation, with the gradient of the doubly
      stochastic matrix that it is nearest to; above 0 the doubly stochastic matrix itself, that of
      scores / temperature.
    - "orthogonal": `near_permutation` of a rotation. At a temperature of 0 it is the nearest
      permutation, and has no gradient.

    Args:
        d_model: D.
        n: side of P.
        choice, temperature: as above; the temperature of "orthogonal" is at most 1.
        generator: random stream of the initial parameters.

    Raises:
        ValueError: the choice is unknown, or the temperature is below 0.

    Attributes:
        temperature: may be changed between updates, in all models that train side by side.

    Parameters: (D + 1) n², or (D + 1) n (n - 1) / 2 for "orthogonal".
    Source: `lab.linalg.permutation` names those of all four.
    """

    def __init__(
        self,
        d_model: int,
        n: int,
        *,
        choice: Choice,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        one_of("PermutationOf", "choice", choice, get_args(Choice))
        self.n, self.choice = n, choice
        self.temperature = real("PermutationOf", "temperature", temperature, least=0.0)
        entries = n * (n - 1) // 2 if choice == "orthogonal" else n * n
        self.scores = linear(d_model, entries, generator=generator)

    @property
    def is_hard(self) -> bool:
        """Whether every column of P has a single 1."""
        return self.choice in ("columns", "gumbel") or self.temperature == 0

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... n n"]:
        """P."""
        scores, temperature = precise(self.scores, x), self.temperature
        if self.choice == "orthogonal":
            R = expm(skew(scores, self.n))
            return near_permutation(R, temperature) if temperature else nearest_permutation(R)
        scores = scores.unflatten(-1, (self.n, self.n))
        if self.choice == "sinkhorn" and temperature:
            return sinkhorn(scores / temperature)
        if self.choice == "sinkhorn":
            return hard_permutation(sinkhorn(scores))
        if self.choice == "gumbel" and temperature:
            scores = scores + temperature * (gumbel(scores) - scores)
        return hard_columns(scores)


class ColumnSparse(Transition):
    """P(x) diag(lambda) + p q^T: a state is scaled, and sent to where the input says.

    With one-hot columns this follows any automaton of N states: column n says where state n goes.
    lambda = 1.2 tanh(theta), clipped to [-1, 1] with a gradient beyond (see `clipped`); it begins
    at 1, where nothing is lost.

    Norm: at most sqrt(N) where columns collide, and at most 1 where they do not, without p and q.
    The sum of the sizes of all states never grows in either case.

    Args:
        d_model: D.
        d_state: N.
        choice, temperature: of `PermutationOf`.
        low_rank: whether there is a p q^T, of rank 1, with entries that begin near 0.1.
        generator: random stream of the initial parameters.

    Attributes:
        P: the `PermutationOf` the input.

    Real parameters: those of P, N for lambda, and 2 N for p and q.
    Source: Terzić et al. 2025, Structured sparse transition matrices to enable state tracking in
    state-space models (PD-SSM), where lambda depends on the input too.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        choice: Choice = "columns",
        temperature: float = 0.0,
        low_rank: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        self.P = PermutationOf(
            d_model, d_state, choice=choice, temperature=temperature, generator=generator
        )
        self.reads_tables = choice != "gumbel"  # with noise, equal inputs have other matrices
        self.theta = nn.Parameter(torch.full((d_state,), 2.0))
        self.p, self.q = _low_rank(d_state, low_rank, generator)
        without_decay(self, "theta", "p", "q")

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... N N"]:
        """P(x)."""
        found: Tensor = self.P(x)
        return found

    def dense(self, P: Float[Tensor, "... N N"]) -> Float[Tensor, "... N N"]:
        """P diag(lambda) + p q^T."""
        A = P * _gains(self.theta)
        return A if self.p is None or self.q is None else A + wide(self.p)[:, None] * wide(self.q)

    def scan(
        self, P: Float[Tensor, "B T N N"], b: Float[Tensor, "B T N"], initial: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B T N"]:
        """By index if every column has a single 1 and nothing is added, and densely otherwise."""
        if self.p is None and self.P.is_hard:
            return scatter_scan_of(P, _gains(self.theta), b, initial)
        return matrix_scan(self.dense(P), b, initial)


class Conjugated(Transition):
    """P(x) (diag(lambda) + p q^T) P(x)^T = diag(P lambda) + (P p)(P q)^T for a permutation P.

    Without p and q all transitions are diagonal and commute. lambda is as in `ColumnSparse`, and
    begins with numbers from -1 to 1.

    Norm: at most 1 for a permutation, without p and q. With "columns" or "gumbel" collisions add up
    entries of lambda, to N at most, and then the right-hand side above is what is computed.

    Args:
        d_model: D.
        d_state: N.
        choice, temperature: of `PermutationOf`.
        low_rank: whether there are p and q, as in `ColumnSparse`.
        generator: random stream of the initial parameters.

    Attributes:
        P: the `PermutationOf` the input.

    Real parameters: as `ColumnSparse`.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        choice: Choice = "sinkhorn",
        temperature: float = 0.0,
        low_rank: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        self.P = PermutationOf(
            d_model, d_state, choice=choice, temperature=temperature, generator=generator
        )
        self.reads_tables = low_rank and choice != "gumbel"  # as in `ColumnSparse`
        self.theta = nn.Parameter(torch.linspace(-1.5, 1.5, d_state))
        self.p, self.q = _low_rank(d_state, low_rank, generator)
        without_decay(self, "theta", "p", "q")

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... N k"]:
        """P lambda as a column, and with a low rank P p and P q behind it: k is 1 or 3."""
        columns = [_gains(self.theta)]
        if self.p is not None and self.q is not None:
            columns += [wide(self.p), wide(self.q)]
        moved: Tensor = self.P(x) @ torch.stack(columns, dim=-1)
        return moved

    def dense(self, moved: Float[Tensor, "... N k"]) -> Float[Tensor, "... N N"]:
        """diag(P lambda) + (P p)(P q)^T."""
        A = torch.diag_embed(moved[..., 0])
        return A if self.p is None else A + moved[..., 1:2] * moved[..., None, :, 2]

    def product(
        self, moved: Float[Tensor, "... N k"], h: Float[Tensor, "... N"]
    ) -> Float[Tensor, "... N"]:
        """A h, in O(N)."""
        scaled = moved[..., 0] * h
        if self.p is None:
            return scaled
        return scaled + moved[..., 1] * (moved[..., 2] * h).sum(-1, keepdim=True)

    def scan(
        self,
        moved: Float[Tensor, "B T N k"],
        b: Float[Tensor, "B T N"],
        initial: Float[Tensor, "B N"],
    ) -> Float[Tensor, "B T N"]:
        """Elementwise if nothing is added to the diagonal."""
        if self.p is None:
            return linear_scan(moved[..., 0], b, initial)
        return matrix_scan(self.dense(moved), b, initial)


def scatter_scan_of(
    P: Float[Tensor, "B T N N"],
    gains: Float[Tensor, "N"],
    b: Float[Tensor, "B T N"],
    initial: Float[Tensor, "B N"],
) -> Float[Tensor, "B T N"]:
    """`matrix_scan` of P diag(gains) for one-hot columns: by index, with a gradient for P as well.

    Indices have no gradient. So where one is wanted, the states are computed twice: with those of
    the first time, (P - P) (gains * h[t-1]) is added to the input, the second P as a constant. That
    is zero, and its gradient is what a product with P would have given.

    Cost: two scans of N per step and that product, N² per step; without a gradient, one scan.
    """
    # The indices of `max` are those of `argmax`, which takes five times as long on this axis.
    target, a = P.detach().max(-2).indices, gains.expand_as(b)
    if not torch.is_grad_enabled():
        return scatter_scan(target, a, b, initial)
    with torch.no_grad():
        sent = gains * before(scatter_scan(target, a, b, initial), initial)
    nothing = ((P - P.detach()) @ sent[..., None])[..., 0]
    return scatter_scan(target, a, b + nothing, initial)


def _gains(theta: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """lambda, of a size of at most 1, which it reaches."""
    return clipped(1.2 * wide(theta).tanh(), -1.0, 1.0)


def _low_rank(
    N: int, wanted: bool, generator: torch.Generator | None
) -> tuple[nn.Parameter | None, nn.Parameter | None]:
    """p and q, normal with a standard deviation of 0.1; nothing is drawn if they are not wanted."""
    if not wanted:
        return None, None
    p, q = 0.1 * torch.randn(2, N, generator=generator)
    return nn.Parameter(p), nn.Parameter(q)
