"""Monarch transitions whose blocks keep two of every four entries of a row.

All of them are used in `StateSpace`. `FreeMonarch` has blocks of any entries, of norm at most 1;
`AlignedMonarch` has orthogonal blocks inside one mask; `MaskedGatedMonarch` is as proposed, with
fixed blocks that the input only scales.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lab.linalg.monarch import cayley, grid_side, householder_blocks, skew
from lab.linalg.permutation import sinkhorn
from lab.linalg.sparsity import (
    aligned_blocks,
    aligned_mask,
    best_grouping,
    groupings,
    magnitude_mask,
    matching,
    pruned,
    random_mask,
    unstructured_mask,
)
from lab.nn.linear import linear, precise
from lab.nn.weight_decay import without_decay
from lab.scan.monarch import monarch_scan
from lab.transitions.monarch import GatedMonarch, TwoFactors

Pattern = Literal["dense", "unstructured", "random", "magnitude", "by input", "aligned"]
Choosing = Literal["nothing", "masks", "groupings and masks"]
Kind = Literal["reflections", "rotations"]
Prune = Literal["dense", "2:4", "2:4, shuffled"]


class FreeMonarch(TwoFactors):
    """P^T L(x) P R(x), each block S * (K + W x) / max(1, sigma), with a mask S and a constant K.

    sigma is the spectral norm of the masked block, so that no transition makes a state longer. K is
    the identity, or, where masks are random, a permutation inside the mask: without one a state
    would be lost before the first update. It has 2 b³ (D + 1) parameters under any mask, N = b².

    A mask that depends on the size of entries belongs to the layer and not to the input. It changes
    only where `choosing` says so, when it is chosen anew from the mean square over all inputs of a
    call. As long as `choosing` is "nothing", the layer is causal and its step form agrees.

    Args:
        d_model: D.
        d_state: N, a square, of a side b that is a multiple of four unless the pattern is "dense"
            or "unstructured".
        pattern: which entries are kept. "dense": all. "unstructured": the larger half of every
            block. "random": two of four, drawn once. "magnitude": the larger two of four.
            "by input": the same, anew for every input. "aligned": `aligned_mask`.
        grouped: whether every block has a grouping of its own for "magnitude", first at random.
        straight_through: whether entries that are not kept have a gradient, as if they were.
        generator: random stream of the initial parameters.
        masks: random stream of masks and groupings; `generator` if None.

    Raises:
        ValueError: d_state is no such square, the pattern is unknown, or groupings are asked for
            with another one than "magnitude".

    Attributes:
        choosing: what `forward` chooses anew: "nothing", "masks", or "groupings and masks".
        mask: Bool["2b b b"], what is kept, blocks of L first; all where the input decides.
        grouping: Int64["2b b"], the order of columns of every block.

    Source: Zhou et al. 2021, Learning N:M fine-grained structured sparse neural networks from
    scratch (masks and straight-through gradient, without its decay); Tyagi et al. 2025, Efficient
    dynamic structured sparse training with learned shuffles (groupings, as permutations).
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        pattern: Pattern = "dense",
        grouped: bool = False,
        straight_through: bool = False,
        generator: torch.Generator | None = None,
        masks: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        if pattern not in get_args(Pattern):
            raise ValueError(f"pattern is {pattern!r}; it must be one of {get_args(Pattern)}")
        if grouped and pattern != "magnitude":
            raise ValueError(f"groupings are for the pattern 'magnitude', not {pattern!r}")
        self.pattern, self.straight_through = pattern, straight_through
        self.choosing: Choosing = "nothing"
        b = self.side
        self.entries = linear(d_model, 2 * b**3, generator=generator)
        masks = generator if masks is None else masks
        order = torch.arange(b).repeat(2 * b, 1)
        if grouped:
            every = groupings(b)
            order = every[torch.randint(len(every), (2 * b,), generator=masks)]
        start = torch.eye(b).repeat(2 * b, 1, 1)
        mask = torch.ones(2 * b, b, b, dtype=torch.bool)
        if pattern == "random":
            mask = random_mask(2 * b, b, b, generator=masks)
            start = torch.stack([matching(each)[0] for each in mask]).to(start.dtype)
        if pattern == "aligned":
            mask = aligned_mask(b).repeat(2 * b, 1, 1)
        self.mask: Tensor
        self.grouping: Tensor
        self.start: Tensor
        self.register_buffer("start", start)
        self.register_buffer("grouping", order)
        self.register_buffer("mask", mask)
        if pattern in ("unstructured", "magnitude"):
            with torch.no_grad():  # the mean square of every entry for standard normal inputs
                constant, slope = self.entries.bias, self.entries.weight
                spread = slope.square().sum(1).view(2 * b, b, b)
                self.mask = self._chosen((start + constant.view(2 * b, b, b)).square() + spread)

    def free(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... n b b"]:
        """Blocks before mask and norm ["... 2b b b"], those of L first."""
        b = self.side
        return self.start + precise(self.entries, x).unflatten(-1, (2 * b, b, b))

    def forward(
        self, x: Float[Tensor, "... D"]
    ) -> tuple[Float[Tensor, "... b b b"], Float[Tensor, "... b b b"]]:
        """L and R, ["... b b b"] each."""
        free = self.free(x)
        if self.choosing != "nothing":
            self._choose(free.detach())
        mask = magnitude_mask(free.detach().square()) if self.pattern == "by input" else self.mask
        blocks = pruned(free, mask, straight_through=self.straight_through)
        sizes = torch.linalg.matrix_norm(blocks, ord=2, keepdim=True)
        L, R = (blocks / sizes.clamp_min(1)).chunk(2, dim=-3)
        return L, R

    def _choose(self, free: Float[Tensor, "... n b b"]) -> None:
        """Choose masks, and groupings if that is due, by the mean square over all inputs."""
        if self.pattern not in ("unstructured", "magnitude") or not free.numel():
            return
        size = free.square().flatten(0, -4).mean(0) if free.ndim > 3 else free.square()
        if self.choosing == "groupings and masks":
            self.grouping = best_grouping(size)
        self.mask = self._chosen(size)

    def _chosen(self, size: Float[Tensor, "n b b"]) -> Bool[Tensor, "n b b"]:
        """The mask for entries of a size ["2b b b"]."""
        if self.pattern == "unstructured":
            return unstructured_mask(size)
        return magnitude_mask(size, self.grouping)


class AlignedMonarch(TwoFactors):
    """P^T L(x) P R(x), whose 2 b blocks are orthogonal and lie inside `aligned_mask`.

    Every block consists of two dense squares of side b/2, reflections I - beta v v^T with beta in
    (0, 2), or Cayley transforms. Half of its entries are zero, and at beta = 2 nothing is lost.

    There are 4 b (D + 1) times as many parameters as a square needs: b/2 + 1 for a reflection, and
    b (b - 2) / 8 for a rotation.

    Args:
        d_model: D.
        d_state: N = b², with a side b that is a multiple of four.
        kind: "reflections" or "rotations".
        generator: random stream of the initial parameters.

    Raises:
        ValueError: d_state is no such square, or the kind is unknown.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        kind: Kind = "reflections",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_model, d_state=d_state)
        if kind not in get_args(Kind):
            raise ValueError(f"kind is {kind!r}; it must be one of {get_args(Kind)}")
        aligned_mask(self.side)  # which checks the side
        self.kind, half = kind, self.side // 2
        each = half + 1 if kind == "reflections" else half * (half - 1) // 2
        self.entries = linear(d_model, 4 * self.side * each, generator=generator)

    def forward(
        self, x: Float[Tensor, "... D"]
    ) -> tuple[Float[Tensor, "... b b b"], Float[Tensor, "... b b b"]]:
        """L and R, ["... b b b"] each."""
        each = precise(self.entries, x).unflatten(-1, (2 * self.side, 2, -1))
        if self.kind == "reflections":
            squares = householder_blocks(each[..., 1:], 2 * each[..., 0].sigmoid())
        else:
            squares = cayley(skew(each, self.side // 2))
        L, R = aligned_blocks(squares).chunk(2, dim=-3)
        return L, R


class MaskedGatedMonarch(GatedMonarch):
    """`GatedMonarch` as proposed: fixed blocks, pruned to 2:4 and divided by their Frobenius norm.

    The Frobenius norm of an orthogonal block is sqrt(b), so that a state shrinks by about b at
    every step, before any gate. With "2:4, shuffled" what is pruned is Q Pi, for a doubly
    stochastic Pi of every block, and Pi is then dropped: a permutation that does not stay in the
    product turns an orthogonal block into another one, and adds nothing but 2 b³ parameters.

    Args:
        d_model, d_state, generator: as for `GatedMonarch`; b is a multiple of four unless "dense".
        prune: "dense", "2:4" or "2:4, shuffled".
        opening: added to the initial logits of the gates.

    Raises:
        ValueError: d_state is no such square, or `prune` is unknown.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int,
        prune: Prune = "2:4",
        opening: float = -1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_model, d_state=d_state, opening=opening, generator=generator)
        if prune not in get_args(Prune):
            raise ValueError(f"prune is {prune!r}; it must be one of {get_args(Prune)}")
        self.prune, b = prune, grid_side(d_state)
        if prune != "dense":
            aligned_mask(b)  # which checks the side
        if prune == "2:4, shuffled":
            self.logits = nn.Parameter(0.01 * torch.randn(2 * b, b, b, generator=generator))
            without_decay(self, "logits")

    def blocks(self) -> tuple[Float[Tensor, "b b b"], Float[Tensor, "b b b"]]:
        """L and R, ["b b b"] each, of Frobenius norm 1."""
        blocks = torch.cat(super().blocks())
        if self.prune == "2:4, shuffled":
            blocks = blocks @ sinkhorn(self.logits.to(blocks.dtype))
        if self.prune != "dense":
            mask = magnitude_mask(blocks.detach().square())
            blocks = pruned(blocks, mask, straight_through=True)
        L, R = (blocks / torch.linalg.matrix_norm(blocks, keepdim=True)).chunk(2)
        return L, R

    def scan(
        self,
        parameters: tuple[Float[Tensor, "B T b"], Float[Tensor, "B T b"]],
        b: Float[Tensor, "B T b*b"],
        initial: Float[Tensor, "B b*b"],
    ) -> Float[Tensor, "B T b*b"]:
        """`monarch_scan`: the blocks are not orthogonal, which the faster form needs."""
        (L, R), (alpha, beta) = self.blocks(), parameters
        return monarch_scan(alpha[..., None, None] * L, beta[..., None, None] * R, b, initial)
