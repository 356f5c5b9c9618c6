"""The delta rule: a matrix state that is corrected along one key per step, in chunks."""

from itertools import permutations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lab.linalg.chunks import cut
from lab.linalg.precision import autocasts, uncast, wide


def delta_rule(
    q: Float[Tensor, "B T N"],
    k: Float[Tensor, "B T N"],
    v: Float[Tensor, "B T M"],
    beta: Float[Tensor, "B T"],
    initial: Float[Tensor, "B N M"] | None = None,
    *,
    chunk: int = 64,
) -> tuple[Float[Tensor, "B T M"], Float[Tensor, "B N M"]]:
    """Reads o[t] = S[t]^T q[t] of S[t] = S[t-1] + beta[t] k[t] (v[t] - S[t-1]^T k[t])^T.

    The corrections u[t] = beta[t] (v[t] - S[t-1]^T k[t]) of a chunk solve one triangular system,
    (I + L) U = diag(beta) (V - K S), where S is the state before the chunk and L is the part of
    diag(beta) K K^T below the diagonal. The state after the chunk is then S + K^T U. The systems of
    all chunks are solved at once; only the states are passed from chunk to chunk.

    Args:
        q: dimensionless. A read includes the update of its own step.
        k: dimensionless, of any norm: nothing is normalised.
        v: in units of the state.
        beta: dimensionless. With |k| = 1, the gain along k is 1 - beta: beta 0 keeps
            the stored value, 1 replaces it, 2 reflects it. Above 2 / |k|^2, the state may grow.
        initial: the state before step 0; zero if None.
        chunk: steps per triangular system, at least 1.

    Half-precision tensors are converted to float32, also inside torch.autocast, and results are
    float32.

    Returns:
        ["B T M"], the reads, and ["B N M"], the state after the last step.

    Raises:
        ValueError: a shape is not as above, T is 0, a tensor is not real, dtypes or devices
            differ, or chunk is below 1.

    Cost: about (N + M) (chunk / 2 + 2 N) multiply-adds per step, and T / chunk sequential rounds.
    Substitution is stable for repeated keys: with beta |k|^2 in [0, 2] the entries of
    (I + L)^-1 diag(beta) are at most 4 / (|k[i]| |k[j]|), however similar the keys are.
    Source: Yang et al. 2024, Parallelizing linear transformers with the delta rule over sequence
    length, section 3 (the WY form of a chunk); Bischof & Van Loan 1987 (products of reflections).
    """
    q, k, v, beta, state = _checked(q, k, v, beta, initial)
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 step, got {chunk}")
    with uncast(v):
        reads, state = _in_chunks(q, k, v, beta, state, min(chunk, q.shape[1]))
    return reads[:, : q.shape[1]], state


def _in_chunks(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Reads, including those of the padding of the last chunk, and the state after all steps."""
    # The zeros that fill up the last chunk are steps without effect.
    q, k, v, beta = (cut(part, size) for part in (q, k, v, beta[..., None]))
    keys, values = _corrections(k, v, beta)
    scores = (q @ k.mT).tril()
    reads = []
    for c in range(q.shape[1]):
        corrections = values[:, c] - keys[:, c] @ state
        reads.append(q[:, c] @ state + scores[:, c] @ corrections)
        state = state + k[:, c].mT @ corrections
    return torch.cat(reads, dim=1), state


def delta_rule_sequential(
    q: Float[Tensor, "B T N"],
    k: Float[Tensor, "B T N"],
    v: Float[Tensor, "B T M"],
    beta: Float[Tensor, "B T"],
    initial: Float[Tensor, "B N M"] | None = None,
) -> tuple[Float[Tensor, "B T M"], Float[Tensor, "B N M"]]:
    """The definition of `delta_rule`, step by step, which every other form must equal."""
    q, k, v, beta, state = _checked(q, k, v, beta, initial)
    reads = []
    for t in range(q.shape[1]):
        stored = (k[:, t, :, None] * state).sum(-2)
        correction = beta[:, t, None] * (v[:, t] - stored)
        state = state + k[:, t, :, None] * correction[:, None]
        reads.append((q[:, t, :, None] * state).sum(-2))
    return torch.stack(reads, dim=1), state


def routed_reflection(
    A: Float64[Tensor, "N N"],
) -> tuple[Float64[Tensor, "N N"], Float64[Tensor, "N"], float]:
    """P, k and beta with A = (I - beta k k^T) P: a permutation, then a reflection or nothing.

    Args:
        A: orthogonal, N up to about 6, because all permutations are tried.

    Returns:
        P ["N N"]; k ["N"] of norm 1; and beta, which is 0.0 if A = P and 2.0 otherwise.

    Raises:
        ValueError: A is not a permutation followed by at most one reflection.
    """
    N = len(A)
    eye = torch.eye(N, dtype=A.dtype)
    for order in permutations(range(N)):
        P = eye[list(order)]
        moved = eye - A @ P.mT  # 2 k k^T, if A P^T is a reflection
        k = moved[:, moved.diagonal().argmax()]
        if moved.abs().max() < 1e-9:
            return P, eye[0], 0.0
        k = k / k.norm()
        if (moved - 2 * torch.outer(k, k)).abs().max() < 1e-9:
            return P, k, 2.0
    raise ValueError(f"no permutation of {N} rows and one reflection give {A.tolist()}")


def _corrections(k: Tensor, v: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """(I + L)^-1 diag(beta) K and (I + L)^-1 diag(beta) V, for every chunk."""
    below = (beta * (k @ k.mT)).tril(-1)
    right = beta * torch.cat([k, v], dim=-1)
    # The solver takes the diagonal to be 1, whatever its entries are.
    solved = torch.linalg.solve_triangular(below, right, upper=False, unitriangular=True)
    keys, values = solved.split([k.shape[-1], v.shape[-1]], dim=-1)
    return keys, values


def _checked(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Check all arguments; an initial state of None is replaced by zeros."""
    shapes = ", ".join(
        f"{name} {tuple(part.shape)}"
        for name, part in {"q": q, "k": k, "v": v, "beta": beta}.items()
    )
    if k.ndim != 3 or v.ndim != 3 or k.shape[1] == 0:
        raise ValueError(f"{shapes}: k must be (B, T, N) and v (B, T, M) with T > 0")
    (B, T, N), M = k.shape, v.shape[2]
    if q.shape != k.shape or v.shape[:2] != (B, T) or beta.shape != (B, T):
        raise ValueError(f"{shapes} do not match: q must be as k, v {(B, T, M)}, beta {(B, T)}")
    state = v.new_zeros(B, N, M) if initial is None else initial
    if state.shape != (B, N, M):
        raise ValueError(f"initial must be {(B, N, M)}, got {tuple(state.shape)}")
    parts = (q, k, v, beta, state)
    if autocasts(v):
        parts = (wide(q), wide(k), wide(v), wide(beta), wide(state))
    for what in ("dtype", "device"):
        kinds = [getattr(part, what) for part in parts]
        if len(set(kinds)) > 1:
            raise ValueError(f"{what}s differ: q, k, v, beta, initial are {kinds}")
    if not v.is_floating_point():
        raise ValueError(f"all must be real floating-point numbers, got {v.dtype}")
    return wide(q), wide(k), wide(v), wide(beta), wide(state)
