"""Models with weights set by hand, which prove that a class of models contains a solution."""

import math

import torch
from torch import Tensor

from lab.linalg import routed_reflection
from lab.mixers import DeltaNet
from lab.mixers.delta_net import prescribe
from lab.model import SequenceModel
from lab.seeding import stream
from lab.tasks import WordProblem

DOUBLE = torch.float64


def plane(corners: int) -> Tensor:
    """Float64["2 corners"]: the plane in which a dihedral group moves the corners of a polygon."""
    angles = 2 * math.pi / corners * torch.arange(corners, dtype=DOUBLE)
    return math.sqrt(2 / corners) * torch.stack([angles.cos(), angles.sin()])


def simplex(points: int) -> Tensor:
    """Float64["n-1 n"]: what S_n moves beside the sum of n points, with axes that S_(n-1) swaps.

    Row j is e_j plus the same for all: a for every point but the last, -1 - (n - 1) a for that.
    That rows are orthogonal makes n (n - 1) a^2 + 2 n a + 1 = 0.
    """
    n = points
    a = (-1 + 1 / math.sqrt(n)) / (n - 1)
    basis = torch.full((n - 1, n), a, dtype=DOUBLE)
    basis[:, : n - 1] += torch.eye(n - 1, dtype=DOUBLE)
    basis[:, -1] = -1 - (n - 1) * a
    return basis


def signs(blocks: int) -> Tensor:
    """Float64["n 2n"]: the difference within each of n pairs of points, as Z2 wr Z_n moves them."""
    difference = torch.tensor([[1.0, -1.0]], dtype=DOUBLE) / math.sqrt(2)
    return torch.kron(torch.eye(blocks, dtype=DOUBLE), difference)


def representation(task: WordProblem, basis: Tensor) -> Tensor:
    """Float64["n N N"]: the permutation matrices of the group, restricted to rows of `basis`.

    Args:
        task: whose group it is.
        basis: Float64["N points"], orthonormal, of a subspace that the group keeps.
    """
    return basis @ task.group.matrices @ basis.mT


def word_problem_solver(task: WordProblem, basis: Tensor) -> SequenceModel:
    """A DeltaNet of one head, routed and with gains down to -1, that is right at every length.

    Token x is A(x) = rho(x)^T, so that the state, which starts as I, is A(x_t) ... A(x_1) =
    rho(x_1 ... x_t)^T. The read S^T q is rho(g_t) q, and the scores are its products with all
    rho(g) q: for a q that only the identity leaves, the largest is that of g_t.

    Args:
        task: of side "right".
        basis: Float64["N points"], orthonormal, of a subspace on which the group acts faithfully.

    Raises:
        ValueError: a token is not a permutation of the rows and one reflection.
    """
    rho, N, V = representation(task, basis), len(basis), task.vocabulary
    steps = [routed_reflection(rho[element].mT) for element in task.alphabet]
    q = torch.randn(N, dtype=DOUBLE, generator=stream(0, "query"))
    mixer = DeltaNet(V + N, heads=1, d_key=N, negative=True, routing="permutations", dtype=DOUBLE)
    prescribe(
        mixer,
        q=q[None],
        routing=torch.stack([P for P, _, _ in steps])[:, None],
        k=torch.stack([k for _, k, _ in steps])[:, None],
        beta=torch.tensor([[beta] for _, _, beta in steps], dtype=DOUBLE),
    )
    model = SequenceModel(V, task.classes, V + N, [mixer]).double()
    with torch.no_grad():
        # Tokens in the first V places, reads in the last N.
        model.embedding.copy_(torch.eye(V, V + N))
        mixer.out.weight.copy_(torch.eye(V + N).flip(0)[:N].flip(0).mT)
        mixer.out.bias.zero_()
        model.head.weight.zero_()
        model.head.weight[:, V:] = rho @ (q / q.norm())
        model.head.bias.zero_()
    return model
