"""Cauchy-like matrices of low displacement rank: kernels, products, truncation.

For distinct nodes s and S = diag(s), the displacement of A is S A - A S, with the entries
(s[i] - s[j]) A[i, j]. It determines all of A except the diagonal. A is therefore given by its
diagonal and two generators with S A - A S = G H^T, whose common width is the displacement rank.

Source: Kailath, Kung & Morf 1979, Displacement ranks of matrices and linear equations; Pan 2001,
Structured Matrices and Polynomials, section 3.6 (Cauchy-like matrices).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex128, Float, Float64, Inexact, Int64
from torch import Tensor

from lab.linalg.precision import uncast, wide, widened
from lab.linalg.structure import Structured, beside, with_one_batch

DOUBLE = torch.float64

# --- nodes and kernels ---------------------------------------------------------------------------


def chebyshev_nodes(n: int) -> Float64[Tensor, "n"]:
    """cos(pi (2i - 1) / (2n)), the zeros of the Chebyshev polynomial T_n, falling."""
    return torch.cos(_angles(n))


def uniform_nodes(n: int) -> Float64[Tensor, "n"]:
    """From -1 to 1 in equal steps."""
    return torch.linspace(-1, 1, n, dtype=DOUBLE)


def roots_of_unity(n: int, turn: float = 0.0) -> Complex128[Tensor, "n"]:
    """exp(2 pi i (k + turn) / n), k from 0."""
    return torch.polar(
        torch.ones(n, dtype=DOUBLE), 2 * torch.pi * (torch.arange(n, dtype=DOUBLE) + turn) / n
    )


def cauchy_kernel(nodes: Inexact[Tensor, "n"]) -> Inexact[Tensor, "n n"]:
    """1 / (s[i] - s[j]), and zero on the diagonal; antisymmetric.

    Raises:
        ValueError: two nodes are equal, or `nodes` is not one-dimensional.
    """
    if nodes.ndim != 1:
        raise ValueError(f"nodes must be one list (n,), got {tuple(nodes.shape)}")
    diagonal = torch.eye(len(nodes), dtype=nodes.dtype, device=nodes.device)
    differences = nodes[:, None] - nodes + diagonal
    if (differences == 0).any():
        raise ValueError("nodes must be distinct: the kernel divides by their differences")
    return 1 / differences - diagonal


def stein_kernel(n: int) -> Complex128[Tensor, "n n"]:
    """1 / (1 - z[i] conj(w[j])) for interleaved n-th roots, n/2 times unitary.

    Matrices built with it have a low rank of A - Z A W^H, with two different sets of nodes. Their
    products do not.
    """
    return 1 / (1 - roots_of_unity(n)[:, None] * roots_of_unity(n, 0.5).conj())


def random_kernel(n: int, *, generator: torch.Generator) -> Float64[Tensor, "n n"]:
    """An antisymmetric matrix of normal numbers, divided by its spectral norm.

    In the place of a Cauchy kernel, it is a control: A = diag(d) + K * (G H^T) then has the same
    parameters, and no low displacement rank for any nodes.
    """
    drawn = torch.randn(n, n, generator=generator, dtype=DOUBLE)
    return unit_kernel(drawn - drawn.mT)


def unit_kernel(kernel: Inexact[Tensor, "n n"]) -> Inexact[Tensor, "n n"]:
    """The kernel divided by its spectral norm: |K * X| is at most the largest row norm of X."""
    return kernel / torch.linalg.matrix_norm(kernel, ord=2)


def balanced_kernel(kernel: Inexact[Tensor, "n n"]) -> Inexact[Tensor, "n n"]:
    """K[i, j] / sqrt(r[i] r[j]), r the largest entry of a row, divided by its spectral norm.

    This scales the kernel by a diagonal matrix on both sides, which keeps displacement ranks.
    """
    largest = kernel.abs().amax(-1).sqrt()
    return unit_kernel(kernel / largest[:, None] / largest)


# --- the displacement ----------------------------------------------------------------------------


def displacement(
    A: Inexact[Tensor, "... n n"], nodes: Inexact[Tensor, "n"]
) -> Inexact[Tensor, "... n n"]:
    """S A - A S, entry by entry, for A ["... n n"] and nodes ["n"]."""
    return (nodes[:, None] - nodes) * A


def displacement_rank(
    A: Inexact[Tensor, "... n n"], nodes: Inexact[Tensor, "n"], *, tolerance: float = 1e-9
) -> Int64[Tensor, "..."]:
    """How many singular values of the displacement exceed `tolerance` * largest."""
    values = torch.linalg.svdvals(displacement(A, nodes))
    return (values > tolerance * values[..., :1]).sum(-1)


def zero_diagonal(
    G: Float[Tensor, "... n r"], H: Float[Tensor, "... n r"]
) -> Float[Tensor, "... n r"]:
    """H ["... n r"] with every row made orthogonal to the same row of G, so diag(G H^T) is zero.

    This is necessary for G H^T to be a displacement, because the diagonal of S A - A S is zero for
    every A. With r = 1, a row of H becomes zero wherever the same row of G is not zero.
    """
    size = G.square().sum(-1, keepdim=True)
    share = (G * H).sum(-1, keepdim=True) / size.clamp_min(torch.finfo(G.dtype).tiny)
    return H - share * G


# --- matrices by their generators ----------------------------------------------------------------


@dataclass(frozen=True)
class CauchyLike(Structured):
    """The n x n matrix diag(d) + K * (G H^T), with K the Cauchy kernel of the nodes.

    Its displacement is G H^T without its diagonal, so its rank is at most r only if that diagonal
    is zero.

    There is no `solve`. Elimination on generators, at n^2 r, takes pivots from the diagonal alone
    where rows and columns have the same nodes (Kailath & Olshevsky 1997, Diagonal pivoting for
    partially reconstructible Cauchy-like matrices), and these may be 0 in an invertible matrix.
    torch.linalg.solve(A.to_dense(), x), at n^3, chooses its pivots freely.

    Args:
        nodes: Float["n"], distinct, the same for a whole batch.
        diagonal: Float["... n"].
        G, H: Float["... n r"]; r may be 0.

    Raises:
        ValueError: a shape is not as above.
    """

    nodes: Float[Tensor, "n"]
    diagonal: Float[Tensor, "... n"]
    G: Float[Tensor, "... n r"]
    H: Float[Tensor, "... n r"]

    def __post_init__(self) -> None:
        n, (one, two) = len(self.nodes), (self.G.shape[-2:], self.H.shape[-2:])
        if self.diagonal.shape[-1:] != (n,) or one != two or one[:-1] != (n,):
            shapes = [tuple(part.shape) for part in (self.diagonal, self.G, self.H)]
            raise ValueError(f"diagonal, G, H are {shapes}; {n} nodes ask for ({n},), 2 x ({n}, r)")
        parts = with_one_batch((self.diagonal, 1), (self.G, 2), (self.H, 2))
        object.__setattr__(self, "nodes", wide(self.nodes))
        for name, part in zip(("diagonal", "G", "H"), parts, strict=True):
            object.__setattr__(self, name, part)

    @classmethod
    def from_dense(
        cls, A: Float[Tensor, "n n"], nodes: Float[Tensor, "n"], rank: int
    ) -> "CauchyLike":
        """A ["n n"] by generators of width `rank`; exact if its displacement has that rank."""
        U, values, V = torch.linalg.svd(displacement(A, nodes))
        root = values[:rank].sqrt()
        return cls(nodes, A.diagonal(), U[:, :rank] * root, V[:rank].mT * root)

    @property
    def rank(self) -> int:
        """Number of columns of G; at least the displacement rank, if diag(G H^T) is zero."""
        return self.G.shape[-1]

    @property
    def numbers(self) -> int:
        """2 n (1 + r): nodes, diagonal and generators."""
        return 2 * len(self.nodes) * (1 + self.rank)

    @property
    def multiplications(self) -> int:
        """n (1 + 2 r + n r), for r above 1 more than the n^2 of the dense matrix.

        The kernel is made anew, by n^2 divisions.
        """
        return len(self.nodes) * (1 + 2 * self.rank + len(self.nodes) * self.rank)

    @property
    def mT(self) -> "CauchyLike":
        """The transpose; the kernel is antisymmetric."""
        return CauchyLike(self.nodes, self.diagonal, -self.H, self.G)

    def to_dense(self) -> Float[Tensor, "... n n"]:
        """The definition."""
        with uncast(self.G):
            product = self.G @ self.H.mT
        return torch.diag_embed(self.diagonal) + cauchy_kernel(self.nodes) * product

    @widened
    def __matmul__(self, x: Float[Tensor, "... n k"]) -> Float[Tensor, "... n k"]:
        """The product with x, by r products with the kernel and none with the matrix."""
        read = self.H[..., :, None] * x[..., None, :]  # (..., n, r, k)
        moved = (cauchy_kernel(self.nodes) @ read.flatten(-2)).reshape(read.shape)
        return self.diagonal[..., None] * x + (self.G[..., :, None] * moved).sum(-2)

    def after(self, earlier: "CauchyLike") -> "CauchyLike":
        """The product self @ earlier: widths add up, and the diagonal is computed exactly.

        The displacement is a derivation: D(A2 A1) = D(A2) A1 + A2 D(A1). With D(A) = G H^T this
        gives G = [G2, A2 G1] and H = [A1^T H2, H1]. The diagonal of a product is not the product of
        diagonals. Both matrices must have a zero diag(G H^T) (see `zero_diagonal`).

        Cost: n^2 (r2 + r1 + 1), from both dense matrices.

        Raises:
            ValueError: the nodes differ.
        """
        if not torch.equal(self.nodes, earlier.nodes):
            raise ValueError("both must have the same nodes: with different nodes, no rank is low")
        A2, A1 = self.to_dense(), earlier.to_dense()
        with uncast(A2):
            G, H = beside(self.G, A2 @ earlier.G), beside(A1.mT @ self.H, earlier.H)
        return CauchyLike(self.nodes, (A2 * A1.mT).sum(-1), G, H)


def random_cauchy_like(
    n: int,
    rank: int,
    *,
    scale: float = 1.0,
    proper: bool = True,
    generator: torch.Generator,
) -> CauchyLike:
    """A matrix on Chebyshev nodes with the diagonal 0.9 and random generators, in double precision.

    Args:
        n, rank: its sizes.
        scale: the Frobenius norm of G and of H before a projection, over the root of the rank.
        proper: whether diag(G H^T) is projected to zero, so that `rank` is the displacement rank.
        generator: random stream of G and H.
    """
    G, H = torch.randn(2, n, rank, generator=generator, dtype=DOUBLE)
    G, H = (scale * math.sqrt(rank) * each / torch.linalg.matrix_norm(each) for each in (G, H))
    diagonal = torch.full((n,), 0.9, dtype=DOUBLE)
    return CauchyLike(chebyshev_nodes(n), diagonal, G, zero_diagonal(G, H) if proper else H)


def compose(later: CauchyLike, earlier: CauchyLike) -> CauchyLike:
    """`later.after(earlier)`."""
    return later.after(earlier)


def truncate(A: CauchyLike, rank: int) -> CauchyLike:
    """A with generators of width `rank`: the nearest G H^T, with its diagonal then set to zero.

    The cost is two thin QR factorisations and the singular values of an r x r matrix,
    O(n r^2 + r^3). The diagonal of A is kept. Setting the diagonal of G H^T to zero preserves the
    rank, but the result is then no longer the nearest one.
    """
    if rank >= A.rank:
        return A
    G, H = nearest(A.G, A.H, rank)
    return CauchyLike(A.nodes, A.diagonal, G, zero_diagonal(G, H))


def truncation_errors(factors: Sequence[CauchyLike], rank: int) -> Float[Tensor, "products"]:
    """Relative errors of products that are truncated to a width after every factor.

    Args:
        factors: A_1 to A_k, each with a zero diag(G H^T); k is at least 2.
        rank: the width.

    Returns:
        Float["k - 1"]: for A_2 A_1, A_3 A_2 A_1 and so on, the Frobenius norm of the error over
        that of the exact product.
    """
    kept, exact, errors = factors[0], factors[0].to_dense(), []
    for factor in factors[1:]:
        kept, exact = truncate(factor.after(kept), rank), factor.to_dense() @ exact
        error = torch.linalg.matrix_norm(kept.to_dense() - exact)
        errors.append(error / torch.linalg.matrix_norm(exact))
    return torch.stack(errors)


def nearest(
    G: Float[Tensor, "n r"], H: Float[Tensor, "n r"], rank: int
) -> tuple[Float[Tensor, "n s"], Float[Tensor, "n s"]]:
    """Generators ["n rank"] of the nearest matrix of that rank to G H^T, by singular values."""
    (Q_G, R_G), (Q_H, R_H) = torch.linalg.qr(G), torch.linalg.qr(H)
    U, values, V = torch.linalg.svd(R_G @ R_H.mT)
    root = values[:rank].sqrt()
    return Q_G @ U[:, :rank] * root, Q_H @ V[:rank].mT * root


# --- products with the kernel of Chebyshev nodes -------------------------------------------------


@widened
def cauchy_product(v: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """y[i] = sum over j != i of v[j] / (s[i] - s[j]) for Chebyshev nodes s: the definition.

    Args:
        v: Float["... n"].

    Returns:
        ["... n"]. Cost: n^2.
    """
    return v @ cauchy_kernel(chebyshev_nodes(v.shape[-1])).to(v).mT


@widened
def fast_cauchy_product(v: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """`cauchy_product` by two cosine transforms: O(n log n).

    f(x) = T_n(x) sum_j v[j] / (x - s[j]) is the polynomial of degree n - 1 with the values
    v[j] T_n'(s[j]) at the nodes. Near s[i], f / T_n = v[i] / (x - s[i]) + y[i] + ..., which gives
    y[i] = f'(s[i]) / T_n'(s[i]) - v[i] T_n''(s[i]) / (2 T_n'(s[i])). One cosine transform finds the
    Chebyshev coefficients c[k] of f, and f' is a sine series of k c[k], at these nodes the cosine
    series of the reversed coefficients.

    Args:
        v: Float["... n"].

    Returns:
        ["... n"]. Precision: the kernel's largest entries grow as n^2, and so do rounding errors.
    """
    n = v.shape[-1]
    angle = _angles(n).to(v)
    sign = torch.ones_like(angle)
    sign[1::2] = -1
    coefficients = _dct(v * (sign / angle.sin()))
    slopes = coefficients * torch.arange(n, dtype=v.dtype, device=v.device)
    # k = n - m: the coefficient for m = 0 would be that of k = n, which f does not have.
    turned = torch.cat([torch.zeros_like(slopes[..., :1]), slopes[..., 1:].flip(-1)], dim=-1)
    return _inverse_dct(turned) - v * (angle.cos() / (2 * angle.sin().square()))


def _angles(n: int) -> Tensor:
    return torch.pi * (2 * torch.arange(n, dtype=DOUBLE) + 1) / (2 * n)


def _dct(x: Tensor) -> Tensor:
    """sum_j x[j] cos(k angle[j]), by one real Fourier transform of length n.

    Source: Makhoul 1980, A fast cosine transform in one and two dimensions.
    """
    n = x.shape[-1]
    folded = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)
    half = torch.fft.rfft(folded) * _twiddles(x).conj()
    # c[k] = Re, and c[n - k] = -Im of the same entry.
    return torch.cat([half.real, -half.imag[..., 1 : (n + 1) // 2].flip(-1)], dim=-1)


def _inverse_dct(c: Tensor) -> Tensor:
    """2/n (c[0] / 2 + sum_k c[k] cos(k angle[j])): the inverse of `_dct`."""
    n = c.shape[-1]
    mirrored = torch.cat([torch.zeros_like(c[..., :1]), c[..., 1:].flip(-1)], dim=-1)
    half = torch.complex(c, -mirrored)[..., : n // 2 + 1] * _twiddles(c)
    folded = torch.fft.irfft(half, n)
    x = torch.empty_like(folded)
    x[..., ::2], x[..., 1::2] = folded[..., : (n + 1) // 2], folded[..., (n + 1) // 2 :].flip(-1)
    return x


def _twiddles(x: Tensor) -> Tensor:
    """exp(i pi k / (2n)) for k up to n/2."""
    n = x.shape[-1]
    angle = torch.pi * torch.arange(n // 2 + 1, dtype=x.dtype, device=x.device) / (2 * n)
    return torch.polar(torch.ones_like(angle), angle)
