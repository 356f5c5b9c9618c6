"""The online-softmax scan: exact causal softmax averages, without taking logarithms of values."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lab.scan import gpu
from lab.scan.arguments import alike, are_numbers, forgetting, rounded_once
from lab.scan.associative import Elements, associative_scan
from lab.scan.cpu import softmax as cpu
from lab.scan.linear import before, reversed_scan
from lab.scan.log import log_add, real, shares
from lab.scan.operators import Scan

State = tuple[Float[Tensor, "B N V"], Float[Tensor, "B N"]]
States = tuple[Float[Tensor, "B T N V"], Float[Tensor, "B T N"]]  # after every step


def softmax_scan(
    decay: Float[Tensor, "B T N"],
    score: Float[Tensor, "B T N"],
    value: Float[Tensor, "B T #N V"],
    initial: State | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> States:
    """Averages of all values so far, with the weights of a softmax, and its log-normaliser.

    log_norm[t] = log(exp(decay[t] + log_norm[t-1]) + exp(score[t])) and
    average[t] = p[t] average[t-1] + w[t] value[t], with the shares of the past and of the step,
    p[t] = exp(decay[t] + log_norm[t-1] - log_norm[t]) and w[t] = exp(score[t] - log_norm[t]).

    Without an initial state this is causal softmax attention with the logits
    score[j] + decay[j+1] + ... + decay[t] of step j <= t for step t: average = softmax(logits) @
    value and log_norm = logsumexp(logits). So it is attention whose query is the same at all steps.

    Args:
        decay: added to all logits of earlier steps, dimensionless; -inf forgets.
        score: logit of the step, dimensionless; -inf leaves the step out.
        value: in any unit, or ["B T 1 V"]: values that all N share, whose
            gradient is the sum over N. They must be finite, as in attention: 0 times infinity is
            NaN.
        initial: the state before step 0, average ["B N V"] and log_norm ["B N"], as another scan
            returned it; 0 and -inf, no step yet, if None.
        reset: Bool["B T"]: before these steps the state is set to 0 and -inf, no step yet, where
            another sequence begins that shares a row with those before; none if None.

    Returns:
        average: ["B T N V"], in units of the values; within rounding between the smallest and the
            largest of them. Where log_norm is -inf it stays what it was before.
        log_norm: ["B T N"], dimensionless; -inf as long as every score was -inf.

    Raises:
        TypeError: an argument is no tensor, or `initial` no pair of them.
        ValueError: a shape is not as above, T is 0, dtypes or devices differ, or one is complex.

    Cost: forwards value is read and average written, backwards these two and a gradient are read
    and one written, and for each of B T N an exp, a log1p and divisions. Gradients, with G and g
    those of average[t] and log_norm[t] from there and from all later steps, and
    q[t] = p[t] w[t] <G[t], average[t-1] - value[t]>:
    G[t] = grad_average[t] + p[t+1] G[t+1], g[t] = grad_log_norm[t] + p[t+1] g[t+1] + q[t+1],
    grad_value = w G, grad_score = w g - q, grad_decay = p g + q. At -inf they are zero, those of
    average aside, which go to the average before. Where there is no kernel, as
    `softmax_scan_associative`.
    Precision: log_norm as in `log_scan`; averages are carried in double precision on the CPU, and
    the mean of a million float32 values is off by 2e-8. Half precision is computed in float32.
    Source: Milakov & Gimelshein 2018, Online normalizer calculation for softmax; Feng et al. 2024,
    Attention as an RNN (as a scan).
    """
    inputs = _checked(decay, score, value, initial, reset=reset)
    average, log_norm = rounded_once(_compute, *inputs)
    return _emptied(average, log_norm, reset)


def _compute(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    return _fused(*inputs) if _fused.runs_on(*inputs) else _associative(*inputs)


def softmax_scan_sequential(
    decay: Float[Tensor, "B T N"],
    score: Float[Tensor, "B T N"],
    value: Float[Tensor, "B T #N V"],
    initial: State | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> States:
    """The definition of `softmax_scan`, step by step: what every other form must equal."""
    decay, score, value, average, log_norm = _checked(decay, score, value, initial, reset=reset)
    averages, log_norms = [], []
    for t in range(decay.shape[1]):
        past = (decay[:, t] + log_norm, average)
        log_norm, average = _merge(*past, score[:, t], value[:, t].expand_as(average))
        averages.append(average)
        log_norms.append(log_norm)
    return _emptied(torch.stack(averages, dim=1), torch.stack(log_norms, dim=1), reset)


def softmax_scan_associative(
    decay: Float[Tensor, "B T N"],
    score: Float[Tensor, "B T N"],
    value: Float[Tensor, "B T #N V"],
    initial: State | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> States:
    """`softmax_scan` in torch operations, by the monoid that merges averages: for any device."""
    inputs = _checked(decay, score, value, initial, reset=reset)
    average, log_norm = rounded_once(_associative, *inputs)
    return _emptied(average, log_norm, reset)


def _associative(
    decay: Tensor, score: Tensor, value: Tensor, average: Tensor, log_norm: Tensor
) -> tuple[Tensor, Tensor]:
    value, initial = value.expand(*decay.shape, -1), average[:, None]
    # Fold the initial state into step 0, so that no monoid has to know of it.
    past = decay[:, :1] + log_norm[:, None]
    first_norm, first_average = _merge(past, initial, score[:, :1], value[:, :1])
    score = torch.cat([first_norm, score[:, 1:]], dim=1)
    value = torch.cat([first_average, value[:, 1:]], dim=1)
    _, log_norm, average = associative_scan(_compose, (decay, score, value))
    # A part without weight has an average of its own, and does not know the one that must stay.
    step = torch.arange(1, decay.shape[1] + 1, device=decay.device)[None, :, None]
    last = torch.where(log_norm.isneginf(), 0, step).cummax(dim=1).values
    averages = torch.cat([initial, average], dim=1)
    return averages.gather(1, last[..., None].expand_as(average)), log_norm


def _compose(earlier: Elements, later: Elements) -> Elements:
    """(decay, log_norm, average) of the steps before and of those after, merged into one."""
    decay, log_norm, average = later
    merged = _merge(decay + earlier[1], earlier[2], log_norm, average)
    return decay + earlier[0], *merged


def _merge(past: Tensor, average: Tensor, score: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """log_norm and average of two parts, each with its log_norm and average."""
    keep, share = _keep(*shares(past, score))
    return log_add(past, score), keep[..., None] * average + share[..., None] * value


def _keep(of_past: Tensor, of_step: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of the past average and of the value: all and nothing where both are zero."""
    return torch.where(of_past + of_step == 0, 1, of_past), of_step


def _gradients(
    grad_average: Tensor, grad_norm: Tensor, decay: Tensor, score: Tensor, value: Tensor,
    average: Tensor, log_norm: Tensor, initial_average: Tensor, initial_norm: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients with respect to decay, score, value and the initial average and log_norm."""
    of_past, of_step = shares(decay + before(log_norm, initial_norm), score)
    keep = _keep(of_past, of_step)[0][..., None]
    flat = reversed_scan(keep.expand_as(average).flatten(2), grad_average.flatten(2))
    g_average = flat.view_as(average)
    earlier = torch.cat([initial_average[:, None], average[:, :-1]], dim=1)
    turn = of_past * of_step * (g_average * (earlier - value)).sum(-1)
    from_next = torch.cat([turn[:, 1:], torch.zeros_like(turn[:, :1])], dim=1)
    g_norm = reversed_scan(of_past, grad_norm + from_next)
    to_decay, to_score = of_past * g_norm + turn, of_step * g_norm - turn
    to_value = (of_step[..., None] * g_average).sum_to_size(value.shape)
    return to_decay, to_score, to_value, (keep * g_average)[:, 0], to_decay[:, 0]


def _emptied(average: Tensor, log_norm: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """The states, without the averages that stay from a sequence before as long as nothing came."""
    if reset is None:
        return average, log_norm
    step = torch.arange(reset.shape[1], device=reset.device)
    began = torch.where(reset, step, -1).cummax(1).values[..., None]
    came = torch.where(log_norm.isneginf(), -1, step[:, None]).cummax(1).values
    return torch.where((came < began)[..., None], 0, average), log_norm


def _checked(
    decay: Tensor, score: Tensor, value: Tensor, initial: State | None,
    *, reset: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The arguments, with the two parts of the initial state, 0 and -inf if it was None.

    Raises:
        TypeError: one is no tensor, or `initial` no pair of them.
        ValueError: a shape is not as in `softmax_scan`, T is 0, dtypes or devices differ, or the
            dtype is complex.
    """
    are_numbers(decay=decay, score=score, value=value)
    if not (initial is None or (isinstance(initial, tuple | list) and len(initial) == 2)):
        wanted = "None or a pair of tensors, average and log_norm"
        raise TypeError(f"initial must be {wanted}, got a {type(initial).__name__}")
    if decay.ndim != 3 or decay.shape != score.shape or decay.shape[1] == 0:
        shapes = f"decay {tuple(decay.shape)} and score {tuple(score.shape)}"
        raise ValueError(f"{shapes} must share one (B, T, N) shape with T > 0")
    B, T, N = decay.shape
    if value.ndim != 4 or value.shape[:2] != (B, T) or value.shape[2] not in (1, N):
        expected = f"({B}, {T}, {N}, V)" if N == 1 else f"({B}, {T}, {N}, V) or ({B}, {T}, 1, V)"
        raise ValueError(f"value must be {expected}, got {tuple(value.shape)}")
    V = value.shape[3]
    if initial is None:
        initial = value.new_zeros(B, N, V), score.new_full((B, N), -math.inf)
    average, log_norm = initial
    are_numbers(**{"average of initial": average, "log_norm of initial": log_norm})
    if average.shape != (B, N, V) or log_norm.shape != (B, N):
        shapes = f"average {tuple(average.shape)} and log_norm {tuple(log_norm.shape)}"
        raise ValueError(f"initial must be ({B}, {N}, {V}) and ({B}, {N}), got {shapes}")
    names = ["decay", "score", "value", "initial average", "initial log_norm"]
    decay, score, value, average, log_norm = alike(names, decay, score, value, average, log_norm)
    real("decay", decay)
    return forgetting(decay, score, reset, zero=-math.inf), score, value, average, log_norm


def _like_average(named: dict[str, Tensor]) -> Tensor:
    """["B T N V"], also where all N share their value ["B T 1 V"]."""
    return named["value"].expand(-1, -1, named["score"].shape[2], -1)


_INPUTS = ["decay", "score", "value", "initial_average", "initial_norm"]
_fused = Scan(
    "softmax_scan",
    inputs=_INPUTS,
    outputs={"average": _like_average, "log_norm": "score"},
    saved=[*_INPUTS[:3], "average", "log_norm", *_INPUTS[3:]],
    gradients={name: name for name in _INPUTS},
    kernels={"cpu": cpu, **gpu.kernels("softmax")},
    formula=_gradients,
)
