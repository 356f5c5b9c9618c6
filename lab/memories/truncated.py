"""Linear attention whose state is compressed after every step, in bases that follow the data."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import elu

from lab.arguments import whole
from lab.linalg.hss import compress, level_sizes
from lab.memories.base import Memory, normalised

State = tuple[Float[Tensor, "B H K"], Float[Tensor, "B H K K"]]


class TruncatedAttention(Memory):
    """o[t] = S[t]^T f(q[t]) / (z[t] . f(q[t])), S[t] = nearest(S[t-1] + f(k[t]) v[t]^T).

    `nearest` gives the HODLR matrix of rank r nearest to its argument (`lab.linalg.hss.compress`);
    z is the sum of all f(k[s]), which is kept exactly, and f = elu + 1. Neither this nor
    `LinearAttention` without decay has parameters, so that one can take the place of the other in a
    trained model; with r = K/2 or above they are equal. The step form holds S as a dense matrix.

    Args:
        d_model: D.
        heads, d_key: H and K; values are as wide as keys.
        leaf, rank: m and r; K must be m times a power of two.

    Raises:
        ValueError: a size is not as above.

    Cost: a singular value decomposition of every block of more than r rows, at every step.
    Source: proposed, in experiment 005.
    """

    resets = True

    def __init__(self, d_model: int, *, heads: int, d_key: int, leaf: int, rank: int) -> None:
        super().__init__(d_model, heads=heads, d_key=d_key)
        who = type(self).__name__
        self.leaf, self.rank = whole(who, "leaf", leaf, least=1), whole(who, "rank", rank, least=0)
        level_sizes(self.d_key, self.leaf, self.rank)

    def forward(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T K"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T K"]:
        """The step form, once a step: truncation is not associative.

        Before the steps of `reset`, S and z are set to zero.
        """
        return torch.stack([read for read, _ in self._steps(q, k, v, x, reset)], dim=2)

    def step(
        self,
        q: Float[Tensor, "B H K"],
        k: Float[Tensor, "B H K"],
        v: Float[Tensor, "B H K"],
        x: Float[Tensor, "B D"],
        state: State | None = None,
    ) -> tuple[Float[Tensor, "B H K"], State]:
        """["B H K"] and the state, z and S."""
        q, k = elu(q) + 1, elu(k) + 1
        z, S = (torch.zeros_like(k), k.new_zeros(1)) if state is None else state
        z, S = z + k, S + k[..., None] * v[..., None, :]
        S = compress(S, leaf=self.leaf, rank=self.rank).to_dense()
        read = (q[..., None, :] @ S)[..., 0, :]
        return normalised(read, (q * z).sum(-1, keepdim=True)), (z, S)

    def states(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T K"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B T H K K"]:
        """S."""
        return torch.stack([S for _, (_, S) in self._steps(q, k, v, x)], dim=1)

    def _steps(
        self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, reset: Tensor | None = None
    ) -> Iterator[tuple[Tensor, State]]:
        """The read and the state of every step."""
        state: State | None = None
        for t in range(x.shape[1]):
            if reset is not None and state is not None:
                begins, (z, S) = reset[:, t, None, None], state
                state = torch.where(begins, 0, z), torch.where(begins[..., None], 0, S)
            read, state = self.step(q[:, :, t], k[:, :, t], v[:, :, t], x[:, t], state)
            yield read, state
