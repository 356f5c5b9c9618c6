"""DeltaNet: heads with matrix states, whose rows are routed and then corrected along a key."""

from functools import partial
from itertools import permutations
from typing import Literal, get_args

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import linear as linear_map
from torch.nn.functional import normalize

from lab.linalg.permutation import hard_choice, hard_columns
from lab.linalg.precision import wide, widened
from lab.mixers.base import Layer
from lab.mixers.state_space import look_up
from lab.nn.linear import linear, precise
from lab.nn.weight_decay import without_decay
from lab.scan import block_scan
from lab.scan.key_value import key_value_scan

Routing = Literal["none", "columns", "permutations"]
MOST_ROWS = 5  # the most rows of a head routed by permutations, of which every step scores 120
NARROW = 8  # up to this many rows, a scan of small dense matrices is faster than chunks


class DeltaNet(Layer):
    """Every head: S'[t] = P[t] S[t-1], S[t] = S'[t] + beta k (v - S'^T k)^T, o[t] = S[t]^T q[t].

    q, k, v, the gate beta and the routing P are functions of x[t]; k and q have norm 1. With n
    factors there are n successive corrections per step. A read includes the update of its own step.
    The initial state is a learned matrix that is initialised to the identity. If the state started
    at zero and were written once, every head could report only a single number.

    The state and everything that acts on it are in float32 at least, also inside torch.autocast,
    because a reflection of the state does not reduce earlier errors.

    The transition (I - beta k k^T) P never increases the norm of the state if P is a permutation.
    With routing "columns", two columns may choose the same row, and |P| may be up to sqrt(N).

    Args:
        d_model: D.
        heads: H.
        d_key: N, number of rows of a head's state.
        d_value: M, number of columns of a head's state; N if None.
        negative: whether beta lies in (0, 2), up to a reflection, instead of in (0, 1), up to a
            projection.
        routing: "none" for P = I; "columns" for a 1 at the largest logit of each column; or
            "permutations" for the permutation with the largest sum of logits at its ones. The
            gradient is that of a softmax over the rows of a column, or over all permutations.
        factors: n, number of corrections per step.
        generator: random stream of the initial parameters.
        dtype: dtype of the parameters.

    Parameters: (D + 1) H (N + n (N + M + 1) + N^2 if routed) + H N M + (H M + 1) D.

    Source: Yang et al. 2024 (DeltaNet); Grazzi et al. 2024, Unlocking state-tracking in linear RNNs
    through negative eigenvalues; Siems et al. 2025 (DeltaProduct); the routing is that of PD-SSM
    (2025), Structured sparse transition matrices to enable state tracking in state-space models.

    Raises:
        ValueError: there are no factors, the routing is unknown, or a head has too many rows for
            permutations.
    """

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        d_value: int | None = None,
        negative: bool = False,
        routing: Routing = "none",
        factors: int = 1,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if factors < 1:
            raise ValueError(f"factors must be at least 1, got {factors}")
        if routing not in get_args(Routing):
            raise ValueError(f"routing is {routing!r}; it must be one of {get_args(Routing)}")
        H, N, M = heads, d_key, d_key if d_value is None else d_value
        self.heads, self.d_key, self.d_value, self.factors = H, N, M, factors
        dense = partial(linear, d_model, generator=generator, dtype=dtype)
        self.q, self.k, self.v = dense(H * N), dense(factors * H * N), dense(factors * H * M)
        self.beta = dense(factors * H)
        self.route = None if routing == "none" else dense(H * N * N)
        self.permutations: Tensor | None
        every = _permutations(N, dtype) if routing == "permutations" else None
        self.register_buffer("permutations", every, persistent=False)
        self.initial = nn.Parameter(torch.eye(N, M, dtype=dtype).repeat(H, 1, 1))
        without_decay(self, "initial")
        self.out = linear(H * M, d_model, generator=generator, dtype=dtype)
        # A buffer instead of a number, so models with and without negative gains train side by
        # side.
        self.largest_gate: Tensor
        largest = torch.tensor(2.0 if negative else 1.0, dtype=dtype)
        self.register_buffer("largest_gate", largest, persistent=False)

    # --- the forms -------------------------------------------------------------------------------

    @property
    def d_model(self) -> int:
        """D."""
        return self.q.in_features

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """["B T D"] to ["B T D"]: in chunks if `runs_in_chunks`, otherwise by a matrix scan."""
        return self._in_chunks(x) if self.runs_in_chunks else self._along(*self._spread(x))

    @property
    def runs_in_chunks(self) -> bool:
        """Whether there are many rows, and each step is a single correction without routing."""
        return self.d_key > NARROW and self.route is None and self.factors == 1

    def of_tokens(
        self, table: Float[Tensor, "V D"], tokens: Int64[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """`forward` of x[t] = table[tokens[t]]; dense transitions are computed once per token.

        Args:
            table: ["V D"].
            tokens: Int64["B T"].
        """
        if self.runs_in_chunks:
            return self._in_chunks(look_up(table, tokens))
        return self._along(*(look_up(each, tokens) for each in self._spread(table)))

    def step(
        self, x_t: Float[Tensor, "B D"], state: Float[Tensor, "B H N M"] | None = None
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B H N M"]]:
        """`forward` as a recurrence: ["B D"] and ["B H N M"] to ["B D"] and the next state."""
        if state is None:
            state = self._initial(x_t.shape[0])
        reads, state = self._stepped(x_t, state)
        return self._written(reads), state

    @widened
    def _stepped(self, x_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Reads ["B H M"] and the next state."""
        if self.route is not None:
            state = self.routes(x_t) @ state
        k, v, beta = (part.unbind(-2) for part in self.corrections(x_t))
        for key, value, gate in zip(k, v, beta, strict=True):
            stored = (key[..., None] * state).sum(-2)
            state = state + (gate * key)[..., None] * (value - stored)[..., None, :]
        return (state * self.queries(x_t)[..., None]).sum(-2), state

    def _written(self, reads: Tensor) -> Tensor:
        """["... D"] of ["... H M"]."""
        y: Tensor = self.out(reads.flatten(-2).to(self.out.weight.dtype))
        return y

    def _initial(self, batch: int) -> Tensor:
        """["B H N M"]: the state before step 0."""
        return wide(self.initial).expand(batch, -1, -1, -1)

    def states(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T H N M"]:
        """The state of every head after every step."""
        blocks, b, _ = self._spread(x)
        return self._scan(blocks, b).mT

    def eigenvalues(self, x: Float[Tensor, "B T D"]) -> Complex[Tensor, "B T HN"]:
        """Eigenvalues of the transitions of all heads."""
        return torch.linalg.eigvals(self.maps(x)[0]).flatten(-2)

    # --- functions of the input ------------------------------------------------------------------

    def queries(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... H N"]:
        """Queries ["... H N"] of norm 1."""
        return normalize(precise(self.q, x).unflatten(-1, (self.heads, self.d_key)), dim=-1)

    def corrections(
        self, x: Float[Tensor, "... D"]
    ) -> tuple[Float[Tensor, "... H n N"], Float[Tensor, "... H n M"], Float[Tensor, "... H n 1"]]:
        """Keys ["... H n N"] of norm 1, values ["... H n M"] and gates ["... H n 1"]."""

        def split(part: Tensor) -> Tensor:
            return part.unflatten(-1, (self.heads, self.factors, -1))

        # The sigmoid is stretched so that both ends are reached: a gate of 2 - d would multiply the
        # component by only 1 - d in magnitude at every reflection.
        gate = wide(self.largest_gate) * (1.2 * precise(self.beta, x).sigmoid() - 0.1).clamp(0, 1)
        k, v = split(precise(self.k, x)), split(precise(self.v, x))
        return normalize(k, dim=-1), v, split(gate)

    @widened
    def routes(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... H N N"]:
        """P ["... H N N"], axes (to, from): a single 1 in every column; I if there is no routing.

        The value is exactly that of the hard choice; the gradient is that of the softmax.
        """
        N = self.d_key
        if self.route is None:
            eye = torch.eye(N, dtype=wide(x).dtype, device=x.device)
            return eye.expand(*x.shape[:-1], self.heads, N, N)
        logits = precise(self.route, x).unflatten(-1, (self.heads, N, N))
        if self.permutations is None:
            return hard_columns(logits)
        every = wide(self.permutations)
        weights = hard_choice(torch.einsum("...ij,pij->...p", logits, every))
        return torch.einsum("...p,pij->...ij", weights, every)

    @widened
    def maps(
        self, x: Float[Tensor, "... D"]
    ) -> tuple[Float[Tensor, "... H N N"], Float[Tensor, "... H N M"]]:
        """The step as a map S -> A S + b: A ["... H N N"] and b ["... H N M"]."""
        A = self.routes(x)
        # The same corrections apply to both, so they are corrected side by side.
        both = torch.cat([A, A.new_zeros(*A.shape[:-1], self.d_value)], dim=-1)
        k, v, beta = (part.unbind(-2) for part in self.corrections(x))
        for key, value, gate in zip(k, v, beta, strict=True):
            wanted = torch.cat([torch.zeros_like(key), value], dim=-1)
            stored = (key[..., None] * both).sum(-2)
            both = both + (gate * key)[..., None] * (wanted - stored)[..., None, :]
        A, b = both.split([self.d_key, self.d_value], dim=-1)
        return A, b

    # --- along a sequence ------------------------------------------------------------------------

    def _spread(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A ["... HM N N"], b ["... HMN"] and q ["... H M N"], repeated for all columns of a head.

        Each column of a state becomes a separate sequence, and the same A acts on all of them.
        """
        M, (A, b), q = self.d_value, self.maps(x), self.queries(x)
        blocks = A.unsqueeze(-3).expand(*A.shape[:-2], M, *A.shape[-2:])
        queries = q.unsqueeze(-2).expand(*q.shape[:-1], M, q.shape[-1])
        return blocks.flatten(-4, -3), b.mT.flatten(-3), queries

    def _scan(self, blocks: Tensor, b: Tensor) -> Tensor:
        """["B T H M N"]: the states, transposed."""
        initial = wide(self.initial).mT.flatten().expand(b.shape[0], -1)
        H, N, M = self.initial.shape
        return block_scan(blocks, b, initial).unflatten(-1, (H, M, N))

    def _along(self, blocks: Tensor, b: Tensor, q: Tensor) -> Tensor:
        read = (self._scan(blocks, b) * q).flatten(-3)
        # The remaining sum over rows is computed by the matrix product below.
        weight = self.out.weight.repeat_interleave(self.d_key, dim=1)
        return linear_map(read.to(weight.dtype), weight, self.out.bias)

    def _in_chunks(self, x: Tensor) -> Tensor:
        k, v, beta = self.corrections(x)
        parts = [self.queries(x), k[..., 0, :], v[..., 0, :], beta[..., 0, :]]
        # Heads become part of the batch.
        q, k, v, beta = (part.movedim(2, 1).flatten(0, 1) for part in parts)
        initial = self._initial(x.shape[0]).flatten(0, 1)
        reads, _ = key_value_scan(q, k, v, None, beta[..., 0], initial)
        return self._written(reads.unflatten(0, (x.shape[0], self.heads)).movedim(1, 2))


def _permutations(N: int, dtype: torch.dtype) -> Tensor:
    """["N! N N"]: all permutation matrices."""
    if N > MOST_ROWS:
        raise ValueError(f"permutations of {N} rows are too many: at most {MOST_ROWS} rows")
    return torch.eye(N, dtype=dtype)[torch.tensor(list(permutations(range(N))))]


@torch.no_grad()
def prescribe(
    mixer: DeltaNet,
    *,
    q: Float[Tensor, "H N"],
    k: Float[Tensor, "V H N"],
    beta: Float[Tensor, "V H"],
    routing: Float[Tensor, "V H N N"] | None = None,
) -> None:
    """Set the weights so that one-hot inputs give these values, and nothing is written (v = 0).

    Args:
        mixer: changed in place. Inputs e_0 to e_(V-1) may be multiplied by 1 to 100.
        q: the query of all inputs.
        k: the non-zero keys of the only factor.
        beta: the gates: 0, or the largest possible value.
        routing: axes (to, from), with a single 1 in every column.

    Raises:
        ValueError: a routing is given for a mixer without routing, or missing for one with it.
    """
    if (routing is None) != (mixer.route is None):
        has, given = ("no" if missing is None else "a" for missing in (mixer.route, routing))
        raise ValueError(f"the mixer has {has} routing, and {given} routing is given")
    for layer in (mixer.q, mixer.k, mixer.v, mixer.beta, mixer.route):
        if layer is not None:
            layer.weight.zero_()
            layer.bias.zero_()
    V = k.shape[0]
    mixer.q.bias.copy_(q.flatten())
    mixer.k.weight[:, :V] = k.flatten(1).mT
    # A large logit, for which the gate is exactly at one of its ends.
    mixer.beta.weight[:, :V] = torch.where(beta > 0, 50.0, -50.0).mT.to(q)
    if routing is not None and mixer.route is not None:
        mixer.route.weight[:, :V] = routing.flatten(1).mT
