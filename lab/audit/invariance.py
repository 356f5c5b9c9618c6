"""When hard attention over slots is exactly the same however long the gap before a query is."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from lab.memories.tropical import TropicalSlots
from lab.mixers.multi_head import MultiHead


@dataclass(frozen=True)
class Certificate:
    """Which steps win at some queries, and how far ahead they are. All are ["B H Q"].

    Attributes:
        step: Int64, the step that wins.
        margin: how far its score is ahead of all that it may have to beat, with no decay in the
            gap. Below 0 where a step of the gap may win.
        decay: what the gap takes off the winner's score; 0 where the winner is the query itself.
    """

    step: Tensor
    margin: Tensor
    decay: Tensor

    @property
    def holds(self) -> Tensor:
        """Bool: the winner cannot change while the gap loses no more than the margin."""
        return self.margin > self.decay


def certify(q: Tensor, k: Tensor, decay: Tensor, at: Tensor, written: int) -> Certificate:
    """Do queries read the same whatever happens between what was written and them?

    A query at t scores step j by max over i of (q_i[t] + k_i[j]), less all decays after j. Say e is
    the best score among the first `written` steps, with the decays up to their end; g that of the
    steps between them and t, and o that of t itself, with no decay. The decay D of the gap is alike
    for all that was written, whose order stays. So if e - D > max(g, o), the winner is the one
    of e; it is the same for any other gap whose steps score no more than g, if it loses less than
    the margin e - max(g, o). If o > max(e, g), the query itself wins in any such gap.

    Args:
        q: ["B H T m"], read logits.
        k: ["B H T m"], write logits.
        decay: ["B H T"], what a step adds to the levels of all slots, at most 0.
        at: Int64["B Q"], the steps of the queries.
        written: how many steps are written before the gap, at least 1.

    Raises:
        ValueError: a query is among the steps written, or there are none.

    Cost: the scores of all steps for all queries, B H Q T m additions.
    """
    if written < 1 or bool((at < written).any()):
        raise ValueError(f"queries at {at.min().item()} or later, and {written} steps before them")
    scores = _scores(_at(q, at), k)  # ["B H Q T"]
    # Sums over the steps between only: differences of sums from step 0 on would lose digits.
    since = decay[..., 1:written].flip(-1).cumsum(-1).flip(-1)
    early, step = (scores[..., :written] + pad(since, (0, 1))[:, :, None]).max(-1)
    when = at[:, None, :, None].expand(*scores.shape[:3], 1)
    own = scores.gather(-1, when)[..., 0]
    between = torch.arange(written, scores.shape[-1], device=at.device)
    late = scores[..., written:].masked_fill(between >= when, -torch.inf).amax(-1)
    lost = -decay[..., written:].cumsum(-1)
    gap = lost.gather(-1, (at - written)[:, None].expand(-1, lost.shape[1], -1))
    itself = own > early
    return Certificate(
        step=torch.where(itself, when[..., 0], step),
        margin=torch.where(itself, own - early.maximum(late), early - own.maximum(late)),
        decay=torch.where(itself, 0, gap),
    )


def certify_mixer(mixer: MultiHead, x: Tensor, at: Tensor, written: int) -> Certificate:
    """`certify` for a layer of `TropicalSlots` and its input ["B T D"]."""
    memory = mixer.memory
    assert isinstance(memory, TropicalSlots)
    q, k, _ = mixer.heads(x)
    return certify(q, k, memory.decay_per_step(x), at, written)


def _at(q: Tensor, steps: Tensor) -> Tensor:
    """["B H Q m"]: q ["B H T m"] at steps Int64["B Q"]."""
    index = steps[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3])
    return q.gather(2, index)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """["B H Q T"]: the max-plus inner products of q ["B H Q m"] and k ["B H T m"]."""
    slots = zip(q.unbind(-1), k.unbind(-1), strict=True)
    best = None
    for q_i, k_i in slots:  # one slot after the other: no array of Q x T x m
        score = q_i[..., None] + k_i[:, :, None]
        best = score if best is None else torch.maximum(best, score)
    assert best is not None
    return best
