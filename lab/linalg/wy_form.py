"""The WY form of the delta rule: what a chunk of steps does to the state, in matrix products."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from lab.linalg.triangular_inverse import solve_by_substitution

Solve = Callable[[Tensor, Tensor], Tensor]


def wy_form(
    k: Tensor, v: Tensor, beta: Tensor, solve: Solve = solve_by_substitution
) -> tuple[Tensor, Tensor]:
    """W and U of a chunk: S -> S + K^T (U - W S) is what its steps do to any state S.

    Without values, the product of the steps' matrices I - beta[t] k[t] k[t]^T is I - K^T W. The
    factors are (I + L)^-1 diag(beta) K and (I + L)^-1 diag(beta) V, where L is the part of
    diag(beta) K K^T below the diagonal; neither depends on the state.

    Args:
        k: Float["... C N"], the keys of a chunk, dimensionless.
        v: Float["... C M"], its values, in units of the state.
        beta: Float["... C"], dimensionless.
        solve: called with L ["... C C"] and R ["... C N+M"], returns (I + L)^-1 R.

    Returns:
        W ["... C N"] and U ["... C M"].

    Source: Yang et al. 2024, Parallelizing linear transformers with the delta rule over sequence
    length, section 3; Joffrain et al. 2006, Accumulating Householder transformations, revisited.
    """
    scaled = beta[..., None] * torch.cat([k, v], dim=-1)
    below = (beta[..., None] * (k @ k.mT)).tril(-1)
    keys, values = solve(below, scaled).split([k.shape[-1], v.shape[-1]], dim=-1)
    return keys, values


def delta_rule_by(
    solve: Solve, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, initial: Tensor | None = None, *,
    chunk: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`lab.linalg.delta_rule` with any triangular solve, so that solves can be compared.

    Args:
        solve: as for `wy_form`.
        q, k: Float["B T N"], dimensionless.
        v: Float["B T M"], in units of the state.
        beta: Float["B T"], dimensionless.
        initial: Float["B N M"], the state before step 0; zero if None.
        chunk: steps of a chunk, at least 1; the last chunk is filled up with steps that do nothing.

    Returns:
        ["B T M"], the reads, and ["B N M"], the state after the last step.

    Raises:
        ValueError: chunk is below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 step, got {chunk}")
    T, count = k.shape[1], -(-k.shape[1] // chunk)
    missing = count * chunk - T
    q, k, v = (pad(x, (0, 0, 0, missing)).unflatten(1, (count, chunk)) for x in (q, k, v))
    W, U = wy_form(k, v, pad(beta, (0, missing)).unflatten(1, (count, chunk)), solve)
    scores = (q @ k.mT).tril()
    state = v.new_zeros(len(v), k.shape[-1], v.shape[-1]) if initial is None else initial
    reads = []
    for c in range(count):
        corrections = U[:, c] - W[:, c] @ state
        reads.append(q[:, c] @ state + scores[:, c] @ corrections)
        state = state + k[:, c].mT @ corrections
    return torch.cat(reads, dim=1)[:, :T], state
