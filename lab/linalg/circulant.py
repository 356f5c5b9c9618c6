"""Circulant and block-circulant matrices, and the real Fourier coordinates that diagonalise them.

A real circulant matrix of size n has a conjugate-symmetric spectrum. Half of it determines the
rest: n // 2 + 1 complex numbers, of which the first (the mean) and, for even n, the last (the
alternating sum) are real. Together these are n real numbers, which `to_modes` returns.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Inexact
from torch import Tensor

from lab.linalg.precision import uncast, wide, widened
from lab.linalg.structure import Structured, solved


def circulant(column: Inexact[Tensor, "... n"]) -> Inexact[Tensor, "... n n"]:
    """["... n n"] from its first column ["... n"]: entry (i, j) is column[(i - j) mod n].

    This is the definition, with which `circulant_product` must agree.
    """
    n = column.shape[-1]
    index = torch.arange(n, device=column.device)
    return column[..., (index[:, None] - index) % n]


def circulant_product(
    column: Float[Tensor, "... n"], h: Float[Tensor, "... n"]
) -> Float[Tensor, "... n"]:
    """`circulant(column) @ h` for Float["... n"] both, in O(n log n): a cyclic convolution.

    Raises:
        ValueError: the two differ in n.
    """
    n = h.shape[-1]
    if column.shape[-1] != n:
        raise ValueError(f"column {tuple(column.shape)} and h {tuple(h.shape)} must share n")
    return _irfft(_rfft(column) * _rfft(h), n)


def frequencies(column: Float[Tensor, "... n"]) -> Complex[Tensor, "... n//2+1"]:
    """Eigenvalues of the circulant of Float["... n"], the independent half.

    The other eigenvalues are the conjugates, in reverse order, of those between the two ends. The
    largest modulus is the 2-norm of the matrix, because circulant matrices are normal.
    """
    return _rfft(column)


def from_frequencies(spectrum: Complex[Tensor, "... f"], n: int) -> Float[Tensor, "... n"]:
    """The first column of the real circulant with these Complex["... n//2+1"].

    Imaginary parts at the real frequencies are ignored, because no real matrix has them.

    Raises:
        ValueError: the spectrum does not have n // 2 + 1 entries.
    """
    _check_half(spectrum.shape[-1], n, "spectrum")
    return _irfft(spectrum, n)


def is_complex_frequency(n: int) -> Bool[Tensor, "f"]:
    """False at the frequencies at which a real signal has a real coefficient."""
    index = torch.arange(n // 2 + 1)
    return (index > 0) & (2 * index < n)


def block_circulant(blocks: Inexact[Tensor, "... k p p"]) -> Inexact[Tensor, "... k*p k*p"]:
    """["... k*p k*p"] from its first column of blocks ["... k p p"], entries (out, in).

    Block (i, j) is blocks[(i - j) mod k]. This is the definition of `block_circulant_product`.
    """
    k, p = blocks.shape[-3], blocks.shape[-1]
    index = torch.arange(k, device=blocks.device)
    tiles = blocks[..., (index[:, None] - index) % k, :, :]  # (..., k out, k in, p out, p in)
    return tiles.transpose(-3, -2).reshape(*blocks.shape[:-3], k * p, k * p)


@widened
def block_circulant_product(
    blocks: Float[Tensor, "... k p p"], h: Float[Tensor, "... k*p"]
) -> Float[Tensor, "... k*p"]:
    """`block_circulant(blocks) @ h`: one p x p product per frequency, h Float["... k*p"].

    Raises:
        ValueError: the last axis of h does not have k p entries.
    """
    k, p = blocks.shape[-3], blocks.shape[-1]
    if h.shape[-1] != k * p:
        raise ValueError(f"h {tuple(h.shape)} must end in {k} blocks of {p}")
    moved = torch.einsum("...fij,...fj->...fi", block_frequencies(blocks), block_fourier(h, p))
    return block_space(moved, k)


def block_frequencies(blocks: Float[Tensor, "... k p p"]) -> Complex[Tensor, "... k//2+1 p p"]:
    """The matrices of Float["... k p p"], one per frequency.

    A block-circulant matrix is block-diagonal in the Fourier basis over its k blocks, with diagonal
    blocks that need not commute. The largest of their 2-norms is the 2-norm of the whole matrix.
    """
    return _rfft(blocks, -3)


def from_block_frequencies(
    spectrum: Complex[Tensor, "... f p p"], k: int
) -> Float[Tensor, "... k p p"]:
    """The first column of blocks with these Complex["... k//2+1 p p"].

    Raises:
        ValueError: the spectrum does not have k // 2 + 1 entries.
    """
    _check_half(spectrum.shape[-3], k, "spectrum")
    return _irfft(spectrum, k, -3)


def fourier(h: Float[Tensor, "... n"]) -> Complex[Tensor, "... n//2+1"]:
    """Half of the unitary Fourier transform of Float["... n"]."""
    return _rfft(h, norm="ortho")


def space(spectrum: Complex[Tensor, "... f"], n: int) -> Float[Tensor, "... n"]:
    """The inverse of `fourier`."""
    return _irfft(spectrum, n, norm="ortho")


def block_fourier(h: Float[Tensor, "... N"], p: int) -> Complex[Tensor, "... f p"]:
    """Unitary Fourier transform over the k blocks of Float["... k*p"]."""
    return _rfft(h.unflatten(-1, (h.shape[-1] // p, p)), -2, "ortho")


def block_space(spectrum: Complex[Tensor, "... f p"], k: int) -> Float[Tensor, "... N"]:
    """The inverse of `block_fourier`."""
    return _irfft(spectrum, k, -2, "ortho").flatten(-2)


def to_modes(spectrum: Complex[Tensor, "... f"], n: int) -> Float[Tensor, "... n"]:
    """The real coordinates of a half spectrum, real ends once and pairs (Re, Im).

    Pairs are multiplied by the square root of 2, because the conjugate is not listed. Therefore
    `to_modes(fourier(h), n)` has the norm of h: it is the real Fourier transform, an orthogonal
    map.
    """
    _check_half(spectrum.shape[-1], n, "spectrum")
    pairs = torch.view_as_real(spectrum[..., 1 : (n + 1) // 2]).flatten(-2) * math.sqrt(2)
    ends = [spectrum[..., :1].real, pairs]
    if n % 2 == 0:
        ends.append(spectrum[..., -1:].real)
    return torch.cat(ends, dim=-1)


def from_modes(modes: Float[Tensor, "... n"]) -> Complex[Tensor, "... n//2+1"]:
    """Complex["... n//2+1"] from Float["... n"]: the inverse of `to_modes`."""
    modes, n = wide(modes), modes.shape[-1]
    zero = torch.zeros_like(modes[..., :1])
    pairs = modes[..., 1 : n - 1 + n % 2] / math.sqrt(2)
    parts = [modes[..., :1], zero, pairs]
    if n % 2 == 0:
        parts += [modes[..., -1:], zero]
    return torch.view_as_complex(torch.cat(parts, dim=-1).unflatten(-1, (-1, 2)))


def real_fourier(n: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "n n"]:
    """The orthogonal matrix of h -> to_modes(fourier(h)).

    For a circulant A, real_fourier(n) @ A @ real_fourier(n).mT is block-diagonal, with the real
    eigenvalues and 2 x 2 blocks of scaled rotations.
    """
    return to_modes(fourier(torch.eye(n, dtype=dtype)), n).mT


@dataclass(frozen=True)
class CirculantMatrix(Structured):
    """The matrix `circulant(column)`, applied and inverted by Fourier transforms.

    Args:
        column: its first column, n > 0.

    Raises:
        ValueError: there is no column, or it is complex.
    """

    column: Float[Tensor, "... n"]

    def __post_init__(self) -> None:
        _check_real("column", self.column, own=1)
        object.__setattr__(self, "column", wide(self.column))

    @property
    def numbers(self) -> int:
        """n."""
        return self.column.shape[-1]

    @property
    def multiplications(self) -> int:
        """n // 2 + 1, of complex numbers."""
        return self.numbers // 2 + 1

    @property
    def transforms(self) -> int:
        """3, of n numbers: of the column, of the vector, and back."""
        return 3

    @property
    def mT(self) -> "CirculantMatrix":
        """The transpose."""
        return CirculantMatrix(self.column.flip(-1).roll(1, -1))

    def to_dense(self) -> Float[Tensor, "... n n"]:
        """`circulant`."""
        return circulant(self.column)

    @widened
    def __matmul__(self, x: Float[Tensor, "... n k"]) -> Float[Tensor, "... n k"]:
        """`circulant_product`."""
        return circulant_product(self.column[..., None, :], x.mT).mT

    def after(self, earlier: "CirculantMatrix") -> "CirculantMatrix":
        """The product self @ earlier, a circulant again; the order does not matter."""
        return CirculantMatrix(circulant_product(self.column, earlier.column))

    @widened
    def solve(self, x: Float[Tensor, "... n k"]) -> Float[Tensor, "... n k"]:
        """The inverse times x: a division by the eigenvalues, which are the `frequencies`.

        Raises:
            ValueError: a frequency is exactly 0, and there is no inverse.
        """
        spectrum = frequencies(self.column)
        if (spectrum == 0).any():
            at = (spectrum == 0).nonzero()[0].tolist()
            raise ValueError(
                f"frequency {at} is 0, and there is no inverse; a larger column[0] moves all of "
                "them away from 0"
            )
        return space(fourier(x.mT) / spectrum[..., None, :], self.numbers).mT


@dataclass(frozen=True)
class BlockCirculantMatrix(Structured):
    """The matrix `block_circulant(blocks)`, block-diagonal in the Fourier basis over its blocks.

    Args:
        blocks: its first column of k > 0 blocks.

    Raises:
        ValueError: there are no square blocks, or they are complex.
    """

    blocks: Float[Tensor, "... k p p"]

    def __post_init__(self) -> None:
        _check_real("blocks", self.blocks, own=3)
        object.__setattr__(self, "blocks", wide(self.blocks))

    @property
    def numbers(self) -> int:
        """k p^2."""
        return self.blocks.shape[-3:].numel()

    @property
    def multiplications(self) -> int:
        """(k // 2 + 1) p^2, of complex numbers."""
        k, p = self.blocks.shape[-3:-1]
        return (k // 2 + 1) * p**2

    @property
    def transforms(self) -> int:
        """p^2 + 2 p, of k numbers: of the blocks, of the vector, and back."""
        p = self.blocks.shape[-1]
        return p**2 + 2 * p

    @property
    def mT(self) -> "BlockCirculantMatrix":
        """The transpose."""
        return BlockCirculantMatrix(self.blocks.mT.flip(-3).roll(1, -3))

    def to_dense(self) -> Float[Tensor, "... n n"]:
        """`block_circulant`."""
        return block_circulant(self.blocks)

    @widened
    def __matmul__(self, x: Float[Tensor, "... n k"]) -> Float[Tensor, "... n k"]:
        """`block_circulant_product`."""
        return block_circulant_product(self.blocks[..., None, :, :, :], x.mT).mT

    def after(self, earlier: "BlockCirculantMatrix") -> "BlockCirculantMatrix":
        """The product self @ earlier, which is block-circulant again."""
        with uncast(self.blocks):
            spectrum = block_frequencies(self.blocks) @ block_frequencies(earlier.blocks)
        return BlockCirculantMatrix(from_block_frequencies(spectrum, self.blocks.shape[-3]))

    @widened
    def solve(self, x: Float[Tensor, "... n k"]) -> Float[Tensor, "... n k"]:
        """The inverse times x: one complex p x p system for every frequency."""
        k, p = self.blocks.shape[-3:-1]
        right = block_fourier(x.mT, p).movedim(-3, -1)  # (..., f, p, columns)
        return block_space(solved(block_frequencies(self.blocks), right).movedim(-1, -3), k).mT


# torch's Fourier transforms refuse an empty batch, for which an empty array that depends on the
# input is returned. In half precision they support only powers of two, and nothing on a CPU.
def _rfft(x: Tensor, dim: int = -1, norm: str = "backward") -> Tensor:
    x = wide(x)
    if x.numel():
        return torch.fft.rfft(x, dim=dim, norm=norm)
    return x.to(x.dtype.to_complex()).narrow(dim, 0, x.shape[dim] // 2 + 1)


def _irfft(spectrum: Tensor, n: int, dim: int = -1, norm: str = "backward") -> Tensor:
    spectrum = wide(spectrum)
    if spectrum.numel():
        return torch.fft.irfft(spectrum, n, dim=dim, norm=norm)
    return spectrum.real.sum(dim, keepdim=True).repeat_interleave(n, dim)


def _check_real(name: str, part: Tensor, own: int) -> None:
    shape = part.shape[-own:]
    if len(shape) < own or 0 in shape or (own == 3 and shape[1] != shape[2]):
        expected = "(..., n)" if own == 1 else "(..., k, p, p)"
        raise ValueError(f"{name} {tuple(part.shape)} must be {expected}, and none of these 0")
    if part.is_complex():
        raise ValueError(f"{name} is {part.dtype}; only real numbers have half a spectrum")


def _check_half(half: int, n: int, name: str) -> None:
    if n < 1 or half != n // 2 + 1:
        raise ValueError(f"{name} has {half} frequencies, a real signal of {n} has {n // 2 + 1}")
