"""Matrix products as tensor cores form them: low-precision factors, sums in single precision."""

from collections.abc import Callable

import torch
from jaxtyping import Inexact
from torch import Tensor

Product = Callable[[Tensor, Tensor], Tensor]


def rounded(x: Inexact[Tensor, "*shape"], dtype: torch.dtype) -> Inexact[Tensor, "*shape"]:
    """x rounded to the nearest number of another dtype, real and imaginary part by themselves.

    The result has the dtype of x: there are no complex tensors of bfloat16.
    """
    if x.is_complex():
        return torch.complex(rounded(x.real, dtype), rounded(x.imag, dtype))
    return x.to(dtype).to(x.dtype)


def product_in(dtype: torch.dtype) -> Product:
    """A matrix product whose factors and result are rounded, and whose sums are not.

    Args:
        dtype: that of the factors and of the result, such as torch.bfloat16.

    Returns:
        A function of two matrices of float32 or wider, which returns the dtype of these.
    """

    def product(one: Tensor, other: Tensor) -> Tensor:
        return rounded(rounded(one, dtype) @ rounded(other, dtype), dtype)

    return product
