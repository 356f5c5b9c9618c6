"""Which of several heads take which tokens: hard decisions by a learned score.

Expert choice ranks the tokens of a whole sequence, so that a decision depends on later tokens. All
other rules here are causal: a decision depends on the tokens so far and on constants.
"""

import math
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lab.arguments import one_of, real, whole
from lab.linalg.precision import wide
from lab.nn.linear import linear, precise

Routing = Literal[
    "all", "token choice", "threshold", "prefix rank", "lagged chunks", "expert choice"
]
Balance = Literal["none", "sign", "dead band"]

# Scores that differ by less count as equal: of equal scores the earlier wins, whatever the rounding
# of two products of the same numbers is.
_GRID = 2.0**-16


def quota(t: int | Int64[Tensor, "..."], heads: int, capacity: int) -> Int64[Tensor, "..."]:
    """How many of t tokens a head takes by rank so far: c t / H to the nearest, at least 1."""
    whole_tokens = torch.as_tensor(t, dtype=torch.float64) * capacity / heads + 0.5
    return whole_tokens.floor().long().clamp_min(1)


def expert_choice(p: Float[Tensor, "B T H"], taken: int) -> Bool[Tensor, "B T H"]:
    """For every head, the `taken` tokens of the sequence that it scores highest.

    It reads the future. Of equal scores the earlier is taken.

    Source: Zhou et al. 2022, Mixture-of-experts with expert choice routing.
    """
    order = _on_grid(p).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1) < taken


def prefix_rank(p: Float[Tensor, "B T H"], taken: Int64[Tensor, "T"]) -> Bool[Tensor, "B T H"]:
    """For every head and step t, whether p[t] is among the taken[t] largest of p[0] to p[t].

    For exchangeable scores without ties the ranks are independent and uniform, so that a token is
    taken with probability taken[t] / (t + 1).

    Source: Rényi 1962, Théorie des éléments saillants d'une suite d'observations (the ranks).
    """
    p, T = _on_grid(p), p.shape[1]
    earlier = torch.ones(T, T, dtype=torch.bool, device=p.device).tril(-1)[..., None]
    ahead = (p[:, None] >= p[:, :, None]) & earlier  # ["B T T H"]: axes (step, earlier step)
    return ahead.sum(2) < taken[:, None].to(p.device)


def lagged_thresholds(p: Float[Tensor, "B T H"], chunk: int, taken: int) -> Float[Tensor, "B T H"]:
    """For every step, the `taken`-th largest score of each head in the chunk before its own.

    A head that takes what is not below it takes about as many tokens of a chunk as it would have
    taken of the chunk before. It is minus infinity in the first chunk, which has none before it.
    """
    T = p.shape[1]
    count = (T - 1) // chunk  # of chunks that another one follows
    before = p[:, : count * chunk].unflatten(1, (count, chunk))
    limits = before.sort(dim=2, descending=True).values[:, :, taken - 1]
    first = p.new_full((len(p), min(chunk, T), p.shape[2]), -math.inf)
    return torch.cat([first, limits.repeat_interleave(chunk, dim=1)], dim=1)[:, :T]


class Router(nn.Module):
    """p = softmax(W x), and which of H heads take a token.

    routing "all"            every head takes every token
            "token choice"   every token goes to the c heads with the largest p + offset
            "threshold"      head i takes a token if p_i + offset_i > 0
            "prefix rank"    head i takes a token if p_i is among the largest c t / H so far
            "lagged chunks"  head i takes a token if p_i is at least the c n / H largest of the n
                             tokens of the chunk before; in the first chunk, as by token choice
            "expert choice"  head i takes the c T / H tokens with the largest p_i: not causal

    While `balancing` is set, every call moves the offsets: those of token choice by `rate` towards
    equal loads, and those of a threshold by a share `rate` towards the quantile of the batch that
    lets c / H of the tokens pass. It must be off when a trained model is used.

    Args:
        d_model: D.
        heads: H.
        routing: as above.
        balance: of token choice. "sign" moves the offset of every head; "dead band" moves it only
            if the load is more than half of its share c / H away from that share; "none" never.
        capacity: c, how many heads take a token on average.
        rate: as above, above 0 and at most 1.
        chunk: n, tokens of a chunk.
        always: how many heads, the first ones, take every token in addition.
        generator, dtype: random stream and dtype of the initial weights.

    Raises:
        ValueError: a rule is unknown, or a number is out of its range.

    Attributes:
        balancing: whether calls move the offsets.
        offset: Float["H"].
        load: Float["H"], the share of tokens that went to every head by the rule in the last such
            call.

    Source: Wang et al. 2024, Auxiliary-loss-free load balancing strategy for mixture-of-experts
    (the sign rule); the dead band, for a few types of tokens that no offset can divide equally, is
    new here.
    """

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        routing: Routing = "token choice",
        balance: Balance = "dead band",
        capacity: int = 1,
        rate: float = 0.01,
        chunk: int = 5,
        always: int = 0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.heads = whole("Router", "heads", heads, least=1)
        one_of("Router", "routing", routing, get_args(Routing))
        one_of("Router", "balance", balance, get_args(Balance))
        self.routing, self.balance = routing, balance
        self.capacity = whole("Router", "capacity", capacity, least=1)
        self.always = whole("Router", "always", always, least=0)
        self.rate = real("Router", "rate", rate, above=0)
        self.chunk = whole("Router", "chunk", chunk, least=1)
        if max(capacity, always) > heads or rate > 1:
            given = f"capacity {capacity}, always {always} and rate {rate}"
            raise ValueError(f"Router: {given} must be at most {heads}, {heads} and 1")
        self.gate = linear(d_model, heads, bias=False, generator=generator, dtype=dtype)
        self.balancing = False
        self.offset: Tensor
        self.load: Tensor
        start = -capacity / heads if routing == "threshold" else 0.0
        self.register_buffer("offset", torch.full((heads,), start, dtype=dtype))
        self.register_buffer("load", torch.full((heads,), capacity / heads, dtype=dtype))

    @property
    def sees_one_token(self) -> bool:
        """Whether a decision depends on the scores of its own token alone."""
        return self.routing in ("all", "token choice", "threshold")

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... H"]:
        """p, in float32 at least."""
        return precise(self.gate, x).softmax(-1)

    def choose(self, p: Float[Tensor, "B T H"]) -> Bool[Tensor, "B T H"]:
        """`taken`; moves the offsets while `balancing` is set."""
        chosen = self._chosen(p)
        if self.balancing:
            self._move(p.detach(), chosen)
        return self._with_always(chosen)

    def taken(self, p: Float[Tensor, "B T H"]) -> Bool[Tensor, "B T H"]:
        """Which heads take which tokens."""
        return self._with_always(self._chosen(p))

    @torch.no_grad()
    def margins(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "..."]:
        """How far token choice is from a tie: by how much the last head taken leads the next one.

        Raises:
            ValueError: the rule is another one, or all heads are taken, so that there is no next.
        """
        if self.routing != "token choice" or self.capacity == self.heads:
            given = f"{self.routing}, {self.capacity} of {self.heads} heads"
            raise ValueError(
                f"Router.margins: {given}; it needs token choice with a head left over"
            )
        ordered = (self(x) + wide(self.offset)).sort(dim=-1, descending=True).values
        return ordered[..., self.capacity - 1] - ordered[..., self.capacity]

    def step(
        self, p: Float[Tensor, "B H"], past: Float[Tensor, "B s H"] | None = None
    ) -> tuple[Bool[Tensor, "B H"], Float[Tensor, "B t H"] | None]:
        """`taken` for the next token, and the scores so far if the rule needs them.

        Expert choice ranks the token among those so far: what it takes cannot be given back.
        """
        if self.sees_one_token:
            return self._with_always(self._by_token(p)), None
        past = p[:, None] if past is None else torch.cat([past, p[:, None]], dim=1)
        if self.routing == "lagged chunks":
            return self._with_always(self._by_chunk(past)[:, -1]), past
        scores, t = _on_grid(past), past.shape[1]
        ahead = (scores[:, :-1] >= scores[:, -1:]).sum(1)
        if self.routing == "prefix rank":
            limit = quota(t, self.heads, self.capacity)
        else:
            limit = torch.tensor(t * self.capacity // self.heads)
        return self._with_always(ahead < limit.to(p.device)), past

    def gates(
        self, p: Float[Tensor, "... H"], taken: Bool[Tensor, "... H"]
    ) -> Float[Tensor, "... H"]:
        """1 where a token is taken and 0 elsewhere, with the gradient of p (straight through).

        Heads that take every token have a gate without gradient.
        """
        hard = taken.to(p.dtype)
        if self.routing == "all":
            return hard
        soft = hard + p - p.detach()
        return torch.where(self._is_always(p), hard, soft) if self.always else soft

    def _chosen(self, p: Tensor) -> Tensor:
        """Bool["B T H"]: what the rule says, without the heads that take every token."""
        T = p.shape[1]
        if self.routing == "expert choice":
            return expert_choice(p, T * self.capacity // self.heads)
        if self.routing == "prefix rank":
            return prefix_rank(p, quota(torch.arange(1, T + 1), self.heads, self.capacity))
        return self._by_chunk(p) if self.routing == "lagged chunks" else self._by_token(p)

    def _by_chunk(self, p: Tensor) -> Tensor:
        """Bool["B T H"]: by thresholds from the chunk before, and in the first chunk by token."""
        scores, taken = _on_grid(p), int(quota(self.chunk, self.heads, self.capacity))
        above = scores >= lagged_thresholds(scores, self.chunk, taken)
        first = torch.arange(p.shape[1], device=p.device) < self.chunk
        return torch.where(first[:, None], self._by_token(p), above)

    def _by_token(self, p: Tensor) -> Tensor:
        """Bool["... H"]: the rules that look at one token alone."""
        if self.routing == "all":
            return torch.ones_like(p, dtype=torch.bool)
        score = p.detach() + wide(self.offset)
        if self.routing == "threshold":
            return score > 0
        order = score.argsort(dim=-1, descending=True, stable=True)
        return order.argsort(dim=-1) < self.capacity

    def _move(self, p: Tensor, taken: Tensor) -> None:
        """Take note of the load, and move the offsets."""
        share = self.capacity / self.heads
        self.load = taken.to(self.load.dtype).mean((0, 1))
        if self.routing == "threshold":
            wanted = -_quantile(p.flatten(0, 1), 1 - share).to(self.offset.dtype)
            self.offset = self.offset + self.rate * (wanted - self.offset)
        elif self.routing == "token choice" and self.balance != "none":
            missing = share - self.load
            band = share / 2 if self.balance == "dead band" else 0.0
            move = torch.where(missing.abs() > band, missing.sign(), 0.0)
            self.offset = self.offset + self.rate * move

    def _with_always(self, taken: Tensor) -> Tensor:
        return taken | self._is_always(taken) if self.always else taken

    def _is_always(self, like: Tensor) -> Tensor:
        return torch.arange(self.heads, device=like.device) < self.always

    def extra_repr(self) -> str:
        """The rule."""
        return f"{self.routing}, {self.balance}, capacity {self.capacity}, always {self.always}"


def balanced(models: Any, update: int, *, steps: int) -> None:
    """Let all routers of some models balance their loads, but at the last of `steps` updates.

    With `functools.partial` it is the `before_update` of an arm. After the training nothing moves.
    """
    for model in models:
        for part in model.modules():
            if isinstance(part, Router):
                part.balancing = update < steps - 1


def _quantile(values: Tensor, share: float) -> Tensor:
    """Float["H"]: a quantile of values ["n H"], linear between two values."""
    ordered = values.sort(dim=0).values
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _on_grid(p: Tensor) -> Tensor:
    return (p.detach() / _GRID).round()
