"""Memories of which a router picks one to write to, and one to read from, at every step."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor
from torch.nn.functional import normalize, pad

from lab.arguments import whole
from lab.linalg.precision import uncast, wide
from lab.mixers.base import Layer
from lab.nn.linear import linear, precise
from lab.nn.routing import Balance, Router
from lab.scan.key_value import key_value_scan


class RoutedMemories(Layer):
    """Every head has R memories S_r ["K M"], corrected by the delta rule where they are picked.

    S_r[t] = S_r[t-1] + g_r[t-1] beta[t] k[t] (v[t] - S_r[t-1]^T k[t])^T
    o[t]   = sum over r of p_r[t] m_r[t] S_r[t]^T q[t],   y[t] = W_o o[t]

    Keys are of the token before, k[t] = W_k x[t-1], so that a value is stored under the token that
    precedes it; q and v are of x[t], beta[t] = sigmoid(W x[t] + b), and q and k have norm 1. One
    router with p = softmax(W x) serves both: m[t-1] says where the value at t is written, and m[t]
    where the query at t reads, so that a query reads from the memory of its key. g is m with the
    gradient of p. With one memory this is the delta rule.

    Args:
        d_model: D.
        heads, d_key, d_value: of every memory, H, K and M; M is K if None.
        memories: R, per head. All heads share the router.
        balance, rate: of the `Router`.
        generator, dtype: random stream and dtype of the initial parameters.

    Raises:
        ValueError: a size is not a whole number, or is below 1.

    Source: Du et al. 2025, MoM: linear sequence modeling with mixture-of-memories (memories that a
    router writes to and reads from).
    """

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        d_value: int | None = None,
        memories: int = 1,
        balance: Balance = "dead band",
        rate: float = 0.01,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        who, M = "RoutedMemories", d_key if d_value is None else d_value
        self.sizes = tuple(
            whole(who, name, size, least=1)
            for name, size in (("heads", heads), ("d_key", d_key), ("d_value", M))
        )
        dense = partial(linear, bias=False, generator=generator, dtype=dtype)
        self.q, self.k = dense(d_model, heads * d_key), dense(d_model, heads * d_key)
        self.v, self.out = dense(d_model, heads * M), dense(heads * M, d_model)
        self.beta = linear(d_model, heads, generator=generator, dtype=dtype)
        self.router = Router(
            d_model, heads=whole(who, "memories", memories, least=1), balance=balance, rate=rate,
            generator=generator, dtype=dtype,
        )  # fmt: skip

    @property
    def d_model(self) -> int:
        """D."""
        return self.q.in_features

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """["B T D"] to ["B T D"], in chunks."""
        return self._read(*self._each_memory(x))

    def step(
        self, x_t: Float[Tensor, "B D"], state: Any = None
    ) -> tuple[Float[Tensor, "B D"], Any]:
        """`forward` as a recurrence; the state is the input before and all S ["B H R K M"]."""
        H, K, M = self.sizes
        before, S = (torch.zeros_like(x_t), None) if state is None else state
        q, v, beta = self._projected(x_t)
        k = torch.zeros_like(q) if state is None else self._keys(before)
        p = self.router(torch.stack([before, x_t], dim=1))
        taken = self.router.taken(p)
        written = beta[..., None] * self.router.gates(p, taken)[:, 0, None]  # ["B H R"]
        if S is None:
            S = v.new_zeros(len(x_t), H, self.router.heads, K, M)
        stored = (k[:, :, None, :, None] * S).sum(-2)
        change = written[..., None] * (v[:, :, None] - stored)
        S = S + k[:, :, None, :, None] * change[..., None, :]
        o = (q[:, :, None, :, None] * S).sum(-2)
        return self._read(o[:, None], (taken * p)[:, 1:])[:, 0], (x_t, S)

    def states(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T H R K M"]:
        """All S after every step."""
        state, found = None, []
        for x_t in x.unbind(1):
            _, state = self.step(x_t, state)
            found.append(state[1])
        return torch.stack(found, dim=1)

    def decisions(self, x: Float[Tensor, "B T D"]) -> Bool[Tensor, "B T R"]:
        """Where the query of every step reads, and the value of the next step is written."""
        return self.router.taken(self.router(x))

    def eigenvalues(self, x: Float[Tensor, "B T D"]) -> Complex[Tensor, "B T H"]:
        """1 - beta, for the direction of the key in the memory it is written to; others are 1."""
        kept = 1 - precise(self.beta, x).sigmoid()
        return torch.complex(kept, torch.zeros_like(kept))

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q ["... H K"], v ["... H M"] and beta ["... H"]."""
        H = self.sizes[0]
        q, v = (wide(layer(x)).unflatten(-1, (H, -1)) for layer in (self.q, self.v))
        return normalize(q, dim=-1), v, precise(self.beta, x).sigmoid()

    def _keys(self, before: Tensor) -> Tensor:
        """["... H K"]: keys of inputs under which the inputs after them are stored."""
        return normalize(wide(self.k(before)).unflatten(-1, (self.sizes[0], -1)), dim=-1)

    def _each_memory(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What every memory answers ["B T H R M"], and the weights of answers ["B T R"]."""
        before = pad(x, (0, 0, 1, 0))[:, :-1]
        q, v, beta = self._projected(x)
        # No token precedes the first: its key is zero, and not zero made one of length 1.
        k = pad(self._keys(x[:, :-1]), (0, 0, 0, 0, 1, 0))
        p = self.router(torch.cat([before, x], dim=1))
        taken = self.router.choose(p)
        T, R = x.shape[1], self.router.heads
        written = beta[..., None] * self.router.gates(p, taken)[:, :T, None]  # ["B T H R"]
        q, k, v = (
            part.movedim(1, 2)[:, :, None].expand(-1, -1, R, -1, -1).flatten(0, 2)
            for part in (q, k, v)
        )
        with uncast(x):
            o, _ = key_value_scan(q, k, v, None, written.movedim(1, 3).flatten(0, 2))
        return o.unflatten(0, (len(x), self.sizes[0], R)).movedim(3, 1), (taken * p)[:, T:]

    def _read(self, o: Tensor, weights: Tensor) -> Tensor:
        """["B T D"] of answers ["B T H R M"] and their weights ["B T R"]."""
        read = (weights[:, :, None, :, None] * o).sum(3)
        y: Tensor = self.out(read.flatten(-2).to(self.out.weight.dtype))
        return y
