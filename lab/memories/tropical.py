"""Slots in the max-plus semiring: every slot stores the value with the largest logit so far."""

import math
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Complex, Float, Int64
from torch import Tensor

from lab.memories.slots import SoftSlots, State
from lab.scan import tropical_scan

Training = Literal["soft", "straight-through", "hard"]
# Up to this mu, the soft form is a product of matrices. Above, it is computed by a scan, because mu
# times the logits spans more than products of exponentials allow in single precision.
SHARP = 8.0


class TropicalSlots(SoftSlots):
    """Slot i stores the value with the largest logit; a query reads the value of one slot.

        l_i[t] = max(a[t] + l_i[t-1], k_i[t])        the later one wins if both are equal
        Y_i[t] = v[t] if k_i[t] wins, else Y_i[t-1]
        o[t] = Y_i[t] of the i with the largest q_i[t] + l_i[t], the first if several are equal

    Since maxima over slots and over steps commute, o[t] = v[j] of the step j <= t with the largest

        s(t, j) = max over i of (q_i[t] + k_i[j]) + a[j+1] + ... + a[t],

    which is hard attention with the inner product of the max-plus semiring. Logits and decays have
    no useful gradient: the output jumps if the winner changes, and is constant otherwise. In
    evaluation mode, the memory always computes the above. In training mode, it computes one of
    three forms:

        soft                `SoftSlots`, whose limit for large mu is the hard form
        straight-through    the hard output with the gradient of the soft one
        hard                the above, in which only values receive gradients

    Args:
        d_model, heads, d_key, d_value, mu, decay, generator, dtype: as for `SoftSlots`.
        training_form: one of the three forms.

    Raises:
        ValueError: the form is unknown, or as for `SoftSlots`.

    Source: Baccelli et al. 1992, Synchronization and linearity, chapter 3 (max-plus algebra);
    Bengio et al. 2013, Estimating or propagating gradients (straight-through).
    """

    def __init__(
        self,
        d_model: int,
        *,
        heads: int,
        d_key: int,
        d_value: int | None = None,
        mu: float = 1.0,
        decay: float | None = None,
        training_form: Training = "soft",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            d_model, heads=heads, d_key=d_key, d_value=d_value, mu=mu, decay=decay,
            generator=generator, dtype=dtype,
        )  # fmt: skip
        if training_form not in get_args(Training):
            raise ValueError(
                f"the form is {training_form!r}; it must be one of {get_args(Training)}"
            )
        self.training_form = training_form

    @property
    def form(self) -> Training:
        """The form for the current mode (training or evaluation)."""
        return self.training_form if self.training else "hard"

    def forward(
        self,
        q: Float[Tensor, "B H T m"],
        k: Float[Tensor, "B H T m"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T M"]:
        """["B H T M"]; before the steps of `reset`, the slots are emptied."""
        if self.form == "hard":
            return self.hard(q, k, v, x, reset)
        soft = (super().forward if self.mu <= SHARP else self.scanned)(q, k, v, x, reset)
        return soft if self.form == "soft" else _through(soft, self.hard(q, k, v, x, reset))

    def hard(
        self,
        q: Float[Tensor, "B H T m"],
        k: Float[Tensor, "B H T m"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T M"]:
        """The value of the winner at every step."""
        return _taken(v, self.winners(q, k, x, reset))

    def winners(
        self,
        q: Float[Tensor, "B H T m"],
        k: Float[Tensor, "B H T m"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Int64[Tensor, "B H T"]:
        """The step whose value is read, for logits q and k ["B H T m"]."""
        level, holder = self.holders(k, x, reset)
        slot = (q + level).argmax(-1, keepdim=True)
        return holder.gather(-1, slot)[..., 0]

    def holders(
        self,
        k: Float[Tensor, "B H T m"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "B H T m"], Int64[Tensor, "B H T m"]]:
        """["B H T m"] each: l of every slot, and as Int64 the step whose value it holds."""
        decay = self.decay_per_step(x, reset)[..., None].expand_as(k)
        level, holder = tropical_scan(decay.flatten(0, 1), k.flatten(0, 1))
        return level.unflatten(0, k.shape[:2]), holder.unflatten(0, k.shape[:2])

    def decay_per_step(
        self, x: Float[Tensor, "B T D"], reset: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B H T"]:
        """["B H T"], at most 0: a, and -inf at the steps of `reset`."""
        return self.log_decay(x, reset) / self.mu

    def step(
        self,
        q: Float[Tensor, "B H m"],
        k: Float[Tensor, "B H m"],
        v: Float[Tensor, "B H M"],
        x: Float[Tensor, "B D"],
        state: Any = None,
    ) -> tuple[Float[Tensor, "B H M"], Any]:
        """["B H M"] and the state: values ["B H m M"] and levels ["B H m"], soft or hard.

        The straight-through form has both.
        """
        if self.form == "soft":
            return super().step(q, k, v, x, state)
        if self.form == "hard":
            return self._hard_step(q, k, v, x, state)
        of_soft, of_hard = (None, None) if state is None else state
        soft, of_soft = super().step(q, k, v, x, of_soft)
        hard, of_hard = self._hard_step(q, k, v, x, of_hard)
        return _through(soft, hard), (of_soft, of_hard)

    def _hard_step(
        self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, state: State | None
    ) -> tuple[Tensor, State]:
        if state is None:
            state = v.new_zeros(*k.shape, v.shape[-1]), k.new_full(k.shape, -math.inf)
        past = self.decay_per_step(x[:, None]) + state[1]
        won = k >= past
        kept = torch.where(won[..., None], v[..., None, :], state[0])
        level = torch.where(won, k, past)
        slot = (q + level).argmax(-1)[..., None, None].expand(*q.shape[:-1], 1, v.shape[-1])
        return kept.gather(-2, slot)[..., 0, :], (kept, level)

    def states(
        self,
        q: Float[Tensor, "B H T m"],
        k: Float[Tensor, "B H T m"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B T H m M+1"]:
        """Contents of the slots, with levels last (in soft form mu times them)."""
        if self.form == "soft":
            return super().states(q, k, v, x)
        level, holder = self.holders(k, x)
        kept = _taken(v, holder.flatten(2)).unflatten(2, holder.shape[2:])
        return torch.cat([kept, level[..., None]], dim=-1).movedim(1, 2)

    def eigenvalues(
        self,
        q: Float[Tensor, "B H T m"],
        k: Float[Tensor, "B H T m"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Complex[Tensor, "B T H*m"]:
        """The remaining share of a slot's value; in hard form 1 or 0."""
        if self.form == "soft":
            return super().eigenvalues(q, k, v, x)
        _, holder = self.holders(k, x)
        step = torch.arange(k.shape[2], device=k.device)[:, None]
        kept = (holder != step).to(v.dtype).movedim(1, 2).flatten(-2)
        return torch.complex(kept, torch.zeros_like(kept))


class TropicalGated(TropicalSlots):
    """One slot per head, with the logit b[t] = q[t] . k[t] / sqrt(K) of query and key of one step.

    l[t] = max(a[t] + l[t-1], b[t]), and o[t] is the value of the winner. The current query can only
    make the current step win; the order of two earlier steps never changes. Forms, arguments and
    errors are those of `TropicalSlots`; the state has M + 1 numbers per head.
    """

    def forward(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
        reset: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B H T M"]:
        """["B H T M"]; before the steps of `reset`, the slot is emptied."""
        return super().forward(*self.logits(q, k), v, x, reset)

    def logits(
        self, q: Float[Tensor, "... K"], k: Float[Tensor, "... K"]
    ) -> tuple[Float[Tensor, "... 1"], Float[Tensor, "... 1"]]:
        """Read and write logits ["... 1"] for q and k ["... K"]; the read logit has no effect."""
        logit = (q * k).sum(-1, keepdim=True) / math.sqrt(self.d_key)
        return torch.zeros_like(logit), logit

    def step(
        self,
        q: Float[Tensor, "B H K"],
        k: Float[Tensor, "B H K"],
        v: Float[Tensor, "B H M"],
        x: Float[Tensor, "B D"],
        state: Any = None,
    ) -> tuple[Float[Tensor, "B H M"], Any]:
        """["B H M"] and the state: the value ["B H 1 M"] and the level ["B H 1"]."""
        return super().step(*self.logits(q, k), v, x, state)

    def states(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B T H 1 M+1"]:
        """["B T H 1 M+1"]."""
        return super().states(*self.logits(q, k), v, x)

    def eigenvalues(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Complex[Tensor, "B T H"]:
        """Complex["B T H"]."""
        return super().eigenvalues(*self.logits(q, k), v, x)


def _through(soft: Tensor, hard: Tensor) -> Tensor:
    """The hard values, with the derivatives of the soft ones."""
    return soft + (hard - soft).detach()


def _taken(v: Tensor, steps: Tensor) -> Tensor:
    """["B H n M"]: the values v ["B H T M"] at steps Int64["B H n"]."""
    return v.gather(2, steps[..., None].expand(*steps.shape, v.shape[-1]))
