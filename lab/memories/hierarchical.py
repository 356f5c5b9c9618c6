"""Linear attention whose state is a hierarchy of blocks: dense on the diagonal, low rank off it."""

from collections.abc import Sequence
from itertools import groupby

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import elu

from lab.arguments import whole
from lab.linalg.hss import HODLR, Level, level_sizes
from lab.memories.base import Memory, forgotten, normalised
from lab.scan import linear_scan
from lab.scan.key_value import key_value_scan

# z ["B H K"], and the states ["B H n s s"] of all heads of one size s, for every size.
State = tuple[Float[Tensor, "B H K"], list[Float[Tensor, "B H _ _ _"]]]


class HierarchicalAttention(Memory):
    """o[t] = S[t]^T f(q[t]) / (z[t] . f(q[t])) with a HODLR matrix S[t], f = elu + 1.

    z[t] is the sum of all f(k[s]). The leaves of S are those of the sum of all f(k[s]) v[s]^T. With
    fixed (learned) bases U and V the couplings are sums, too: for the rows of half i and the
    columns of its sibling j, W_i[t] = W_i[t-1] + (U_i^T f(k)_i) (V_j^T v_j)^T.

    Every leaf and every W_i is therefore a head of linear attention of its own, with the projected
    keys U_i^T f(k)_i, values V_j^T v_j and queries U_i^T f(q)_i, and all of them share the
    denominator. They are computed as that, grouped by size; nothing goes through the tree. A single
    leaf is `LinearAttention` without decay.

    Args:
        d_model: D.
        heads, d_key: H and K; values are as wide as keys.
        leaf: m, rows of a leaf; K must be m times a power of two.
        rank: r, of the blocks off the diagonal, those of b rows have min(r, b); 0 for leaves alone.
        generator, dtype: random stream and dtype of the initial bases, which are orthonormal.

    Real parameters: 2 H K min(r, b) for each size b = m, 2 m, ..., K/2.

    Raises:
        ValueError: a size is not as above.

    Source: proposed, in experiment 005; Katharopoulos et al. 2020 for a single leaf.
    """

    resets = True

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        leaf: int,
        rank: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(d_model, heads=heads, d_key=d_key)
        who = type(self).__name__
        self.leaf, self.rank = whole(who, "leaf", leaf, least=1), whole(who, "rank", rank, least=0)
        self.sizes = level_sizes(self.d_key, self.leaf, self.rank)

        def bases() -> nn.ParameterList:
            """["H n b r"] for every level; none where there is nothing to project on."""
            drawn = (
                torch.randn(heads, d_key // b, b, min(rank, b), generator=generator, dtype=dtype)
                for b in (self.sizes if rank else [])
            )
            return nn.ParameterList(nn.Parameter(torch.linalg.qr(each).Q) for each in drawn)

        self.U, self.V = bases(), bases()
        # The width of heads, and how many of them each level has: first the leaves, then from the
        # finest level on. Levels of one width are computed together.
        wide = [(leaf, d_key // leaf), *((min(rank, b), d_key // b) for b in self.sizes if rank)]
        self.groups = [
            (width, [count for _, count in same]) for width, same in groupby(wide, lambda e: e[0])
        ]

    def log_decay(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... H 1"] | None:
        """The logarithm of a gain of all blocks, for subclasses; None, the default, for a = 1."""
        return None

    def forward(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T K"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T K"]:
        """["B H T K"], in chunks; before the steps of `reset`, S and z are set to zero."""
        decay = self.log_decay(x)
        if reset is not None:
            decay = forgotten(decay, reset, self.heads, x.dtype)
        gain = None if decay is None else decay.movedim(-2, 1)
        q, k = elu(q) + 1, elu(k) + 1
        if gain is None:
            weights = (q * k.cumsum(2)).sum(-1, keepdim=True)
        else:
            weights = _read(q, k, torch.ones_like(v[..., :1]), gain)
        return normalised(self.sums(q, k, v, gain), weights)

    def sums(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T K"],
        gain: Float[Tensor, "B H T 1"] | None = None,
    ) -> Float[Tensor, "B H T K"]:
        """S[t]^T q[t], which `forward` divides by the weights.

        Args:
            q, k: features; they are not computed here.
            v: values.
            gain: the logarithm of the gain before each step; none if None.
        """
        row, column = self.bases(q)
        parts = self.heads_of(q, row), self.heads_of(k, row), self.heads_of(v, column)
        return self._gathered([_read(*own, gain) for own in zip(*parts, strict=True)], column)

    def step(
        self,
        q: Float[Tensor, "B H K"],
        k: Float[Tensor, "B H K"],
        v: Float[Tensor, "B H K"],
        x: Float[Tensor, "B D"],
        state: State | None = None,
    ) -> tuple[Float[Tensor, "B H K"], State]:
        """["B H K"] and the state: z, and the blocks of every size, as heads."""
        decay = self.log_decay(x)
        a = x.new_ones(1, 1, 1) if decay is None else decay.exp()
        q, k = elu(q) + 1, elu(k) + 1
        z, S = (None, []) if state is None else state
        z = k if z is None else k + a * z
        row, column = self.bases(q)
        now = ((q, row), (k, row), (v, column))
        queries, keys, values = (self.heads_of(each[:, :, None], basis) for each, basis in now)
        written = [key.mT @ value for key, value in zip(keys, values, strict=True)]
        S = S or [torch.zeros_like(each) for each in written]
        S = [new + a[..., None, None] * old for new, old in zip(written, S, strict=True)]
        reads = [query @ stored for query, stored in zip(queries, S, strict=True)]
        o = normalised(self._gathered(reads, column)[:, :, 0], (q * z).sum(-1, keepdim=True))
        return o, (z, S)

    def states(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T K"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B T H K K"]:
        """S as a dense matrix after every step."""
        decay, (row, column) = self.log_decay(x), self.bases(k)
        stored, keys, values = [], self.heads_of(elu(k) + 1, row), self.heads_of(v, column)
        for key, value in zip(keys, values, strict=True):
            b = key[..., None] * value[..., None, :]
            a = torch.ones_like(b)
            if decay is not None:
                a = a * decay.movedim(-2, 1).exp()[:, :, None, :, :, None]
            flat = (part.flatten(4).flatten(0, 2) for part in (a, b))
            stored.append(linear_scan(*flat).view_as(b).movedim(3, 1))
        return self.matrix(stored).to_dense()

    def matrix(self, stored: Sequence[Float[Tensor, "... H _ _ _"]]) -> HODLR:
        """S ["... H"], from the blocks of all widths, as a step hands them on."""
        leaves, *W = (
            block
            for blocks, (_, counts) in zip(stored, self.groups, strict=True)
            for block in blocks.split(counts, dim=-3)
        )
        return self.tree(leaves, W)

    def tree(
        self, leaves: Float[Tensor, "... H p m m"], W: Sequence[Float[Tensor, "... H _ _ _"]]
    ) -> HODLR:
        """S ["... H"], from its leaves and the couplings of every level; none with rank 0."""
        if self.rank:
            return HODLR(leaves, tuple(map(Level, self.U, W, self.V)))
        empty = [leaves.new_zeros(self.d_key // b, b, 0) for b in self.sizes]
        return HODLR(leaves, tuple(Level(U, U.new_zeros(len(U), 0, 0), U) for U in empty))

    def bases(
        self, like: Float[Tensor, "..."]
    ) -> tuple[Float[Tensor, "H K F"], Float[Tensor, "H K F"]]:
        """The maps of keys and of values onto the blocks off the diagonal.

        F is the sum of the ranks of all halves. The columns of half i hold U_i in the first map,
        in the rows of i, and V_j in the second, in the rows of its sibling j; all else is zero.

        Args:
            like: gives dtype and device where there are no bases.
        """
        maps = []
        for bases, swap in ((self.U, 0), (self.V, 1)):
            columns = [like.new_zeros(self.heads, self.d_key, 0)]
            for basis in bases:
                half = torch.arange(basis.shape[1], device=basis.device)
                place = torch.eye(len(half), dtype=basis.dtype, device=basis.device)[half ^ swap]
                spread = torch.einsum("hjbr,ij->hjbir", basis, place)
                columns.append(spread.flatten(3).flatten(1, 2))
            maps.append(torch.cat(columns, dim=-1))
        return maps[0], maps[1]

    def heads_of(
        self, x: Float[Tensor, "B H T K"], basis: Float[Tensor, "H K F"]
    ) -> list[Float[Tensor, "B H _ T _"]]:
        """What the heads of every width see of queries, keys or values."""
        seen = torch.cat([x, torch.einsum("bhtk,hkf->bhtf", x, basis)], dim=-1)
        parts = seen.split([width * sum(counts) for width, counts in self.groups], dim=-1)
        return [
            part.unflatten(-1, (-1, width)).movedim(-2, 2)
            for part, (width, _) in zip(parts, self.groups, strict=True)
        ]

    def _gathered(self, reads: Sequence[Tensor], column: Tensor) -> Tensor:
        """["B H T K"] from the reads ["B H n T s"] of all heads."""
        read = torch.cat([each.movedim(2, -2).flatten(-2) for each in reads], dim=-1)
        leaves, rest = read[..., : self.d_key], read[..., self.d_key :]
        return leaves + torch.einsum("bhtf,hkf->bhtk", rest, column)


def _read(q: Tensor, k: Tensor, v: Tensor, gain: Tensor | None) -> Tensor:
    """["... T M"]: the reads of linear attention for every leading index, B and H first."""
    lead = q.shape[:-2]
    if gain is not None:
        gain = gain.view(*gain.shape[:2], *[1] * (len(lead) - 2), *gain.shape[2:])
        gain = gain.expand(*lead, *gain.shape[-2:]).flatten(0, -3)
    q, k, v = (part.flatten(0, -3) for part in (q, k, v))
    return key_value_scan(q, k, v, gain)[0].unflatten(0, lead)


def hierarchical_attention_sequential(
    memory: HierarchicalAttention,
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B H T K"],
    v: Float[Tensor, "B H T K"],
) -> Float[Tensor, "B H T K"]:
    """The definition of `HierarchicalAttention`, through the tree, one step after another.

    Every step writes into the leaves and couplings of a HODLR matrix, which is then multiplied by
    the query.
    """
    q, k, m = elu(q) + 1, elu(k) + 1, memory.leaf
    leaves, W, z, reads = q.new_zeros(1), [q.new_zeros(1)] * len(memory.U), q.new_zeros(1), []
    for t in range(q.shape[2]):
        query, key, value = (part[:, :, t] for part in (q, k, v))
        z = z + key
        leaves = leaves + _halves(key, m) @ _halves(value, m).mT
        for depth, (U, V) in enumerate(zip(memory.U, memory.V, strict=True)):
            n, b = U.shape[1:3]
            sibling = torch.arange(n, device=q.device) ^ 1
            wrote = (V.mT @ _halves(value, b))[:, :, sibling]
            W[depth] = W[depth] + (U.mT @ _halves(key, b)) @ wrote.mT
        read = memory.tree(leaves, W).mT @ query[..., None]
        reads.append(normalised(read[..., 0], (query * z).sum(-1, keepdim=True)))
    return torch.stack(reads, dim=2)


def _halves(x: Tensor, b: int) -> Tensor:
    """["B H n b 1"]: the parts of a vector ["B H K"] that belong to halves of b rows."""
    return x.unflatten(-1, (-1, b, 1))
