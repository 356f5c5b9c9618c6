"""Causal convolution of a sequence with a kernel."""

import torch
from jaxtyping import Float
from torch import Tensor

from lab.linalg.precision import widened

# Up to this many input steps, a sum of shifted kernels is faster than three Fourier transforms.
SHORT = 8


@widened
def causal_convolution(
    x: Float[Tensor, "B S p"], kernel: Float[Tensor, "T q p"]
) -> Float[Tensor, "B T q"]:
    """y[t] = sum over s <= t of kernel[t - s] x[s], for as many steps as the kernel has.

    The input may be shorter than the kernel. It is zero after its end, and y is then the free
    response. A single input step costs one product and no transform.

    Args:
        x: 1 <= S <= T.
        kernel: Float["T q p"].

    Returns:
        Float["B T q"].

    Raises:
        ValueError: a shape is not as above.
    """
    T = kernel.shape[0]
    if x.ndim != 3 or not 1 <= x.shape[1] <= T or x.shape[2] != kernel.shape[2]:
        shapes = f"x {tuple(x.shape)} and kernel {tuple(kernel.shape)}"
        raise ValueError(f"{shapes} must be (B, S, p) and (T, q, p) with 1 <= S <= T")
    # torch's Fourier transforms refuse an empty batch.
    if x.shape[1] <= SHORT or x.shape[0] == 0:
        return _shifted_sum(x, kernel)
    # Padding to twice the length makes the cyclic convolution a causal one.
    spectrum = torch.einsum(
        "bfp,fqp->bfq", torch.fft.rfft(x, 2 * T, dim=1), torch.fft.rfft(kernel, 2 * T, dim=0)
    )
    return torch.fft.irfft(spectrum, 2 * T, dim=1)[:, :T]


def _shifted_sum(x: Tensor, kernel: Tensor) -> Tensor:
    T, q, p = kernel.shape
    y = x.new_zeros(x.shape[0], T * q)
    for s in range(x.shape[1]):
        delayed = torch.nn.functional.pad(kernel[: T - s], (0, 0, 0, 0, s, 0))
        y = y + x[:, s] @ delayed.reshape(T * q, p).mT
    return y.reshape(-1, T, q)
