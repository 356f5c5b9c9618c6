"""Permutation matrices: the nearest one, and matrices that stand for one in training.

P ["n n"] has the axes [row, column]; column j of P h goes to the row where P[., j] is 1. There are
three ways to train what chooses P:

- a hard choice with the gradient of a soft one (`hard_columns`, `hard_permutation`), after Gumbel
  noise if other choices are to be tried (`gumbel`);
- doubly stochastic matrices (`sinkhorn`), which shorten what they multiply;
- orthogonal matrices (`orthogonal_permutation`), which keep its length.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from lab.linalg.monarch import cayley, expm, skew
from lab.linalg.precision import widened


def as_matrix(target: Int64[Tensor, "... n"], dtype: torch.dtype) -> Float[Tensor, "... n n"]:
    """The matrix with P[target[j], j] = 1: the entries of h go to the rows in `target`."""
    return one_hot(target, target.shape[-1]).mT.to(dtype)


def assignment(scores: Float[Tensor, "... n n"]) -> Int64[Tensor, "... n"]:
    """The permutation with the largest sum of scores: a row for every column.

    Exact, unlike a choice row after row. Not differentiable.

    Raises:
        ValueError: a score is not finite.

    Cost: n^3 for each matrix, one after another, on the CPU.
    Source: Crouse 2016, On implementing 2D rectangular assignment algorithms (scipy).
    """
    return _assignment(scores.detach())


@torch.library.custom_op("lab::assignment", mutates_args=())
def _assignment(scores: Tensor) -> Tensor:
    """`assignment` as an operator, so that torch.vmap and torch.compile know what it returns."""
    from scipy.optimize import linear_sum_assignment

    if not scores.isfinite().all():
        raise ValueError("scores must be finite")
    each = scores.mT.flatten(0, -3) if scores.ndim > 2 else scores.mT[None]
    found = [linear_sum_assignment(s, maximize=True)[1] for s in each.double().cpu().numpy()]
    rows = torch.tensor([list(map(int, row)) for row in found], dtype=torch.int64)
    return rows.view(scores.shape[:-1]).to(scores.device)


@_assignment.register_fake
def _(scores: Tensor) -> Tensor:
    return scores.new_empty(scores.shape[:-1], dtype=torch.int64)


@_assignment.register_vmap
def _(_info: Any, in_dims: tuple[int | None], scores: Tensor) -> tuple[Tensor, int]:
    return _assignment(scores.movedim(in_dims[0] or 0, 0)), 0


def nearest_permutation(scores: Float[Tensor, "... n n"]) -> Float[Tensor, "... n n"]:
    """The permutation matrix nearest to a matrix in the Frobenius norm: that of `assignment`."""
    return as_matrix(assignment(scores), scores.dtype)


# --- hard choices --------------------------------------------------------------------------------


def straight_through(
    hard: Float[Tensor, "... n"], soft: Float[Tensor, "... n"]
) -> Float[Tensor, "... n"]:
    """Exactly the values of `hard`, with the gradient of `soft`.

    Source: Bengio et al. 2013, Estimating or propagating gradients through stochastic neurons for
    conditional computation.
    """
    return hard.detach() + (soft - soft.detach())


@widened
def hard_choice(logits: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """Exactly 1 at the largest logit, the first of equal ones, with the gradient of the softmax."""
    places = torch.arange(logits.shape[-1], device=logits.device)
    # `argmax` takes five times as long where the axis is not the last one in memory.
    hard = (places == logits.max(-1, keepdim=True).indices).to(logits.dtype)
    return straight_through(hard, logits.softmax(-1))


def hard_columns(logits: Float[Tensor, "... n n"]) -> Float[Tensor, "... n n"]:
    """A `hard_choice` of a row for every column: columns may collide, and are then added up."""
    return hard_choice(logits.mT).mT


def hard_permutation(soft: Float[Tensor, "... n n"]) -> Float[Tensor, "... n n"]:
    """The nearest permutation matrix, with the gradient of what it is nearest to."""
    return straight_through(nearest_permutation(soft), soft)


def gumbel(
    logits: Float[Tensor, "..."], generator: torch.Generator | None = None
) -> Float[Tensor, "..."]:
    """Logits plus Gumbel noise: the largest is at i with the probability softmax(logits)[i].

    Source: Jang et al. 2017, Categorical reparameterization with Gumbel-softmax.
    """
    drawn = torch.empty_like(logits).exponential_(generator=generator)
    return logits - drawn.clamp_min(torch.finfo(drawn.dtype).tiny).log()


# --- soft matrices -------------------------------------------------------------------------------


@widened
def sinkhorn(logits: Float[Tensor, "... b b"], rounds: int = 20) -> Float[Tensor, "... b b"]:
    """A doubly stochastic matrix: exp(logits), scaled in turns by rows and by columns.

    For logits / temperature it tends to the matrix of `assignment` as the temperature tends to
    zero, with more and more rounds. Equal logits give 1/b everywhere, a matrix of rank 1.

    Source: Sinkhorn 1964, A relationship between arbitrary positive matrices and doubly stochastic
    matrices; Mena et al. 2018, Learning latent permutations with Gumbel-Sinkhorn networks.
    """
    for _ in range(rounds):
        logits = logits.log_softmax(-1).log_softmax(-2)
    return logits.exp()


@widened
def near_permutation(
    rotation: Float[Tensor, "... n n"], temperature: float
) -> Float[Tensor, "... n n"]:
    """An orthogonal matrix between a rotation and the permutation matrix P that is nearest to it.

    With Q = P D, where D negates the last column if P is odd, so that Q is a rotation too, it is
    Q R(temperature) D, where R runs from the identity to Q^T rotation. It is P at a temperature of
    0, and the rotation times D at 1. R scales the skew matrix of the Cayley transform, and not the
    logarithm as in the source: both have the same ends, and the former has a derivative also where
    eigenvalues coincide. P counts as constant. There is no derivative where P changes, or where
    Q^T rotation has the eigenvalue -1.

    Args:
        rotation: orthogonal, of determinant 1.
        temperature: in [0, 1].

    Raises:
        ValueError: the temperature is outside.

    Source: Guo et al. 2024, OT4P: unlocking effective orthogonal group path for permutation
    relaxation.
    """
    if not 0 <= temperature <= 1:
        raise ValueError(f"temperature must be in [0, 1], got {temperature}")
    P = nearest_permutation(rotation)
    D = torch.ones_like(P[..., 0, :])
    D[..., -1] = torch.linalg.det(P).round()
    Q = P * D[..., None, :]
    return Q @ cayley(temperature * cayley(Q.mT @ rotation)) * D[..., None, :]


def orthogonal_permutation(
    entries: Float[Tensor, "... E"], n: int, temperature: float
) -> Float[Tensor, "... n n"]:
    """`near_permutation` of the rotation exp(S), S skew with these n (n - 1) / 2 entries.

    Raises:
        ValueError: the number of entries is wrong, or the temperature is not in [0, 1].
    """
    return near_permutation(expm(skew(entries, n)), temperature)
