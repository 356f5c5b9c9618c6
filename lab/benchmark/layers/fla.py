"""The torch references of flash-linear-attention, which run on a CPU, as forms of our memories.

They are given what our memories compute of the input: features, gains and beta. Where they scale
queries by 1 / sqrt(K) and our memory does not, they are told not to, or given larger ones. All but
those for retention and the plain delta rule take ["B T H ..."].

Source: Yang & Zhang 2024, FLA, the files naive.py of fla.ops, in version 0.6 of fla-core.
"""

import importlib
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from lab.nn.linear import precise

MODULE, PACKAGE = "fla", "fla-core"


def linear_chunks(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention in chunks of 64 steps; T must be a multiple of that."""
    q, k = _features(memory, q, k)
    o: Tensor = _reference("linear_attn", "naive_chunk_linear_attn")(
        q, k, v, scale=1.0, normalize=memory.normalise
    )
    return o


def linear_steps(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention step by step."""
    q, k = _features(memory, q, k)
    o: Tensor = _reference("linear_attn", "naive_recurrent_linear_attn")(
        q, k, v, scale=1.0, normalize=memory.normalise
    )[0]
    return o


def decay_chunks(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One gain a head, in chunks of 64 steps."""
    q, k = _features(memory, q, k)
    o: Tensor = _reference("simple_gla", "naive_chunk_simple_gla")(
        q, k, v, memory.log_decay(x)[..., 0], scale=1.0
    )[0]
    return o


def decay_pairs(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One gain a head, from all pairs of steps."""
    q, k = _features(memory, q, k)
    o: Tensor = _reference("simple_gla", "naive_parallel_simple_gla")(
        q, k, v, memory.log_decay(x)[..., 0], scale=1.0
    )[0]
    return o


def retention_pairs(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Retention without rotations, from all pairs of steps; axes ["B H T ..."]."""
    o: Tensor = _reference("retention", "naive_retention")(q, k, v)
    return o


def gated_steps(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A gain for each entry of a key, step by step."""
    o: Tensor = _reference("gla", "naive_recurrent_gla")(q, k, v, memory.log_decay(x))[0]
    return o


def delta_chunks(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The delta rule in chunks of 32 steps; axes ["B H T ..."]."""
    q, k, beta = _corrected(memory, x, q, k)
    o: Tensor = _reference("delta_rule", "delta_rule_chunkwise")(
        q * k.shape[-1] ** 0.5, k, v, beta.mT.contiguous()
    )[0]
    return o


def delta_steps(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The delta rule step by step; axes ["B H T ..."]."""
    q, k, beta = _corrected(memory, x, q, k)
    o: Tensor = _reference("delta_rule", "delta_rule_recurrence")(
        q * k.shape[-1] ** 0.5, k, v, beta.mT
    )[0]
    return o


def gated_delta_chunks(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The gated delta rule in chunks of 64 steps."""
    q, k, beta = _corrected(memory, x, q, k)
    gain = memory.log_gain(x)[..., 0]
    o: Tensor = _reference("gated_delta_rule", "naive_chunk_gated_delta_rule")(
        q, k, v, gain, beta, scale=1.0
    )[0]
    return o


def gated_delta_steps(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The gated delta rule step by step."""
    q, k, beta = _corrected(memory, x, q, k)
    gain = memory.log_gain(x)[..., 0]
    o: Tensor = _reference("gated_delta_rule", "naive_recurrent_gated_delta_rule")(
        q, k, v, beta, gain, scale=1.0
    )[0]
    return o


def log_linear_pairs(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Log-linear attention from all pairs of steps."""
    weights = memory.level_weights(x)
    o: Tensor = _reference("log_linear_attn", "naive_log_linear_attn")(
        q, k, v, torch.zeros_like(weights[..., 0]), weights
    )
    return o


def slots_chunks(memory: Any, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Slots as linear attention with features exp(mu k) and a decay, in chunks of 64 steps.

    It overflows where mu k exceeds 88, which our form does not.
    """
    q, k = ((memory.mu * part).exp() for part in (q, k))
    decay, weighed = memory.log_decay(x).mT, pad(v, (0, 1), value=1.0)
    o: Tensor = _reference("simple_gla", "naive_chunk_simple_gla")(q, k, weighed, decay, scale=1.0)[
        0
    ]
    return o[..., :-1] / o[..., -1:]


@cache
def _reference(op: str, name: str) -> Callable[..., Any]:
    """The reference with that name for an operation of fla."""
    with warnings.catch_warnings():
        # Its import says that there is no GPU, and which packages for one are missing.
        warnings.simplefilter("ignore")
        found: Callable[..., Any] = getattr(importlib.import_module(f"fla.ops.{op}.naive"), name)
    return found


def _features(memory: Any, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    steps = torch.arange(q.shape[1], device=q.device)[:, None]
    return memory.features(q, steps), memory.features(k, steps)


def _corrected(memory: Any, x: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q and k of length 1, and beta ["B T H"]."""
    return normalize(q, dim=-1), normalize(k, dim=-1), precise(memory.beta, x).sigmoid()
