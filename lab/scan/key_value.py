"""A matrix that values are written to under keys, and read with queries: gated, or corrected."""

from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lab.linalg.chunks import cut, joined, segment_sums
from lab.linalg.precision import uncast
from lab.linalg.triangular_inverse import solve_by_substitution
from lab.scan.arguments import alike, are_numbers, forgetting, rounded_once
from lab.scan.cpu import key_value as cpu
from lab.scan.linear import linear_scan
from lab.scan.operators import Scan

# Steps of a chunk in torch operations: long ones for few rounds, and short ones where all pairs of
# steps have a gain for each entry of a key.
CHUNK, SHORT = 64, 16


def key_value_scan(
    q: Float[Tensor, "B T K"],
    k: Float[Tensor, "B T K"],
    v: Float[Tensor, "B T M"],
    log_gain: Float[Tensor, "B T G"] | None = None,
    beta: Float[Tensor, "B T"] | None = None,
    initial: Float[Tensor, "B K M"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> tuple[Float[Tensor, "B T M"], Float[Tensor, "B K M"]]:
    """Reads o[t] = S[t]^T q[t] of S[t] = diag(a[t]) S[t-1] + k[t] u[t]^T, a = exp(log_gain).

    What is written is u[t] = v[t], which is linear attention, gated if there are gains. With beta
    it corrects what is stored, u[t] = beta[t] (v[t] - (diag(a[t]) S[t-1])^T k[t]): the delta rule.

    Args:
        q, k: Float["B T K"], dimensionless. Reads see the write of their own step.
        v: Float["B T M"], in units of the state.
        log_gain: Float["B T K"], one for each entry of a key, or ["B T 1"], one for all;
            dimensionless, -inf forgets. No gain, a = 1, if None.
        beta: Float["B T"], dimensionless. With |k| = 1, the gain along k is 1 - beta: 0 keeps what
            is stored, 1 replaces it, 2 reflects it. Nothing is corrected if None.
        initial: Float["B K M"], the state before step 0; zero if None.
        reset: Bool["B T"]: before these steps S is set to zero, where another sequence begins that
            shares a row with those before; none if None.

    Returns:
        o: ["B T M"], in units of the state.
        last: ["B K M"], the state after the last step.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, dtypes or devices differ, or one is complex.

    Cost: per step about 2 K M multiply-adds forwards and 9 K M backwards, half as many again with
    beta, on top of 16 (K + M) and what it takes to move the inputs. Backwards T / 8 states of K M
    numbers are kept of each sequence that a thread works on. Where there is no kernel, as
    `key_value_scan_chunked`.
    Precision: nothing is divided by a gain. On the CPU states and gains are carried from chunk to
    chunk in double precision. Half precision is computed in float32 and rounded once. A NaN shows
    at once and may spoil up to seven steps before it.
    Source: Yang et al. 2024, Gated linear attention transformers with hardware-efficient training;
    Yang, Kautz & Hatamizadeh 2024, Gated delta networks (the WY form of a chunk with gains).
    """
    return rounded_once(_compute, *_checked(q, k, v, log_gain, beta, initial, reset=reset))


def _compute(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    return _fused(*inputs) if _fused.runs_on(*inputs) else _chunked(*inputs)


def key_value_scan_sequential(
    q: Float[Tensor, "B T K"],
    k: Float[Tensor, "B T K"],
    v: Float[Tensor, "B T M"],
    log_gain: Float[Tensor, "B T G"] | None = None,
    beta: Float[Tensor, "B T"] | None = None,
    initial: Float[Tensor, "B K M"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
) -> tuple[Float[Tensor, "B T M"], Float[Tensor, "B K M"]]:
    """The definition of `key_value_scan`, step after step: what every other form must equal."""
    q, k, v, log_gain, beta, S = _checked(q, k, v, log_gain, beta, initial, reset=reset)
    reads = []
    for t in range(q.shape[1]):
        if log_gain.shape[2]:
            S = log_gain[:, t, :, None].exp() * S
        u = v[:, t]
        if beta.shape[2]:
            u = beta[:, t] * (u - (k[:, t, :, None] * S).sum(1))
        S = S + k[:, t, :, None] * u[:, None]
        reads.append((q[:, t, :, None] * S).sum(1))
    return torch.stack(reads, dim=1), S


def key_value_scan_chunked(
    q: Float[Tensor, "B T K"],
    k: Float[Tensor, "B T K"],
    v: Float[Tensor, "B T M"],
    log_gain: Float[Tensor, "B T G"] | None = None,
    beta: Float[Tensor, "B T"] | None = None,
    initial: Float[Tensor, "B K M"] | None = None,
    *,
    reset: Bool[Tensor, "B T"] | None = None,
    chunk: int | None = None,
) -> tuple[Float[Tensor, "B T M"], Float[Tensor, "B K M"]]:
    """`key_value_scan` in torch operations, for any device, in chunks of so many steps.

    All chunks are worked on at once. Their states follow from one another by `linear_scan`, or,
    with beta, by one product a chunk. Gains of all pairs of steps of a chunk are exponentials of
    sums of their own: T chunk numbers, or K times as many where each entry of a key has its gain.

    Args:
        q, k, v, log_gain, beta, initial: as there.
        chunk: in steps; 64 if None, or 16 where each entry of a key has its gain.

    Raises:
        ValueError: also where chunk is below 1.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 step, got {chunk}")
    inputs = _checked(q, k, v, log_gain, beta, initial, reset=reset)
    return rounded_once(partial(_chunked, chunk=chunk), *inputs)


def _chunked(
    q: Tensor, k: Tensor, v: Tensor, log_gain: Tensor, beta: Tensor, initial: Tensor,
    *, chunk: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    T, G = q.shape[1], log_gain.shape[2]
    size = min(chunk or (SHORT if G > 1 else CHUNK), T)
    log_gain = log_gain if G else torch.zeros_like(k[..., :1])
    with uncast(v):
        q, k, v, log_gain, beta = (cut(part, size) for part in (q, k, v, log_gain, beta))
        E = segment_sums(log_gain.mT).exp()  # ["B C G t s"], the gains between two steps
        c, e = log_gain.cumsum(-2).exp(), E[..., -1, :].mT
        g, out = c[..., -1, :, None], (e * k).mT
        if beta.shape[-1]:
            keys, u = _corrections(k, v, beta, c, E)
            turns = torch.diag_embed(g[..., 0].expand(*g.shape[:2], k.shape[-1])) - out @ keys
            states, last = _turned(turns, out @ u, initial)
            u = u - keys @ states
        else:
            u = v
            states, last = _scaled(g, out @ u, initial)
        return joined((c * q) @ states + _pairs(q, k, E) @ u, T), last


def _corrections(k: Tensor, v: Tensor, beta: Tensor, c: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
    """What a chunk writes is the second of these, minus the first times the state before it."""
    below = (beta * _pairs(k, k, E)).tril(-1)
    right = beta * torch.cat([c * k, v], dim=-1)
    keys, u = solve_by_substitution(below, right).split([k.shape[-1], v.shape[-1]], dim=-1)
    return keys, u


def _turned(turns: Tensor, written: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """States before every chunk, and after the last, for S[c] = turns[c] S[c-1] + written[c]."""
    states = []
    for n in range(written.shape[1]):
        states.append(state)
        state = turns[:, n] @ state + written[:, n]
    return torch.stack(states, dim=1), state


def _scaled(gains: Tensor, written: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    """The same for S[c] = gains[c] S[c-1] + written[c], with gains ["B C K 1"] or ["B C 1 1"]."""
    a, b = gains.expand_as(written).flatten(2), written.flatten(2)
    after = linear_scan(a, b, initial.flatten(1)).unflatten(2, written.shape[2:])
    return torch.cat([initial[:, None], after[:, :-1]], dim=1), after[:, -1]


def _pairs(x: Tensor, k: Tensor, E: Tensor) -> Tensor:
    """["B C t s"]: sum over i of x[t, i] E[t, s, i] k[s, i]."""
    if E.shape[2] == 1:
        return (x @ k.mT) * E[:, :, 0]
    return torch.einsum("bcti,bcits,bcsi->bcts", x, E, k)


def _gradients(
    grad_o: Tensor, grad_last: Tensor,
    q: Tensor, k: Tensor, v: Tensor, log_gain: Tensor, beta: Tensor, initial: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients of all inputs, by those of the form in torch operations; differentiable again."""
    inputs = (q, k, v, log_gain, beta, initial)
    return torch.autograd.grad(
        _chunked(*inputs), inputs, (grad_o, grad_last), create_graph=True, materialize_grads=True
    )


def _checked(
    q: Tensor, k: Tensor, v: Tensor, log_gain: Tensor | None, beta: Tensor | None,
    initial: Tensor | None, *, reset: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """All six as tensors: without columns, ["B T 0"], where there is no gain or no beta."""
    are_numbers(q=q, k=k, v=v)
    if k.ndim != 3 or v.ndim != 3 or q.shape != k.shape or v.shape[:2] != k.shape[:2]:
        shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)}"
        raise ValueError(f"{shapes} must be (B, T, K), (B, T, K) and (B, T, M)")
    (B, T, K), M = k.shape, v.shape[2]
    if T == 0:
        raise ValueError("there must be at least one step, and T is 0")
    log_gain = k.new_zeros(B, T, 0) if log_gain is None else log_gain
    beta = k.new_zeros(B, T, 0) if beta is None else beta[..., None]
    initial = v.new_zeros(B, K, M) if initial is None else initial
    are_numbers(log_gain=log_gain, beta=beta, initial=initial)
    if log_gain.ndim != 3 or log_gain.shape[:2] != (B, T) or log_gain.shape[2] not in (0, 1, K):
        raise ValueError(f"log_gain must be ({B}, {T}, 1 or {K}), got {tuple(log_gain.shape)}")
    if beta.shape not in ((B, T, 0), (B, T, 1)):
        raise ValueError(f"beta must be ({B}, {T}), got {tuple(beta.shape[:-1])}")
    if initial.shape != (B, K, M):
        raise ValueError(f"initial must be ({B}, {K}, {M}), got {tuple(initial.shape)}")
    names = ["q", "k", "v", "log_gain", "beta", "initial"]
    q, k, v, log_gain, beta, initial = alike(names, q, k, v, log_gain, beta, initial)
    if not v.is_floating_point():
        raise ValueError(f"all must be real floating-point numbers, got {v.dtype}")
    if reset is not None:
        log_gain = log_gain if log_gain.shape[2] else k.new_zeros(B, T, 1)
        log_gain = forgetting(log_gain, v, reset, zero=-torch.inf)
    return q, k, v, log_gain, beta, initial


_INPUTS = ["q", "k", "v", "log_gain", "beta", "initial"]
_fused = Scan(
    "key_value_scan",
    inputs=_INPUTS,
    outputs={"o": "v", "last": "initial"},
    saved=_INPUTS,
    gradients={name: name for name in _INPUTS},
    kernels={"cpu": cpu},
    formula=_gradients,
)
