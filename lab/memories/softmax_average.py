"""Reference forms of softmax averages over the past: attention, separate signs, derivatives.

`lab.scan.softmax_scan` computes these averages in one pass; this module defines them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lab.linalg.chunks import segment_sums
from lab.linalg.precision import widened
from lab.scan import log_scan, softmax_scan


@widened
def shares(
    decay: Float[Tensor, "... T"], score: Float[Tensor, "... T"]
) -> Float[Tensor, "... T T"]:
    """p(j|t), the weight of step j in the average at step t.

    Args:
        decay, score: ["... T"].

    Returns:
        ["... T T"], axes (t, j): softmax over j <= t of score[j] + decay[j+1] + ... + decay[t].
    """
    return _logits(decay, score).softmax(-1)


@widened
def attention(
    decay: Float[Tensor, "B T N"], score: Float[Tensor, "B T N"], value: Float[Tensor, "B T #N V"]
) -> tuple[Float[Tensor, "B T N V"], Float[Tensor, "B T N"]]:
    """The result of `softmax_scan`, computed by a masked softmax over all pairs of steps.

    Args:
        decay, score: ["B T N"].
        value: with an N of 1 where all N share it.

    Returns:
        average ["B T N V"] and log_norm ["B T N"].
    """
    logits = _logits(decay.mT, score.mT)
    average = logits.softmax(-1) @ value.movedim(2, 1)
    return average.movedim(1, 2), logits.logsumexp(-1).mT


@widened
def signs_apart(
    decay: Float[Tensor, "B T N"], score: Float[Tensor, "B T N"], value: Float[Tensor, "B T #N V"]
) -> Float[Tensor, "B T N V"]:
    """The same averages in logarithms, with positive and negative parts summed separately.

    n+ and n- are the log-semiring recurrences with score + log of the positive and of the negative
    part of value; the result is exp(n+ - l) - exp(n- - l). It loses digits if the two parts nearly
    cancel. A single accumulator with a sign, as proposed, would have to subtract at every step. A
    value of exactly zero has the logarithm -inf and no gradient.

    Args:
        decay, score: ["B T N"].
        value: ["B T N V"].

    Returns:
        average: ["B T N V"].
    """
    log_norm = log_scan(decay, score)[..., None]
    each = decay[..., None].expand_as(value).flatten(2)
    parts = []
    for part in (value.clamp_min(0), (-value).clamp_min(0)):
        logs = score[..., None] + part.log()
        parts.append((log_scan(each, logs.flatten(2)).view_as(value) - log_norm).exp())
    return parts[0] - parts[1]


@widened
def shares_by_autograd(
    decay: Float[Tensor, "B T N"], score: Float[Tensor, "B T N"]
) -> Float[Tensor, "B N T T"]:
    """p(j|t) of the scan, computed as the derivative of log_norm[t] by score[j].

    Args:
        decay, score: ["B T N"].

    Returns:
        ["B N T T"], axes (t, j).
    """
    score = score.detach().requires_grad_()
    nothing = torch.zeros_like(score[:, :, :1, None])
    with torch.enable_grad():
        _, log_norm = softmax_scan(decay.detach(), score, nothing)
        rows = [
            torch.autograd.grad(log_norm[:, t].sum(), score, retain_graph=True)[0]
            for t in range(score.shape[1])
        ]
    return torch.stack(rows, dim=1).movedim(-1, 1)


def odds_spread(p: Float[Tensor, "... T T"]) -> float:
    """Largest range over t of log p(j|t) - log p(j'|t), the log-odds of two steps.

    Args:
        p: axes (t, j), above zero for j <= t. All pairs of steps up to t are used.
    """
    logs, T = p.log(), p.shape[-1]
    odds = logs[..., :, None] - logs[..., None, :]  # axes (t, j, j')
    t, j = torch.arange(T)[:, None, None], torch.arange(T)
    alive = (t >= j[:, None]) & (t >= j)
    high = odds.masked_fill(~alive, -torch.inf).amax(-3)
    low = odds.masked_fill(~alive, torch.inf).amin(-3)
    return (high - low).max().item()


class Jacobians(NamedTuple):
    """Derivatives of log_norm[t] ["T"] and average[t] ["T V"] by decay[s] and score[j]."""

    norm_by_score: Float[Tensor, "T T"]  # axes (t, j)
    norm_by_decay: Float[Tensor, "T T"]  # axes (t, s)
    average_by_score: Float[Tensor, "T V T"]  # axes (t, v, j)
    average_by_decay: Float[Tensor, "T V T"]  # axes (t, v, s)


def jacobians(
    decay: Float[Tensor, "T"], score: Float[Tensor, "T"], value: Float[Tensor, "T V"]
) -> Jacobians:
    """Derivatives computed by hand, for one sequence: decay and score ["T"], value ["T V"].

    d log_norm[t] / d score[j] = p(j|t), d average[t] / d score[j] = p(j|t) (value[j] - average[t]);
    decay[s] shifts the scores of all steps before s equally, so its derivatives are sums over j <
    s. Therefore no derivative of an average exceeds the range of the values. Derivatives by the
    values are p(j|t).
    """
    p = shares(decay, score)
    average = p @ value
    to_average = p[:, None] * (value.mT - average[..., None])
    return Jacobians(p, _before(p), to_average, _before(to_average))


def _before(of_steps: Tensor) -> Tensor:
    """["T ... T"]: sums over all j < s for s <= t, and zero for s > t."""
    sums = of_steps.cumsum(-1) - of_steps
    T = sums.shape[-1]
    later = torch.ones(T, T, dtype=torch.bool, device=sums.device).triu(1)
    return sums.masked_fill(later.view(T, *[1] * (sums.ndim - 2), T), 0)


def _logits(decay: Tensor, score: Tensor) -> Tensor:
    """["... T T"], axes (t, j), from decay and score ["... T"]; -inf for j > t."""
    return segment_sums(decay) + score[..., None, :]
